//! Where upstream tokens come from: a service-account key, or the machine's own credentials.

use bytes::Bytes;
use http::{Request, header};
use outbound::Fetcher;
use record::{Clock, Timestamp};
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::service_account::ServiceAccount;
use crate::{Secret, UpstreamToken};

/// A token is renewed when it has less than this left, in seconds.
const RENEW_BEFORE_SECS: i64 = 300;
/// What making tokens for other accounts needs.
const CLOUD_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const CLOUD_READ_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform.read-only";
/// Tokens of other accounts that are kept.
const ACTING_MAX: usize = 10_000;
const TOKEN_ANSWER_BYTES_MAX: usize = 64 * 1024;
const TOKEN_ANSWER_MAX: Duration = Duration::from_secs(20);

/// Mints tokens for one connection, one mint at a time.
pub struct Credential {
    source: Source,
    fetcher: Fetcher,
    clock: Arc<dyn Clock>,
    /// By scope: a method gets no wider a token than it needs.
    current: Mutex<HashMap<&'static str, UpstreamToken>>,
    /// Of accounts that it acts as, by account and scope.
    acting: Mutex<HashMap<(String, &'static str), UpstreamToken>>,
}

enum Source {
    ServiceAccount(Box<ServiceAccount>),
    AuthorizedUser(AuthorizedUser),
    Metadata { host: String },
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct AuthorizedUser {
    client_id: String,
    client_secret: String,
    refresh_token: String,
    #[serde(default)]
    token_uri: String,
}

/// Where the machine's application-default credentials may lie. The binary fills it from the environment.
#[derive(Clone, Debug, Default)]
pub struct AdcSources {
    /// `GOOGLE_APPLICATION_CREDENTIALS`
    pub file: Option<PathBuf>,
    /// gcloud's well-known file.
    pub well_known: Option<PathBuf>,
    /// `GCE_METADATA_HOST`, or the link-local address.
    pub metadata_host: String,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct TokenAnswer {
    access_token: String,
    #[serde(default)]
    expires_in: i64,
}

/// What `generateAccessToken` answers.
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(rename_all = "camelCase")]
struct ActingAnswer {
    access_token: String,
    expire_time: String,
}

impl Credential {
    /// From the bytes of a service-account key file.
    pub fn service_account(
        file: &Secret,
        fetcher: Fetcher,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CredentialError> {
        let source = Source::ServiceAccount(Box::new(ServiceAccount::parse(file)?));
        Ok(Self { source, fetcher, clock, current: Mutex::default(), acting: Mutex::default() })
    }

    /// From the machine's application-default credentials, in Google's order: file, gcloud's file, metadata.
    pub fn adc(
        sources: &AdcSources,
        fetcher: Fetcher,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CredentialError> {
        let file = sources.file.iter().chain(sources.well_known.iter().filter(|path| path.exists())).next();
        let source = match file {
            Some(path) => {
                let bytes = std::fs::read(path).map_err(|error| CredentialError::CannotRead {
                    path: path.clone(),
                    why: error.to_string(),
                })?;
                adc_file(&Secret::new(bytes))?
            }
            None => Source::Metadata { host: sources.metadata_host.clone() },
        };
        Ok(Self { source, fetcher, clock, current: Mutex::default(), acting: Mutex::default() })
    }

    /// Whose credential this is, as far as it says so.
    pub fn principal(&self) -> &str {
        match &self.source {
            Source::ServiceAccount(account) => &account.email,
            Source::AuthorizedUser(_) => "authorized user",
            Source::Metadata { .. } => "metadata server",
        }
    }

    /// A token for a scope, with time left. Whoever finds none left mints; everybody else waits for that one.
    pub async fn token(&self, scope: &'static str) -> Result<UpstreamToken, CredentialError> {
        let mut current = self.current.lock().await;
        let now = self.clock.now();
        let found = current.get(scope).cloned();
        if let Some(token) = found.as_ref().filter(|token| token.expires > now.plus_secs(RENEW_BEFORE_SECS)) {
            return Ok(token.clone());
        }
        match self.mint(scope, now).await {
            Ok(token) => {
                current.insert(scope, token.clone());
                Ok(token)
            }
            // A token that still lives is better than none while its issuer is away.
            Err(error) => found.filter(|token| token.expires > now).ok_or(error),
        }
    }

    /// The same for an account that this credential may act as (IAM Credentials API, `generateAccessToken`).
    pub(crate) async fn token_as(
        &self,
        account: &str,
        endpoint: &str,
        scope: &'static str,
    ) -> Result<UpstreamToken, CredentialError> {
        let (key, now) = ((account.to_owned(), scope), self.clock.now());
        let found = self.acting.lock().await.get(&key).cloned();
        if let Some(token) = found.filter(|token| token.expires > now.plus_secs(RENEW_BEFORE_SECS)) {
            return Ok(token);
        }
        let own = self.token(CLOUD_SCOPE).await?;
        let body = serde_json::json!({"scope": [scope], "lifetime": "3600s"}).to_string();
        let uri = format!("{endpoint}/v1/projects/-/serviceAccounts/{account}:generateAccessToken");
        let request = Request::post(uri)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, own.header())
            .body(Bytes::from(body).into());
        let answer = self.ask(request).await?;
        let parsed: ActingAnswer = serde_json::from_slice(&answer)
            .map_err(|_| CredentialError::TokenEndpoint("its answer is not a token".to_owned()))?;
        let expires: Timestamp = parsed
            .expire_time
            .parse()
            .map_err(|_| CredentialError::TokenEndpoint("its token has no end".to_owned()))?;
        let token = UpstreamToken::new(&parsed.access_token, expires)
            .ok_or_else(|| CredentialError::TokenEndpoint("its token is no header value".to_owned()))?;
        let mut acting = self.acting.lock().await;
        if acting.len() >= ACTING_MAX {
            acting.retain(|_, token| token.expires > now);
        }
        acting.insert(key, token.clone());
        Ok(token)
    }

    /// `projects.testIamPermissions` of Resource Manager v1.
    pub(crate) async fn granted(
        &self,
        endpoint: &str,
        project: &str,
        permissions: &[&str],
    ) -> Result<Vec<String>, CredentialError> {
        #[derive(Deserialize)]
        struct Granted {
            #[serde(default)]
            permissions: Vec<String>,
        }
        let own = self.token(CLOUD_READ_SCOPE).await?;
        let project = encoded(project);
        let request = Request::post(format!("{endpoint}/v1/projects/{project}:testIamPermissions"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, own.header())
            .body(Bytes::from(serde_json::json!({ "permissions": permissions }).to_string()).into());
        let answer = self.ask(request).await?;
        serde_json::from_slice(&answer)
            .map(|granted: Granted| granted.permissions)
            .map_err(|_| CredentialError::TokenEndpoint("its answer is no list of permissions".to_owned()))
    }

    async fn ask(
        &self,
        request: Result<Request<outbound::FullBody>, http::Error>,
    ) -> Result<Bytes, CredentialError> {
        let request = request.map_err(|_| CredentialError::BadTokenUri)?;
        let answer = self
            .fetcher
            .send(request, TOKEN_ANSWER_BYTES_MAX, TOKEN_ANSWER_MAX)
            .await
            .map_err(|error| CredentialError::TokenEndpoint(error.to_string()))?;
        match answer.status().is_success() {
            true => Ok(answer.into_body()),
            false => Err(CredentialError::TokenRefused(answer.status().as_u16())),
        }
    }

    async fn mint(&self, scope: &str, now: Timestamp) -> Result<UpstreamToken, CredentialError> {
        let request = match &self.source {
            Source::ServiceAccount(account) => {
                let assertion = account.assertion(scope, now)?;
                let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
                form_post(&account.token_uri, format!("grant_type={grant}&assertion={assertion}"))
            }
            Source::AuthorizedUser(user) => {
                let uri = if user.token_uri.is_empty() {
                    "https://oauth2.googleapis.com/token"
                } else {
                    &user.token_uri
                };
                let form = format!(
                    "grant_type=refresh_token&client_id={}&client_secret={}&refresh_token={}",
                    encoded(&user.client_id),
                    encoded(&user.client_secret),
                    encoded(&user.refresh_token)
                );
                form_post(uri, form)
            }
            Source::Metadata { host } => Request::get(format!(
                "http://{host}/computeMetadata/v1/instance/service-accounts/default/token?scopes={}",
                encoded(scope)
            ))
            .header("Metadata-Flavor", "Google")
            .body(Bytes::new().into()),
        };
        let answer = self.ask(request).await?;
        let parsed: TokenAnswer = serde_json::from_slice(&answer)
            .map_err(|_| CredentialError::TokenEndpoint("its answer is not a token".to_owned()))?;
        let life = if parsed.expires_in > 0 { parsed.expires_in } else { 3600 };
        UpstreamToken::new(&parsed.access_token, now.plus_secs(life))
            .ok_or_else(|| CredentialError::TokenEndpoint("its token is no header value".to_owned()))
    }
}

fn adc_file(file: &Secret) -> Result<Source, CredentialError> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type")]
        kind: String,
    }
    let kind: Kind = serde_json::from_slice(file.reveal())
        .map_err(|_| CredentialError::NotAKeyFile("not a credentials file".to_owned()))?;
    match kind.kind.as_str() {
        "service_account" => Ok(Source::ServiceAccount(Box::new(ServiceAccount::parse(file)?))),
        "authorized_user" => serde_json::from_slice(file.reveal())
            .map(Source::AuthorizedUser)
            .map_err(|_| CredentialError::NotAKeyFile("not an authorized_user file".to_owned())),
        other => Err(CredentialError::NotAKeyFile(format!(
            "credentials of type '{other}' can't be used; give a service_account or authorized_user file"
        ))),
    }
}

fn form_post(uri: &str, form: String) -> Result<Request<outbound::FullBody>, http::Error> {
    Request::post(uri)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json")
        .body(Bytes::from(form).into())
}

/// A value of a form or a query string.
fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Why there is no token. None of these quotes a secret.
#[derive(Debug)]
pub enum CredentialError {
    /// The connection acts as nobody else any more.
    NoImpersonation,
    NotAKeyFile(String),
    CannotRead {
        path: PathBuf,
        why: String,
    },
    CannotSign,
    BadTokenUri,
    TokenEndpoint(String),
    TokenRefused(u16),
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoImpersonation => f.write_str("the connection acts as nobody else any more"),
            Self::NotAKeyFile(why) => write!(f, "the credential can't be used: {why}"),
            Self::CannotRead { path, why } => write!(f, "can't read {}: {why}", path.display()),
            Self::CannotSign => f.write_str("the private key can't sign"),
            Self::BadTokenUri => f.write_str("the key's token_uri is not a URL"),
            Self::TokenEndpoint(why) => write!(f, "the token endpoint: {why}"),
            Self::TokenRefused(status) => {
                write!(f, "the token endpoint refused the credential (HTTP {status})")
            }
        }
    }
}

impl std::error::Error for CredentialError {}
