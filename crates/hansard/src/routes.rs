//! Who answers what on the one port.

use console::{Access, Api, ApiRequest};
use gateway::{Gateway, Metrics, Reason, Refusal, Reply, Request, Routes, full};
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Frame;
use identity::{Grant, GrantError};
use state::State;
use std::sync::Arc;

use crate::own_sessions::OwnSessions;
use crate::sign_in::{Form, SignInPages, form as form_of};
use crate::wiring::Rooms;

const FORM_BYTES_MAX: usize = 64 * 1024;
const API_BYTES_MAX: usize = 1024 * 1024;
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";
const SUBJECT_TOKEN_TYPES: &[&str] =
    &["urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token", ACCESS_TOKEN_TYPE];

/// Everything on the port.
pub(crate) struct AllRoutes {
    gateway: Arc<Gateway<bigquery::BigQuery>>,
    state: Arc<State>,
    api: Arc<Api>,
    metrics: Arc<Metrics>,
    pages: SignInPages,
    own_sessions: OwnSessions,
}

impl AllRoutes {
    pub(crate) fn new(
        gateway: Arc<Gateway<bigquery::BigQuery>>,
        rooms: &Rooms,
        metrics: Arc<Metrics>,
    ) -> Self {
        let public_url = rooms.api.settings().public_url.clone();
        let pages = SignInPages::new(gateway.clone(), rooms.ledger.clone(), rooms.clock.clone(), public_url);
        let own_sessions = OwnSessions::new(gateway.clone(), rooms);
        Self { gateway, state: rooms.state.clone(), api: rooms.api.clone(), metrics, pages, own_sessions }
    }

    async fn route(self: Arc<Self>, request: Request) -> Reply {
        if let Some(refusal) = reported(&request) {
            return Box::pin(self.gateway.refuse_request(request, refusal)).await;
        }
        if request.head.headers.contains_key(registry::API_HEADER) {
            return self.gateway.exchange(request).await;
        }
        let path = request.head.uri.path();
        // The long ones are boxed: else every exchange would have to have room for them.
        match (request.head.method.as_str(), path) {
            ("GET" | "HEAD", "/healthz") => text(StatusCode::OK, "alive\n"),
            ("GET" | "HEAD", "/readyz") => self.ready().await,
            ("GET", "/metrics") => self.metrics().await,
            ("POST", "/token" | "/v1/token") => Box::pin(self.token(request)).await,
            ("POST", "/v1/introspect") => self.introspect(request).await,
            ("GET" | "POST", path) if path.starts_with("/auth/") => Box::pin(self.sign_in(request)).await,
            ("POST", path) if path.starts_with("/api/v1/hooks/") => Box::pin(self.hook(request)).await,
            (_, path) if path.starts_with("/api/v1/") => Box::pin(self.api(request)).await,
            (_, "/batch" | "/batch/bigquery/v2") => self.gateway.clone().batch(request).await,
            ("GET", "/") => text(StatusCode::OK, HOME),
            // Everything else is the data path: what it does not know, it refuses and records.
            _ => self.gateway.exchange(request).await,
        }
    }

    async fn metrics(&self) -> Reply {
        let state = self.state.clone();
        let followed = tokio::task::spawn_blocking(move || state.followed()).await;
        let followed = followed.ok().and_then(Result::ok).unwrap_or(0);
        text(StatusCode::OK, &self.metrics.page(&self.api.ledger, followed, self.gateway.desk().pending()))
    }

    /// May serve: journal and state can be written, every provider's keys are there.
    async fn ready(&self) -> Reply {
        let state = self.state.clone();
        let writable = tokio::task::spawn_blocking(move || state.probe()).await;
        if !matches!(writable, Ok(Ok(()))) {
            return text(StatusCode::SERVICE_UNAVAILABLE, "state can't be written\n");
        }
        if let Err(error) = self.api.ledger.probe() {
            return text(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!("the journal can't be written: {error}\n"),
            );
        }
        match self.gateway.rulebook().identity.ready().await {
            true => text(StatusCode::OK, "ready\n"),
            false => text(StatusCode::SERVICE_UNAVAILABLE, "an identity provider's keys are missing\n"),
        }
    }

    /// Tokens: by a virtual key (RFC 7523), or by a sign-in.
    async fn token(&self, mut request: Request) -> Reply {
        let form = match read(&mut request, FORM_BYTES_MAX).await.map(String::from_utf8) {
            Some(Ok(text)) => form_of(&text),
            Some(Err(_)) => None,
            None => return oauth_error("invalid_request", "the form is too long"),
        };
        let Some(form) = form else {
            return oauth_error("invalid_request", "the form names something twice");
        };
        let granted = match form.get("grant_type").map(String::as_str) {
            Some(JWT_BEARER) => self.grant_by_key(&form),
            Some(TOKEN_EXCHANGE) => self.grant_by_token(&form).await,
            _ => self.pages.grant(&self.gateway.rulebook().identity, &form).await,
        };
        match granted {
            Ok(grant) => {
                let mut body = serde_json::json!({
                    "access_token": grant.access_token, "token_type": "Bearer", "expires_in": grant.expires_in,
                });
                if form.get("grant_type").is_some_and(|grant| grant == TOKEN_EXCHANGE) {
                    body["issued_token_type"] = ACCESS_TOKEN_TYPE.into();
                }
                if let Some(refresh) = grant.refresh_token {
                    body["refresh_token"] = refresh.into();
                }
                let mut reply = json(StatusCode::OK, body.to_string());
                reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                reply
            }
            Err(error) => {
                if let GrantError::InvalidGrant(stranger) = &error {
                    self.gateway.stranger_at_token(stranger, &request);
                }
                oauth_error(error.code(), &error.to_string())
            }
        }
    }

    fn grant_by_key(&self, form: &Form) -> Result<Grant, GrantError> {
        let assertion = form.get("assertion").ok_or(GrantError::InvalidRequest("assertion"))?;
        let rulebook = self.gateway.rulebook();
        let who = rulebook.identity.check_assertion(assertion)?;
        let session = self.gateway.session_of(&who);
        Ok(rulebook.identity.issue(&who, session))
    }

    /// Token exchange (RFC 8693): for a session's own token, or a JWT that would be good on the data path.
    async fn grant_by_token(&self, form: &Form) -> Result<Grant, GrantError> {
        let kind = form.get("subject_token_type").map(String::as_str).unwrap_or_default();
        if !SUBJECT_TOKEN_TYPES.contains(&kind) {
            return Err(GrantError::InvalidRequest("subject_token_type"));
        }
        if form.get("requested_token_type").is_some_and(|wanted| wanted != ACCESS_TOKEN_TYPE) {
            return Err(GrantError::InvalidRequest("requested_token_type"));
        }
        let token = form.get("subject_token").ok_or(GrantError::InvalidRequest("subject_token"))?;
        let rulebook = self.gateway.rulebook();
        let who = rulebook.identity.identify_token(token).await.map_err(GrantError::InvalidGrant)?;
        let session = self.gateway.session_of(&who);
        Ok(rulebook.identity.issue(&who, session))
    }

    /// Whose token it is (RFC 7662); gcloud asks for the name of whom it acts as.
    async fn introspect(&self, mut request: Request) -> Reply {
        let form = read(&mut request, FORM_BYTES_MAX).await.and_then(|body| String::from_utf8(body).ok());
        let token = form.and_then(|text| form_of(&text)).and_then(|mut form| form.remove("token"));
        let who = match &token {
            Some(token) => self.gateway.rulebook().identity.identify_token(token).await,
            None => return oauth_error("invalid_request", "the form has no usable 'token'"),
        };
        let body = match who {
            Ok(who) => serde_json::json!({
                "active": true, "username": who.actor().act_chain.first(), "exp": who.expires.secs(),
                "sub": who.principal.id, "token_type": "Bearer",
            }),
            Err(stranger) => {
                self.gateway.stranger_at_token(&stranger, &request);
                serde_json::json!({"active": false})
            }
        };
        json(StatusCode::OK, body.to_string())
    }

    async fn sign_in(&self, mut request: Request) -> Reply {
        match read(&mut request, FORM_BYTES_MAX).await.map(String::from_utf8) {
            Some(Ok(body)) => self.pages.answer(&request, &body).await,
            _ => error(StatusCode::BAD_REQUEST, "the form is too long, or no text"),
        }
    }

    /// A signed answer to what waits for a human.
    async fn hook(&self, mut request: Request) -> Reply {
        let Some(body) = read(&mut request, FORM_BYTES_MAX).await else {
            return error(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long");
        };
        let path = request.head.uri.path().to_owned();
        let name = path.strip_prefix("/api/v1/hooks/").unwrap_or_default();
        crate::webhooks::answer(&self.gateway, name, &request, &body).await
    }

    /// `/api/v1`, for those whose role allows it.
    async fn api(&self, mut request: Request) -> Reply {
        let rulebook = self.gateway.rulebook();
        let who = match rulebook.identity.identify(&request.head.headers).await {
            Ok(who) => who,
            Err(stranger) => {
                self.gateway.stranger_at_token(&stranger, &request);
                return error(
                    StatusCode::UNAUTHORIZED,
                    &format!("hansard does not know who asks: {stranger}"),
                );
            }
        };
        let mut who = who;
        rulebook.count_agents(&mut who);
        let path = request.head.uri.path().strip_prefix("/api/v1/").unwrap_or_default().to_owned();
        let method = request.head.method.clone();
        if method == Method::POST && (path == "sessions" || path == "sessions/close") {
            let Some(body) = read(&mut request, FORM_BYTES_MAX).await else {
                return error(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long");
            };
            return match path.as_str() {
                "sessions" => self.own_sessions.open(&who, &request, &body).await,
                _ => self.own_sessions.close(&who, &request, &body).await,
            };
        }
        let standing = rulebook.standing(&who);
        let allowed = match console::needs(&method, &path) {
            Access::SignedIn => true,
            Access::Read => standing.is_auditor || standing.is_admin,
            Access::Admin => standing.is_admin,
        };
        if !allowed {
            return error(
                StatusCode::FORBIDDEN,
                "your role does not allow this; [roles] of the configuration says who may",
            );
        }
        let Some(body) = read(&mut request, API_BYTES_MAX).await else {
            return error(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long");
        };
        let asked = ApiRequest {
            method,
            path,
            query: request.head.uri.query().unwrap_or_default().to_owned(),
            body: body.into(),
            actor: who.actor(),
            reads_all: standing.is_auditor || standing.is_admin,
        };
        let (head, body) = self.api.clone().answer(asked).await.into_parts();
        Response::from_parts(head, stream(body))
    }
}

impl Routes for AllRoutes {
    async fn answer(self: Arc<Self>, request: Request) -> Reply {
        self.route(request).await
    }
}

/// What the process beside a command must refuse, it sends here without body, to be refused and recorded:
/// `foreign-token SHA256` or `host NAME`.
fn reported(request: &Request) -> Option<Refusal> {
    let text = request.head.headers.get(sidecar::REFUSE_HEADER)?.to_str().unwrap_or_default();
    let said: String = text.chars().take(200).collect();
    let message = match said.split_once(' ') {
        Some(("foreign-token", sha256)) => format!(
            "Access Denied: the request carried a credential that is not this session's (SHA-256 {sha256}), and \
             hansard does not pass it on. Let the client find the session's own: remove key files and tokens."
        ),
        Some(("host", host)) => format!(
            "Access Denied: hansard does not let this session reach {host}. Ask the gateway's operator if a task \
             needs it."
        ),
        _ => "Access Denied: refused beside the command.".to_owned(),
    };
    Some(Refusal::new(Reason::Denied, message))
}

const HOME: &str = "hansard: the flight recorder and gatekeeper between AI agents and BigQuery.\n\
Point a BigQuery client at this address; read the record with 'hansard records'.\n";

/// The API's lines as a reply that is released line by line.
fn stream(mut body: console::ApiBody) -> gateway::ReplyBody {
    let (send, receive) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data()
                && send.send(Ok(Frame::data(data))).await.is_err()
            {
                return;
            }
        }
    });
    gateway::ReplyBody::Released(receive)
}

async fn read(request: &mut Request, bytes_max: usize) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    while let Some(part) = request.body.next().await {
        whole.extend_from_slice(&part.ok()?);
        if whole.len() > bytes_max {
            return None;
        }
    }
    Some(whole)
}

fn text(status: StatusCode, text: &str) -> Reply {
    reply(status, "text/plain; charset=utf-8", text.to_owned())
}

pub(crate) fn json(status: StatusCode, text: String) -> Reply {
    reply(status, "application/json; charset=UTF-8", text)
}

pub(crate) fn error(status: StatusCode, message: &str) -> Reply {
    json(status, serde_json::json!({ "error": message }).to_string())
}

fn oauth_error(kind: &str, description: &str) -> Reply {
    let body = bigquery::token_error(kind, description);
    let mut reply = Response::new(full(body));
    *reply.status_mut() = StatusCode::BAD_REQUEST;
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    reply
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(full(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// Named here so that a command's request and a browser's are built alike.
pub(crate) fn method(name: &str) -> Method {
    name.parse().expect("a method of ours")
}
