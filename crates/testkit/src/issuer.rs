//! A small OpenID Connect issuer on loopback, and the token endpoint of the gateway's own service account.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use registry::SigningKey;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::tap::serve;

/// The issuer.
pub struct Issuer {
    pub url: String,
    shared: Arc<Shared>,
}

struct Shared {
    url: Mutex<String>,
    keys: Mutex<Vec<SigningKey>>,
    key_fetches: AtomicU64,
    tokens_minted: AtomicU64,
}

/// What the gateway's credential is exchanged for; the upstream accepts nothing else.
pub const UPSTREAM_TOKEN: &str = "upstream-token-of-the-gateway";

impl Issuer {
    /// Answers on a free loopback port.
    pub async fn start() -> Self {
        let shared = Arc::new(Shared {
            url: Mutex::default(),
            keys: Mutex::new(vec![SigningKey::generate("k1")]),
            key_fetches: AtomicU64::new(0),
            tokens_minted: AtomicU64::new(0),
        });
        let answering = shared.clone();
        let url = serve(move |request| {
            let answer = answering.answer(&request);
            async move { answer }
        })
        .await;
        *shared.url.lock().unwrap() = url.clone();
        Self { url, shared }
    }

    /// A token for a person, with these groups, for an hour.
    pub fn token(&self, email: &str, groups: &[&str]) -> String {
        self.sign(self.claims(email, groups))
    }

    /// The claims of such a token, to change before signing.
    pub fn claims(&self, email: &str, groups: &[&str]) -> Value {
        let now = now();
        json!({
            "iss": self.url, "aud": "hansard", "sub": email, "email": email, "groups": groups,
            "iat": now, "exp": now + 3600, "jti": format!("t-{email}"),
        })
    }

    /// Signs any claims with the newest key.
    pub fn sign(&self, claims: Value) -> String {
        self.shared.keys.lock().unwrap().last().expect("it has a key").sign(&claims)
    }

    /// Signs with a new key from now on; the old ones are gone from the key set.
    pub fn rotate(&self) {
        let mut keys = self.shared.keys.lock().unwrap();
        let next = SigningKey::generate(&format!("k{}", keys.len() + 1));
        keys.clear();
        keys.push(next);
    }

    /// How often the key set was fetched.
    pub fn key_fetches(&self) -> u64 {
        self.shared.key_fetches.load(Ordering::Relaxed)
    }

    /// How many upstream tokens were minted.
    pub fn tokens_minted(&self) -> u64 {
        self.shared.tokens_minted.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let url = self.url.lock().unwrap().clone();
        let body = match request.uri().path() {
            "/.well-known/openid-configuration" => json!({"issuer": url, "jwks_uri": format!("{url}/keys")}),
            "/keys" => {
                self.key_fetches.fetch_add(1, Ordering::Relaxed);
                let keys = self.keys.lock().unwrap();
                let all: Vec<Value> = keys.iter().map(|key| key.jwks()["keys"][0].clone()).collect();
                json!({ "keys": all })
            }
            "/token" => {
                self.tokens_minted.fetch_add(1, Ordering::Relaxed);
                json!({"access_token": UPSTREAM_TOKEN, "token_type": "Bearer", "expires_in": 3600})
            }
            _ => return Response::builder().status(404).body(Full::default()).unwrap(),
        };
        Response::builder().header("content-type", "application/json").body(body.to_string().into()).unwrap()
    }
}

#[expect(clippy::disallowed_methods, reason = "tests make tokens for now")]
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

/// A gateway's token for a virtual key's file, as a client library gets it.
pub async fn token_by_key(file: &std::path::Path) -> String {
    let file = registry::Secret::new(std::fs::read(file).expect("a key file"));
    let fetcher = outbound::Fetcher::new().expect("a client");
    let credential =
        registry::Credential::service_account(&file, fetcher, std::sync::Arc::new(record::SystemClock));
    let token = credential.expect("a key").token("scope").await.expect("the gateway grants it");
    let header = token.header();
    header.to_str().expect("ASCII").trim_start_matches("Bearer ").to_owned()
}
