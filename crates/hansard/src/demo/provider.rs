//! The demo's sign-in and its upstream token endpoint: an OpenID Connect issuer on loopback, for this run only.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use record::{Clock, SystemClock};
use registry::SigningKey;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::TcpListener;

use crate::cli::Failure;

/// The issuer, as long as the demo runs.
pub(crate) struct Provider {
    pub(crate) issuer: String,
    key: Arc<SigningKey>,
}

impl Provider {
    /// Takes a free loopback port and answers on it.
    pub(crate) async fn start() -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::other_side(format!("the demo's sign-in can't listen: {error}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let issuer = format!("http://{}", listener.local_addr().map_err(failed)?);
        let key = tokio::task::spawn_blocking(|| SigningKey::generate("demo")).await;
        let key = Arc::new(key.expect("making a key does not panic"));
        tokio::spawn(accept(listener, issuer.clone(), key.clone()));
        Ok(Self { issuer, key })
    }

    /// A token for a person of the demo.
    pub(crate) fn token(&self, email: &str, groups: &[&str]) -> String {
        token(&self.key, &self.issuer, email, groups)
    }
}

fn token(key: &SigningKey, issuer: &str, email: &str, groups: &[&str]) -> String {
    let now = SystemClock.now().secs();
    key.sign(&json!({
        "iss": issuer, "aud": "hansard", "sub": email, "email": email, "email_verified": true,
        "groups": groups, "iat": now, "exp": now + 3600,
    }))
}

async fn accept(listener: TcpListener, issuer: String, key: Arc<SigningKey>) {
    while let Ok((socket, _)) = listener.accept().await {
        let (issuer, key) = (issuer.clone(), key.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer(&request, &issuer, &key);
            async move { Ok::<_, Infallible>(answer) }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service),
        );
    }
}

fn answer(request: &Request<Incoming>, issuer: &str, key: &SigningKey) -> Response<Full<Bytes>> {
    let body: Value = match request.uri().path() {
        "/.well-known/openid-configuration" => json!({
            "issuer": issuer, "jwks_uri": format!("{issuer}/keys"), "token_endpoint": format!("{issuer}/token"),
            "response_types_supported": ["id_token"], "id_token_signing_alg_values_supported": ["RS256"],
        }),
        "/keys" => key.jwks(),
        // What Google's token endpoint is to a service account; the sandbox asks for no token.
        "/token" => {
            json!({"access_token": "the-sandbox-needs-none", "token_type": "Bearer", "expires_in": 3600})
        }
        "/sign-in/ada" => return text(token(key, issuer, "ada@example.com", &["data"])),
        _ => {
            let mut reply = text("no such page".to_owned());
            *reply.status_mut() = StatusCode::NOT_FOUND;
            return reply;
        }
    };
    let mut reply = text(body.to_string());
    reply.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    reply
}

fn text(text: String) -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from(text)))
}
