//! A whole world for tests: an identity provider, taps on both sides of the gateway, an upstream that answers by
//! script, the real emulator, the real binary, and a judge over what all of them saw.

mod issuer;
mod tap;
mod scripted;
mod sidecar;
mod storage;
mod judge;
mod process;
mod world;
mod ask;

pub use ledger::sha256;

pub use ask::{Answer, ask, send, try_send};
pub use issuer::{Issuer, UPSTREAM_TOKEN, token_by_key};
pub use judge::{Judgement, judge};
pub use process::{Gateway, Output, run};
pub use scripted::{Script, Scripted, ScriptedReply};
pub use sidecar::Sidecar;
pub use storage::{Got, Rows, Storage, StorageClient};
pub use tap::{Seen, Tap};
pub use world::{Emulator, UPSTREAM_PRINCIPAL, World, free_port, root, tools};
