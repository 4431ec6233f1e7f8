//! Turns the credential on a request into a principal, or says why not.
//!
//! Three kinds count: a token that this gateway issued, a JWT of a configured OIDC issuer, a JWT self-signed
//! with a virtual service-account key. Knows nothing of connections' rights or of policy.

mod principal_of;
mod bearer;
mod oidc;
mod virtual_keys;
mod tokens;
mod checked;
mod ended;
mod logins;
mod sign_in;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;

pub use ended::EndedSessions;
pub use logins::{LOGIN_SECS_MAX, Logins};
pub use oidc::{OidcConfig, OidcProvider};
pub use principal_of::{Identified, Identity, IdentityConfig, Stranger};
pub use sign_in::{Asked, Device, SignIns, SignedIn, Then};
pub use tokens::{Grant, GrantError, Opening, OwnSession, TOKEN_PREFIX, TOKEN_SECS_MAX, TokenClaims};
pub use virtual_keys::VirtualKeys;
