//! Trying a connection's credential, and looking at its tables; recorded.

use http::StatusCode;
use ledger::EventDraft;
use record::{Actor, Client, Outcome, RecordKind, Status};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::api::{Api, ApiRequest};
use crate::stream::{ApiReply, failure, object};

/// Tables that are looked at in one request.
const TABLES_MAX: usize = 500;

/// Which tables.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    tables: Vec<String>,
}

pub(crate) async fn test(api: Arc<Api>, name: &str, actor: Actor) -> ApiReply {
    let Some(running) = api.running().cloned() else { return not_running() };
    let Some(tested) = running.test_connection(name).await else { return not_there(name) };
    let event = json!({"action": "connection.test", "connection": name, "result": tested});
    told(&api, actor, event, &tested).await
}

/// Columns of tables, by which rules are checked.
pub(crate) async fn tables(api: Arc<Api>, name: &str, request: &ApiRequest) -> ApiReply {
    let wanted: Wanted = match serde_json::from_slice(&request.body) {
        Ok(wanted) => wanted,
        Err(error) => return failure(StatusCode::BAD_REQUEST, format!("the body names no tables: {error}")),
    };
    if wanted.tables.len() > TABLES_MAX {
        return failure(StatusCode::BAD_REQUEST, format!("at most {TABLES_MAX} tables at once"));
    }
    let Some(running) = api.running().cloned() else { return not_running() };
    let Some(seen) = running.look_at_tables(name, &wanted.tables).await else { return not_there(name) };
    let event = json!({"action": "connection.tables", "connection": name, "tables": wanted.tables});
    told(&api, request.actor.clone(), event, &seen).await
}

fn not_running() -> ApiReply {
    failure(StatusCode::CONFLICT, "no gateway runs on this folder; start it with 'hansard serve'")
}

fn not_there(name: &str) -> ApiReply {
    let why = format!("no connection '{name}'; 'hansard connection list' shows them");
    failure(StatusCode::NOT_FOUND, why)
}

/// The answer, once the record says that it was asked.
async fn told(api: &Api, actor: Actor, event: Value, answer: &Value) -> ApiReply {
    let draft = EventDraft {
        id: None,
        session: api.ledger.node_session(),
        kind: RecordKind::Admin,
        actor,
        client: Client::default(),
        status: Status::default(),
        outcome: Outcome::Ok,
        event,
    };
    match api.ledger.event(draft).await {
        Ok(_) => object(StatusCode::OK, answer),
        Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}
