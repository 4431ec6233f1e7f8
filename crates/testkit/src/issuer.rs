//! A small OpenID Connect issuer on loopback, and the token endpoint of the gateway's own service account.

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use registry::SigningKey;
use serde_json::{Value, json};
use std::collections::HashMap;
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
    /// Who is signed in at the provider, and what codes stand for.
    person: Mutex<(String, Vec<String>)>,
    codes: Mutex<HashMap<String, Asked>>,
    acted_as: Mutex<Vec<String>>,
}

/// What an authorization request asked for.
struct Asked {
    redirect_uri: String,
    nonce: String,
    challenge: String,
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
            person: Mutex::new(("alice@example.com".to_owned(), vec!["data".to_owned()])),
            codes: Mutex::default(),
            acted_as: Mutex::default(),
        });
        let answering = shared.clone();
        let url = serve(move |request| {
            let answering = answering.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                answering.answer(&head.uri, &String::from_utf8_lossy(&body))
            }
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

    /// Who signs in from now on, without being asked.
    pub fn person(&self, email: &str, groups: &[&str]) {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        *self.shared.person.lock().unwrap() = (email.to_owned(), groups);
    }

    /// Signs any claims with the newest key.
    pub fn sign(&self, claims: Value) -> String {
        self.shared.keys.lock().unwrap().last().expect("it has a key").sign(&claims)
    }

    /// Signs a header and claims as they are given.
    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        self.shared.keys.lock().unwrap().last().expect("it has a key").sign_text(header, claims)
    }

    /// The key set, as anybody can fetch it.
    pub fn public_keys(&self) -> Value {
        self.shared.keys.lock().unwrap().last().expect("it has a key").jwks()
    }

    /// Signs with a new key from now on; the old ones are gone from the key set.
    pub fn rotate(&self) {
        let mut keys = self.shared.keys.lock().unwrap();
        let next = SigningKey::generate(&format!("k{}", keys.len() + 1));
        keys.clear();
        keys.push(next);
    }

    /// Accounts that tokens were made for, in order.
    pub fn acted_as(&self) -> Vec<String> {
        self.shared.acted_as.lock().unwrap().clone()
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
    fn answer(&self, uri: &http::Uri, body: &str) -> Response<Full<Bytes>> {
        let url = self.url.lock().unwrap().clone();
        let body = match uri.path() {
            "/.well-known/openid-configuration" => json!({
                "issuer": url, "jwks_uri": format!("{url}/keys"), "authorization_endpoint": format!("{url}/authorize"),
                "token_endpoint": format!("{url}/oidc/token"), "authorization_response_iss_parameter_supported": true,
            }),
            "/authorize" => return self.authorize(&url, uri.query().unwrap_or_default()),
            "/oidc/token" => match self.redeem(&url, body) {
                Some(tokens) => tokens,
                None => return Response::builder().status(400).body(Full::default()).unwrap(),
            },
            "/keys" => {
                self.key_fetches.fetch_add(1, Ordering::Relaxed);
                let keys = self.keys.lock().unwrap();
                let all: Vec<Value> = keys.iter().map(|key| key.jwks()["keys"][0].clone()).collect();
                json!({ "keys": all })
            }
            path if path.ends_with(":generateAccessToken") => {
                let account =
                    path.rsplit('/').next().unwrap_or_default().trim_end_matches(":generateAccessToken");
                self.acted_as.lock().unwrap().push(account.to_owned());
                json!({"accessToken": UPSTREAM_TOKEN, "expireTime": "2999-01-01T00:00:00Z"})
            }
            path if path.ends_with(":testIamPermissions") => {
                json!({"permissions": ["bigquery.jobs.create", "iam.serviceAccountKeys.create"]})
            }
            "/token" => {
                self.tokens_minted.fetch_add(1, Ordering::Relaxed);
                json!({"access_token": UPSTREAM_TOKEN, "token_type": "Bearer", "expires_in": 3600})
            }
            _ => return Response::builder().status(404).body(Full::default()).unwrap(),
        };
        Response::builder().header("content-type", "application/json").body(body.to_string().into()).unwrap()
    }

    /// Everybody is signed in already, so the browser goes straight back.
    fn authorize(&self, url: &str, query: &str) -> Response<Full<Bytes>> {
        let form: HashMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        assert_eq!((form["client_id"].as_str(), form["response_type"].as_str()), ("hansard", "code"));
        assert_eq!(form["code_challenge_method"], "S256");
        let mut codes = self.codes.lock().unwrap();
        let code = format!("code-{}", codes.len());
        let back = form_urlencoded::Serializer::new(String::new())
            .append_pair("code", &code)
            .append_pair("state", &form["state"])
            .append_pair("iss", url)
            .finish();
        let location = format!("{}?{back}", form["redirect_uri"]);
        let asked = Asked {
            redirect_uri: form["redirect_uri"].clone(),
            nonce: form["nonce"].clone(),
            challenge: form["code_challenge"].clone(),
        };
        codes.insert(code, asked);
        Response::builder().status(302).header("location", location).body(Full::default()).unwrap()
    }

    fn redeem(&self, url: &str, body: &str) -> Option<Value> {
        use base64::Engine;
        let form: HashMap<String, String> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let asked = self.codes.lock().unwrap().remove(&form["code"])?;
        let challenge = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .encode(registry::fingerprint(form.get("code_verifier")?));
        if asked.challenge != challenge || asked.redirect_uri != form["redirect_uri"] {
            return None;
        }
        let (email, groups) = self.person.lock().unwrap().clone();
        let claims = json!({
            "iss": url, "aud": "hansard", "sub": email, "email": email, "groups": groups, "nonce": asked.nonce,
            "iat": now(), "exp": now() + 600,
        });
        let id_token = self.keys.lock().unwrap().last().expect("it has a key").sign(&claims);
        Some(
            json!({"access_token": "opaque", "token_type": "Bearer", "expires_in": 600, "id_token": id_token}),
        )
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
