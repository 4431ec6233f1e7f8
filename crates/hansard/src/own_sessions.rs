//! Sessions that a principal opens by name: what `hansard exec` asks of the gateway.
//!
//! `POST /api/v1/sessions` opens one and gives its first token; with `session_token` it takes one up again.
//! `POST /api/v1/sessions/close` ends the session whose token asks. Whoever is signed in may do either.

use gateway::{Gateway, Reason, Reply, Request};
use http::{HeaderValue, StatusCode, header};
use identity::{Identified, Opening};
use ledger::{EventDraft, Ledger};
use record::{Client, Clock, Outcome, RecordKind, SessionId, Status};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::routes::{error, json as json_reply};
use crate::wiring::Rooms;

/// Names are at most so long, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Opens and closes them.
pub(crate) struct OwnSessions {
    gateway: Arc<Gateway<bigquery::BigQuery>>,
    ledger: Arc<Ledger>,
    ended: Arc<identity::EndedSessions>,
    clock: Arc<dyn Clock>,
}

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// A token of the session to take up again.
    session_token: Option<String>,
    connection: Option<String>,
    #[serde(default)]
    agent: String,
    #[serde(default)]
    task: String,
    for_minutes: Option<u32>,
    /// The command's words, for the record.
    #[serde(default)]
    command: String,
}

/// What a session's own process says of it at its end.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Closing {
    exit_code: Option<i64>,
    /// What was refused and could not be recorded, for the gateway was away.
    unrecorded_refusals: u64,
}

impl OwnSessions {
    pub(crate) fn new(gateway: Arc<Gateway<bigquery::BigQuery>>, rooms: &Rooms) -> Self {
        let (ledger, ended) = (rooms.ledger.clone(), rooms.api.ended.clone());
        Self { gateway, ledger, ended, clock: rooms.clock.clone() }
    }

    /// Opens a session, or takes one up again.
    pub(crate) async fn open(&self, who: &Identified, request: &Request, body: &[u8]) -> Reply {
        let Ok(wanted) = serde_json::from_slice::<Wanted>(body) else {
            return error(
                StatusCode::BAD_REQUEST,
                "a session is opened with JSON: connection, agent, task, for_minutes",
            );
        };
        if who.own.is_some() {
            return error(
                StatusCode::FORBIDDEN,
                "you are inside a session of 'hansard exec' already; another one is opened from outside",
            );
        }
        let rulebook = self.gateway.rulebook();
        if let Some(token) = &wanted.session_token {
            return match rulebook.identity.reopen(who, token) {
                Ok(within) => self.granted(&within, StatusCode::OK),
                Err(why) => error(StatusCode::UNAUTHORIZED, &format!("the session can't go on: {why}")),
            };
        }
        let too_long = [&wanted.agent, &wanted.task].iter().any(|name| name.len() > NAME_BYTES_MAX);
        if too_long || wanted.for_minutes == Some(0) {
            return error(StatusCode::BAD_REQUEST, "agent and task are short names, for_minutes is above 0");
        }
        let connection = match rulebook.connection_for(who, wanted.connection.as_deref()) {
            Ok(connection) => connection.name.to_string(),
            Err(refusal) => {
                let status = match refusal.reason {
                    Reason::Denied => StatusCode::FORBIDDEN,
                    _ => StatusCode::NOT_FOUND,
                };
                return error(status, &refusal.message);
            }
        };
        let now = self.clock.now();
        let ends = wanted.for_minutes.map(|minutes| now.secs() + 60 * i64::from(minutes));
        let session = SessionId::new(now);
        let (agent, task) = (wanted.agent, wanted.task);
        let opening = Opening { connection: connection.clone(), agent, task, ends };
        let within = rulebook.identity.open(who, session, opening);
        let mut command = wanted.command;
        command.truncate((0..=1024).rev().find(|at| command.is_char_boundary(*at)).unwrap_or(0));
        let event = json!({
            "action": "session.open", "session": session, "connection": connection, "command": command,
            "for_minutes": wanted.for_minutes,
        });
        match self.record(&within, session, request, event).await {
            Ok(()) => self.granted(&within, StatusCode::CREATED),
            Err(reply) => reply,
        }
    }

    /// Ends the session that asks. Its tokens are refused from then on; its jobs run on.
    pub(crate) async fn close(&self, who: &Identified, request: &Request, body: &[u8]) -> Reply {
        let closing: Closing = match body.is_empty() {
            true => Closing::default(),
            false => match serde_json::from_slice(body) {
                Ok(closing) => closing,
                Err(_) => {
                    return error(StatusCode::BAD_REQUEST, "exit_code and unrecorded_refusals are numbers");
                }
            },
        };
        let (Some(session), Some(_)) = (who.session, &who.own) else {
            return error(StatusCode::BAD_REQUEST, "only a session that was opened can be closed");
        };
        let event = json!({
            "action": "session.close", "session": session, "exit_code": closing.exit_code,
            "unrecorded_refusals": closing.unrecorded_refusals,
        });
        if let Err(reply) = self.record(who, session, request, event).await {
            return reply;
        }
        let (ended, now) = (self.ended.clone(), self.clock.now());
        match tokio::task::spawn_blocking(move || ended.end(session, now)).await {
            Ok(Ok(_)) => json_reply(StatusCode::OK, json!({"session": session, "closed": true}).to_string()),
            _ => error(StatusCode::SERVICE_UNAVAILABLE, "the session's end could not be kept; try again"),
        }
    }

    fn granted(&self, within: &Identified, status: StatusCode) -> Reply {
        let rulebook = self.gateway.rulebook();
        let session = within.session.expect("it was opened");
        let connection = within.connection.as_deref().unwrap_or_default();
        let projects: Vec<String> = rulebook
            .registry
            .connections
            .iter()
            .filter(|known| known.name.as_str() == connection)
            .flat_map(|known| known.projects.iter().cloned())
            .collect();
        let grant = rulebook.identity.issue(within, session);
        let body = json!({
            "session": session, "access_token": grant.access_token, "expires_in": grant.expires_in,
            "connection": connection, "projects": projects, "email": within.principal.email,
            "ends": within.own.as_ref().and_then(|own| own.ends),
        });
        let mut reply = json_reply(status, body.to_string());
        reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        reply
    }

    async fn record(
        &self,
        who: &Identified,
        session: SessionId,
        request: &Request,
        event: Value,
    ) -> Result<(), Reply> {
        let user_agent = request.head.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let draft = EventDraft {
            id: None,
            session,
            kind: RecordKind::Session,
            actor: who.actor(),
            client: Client {
                ip: request.client.ip.to_string(),
                user_agent: user_agent.unwrap_or_default().chars().take(NAME_BYTES_MAX).collect(),
            },
            status: Status::default(),
            outcome: Outcome::Ok,
            event,
        };
        match self.ledger.event(draft).await {
            Ok(_) => Ok(()),
            Err(why) => Err(error(StatusCode::SERVICE_UNAVAILABLE, &format!("it can't be recorded: {why}"))),
        }
    }
}
