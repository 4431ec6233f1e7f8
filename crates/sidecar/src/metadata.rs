//! The GCE metadata server that Google's libraries look for, and the token exchange of the session's credential
//! file. Both hand out the session's token, which is worthless at Google.
//!
//! Paths and headers: <https://cloud.google.com/compute/docs/metadata/overview>; what each library asks for was
//! seen on the wire.

use http::{HeaderValue, Method, Request, StatusCode, header};
use serde_json::json;

use crate::answer::{Answer, json as json_answer, text};
use crate::handed::Handed;
use crate::{EXCHANGE_PATH, SUBJECT_PATH};

const FLAVOR: &str = "metadata-flavor";
const SCOPES: &str = "https://www.googleapis.com/auth/cloud-platform\nhttps://www.googleapis.com/auth/bigquery\n\
    https://www.googleapis.com/auth/userinfo.email\n";
const FORM_BYTES_MAX: usize = 64 * 1024;
const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Whom the session's clients take themselves for.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) email: String,
    pub(crate) project: String,
}

/// Whether the metadata server is asked.
pub(crate) fn is_asked<B>(request: &Request<B>) -> bool {
    let path = request.uri().path();
    path.starts_with("/computeMetadata/")
        || path == SUBJECT_PATH
        || (path == "/" && request.headers().contains_key(FLAVOR))
}

/// Answers for the account. Whatever could be a browser's, or a redirected server's, is refused.
pub(crate) fn answer<B>(request: &Request<B>, account: &Account, handed: &Handed, now: i64) -> Answer {
    let headers = request.headers();
    let path = request.uri().path();
    let is_ping = path == "/";
    let flavored = headers.get(FLAVOR).is_some_and(|value| value == "Google");
    if headers.contains_key("x-forwarded-for") || (!flavored && !is_ping) {
        return text(
            StatusCode::FORBIDDEN,
            "a metadata request needs 'Metadata-Flavor: Google' and no X-Forwarded-For\n",
        );
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return flavor(text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n"));
    }
    let query = request.uri().query().unwrap_or_default();
    flavor(match path {
        "/" => text(StatusCode::OK, "computeMetadata/\n"),
        SUBJECT_PATH => subject(handed, now),
        _ => document(
            path.trim_start_matches("/computeMetadata").trim_matches('/'),
            query,
            account,
            handed,
            now,
        ),
    })
}

/// Below `/computeMetadata`.
fn document(path: &str, query: &str, account: &Account, handed: &Handed, now: i64) -> Answer {
    let Account { email, project } = account;
    let Some(path) = path.strip_prefix("v1") else { return text(StatusCode::OK, "v1/\n") };
    let path = path.trim_start_matches('/');
    let recursive = query.split('&').any(|pair| pair == "recursive=true");
    // An account goes by its name or as the default one.
    let own = path.strip_prefix("instance/service-accounts/").and_then(|rest| {
        let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
        (name == "default" || name == email).then_some(rest)
    });
    match (path, own) {
        (_, Some("token")) => token(handed, now),
        (_, Some("email")) => text(StatusCode::OK, email.clone()),
        (_, Some("scopes")) => text(StatusCode::OK, SCOPES),
        (_, Some("aliases")) => text(StatusCode::OK, "default\n"),
        // No identity is handed out: no token of Google's form is made here.
        (_, Some("identity")) => text(StatusCode::NOT_FOUND, "this session has no Google identity token\n"),
        (_, Some("")) if recursive => json_answer(StatusCode::OK, &service_account(email)),
        (_, Some("")) => text(StatusCode::OK, "aliases\nemail\nidentity\nscopes\ntoken\n"),
        ("instance/service-accounts", _) if recursive => json_answer(
            StatusCode::OK,
            &json!({"default": service_account(email), email: service_account(email)}),
        ),
        ("instance/service-accounts", _) => text(StatusCode::OK, format!("default/\n{email}/\n")),
        ("project/project-id", _) => text(StatusCode::OK, project.clone()),
        ("project/numeric-project-id", _) => text(StatusCode::OK, "1"),
        ("project", _) => text(StatusCode::OK, "numeric-project-id\nproject-id\n"),
        ("universe/universe-domain" | "universe/universe_domain", _) => {
            text(StatusCode::OK, "googleapis.com")
        }
        ("instance/zone", _) => text(StatusCode::OK, "projects/1/zones/us-central1-a"),
        ("instance/id", _) => text(StatusCode::OK, "1"),
        ("instance", _) => text(StatusCode::OK, "id\nservice-accounts/\nzone\n"),
        ("", _) => text(StatusCode::OK, "instance/\nproject/\nuniverse/\n"),
        _ => text(StatusCode::NOT_FOUND, "no such metadata\n"),
    }
}

fn service_account(email: &str) -> serde_json::Value {
    json!({"aliases": ["default"], "email": email, "scopes": SCOPES.lines().collect::<Vec<_>>()})
}

fn token(handed: &Handed, now: i64) -> Answer {
    let (token, expires_at) = handed.current();
    if expires_at <= now {
        return text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the session's token could not be renewed; see hansard's output\n",
        );
    }
    json_answer(
        StatusCode::OK,
        &json!({"access_token": token, "expires_in": expires_at - now, "token_type": "Bearer"}),
    )
}

fn subject(handed: &Handed, now: i64) -> Answer {
    let (token, expires_at) = handed.current();
    json_answer(StatusCode::OK, &json!({"id_token": token, "expires_in": expires_at - now}))
}

fn flavor(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(FLAVOR, HeaderValue::from_static("Google"));
    headers.insert(header::SERVER, HeaderValue::from_static("Metadata Server for VM"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Whether the credential file's token exchange is asked for.
pub(crate) fn is_exchange<B>(request: &Request<B>) -> bool {
    request.method() == Method::POST && request.uri().path() == EXCHANGE_PATH
}

/// The exchange (RFC 8693) of the session's token for itself; of any other, nothing.
pub(crate) async fn exchange<B>(request: Request<B>, handed: &Handed, now: i64) -> Answer
where
    B: hyper::body::Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    use http_body_util::{BodyExt, Limited};
    let body = Limited::new(request.into_body(), FORM_BYTES_MAX).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let subject = form_urlencoded::parse(&body).find(|(name, _)| name == "subject_token");
    let known = subject.is_some_and(|(_, token)| handed.knows(&token));
    let (token, expires_at) = handed.current();
    if !known || expires_at <= now {
        return json_answer(
            StatusCode::BAD_REQUEST,
            &json!({"error": "invalid_grant", "error_description": "this is not the session's token"}),
        );
    }
    json_answer(
        StatusCode::OK,
        &json!({
            "access_token": token, "issued_token_type": ACCESS_TOKEN_TYPE, "token_type": "Bearer",
            "expires_in": expires_at - now,
        }),
    )
}
