//! A Google service-account key: parsed once, then only able to sign.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use record::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{CredentialError, Secret};

/// The key, able to sign assertions for its token endpoint.
pub(crate) struct ServiceAccount {
    pub(crate) email: String,
    pub(crate) token_uri: String,
    key_id: String,
    key: EncodingKey,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct KeyFile {
    client_email: String,
    private_key: String,
    #[serde(default)]
    private_key_id: String,
    #[serde(default)]
    token_uri: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

const GOOGLE_TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

impl ServiceAccount {
    /// Parses a key file. What it is parsed from is wiped.
    pub(crate) fn parse(file: &Secret) -> Result<Self, CredentialError> {
        let parsed: KeyFile = serde_json::from_slice(file.reveal())
            .map_err(|error| CredentialError::NotAKeyFile(redact(&error)))?;
        let key = EncodingKey::from_rsa_pem(parsed.private_key.as_bytes()).map_err(|_| {
            CredentialError::NotAKeyFile("its private_key is not an RSA key in PEM".to_owned())
        })?;
        let token_uri =
            if parsed.token_uri.is_empty() { GOOGLE_TOKEN_URI.to_owned() } else { parsed.token_uri.clone() };
        Ok(Self { email: parsed.client_email.clone(), token_uri, key_id: parsed.private_key_id.clone(), key })
    }

    /// A signed assertion for the token endpoint (RFC 7523), good for an hour.
    pub(crate) fn assertion(&self, scope: &str, now: Timestamp) -> Result<String, CredentialError> {
        self.assertion_for(&self.token_uri, scope, now)
    }

    fn assertion_for(&self, aud: &str, scope: &str, now: Timestamp) -> Result<String, CredentialError> {
        let mut header = Header::new(Algorithm::RS256);
        if !self.key_id.is_empty() {
            header.kid = Some(self.key_id.clone());
        }
        let claims = Claims { iss: &self.email, scope, aud, iat: now.secs(), exp: now.secs() + 3600 };
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(|_| CredentialError::CannotSign)
    }
}

/// What the holder of a virtual key proves itself with at a gateway's token endpoint, by whatever address that is
/// reached: an assertion to Google's own audience, as Google's clients send it, good for an hour.
pub fn key_assertion(file: &Secret, now: Timestamp) -> Result<String, CredentialError> {
    let scope = "https://www.googleapis.com/auth/bigquery";
    ServiceAccount::parse(file)?.assertion_for(GOOGLE_TOKEN_URI, scope, now)
}

/// Serde's message may quote a value; its place never does.
fn redact(error: &serde_json::Error) -> String {
    format!("not a service-account key (line {}, column {})", error.line(), error.column())
}
