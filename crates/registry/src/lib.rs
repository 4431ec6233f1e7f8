//! Turns a connection's name into an upstream address and a fresh upstream token.
//!
//! The only room where key material exists: the upstream credentials, the evidence key and what it wraps, the
//! key that signs gateway tokens. Types that hold it have no `Debug`, `Display` or `Serialize`.

mod connection;
mod sisters;
mod credential;
mod service_account;
mod impersonation;
mod token;
mod vault;
mod virtual_key;
mod signing_key;
mod secret;
mod hmac;

pub use connection::{Connection, ConnectionName, NotAConnectionName, Registry};
pub use credential::{AdcSources, Credential, CredentialError};
pub use hmac::HmacKey;
pub use impersonation::{IAM_CREDENTIALS, Impersonation, NoAccount};
pub use secret::Secret;
pub use service_account::key_assertion;
pub use signing_key::SigningKey;
pub use sisters::{API_HEADER, SISTERS};
pub use token::UpstreamToken;
pub use vault::{
    DataKey, EVIDENCE_KEY_BYTES, SEAL_ROOM_BYTES, TokenKey, Vault, VaultError, fingerprint, random_bytes,
};
pub use virtual_key::{IssuedKey, issue_virtual_key};
