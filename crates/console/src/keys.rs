//! Issuing and revoking virtual keys, each recorded.

use http::StatusCode;
use ledger::EventDraft;
use record::{Actor, Client, Outcome, PrincipalKind, RecordKind, Status};
use serde::Deserialize;
use serde_json::{Value, json};
use state::VirtualKey;
use std::sync::Arc;

use crate::api::{Api, ApiRequest};
use crate::stream::{ApiReply, failure, lines, object};

/// A key lives at most so long, in seconds.
const KEY_SECS_MAX: i64 = 400 * 86_400;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    principal: String,
    connection: String,
    #[serde(default)]
    task: String,
    #[serde(default = "agent")]
    kind: PrincipalKind,
    #[serde(default)]
    agent: String,
    #[serde(default)]
    groups: Vec<String>,
    ttl_secs: i64,
}

fn agent() -> PrincipalKind {
    PrincipalKind::Agent
}

pub(crate) async fn list(api: Arc<Api>) -> ApiReply {
    lines(move |out| {
        for key in api.keys.list().map_err(|error| error.to_string())? {
            if out.object(&key).is_break() {
                break;
            }
        }
        Ok(())
    })
}

pub(crate) async fn issue(api: Arc<Api>, request: ApiRequest) -> ApiReply {
    let wanted: Wanted = match serde_json::from_slice(&request.body) {
        Ok(wanted) => wanted,
        Err(error) => return failure(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let settings = api.settings();
    let found =
        settings.connections.iter().find(|connection| connection["name"] == wanted.connection.as_str());
    let Some(connection) = found else {
        return failure(
            StatusCode::NOT_FOUND,
            format!("no connection '{}'; 'hansard connection list' shows them", wanted.connection),
        );
    };
    if wanted.principal.is_empty() || !(1..=KEY_SECS_MAX).contains(&wanted.ttl_secs) {
        return failure(StatusCode::BAD_REQUEST, "a key needs a principal, and lives from 1 s to 400 days");
    }
    let project = connection["projects"][0].as_str().unwrap_or_default().to_owned();
    let made = {
        let (api, actor) = (api.clone(), request.actor.clone());
        tokio::task::spawn_blocking(move || make(&api, wanted, &project, &actor))
            .await
            .expect("making a key does not panic")
    };
    match made {
        Ok((key, file)) => {
            let event = json!({
                "action": "key.issue", "key": key.id, "principal": key.principal, "connection": key.connection,
                "kind": key.kind, "agent": key.agent, "groups": key.groups, "expires_at": key.expires_at,
            });
            match recorded(&api, request.actor, event).await {
                Ok(()) => object(StatusCode::OK, &json!({"key": key, "file": file})),
                Err(reply) => reply,
            }
        }
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

fn make(api: &Api, wanted: Wanted, project: &str, actor: &Actor) -> Result<(VirtualKey, Value), String> {
    let id = record::RecordId::new(api.clock.now()).0.simple().to_string();
    let email = format!("key-{id}@hansard.invalid");
    let token_uri = format!("{}/token", api.settings().public_url);
    let issued = registry::issue_virtual_key(&id, &email, project, &token_uri);
    let now = api.clock.now();
    let key = VirtualKey {
        id,
        email,
        principal: wanted.principal,
        connection: wanted.connection,
        task: wanted.task,
        kind: wanted.kind,
        agent: wanted.agent,
        groups: wanted.groups,
        issued_by: name_of(actor),
        issued_at: now,
        expires_at: now.plus_secs(wanted.ttl_secs),
        revoked_at: None,
        public_pem: issued.public_pem,
    };
    let file = serde_json::from_slice(issued.file.reveal()).map_err(|error| error.to_string())?;
    api.keys.insert(key.clone()).map_err(|error| error.to_string())?;
    Ok((key, file))
}

pub(crate) async fn revoke(api: Arc<Api>, id: &str, actor: Actor) -> ApiReply {
    let (owned, now) = (id.to_owned(), api.clock.now());
    let revoked = {
        let (api, id) = (api.clone(), owned.clone());
        tokio::task::spawn_blocking(move || api.keys.revoke(&id, now)).await.expect("revoking does not panic")
    };
    match revoked {
        Ok(true) => match recorded(&api, actor, json!({"action": "key.revoke", "key": owned})).await {
            Ok(()) => object(StatusCode::OK, &json!({"revoked": owned})),
            Err(reply) => reply,
        },
        Ok(false) => {
            failure(StatusCode::NOT_FOUND, format!("no live key '{owned}'; 'hansard key list' shows them"))
        }
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn recorded(api: &Api, actor: Actor, event: Value) -> Result<(), ApiReply> {
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
    let written = api.ledger.event(draft).await;
    written.map(|_| ()).map_err(|error| {
        failure(StatusCode::SERVICE_UNAVAILABLE, format!("it was done, but could not be recorded: {error}"))
    })
}

fn name_of(actor: &Actor) -> String {
    let said = actor.email.as_ref().or(actor.id.as_ref());
    said.map_or_else(|| actor.kind.as_str().to_owned(), |said| said.value.clone())
}
