//! hansard's no in BigQuery's own error shape, so that every client prints it as it is.
//!
//! Source: "Error messages" in BigQuery's documentation; `google.rpc.ErrorInfo` in google/rpc/error_details.

use bytes::Bytes;
use gateway::{Reason, Refusal, Reply};
use http::{Response, StatusCode, Uri, header};
use record::RecordId;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The reply to a refusal.
pub(crate) fn refuse(refusal: &Refusal, record: Option<RecordId>, public_url: &Uri) -> Reply {
    let (status, reason) = shape(refusal.reason);
    let info = record.map(|record| {
        json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason, "domain": "hansard", "metadata": metadata(refusal, record, public_url),
        })
    });
    let details: Vec<Value> = info.into_iter().collect();
    let body = error_body(status, reason, &refusal.message, &details);
    let mut reply = Response::new(gateway::full(body));
    *reply.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json; charset=UTF-8");
    reply.headers_mut().insert(header::CONTENT_TYPE, json);
    if status == StatusCode::UNAUTHORIZED {
        let challenge = header::HeaderValue::from_static("Bearer realm=\"hansard\"");
        reply.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    reply
}

/// What an agent can read of a refusal, beside its text.
pub(crate) fn metadata(
    refusal: &Refusal,
    record: RecordId,
    public_url: &Uri,
) -> BTreeMap<&'static str, String> {
    let root = public_url.to_string();
    let root = root.trim_end_matches('/');
    let approval = refusal.approval.map(|id| format!("{root}/api/v1/approvals/{id}"));
    let said = [
        ("record", record.to_string()),
        ("rule", refusal.rule.clone()),
        ("allowed_instead", refusal.instead.clone()),
        ("approval_url", approval.unwrap_or_default()),
    ];
    said.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// Clients retry 503 and never the others.
fn shape(reason: Reason) -> (StatusCode, &'static str) {
    match reason {
        Reason::Unauthenticated => (StatusCode::UNAUTHORIZED, "authError"),
        Reason::Denied => (StatusCode::FORBIDDEN, "accessDenied"),
        Reason::UnknownMethod | Reason::UnknownConnection | Reason::NotFound => {
            (StatusCode::NOT_FOUND, "notFound")
        }
        Reason::Invalid => (StatusCode::BAD_REQUEST, "invalid"),
        Reason::Duplicate => (StatusCode::CONFLICT, "duplicate"),
        Reason::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "uploadTooLarge"),
        Reason::Unrecorded | Reason::Upstream => (StatusCode::SERVICE_UNAVAILABLE, "backendError"),
        Reason::Withheld | Reason::Stopped => (StatusCode::FORBIDDEN, "stopped"),
    }
}

/// BigQuery's error JSON; the message stands in both of its places.
pub fn error_body(status: StatusCode, reason: &str, message: &str, details: &[Value]) -> Bytes {
    let mut error = json!({
        "code": status.as_u16(),
        "message": message,
        "errors": [{"message": message, "domain": "global", "reason": reason}],
        "status": canonical(status),
    });
    if !details.is_empty() {
        error["details"] = details.into();
    }
    serde_json::to_vec(&json!({ "error": error })).expect("an error is JSON").into()
}

/// An OAuth error of the token endpoint (RFC 6749 section 5.2).
pub fn token_error(error: &str, description: &str) -> Bytes {
    serde_json::to_vec(&json!({"error": error, "error_description": description})).expect("JSON").into()
}

/// `google.rpc.Code` for a status.
fn canonical(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 | 413 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ALREADY_EXISTS",
        502 | 503 => "UNAVAILABLE",
        _ => "UNKNOWN",
    }
}
