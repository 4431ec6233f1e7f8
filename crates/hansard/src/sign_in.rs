//! `/auth/*`: the pages of a sign-in, and the grants that end one.

use gateway::{Gateway, Reply, Request, full};
use http::{HeaderValue, Response, StatusCode, header};
use identity::{Grant, GrantError, Identified, Identity, SignIns, Then};
use ledger::{EventDraft, Ledger};
use record::{Client, Clock, Outcome, RecordKind, Status};
use serde_json::json;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

/// Ties a browser to the sign-in that it began.
const COOKIE: &str = "hansard_sign_in";

/// The sign-in's pages.
pub(crate) struct SignInPages {
    gateway: Arc<Gateway<bigquery::BigQuery>>,
    ledger: Arc<Ledger>,
    clock: Arc<dyn Clock>,
    public_url: String,
    sign_ins: SignIns,
}

/// Names and values of a form or a query string; of one that stands twice, none.
pub(crate) type Form = HashMap<String, String>;

pub(crate) fn form(text: &str) -> Option<Form> {
    let mut form = Form::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        if form.insert(name.into_owned(), value.into_owned()).is_some() {
            return None;
        }
    }
    Some(form)
}

impl SignInPages {
    pub(crate) fn new(
        gateway: Arc<Gateway<bigquery::BigQuery>>,
        ledger: Arc<Ledger>,
        clock: Arc<dyn Clock>,
        public_url: String,
    ) -> Self {
        Self { gateway, ledger, clock, public_url, sign_ins: SignIns::default() }
    }

    /// Answers a request below `/auth/`, whose body was read.
    pub(crate) async fn answer(&self, request: &Request, body: &str) -> Reply {
        let path = request.head.uri.path().to_owned();
        let is_post = request.head.method == http::Method::POST;
        let text = if is_post { body } else { request.head.uri.query().unwrap_or_default() };
        let Some(form) = form(text) else {
            return page(StatusCode::BAD_REQUEST, "This request names something twice.", "");
        };
        match (is_post, path.as_str()) {
            (false, "/auth/login") => self.login(&form).await,
            (false, "/auth/callback") => self.callback(request, &form).await,
            (false, "/auth/device") => self.device_page(&form).await,
            (true, "/auth/device") if form.contains_key("confirm") => {
                self.device_answer(request, &form).await
            }
            (true, "/auth/device") => self.device(),
            (true, "/auth/logout") => self.logout(request, &form).await,
            _ => page(StatusCode::NOT_FOUND, "There is no such page.", ""),
        }
    }

    /// A command on the browser's machine wants its user signed in (RFC 8252 section 7.3).
    async fn login(&self, form: &Form) -> Reply {
        let value = |name: &str| form.get(name).cloned().unwrap_or_default();
        let (redirect_uri, challenge) = (value("redirect_uri"), value("code_challenge"));
        if !is_loopback(&redirect_uri) {
            return page(
                StatusCode::BAD_REQUEST,
                "This sign-in would send your browser to another machine.",
                "Begin it with <code>hansard login</code>, which listens on this machine's own address.",
            );
        }
        if challenge.len() != 43 || value("code_challenge_method") != "S256" {
            return page(StatusCode::BAD_REQUEST, "This sign-in has no PKCE challenge.", "");
        }
        self.begin(form, Then::Command { redirect_uri, state: value("state"), challenge }).await
    }

    /// Sends the browser to the one provider, or lets a person choose.
    async fn begin(&self, form: &Form, then: Then) -> Reply {
        let rulebook = self.gateway.rulebook();
        let providers = rulebook.identity.providers();
        let chosen = match (form.get("provider"), providers) {
            (Some(name), _) => providers.iter().find(|provider| provider.name() == name),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        let Some(provider) = chosen else {
            return choose(form, providers.iter().map(|provider| provider.name()), &then);
        };
        match self.sign_ins.begin(provider, &self.callback_address(), then, self.clock.now()).await {
            Ok(asked) => {
                let mut reply = redirect(&asked.location);
                let secure = if self.public_url.starts_with("https://") { "; Secure" } else { "" };
                let cookie = format!(
                    "{COOKIE}={}; Path=/auth; Max-Age=600; HttpOnly; SameSite=Lax{secure}",
                    asked.cookie
                );
                let cookie = HeaderValue::from_str(&cookie).expect("base64 is a header value");
                reply.headers_mut().insert(header::SET_COOKIE, cookie);
                reply
            }
            Err(why) => {
                tracing::warn!(provider = provider.name(), why, "sign-in can't begin");
                page(StatusCode::BAD_GATEWAY, "The identity provider can't be reached.", &escaped(&why))
            }
        }
    }

    fn callback_address(&self) -> String {
        format!("{}/auth/callback", self.public_url)
    }

    async fn callback(&self, request: &Request, form: &Form) -> Reply {
        let rulebook = self.gateway.rulebook();
        let providers = rulebook.identity.providers();
        let cookie = cookie(request);
        let now = self.clock.now();
        let finished = self.sign_ins.finish(providers, &self.callback_address(), form, &cookie, now).await;
        let signed_in = match finished {
            Ok(signed_in) => signed_in,
            Err(why) => {
                self.record(request, None, json!({"action": "sign_in", "why": why}), Outcome::Refused).await;
                return page(StatusCode::FORBIDDEN, "You are not signed in.", &escaped(&why));
            }
        };
        match signed_in.then {
            Then::Command { redirect_uri, state, challenge } => {
                let event = json!({"action": "sign_in", "for": "command"});
                self.record(request, Some(&signed_in.who), event, Outcome::Ok).await;
                let code = self.sign_ins.code(signed_in.who, redirect_uri.clone(), challenge, now);
                let query = form_urlencoded::Serializer::new(String::new())
                    .append_pair("code", &code)
                    .append_pair("state", &state)
                    .finish();
                let mark = if redirect_uri.contains('?') { '&' } else { '?' };
                redirect(&format!("{redirect_uri}{mark}{query}"))
            }
            Then::Device { user_code } => self.confirm_page(&user_code, signed_in.who),
        }
    }

    /// Approved by hand: whoever follows a stranger's link must see what it would do (RFC 8628 section 5.4).
    fn confirm_page(&self, user_code: &str, who: Identified) -> Reply {
        let name = named(&who);
        let Some(confirm) = self.sign_ins.ask_for_device(user_code, who, self.clock.now()) else {
            return page(StatusCode::NOT_FOUND, "No device waits with this code.", "");
        };
        let form = format!(
            "<p>A device shows the code <strong>{}</strong>. If it is yours and you began this, it will act as \
             <strong>{}</strong>. If somebody sent you here, refuse.</p>\
             <form method=\"post\" action=\"/auth/device\"><input type=\"hidden\" name=\"confirm\" value=\"{confirm}\">\
             <button name=\"answer\" value=\"approve\">Sign the device in</button> \
             <button name=\"answer\" value=\"refuse\">Refuse</button></form>",
            escaped(user_code),
            escaped(&name)
        );
        page(StatusCode::OK, "Sign a device in?", &form)
    }

    fn device(&self) -> Reply {
        let device = self.sign_ins.device(self.clock.now());
        let at = format!("{}/auth/device", self.public_url);
        let body = json!({
            "device_code": device.device_code, "user_code": device.user_code, "verification_uri": at,
            "verification_uri_complete": format!("{at}?user_code={}", device.user_code),
            "expires_in": device.expires_in, "interval": device.interval,
        });
        no_store(crate::routes::json(StatusCode::OK, body.to_string()))
    }

    async fn device_page(&self, form: &Form) -> Reply {
        match form.get("user_code") {
            Some(code) if self.sign_ins.device_waits(code, self.clock.now()) => {
                self.begin(form, Then::Device { user_code: code.clone() }).await
            }
            Some(_) => page(StatusCode::NOT_FOUND, "No device waits with this code.", DEVICE_FORM),
            None => page(StatusCode::OK, "Sign a device in", DEVICE_FORM),
        }
    }

    async fn device_answer(&self, request: &Request, form: &Form) -> Reply {
        let approved = form.get("answer").is_some_and(|answer| answer == "approve");
        let confirm = form.get("confirm").cloned().unwrap_or_default();
        let Some(who) = self.sign_ins.answer_device(&confirm, approved, self.clock.now()) else {
            return page(StatusCode::NOT_FOUND, "This page is too old; begin again.", "");
        };
        let outcome = if approved { Outcome::Ok } else { Outcome::Refused };
        self.record(request, Some(&who), json!({"action": "sign_in", "for": "device"}), outcome).await;
        match approved {
            true => page(StatusCode::OK, "The device is signed in.", "You may close this page."),
            false => page(StatusCode::OK, "The device was refused.", "You may close this page."),
        }
    }

    /// The grants of `/token` that end a sign-in or renew one.
    pub(crate) async fn grant(&self, identity: &Arc<Identity>, form: &Form) -> Result<Grant, GrantError> {
        let value = |name: &'static str| form.get(name).cloned().ok_or(GrantError::InvalidRequest(name));
        let now = self.clock.now();
        let who = match form.get("grant_type").map(String::as_str) {
            Some("authorization_code") => {
                let (code, verifier) = (value("code")?, value("code_verifier")?);
                self.sign_ins.redeem(&code, &verifier, &value("redirect_uri")?, now)?
            }
            Some("urn:ietf:params:oauth:grant-type:device_code") => {
                self.sign_ins.poll_device(&value("device_code")?, now)?
            }
            Some("refresh_token") => {
                let (logins, refresh) = (identity.logins().clone(), value("refresh_token")?);
                let renewed = tokio::task::spawn_blocking(move || logins.renew(&refresh, now)).await;
                let renewed = renewed.ok().and_then(Result::ok).flatten().ok_or(GrantError::NotGood)?;
                return Ok(self.issue(identity, renewed));
            }
            _ => return Err(GrantError::UnsupportedGrantType),
        };
        let logins = identity.logins().clone();
        let begun = tokio::task::spawn_blocking(move || logins.begin(who, now)).await;
        let begun = begun.ok().and_then(Result::ok).ok_or(GrantError::NotGood)?;
        Ok(self.issue(identity, begun))
    }

    fn issue(&self, identity: &Identity, (who, refresh): (Identified, String)) -> Grant {
        let session = self.gateway.session_of(&who);
        Grant { refresh_token: Some(refresh), ..identity.issue(&who, session) }
    }

    async fn logout(&self, request: &Request, form: &Form) -> Reply {
        let (logins, now) = (self.gateway.rulebook().identity.logins().clone(), self.clock.now());
        let token = form.get("token").cloned().unwrap_or_default();
        let ended = tokio::task::spawn_blocking(move || logins.end(&token, now)).await;
        match ended {
            Ok(Ok(ended)) => {
                if ended {
                    self.record(request, None, json!({"action": "sign_out"}), Outcome::Ok).await;
                }
                // RFC 7009 section 2.2: a token that is not known is as good as revoked.
                no_store(crate::routes::json(StatusCode::OK, json!({ "ended": ended }).to_string()))
            }
            _ => crate::routes::error(
                StatusCode::SERVICE_UNAVAILABLE,
                "the sign-in could not be ended; try again",
            ),
        }
    }

    async fn record(
        &self,
        request: &Request,
        who: Option<&Identified>,
        event: serde_json::Value,
        outcome: Outcome,
    ) {
        let nobody = record::Actor { kind: record::ActorKind::Unknown, ..Ledger::gateway_actor() };
        let reason = if outcome == Outcome::Refused { "sign_in" } else { "" };
        let draft = EventDraft {
            id: None,
            session: self.ledger.node_session(),
            kind: RecordKind::Auth,
            actor: who.map_or(nobody, Identified::actor),
            client: Client { ip: request.client.ip.to_string(), ..Client::default() },
            status: Status { reason: reason.to_owned(), ..Status::default() },
            outcome,
            event,
        };
        // Before a principal is known nothing waits for the disk.
        if who.is_none() {
            self.ledger.event_unwaited(draft);
        } else if let Err(error) = self.ledger.event(draft).await {
            tracing::error!(%error, "a sign-in can't be recorded");
        }
    }
}

const DEVICE_FORM: &str = "<form action=\"/auth/device\"><label>The code that the device shows: \
    <input name=\"user_code\" autocomplete=\"off\" autofocus placeholder=\"ABCD-EFGH\"></label> \
    <button>Go on</button></form>";

/// Which provider? The choice leads to the same page again.
fn choose<'a>(form: &Form, providers: impl Iterator<Item = &'a str>, then: &Then) -> Reply {
    let path = match then {
        Then::Command { .. } => "/auth/login",
        Then::Device { .. } => "/auth/device",
    };
    let mut links = String::new();
    for provider in providers {
        let mut query = form_urlencoded::Serializer::new(String::new());
        form.iter().filter(|(name, _)| *name != "provider").for_each(|(name, value)| {
            query.append_pair(name, value);
        });
        query.append_pair("provider", provider);
        let (query, name) = (escaped(&query.finish()), escaped(provider));
        let _ = write!(links, "<li><a href=\"{path}?{query}\">{name}</a></li>");
    }
    match links.is_empty() {
        true => page(
            StatusCode::NOT_FOUND,
            "No identity provider is configured.",
            "Use <code>hansard key issue</code>.",
        ),
        false => page(StatusCode::OK, "Sign in at", &format!("<ul>{links}</ul>")),
    }
}

/// Only the machine that the browser runs on (RFC 8252 section 8.3).
fn is_loopback(redirect_uri: &str) -> bool {
    let Ok(uri) = redirect_uri.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default();
    uri.scheme_str() == Some("http")
        && matches!(host, "127.0.0.1" | "[::1]" | "localhost")
        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
}

fn cookie(request: &Request) -> String {
    let cookies = request.head.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut found = cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    found.find(|(name, _)| *name == COOKIE).map(|(_, value)| value.to_owned()).unwrap_or_default()
}

fn named(who: &Identified) -> String {
    let principal = &who.principal;
    if principal.email.is_empty() { principal.id.clone() } else { principal.email.clone() }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

fn redirect(location: &str) -> Reply {
    let mut reply = Response::new(full(""));
    *reply.status_mut() = StatusCode::FOUND;
    match HeaderValue::from_str(location) {
        Ok(location) => drop(reply.headers_mut().insert(header::LOCATION, location)),
        Err(_) => *reply.status_mut() = StatusCode::BAD_GATEWAY,
    }
    no_store(reply)
}

fn no_store(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// A page of one sentence. What stands in `inner` is ours, or escaped.
fn page(status: StatusCode, title: &str, inner: &str) -> Reply {
    let body = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>hansard</title><style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;\
         padding:0 1rem}}button{{font:inherit;padding:.4rem 1rem}}input{{font:inherit}}</style>\
         <h1>{title}</h1><div>{inner}</div></html>"
    );
    let mut reply = Response::new(full(body));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
    );
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    no_store(reply)
}
