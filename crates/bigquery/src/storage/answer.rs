//! An answer of the Storage API on its way down: bytes pass untouched, and are watched for what the record says.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gateway::{
    Answer, AnswerBody, Chunk, Forwardable, Learnt, Manner, NextChunk, Presence, Speaks, UpstreamFault,
};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prost::Message;
use record::{Statement, Status};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

use super::appends::{Appends, Taken};
use super::messages::{BatchCommitResponse, ReadSession, Stream};
use super::route::Method;
use super::understand::{Plan, stream};
use super::wire::{Messages, Want, Watch};
use crate::Upstreamed;

/// Of an answer that is one message, so much is read for the record.
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What of the upstream's headers reaches the client.
const PASSED_HEADERS: &[&str] = &[
    "content-type",
    "grpc-encoding",
    "grpc-message",
    "grpc-status",
    "grpc-status-details-bin",
    "retry-after",
];

/// How an answer is read, beyond its method.
pub(super) struct Reading {
    pub(super) appends: Appends,
    pub(super) schemas: Arc<Schemas>,
}

/// Counts rows, and keeps the schema that the first message carries.
#[derive(Default)]
struct Rows {
    rows: u64,
    avro_schema: Option<String>,
    arrow_schema: Option<Vec<u8>>,
}

impl Watch for Rows {
    fn want(&mut self, path: &[u32]) -> Want {
        match path {
            [7] | [8] => Want::Enter,
            [7, 1] | [8, 1] => Want::Keep,
            _ => Want::Skip,
        }
    }

    fn number(&mut self, path: &[u32], value: u64) {
        if path == [6] {
            self.rows += value;
        }
    }

    fn bytes(&mut self, path: &[u32], value: &[u8]) {
        match path {
            [7, 1] => self.avro_schema = String::from_utf8(value.to_vec()).ok(),
            _ => self.arrow_schema = Some(value.to_vec()),
        }
    }
}

/// A body that is still to come.
struct StorageBody {
    source: Incoming,
    /// A status in the head: nothing follows.
    head_status: Option<Status>,
    trailers: Option<HeaderMap>,
    method: Method,
    session: String,
    rows: Messages<Rows>,
    answers: Messages<Taken>,
    is_readable: bool,
    whole: Vec<u8>,
    appends: Appends,
    schemas: Arc<Schemas>,
}

/// The schemas of read sessions that were made a while ago: an upstream may leave them out of the rows.
#[derive(Default)]
pub(crate) struct Schemas(Mutex<std::collections::VecDeque<(String, Value)>>);

impl Schemas {
    const MAX: usize = 256;

    fn keep(&self, session: &str, schema: Value) {
        let mut all = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if all.len() >= Self::MAX {
            all.pop_front();
        }
        all.push_back((session.to_owned(), schema));
    }

    fn find(&self, session: &str) -> Option<Value> {
        let all = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        all.iter().rev().find(|(known, _)| known == session).map(|(_, schema)| schema.clone())
    }
}

/// An answer whose body is still to come.
pub(super) fn reading(received: Upstreamed, parts: Forwardable<Plan>, reading: Reading) -> Answer {
    let (mut head, body) = received.into_parts();
    let is_grpc = Speaks::of(&head.headers) == Speaks::Grpc;
    if !head.status.is_success() || !is_grpc {
        let why = format!("BigQuery's Storage API answered HTTP {}.", head.status.as_u16());
        return failed(parts, &why);
    }
    let mut headers = HeaderMap::new();
    for name in PASSED_HEADERS {
        if let Some(value) = head.headers.get(*name) {
            headers.insert(http::HeaderName::from_static(name), value.clone());
        }
    }
    head.headers = headers;
    head.extensions.clear();
    head.version = http::Version::HTTP_11;
    let plan = parts.plan;
    let body = StorageBody {
        source: body,
        head_status: status_of(&head.headers),
        trailers: None,
        method: plan.method,
        session: plan.session,
        rows: Messages::new(Rows::default()),
        answers: Messages::new(reading.appends.taken()),
        is_readable: true,
        whole: Vec::new(),
        appends: reading.appends,
        schemas: reading.schemas,
    };
    let manner = Manner { speaks: Speaks::Grpc, repeatable: plan.method.only_reads() };
    Answer { head, body: Box::new(body), presence: parts.presence, manner }
}

impl StorageBody {
    async fn read(&mut self) -> Option<Result<Chunk, UpstreamFault>> {
        loop {
            match self.source.frame().await {
                Some(Err(error)) => return Some(Err(UpstreamFault(outbound::causes(&error)))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => {
                        self.watch(&data);
                        return Some(Ok(Chunk { decoded: data, wire: None }));
                    }
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
                None => {
                    let has_status = self.head_status.is_some()
                        || self.trailers.as_ref().is_some_and(|trailers| status_of(trailers).is_some());
                    return (!has_status).then(|| Err(UpstreamFault("it ended without a status".to_owned())));
                }
            }
        }
    }

    fn watch(&mut self, data: &[u8]) {
        match self.method {
            Method::ReadRows => self.is_readable = self.is_readable && self.rows.push(data).is_ok(),
            Method::AppendRows => self.is_readable = self.is_readable && self.answers.push(data).is_ok(),
            _ if self.whole.len() + data.len() <= MESSAGE_BYTES_MAX => self.whole.extend_from_slice(data),
            _ => {}
        }
    }

    /// A read session, or a write stream, that was made.
    fn made<M: Message + Default>(&self) -> Option<M> {
        M::decode(self.whole.get(5..)?).ok()
    }
}

impl AnswerBody for StorageBody {
    fn next(&mut self) -> NextChunk<'_> {
        Box::pin(self.read())
    }

    fn rows(&self) -> (u64, Option<u64>) {
        match self.method {
            Method::ReadRows => (self.rows.watch().rows, None),
            Method::CreateReadSession => {
                // The estimate is of the table: of what a filter leaves nobody says anything.
                let is_filtered = |made: &ReadSession| {
                    made.read_options.as_ref().is_some_and(|options| !options.row_restriction.is_empty())
                };
                let made: Option<ReadSession> = self.made().filter(|made| !is_filtered(made));
                (0, made.and_then(|made| u64::try_from(made.estimated_row_count).ok()))
            }
            _ => (0, None),
        }
    }

    fn progress(&self) -> Option<ledger::Progress> {
        let appends = (self.method == Method::AppendRows).then(|| self.appends.clone())?;
        Some(Box::new(move || ledger::SoFar { tables: appends.tables(), job: appends.job() }))
    }

    fn is_settled(&self) -> bool {
        self.method == Method::AppendRows && self.is_readable && self.appends.is_settled()
    }

    fn learnt(mut self: Box<Self>) -> Learnt {
        let mut learnt = Learnt::default();
        let trailers = self.trailers.take();
        let status = trailers.as_ref().and_then(status_of).or(self.head_status.take());
        learnt.status = status.unwrap_or_default();
        learnt.trailers = trailers;
        match self.method {
            Method::CreateReadSession => {
                let made: ReadSession = self.made().unwrap_or_default();
                if !made.name.is_empty() {
                    learnt.owns.push(stream(&made.name));
                }
                // Earlier results are read for nothing.
                let table = made.table.replace("/datasets/", ".").replace("/tables/", ".");
                let is_free = crate::touches::is_anonymous_result(&table);
                let scanned = u64::try_from(made.estimated_total_bytes_scanned).ok();
                learnt.spent = scanned.filter(|_| !is_free);
                let arrow = made.arrow_schema.map(|schema| schema.serialized_schema.to_vec());
                let schema = schema(made.avro_schema.map(|schema| schema.schema), arrow);
                if let Some(schema) = &schema {
                    self.schemas.keep(&made.name, schema.clone());
                }
                let streams: Vec<_> = made.streams.into_iter().map(|stream| stream.name).collect();
                learnt.schema = Some(json!({
                    "read_session": made.name, "streams": streams, "table_schema": schema,
                }));
            }
            Method::ReadRows => {
                let (session, is_readable) = (self.session.clone(), self.is_readable);
                let rows = self.rows.into_watch();
                learnt.rows = is_readable.then_some(rows.rows);
                learnt.schema =
                    schema(rows.avro_schema, rows.arrow_schema).or_else(|| self.schemas.find(&session));
            }
            Method::CreateWriteStream => {
                let made: Stream = self.made().unwrap_or_default();
                if !made.name.is_empty() {
                    learnt.owns.push(stream(&made.name));
                }
                learnt.schema = Some(json!({"write_stream": made.name}));
            }
            Method::AppendRows => {
                // Of answers that can't be read nobody knows what they took.
                if self.is_readable {
                    learnt.job = self.appends.job();
                }
                learnt.schema = Some(self.appends.facts());
                learnt.statement = Statement { tables: self.appends.tables(), ..Statement::default() };
                if learnt.status.reason.is_empty()
                    && let Some(refusal) = self.appends.refusal()
                {
                    learnt.status = refusal;
                }
            }
            Method::BatchCommitWriteStreams if learnt.status.reason.is_empty() => {
                let made: BatchCommitResponse = self.made().unwrap_or_default();
                if let Some(error) = made.stream_errors.first() {
                    learnt.status.reason = error.reason().to_owned();
                    learnt.status.message = error.error_message.clone();
                }
            }
            _ => {}
        }
        learnt
    }
}

/// A table's schema in the wire's own format.
fn schema(avro: Option<String>, arrow: Option<Vec<u8>>) -> Option<Value> {
    match (avro, arrow) {
        (Some(avro), _) => Some(json!({"avro": avro})),
        (None, Some(arrow)) => Some(json!({"arrow": STANDARD.encode(arrow)})),
        (None, None) => None,
    }
}

/// `grpc-status` and its message, percent-encoded on the wire.
fn status_of(headers: &HeaderMap) -> Option<Status> {
    let code: u16 = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let message = headers.get("grpc-message").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let message = crate::route::percent_decode(message).unwrap_or_else(|| message.to_owned());
    let reason = if code == 0 { String::new() } else { super::refuse::code_name(code).to_owned() };
    Some(Status { grpc: Some(code), reason, message, ..Status::default() })
}

/// An answer of our own in the place of one that did not come: clients try again.
pub(super) fn failed(parts: Forwardable<Plan>, why: &str) -> Answer {
    let message = format!("{why} Record {}", parts.record);
    let mut head = Response::new(()).into_parts().0;
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head.headers.insert("grpc-status", HeaderValue::from_static("14"));
    head.headers.insert("grpc-message", super::refuse::message_value(&message));
    let body =
        Failed(Status { grpc: Some(14), reason: "UNAVAILABLE".to_owned(), message, ..Status::default() });
    let manner = Manner { speaks: Speaks::Grpc, repeatable: parts.plan.method.only_reads() };
    Answer { head, body: Box::new(body), presence: parts.presence, manner }
}

struct Failed(Status);

impl AnswerBody for Failed {
    fn next(&mut self) -> NextChunk<'_> {
        Box::pin(async { None })
    }

    fn rows(&self) -> (u64, Option<u64>) {
        (0, None)
    }

    fn learnt(self: Box<Self>) -> Learnt {
        Learnt { status: self.0, ..Learnt::default() }
    }
}

/// No answer: the client left while BigQuery was asked.
pub(super) fn left(parts: Forwardable<Plan>) -> Answer {
    let presence: Presence = parts.presence;
    let mut head = Response::new(()).into_parts().0;
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let manner = Manner { speaks: Speaks::Grpc, repeatable: parts.plan.method.only_reads() };
    Answer { head, body: Box::new(crate::answer::Left), presence, manner }
}
