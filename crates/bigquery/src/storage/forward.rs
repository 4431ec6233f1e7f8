//! Sends a call of the Storage API upstream. What is appended is durable before it goes.

use bytes::{Bytes, BytesMut};
use gateway::{Answer, Forwardable, RequestBody};
use http::header::{self, HeaderValue};
use http::{Request, Uri};
use tokio::sync::mpsc;

use super::answer::{self, Reading};
use super::appends::Appends;
use super::route::Method;
use super::understand::Plan;
use super::wire::Messages;
use crate::BigQuery;
use crate::answer::Passed;
use crate::forward::upstream_headers;

/// What of the client's headers goes upstream; nothing else does.
const FORWARDED_HEADERS: &[&str] = &[
    "content-type",
    "grpc-timeout",
    "user-agent",
    "x-goog-api-client",
    "x-goog-request-params",
    "x-goog-request-reason",
];
/// Parts of an append that wait for a slow upstream.
const PARTS_MAX: usize = 4;
/// An append's message goes on in parts of so many bytes.
const PART_BYTES: usize = ledger::WINDOW_BYTES;

/// Forwards it. Whatever fails is an answer too, with its record.
pub(crate) async fn forward(bigquery: &BigQuery, mut parts: Forwardable<Plan>) -> Answer {
    let scope = crate::methods::scope(None);
    let token = match parts.connection().token(parts.account.as_deref(), scope).await {
        Ok(token) => token,
        Err(error) => {
            let connection = &parts.connection().name;
            let why = format!(
                "hansard can't get a BigQuery token for connection '{connection}': {error}. Tell its operator."
            );
            return answer::failed(parts, &why);
        }
    };
    let base = parts.connection().upstream_storage.to_string();
    let Ok(target) = format!("{}{}", base.trim_end_matches('/'), parts.plan.path).parse::<Uri>() else {
        return answer::failed(parts, "upstream_storage is no address that a path can follow.");
    };
    let mut headers = upstream_headers(&parts, FORWARDED_HEADERS, &token);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let mut body = std::mem::replace(&mut parts.body, RequestBody::whole(Bytes::new()));
    let appends = Appends::default();
    if parts.plan.method == Method::AppendRows {
        body = recorded(body, &parts, &appends);
    }
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = target;
    *request.headers_mut() = headers;
    ledger::failpoint("sent");
    let sent = tokio::select! {
        sent = bigquery.grpc.request(request) => sent,
        () = parts.presence.left() => return answer::left(parts),
    };
    match sent {
        Ok(received) => {
            answer::reading(received, parts, Reading { appends, schemas: bigquery.schemas.clone() })
        }
        Err(error) => {
            let why = format!("BigQuery did not answer hansard: {}.", outbound::causes(&error));
            answer::failed(parts, &why)
        }
    }
}

/// The body by way of the record: each part is durable, then goes upstream.
fn recorded(mut body: RequestBody, parts: &Forwardable<Plan>, appends: &Appends) -> RequestBody {
    let upload = parts.upload.clone();
    let mut messages = Messages::new(appends.sent(&parts.plan.stream));
    let (pass, passed) = mpsc::channel::<Result<Bytes, String>>(PARTS_MAX);
    tokio::spawn(async move {
        let mut waiting = BytesMut::new();
        loop {
            let part = match body.next().await {
                Some(Ok(part)) => part,
                Some(Err(error)) => return drop(pass.send(Err(error.to_string())).await),
                None if waiting.is_empty() => return,
                // It ends within a message: the upstream is told so, never that it was whole.
                None => return drop(pass.send(Err("it ended within a message".to_owned())).await),
            };
            let read = messages.push(&part);
            waiting.extend_from_slice(&part);
            if read.is_err() || !messages.watch().is_allowed() {
                return drop(pass.send(Err("a message goes elsewhere, or can't be read".to_owned())).await);
            }
            if !messages.is_between() && waiting.len() < PART_BYTES {
                continue;
            }
            let part = waiting.split().freeze();
            let done = upload.record_durably(part.clone()).await.map(|()| part);
            let failed = done.is_err();
            if pass.send(done.map_err(|error| error.to_string())).await.is_err() || failed {
                return;
            }
        }
    });
    RequestBody::new(Passed(passed))
}
