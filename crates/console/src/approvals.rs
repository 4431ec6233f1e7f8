//! What waits for a human: list, show, answer.

use ::approvals::Scope;
use http::StatusCode;
use ledger::Filter;
use record::{Record, RecordId, SessionId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::api::{Answer, Api, ApiRequest, Running, Which, pairs};
use crate::stream::{ApiReply, failure, lines, object};

/// Exchanges of the session that whoever answers is shown.
const RECENT: u64 = 10;
/// Characters of each statement there.
const RECENT_CHARS: usize = 500;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Approving {
    /// The very same may run again for so long, in seconds.
    for_secs: Option<i64>,
    /// Its like may run: literals and parameters may differ.
    fingerprint: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Denying {
    reason: String,
}

fn running(api: &Api) -> Result<Arc<dyn Running>, ApiReply> {
    api.running().cloned().ok_or_else(|| {
        failure(
            StatusCode::CONFLICT,
            "no gateway runs on this folder, and only one can hold or send; start it with 'hansard serve'",
        )
    })
}

fn id_of(text: &str) -> Result<RecordId, ApiReply> {
    text.parse().map_err(|_| failure(StatusCode::BAD_REQUEST, "an approval is named by its UUID"))
}

/// Those that wait; with `all=true` those that were answered, too.
pub(crate) async fn list(api: &Api, request: &ApiRequest) -> ApiReply {
    let running = match running(api) {
        Ok(running) => running,
        Err(reply) => return reply,
    };
    let all = match pairs(&request.query) {
        Ok(pairs) => pairs.iter().any(|(name, value)| name == "all" && value == "true"),
        Err(error) => return failure(StatusCode::BAD_REQUEST, error),
    };
    let which = if all { Which::All } else { Which::Pending };
    let shown = running.approvals(which, &request.actor, request.reads_all).await;
    lines(move |out| {
        let _ = shown.iter().try_for_each(|one| out.object(one));
        Ok(())
    })
}

/// One, with what its session did before.
pub(crate) async fn show(api: Arc<Api>, id: &str, request: &ApiRequest) -> ApiReply {
    let (running, id) = match (running(&api), id_of(id)) {
        (Ok(running), Ok(id)) => (running, id),
        (Err(reply), _) | (_, Err(reply)) => return reply,
    };
    let found = running.approvals(Which::One(id), &request.actor, request.reads_all).await.pop();
    let Some(mut card) = found else { return unknown(id) };
    let session = card["session"].as_str().and_then(|text| text.parse::<SessionId>().ok());
    if let Some(session) = session
        && (request.reads_all || card["may_answer"] == true)
    {
        let read = tokio::task::spawn_blocking(move || recent(&api, session, id)).await;
        match read.expect("reading does not panic") {
            Ok(recent) => card["recent"] = recent.into(),
            Err(error) => card["recent_unknown"] = error.into(),
        }
    }
    object(StatusCode::OK, &card)
}

/// What the session did last, before it was held.
fn recent(api: &Api, session: SessionId, held: RecordId) -> Result<Vec<Value>, String> {
    let filter = Filter { session: Some(session), limit: Some(RECENT + 1), ..Filter::default() };
    let mut recent = Vec::new();
    let keep = |record: &Record| {
        let sql: Option<String> =
            record.statement.sql.as_ref().map(|sql| sql.chars().take(RECENT_CHARS).collect());
        json!({
            "record": record.id, "received": record.time.received, "kind": record.kind,
            "method": record.target.method, "statement": record.statement.kind, "sql": sql,
            "outcome": record.outcome, "rows": record.result.rows,
        })
    };
    let done = api.ledger.records(&filter, |_, record| {
        if record.id != held && recent.len() < RECENT as usize {
            recent.push(keep(&record));
        }
        ControlFlow::Continue(())
    });
    done.map_err(|error| error.to_string())?;
    Ok(recent)
}

pub(crate) async fn approve(api: &Api, id: &str, request: &ApiRequest) -> ApiReply {
    let wanted = match request.body.is_empty() {
        true => Ok(Approving::default()),
        false => serde_json::from_slice::<Approving>(&request.body),
    };
    let answer = match wanted {
        Ok(Approving { for_secs: Some(_), fingerprint: true }) => {
            return failure(StatusCode::BAD_REQUEST, "either for_secs or fingerprint");
        }
        Ok(Approving { for_secs: Some(secs), .. }) => {
            Answer::Approve { scope: Scope::Time, secs: Some(secs) }
        }
        Ok(Approving { fingerprint: true, .. }) => Answer::Approve { scope: Scope::Fingerprint, secs: None },
        Ok(_) => Answer::Approve { scope: Scope::Once, secs: None },
        Err(error) => return failure(StatusCode::BAD_REQUEST, error.to_string()),
    };
    self::answer(api, id, request, answer).await
}

pub(crate) async fn deny(api: &Api, id: &str, request: &ApiRequest) -> ApiReply {
    match serde_json::from_slice::<Denying>(&request.body) {
        Ok(Denying { reason }) if !reason.trim().is_empty() => {
            self::answer(api, id, request, Answer::Deny { reason }).await
        }
        _ => failure(StatusCode::BAD_REQUEST, "a denial says why: {\"reason\": \"...\"}"),
    }
}

async fn answer(api: &Api, id: &str, request: &ApiRequest, answer: Answer) -> ApiReply {
    let (running, id) = match (running(api), id_of(id)) {
        (Ok(running), Ok(id)) => (running, id),
        (Err(reply), _) | (_, Err(reply)) => return reply,
    };
    match running.answer(id, request.actor.clone(), answer).await {
        Ok(done) => object(StatusCode::OK, &done),
        Err((StatusCode::NOT_FOUND, _)) => unknown(id),
        Err((status, why)) => failure(status, why),
    }
}

fn unknown(id: RecordId) -> ApiReply {
    let what = format!("no approval {id} for you; 'hansard approvals list --all' shows them");
    failure(StatusCode::NOT_FOUND, what)
}
