//! Trying a connection's credential, recorded.

use http::StatusCode;
use ledger::EventDraft;
use record::{Actor, Client, Outcome, RecordKind, Status};
use serde_json::json;
use std::sync::Arc;

use crate::api::Api;
use crate::stream::{ApiReply, failure, object};

pub(crate) async fn test(api: Arc<Api>, name: &str, actor: Actor) -> ApiReply {
    let Some(running) = api.running().cloned() else {
        return failure(
            StatusCode::CONFLICT,
            "no gateway runs on this folder; start it with 'hansard serve'",
        );
    };
    let Some(tested) = running.test_connection(name).await else {
        return failure(
            StatusCode::NOT_FOUND,
            format!("no connection '{name}'; 'hansard connection list' shows them"),
        );
    };
    let draft = EventDraft {
        id: None,
        session: api.ledger.node_session(),
        kind: RecordKind::Admin,
        actor,
        client: Client::default(),
        status: Status::default(),
        outcome: Outcome::Ok,
        event: json!({"action": "connection.test", "connection": name, "result": tested}),
    };
    match api.ledger.event(draft).await {
        Ok(_) => object(StatusCode::OK, &tested),
        Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}
