//! Leaves into records: what the intent said and what the outcome taught.

use record::{
    Decision, Digest, Effect, Event, Integrity, Intent, Job, LeftOut, OutcomeLeaf, Record, RequestFacts,
    ResultFacts, SessionId, Statement, Target, Task, Times, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a leaf stands, without what it says.
#[derive(Clone)]
pub(crate) struct At {
    pub(crate) n: u64,
    pub(crate) session: SessionId,
    /// The record's place in the session, where the leaf begins one.
    pub(crate) seq: u64,
    pub(crate) leaf_seq: u64,
    pub(crate) prev: Option<Digest>,
    pub(crate) at: Timestamp,
    pub(crate) hash: Digest,
    /// Entries of lists whose whole could not be read, by path.
    pub(crate) cut: BTreeMap<String, u64>,
}

/// An intent with its place, and what of it could not be read.
#[derive(Serialize, Deserialize)]
pub(crate) struct Opened {
    pub(crate) intent: Intent,
    pub(crate) seq: u64,
    pub(crate) cut: BTreeMap<String, u64>,
}

pub(crate) const VERSION: &str = "hansard.record/1";

/// The record that an intent and its outcome make. Texts, rows and digests are filled in when read.
pub(crate) fn exchange(opened: Opened, closing: &At, outcome: OutcomeLeaf) -> Record {
    let Opened { intent, seq, mut cut } = opened;
    cut.extend(closing.cut.clone());
    let mut intent = intent;
    if let Some(left_out) = outcome.left_out {
        let LeftOut { kind, request, statement, job, task, rules } = *left_out;
        let decision = Decision { rules, ..intent.decision };
        intent = Intent { kind, request, statement, job, task, decision, ..intent };
    }
    let mut request = intent.request;
    if let Some(uploaded) = outcome.uploaded {
        request.bytes = request.bytes.max(uploaded.bytes);
        request.sha256 = uploaded.sha256;
    }
    let mut target = intent.target;
    if target.location.is_empty() {
        target.location = outcome.location;
    }
    Record {
        v: VERSION.to_owned(),
        id: intent.id,
        session: closing.session,
        seq,
        kind: intent.kind,
        time: Times {
            received: intent.received,
            forwarded: outcome.forwarded,
            first_byte: outcome.first_byte,
            done: Some(outcome.done),
        },
        actor: intent.actor,
        client: intent.client,
        task: intent.task,
        target,
        request,
        statement: learnt_statement(intent.statement, outcome.statement),
        job: learnt_job(intent.job, outcome.job),
        result: outcome.result,
        decision: intent.decision,
        outcome: outcome.outcome,
        status: outcome.status,
        integrity: Integrity { cut, ..integrity(closing) },
        caused_by: intent.caused_by,
        event: None,
    }
}

/// The record that one leaf makes.
pub(crate) fn event(leaf: &At, event: Event) -> Record {
    Record {
        v: VERSION.to_owned(),
        id: event.id,
        session: leaf.session,
        seq: leaf.seq,
        kind: event.kind,
        time: Times { received: leaf.at, forwarded: None, first_byte: None, done: Some(leaf.at) },
        actor: event.actor,
        client: event.client,
        task: Task::default(),
        target: Target::default(),
        request: RequestFacts::default(),
        statement: Statement::default(),
        job: Job::default(),
        result: ResultFacts::default(),
        decision: Decision { effect: effect_of(event.outcome), policy: event.policy, ..Decision::default() },
        outcome: event.outcome,
        status: event.status,
        integrity: integrity(leaf),
        caused_by: None,
        event: Some(event.event),
    }
}

fn effect_of(outcome: record::Outcome) -> Effect {
    if outcome == record::Outcome::Refused { Effect::Deny } else { Effect::Allow }
}

fn integrity(leaf: &At) -> Integrity {
    Integrity { leaf_seq: leaf.leaf_seq, leaf: Some(leaf.hash), prev: leaf.prev, cut: leaf.cut.clone() }
}

fn learnt_statement(mut asked: Statement, learnt: Statement) -> Statement {
    if !learnt.kind.is_empty() {
        asked.kind = learnt.kind;
        asked.certain = learnt.certain;
    }
    asked.decided_as = learnt.decided_as;
    asked.undo = learnt.undo;
    if !learnt.kinds.is_empty() {
        asked.kinds = learnt.kinds;
    }
    if !learnt.tables.is_empty() {
        asked.tables = learnt.tables;
    }
    asked
}

fn learnt_job(asked: Job, learnt: Job) -> Job {
    let text = |learnt: String, asked: String| if learnt.is_empty() { asked } else { learnt };
    Job {
        id: text(learnt.id, asked.id),
        query_id: text(learnt.query_id, asked.query_id),
        parent: text(learnt.parent, asked.parent),
        state: text(learnt.state, asked.state),
        cache_hit: learnt.cache_hit.or(asked.cache_hit),
        bytes_processed: learnt.bytes_processed.or(asked.bytes_processed),
        bytes_billed: learnt.bytes_billed.or(asked.bytes_billed),
        slot_ms: learnt.slot_ms.or(asked.slot_ms),
        dml: learnt.dml.or(asked.dml),
        estimate_bytes: learnt.estimate_bytes.or(asked.estimate_bytes),
        max_bytes_billed: learnt.max_bytes_billed.or(asked.max_bytes_billed),
    }
}
