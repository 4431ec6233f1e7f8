//! Carries one exchange from socket to reply.
//!
//! Read `exchange` first: it is the product in one function. Knows no JSON field and no SQL.

mod exchange;
mod admission;
mod rulebook;
mod ruling;
mod upstream;
mod ownership;
mod lookups;
mod paces;
mod budgets;
mod snapshots;
mod histories;
mod follower;
mod batch;
mod check;
mod hold;
mod later;
mod answers;
mod announce;
mod release;
mod strangers;
mod sessions;
mod refusal;
mod request;
mod reply;
mod listener;
mod limits;
mod metrics;

pub use admission::{Cleared, Forwardable, Permit};
pub use announce::Announcer;
pub use answers::{Answered, Answering, NotAnswered, Says, Which};
pub use check::{Check, SeenTable};
pub use exchange::{Gateway, GatewayConfig};
pub use later::Sent;
pub use limits::*;
pub use listener::{Listener, Routes, serve};
pub use lookups::{Definition, Definitions};
pub use metrics::{METRICS, Metrics};
pub use refusal::{Reason, Refusal};
pub use reply::{Reply, ReplyBody, full};
pub use request::{BodyError, ClientAddress, Inspect, Presence, Present, Request, RequestBody, own_request};
pub use rulebook::{ConnectionRules, Rulebook, Standing, Standings};
pub use upstream::{
    Access, Action, Answer, AnswerBody, Awaited, Awaiting, Bounds, Chunk, DryRun, Estimating, HeldJob,
    JobRef, JobSeen, JobsSeen, Kept, LaterJob, Learnt, Manner, Marks, Need, Needs, NextChunk, Object,
    ObjectKind, Question, Speaks, Touch, Upstream, UpstreamFault,
};
