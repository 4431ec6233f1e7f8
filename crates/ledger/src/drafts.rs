//! What a caller says of a record when it opens and when it closes.

use record::{
    Actor, Client, Decision, Intent, Job, LeftOut, Outcome, RecordId, RecordKind, RequestFacts, Retained,
    SessionId, Statement, Status, Target, Task, Timestamp,
};
use serde_json::Value;

use crate::text::StatementText;

/// What opens a record.
pub struct IntentDraft {
    pub session: SessionId,
    pub kind: RecordKind,
    pub received: Timestamp,
    pub actor: Actor,
    pub client: Client,
    pub task: Task,
    pub target: Target,
    pub request: RequestFacts,
    pub statement: Statement,
    pub job: Job,
    pub decision: Decision,
    pub text: StatementText,
    pub caused_by: Option<RecordId>,
    /// Left out by a rule: kept in memory until the exchange ended as what was decided on.
    pub left_out: Option<Box<LeftOutDraft>>,
}

/// Facts and texts that a rule leaves out of a draft, and how much would be kept else.
pub struct LeftOutDraft {
    pub facts: LeftOut,
    pub text: StatementText,
    pub results: Retained,
}

impl IntentDraft {
    /// Makes one with nothing known but who, when and in which session.
    pub fn new(session: SessionId, kind: RecordKind, received: Timestamp, actor: Actor) -> Self {
        Self {
            session,
            kind,
            received,
            actor,
            client: Client::default(),
            task: Task::default(),
            target: Target::default(),
            request: RequestFacts::default(),
            statement: Statement::default(),
            job: Job::default(),
            decision: Decision::default(),
            text: StatementText::default(),
            caused_by: None,
            left_out: None,
        }
    }

    /// Turns it into the body of its leaf.
    pub(crate) fn into_intent(self: Box<Self>, id: RecordId) -> Box<Intent> {
        Box::new(Intent {
            id,
            kind: self.kind,
            received: self.received,
            actor: self.actor,
            client: self.client,
            task: self.task,
            target: self.target,
            request: self.request,
            statement: self.statement,
            job: self.job,
            decision: self.decision,
            caused_by: self.caused_by,
        })
    }
}

/// A record in one leaf.
pub struct EventDraft {
    /// An id that was given out before; else a new one.
    pub id: Option<RecordId>,
    pub session: SessionId,
    pub kind: RecordKind,
    pub actor: Actor,
    pub client: Client,
    pub status: Status,
    pub outcome: Outcome,
    pub event: Value,
}

/// What closes a record, beyond what it counted itself.
pub struct Closing {
    pub outcome: Outcome,
    pub forwarded: Option<Timestamp>,
    pub first_byte: Option<Timestamp>,
    pub statement: Statement,
    pub job: Job,
    pub location: String,
    pub rows: Option<u64>,
    pub wire_bytes: u64,
    pub status: Status,
    pub schema: Option<Value>,
    /// Decoded bytes that were given to the client, where that may be less than what was recorded for it.
    pub released: Option<u64>,
    /// Tells if it ran as something else than was decided on: a rule that leaves it out does so no longer.
    pub is_another: bool,
}

impl Closing {
    /// With nothing known but how it ended.
    pub fn new(outcome: Outcome, status: Status) -> Self {
        Self {
            outcome,
            forwarded: None,
            first_byte: None,
            statement: Statement::default(),
            job: Job::default(),
            location: String::new(),
            rows: None,
            wire_bytes: 0,
            status,
            schema: None,
            released: None,
            is_another: false,
        }
    }
}
