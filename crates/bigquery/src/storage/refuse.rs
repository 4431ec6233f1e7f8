//! hansard's no as a gRPC status, with `google.rpc.ErrorInfo` for whoever reads it by program.
//!
//! Sources: "Responses" in gRPC over HTTP/2; `google/rpc/code.proto`; `google/rpc/error_details.proto`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use gateway::{Reason, Refusal, Reply};
use http::{HeaderValue, Response, Uri, header};
use prost::Message;
use record::RecordId;
use std::collections::BTreeMap;

use crate::refuse::metadata;

use super::messages::{Any, ErrorInfo, RpcStatus};

/// A header holds at most so much of a message.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// The reply to a refusal: a head with a status, and nothing else.
pub(crate) fn refuse(refusal: &Refusal, record: Option<RecordId>, public_url: &Uri) -> Reply {
    let (code, reason) = shape(refusal.reason);
    let mut reply = Response::new(gateway::full(Bytes::new()));
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(code));
    headers.insert("grpc-message", message_value(&refusal.message));
    let metadata = record.map(|record| metadata(refusal, record, public_url)).unwrap_or_default();
    let metadata: BTreeMap<String, String> =
        metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let info = ErrorInfo { reason: reason.to_owned(), domain: "hansard".to_owned(), metadata };
    let detail =
        Any { type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(), value: info.encode_to_vec() };
    let message: String = refusal.message.chars().take(MESSAGE_BYTES_MAX / 4).collect();
    let status = RpcStatus { code: i32::from(code), message, details: vec![detail] };
    let encoded = STANDARD_NO_PAD.encode(status.encode_to_vec());
    if let Ok(value) = HeaderValue::from_str(&encoded) {
        headers.insert("grpc-status-details-bin", value);
    }
    reply
}

/// Clients retry UNAVAILABLE and never the others.
fn shape(reason: Reason) -> (u16, &'static str) {
    match reason {
        Reason::Unauthenticated => (16, "authError"),
        Reason::Denied => (7, "accessDenied"),
        Reason::UnknownMethod => (12, "notImplemented"),
        Reason::UnknownConnection | Reason::NotFound => (5, "notFound"),
        Reason::Invalid | Reason::TooLarge => (3, "invalid"),
        Reason::Duplicate => (6, "duplicate"),
        Reason::Unrecorded | Reason::Upstream => (14, "backendError"),
        Reason::Withheld | Reason::Stopped => (7, "stopped"),
    }
}

/// The code's name.
pub(crate) fn code_name(code: u16) -> &'static str {
    const NAMES: &[&str] = &[
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.get(usize::from(code)).copied().unwrap_or("UNKNOWN")
}

/// Percent-encoded as gRPC wants it: everything but printable ASCII, and the percent sign.
pub(crate) fn message_value(message: &str) -> HeaderValue {
    let mut text = String::new();
    for byte in message.bytes().take(MESSAGE_BYTES_MAX) {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => text.push(byte as char),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    HeaderValue::from_str(&text).expect("printable ASCII")
}
