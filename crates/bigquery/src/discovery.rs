//! The API's discovery document, with the gateway's own address in it.

use bytes::Bytes;
use gateway::{Answer, Forwardable};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

use crate::forward::{failed, own_address, plain_get};
use crate::methods::Shape;
use crate::understand::Plan;
use crate::{BigQuery, answer};

const DOCUMENT_BYTES_MAX: usize = 4 * 1024 * 1024;
const DOCUMENT_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// A document of a file, or of the upstream, kept for a day.
pub(crate) struct Discovery {
    file: Option<PathBuf>,
    kept: Mutex<Option<(Instant, Bytes)>>,
}

impl Discovery {
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self { file, kept: Mutex::new(None) }
    }
}

/// Answers with the document.
pub(crate) async fn answer(bigquery: &BigQuery, parts: Forwardable<Plan>) -> Answer {
    let own = own_address(&bigquery.public_url, &parts.head, parts.client);
    match document(bigquery, &parts).await.and_then(|document| rewritten(&document, &own)) {
        Ok(body) => {
            let mut head = Response::new(()).into_parts().0;
            let json = HeaderValue::from_static("application/json; charset=UTF-8");
            head.headers.insert(header::CONTENT_TYPE, json);
            answer::whole(head, body, parts.presence, Shape::Other, true)
        }
        Err(why) => {
            let message = format!("hansard has no discovery document: {why}.");
            failed(parts, StatusCode::SERVICE_UNAVAILABLE, "backendError", &message)
        }
    }
}

async fn document(bigquery: &BigQuery, parts: &Forwardable<Plan>) -> Result<Bytes, String> {
    let discovery = &bigquery.discovery;
    let mut kept = discovery.kept.lock().await;
    if let Some((since, document)) = kept.as_ref().filter(|(since, _)| since.elapsed() < DOCUMENT_AGE_MAX) {
        let _ = since;
        return Ok(document.clone());
    }
    let document = match &discovery.file {
        Some(file) => {
            tokio::fs::read(file).await.map_err(|error| format!("{}: {error}", file.display()))?.into()
        }
        None => fetched(bigquery, parts).await?,
    };
    *kept = Some((Instant::now(), document.clone()));
    Ok(document)
}

/// Part of the exchange that asks for it, so it has that exchange's record.
async fn fetched(bigquery: &BigQuery, parts: &Forwardable<Plan>) -> Result<Bytes, String> {
    let connection = parts.connection();
    let uri = format!("{}/$discovery/rest?version=v2", connection.upstream.to_string().trim_end_matches('/'));
    let uri = uri.parse().map_err(|_| "the upstream's address is no URL".to_owned())?;
    let token =
        connection.credential.token(crate::methods::scope(None)).await.map_err(|error| error.to_string())?;
    let answer =
        bigquery.client.request(plain_get(uri, &token)).await.map_err(|error| outbound::causes(&error))?;
    if !answer.status().is_success() {
        return Err(format!("BigQuery answered HTTP {}", answer.status().as_u16()));
    }
    let body = Limited::new(answer.into_body(), DOCUMENT_BYTES_MAX).collect().await;
    body.map(|body| body.to_bytes()).map_err(|error| error.to_string())
}

fn rewritten(document: &[u8], own: &str) -> Result<Bytes, String> {
    let mut parsed: Value = serde_json::from_slice(document).map_err(|error| error.to_string())?;
    let fields = parsed.as_object_mut().ok_or("it is no JSON object")?;
    for (name, path) in [("rootUrl", "/"), ("baseUrl", "/bigquery/v2/"), ("mtlsRootUrl", "/")] {
        fields.insert(name.to_owned(), format!("{own}{path}").into());
    }
    fields.remove("endpoints");
    serde_json::to_vec(&parsed).map(Bytes::from).map_err(|error| error.to_string())
}
