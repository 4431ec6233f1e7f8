//! What a room that speaks an upstream's language must do. The gateway knows nothing else of it.

use bytes::Bytes;
use record::{Job, RecordId, RequestFacts, Statement, Status};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::{Cleared, Inspect, Presence, Refusal, Reply, Request};

/// An upstream, both ways: understand a request, forward it, refuse it.
pub trait Upstream: Send + Sync + 'static {
    /// Which method a request is, before its body is read.
    type Route: Send + Sync;
    /// What to do to forward a request once it is understood.
    type Plan: Send + Sync;

    /// Names the method. An unknown one is a refusal, never a pass.
    fn route(&self, request: &Request) -> Result<Self::Route, Refusal>;

    /// The billing project that the route names.
    fn project<'a>(&self, route: &'a Self::Route) -> Option<&'a str>;

    /// Whether any connection serves the route alike.
    fn serves_any(&self, route: &Self::Route) -> bool;

    /// Whether more of the body must be read before it can be understood.
    fn inspect(&self, route: &Self::Route, read: &[u8]) -> Inspect;

    /// Understands it. `record` is the id that its record will have.
    fn understand(
        &self,
        route: Self::Route,
        request: &Request,
        exchange: &Marks,
    ) -> Result<Action<Self::Plan>, Refusal>;

    /// Sends it and returns as soon as the answer begins. Takes nothing but a cleared request.
    fn forward(&self, cleared: Cleared<Self::Plan>) -> impl Future<Output = Answer> + Send;

    /// A refusal in the upstream's own shape.
    fn refuse(&self, refusal: &Refusal, record: Option<RecordId>) -> Reply;
}

/// What an exchange is marked with upstream.
#[derive(Clone, Debug)]
pub struct Marks {
    pub record: RecordId,
    pub session: record::SessionId,
    /// Whether jobs are labelled with them.
    pub label_jobs: bool,
}

/// A request that was understood.
pub struct Action<P> {
    /// The method's name in the record.
    pub method: String,
    /// What the record says of the request beyond its line.
    pub request: RequestFacts,
    pub statement: Statement,
    pub job: Job,
    pub location: String,
    pub labels: BTreeMap<String, String>,
    pub text: ledger::StatementText,
    pub plan: P,
}

/// What came back.
pub struct Answer {
    /// The reply's head, already without what must not reach the client.
    pub head: http::response::Parts,
    pub body: Box<dyn AnswerBody>,
    /// Whether the client is still there, for as long as nothing was released to it.
    pub presence: Presence,
    /// Whether a client may send the request again if its answer can't be given.
    pub repeatable: bool,
}

/// The next part of a body, when it comes.
pub type NextChunk<'a> = Pin<Box<dyn Future<Output = Option<Result<Chunk, UpstreamFault>>> + Send + 'a>>;

/// The answer's body: read part by part, then asked what it taught.
pub trait AnswerBody: Send {
    /// The next part, `None` at a clean end.
    fn next(&mut self) -> NextChunk<'_>;

    /// What was learnt from all of it.
    fn learnt(self: Box<Self>) -> Learnt;
}

/// A part of a body: the bytes for the wire, and what they say.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    pub wire: Bytes,
    pub decoded: Bytes,
}

/// What an answer taught.
#[derive(Clone, Debug, Default)]
pub struct Learnt {
    pub statement: Statement,
    pub job: Job,
    pub location: String,
    pub rows: Option<u64>,
    /// Reason and message of an error that the upstream reported, also inside a 200.
    pub status: Status,
    pub schema: Option<Value>,
}

/// The upstream broke off.
#[derive(Clone, Debug)]
pub struct UpstreamFault(pub String);

impl fmt::Display for UpstreamFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UpstreamFault {}
