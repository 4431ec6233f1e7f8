//! Answers of the sidecar's own.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

/// A body on its way to the client, whoever made it.
pub(crate) type Body = UnsyncBoxBody<Bytes, hyper::Error>;
pub(crate) type Answer = Response<Body>;

pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn streamed(body: Incoming) -> Body {
    body.boxed_unsync()
}

pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    with_type(status, "text/plain; charset=utf-8", text.into())
}

pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    with_type(status, "application/json; charset=UTF-8", body.to_string().into())
}

/// An error in the shape that every Google client reads.
pub(crate) fn google_error(status: StatusCode, message: &str) -> Answer {
    let (word, reason) = match status {
        StatusCode::FORBIDDEN => ("PERMISSION_DENIED", "accessDenied"),
        StatusCode::UNAUTHORIZED => ("UNAUTHENTICATED", "authError"),
        _ => ("UNAVAILABLE", "backendError"),
    };
    json(
        status,
        &serde_json::json!({"error": {
            "code": status.as_u16(), "message": message, "status": word,
            "errors": [{"message": message, "domain": "global", "reason": reason}],
        }}),
    )
}

fn with_type(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(whole(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
