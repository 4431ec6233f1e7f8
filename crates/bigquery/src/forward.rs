//! Sends a cleared request upstream, with the connection's token in the place of the client's.

use bytes::Bytes;
use gateway::{Answer, ClientAddress, Forwardable, RequestBody};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use ledger::UploadRecorder;
use registry::UpstreamToken;
use tokio::sync::mpsc;

use crate::answer::{self, Reading, Source};
use crate::methods::Shape;
use crate::refuse::error_body;
use crate::route::RouteKind;
use crate::understand::Plan;
use crate::{BigQuery, Upstreamed, discovery, jobs_list, uploads};

/// What of the client's headers goes upstream; nothing else does.
const FORWARDED_HEADERS: &[&str] = &[
    "accept",
    "content-type",
    "content-range",
    "if-match",
    "if-none-match",
    "user-agent",
    "x-goog-api-client",
    "x-goog-request-reason",
    "x-server-timeout",
    "x-upload-content-length",
    "x-upload-content-type",
];

/// What of the upstream's headers stays with us: hop-by-hop lines, what speaks of another connection, and
/// what names the upstream's own upload.
const WITHHELD_HEADERS: &[&str] = &[
    "alt-svc",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "server",
    "set-cookie",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
    "x-goog-upload-control-url",
    "x-goog-upload-url",
    "x-guploader-uploadid",
];

/// Names the exchange's record.
const RECORD_HEADER: HeaderName = HeaderName::from_static("x-hansard-record");

/// Parts of an upload that wait for a slow upstream.
const UPLOAD_PARTS_MAX: usize = 4;

/// Forwards it. Whatever fails is an answer too, with its record.
pub(crate) async fn forward(bigquery: &BigQuery, mut parts: Forwardable<Plan>) -> Answer {
    if parts.plan.kind == RouteKind::Discovery {
        return Box::pin(discovery::answer(bigquery, parts)).await;
    }
    let token = match parts.connection().token(parts.account.as_deref(), parts.plan.scope).await {
        Ok(token) => token,
        Err(error) => {
            let connection = &parts.connection().name;
            let message = format!(
                "hansard can't get a BigQuery token for connection '{connection}': {error}. Tell its operator."
            );
            return failed(parts, StatusCode::SERVICE_UNAVAILABLE, "backendError", &message);
        }
    };
    let target = match uploads::target(bigquery, &parts).await {
        Ok(target) => target,
        Err((status, reason, message)) => return failed(parts, status, reason, &message),
    };
    let request = upstream_request(&mut parts, &target, &token);
    ledger::failpoint("sent");
    let sent = tokio::select! {
        sent = bigquery.client.request(request) => sent,
        () = parts.presence.left() => return answer::left(parts.presence, parts.plan.repeatable),
    };
    match sent {
        Ok(answer) => received(bigquery, parts, answer).await,
        Err(error) => {
            let why = outbound::causes(&error);
            let message = format!("BigQuery did not answer hansard: {why}.");
            failed(parts, StatusCode::SERVICE_UNAVAILABLE, "backendError", &message)
        }
    }
}

/// One token fetch and one request for the gateway's own question.
pub(crate) fn plain_get(uri: Uri, token: &UpstreamToken) -> Request<RequestBody> {
    let mut request = Request::new(RequestBody::whole(Bytes::new()));
    *request.uri_mut() = uri;
    request.headers_mut().insert(header::AUTHORIZATION, token.header());
    request
}

/// Of the client's headers those that go upstream, the connection's token and the record's id.
pub(crate) fn upstream_headers<P>(
    parts: &Forwardable<P>,
    forwarded: &[&str],
    token: &UpstreamToken,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    for (name, value) in &parts.head.headers {
        if forwarded.contains(&name.as_str()) {
            headers.append(name, value.clone());
        }
    }
    headers.insert(header::AUTHORIZATION, token.header());
    // Whoever logs the way out can join it with the record; BigQuery ignores it.
    headers.insert(RECORD_HEADER, HeaderValue::from_str(&parts.record.to_string()).expect("a UUID"));
    headers
}

fn upstream_request(
    parts: &mut Forwardable<Plan>,
    target: &Uri,
    token: &UpstreamToken,
) -> Request<RequestBody> {
    let mut headers = upstream_headers(parts, FORWARDED_HEADERS, token);
    if is_filtered(parts) {
        // Whether a filtered list changed is not the upstream's to say.
        headers.remove(header::IF_NONE_MATCH);
    }
    let encoding = match is_filtered(parts) {
        true => HeaderValue::from_static("identity"),
        false => accept_encoding(&parts.head.headers, &parts.plan),
    };
    headers.insert(header::ACCEPT_ENCODING, encoding);
    let mut body = std::mem::replace(&mut parts.body, RequestBody::whole(Bytes::new()));
    if let Some(replaced) = parts.plan.body.take() {
        body.replace_read(replaced);
    }
    if is_upload(parts.plan.kind) {
        if let Some(encoding) = parts.head.headers.get(header::CONTENT_ENCODING) {
            headers.insert(header::CONTENT_ENCODING, encoding.clone());
        }
        if let Some(length) = whole_length(&parts.head.headers, &parts.plan) {
            headers.insert(header::CONTENT_LENGTH, length);
        }
        body = recorded(body, parts);
    }
    let mut request = Request::new(body);
    *request.method_mut() = parts.plan.verb.clone();
    *request.uri_mut() = target.clone();
    *request.headers_mut() = headers;
    request
}

/// The client's length holds where nothing of its body was changed.
fn whole_length(headers: &HeaderMap, plan: &Plan) -> Option<HeaderValue> {
    (plan.kind == RouteKind::UploadPart).then(|| headers.get(header::CONTENT_LENGTH).cloned()).flatten()
}

fn is_upload(kind: RouteKind) -> bool {
    matches!(kind, RouteKind::UploadAtOnce | RouteKind::UploadPart)
}

/// The upstream is asked for what the client can read, and for nothing that would have to be edited packed.
fn accept_encoding(headers: &HeaderMap, plan: &Plan) -> HeaderValue {
    let accepts = headers.get_all(header::ACCEPT_ENCODING).iter().any(|value| {
        value.to_str().is_ok_and(|text| {
            text.split(',').any(|coding| {
                let mut parts = coding.split(';').map(str::trim);
                let name = parts.next().unwrap_or_default();
                (name == "gzip" || name == "*")
                    && !parts.any(|q| matches!(q, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
            })
        })
    });
    let gzip = accepts && plan.edits.is_empty();
    HeaderValue::from_static(if gzip { "gzip" } else { "identity" })
}

/// The body by way of the record: each part is recorded, then goes upstream. Memory stays bounded; a slow
/// upstream slows the client.
fn recorded(mut body: RequestBody, parts: &mut Forwardable<Plan>) -> RequestBody {
    let upload: UploadRecorder = parts.upload.clone();
    let (pass, passed) = mpsc::channel::<Result<Bytes, String>>(UPLOAD_PARTS_MAX);
    tokio::spawn(async move {
        loop {
            // What nobody takes any more is not counted.
            let part = tokio::select! {
                biased;
                () = pass.closed() => return,
                part = body.next() => part,
            };
            let Some(part) = part else { return };
            let part = match part {
                Ok(part) => {
                    upload.record(part.clone()).await.map(|()| part).map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            let failed = part.is_err();
            if pass.send(part).await.is_err() || failed {
                return;
            }
        }
    });
    RequestBody::new(answer::Passed(passed))
}

async fn received(bigquery: &BigQuery, parts: Forwardable<Plan>, answer: Upstreamed) -> Answer {
    let (mut head, body) = answer.into_parts();
    let is_withheld = |name: &&HeaderName| WITHHELD_HEADERS.contains(&name.as_str());
    let withheld: Vec<HeaderName> = head.headers.keys().filter(is_withheld).cloned().collect();
    for name in withheld {
        head.headers.remove(name);
    }
    head.extensions.clear();
    head.version = http::Version::HTTP_11;
    if let Err(why) = uploads::rewrite_location(bigquery, &parts, &mut head).await {
        return failed(parts, StatusCode::SERVICE_UNAVAILABLE, "backendError", &why);
    }
    let encoding = head.headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    let gzip = match encoding {
        None | Some("identity") => false,
        Some("gzip") => true,
        Some(other) => {
            let message = format!("BigQuery answered in an encoding that was not asked for ('{other}').");
            return failed(parts, StatusCode::BAD_GATEWAY, "badGateway", &message);
        }
    };
    let edits = if head.status.is_success() { parts.plan.edits.clone() } else { Vec::new() };
    if !edits.is_empty() {
        head.headers.remove(header::ETAG);
        head.headers.remove(header::CONTENT_LENGTH);
        head.headers.remove(header::CONTENT_ENCODING);
    }
    let mut source = Source::Upstream(body);
    if is_filtered(&parts) && head.status.is_success() {
        source = match Box::pin(jobs_list::filtered(bigquery, &parts, source)).await {
            Ok(filtered) => Source::Own(Some(filtered)),
            Err(why) => return failed(parts, StatusCode::BAD_GATEWAY, "badGateway", &why),
        };
        head.headers.remove(header::ETAG);
        head.headers.remove(header::CONTENT_LENGTH);
    }
    let reading = Reading {
        status: head.status,
        shape: parts.plan.shape,
        gzip,
        edits,
        keeps_schema: parts.plan.keeps_schema,
        keeps_rows: parts.keeps_rows,
        project: parts.plan.project.clone(),
        starts_query: parts.plan.is_query_door,
    };
    answer::reading(head, source, reading, parts.presence, parts.plan.repeatable)
}

/// A list of jobs shows everybody their own.
fn is_filtered(parts: &Forwardable<Plan>) -> bool {
    parts.plan.shape == Shape::Jobs && !parts.reads_all
}

/// An answer of our own in the place of one that did not come.
pub(crate) fn failed(
    parts: Forwardable<Plan>,
    status: StatusCode,
    reason: &'static str,
    message: &str,
) -> Answer {
    let record = parts.record;
    let message = format!("{message} Record {record}");
    let body = error_body(status, reason, &message, &[]);
    let mut head = Response::new(()).into_parts().0;
    head.status = status;
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    answer::whole(head, body, parts.presence, parts.plan.shape, parts.plan.repeatable)
}

/// The gateway's address as this client sees it.
pub(crate) fn own_address(public_url: &Uri, head: &http::request::Parts, client: ClientAddress) -> String {
    let host = head
        .headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .or_else(|| head.uri.authority().map(|authority| authority.as_str()));
    let public = public_url.to_string();
    match (host, public_url.authority()) {
        (Some(host), Some(authority)) if host != authority.as_str() => {
            format!("{}://{host}", if client.tls { "https" } else { "http" })
        }
        _ => public.trim_end_matches('/').to_owned(),
    }
}
