//! A key that signs JWTs of a small identity provider: the demo's, and that of tests.

use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::{Value, json};

use crate::virtual_key;

/// An RSA key with an id.
pub struct SigningKey {
    id: String,
    key: EncodingKey,
    public: Value,
}

impl SigningKey {
    /// Makes a new one.
    pub fn generate(id: &str) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("the system's random generator works");
        let public = pair.public_key();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwk = json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": id,
            "n": encode(public.modulus().big_endian_without_leading_zero()),
            "e": encode(public.exponent().big_endian_without_leading_zero()),
        });
        let pem = virtual_key::private_pem(&pair);
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).expect("a key just made is RSA in PEM");
        Self { id: id.to_owned(), key, public: jwk }
    }

    /// A compact JWS (RS256) over the claims.
    pub fn sign<C: Serialize>(&self, claims: &C) -> String {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, claims, &self.key).expect("claims are JSON, and the key is RSA")
    }

    /// The same over a header and claims that stand as they are given.
    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, Algorithm::RS256);
        format!("{message}.{}", signature.expect("the key is RSA"))
    }

    /// The public half as a JWK set.
    pub fn jwks(&self) -> Value {
        json!({"keys": [self.public]})
    }
}
