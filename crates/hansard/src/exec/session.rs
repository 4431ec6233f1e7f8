//! The recorded session of one `exec`: opened, kept fresh, closed.

use bytes::Bytes;
use http::{Request, StatusCode};
use record::Clock;
use serde_json::{Value, json};
use sidecar::Handed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::identity::{Who, ask};
use crate::cli::Failure;

/// A token is renewed when it has less than this left, in seconds, or half of its life if that is less.
const RENEW_BEFORE_SECS: i64 = 300;
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// Closing waits at most so long for the gateway.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// What a session is opened with.
pub(super) struct Opened {
    pub(super) connection: Option<String>,
    pub(super) agent: String,
    pub(super) task: String,
    pub(super) for_minutes: Option<u32>,
    pub(super) command: String,
}

/// An open session.
pub(super) struct Session {
    shared: Arc<Shared>,
    pub(super) id: String,
    pub(super) projects: Vec<String>,
    email: String,
}

struct Shared {
    gateway: String,
    who: Who,
    handed: Arc<Handed>,
    clock: Arc<dyn Clock>,
    /// Why no more tokens come.
    over: Mutex<Option<String>>,
}

impl Session {
    /// Opens it.
    pub(super) async fn open(
        gateway: &str,
        who: Who,
        opened: &Opened,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let bearer = who.bearer().await?;
        let wanted = json!({
            "connection": opened.connection, "agent": opened.agent, "task": opened.task,
            "for_minutes": opened.for_minutes, "command": opened.command,
        });
        let (status, answer) = ask(gateway, request(gateway, "sessions", &bearer, &wanted)?).await?;
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        if !status.is_success() {
            return Err(refused(gateway, status, &answer));
        }
        let (token, lives) = (text("access_token"), answer["expires_in"].as_i64().unwrap_or(0));
        let handed = Arc::new(Handed::new(token, clock.now().secs() + lives));
        let projects = answer["projects"].as_array().into_iter().flatten();
        let projects = projects.filter_map(Value::as_str).map(str::to_owned).collect();
        let shared = Shared { gateway: gateway.to_owned(), who, handed, clock, over: Mutex::new(None) };
        Ok(Self { shared: Arc::new(shared), id: text("session"), projects, email: text("email") })
    }

    pub(super) fn handed(&self) -> Arc<Handed> {
        self.shared.handed.clone()
    }

    /// Whom the clients take themselves for.
    pub(super) fn email(&self) -> String {
        if self.email.is_empty() { "session@hansard.invalid".to_owned() } else { self.email.clone() }
    }

    /// Keeps its token fresh until it is over.
    pub(super) fn renew(&self) -> tokio::task::JoinHandle<()> {
        let shared = self.shared.clone();
        tokio::spawn(async move {
            loop {
                let left = shared.handed.current().1 - shared.clock.now().secs();
                let wait = left - RENEW_BEFORE_SECS.min(left / 2);
                tokio::time::sleep(Duration::from_secs(wait.max(1) as u64)).await;
                while let Err(failure) = shared.renewed().await {
                    // A no stays a no; a gateway that is away comes back.
                    if failure.code == 1 {
                        *shared.over.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
                            Some(failure.message);
                        return;
                    }
                    tokio::time::sleep(RETRY_EVERY).await;
                }
            }
        })
    }

    /// Closes it, and tells what its user should know.
    pub(super) async fn close(self, exit_code: Option<u8>) -> Option<String> {
        let Shared { gateway, handed, over, .. } = &*self.shared;
        let refusals = handed.unrecorded_refusals();
        let body = json!({"exit_code": exit_code, "unrecorded_refusals": refusals});
        let closing = async {
            let (status, _) =
                ask(gateway, request(gateway, "sessions/close", &handed.current().0, &body)?).await?;
            Ok::<_, Failure>(status.is_success())
        };
        let closed = matches!(tokio::time::timeout(CLOSE_MAX, closing).await, Ok(Ok(true)));
        let mut said = Vec::new();
        if let Some(why) = over.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take() {
            said.push(format!("the session ended before the command: {why}"));
        } else if !closed {
            said.push(format!(
                "session {} could not be closed at {gateway}; its token expires by itself",
                self.id
            ));
        }
        if refusals > 0 {
            said.push(format!(
                "{refusals} requests were refused here while the gateway was away, unrecorded"
            ));
        }
        (!said.is_empty()).then(|| said.join("; "))
    }
}

impl Shared {
    async fn renewed(&self) -> Result<(), Failure> {
        let bearer = self.who.bearer().await?;
        let wanted = json!({"session_token": self.handed.current().0});
        let (status, answer) =
            ask(&self.gateway, request(&self.gateway, "sessions", &bearer, &wanted)?).await?;
        match (answer["access_token"].as_str(), answer["expires_in"].as_i64()) {
            (Some(token), Some(lives)) if status.is_success() => {
                self.handed.renew(token.to_owned(), self.clock.now().secs() + lives);
                Ok(())
            }
            _ => Err(refused(&self.gateway, status, &answer)),
        }
    }
}

fn refused(gateway: &str, status: StatusCode, answer: &Value) -> Failure {
    let why = answer["error"].as_str().map_or_else(|| format!("HTTP {}", status.as_u16()), str::to_owned);
    match status {
        StatusCode::NOT_FOUND if answer["error"].is_null() => {
            Failure::other_side(format!("{gateway} is no hansard gateway, or an older one"))
        }
        _ if status.is_server_error() => Failure::other_side(format!("{gateway}: {why}")),
        _ => Failure::no(why),
    }
}

fn request(
    gateway: &str,
    path: &str,
    bearer: &str,
    body: &Value,
) -> Result<Request<http_body_util::Full<Bytes>>, Failure> {
    Request::post(format!("{gateway}/api/v1/{path}"))
        .header("authorization", format!("Bearer {bearer}"))
        .header("content-type", "application/json")
        .header("user-agent", concat!("hansard/", env!("CARGO_PKG_VERSION")))
        .body(Bytes::from(body.to_string()).into())
        .map_err(|error| Failure::usage(error.to_string()))
}
