//! Says what happened in one exchange, and how that is written so that it stays readable for ten years.
//!
//! A type lives here if the record says it; otherwise it lives where it is made. Pure: no IO, no async,
//! no clock but the one given.

mod id;
mod time;
mod principal;
mod leaf;
mod record;
mod footprint;

pub use footprint::{Access, Deed, Footprint, Knowledge};
pub use id::{Digest, RecordId, SessionId};
pub use leaf::{
    BlobClass, BlobRef, Event, Intent, LEAF_BYTES_MAX, LEAF_BYTES_READ_MAX, LEAF_VERSION, Leaf, LeafBody,
    LeftOut, More, OutcomeLeaf, Refs, Uploaded, Window,
};
pub use principal::{Principal, PrincipalKind};
pub use record::{
    Actor, ActorAgent, ActorKind, ApprovalRef, Asserted, Client, Credential, CredentialKind, Decision,
    DecisionTerm, Effect, Integrity, Job, ObservedRule, Outcome, Proof, Record, RecordKind, RequestFacts,
    ResultFacts, Retained, Statement, Status, Target, Task, Times,
};
pub use time::{Clock, SystemClock, Timestamp};
