//! Refusals before a principal is known: nothing waits for the disk, and nobody can fill it.
//!
//! The first 20 a second and address are records of their own; the rest of that second is one record that
//! counts them.

use identity::Stranger;
use ledger::{EventDraft, Ledger};
use record::{Actor, ActorKind, Client, Clock, Outcome, RecordId, RecordKind, Status};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use crate::admission::client_facts;
use crate::exchange::Gateway;
use crate::limits::{STRANGER_ADDRESSES_MAX, STRANGERS_IN_FULL};
use crate::refusal::{Reason, Refusal};
use crate::release::stamp;
use crate::reply::Reply;
use crate::request::Request;
use crate::upstream::{Speaks, Upstream};

pub(crate) struct Strangers {
    ledger: Arc<Ledger>,
    clock: Arc<dyn Clock>,
    second: Mutex<Second>,
}

/// What happened in the current second.
#[derive(Default)]
struct Second {
    at: i64,
    by_address: BTreeMap<IpAddr, u64>,
    counted: Option<Counted>,
}

struct Counted {
    id: RecordId,
    count: u64,
    reasons: BTreeMap<&'static str, u64>,
    addresses: BTreeMap<String, u64>,
}

impl Strangers {
    pub(crate) fn new(ledger: Arc<Ledger>, clock: Arc<dyn Clock>) -> Self {
        Self { ledger, clock, second: Mutex::default() }
    }

    /// Records or counts one; returns the record that says so, `None` if the queue is full.
    fn record(&self, stranger: &Stranger, client: Client, ip: IpAddr) -> Option<RecordId> {
        let now = self.clock.now();
        let mut second = self.second.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if second.at != now.secs() {
            self.flush(&mut second);
            *second = Second { at: now.secs(), ..Second::default() };
        }
        let told_apart =
            second.by_address.len() < STRANGER_ADDRESSES_MAX || second.by_address.contains_key(&ip);
        let in_full = told_apart && {
            let seen = second.by_address.entry(ip).or_default();
            *seen += 1;
            *seen <= STRANGERS_IN_FULL
        };
        if in_full {
            return self.ledger.event_unwaited(EventDraft {
                id: None,
                session: self.ledger.node_session(),
                kind: RecordKind::Auth,
                actor: nobody(),
                client,
                status: Status {
                    http: Some(401),
                    reason: stranger.reason().to_owned(),
                    message: String::new(),
                    grpc: None,
                },
                outcome: Outcome::Refused,
                event: json!({"action": "identify", "why": stranger.to_string(), "count": 1}),
            });
        }
        let counted = second.counted.get_or_insert_with(|| Counted {
            id: RecordId::new(now),
            count: 0,
            reasons: BTreeMap::new(),
            addresses: BTreeMap::new(),
        });
        counted.count += 1;
        *counted.reasons.entry(stranger.reason()).or_default() += 1;
        if counted.addresses.len() < STRANGER_ADDRESSES_MAX {
            *counted.addresses.entry(ip.to_string()).or_default() += 1;
        }
        Some(counted.id)
    }

    /// Writes what a second that is over counted. Called by the next stranger, and every second.
    fn flush(&self, second: &mut Second) {
        let Some(counted) = second.counted.take() else { return };
        // The leaf is bounded: only the busiest addresses are named.
        let mut addresses: Vec<_> = counted.addresses.into_iter().collect();
        addresses.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        addresses.truncate(100);
        self.ledger.event_unwaited(EventDraft {
            id: Some(counted.id),
            session: self.ledger.node_session(),
            kind: RecordKind::Auth,
            actor: nobody(),
            client: Client::default(),
            status: Status { http: Some(401), reason: "burst".to_owned(), ..Status::default() },
            outcome: Outcome::Refused,
            event: json!({
                "action": "identify", "count": counted.count, "reasons": counted.reasons,
                "addresses": addresses.into_iter().collect::<BTreeMap<_, _>>(),
            }),
        });
    }

    fn flush_if_over(&self) {
        let now = self.clock.now().secs();
        let mut second = self.second.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if second.at != now {
            self.flush(&mut second);
        }
    }
}

impl<U: Upstream> Gateway<U> {
    /// 401, counted; strangers never wait for the disk.
    pub(crate) fn turn_away(&self, stranger: Stranger, request: &Request) -> Reply {
        let record = self.strangers.record(&stranger, client_facts(request), request.client.ip);
        self.metrics.stranger(stranger.reason());
        let refusal = Refusal::new(
            Reason::Unauthenticated,
            format!(
                "hansard does not know who asks: {stranger}. Send 'Authorization: Bearer <token>' with a token of \
                 your identity provider, or use a key from 'hansard key issue'."
            ),
        );
        let mut reply = self.upstream.refuse(Speaks::of(&request.head.headers), &refusal, record);
        stamp(reply.headers_mut(), record);
        reply
    }

    /// Records or counts a stranger at another door than the data path.
    pub fn stranger_at_token(&self, stranger: &Stranger, request: &Request) {
        self.strangers.record(stranger, client_facts(request), request.client.ip);
        self.metrics.stranger(stranger.reason());
    }

    /// The session of somebody who was identified at another door.
    pub fn session_of(&self, who: &identity::Identified) -> record::SessionId {
        match who.session {
            // A session of its own is neither over when it is idle nor taken from another.
            Some(session) if who.own.is_some() => session,
            carried => self.sessions.touch(&who.session_key, carried, self.clock.now()),
        }
    }

    /// To be called every second.
    pub fn tick(&self) {
        self.strangers.flush_if_over();
    }
}

fn nobody() -> Actor {
    Actor {
        kind: ActorKind::Unknown,
        id: None,
        email: None,
        name: None,
        groups: None,
        idp: None,
        agent: None,
        act_chain: Vec::new(),
        credential: None,
    }
}
