//! The journal's unit: what is hashed, linked and made durable.
//!
//! A leaf commits to what is large (statement, rows, uploads) by a salted hash and says where the sealed
//! blob lies, so that a blob can be destroyed and the leaf stays valid.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;

use crate::record::*;
use crate::{Digest, RecordId, SessionId, Timestamp};

/// The longest leaf that is written or read, in bytes.
pub const LEAF_BYTES_MAX: usize = 64 * 1024;

/// One leaf. The bytes that were written are what is hashed and verified; they are never serialised again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Leaf<B = LeafBody> {
    /// Always `hansard.leaf/1`.
    pub v: Cow<'static, str>,
    /// The place in this log, gapless.
    pub n: u64,
    pub session: SessionId,
    /// The place in the session, gapless.
    pub leaf_seq: u64,
    /// The hash of the session's leaf before this one.
    pub prev: Option<Digest>,
    /// The hash of the log's leaf before this one, whatever its session.
    pub chain: Option<Digest>,
    pub at: Timestamp,
    pub body: B,
}

/// What a leaf says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeafBody {
    /// An exchange is about to move.
    Intent(Box<Intent>),
    /// A part of its reply is about to be released.
    Window(Window),
    /// It ended.
    Outcome(Box<OutcomeLeaf>),
    /// A record that needs no second leaf.
    Event(Box<Event>),
}

/// Opens a record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Intent {
    pub id: RecordId,
    pub seq: u64,
    pub kind: RecordKind,
    pub received: Timestamp,
    pub actor: Actor,
    pub client: Client,
    pub task: Task,
    pub target: Target,
    /// Without its body, which lies in `text`.
    pub request: RequestFacts,
    /// Without its text and parameters, which lie in `text`.
    pub statement: Statement,
    pub job: Job,
    pub decision: Decision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<BlobRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caused_by: Option<RecordId>,
}

/// A part of a reply, durable before it is released.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Window {
    pub id: RecordId,
    /// Counts the windows of a record from 0.
    pub window: u64,
    /// Decoded bytes in this window.
    pub bytes: u64,
    /// Whether it is of the upload, not of the reply.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub upload: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<BlobRef>,
}

/// Closes a record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OutcomeLeaf {
    pub id: RecordId,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarded: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Timestamp>,
    pub done: Timestamp,
    /// What the upload came to, where the request had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded: Option<Uploaded>,
    /// What the answer taught about the statement.
    pub statement: Statement,
    pub job: Job,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub location: String,
    pub result: ResultFacts,
    /// Without its message, which lies in `text`.
    pub status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<BlobRef>,
    /// The last window, when it became durable with this leaf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<BlobRef>,
}

/// Bytes that a client uploaded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Uploaded {
    pub bytes: u64,
    pub sha256: Digest,
}

/// A record in one leaf.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    pub id: RecordId,
    pub seq: u64,
    pub kind: RecordKind,
    pub actor: Actor,
    pub client: Client,
    pub status: Status,
    pub outcome: Outcome,
    pub event: Value,
    /// Hash of the configuration that ruled.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub policy: String,
}

/// Which family a blob belongs to; each has its own retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobClass {
    Statements,
    Rows,
    Uploads,
}

impl BlobClass {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Statements, Self::Rows, Self::Uploads];

    /// The folder's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Statements => "statements",
            Self::Rows => "rows",
            Self::Uploads => "uploads",
        }
    }
}

/// Where a sealed blob lies, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRef {
    pub class: BlobClass,
    /// `2026-11-23/000001`
    pub segment: String,
    pub offset: u64,
    /// Bytes of the frame, which may hold blobs of other records of the session too.
    pub len: u64,
    /// Where it begins in the opened frame.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub at: u64,
    /// Its bytes there.
    pub size: u64,
    /// `SHA-256("hansard/blob/v1" || 0x00 || salt || those bytes)`; of bytes that are compressed by themselves
    /// `SHA-256("hansard/blob/v2" || 0x00 || mark of the form || salt || those bytes)`
    pub commit: Digest,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
