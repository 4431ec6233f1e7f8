//! The routes of `/api/v1`.

use ::approvals::Scope;
use bytes::Bytes;
use http::{Method, StatusCode};
use identity::{EndedSessions, VirtualKeys};
use ledger::{Filter, Ledger, Retention};
use record::{Actor, Clock, RecordId, SessionId};
use serde_json::json;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, RwLock};

use crate::stream::{ApiReply, failure, lines, object};
use crate::{approvals, ending, keys, read, testing};

/// Everything that a command or a page may ask of a data folder.
pub struct Api {
    pub ledger: Arc<Ledger>,
    pub keys: Arc<VirtualKeys>,
    pub ended: Arc<EndedSessions>,
    pub clock: Arc<dyn Clock>,
    settings: RwLock<Arc<ApiSettings>>,
    pub(crate) row_texts: RowTexts,
    /// Absent where no gateway runs on the folder.
    running: OnceLock<Arc<dyn Running>>,
}

/// Turns a body that is not JSON on the wire into BigQuery's JSON row form, part by part.
pub trait RowText: Send {
    /// The next bytes of the body, as text.
    fn part(&mut self, bytes: &[u8]) -> Vec<u8>;

    /// What closes the text.
    fn end(&mut self) -> Vec<u8>;
}

/// Finds a reader by the record's method and the schema that was kept with it.
pub type RowTexts = fn(&str, Option<&serde_json::Value>) -> Option<Box<dyn RowText>>;

/// What only a running gateway can do.
pub trait Running: Send + Sync {
    /// Ends a session, because of the record that says so: streams closed, jobs cancelled. Returns those jobs.
    fn end_session(&self, session: SessionId, cause: RecordId) -> Ending<'_>;

    /// Tries a connection's credential; none if there is no such connection.
    fn test_connection<'a>(&'a self, name: &'a str) -> Tested<'a>;

    /// Tables as a connection's warehouse has them; none if there is no such connection.
    fn look_at_tables<'a>(&'a self, connection: &'a str, tables: &'a [String]) -> Tested<'a>;

    /// What waits for an answer or was answered, as far as a reader may see it.
    fn approvals<'a>(
        &'a self,
        which: Which,
        reader: &'a Actor,
        reads_all: bool,
    ) -> Later<'a, Vec<serde_json::Value>>;

    /// Answers one: what it came to, or a status and why not.
    fn answer(&self, id: RecordId, actor: Actor, answer: Answer) -> Later<'_, Answered>;
}

/// Which of what is held.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    One(RecordId),
    Pending,
    All,
}

/// Somebody's answer to what is held.
#[derive(Clone, Debug)]
pub enum Answer {
    Approve { scope: Scope, secs: Option<i64> },
    Deny { reason: String },
}

/// What an answer came to, or why it came to nothing.
pub type Answered = Result<serde_json::Value, (StatusCode, String)>;

/// Something that comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a connection's test came to, when it is over.
pub type Tested<'a> = Later<'a, Option<serde_json::Value>>;

/// The end of a session, when it has come.
pub type Ending<'a> = Later<'a, Result<Vec<String>, String>>;

/// What of the configuration the API needs; another version may take its place.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    pub retention: Retention,
    pub public_url: String,
    /// Connections as they may be shown: never a secret.
    pub connections: Vec<serde_json::Value>,
}

/// A request, whichever way it came.
pub struct ApiRequest {
    pub method: Method,
    /// Below `/api/v1/`.
    pub path: String,
    pub query: String,
    pub body: Bytes,
    /// Who asks, for the record.
    pub actor: Actor,
    /// Whether they may see everything.
    pub reads_all: bool,
}

/// What one must be allowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody who is signed in: each sees what is theirs to see.
    SignedIn,
    /// Read records: the role `auditor`.
    Read,
    /// Change something: the role `admin`.
    Admin,
}

/// What a request needs.
pub fn needs(method: &Method, path: &str) -> Access {
    if path == "approvals" || path.starts_with("approvals/") {
        return Access::SignedIn;
    }
    let reads = *method == Method::GET || path == "query" || path == "verify";
    if reads && path != "keys" { Access::Read } else { Access::Admin }
}

impl Api {
    /// Assembles it.
    pub fn new(
        ledger: Arc<Ledger>,
        keys: Arc<VirtualKeys>,
        ended: Arc<EndedSessions>,
        clock: Arc<dyn Clock>,
        settings: ApiSettings,
        row_texts: RowTexts,
    ) -> Self {
        Self {
            ledger,
            keys,
            ended,
            clock,
            settings: RwLock::new(Arc::new(settings)),
            row_texts,
            running: OnceLock::new(),
        }
    }

    /// A gateway runs on the folder from here on.
    pub fn run_by(&self, running: Arc<dyn Running>) {
        let _ = self.running.set(running);
    }

    /// The gateway that runs on the folder, if one does.
    pub(crate) fn running(&self) -> Option<&Arc<dyn Running>> {
        self.running.get()
    }

    /// The version that holds now.
    pub fn settings(&self) -> Arc<ApiSettings> {
        self.settings.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Another version holds from here on.
    pub fn reload(&self, settings: ApiSettings) {
        *self.settings.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(settings);
    }

    /// Answers a request of somebody who may.
    pub async fn answer(self: Arc<Self>, request: ApiRequest) -> ApiReply {
        let path: Vec<&str> = request.path.split('/').filter(|part| !part.is_empty()).collect();
        let method = request.method.as_str();
        // What is under way is known from memory: the index may be behind.
        let is_open = path == ["records"] && read::is_of_open(&request.query);
        let reads_index =
            !is_open && matches!(path.first(), Some(&("sessions" | "records" | "query" | "tail")));
        if reads_index && let Err(error) = self.ledger.readable().await {
            return failure(StatusCode::SERVICE_UNAVAILABLE, format!("{error}."));
        }
        match (method, path.as_slice()) {
            ("GET", ["sessions"]) => read::sessions(self, &request.query),
            ("GET", ["sessions", id]) => read::session(self, id),
            ("POST", ["connections", name, "test"]) => {
                testing::test(self.clone(), name, request.actor.clone()).await
            }
            ("POST", ["connections", name, "tables"]) => testing::tables(self.clone(), name, &request).await,
            ("DELETE", ["sessions", id]) => ending::end(self, id, request.actor.clone()).await,
            ("GET", ["records"]) => read::records(self, &request.query),
            ("GET", ["records", id]) => read::record(self, id, &request).await,
            ("GET", ["tail"]) => read::tail(self, &request.query),
            ("GET", ["approvals"]) => approvals::list(&self, &request).await,
            ("GET", ["approvals", id]) => approvals::show(self.clone(), id, &request).await,
            ("POST", ["approvals", id, "approve"]) => approvals::approve(&self, id, &request).await,
            ("POST", ["approvals", id, "deny"]) => approvals::deny(&self, id, &request).await,
            ("POST", ["query"]) => read::query(self, &request.body),
            ("POST", ["verify"]) => read::verify(self),
            ("GET", ["keys"]) => keys::list(self).await,
            ("POST", ["keys"]) => keys::issue(self, request).await,
            ("DELETE", ["keys", id]) => keys::revoke(self, id, request.actor.clone()).await,
            ("GET", ["connections"]) => lines(move |out| {
                self.settings().connections.iter().try_for_each(|connection| {
                    match out.object(connection).is_break() {
                        true => Err("nobody reads".to_owned()),
                        false => Ok(()),
                    }
                })
            }),
            ("POST", ["retention"]) => self.retention(request).await,
            _ => failure(StatusCode::NOT_FOUND, "no such route under /api/v1"),
        }
    }

    async fn retention(self: Arc<Self>, request: ApiRequest) -> ApiReply {
        let dry = request.query.split('&').any(|pair| pair == "dry_run=true");
        let done = tokio::task::spawn_blocking(move || match dry {
            true => self.ledger.retention_due(&self.settings().retention),
            false => self.ledger.retention_run(&self.settings().retention, request.actor),
        });
        match done.await.expect("retention does not panic") {
            Ok(dropped) => object(StatusCode::OK, &json!({"dry_run": dry, "dropped": dropped})),
            Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}

/// The filter of a query string, `since=...&limit=...`.
pub(crate) fn filter(query: &str) -> Result<Filter, String> {
    let mut members = serde_json::Map::new();
    for (name, value) in pairs(query)? {
        let value = match name.as_str() {
            "open" => (value == "true").into(),
            "limit" | "from" => {
                let number: u64 = value.parse().map_err(|_| format!("{name} '{value}' is no number"))?;
                number.into()
            }
            _ => value.into(),
        };
        members.insert(name, value);
    }
    serde_json::from_value(members.into()).map_err(|error| error.to_string())
}

pub(crate) fn pairs(query: &str) -> Result<Vec<(String, String)>, String> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((name.to_owned(), decode(value).ok_or("the query string is not well-formed")?))
        })
        .collect()
}

fn decode(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = (bytes.next()? as char).to_digit(16)?;
                out.push((high * 16 + (bytes.next()? as char).to_digit(16)?) as u8);
            }
            b'+' => out.push(b' '),
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).ok()
}
