//! APIs beside BigQuery's that move, share or schedule what lies in it: carried as they come and recorded whole,
//! where the connection names them. Nothing of their own language is understood here.

use gateway::{Marks, Reason, Refusal};
use http::Uri;
use http::request::Parts;
use registry::{API_HEADER, SISTERS};

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const READ_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform.read-only";

/// The API that a request names; none if it is for BigQuery itself.
pub(crate) fn named(head: &Parts) -> Option<Result<&'static str, Refusal>> {
    let mut values = head.headers.get_all(API_HEADER).iter();
    let given = values.next()?.to_str().unwrap_or_default();
    let known = SISTERS.iter().copied().find(|api| *api == given && values.next().is_none());
    Some(known.ok_or_else(|| {
        Refusal::new(
            Reason::UnknownMethod,
            format!("Not found: '{API_HEADER}' names no API that hansard carries."),
        )
    }))
}

/// The project that a path of theirs names.
pub(crate) fn project(segments: &[String]) -> Option<&String> {
    segments.iter().position(|segment| segment == "projects").and_then(|at| segments.get(at + 1))
}

/// Whether the connection lets this one through.
pub(crate) fn allowed(api: &str, marks: &Marks) -> Result<(), Refusal> {
    if marks.apis.iter().any(|allowed| allowed == api) {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::Denied,
        format!(
            "Access Denied: hansard does not let this session reach {api}.googleapis.com. Ask the gateway's operator if \
             a task needs it: 'apis' of the connection names what it may reach."
        ),
    ))
}

/// What the upstream's token is for.
pub(crate) fn scope(verb: &http::Method) -> &'static str {
    if is_read(verb) { READ_SCOPE } else { SCOPE }
}

/// Whether a request may be repeated.
pub(crate) fn is_read(verb: &http::Method) -> bool {
    matches!(verb.as_str(), "GET" | "HEAD")
}

/// Where an API is: `{api}` in the connection's address stands for its name.
pub(crate) fn target(address: &str, api: &str, target: &str) -> Option<Uri> {
    format!("{}{target}", address.replace("{api}", api).trim_end_matches('/')).parse().ok()
}
