//! What a room that speaks an upstream's language must do. The gateway knows nothing else of it.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Uri};
use record::{Footprint, Job, RecordId, RequestFacts, Statement, Status, Timestamp};
use serde_json::Value;
use state::Owned;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::lookups::{Definition, Definitions};
use crate::{Cleared, Inspect, Presence, Refusal, Reply, Request};

/// An upstream, both ways: understand a request, forward it, refuse it.
pub trait Upstream: Send + Sync + 'static {
    /// Which method a request is, before its body is read.
    type Route: Send + Sync;
    /// What to do to forward a request once it is understood.
    type Plan: Send + Sync;

    /// Names the method. An unknown one is a refusal, never a pass.
    fn route(&self, request: &Request) -> Result<Self::Route, Refusal>;

    /// The method's name, as the record has it.
    fn method(&self, route: &Self::Route) -> String;

    /// The billing project that the route names, or the body where the route can't.
    fn project(&self, route: &Self::Route, read: &[u8]) -> Option<String>;

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

    /// What it does, its text read; with definitions, also which columns it touches.
    fn describe(
        &self,
        action: &Action<Self::Plan>,
        known: Option<&Definitions>,
    ) -> impl Future<Output = Footprint> + Send;

    /// How to ask what a request would process, and what it is, without running it.
    fn ask_dry_run(&self, action: &Action<Self::Plan>, request: &Request) -> Estimating;

    /// The job that a request makes, as it may be sent later: by this name and in this location where it says neither;
    /// none if it makes none.
    fn later(&self, action: &Action<Self::Plan>, request: &Request, named: (&str, &str)) -> Option<LaterJob>;

    /// The answer to whoever starts a held job or asks for it: what BigQuery says of one that has not begun, or of one
    /// that ended without a beginning.
    fn answer_held(&self, plan: &Self::Plan, held: &HeldJob<'_>) -> Reply;

    /// How to keep a table as it is.
    fn ask_snapshot(&self, kept: &Kept<'_>) -> Question;

    /// Whether a statement of the gateway's own is done, or why not.
    fn read_done(&self, body: &[u8]) -> Result<(), String>;

    /// The columns that a table's definition says that it has, fields of records among them by their paths; or why that is not
    /// known.
    fn read_columns(&self, definition: &Definition) -> Result<Vec<String>, String>;

    /// How to ask for a table, and how many rows the answer says that it has.
    fn ask_rows(&self, table: &str) -> Option<Question>;

    /// See `ask_rows`.
    fn read_rows(&self, body: &[u8]) -> Option<u64>;

    /// What the answer says.
    fn read_dry_run(&self, answer: &Definition) -> DryRun;

    /// Puts bounds into what is to be forwarded, where it makes a job.
    fn bound(&self, action: &mut Action<Self::Plan>, request: &Request, bounds: &Bounds);

    /// What of it may be another principal's, now that its text is read.
    fn touches(&self, footprint: &Footprint) -> Vec<Touch>;

    /// What must be looked up to know what it does.
    fn objects(&self, footprint: &Footprint, needs: Needs) -> Vec<Object>;

    /// How to ask for a definition.
    fn ask_object(&self, object: &Object) -> Option<Question>;

    /// What it does, with what a definition says; one that is none could not be had. With definitions, also which columns
    /// are touched by what stands behind the name.
    fn define(
        &self,
        footprint: Footprint,
        object: &Object,
        definition: &Definition,
        known: Option<&Definitions>,
    ) -> impl Future<Output = Footprint> + Send;

    /// What tells one state of those objects from another.
    fn versions(&self, known: &Definitions) -> String;

    /// Sends it and returns as soon as the answer begins. Takes nothing but a cleared request.
    fn forward(&self, cleared: Cleared<Self::Plan>) -> impl Future<Output = Answer> + Send;

    /// How to ask how a job stands.
    fn ask_job(&self, job: &JobRef) -> Question;

    /// How to ask for the children of a script, from a page on.
    fn ask_children(&self, parent: &JobRef, page: Option<&str>) -> Question;

    /// How to ask that a job be cancelled.
    fn cancel_job(&self, job: &JobRef) -> Question;

    /// What a connection's credential must be able to do, and how to try it without changing anything.
    fn needs(&self, project: &str) -> Vec<Need>;

    /// What an answer to either says; none if it can't be read.
    fn read_jobs(&self, body: &[u8]) -> Option<JobsSeen>;

    /// A refusal in the upstream's own shape.
    fn refuse(&self, speaks: Speaks, refusal: &Refusal, record: Option<RecordId>) -> Reply;
}

/// The upstream's own word on a statement that did not run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DryRun {
    pub bytes: Option<u64>,
    /// Empty if it does not say.
    pub kind: String,
    /// None if it does not say.
    pub tables: Option<Vec<String>>,
    /// Whether those are all.
    pub names_all_tables: bool,
    /// Where it would run; empty if it does not say.
    pub location: String,
    /// Why it says less than asked; empty if it does not.
    pub failed: String,
}

/// What it takes to know what a request would process.
pub enum Estimating {
    Ask(Question),
    /// It processes nothing that is billed.
    Free,
    /// Nobody says, and why.
    Unknown(&'static str),
}

/// A table that is kept before it is changed.
pub struct Kept<'a> {
    /// The billing project, and where the statement runs; empty if it does not say.
    pub project: &'a str,
    pub location: &'a str,
    /// `project.dataset.table`
    pub table: &'a str,
    /// The snapshot's own name.
    pub snapshot: &'a str,
    pub expires_secs: i64,
}

/// A job that is sent later than it was asked for.
pub struct LaterJob {
    pub job: JobRef,
    /// Whether the name is the client's own.
    pub is_named: bool,
    /// Whether the request is all of it: an upload's data comes with it, so it can't be sent later.
    pub is_whole: bool,
    pub question: Question,
    /// All that it says, but for its name and hansard's own marks: equal for equal jobs.
    pub binding: Vec<u8>,
    /// The same without the statement's text and parameters.
    pub frame: Vec<u8>,
}

/// A job that waits for a human, or ended before it began.
pub struct HeldJob<'a> {
    pub job: &'a JobRef,
    /// Reason and message of its end; none while it waits.
    pub ended: Option<(&'a str, &'a str)>,
    /// As it would be sent.
    pub body: &'a [u8],
    pub created: Timestamp,
    /// Whose it is, as far as that has a name.
    pub user: &'a str,
}

/// A request that asks for a job that was started before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    pub job: JobRef,
    pub how: Awaiting,
}

/// What it wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaiting {
    /// How it stands, at once.
    Stand,
    /// Its results, waited for at most so long.
    Results(Duration),
    Cancel,
}

/// What a job may cost, and how long it may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    pub bytes_billed: Option<u64>,
    pub job_timeout_ms: Option<u64>,
}

/// Something whose definition says what is done by naming it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    pub kind: ObjectKind,
    /// `project.dataset.name`
    pub name: String,
}

/// What kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// A table, or a view.
    Table,
    Routine,
    Model,
}

/// What must be known of an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The tables behind views.
    pub tables: bool,
    pub routines: bool,
    pub models: bool,
    /// The columns of tables, also of those that are written.
    pub columns: bool,
}

/// What an exchange is marked with upstream.
#[derive(Clone, Debug)]
pub struct Marks {
    pub record: RecordId,
    pub session: record::SessionId,
    /// Whether jobs are labelled with them.
    pub label_jobs: bool,
    /// Who asks: ids that must be one principal's own are made from it.
    pub principal: String,
    /// APIs beside BigQuery's that the connection lets through.
    pub apis: Vec<String>,
}

impl Marks {
    /// For an exchange whose connection is not known yet: no labels, no API but BigQuery's.
    pub fn new(record: RecordId, session: record::SessionId, principal: &str) -> Self {
        Self { record, session, label_jobs: false, principal: principal.to_owned(), apis: Vec::new() }
    }
}

/// A question of the gateway's own.
pub struct Question {
    pub verb: Method,
    pub uri: Uri,
    /// JSON, or nothing.
    pub body: Bytes,
}

/// Something that a credential must be able to do.
pub struct Need {
    pub what: &'static str,
    /// The permission that it takes.
    pub permission: &'static str,
    pub question: Question,
}

/// A job as its upstream names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobRef {
    pub project: String,
    pub job: String,
    /// Empty if it is not known.
    pub location: String,
}

/// Something that a request reaches for and that may be another principal's.
#[derive(Clone, Debug)]
pub struct Touch {
    pub owned: Owned,
    pub access: Access,
}

/// What a request would do to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Change,
}

/// Jobs in an answer, and where the next page begins.
#[derive(Clone, Debug, Default)]
pub struct JobsSeen {
    pub jobs: Vec<JobSeen>,
    pub next_page: Option<String>,
}

/// How a job stands.
#[derive(Clone, Debug, Default)]
pub struct JobSeen {
    pub job: JobRef,
    pub is_done: bool,
    pub has_children: bool,
    pub statement: Statement,
    pub facts: Job,
    pub status: Status,
    pub sql: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// What belongs to whoever owns the job.
    pub owns: Vec<Owned>,
    /// Bytes that it was billed for, or that it moved.
    pub spent: Option<u64>,
}

/// A request that was understood.
pub struct Action<P> {
    /// What the record says of the request beyond its line.
    pub request: RequestFacts,
    pub statement: Statement,
    pub job: Job,
    pub location: String,
    pub labels: BTreeMap<String, String>,
    pub text: ledger::StatementText,
    /// What it reaches for.
    pub touches: Vec<Touch>,
    /// What it does, as far as that is known without reading its text.
    pub footprint: Footprint,
    /// The job that it starts, where its id is known before it is sent.
    pub starts: Option<JobRef>,
    /// The job that it asks for.
    pub awaits: Option<Awaited>,
    /// The client's own mark of a request that it may send again.
    pub retry: Option<String>,
    pub plan: P,
}

impl<P> Action<P> {
    /// The same with a plan made of its plan.
    pub fn map_plan<Q>(self, map: impl FnOnce(P) -> Q) -> Action<Q> {
        Action {
            request: self.request,
            statement: self.statement,
            job: self.job,
            location: self.location,
            labels: self.labels,
            text: self.text,
            touches: self.touches,
            footprint: self.footprint,
            starts: self.starts,
            awaits: self.awaits,
            retry: self.retry,
            plan: map(self.plan),
        }
    }
}

/// What a client speaks, and so what it must be answered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Json,
    /// gRPC over HTTP/2: each message is waited for, and the status stands in the trailers.
    Grpc,
}

impl Speaks {
    /// What a request is in, by its own word.
    pub fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        if kind.starts_with(b"application/grpc") { Self::Grpc } else { Self::Json }
    }
}

/// How an answer is given.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub speaks: Speaks,
    /// Whether a client may send the request again if its answer can't be given.
    pub repeatable: bool,
}

/// What came back.
pub struct Answer {
    /// The reply's head, already without what must not reach the client.
    pub head: http::response::Parts,
    pub body: Box<dyn AnswerBody>,
    /// Whether the client is still there, for as long as nothing was released to it.
    pub presence: Presence,
    pub manner: Manner,
}

/// The next part of a body, when it comes.
pub type NextChunk<'a> = Pin<Box<dyn Future<Output = Option<Result<Chunk, UpstreamFault>>> + Send + 'a>>;

/// The answer's body: read part by part, then asked what it taught.
pub trait AnswerBody: Send {
    /// The next part, `None` at a clean end.
    fn next(&mut self) -> NextChunk<'_>;

    /// Reads on in a window that is gathered, of which more has come.
    fn read(&mut self, _gathered: &[u8]) {}

    /// Reads the rest of a window of which no more comes; another may follow. Returns a shorter form of it, where one is to
    /// be kept.
    fn finish(&mut self, _window: &[u8]) -> Option<Vec<u8>> {
        None
    }

    /// Rows in the windows so far, and how many the result has, where it says so.
    fn rows(&self) -> (u64, Option<u64>);

    /// Tells if all that was asked so far is answered, of a stream that goes on until either side ends it.
    fn is_settled(&self) -> bool {
        false
    }

    /// Returns what tells how far it is while it is under way; none where the bytes that passed say it.
    fn progress(&self) -> Option<ledger::Progress> {
        None
    }

    /// What was learnt from all of it.
    fn learnt(self: Box<Self>) -> Learnt;
}

/// A part of a body: what it says, and the bytes for the wire where those are others.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    pub decoded: Bytes,
    /// Of an encoded body; none where the wire carries what is said. One body has one or the other throughout.
    pub wire: Option<Bytes>,
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
    /// What belongs to whoever asked from now on.
    pub owns: Vec<Owned>,
    /// Bytes that it was billed for, where nobody follows it further.
    pub spent: Option<u64>,
    /// A job whose end this answer does not say.
    pub under_way: Option<JobRef>,
    /// What follows the body.
    pub trailers: Option<HeaderMap>,
    /// Tells if it ran as something else than what a rule leaves out of the record.
    pub is_another: bool,
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
