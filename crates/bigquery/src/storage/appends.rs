//! An AppendRows stream: each message of the client is answered by one of BigQuery, in the same order. Sent is not
//! taken: the record counts what BigQuery took, and names what it refused.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use record::{Job, Status};
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use super::refuse::code_name;
use super::understand::table_of;
use super::wire::{Want, Watch};

/// Messages that may wait for their answers.
const UNANSWERED_MAX: usize = 100_000;
/// `google.rpc.Code.ALREADY_EXISTS`: the rows are there, an earlier try brought them.
const ALREADY_EXISTS: u64 = 6;

/// What is known of a stream so far; both directions write it.
#[derive(Clone, Default)]
pub(crate) struct Appends(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Rows and table of each message that has no answer yet.
    unanswered: VecDeque<(u64, Arc<str>)>,
    messages: u64,
    offset: Option<i64>,
    /// The writer's schema: a protobuf descriptor or an Arrow schema.
    proto_schema: Vec<u8>,
    arrow_schema: Vec<u8>,
    /// Rows that BigQuery took, and their tables.
    rows: u64,
    tables: BTreeSet<Arc<str>>,
    already_there: u64,
    refused: u64,
    /// The first refusal.
    refusal: Option<Status>,
}

impl Appends {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The client's side, of a stream that was decided on by its name.
    pub(crate) fn sent(&self, stream: &str) -> Sent {
        Sent {
            appends: self.clone(),
            stream: stream.to_owned(),
            current: String::new(),
            table: "".into(),
            rows: 0,
            strays: false,
        }
    }

    /// BigQuery's side.
    pub(crate) fn taken(&self) -> Taken {
        Taken { appends: self.clone(), answer: AppendAnswer::default() }
    }

    /// Tells if every message has its answer.
    pub(crate) fn is_settled(&self) -> bool {
        let known = self.known();
        known.messages > 0 && known.unanswered.is_empty()
    }

    /// Tables that took rows.
    pub(crate) fn tables(&self) -> Vec<String> {
        self.known().tables.iter().map(|table| table.to_string()).collect()
    }

    /// The first message that BigQuery refused.
    pub(crate) fn refusal(&self) -> Option<Status> {
        self.known().refusal.clone()
    }

    /// Counts as BigQuery's DML statistics have them.
    pub(crate) fn job(&self) -> Job {
        Job { dml: Some(json!({"insertedRowCount": self.known().rows.to_string()})), ..Job::default() }
    }

    /// All else, as the record keeps it beside the rows.
    pub(crate) fn facts(&self) -> Value {
        let known = self.known();
        let encoded = |bytes: &[u8]| (!bytes.is_empty()).then(|| STANDARD.encode(bytes));
        json!({
            "messages": known.messages, "first_offset": known.offset.map(|offset| offset.to_string()),
            "already_exists": known.already_there, "refused": known.refused, "unanswered": known.unanswered.len(),
            "writer_schema": {"proto": encoded(&known.proto_schema), "arrow": encoded(&known.arrow_schema)},
        })
    }
}

/// Watches what the client sends.
pub(crate) struct Sent {
    appends: Appends,
    /// The stream of the first message.
    stream: String,
    /// The stream that the last message named: it holds until another is named.
    current: String,
    table: Arc<str>,
    rows: u64,
    strays: bool,
}

impl Sent {
    /// Tells if every message so far goes where the first one does, or to a default stream of the same project, and
    /// few enough wait for their answers.
    pub(crate) fn is_allowed(&self) -> bool {
        !self.strays && self.appends.known().unanswered.len() <= UNANSWERED_MAX
    }
}

impl Watch for Sent {
    fn want(&mut self, path: &[u32]) -> Want {
        match path {
            [1] | [4, 1, 1] | [5, 1, 1] => Want::Keep,
            [2] | [4] | [4, 1] | [4, 2] | [5] | [5, 1] | [5, 2] => Want::Enter,
            [4, 2, 1] => {
                self.rows += 1;
                Want::Skip
            }
            _ => Want::Skip,
        }
    }

    fn number(&mut self, path: &[u32], value: u64) {
        match path {
            [2, 1] => drop(self.appends.known().offset.get_or_insert(value as i64)),
            [5, 2, 2] => self.rows += value,
            _ => {}
        }
    }

    fn bytes(&mut self, path: &[u32], value: &[u8]) {
        match path {
            [1] => {
                self.current = String::from_utf8_lossy(value).into_owned();
                self.table = table_of(&self.current).map(|parts| parts.join(".")).unwrap_or_default().into();
                let project = |name: &str| name.split('/').nth(1).map(str::to_owned);
                let is_default = self.current.ends_with("/_default");
                self.strays |= self.current != self.stream
                    && !(is_default && project(&self.current) == project(&self.stream));
            }
            [4, 1, 1] => self.appends.known().proto_schema = value.to_vec(),
            [5, 1, 1] => self.appends.known().arrow_schema = value.to_vec(),
            _ => {}
        }
    }

    fn message(&mut self) {
        let mut known = self.appends.known();
        known.messages += 1;
        known.unanswered.push_back((std::mem::take(&mut self.rows), self.table.clone()));
    }
}

/// Watches what BigQuery answers (`AppendRowsResponse` in googleapis' `storage.proto`).
pub(crate) struct Taken {
    appends: Appends,
    answer: AppendAnswer,
}

/// An answer to one message.
#[derive(Default)]
struct AppendAnswer {
    has_result: bool,
    has_error: bool,
    code: u64,
    message: String,
    row_errors: u64,
}

impl Watch for Taken {
    fn want(&mut self, path: &[u32]) -> Want {
        match path {
            [1] => self.answer.has_result = true,
            [2] => {
                self.answer.has_error = true;
                return Want::Enter;
            }
            [2, 2] => return Want::Keep,
            [4] => self.answer.row_errors += 1,
            _ => {}
        }
        Want::Skip
    }

    fn number(&mut self, path: &[u32], value: u64) {
        if path == [2, 1] {
            self.answer.code = value;
        }
    }

    fn bytes(&mut self, _: &[u32], value: &[u8]) {
        self.answer.message = String::from_utf8_lossy(value).into_owned();
    }

    fn message(&mut self) {
        let answer = std::mem::take(&mut self.answer);
        let mut known = self.appends.known();
        let Some((rows, table)) = known.unanswered.pop_front() else { return };
        if answer.has_error && answer.code == ALREADY_EXISTS {
            known.already_there += 1;
        } else if answer.has_error || answer.row_errors > 0 {
            known.refused += 1;
            known.refusal.get_or_insert_with(|| {
                let code = if answer.has_error { answer.code } else { 3 };
                Status {
                    grpc: Some(0),
                    reason: code_name(u16::try_from(code).unwrap_or(u16::MAX)).to_owned(),
                    message: answer.message,
                    ..Status::default()
                }
            });
        } else if answer.has_result {
            known.rows += rows;
            known.tables.insert(table);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::wire::Messages;
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    struct Append {
        #[prost(string, tag = "1")]
        stream: String,
        #[prost(message, optional, tag = "4")]
        proto: Option<ProtoData>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ProtoData {
        #[prost(message, optional, tag = "2")]
        rows: Option<ProtoRows>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ProtoRows {
        #[prost(bytes = "vec", repeated, tag = "1")]
        rows: Vec<Vec<u8>>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Answered {
        #[prost(message, optional, tag = "1")]
        result: Option<Offset>,
        #[prost(message, optional, tag = "2")]
        error: Option<Refused>,
        #[prost(message, repeated, tag = "4")]
        row_errors: Vec<Refused>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Offset {}

    #[derive(Clone, PartialEq, Message)]
    struct Refused {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
    }

    const STREAM: &str = "projects/p/datasets/d/tables/one/streams/_default";

    fn append(stream: &str, rows: usize) -> Vec<u8> {
        let rows = ProtoRows { rows: vec![vec![1, 2]; rows] };
        framed(&Append { stream: stream.to_owned(), proto: Some(ProtoData { rows: Some(rows) }) })
    }

    fn took() -> Vec<u8> {
        framed(&Answered { result: Some(Offset {}), ..Answered::default() })
    }

    fn refused(code: i32) -> Vec<u8> {
        let error = Refused { code, message: format!("code {code}") };
        framed(&Answered { error: Some(error), ..Answered::default() })
    }

    fn framed(message: &impl Message) -> Vec<u8> {
        let bytes = message.encode_to_vec();
        [&[0], (bytes.len() as u32).to_be_bytes().as_slice(), &bytes].concat()
    }

    #[test]
    fn counts_are_of_what_was_taken() {
        let appends = Appends::default();
        let (mut sent, mut taken) = (Messages::new(appends.sent(STREAM)), Messages::new(appends.taken()));
        let other = "projects/p/datasets/d/tables/two/_default";
        let third = "projects/p/datasets/d/tables/three/_default";
        for (stream, rows) in [(STREAM, 2), ("", 3), (other, 4), (third, 5), (STREAM, 6)] {
            sent.push(&append(stream, rows)).unwrap();
        }
        // An empty result is a result. What another try brought is no failure, and not counted twice.
        for answer in [took(), refused(6), took(), refused(3)] {
            taken.push(&answer).unwrap();
        }
        assert_eq!(appends.job().dml, Some(json!({"insertedRowCount": "6"})));
        assert_eq!(appends.tables(), ["p.d.one", "p.d.two"]);
        let facts = appends.facts();
        let counts = ["messages", "already_exists", "refused", "unanswered"].map(|name| facts[name].clone());
        assert_eq!(counts, [json!(5), json!(1), json!(1), json!(1)]);
        let refusal = appends.refusal().unwrap();
        assert_eq!((refusal.reason.as_str(), refusal.message.as_str()), ("INVALID_ARGUMENT", "code 3"));

        let rows = vec![Refused { code: 1, message: "one row".to_owned() }];
        taken.push(&framed(&Answered { row_errors: rows, ..Answered::default() })).unwrap();
        assert_eq!(appends.facts()["refused"], 2);
        assert!(sent.watch().is_allowed());
    }

    #[test]
    fn a_message_that_goes_elsewhere_is_seen_amid_others() {
        let stray = "projects/other/datasets/d/tables/one/_default";
        let appends = Appends::default();
        let mut sent = Messages::new(appends.sent(STREAM));
        sent.push(&[append(STREAM, 1), append(stray, 1), append(STREAM, 1)].concat()).unwrap();
        assert!(!sent.watch().is_allowed());
    }
}
