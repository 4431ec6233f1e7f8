//! Makes records durable in order, and answers what they say.
//!
//! Four append-only families under `journal/`: `leaves` (small, kept longest) and the sealed blobs of
//! `statements`, `rows` and `uploads`, cut by day so that retention drops files and keys and never rewrites
//! the log. One writer thread commits for everybody; the index follows it and may be deleted at any time.

mod layout;
mod frame;
mod sealing;
mod segment;
mod wal;
mod leaves;
mod body;
mod append;
mod checkpoint;
mod gap;
mod failpoint;
mod writer;
mod drafts;
mod recorder;
mod join;
mod recover;
mod index;
mod search;
mod text;
mod under_way;
mod retention;
mod verify;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(test)]
mod older;

pub use drafts::{Closing, EventDraft, IntentDraft, LeftOutDraft};
#[cfg(debug_assertions)]
pub use failpoint::arm_failpoint;
pub use failpoint::{FAILPOINTS, failpoint};
pub use index::{INDEX_WAIT_MAX, SqlError, SqlRow};
pub use layout::{Layout, LockError};
pub use recorder::{
    ClosedRecord, Durability, Ledger, LedgerConfig, LedgerError, OpenRecord, Recording, UploadRecorder,
    WINDOW_BYTES,
};
pub use retention::{Dropped, Retention};
pub use sealing::{NoPacking, Payload, Unpacking, sha256};
pub use search::{Filter, SearchError, SessionSummary};
pub use text::StatementText;
pub use under_way::{Progress, SoFar};
pub use verify::{Verdict, verify};
