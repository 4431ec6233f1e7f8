//! Leaf bodies on their way to the writer. One that is too long for a leaf stands there with the first of each of its
//! lists and texts; all of it is sealed apart, so that nothing is too long to be recorded.

use bytes::Bytes;
use record::{
    Actor, BlobClass, Client, Decision, Event, Intent, Job, LeafBody, OutcomeLeaf, RequestFacts, ResultFacts,
    SessionId, Statement, Status, Task, Timestamp,
};
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::sealing::{Blob, Sealer};

/// The longest body that stands in its leaf whole; the rest of a leaf is its place and references.
const WHOLE_BYTES_MAX: usize = 40 * 1024;
/// A whole body is sealed in pieces of so many bytes.
const PIECE_BYTES: usize = 32 * 1024 * 1024;
/// Paths of what was cut that a leaf names, and bytes of each: a byte may stand there as six.
const CUT_MAX: usize = 32;
const CUT_PATH_BYTES_MAX: usize = 64;

/// More than any of the record's types has fields.
const FIELDS_MAX: usize = 32;

/// Bounds of each list and text in a leaf.
#[derive(Clone, Copy)]
struct Limits {
    entries: usize,
    bytes: usize,
}

/// Tried in turn. No text that a reader needs to parse a leaf is longer than the last allows.
const LIMITS: [Limits; 3] = [
    Limits { entries: 32, bytes: 1024 },
    Limits { entries: 8, bytes: 256 },
    Limits { entries: 2, bytes: 128 },
];

/// A body and how it will stand in its leaf.
pub(crate) struct Body {
    /// All of it.
    pub(crate) whole: LeafBody,
    /// JSON as it stands in the leaf.
    pub(crate) json: Box<RawValue>,
    pub(crate) sealed: Option<Sealed>,
}

/// Parts of a body that stands in its leaf cut: what was cut, and all of it sealed.
pub(crate) struct Sealed {
    /// Entries or bytes in all, by path.
    pub(crate) cut: BTreeMap<String, u64>,
    /// The whole body, sealed.
    pub(crate) pieces: Vec<Blob>,
}

impl Body {
    /// Makes a body ready. Takes long for a long one: an async thread calls `prepare`.
    pub(crate) fn new(whole: LeafBody, sealer: &Sealer, session: SessionId, at: Timestamp) -> Self {
        Self::short(whole).unwrap_or_else(|(whole, json)| Self::cut(whole, &json, sealer, session, at))
    }

    /// Makes a body ready, a long one on a thread that may block.
    pub(crate) async fn prepare(
        whole: LeafBody,
        sealer: &Arc<Sealer>,
        session: SessionId,
        at: Timestamp,
    ) -> Self {
        match Self::short(whole) {
            Ok(ready) => ready,
            Err((whole, json)) => {
                let sealer = sealer.clone();
                tokio::task::spawn_blocking(move || Self::cut(whole, &json, &sealer, session, at))
                    .await
                    .expect("cutting does not panic")
            }
        }
    }

    /// Makes one ready that fits its leaf; gives any other back, with its JSON.
    fn short(whole: LeafBody) -> Result<Self, (LeafBody, Box<RawValue>)> {
        let json = json_of(&whole);
        match json.get().len() <= WHOLE_BYTES_MAX {
            true => Ok(Self { whole, json, sealed: None }),
            false => Err((whole, json)),
        }
    }

    fn cut(whole: LeafBody, json: &RawValue, sealer: &Sealer, session: SessionId, at: Timestamp) -> Self {
        let (short, cut) = shortened(&whole, json);
        let pieces =
            json.get().as_bytes().chunks(PIECE_BYTES).map(|piece| {
                sealer.seal(BlobClass::Records, session, at, &Bytes::copy_from_slice(piece).into())
            });
        let sealed = Sealed { cut, pieces: pieces.collect() };
        Self { whole, json: short, sealed: Some(sealed) }
    }
}

fn json_of(body: &LeafBody) -> Box<RawValue> {
    to_raw_value(body).expect("a leaf's body is JSON")
}

/// The beginning of a long body, short enough for a leaf, and what was cut.
fn shortened(whole: &LeafBody, json: &RawValue) -> (Box<RawValue>, BTreeMap<String, u64>) {
    let first = LIMITS
        .into_iter()
        .find_map(|limits| first_of(json, limits).filter(|(short, _)| short.get().len() <= WHOLE_BYTES_MAX));
    first.unwrap_or_else(|| {
        let [.., least] = LIMITS;
        let (short, mut cut) =
            first_of(&json_of(&bare(whole)), least).expect("a bare body is as deep as its types");
        cut.insert("body".to_owned(), json.get().len() as u64);
        (short, cut)
    })
}

/// Reads the first of it and what was cut; none for what is deeper than a reader follows.
fn first_of(json: &RawValue, limits: Limits) -> Option<(Box<RawValue>, BTreeMap<String, u64>)> {
    let mut cut = BTreeMap::new();
    let mut reader = serde_json::Deserializer::from_str(json.get());
    let value = First { limits, path: String::new(), cut: &mut cut }.deserialize(&mut reader).ok()?;
    Some((to_raw_value(&value).expect("JSON again"), cut))
}

/// Leaves of a body whose first entries alone are too many who, when and how it ended.
fn bare(body: &LeafBody) -> LeafBody {
    let actor = |actor: &Actor| Actor { groups: None, act_chain: Vec::new(), ..actor.clone() };
    let status = |status: &Status| Status { message: String::new(), ..status.clone() };
    match body {
        LeafBody::Intent(intent) => LeafBody::Intent(Box::new(Intent {
            id: intent.id,
            kind: intent.kind,
            received: intent.received,
            actor: actor(&intent.actor),
            client: intent.client.clone(),
            task: Task { id: intent.task.id.clone(), ..Task::default() },
            target: intent.target.clone(),
            request: RequestFacts {
                method: intent.request.method.clone(),
                path: intent.request.path.clone(),
                bytes: intent.request.bytes,
                ..RequestFacts::default()
            },
            statement: Statement {
                kind: intent.statement.kind.clone(),
                certain: intent.statement.certain,
                rewritten: intent.statement.rewritten,
                ..Statement::default()
            },
            job: Job { dml: None, ..intent.job.clone() },
            decision: Decision {
                effect: intent.decision.effect,
                policy: intent.decision.policy.clone(),
                approval: intent.decision.approval.clone(),
                ..Decision::default()
            },
            caused_by: intent.caused_by,
        })),
        LeafBody::Window(window) => LeafBody::Window(window.clone()),
        LeafBody::Outcome(outcome) => LeafBody::Outcome(Box::new(OutcomeLeaf {
            statement: Statement {
                kind: outcome.statement.kind.clone(),
                certain: outcome.statement.certain,
                decided_as: outcome.statement.decided_as.clone(),
                ..Statement::default()
            },
            job: Job { dml: None, ..outcome.job.clone() },
            result: ResultFacts { masked: Vec::new(), data: None, ..outcome.result.clone() },
            status: status(&outcome.status),
            uploaded: outcome.uploaded.clone(),
            location: outcome.location.clone(),
            left_out: None,
            ..*outcome.as_ref()
        })),
        LeafBody::Event(event) => LeafBody::Event(Box::new(Event {
            id: event.id,
            kind: event.kind,
            actor: actor(&event.actor),
            client: Client::default(),
            status: status(&event.status),
            outcome: event.outcome,
            event: Value::Null,
            policy: event.policy.clone(),
        })),
    }
}

/// Reads the first of every list and text, and notes how long each was that is longer.
struct First<'a> {
    limits: Limits,
    path: String,
    cut: &'a mut BTreeMap<String, u64>,
}

impl First<'_> {
    fn at(&mut self, step: &str) -> First<'_> {
        let path = match self.path.is_empty() {
            true => step.to_owned(),
            false => format!("{}.{step}", self.path),
        };
        First { limits: self.limits, path, cut: self.cut }
    }

    fn note(self, all: u64) {
        if self.cut.len() < CUT_MAX {
            // The body's own name is no part of a path.
            let path = self.path.split_once('.').map_or(self.path.as_str(), |(_, path)| path);
            self.cut.insert(path[..path.floor_char_boundary(CUT_PATH_BYTES_MAX)].to_owned(), all);
        }
    }
}

impl<'de> DeserializeSeed<'de> for First<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for First<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        let first = &text[..text.floor_char_boundary(self.limits.bytes)];
        if first.len() < text.len() {
            self.note(text.len() as u64);
        }
        Ok(first.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        let mut first = Vec::new();
        let mut all = 0;
        while first.len() < self.limits.entries {
            let entry = self.at(&first.len().to_string());
            let Some(value) = list.next_element_seed(entry)? else { break };
            first.push(value);
            all += 1;
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            all += 1;
        }
        if all > first.len() as u64 {
            self.note(all);
        }
        Ok(Value::Array(first))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut first = Map::new();
        let mut all = 0;
        while let Some(name) = map.next_key::<String>()? {
            all += 1;
            // The fields of the record's own types are fewer, and their names shorter.
            if first.len() < self.limits.entries.max(FIELDS_MAX) && name.len() <= self.limits.bytes {
                let value = map.next_value_seed(self.at(&name))?;
                first.insert(name, value);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if all > first.len() as u64 {
            self.note(all);
        }
        Ok(Value::Object(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::{Outcome, RecordId, RecordKind};
    use serde_json::json;

    fn outcome(dml: Value) -> LeafBody {
        let outcome = OutcomeLeaf {
            id: RecordId::new(Timestamp::from_secs(1)),
            outcome: Outcome::Ok,
            forwarded: None,
            first_byte: None,
            done: Timestamp::from_secs(2),
            uploaded: None,
            statement: Statement { tables: vec!["p.d.t".to_owned()], ..Statement::default() },
            job: Job { id: "j".repeat(5_000), dml: Some(dml), ..Job::default() },
            location: String::new(),
            result: ResultFacts::default(),
            status: Status::default(),
            left_out: None,
        };
        LeafBody::Outcome(Box::new(outcome))
    }

    #[test]
    fn what_has_too_much_side_by_side_or_too_deep_is_left_bare() {
        let wide = |entry: &Value| Value::Array(vec![entry.clone(); 32]);
        let many = (0..4).fold(json!("x".repeat(128)), |inner, _| {
            Value::Object((0..30).map(|n| (format!("n{n}"), inner.clone())).take(12).collect())
        });
        let deep = (0..200).fold(wide(&json!("x".repeat(2_000))), |inner, _| json!([inner]));
        for (dml, is_deep) in [(many, false), (deep, true)] {
            let whole = outcome(dml);
            let json = json_of(&whole);
            let (short, cut) = shortened(&whole, &json);
            assert!(short.get().len() <= WHOLE_BYTES_MAX);
            let LeafBody::Outcome(read) = serde_json::from_str(short.get()).unwrap() else {
                panic!("{short}")
            };
            assert_eq!((read.outcome, read.job.id.len(), read.job.dml), (Outcome::Ok, 128, None));
            assert_eq!(cut["body"], json.get().len() as u64);
            assert_eq!(first_of(&json, LIMITS[0]).is_none(), is_deep);
        }
    }

    #[test]
    fn texts_are_cut_between_characters_and_every_type_is_read_again() {
        let event = Event {
            id: RecordId::new(Timestamp::from_secs(1)),
            kind: RecordKind::Admin,
            actor: crate::Ledger::gateway_actor(),
            client: Client { ip: String::new(), user_agent: "ä".repeat(40_000) },
            status: Status::default(),
            outcome: Outcome::Ok,
            event: json!({"action": "test"}),
            policy: "sha256:".to_owned() + &"0".repeat(64),
        };
        let whole = LeafBody::Event(Box::new(event));
        let json = json_of(&whole);
        let (short, cut) = shortened(&whole, &json);
        let LeafBody::Event(read) = serde_json::from_str(short.get()).unwrap() else { panic!("{short}") };
        assert_eq!(read.client.user_agent, "ä".repeat(512));
        assert_eq!(cut, [("client.user_agent".to_owned(), 80_000)].into());
        assert_eq!(read.policy.len(), 71);
    }
}
