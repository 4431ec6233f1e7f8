//! What `hansard exec` runs beside a command: one loopback port that is an HTTPS proxy, BigQuery's hosts by a
//! private CA, a plain reverse proxy and a GCE metadata server.
//!
//! Read `serve` first. Decides nothing and records nothing: what it must refuse, the gateway refuses and
//! records. Knows no policy, and no field of BigQuery's.

mod serve;
mod peer;
mod hosts;
mod authority;
mod metadata;
mod forward;
mod tunnel;
mod handed;
mod answer;

pub use authority::{Authority, AuthorityError, roots};
pub use handed::Handed;
pub use hosts::{Host, host};
pub use peer::{Admits, below, may_connect};
pub use serve::{Sidecar, SidecarConfig};

/// Marks what the gateway must refuse in the sidecar's place: `foreign-token SHA256` or `host NAME`.
pub const REFUSE_HEADER: &str = "x-hansard-refuse";
/// Where the session's credential file finds its subject token.
pub const SUBJECT_PATH: &str = "/hansard/subject";
/// Where it exchanges it (RFC 8693).
pub const EXCHANGE_PATH: &str = "/v1/token";
