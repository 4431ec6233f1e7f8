//! The journal's unit: what is hashed, linked and made durable.
//!
//! A leaf commits to what is large or private (statement, rows, uploads, their digests, long lists) by a salted
//! hash and says where the sealed blob lies, so that a blob can be destroyed and the leaf stays valid.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::record::*;
use crate::{Digest, RecordId, SessionId, Timestamp};

/// The longest leaf that is written, in bytes: what an entry of a log of the tiles format can be.
pub const LEAF_BYTES_MAX: usize = 65_535;
/// The longest leaf that is read: `hansard.leaf/1` could be one byte longer.
pub const LEAF_BYTES_READ_MAX: usize = 65_536;
/// The version that is written.
pub const LEAF_VERSION: &str = "hansard.leaf/2";
/// The version before. In it, what now stands beside the body (`seq`, `refs`) stood in it, and digests stood in it as
/// they are.
const LEAF_VERSION_BEFORE: &str = "hansard.leaf/1";

/// One leaf. The bytes that were written are what is hashed and verified; they are never serialised again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Leaf<B = LeafBody> {
    /// `hansard.leaf/2`, or `hansard.leaf/1` of an older journal.
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
    /// The place in the session of the record that an intent or an event begins, gapless from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Refs::is_empty")]
    pub refs: Refs,
    /// Set where the body is too long for a leaf and is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<More>,
    pub body: B,
}

/// The sealed blobs of a leaf.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refs {
    /// Texts of the request, or of its outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<BlobRef>,
    /// The part of the reply or of the upload that became durable with the leaf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<BlobRef>,
    /// SHA-256 of the reply as delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_sha256: Option<BlobRef>,
    /// SHA-256 of the upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_sha256: Option<BlobRef>,
}

impl Refs {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &BlobRef> {
        [&self.text, &self.data, &self.result_sha256, &self.upload_sha256].into_iter().flatten()
    }
}

/// A body that is too long for its leaf. The leaf has the first of each long list and text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct More {
    /// Entries of each list that was cut, and bytes of each text, by its path: `statement.tables`.
    pub cut: BTreeMap<String, u64>,
    /// The whole body as JSON, in pieces.
    pub blobs: Vec<BlobRef>,
}

impl Leaf {
    /// Reads the bytes of a leaf of any version.
    pub fn read(bytes: &[u8]) -> serde_json::Result<Self> {
        let mut leaf: Self = serde_json::from_slice(bytes)?;
        match &*leaf.v {
            LEAF_VERSION => {}
            LEAF_VERSION_BEFORE => {
                let before: Leaf<BodyBefore> = serde_json::from_slice(bytes)?;
                let (BodyBefore::Intent(place)
                | BodyBefore::Window(place)
                | BodyBefore::Outcome(place)
                | BodyBefore::Event(place)) = before.body;
                leaf.seq = place.seq;
                leaf.refs = Refs { text: place.text, data: place.blob, ..Refs::default() };
            }
            other => {
                return Err(serde::de::Error::custom(format!("a leaf of the unknown version {other}")));
            }
        }
        Ok(leaf)
    }
}

/// Body of `hansard.leaf/1`, as far as it had what stands beside the body now.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum BodyBefore {
    Intent(PlaceBefore),
    Window(PlaceBefore),
    Outcome(PlaceBefore),
    Event(PlaceBefore),
}

#[derive(Deserialize)]
struct PlaceBefore {
    seq: Option<u64>,
    text: Option<BlobRef>,
    blob: Option<BlobRef>,
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
    pub kind: RecordKind,
    pub received: Timestamp,
    pub actor: Actor,
    pub client: Client,
    pub task: Task,
    pub target: Target,
    /// Without its body, which lies in the leaf's text.
    pub request: RequestFacts,
    /// Without its text and parameters, which lie in the leaf's text.
    pub statement: Statement,
    pub job: Job,
    pub decision: Decision,
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
    /// Without its digest, which is sealed.
    pub result: ResultFacts,
    /// Without its message, which lies in the leaf's text.
    pub status: Status,
    /// Left out by a rule at first: told again, for it ran as something else than was decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<Box<LeftOut>>,
}

/// Facts that a rule leaves out of an intent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeftOut {
    pub kind: RecordKind,
    pub request: RequestFacts,
    pub statement: Statement,
    pub job: Job,
    pub task: Task,
    /// The rules that apply.
    pub rules: Vec<String>,
}

/// Bytes that a client uploaded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Uploaded {
    pub bytes: u64,
    /// Stands in `hansard.leaf/1` alone; since then it is sealed.
    #[serde(default, skip_serializing)]
    pub sha256: Option<Digest>,
}

/// A record in one leaf.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    pub id: RecordId,
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
    /// Bodies too long for their leaf: kept as long as leaves are.
    Records,
}

impl BlobClass {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Statements, Self::Rows, Self::Uploads, Self::Records];

    /// The name of its folder. Leaves themselves are called records by retention, so their long bodies have another name.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Statements => "statements",
            Self::Rows => "rows",
            Self::Uploads => "uploads",
            Self::Records => "bodies",
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
    /// `SHA-256("hansard/blob/v2" || 0x00 || mark of the form || salt || those bytes)`; of a digest
    /// `SHA-256("hansard/digest/v1" || 0x00 || salt || digest)`
    pub commit: Digest,
}

impl BlobRef {
    /// The UTC day that it lies in.
    pub fn day(&self) -> &str {
        self.segment.split('/').next().unwrap_or_default()
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
