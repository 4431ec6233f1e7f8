//! What could not be recorded, until it can be recorded that it could not.

use record::{
    Client, Event, LeafBody, Outcome, OutcomeLeaf, RecordId, RecordKind, SessionId, Status, Timestamp,
};
use serde_json::json;

use crate::append::{Append, Digests};
use crate::body::Body;
use crate::sealing::Sealer;
use crate::{Ledger, LedgerError};

/// Outcomes that are kept to be closed later; the rest is closed by the recovery of the next start.
const WITHHELD_MAX: usize = 10_000;
/// Outcomes that one round closes: a round's leaves are one frame.
const CLOSED_AT_A_TIME: usize = 100;
/// Ids that the gap record names.
const NAMED_MAX: usize = 100;

/// A time in which the journal took nothing.
pub(crate) struct Gap {
    since: Timestamp,
    why: String,
    /// Exchanges that were not let through.
    refused: u64,
    /// Refusals of strangers and other records of one leaf.
    events: u64,
    /// Parts of answers that were not released.
    windows: u64,
    /// Outcomes whose answers were withheld.
    withheld: Vec<Withheld>,
    beyond: u64,
    /// The gap itself is recorded; records wait to be closed.
    is_recorded: bool,
}

struct Withheld {
    session: SessionId,
    outcome: Box<OutcomeLeaf>,
    digests: Digests,
}

impl Gap {
    pub(crate) fn new(since: Timestamp, error: &LedgerError) -> Self {
        Self {
            since,
            why: error.to_string(),
            refused: 0,
            events: 0,
            windows: 0,
            withheld: Vec::new(),
            beyond: 0,
            is_recorded: false,
        }
    }

    /// Takes in what was not written.
    pub(crate) fn take(&mut self, session: SessionId, body: LeafBody, digests: Digests) {
        // What is lost after that was recorded is another gap.
        if std::mem::replace(&mut self.is_recorded, false) {
            (self.refused, self.events, self.windows) = (0, 0, 0);
        }
        match body {
            LeafBody::Intent(_) => self.refused += 1,
            LeafBody::Window(_) => self.windows += 1,
            LeafBody::Event(_) => self.events += 1,
            LeafBody::Outcome(_) if self.withheld.len() >= WITHHELD_MAX => self.beyond += 1,
            LeafBody::Outcome(outcome) => {
                // The answer was withheld: nothing is said of it.
                let digests = Digests { result: None, ..digests };
                self.withheld.push(Withheld { session, outcome, digests });
            }
        }
    }

    /// Whether records wait to be closed.
    pub(crate) fn leaves_open(&self) -> bool {
        !self.withheld.is_empty()
    }

    /// The leaves that say it: the gap itself, and the end of every record that lost its own.
    pub(crate) fn leaves(
        &self,
        node: SessionId,
        until: Timestamp,
        sealer: &Sealer,
        policy: &str,
    ) -> Vec<Append> {
        let named: Vec<String> =
            self.withheld.iter().take(NAMED_MAX).map(|withheld| withheld.outcome.id.to_string()).collect();
        let gap = gap_event(
            until,
            policy,
            json!({
                "action": "gap", "why": self.why, "since": self.since, "until": until,
                "refused": self.refused, "withheld": self.withheld.len() as u64 + self.beyond,
                "windows": self.windows, "events": self.events, "records": named,
            }),
        );
        let append = |session, body, digests: &Digests| {
            Append::unwaited(session, Body::new(body, sealer, session, until), digests.clone())
        };
        let closed =
            self.withheld.iter().take(CLOSED_AT_A_TIME).map(|Withheld { session, outcome, digests }| {
                append(*session, LeafBody::Outcome(Box::new(withheld(outcome))), digests)
            });
        let gap = (!self.is_recorded).then(|| append(node, gap, &Digests::default()));
        gap.into_iter().chain(closed).collect()
    }

    /// Notes that so many of its leaves are durable. True if that is all of it.
    pub(crate) fn mended(&mut self, leaves: usize) -> bool {
        let closed = leaves - usize::from(!self.is_recorded);
        self.is_recorded = true;
        self.withheld.drain(..closed.min(self.withheld.len()));
        self.withheld.is_empty()
    }
}

/// A record of something that was not, or may not have been, recorded.
pub(crate) fn gap_event(at: Timestamp, policy: &str, event: serde_json::Value) -> LeafBody {
    LeafBody::Event(Box::new(Event {
        id: RecordId::new(at),
        kind: RecordKind::Gap,
        actor: Ledger::gateway_actor(),
        client: Client::default(),
        status: Status { reason: "gap".to_owned(), ..Status::default() },
        outcome: Outcome::Unknown,
        event,
        policy: policy.to_owned(),
    }))
}

/// What is known of how it ended, without the answer: that was withheld.
fn withheld(outcome: &OutcomeLeaf) -> OutcomeLeaf {
    let mut outcome = outcome.clone();
    outcome.outcome = Outcome::Aborted;
    outcome.status.reason = "withheld".to_owned();
    outcome.result.retained = record::Retained::None;
    outcome
}
