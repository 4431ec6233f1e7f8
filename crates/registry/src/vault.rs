//! The evidence key and everything that it wraps.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use base64::Engine;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

use crate::Secret;

/// The evidence key's length.
pub const EVIDENCE_KEY_BYTES: usize = 32;

/// What lies before a sealed payload's ciphertext: its nonce.
pub const SEAL_ROOM_BYTES: usize = NONCE_LEN;

/// Holds the evidence key. It wraps data keys and the token key; it never seals data itself.
pub struct Vault {
    key: LessSafeKey,
}

impl Vault {
    /// From the text of a key file: 32 bytes in base64, on one line.
    pub fn from_text(text: &Secret) -> Result<Self, VaultError> {
        let trimmed = text.reveal().trim_ascii();
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(trimmed).map_err(|_| VaultError::NotAKey)?;
        let bytes = Secret::new(bytes);
        Ok(Self { key: aes(bytes.reveal()).ok_or(VaultError::NotAKey)? })
    }

    /// The text of a new key file.
    pub fn new_key_text() -> Secret {
        let bytes = Secret::new(random_bytes::<EVIDENCE_KEY_BYTES>().to_vec());
        let mut text = base64::engine::general_purpose::STANDARD.encode(bytes.reveal());
        text.push('\n');
        Secret::new(text.into_bytes())
    }

    /// A new data key, and the wrapped form that may lie on disk. `context` says what it is for and must be
    /// given again to unwrap it.
    pub fn new_data_key(&self, context: &[u8]) -> (DataKey, Vec<u8>) {
        let bytes = Secret::new(random_bytes::<32>().to_vec());
        let wrapped = seal(&self.key, context, bytes.reveal());
        (DataKey { key: aes(bytes.reveal()).expect("32 bytes make an AES-256 key") }, wrapped)
    }

    /// The data key in a wrapped form.
    pub fn data_key(&self, context: &[u8], wrapped: &[u8]) -> Result<DataKey, VaultError> {
        let bytes = Secret::new(open(&self.key, context, wrapped)?);
        Ok(DataKey { key: aes(bytes.reveal()).ok_or(VaultError::WrongKey)? })
    }

    /// A new key for gateway tokens, wrapped.
    pub fn new_token_key(&self) -> Vec<u8> {
        let bytes = Secret::new(random_bytes::<32>().to_vec());
        seal(&self.key, TOKEN_KEY_CONTEXT, bytes.reveal())
    }

    /// The token key in a wrapped form.
    pub fn token_key(&self, wrapped: &[u8]) -> Result<TokenKey, VaultError> {
        let bytes = Secret::new(open(&self.key, TOKEN_KEY_CONTEXT, wrapped)?);
        Ok(TokenKey {
            sign: EncodingKey::from_secret(bytes.reveal()),
            verify: DecodingKey::from_secret(bytes.reveal()),
        })
    }
}

const TOKEN_KEY_CONTEXT: &[u8] = b"hansard/token-key/v1";

/// Seals the blobs of one session, class and day.
pub struct DataKey {
    key: LessSafeKey,
}

impl DataKey {
    /// Nonce, ciphertext and tag. The nonce is random: a key seals far fewer than 2^32 blobs.
    pub fn seal(&self, context: &[u8], payload: &[u8]) -> Vec<u8> {
        seal(&self.key, context, payload)
    }

    /// The same where it lies: of the buffer, everything behind `from` is sealed, and begins with `SEAL_ROOM_BYTES` that
    /// were left free. Panics where they were not.
    pub fn seal_in_place(&self, context: &[u8], buffer: &mut Vec<u8>, from: usize) {
        seal_in_place(&self.key, context, buffer, from);
    }

    /// The payload, or that it was sealed otherwise.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        open(&self.key, context, sealed)
    }
}

/// Signs and verifies the tokens that this gateway issues.
pub struct TokenKey {
    sign: EncodingKey,
    verify: DecodingKey,
}

impl TokenKey {
    /// A compact JWS (HS256) over the claims.
    pub fn sign<C: Serialize>(&self, claims: &C) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.sign)
            .expect("claims of ours are JSON, and HS256 takes any secret")
    }

    /// The claims of a token whose signature is ours. Times are the caller's to check, against its clock.
    pub fn verify<C: DeserializeOwned + Clone>(&self, token: &str) -> Option<C> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        jsonwebtoken::decode(token, &self.verify, &validation).ok().map(|token| token.claims)
    }
}

/// A token's SHA-256, by which it is known where it must not be kept itself.
pub fn fingerprint(token: &str) -> [u8; 32] {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// So many random bytes of the system's generator.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    rand::fill(&mut bytes).expect("the system's random generator works");
    bytes
}

fn aes(bytes: &[u8]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, bytes).ok().map(LessSafeKey::new)
}

fn seal(key: &LessSafeKey, context: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(NONCE_LEN + payload.len() + AES_256_GCM.tag_len());
    sealed.extend_from_slice(&[0; NONCE_LEN]);
    sealed.extend_from_slice(payload);
    seal_in_place(key, context, &mut sealed, 0);
    sealed
}

fn seal_in_place(key: &LessSafeKey, context: &[u8], buffer: &mut Vec<u8>, from: usize) {
    let nonce = random_bytes::<NONCE_LEN>();
    let (room, payload) = buffer[from..].split_at_mut(NONCE_LEN);
    room.copy_from_slice(&nonce);
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), payload)
        .expect("a payload of at most a few MiB is within AES-GCM's limits");
    buffer.extend_from_slice(tag.as_ref());
}

fn open(key: &LessSafeKey, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
    if sealed.len() < NONCE_LEN {
        return Err(VaultError::WrongKey);
    }
    let (nonce, rest) = sealed.split_at(NONCE_LEN);
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| VaultError::WrongKey)?;
    let mut payload = rest.to_vec();
    let opened =
        key.open_in_place(nonce, Aad::from(context), &mut payload).map_err(|_| VaultError::WrongKey)?;
    let len = opened.len();
    payload.truncate(len);
    Ok(payload)
}

/// Why something sealed stays shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VaultError {
    /// The text is not 32 bytes in base64.
    NotAKey,
    /// Sealed with another key, for something else, or damaged.
    WrongKey,
}

impl fmt::Display for VaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAKey => "the evidence key is not 32 bytes in base64",
            Self::WrongKey => "sealed with another evidence key, or damaged",
        })
    }
}

impl std::error::Error for VaultError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault() -> Vault {
        Vault::from_text(&Vault::new_key_text()).unwrap()
    }

    #[test]
    fn a_sealed_blob_opens_with_its_key_and_context_only() {
        let vault = vault();
        let (key, wrapped) = vault.new_data_key(b"session 1");
        let sealed = key.seal(b"rows", b"the payload");
        let again = vault.data_key(b"session 1", &wrapped).unwrap();
        assert_eq!(again.open(b"rows", &sealed).unwrap(), b"the payload");
        assert_eq!(again.open(b"uploads", &sealed).unwrap_err(), VaultError::WrongKey);
        assert!(vault.data_key(b"session 2", &wrapped).is_err());
        assert!(
            super::Vault::from_text(&Vault::new_key_text())
                .unwrap()
                .data_key(b"session 1", &wrapped)
                .is_err()
        );
    }

    #[test]
    fn a_token_of_another_gateway_is_not_ours() {
        let (ours, theirs) = (vault(), vault());
        let key = ours.token_key(&ours.new_token_key()).unwrap();
        let other = theirs.token_key(&theirs.new_token_key()).unwrap();
        let token = key.sign(&serde_json::json!({"sub": "a"}));
        assert!(key.verify::<serde_json::Value>(&token).is_some());
        assert!(other.verify::<serde_json::Value>(&token).is_none());
    }
}
