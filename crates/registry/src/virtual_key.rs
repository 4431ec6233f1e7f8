//! Virtual service-account keys: files in Google's shape that only this gateway honours.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use zeroize::Zeroize;

use crate::Secret;

/// A new key: the file for the client, and the public half for the gateway.
pub struct IssuedKey {
    /// The JSON file. It is shown once and kept nowhere.
    pub file: Secret,
    /// The public key as PEM.
    pub public_pem: String,
}

/// Makes a 2048-bit RSA key and its file. `email` names the key at the gateway, `token_uri` is the gateway's.
pub fn issue_virtual_key(id: &str, email: &str, project: &str, token_uri: &str) -> IssuedKey {
    let pair = KeyPair::generate(KeySize::Rsa2048).expect("the system's random generator works");
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("a key just made has an X.509 form");
    let mut private_pem = private_pem(&pair);
    let file = json!({
        "type": "service_account",
        "project_id": project,
        "private_key_id": id,
        "private_key": private_pem,
        "client_email": email,
        "client_id": id,
        "auth_uri": token_uri,
        "token_uri": token_uri,
        "universe_domain": "googleapis.com",
    });
    private_pem.zeroize();
    let text = serde_json::to_vec_pretty(&file).expect("strings are JSON");
    IssuedKey { file: Secret::new(text), public_pem: pem("PUBLIC KEY", public.as_ref()) }
}

pub(crate) fn private_pem(pair: &KeyPair) -> String {
    let private: Pkcs8V1Der<'_> = pair.as_der().expect("a key just made has a PKCS#8 form");
    pem("PRIVATE KEY", private.as_ref())
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        text.push('\n');
    }
    body.zeroize();
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
