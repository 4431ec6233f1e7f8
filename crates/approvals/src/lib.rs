//! Holds what waits for a human until somebody who may has answered, or time runs out.
//!
//! Knows no BigQuery and no rule: it keeps what was asked, who answered, and what an answer is good for. Everything
//! survives a restart; what a statement says lies sealed.

mod held;
mod desk;
mod webhook;
mod slack;
mod standard;
mod teams;

pub use desk::{Desk, DeskError, HELD_MAX, HELD_OF_ONE_MAX, KEY_CONTEXT, Wanted};
pub use held::{Asked, Demand, Grant, Held, Job, Rest, Scope, Stand, Vote, is_own};
pub use teams::reply as teams_reply;
pub use webhook::{BadAnswer, Format, HookAnswer, HookApprover, Webhook};
