//! To the gateway, with the session's token in the place of whatever stood there.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use outbound::{Https, OutboundError};
use registry::API_HEADER;
use std::sync::Arc;

use crate::answer::{self, Answer, google_error};
use crate::handed::Handed;
use crate::{REFUSE_HEADER, hosts};

type Outgoing = UnsyncBoxBody<Bytes, hyper::Error>;

/// Lines that hold between two ends of one connection (RFC 9110 section 7.6.1), and what only we may say.
const NOT_PASSED: &[&str] = &[
    "authorization",
    "connection",
    "forwarded",
    "host",
    "keep-alive",
    "metadata-flavor",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    REFUSE_HEADER,
    API_HEADER,
];

/// The way to the gateway.
pub(crate) struct Forwarder {
    /// Without a slash at its end.
    gateway: String,
    rest: Https<Outgoing>,
    grpc: Https<Outgoing>,
    handed: Arc<Handed>,
}

/// What stands in a request's `Authorization`.
enum Credential {
    /// Nothing, or a token of this session.
    Ours,
    /// Something else, by its SHA-256.
    Foreign(String),
}

impl Forwarder {
    pub(crate) fn new(gateway: &str, handed: Arc<Handed>) -> Result<Self, OutboundError> {
        let gateway = gateway.trim_end_matches('/').to_owned();
        Ok(Self { gateway, rest: outbound::https()?, grpc: outbound::h2()?, handed })
    }

    /// A request for BigQuery. `origin` is what the client takes us for, such as `https://bigquery.googleapis.com`.
    pub(crate) async fn forward(&self, request: Request<Incoming>, origin: &str) -> Answer {
        self.forward_to(request, origin, None).await
    }

    /// The same for an API beside BigQuery's, on its own host: the gateway says whether it is let through.
    pub(crate) async fn forward_api(&self, request: Request<Incoming>, host: &str) -> Answer {
        let api = host.split('.').next().unwrap_or_default();
        self.forward_to(request, &format!("https://{host}"), HeaderValue::from_str(api).ok()).await
    }

    async fn forward_to(&self, request: Request<Incoming>, origin: &str, api: Option<HeaderValue>) -> Answer {
        if let Credential::Foreign(sha256) = self.credential(request.headers()) {
            return self.report(&request, &format!("foreign-token {sha256}")).await;
        }
        let is_grpc = is_grpc(request.headers());
        let (head, body) = request.into_parts();
        let mut headers = passed(&head.headers);
        headers.insert(header::AUTHORIZATION, self.bearer());
        if let Some(api) = api {
            headers.insert(HeaderName::from_static(API_HEADER), api);
        }
        if is_grpc {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        let target = match self.target(&head.uri) {
            Ok(target) => target,
            Err(answer) => return *answer,
        };
        let mut asked = Request::new(body.boxed_unsync());
        (*asked.method_mut(), *asked.uri_mut(), *asked.headers_mut()) = (head.method, target, headers);
        let client = if is_grpc { &self.grpc } else { &self.rest };
        match client.request(asked).await {
            Ok(answer) => {
                let (mut head, body) = answer.into_parts();
                self.own_location(&mut head.headers, origin);
                for name in ["connection", "keep-alive", "transfer-encoding", "upgrade"] {
                    head.headers.remove(name);
                }
                head.version = Version::HTTP_11;
                head.extensions.clear();
                Answer::from_parts(head, answer::streamed(body))
            }
            Err(error) => away(&self.gateway, &outbound::causes(&error), is_grpc),
        }
    }

    /// Something that must be refused: the gateway does it and records it. No body goes, and no credential.
    pub(crate) async fn report<B>(&self, request: &Request<B>, what: &str) -> Answer {
        let unrecorded = |handed: &Handed| {
            handed.unrecorded();
            google_error(
                StatusCode::FORBIDDEN,
                "hansard does not pass this on, and its gateway can't be reached to record it.",
            )
        };
        let (Ok(target), Ok(what)) = (self.target(request.uri()), HeaderValue::from_str(what)) else {
            return unrecorded(&self.handed);
        };
        let mut headers = HeaderMap::new();
        for name in [header::USER_AGENT, header::CONTENT_TYPE] {
            if let Some(value) = request.headers().get(&name) {
                headers.insert(name, value.clone());
            }
        }
        headers.insert(header::AUTHORIZATION, self.bearer());
        headers.insert(HeaderName::from_static(REFUSE_HEADER), what);
        let nothing = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let mut asked = Request::new(nothing);
        (*asked.uri_mut(), *asked.headers_mut()) = (target, headers);
        *asked.method_mut() =
            if request.method() == Method::CONNECT { Method::GET } else { request.method().clone() };
        match self.rest.request(asked).await {
            Ok(answer) if answer.status().is_client_error() => {
                let (mut head, body) = answer.into_parts();
                head.headers.remove(header::TRANSFER_ENCODING);
                head.extensions.clear();
                Answer::from_parts(head, answer::streamed(body))
            }
            _ => unrecorded(&self.handed),
        }
    }

    /// A request on Google's shared hosts that is not for us: untouched, with whatever the client sent, unless
    /// that is the session's token.
    pub(crate) async fn pass_on(&self, request: Request<Incoming>, host: &str) -> Answer {
        let is_ours = request.headers().contains_key(header::AUTHORIZATION)
            && matches!(self.credential(request.headers()), Credential::Ours);
        if is_ours {
            return match request.uri().path().ends_with("/allowedLocations") {
                // What google-auth asks of every account: no boundary.
                true => answer::json(
                    StatusCode::OK,
                    &serde_json::json!({"locations": [], "encodedLocations": "0x0"}),
                ),
                false => self.report(&request, &format!("host {host}")).await,
            };
        }
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let Ok(uri) = format!("https://{host}{path}").parse::<Uri>() else {
            return google_error(StatusCode::BAD_GATEWAY, "the request's address can't be read");
        };
        head.uri = uri;
        head.version = Version::HTTP_11;
        for name in ["connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "host"] {
            head.headers.remove(name);
        }
        match self.rest.request(Request::from_parts(head, body.boxed_unsync())).await {
            Ok(answer) => {
                let (mut head, body) = answer.into_parts();
                head.headers.remove(header::TRANSFER_ENCODING);
                head.version = Version::HTTP_11;
                Answer::from_parts(head, answer::streamed(body))
            }
            Err(error) => google_error(
                StatusCode::BAD_GATEWAY,
                &format!("{host} can't be reached: {}", outbound::causes(&error)),
            ),
        }
    }

    fn credential(&self, headers: &HeaderMap) -> Credential {
        let mut all = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = all.next() else { return Credential::Ours };
        let text = value.to_str().unwrap_or_default();
        let token = match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token,
            _ => text,
        };
        if all.next().is_none() && self.handed.knows(token) {
            return Credential::Ours;
        }
        let sha256 = registry::fingerprint(token);
        Credential::Foreign(sha256.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn bearer(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.handed.current().0))
            .expect("a token is a header value");
        value.set_sensitive(true);
        value
    }

    fn target(&self, uri: &Uri) -> Result<Uri, Box<Answer>> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        format!("{}{path}", self.gateway).parse().map_err(|_| {
            Box::new(google_error(StatusCode::BAD_GATEWAY, "the request's address can't be read"))
        })
    }

    /// An upload goes on where the client believes that it began.
    fn own_location(&self, headers: &mut HeaderMap, origin: &str) {
        let own = headers.get(header::LOCATION).and_then(|value| {
            let rest = value.to_str().ok()?.strip_prefix(&self.gateway)?;
            HeaderValue::from_str(&format!("{origin}{rest}")).ok()
        });
        if let Some(own) = own {
            headers.insert(header::LOCATION, own);
        }
    }
}

fn passed(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len() + 1);
    for (name, value) in headers {
        if !NOT_PASSED.contains(&name.as_str()) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// A status that every client takes for an outage, and tries again.
fn away(gateway: &str, why: &str, is_grpc: bool) -> Answer {
    let message = format!("hansard's gateway {gateway} can't be reached: {why}");
    if !is_grpc {
        return google_error(StatusCode::SERVICE_UNAVAILABLE, &message);
    }
    let mut answer = Answer::new(answer::whole(Bytes::new()));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static("14"));
    let message: String = message.chars().filter(|c| (' '..='~').contains(c) && *c != '%').collect();
    headers.insert("grpc-message", HeaderValue::from_str(&message).expect("printable ASCII"));
    answer
}

/// Whether a path on the shared host is for the gateway.
pub(crate) fn is_for_gateway(uri: &Uri) -> bool {
    hosts::is_bigquery_path(uri.path())
}
