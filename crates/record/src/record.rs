//! `hansard.record/1`: one exchange (or event) as people and programs read it.
//!
//! The journal holds leaves; this is what they say once joined. Field names are the public contract, and
//! `docs/record.schema.json` is generated from these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

use crate::{Digest, RecordId, SessionId, Timestamp};

/// One record.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Always `hansard.record/1`.
    pub v: String,
    pub id: RecordId,
    pub session: SessionId,
    /// Counts the records of a session, gapless from 0.
    pub seq: u64,
    pub kind: RecordKind,
    pub time: Times,
    pub actor: Actor,
    pub client: Client,
    pub task: Task,
    pub target: Target,
    pub request: RequestFacts,
    pub statement: Statement,
    pub job: Job,
    pub result: ResultFacts,
    pub decision: Decision,
    pub outcome: Outcome,
    pub status: Status,
    pub integrity: Integrity,
    /// The record that led to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caused_by: Option<RecordId>,
    /// What an event says beyond the fields above (`admin`, `auth`, `session`, `gap`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Value>,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordKind {
    /// One request and its reply.
    Exchange,
    /// The final state of a job.
    Job,
    /// A session began or ended.
    Session,
    /// A held statement was answered.
    Approval,
    /// Somebody ran the gateway's own commands: keys, retention, reading rows.
    Admin,
    /// Refusals before a principal was known.
    Auth,
    /// Something could not be recorded.
    Gap,
    /// A rule left an exchange out.
    Excluded,
}

impl RecordKind {
    /// The word in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Job => "job",
            Self::Session => "session",
            Self::Approval => "approval",
            Self::Admin => "admin",
            Self::Auth => "auth",
            Self::Gap => "gap",
            Self::Excluded => "excluded",
        }
    }
}

/// When. `forwarded` is before the first byte upstream, `first_byte` is the upstream's first answer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Times {
    pub received: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarded: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Timestamp>,
}

/// Whether somebody proved what is said, or only said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    Verified,
    Asserted,
}

/// An identity field and how we know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Asserted<T> {
    pub value: T,
    pub proof: Proof,
}

/// Who.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Actor {
    pub kind: ActorKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Asserted<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Asserted<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Asserted<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Asserted<Vec<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<ActorAgent>,
    /// From the one who is answerable to the one who acted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub act_chain: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Credential>,
}

/// What kind of actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActorKind {
    Person,
    Service,
    Agent,
    /// hansard itself.
    Gateway,
    /// A user of the gateway's machine, by the data folder or the control socket.
    Local,
    /// Nobody who could be identified.
    Unknown,
}

impl ActorKind {
    /// The word in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Service => "service",
            Self::Agent => "agent",
            Self::Gateway => "gateway",
            Self::Local => "local",
            Self::Unknown => "unknown",
        }
    }
}

/// The agent, as it or its starter names it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ActorAgent {
    pub name: String,
    pub proof: Proof,
}

/// What was shown to prove it; never the secret.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Credential {
    pub kind: CredentialKind,
    /// The key's id, the token's `jti` or a hash of the token.
    pub id: String,
}

/// What kind of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CredentialKind {
    /// A JWT of a configured OIDC issuer.
    Oidc,
    /// A JWT self-signed with a virtual service-account key.
    Key,
    /// A token that this gateway issued.
    Token,
}

/// From where.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Client {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ip: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
}

/// For what; all of it asserted.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub traceparent: String,
    /// `x-goog-request-reason`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The labels that the client put on the job.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// At what.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub connection: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub project: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// Google's method id without its product, `jobs.query`; empty for an unknown method.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// Whose credential went upstream.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub upstream_principal: String,
}

/// The request as it came.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RequestFacts {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub method: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub query: String,
    /// Only those of the allow-list in `docs/record.md`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Bytes of the body as received.
    #[serde(default)]
    pub bytes: u64,
    /// The body as received, where it is text and not an upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// SHA-256 of an uploaded body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

/// What was asked, in SQL terms.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Statement {
    /// The decoded JSON string, character for character.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// BigQuery's `statementType`; empty until known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    /// `queryParameters` as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
    /// `project.dataset.table`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
    /// Columns that it touches, where a rule asked for them: `project.dataset.table.column`. Of a Storage read those that it
    /// selects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Whether `kind` and `tables` are BigQuery's own word or proved, not guessed.
    #[serde(default)]
    pub certain: bool,
    /// The kind that was decided on, where BigQuery ran another: an alarm.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub decided_as: String,
    /// What puts back the tables that it changed, from snapshots that were taken before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<String>,
    /// Whether hansard changed the text.
    #[serde(default)]
    pub rewritten: bool,
}

/// The BigQuery job behind the exchange. Counts are strings of digits, as in BigQuery's own JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// For answers without a job.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub query_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parent: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_hit: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_processed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_billed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot_ms: Option<String>,
    /// `dmlStats`, or the count of affected rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dml: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate_bytes: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes_billed: Option<String>,
}

/// How much of a result is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Retained {
    /// Every byte as delivered.
    Rows,
    /// Count and hash.
    Hash,
    /// The count.
    #[default]
    None,
}

/// What the client received.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ResultFacts {
    /// Rows delivered in this exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Bytes of the body after decoding, as delivered.
    #[serde(default)]
    pub bytes: u64,
    /// Bytes of the body on the wire to the client.
    #[serde(default)]
    pub wire_bytes: u64,
    /// Windows that the body was released in.
    #[serde(default)]
    pub pages: u64,
    /// SHA-256 over the decoded bytes as delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    #[serde(default)]
    pub retained: Retained,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<Value>,
    /// Decoded bytes that had left at most, of a reply that broke off. What is kept may be a window more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at_most: Option<u64>,
    /// With `--rows`: the body as delivered, in BigQuery's JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// What was ruled.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    pub effect: Effect,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terms: Vec<DecisionTerm>,
    /// Hash of the configuration that ruled.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub policy: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalRef>,
    /// What rules of action `warn` said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Rules that only observe, and what they would have done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<ObservedRule>,
}

/// A rule that only observes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ObservedRule {
    pub rule: String,
    pub action: String,
}

/// A held exchange's approval.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalRef {
    pub id: String,
}

/// The strictest effect of all rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    Allow,
    #[default]
    Deny,
    Approve,
}

impl Effect {
    /// The word in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Approve => "approve",
        }
    }
}

/// A condition on an allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DecisionTerm {
    Mask,
    Limit,
    Record,
    Warn,
    Label,
    Snapshot,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// BigQuery answered, and the client has the answer.
    Ok,
    /// BigQuery, or the way to it, answered with an error.
    Error,
    /// hansard said no.
    Refused,
    /// Waits for a human.
    Held,
    /// The client left, or the upstream broke off.
    Aborted,
    /// The gateway stopped in the middle.
    Interrupted,
    /// Sent, and nobody can say how it ended.
    Unknown,
}

impl Outcome {
    /// The word in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Refused => "refused",
            Self::Held => "held",
            Self::Aborted => "aborted",
            Self::Interrupted => "interrupted",
            Self::Unknown => "unknown",
        }
    }
}

/// What the client was told.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<u16>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Where the closing leaf stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Integrity {
    /// Gapless per session.
    pub leaf_seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Digest>,
    /// Lists and texts of which only the beginning can be shown, for the rest can't be read any more: how many entries
    /// (of a text, bytes) each had, by its path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cut: BTreeMap<String, u64>,
}
