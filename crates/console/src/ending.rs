//! Ending a session, recorded in the session itself.

use http::StatusCode;
use ledger::EventDraft;
use record::{Actor, Client, Outcome, RecordKind, SessionId, Status};
use serde_json::json;
use std::sync::Arc;

use crate::api::Api;
use crate::stream::{ApiReply, failure, object};

pub(crate) async fn end(api: Arc<Api>, id: &str, actor: Actor) -> ApiReply {
    let Ok(session) = id.parse::<SessionId>() else {
        return failure(StatusCode::BAD_REQUEST, "a session is named by its UUID");
    };
    let Some(running) = api.running().cloned() else {
        return failure(StatusCode::CONFLICT, "no gateway runs on this folder, so no session is open");
    };
    let known = {
        let api = api.clone();
        tokio::task::spawn_blocking(move || api.ledger.session(session))
            .await
            .expect("reading does not panic")
    };
    match known {
        Ok(Some(_)) => {}
        Ok(None) => return failure(StatusCode::NOT_FOUND, format!("no session {session}")),
        Err(error) => return failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
    let draft = EventDraft {
        id: None,
        session,
        kind: RecordKind::Session,
        actor,
        client: Client::default(),
        status: Status::default(),
        outcome: Outcome::Ok,
        event: json!({"action": "session.end", "session": session}),
    };
    let is_new = {
        let (api, now) = (api.clone(), api.clock.now());
        tokio::task::spawn_blocking(move || api.ended.end(session, now)).await.expect("ending does not panic")
    };
    match is_new {
        Ok(true) => {}
        Ok(false) => return failure(StatusCode::NOT_FOUND, format!("session {session} has ended already")),
        Err(error) => return failure(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
    let cause = match api.ledger.event(draft).await {
        Ok(cause) => cause,
        Err(error) => return failure(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    };
    match running.end_session(session, cause).await {
        Ok(cancelled) => {
            object(StatusCode::OK, &json!({"session": session, "cancelled": cancelled, "record": cause}))
        }
        Err(why) => failure(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}
