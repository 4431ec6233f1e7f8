//! Reading records and sessions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use ledger::{EventDraft, Filter};
use record::{Client, Outcome, Record, RecordId, RecordKind, SessionId, Status};
use serde_json::{Map, Value, json};
use std::sync::Arc;

use crate::api::{Api, ApiRequest, RowText, filter, pairs};
use crate::stream::{ApiReply, Lines, failure, lines, object};

pub(crate) fn sessions(api: Arc<Api>, query: &str) -> ApiReply {
    let filter = match filter(query) {
        Ok(filter) => filter,
        Err(error) => return failure(StatusCode::BAD_REQUEST, error),
    };
    lines(move |out| {
        let done = api.ledger.sessions(filter.since, filter.limit, |session| out.object(&session));
        done.map_err(|error| error.to_string())
    })
}

pub(crate) fn session(api: Arc<Api>, id: &str) -> ApiReply {
    let Ok(id) = id.parse::<SessionId>() else {
        return failure(StatusCode::BAD_REQUEST, "a session is named by its UUID");
    };
    match api.ledger.session(id) {
        Ok(Some(session)) => object(StatusCode::OK, &session),
        Ok(None) => failure(StatusCode::NOT_FOUND, format!("no session {id}; 'hansard sessions' lists them")),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// Tells if a query string asks for what is under way.
pub(crate) fn is_of_open(query: &str) -> bool {
    filter(query).is_ok_and(|filter| filter.open)
}

pub(crate) fn records(api: Arc<Api>, query: &str) -> ApiReply {
    match filter(query) {
        Ok(filter) if filter.open => lines(move |out| {
            let mut open = api.ledger.open_records(&filter).into_iter();
            let _ = open.try_for_each(|record| out.object(&record));
            Ok(())
        }),
        Ok(filter) => lines(move |out| {
            api.ledger.records(&filter, |_, record| out.object(&record)).map_err(|error| error.to_string())
        }),
        Err(error) => failure(StatusCode::BAD_REQUEST, error),
    }
}

/// Follows the log: every record that closes from leaf `from` on (or now), as it closes.
pub(crate) fn tail(api: Arc<Api>, query: &str) -> ApiReply {
    let filter = match filter(query) {
        Ok(filter) => filter,
        Err(error) => return failure(StatusCode::BAD_REQUEST, error),
    };
    let runtime = tokio::runtime::Handle::current();
    lines(move |out| {
        let mut next = filter.from.unwrap_or_else(|| api.ledger.position());
        while out.is_read() {
            let mut seen_next = next;
            let wanted = Filter { from: Some(next), ..filter.clone() };
            let found = api.ledger.records(&wanted, |n, record| {
                seen_next = n + 1;
                out.object(&record)
            });
            found.map_err(|error| error.to_string())?;
            let seen = api.ledger.position();
            // Records that the filter left out are behind us too.
            next = seen_next;
            runtime.block_on(async {
                let _ = tokio::time::timeout(std::time::Duration::from_secs(1), api.ledger.wait_beyond(seen))
                    .await;
            });
        }
        Ok(())
    })
}

pub(crate) fn query(api: Arc<Api>, body: &Bytes) -> ApiReply {
    let Ok(sql) = String::from_utf8(body.to_vec()) else {
        return failure(StatusCode::BAD_REQUEST, "SQL is UTF-8");
    };
    lines(move |out| {
        api.ledger
            .query(&sql, |row| out.object(&row.into_iter().collect::<Map<_, _>>()))
            .map_err(|error| error.to_string())
    })
}

pub(crate) fn verify(api: Arc<Api>) -> ApiReply {
    lines(move |out| {
        let verdict = api.ledger.verify(|_| ());
        let _ = out.object(&verdict);
        Ok(())
    })
}

/// One record. With rows, the reading is itself recorded first.
pub(crate) async fn record(api: Arc<Api>, id: &str, request: &ApiRequest) -> ApiReply {
    let Ok(id) = id.parse::<RecordId>() else {
        return failure(StatusCode::BAD_REQUEST, "a record is named by its UUID");
    };
    let with_rows = match pairs(&request.query) {
        Ok(pairs) => pairs.iter().any(|(name, value)| name == "rows" && value == "true"),
        Err(error) => return failure(StatusCode::BAD_REQUEST, error),
    };
    let found = {
        let api = api.clone();
        tokio::task::spawn_blocking(move || api.ledger.record(id)).await.expect("reading does not panic")
    };
    let record = match found {
        Ok(Some(record)) => record,
        Ok(None) => {
            return failure(
                StatusCode::NOT_FOUND,
                format!("no closed record {id}; 'hansard records' lists them"),
            );
        }
        Err(error) => return failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    if !with_rows {
        return object(StatusCode::OK, &record);
    }
    let read = EventDraft {
        id: None,
        session: api.ledger.node_session(),
        kind: RecordKind::Admin,
        actor: request.actor.clone(),
        client: Client::default(),
        status: Status::default(),
        outcome: Outcome::Ok,
        event: json!({"action": "rows.read", "record": id}),
    };
    if let Err(error) = api.ledger.event(read).await {
        let message = format!("reading rows is recorded, and that failed: {error}");
        return failure(StatusCode::SERVICE_UNAVAILABLE, message);
    }
    lines(move |out| with_data(&api, out, &record))
}

/// How a kept body is told.
enum Told {
    Json,
    /// As rows, by whoever knows the wire's own format.
    Rows(Box<dyn RowText>),
    /// Bytes that are no text, in base64; `rest` waits for its third byte.
    Bytes {
        rest: Vec<u8>,
        begun: bool,
    },
    /// As one JSON string; `rest` is the beginning of a character whose end is in the next part.
    Text {
        rest: Vec<u8>,
        begun: bool,
    },
}

impl Told {
    fn part(&mut self, window: &[u8]) -> Bytes {
        let (rest, begun) = match self {
            Self::Json => return Bytes::copy_from_slice(window),
            Self::Rows(rows) => return rows.part(window).into(),
            Self::Bytes { rest, begun } => {
                rest.extend_from_slice(window);
                let whole = rest.len() / 3 * 3;
                let text = STANDARD.encode(&rest[..whole]);
                rest.drain(..whole);
                let open = if std::mem::replace(begun, true) { "" } else { "\"" };
                return format!("{open}{text}").into();
            }
            Self::Text { rest, begun } => (rest, begun),
        };
        rest.extend_from_slice(window);
        let whole = match std::str::from_utf8(rest) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => rest.len(),
        };
        let quoted = Value::String(String::from_utf8_lossy(&rest[..whole]).into_owned()).to_string();
        rest.drain(..whole);
        let inner = &quoted[1..quoted.len() - 1];
        let open = if std::mem::replace(begun, true) { "" } else { "\"" };
        format!("{open}{inner}").into()
    }

    fn end(&mut self) -> Bytes {
        match self {
            Self::Json => Bytes::new(),
            Self::Rows(rows) => rows.end().into(),
            Self::Bytes { rest, .. } => format!("{}\"", STANDARD.encode(rest)).into(),
            Self::Text { .. } => Bytes::from_static(b"\""),
        }
    }
}

/// The record with `result.data`: the windows are written as they are read, never all at once.
fn with_data(api: &Api, out: &Lines, record: &Record) -> Result<(), String> {
    let mut value = serde_json::to_value(record).map_err(|error| error.to_string())?;
    let schema =
        api.ledger.outcome_text(record.id).map_err(|error| error.to_string())?.and_then(|text| text.schema);
    const MARK: &str = "\u{0}hansard data\u{0}";
    value["result"]["data"] = Value::String(MARK.to_owned());
    let mut rows = (api.row_texts)(&record.target.method, schema.as_ref());
    let is_grpc = record.status.grpc.is_some();
    if let Some(schema) = schema {
        value["result"]["schema"] = schema;
    }
    let text = value.to_string();
    let mark = Value::String(MARK.to_owned()).to_string();
    let (before, after) = text.split_once(&mark).ok_or("a record without a result")?;
    let _ = out.bytes(Bytes::copy_from_slice(before.as_bytes()));
    // A body that was cut off, or was none of JSON, is told as text.
    let is_whole = !matches!(record.outcome, Outcome::Aborted | Outcome::Interrupted | Outcome::Unknown);
    let mut told: Option<Told> = None;
    let kept = api.ledger.result_windows(record.id, |window| {
        let told = told.get_or_insert_with(|| {
            let is_json =
                window.trim_ascii_start().starts_with(b"{") || window.trim_ascii_start().starts_with(b"[");
            if let Some(rows) = rows.take() {
                return Told::Rows(rows);
            }
            if is_grpc {
                return Told::Bytes { rest: Vec::new(), begun: false };
            }
            if is_whole && is_json { Told::Json } else { Told::Text { rest: Vec::new(), begun: false } }
        });
        out.bytes(told.part(window))
    });
    match (kept.map_err(|error| error.to_string())?, told) {
        (true, Some(mut told)) => drop(out.bytes(told.end())),
        _ => drop(out.bytes(Bytes::from_static(b"null"))),
    }
    let _ = out.bytes(format!("{after}\n").into());
    Ok(())
}
