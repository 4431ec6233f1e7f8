//! By whose word a session is opened and goes on.

use bytes::Bytes;
use http::Request;
use outbound::Fetcher;
use record::{Clock, SystemClock};
use registry::Secret;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::Failure;
use crate::exec::SessionArgs;
use crate::login;

const ANSWER_BYTES_MAX: usize = 256 * 1024;
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Where the principal's own credential comes from.
pub(super) enum Who {
    /// `hansard login`.
    SignedIn { gateway: String },
    /// A virtual key.
    Key { gateway: String, file: PathBuf },
    /// A token that something else keeps fresh: exchanged by RFC 8693.
    TokenFile { gateway: String, file: PathBuf },
}

impl Who {
    pub(super) fn new(args: &SessionArgs, gateway: &str) -> Self {
        let gateway = gateway.to_owned();
        match (&args.key, &args.token_file) {
            (Some(file), _) => Self::Key { gateway, file: file.clone() },
            (None, Some(file)) => Self::TokenFile { gateway, file: file.clone() },
            (None, None) => Self::SignedIn { gateway },
        }
    }

    /// A token of the principal's own.
    pub(super) async fn bearer(&self) -> Result<String, Failure> {
        match self {
            Self::SignedIn { gateway } => login::token(gateway).await,
            Self::Key { gateway, file } => {
                let read = std::fs::read(file)
                    .map_err(|error| Failure::usage(format!("the key {}: {error}", file.display())))?;
                let assertion = registry::key_assertion(&Secret::new(read), SystemClock.now())
                    .map_err(|error| Failure::usage(format!("the key {}: {error}", file.display())))?;
                let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
                granted(gateway, "/token", &[("grant_type", grant), ("assertion", &assertion)]).await
            }
            Self::TokenFile { gateway, file } => {
                let token = std::fs::read_to_string(file)
                    .map_err(|error| Failure::usage(format!("the token {}: {error}", file.display())))?;
                let form = [
                    ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                    ("subject_token", token.trim()),
                    ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
                ];
                granted(gateway, "/v1/token", &form).await
            }
        }
    }
}

async fn granted(gateway: &str, path: &str, form: &[(&str, &str)]) -> Result<String, Failure> {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = Request::post(format!("{gateway}{path}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Bytes::from(body).into())
        .map_err(|error| Failure::usage(error.to_string()))?;
    let (status, answer) = ask(gateway, request).await?;
    match answer["access_token"].as_str() {
        Some(token) if status.is_success() => Ok(token.to_owned()),
        _ => {
            let why = answer["error_description"].as_str().unwrap_or("it gave no reason");
            Err(Failure::no(format!("the gateway does not accept this credential: {why}")))
        }
    }
}

/// Asks the gateway; whatever keeps it from answering is said so that its reader can act.
pub(super) async fn ask(
    gateway: &str,
    request: Request<http_body_util::Full<Bytes>>,
) -> Result<(http::StatusCode, Value), Failure> {
    let fetcher = Fetcher::new().map_err(|error| Failure::other_side(error.to_string()))?;
    let answer = fetcher.send(request, ANSWER_BYTES_MAX, ANSWER_MAX).await.map_err(|error| {
        let why = error.to_string();
        Failure::other_side(match why.contains("UnknownIssuer") || why.contains("certificate") {
            true => format!(
                "this machine does not trust the certificate of {gateway} ({why}). Add its CA to the system's, or \
                 name it in SSL_CERT_FILE."
            ),
            false => format!("the gateway {gateway} can't be reached ({why}). Is it running, and the address right?"),
        })
    })?;
    Ok((answer.status(), serde_json::from_slice(answer.body()).unwrap_or_default()))
}
