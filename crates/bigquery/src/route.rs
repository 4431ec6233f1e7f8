//! Which method a request is: from its line and headers alone.

use gateway::{Reason, Refusal, URI_BYTES_MAX};
use http::Method as Verb;
use http::request::Parts;
use std::collections::BTreeMap;

use crate::methods::{METHODS, Method};
use crate::sisters;

/// A request that found its method.
pub struct Route {
    pub(crate) kind: RouteKind,
    /// Path parameters, decoded.
    pub(crate) params: BTreeMap<&'static str, String>,
    /// The path below `/bigquery/v2/`, as the client encoded it.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    /// The verb after `X-HTTP-Method-Override`.
    pub(crate) verb: Verb,
    /// The override moved the query into the body.
    pub(crate) query_in_body: bool,
    /// The boundary of a multipart upload.
    pub(crate) boundary: Option<String>,
}

/// What kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteKind {
    /// JSON in, JSON out.
    Plain(&'static Method),
    /// `jobs.insert` with the data in the same request.
    UploadAtOnce,
    /// `jobs.insert` that asks for an address to upload to.
    UploadStart,
    /// A part of an upload that was started.
    UploadPart,
    /// The discovery document.
    Discovery,
    /// A request for an API beside BigQuery's, by its name.
    Sister(&'static str),
}

impl Route {
    /// The billing project in the path.
    pub(crate) fn project(&self) -> Option<&str> {
        self.params.get("project").map(String::as_str)
    }

    pub(crate) fn method_name(&self) -> &'static str {
        match self.kind {
            RouteKind::Plain(method) => method.name,
            RouteKind::UploadAtOnce | RouteKind::UploadStart | RouteKind::UploadPart => "jobs.insert",
            RouteKind::Discovery => "discovery.getRest",
            RouteKind::Sister(api) => api,
        }
    }

    pub(crate) fn query_value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Every path form that clients are known to use, longest first: each leads to the same methods.
const PREFIXES: &[(&str, bool)] = &[
    ("/bigquery/v2/resumable/upload/bigquery/v2/", true),
    ("/bigquery/v2/upload/bigquery/v2/", true),
    ("/resumable/upload/bigquery/v2/", true),
    ("/upload/bigquery/v2/", true),
    ("/bigquery/v2/", false),
    ("/", false),
];

/// Names the method, or refuses. Nothing unknown gets further.
pub(crate) fn route(head: &Parts) -> Result<Route, Refusal> {
    let uri = &head.uri;
    if uri.path().len() + uri.query().unwrap_or_default().len() > URI_BYTES_MAX {
        return Err(Refusal::new(Reason::Invalid, "The request's path and query are too long."));
    }
    let (verb, query_in_body) = effective_verb(head)?;
    let query = parse_query(uri.query().unwrap_or_default())?;
    let mut route = Route {
        kind: RouteKind::Discovery,
        params: BTreeMap::new(),
        path: String::new(),
        query,
        verb,
        query_in_body,
        boundary: None,
    };
    if let Some(api) = sisters::named(head) {
        return sister_route(route, api?, head);
    }
    if is_discovery(uri.path()) {
        return if route.verb == Verb::GET { Ok(route) } else { Err(unknown(head)) };
    }
    let found =
        PREFIXES.iter().find_map(|(prefix, upload)| Some((uri.path().strip_prefix(prefix)?, *upload)));
    let Some((path, upload)) = found else { return Err(unknown(head)) };
    route.path = path.to_owned();
    if upload {
        return upload_route(route, head);
    }
    let segments = segments(path).ok_or_else(|| unknown(head))?;
    let matched = METHODS.iter().find_map(|method| {
        if method.http != route.verb.as_str() {
            return None;
        }
        match_path(method.path, &segments).map(|params| (method, params))
    });
    let Some((method, params)) = matched else { return Err(unknown(head)) };
    route.kind = RouteKind::Plain(method);
    route.params = params;
    Ok(route)
}

/// For an API beside BigQuery's: its path stays as it is.
fn sister_route(mut route: Route, api: &'static str, head: &Parts) -> Result<Route, Refusal> {
    let path = head.uri.path().trim_start_matches('/');
    let segments = segments(path).ok_or_else(|| unknown(head))?;
    // What has a meaning of its own here has none there.
    if ["batch", "bigquery", "resumable", "upload"].contains(&segments[0].as_str()) {
        return Err(unknown(head));
    }
    route.params.extend(sisters::project(&segments).map(|project| ("project", project.clone())));
    (route.kind, route.path) = (RouteKind::Sister(api), path.to_owned());
    Ok(route)
}

fn upload_route(mut route: Route, head: &Parts) -> Result<Route, Refusal> {
    let segments = segments(&route.path).ok_or_else(|| unknown(head))?;
    route.params = match_path("projects/{project}/jobs", &segments).ok_or_else(|| unknown(head))?;
    let upload_type = route.query_value("uploadType").unwrap_or_default();
    route.kind = match (route.verb.as_str(), upload_type, route.query_value("upload_id").is_some()) {
        ("POST" | "PUT" | "DELETE", _, true) => RouteKind::UploadPart,
        ("POST", "resumable", false) => RouteKind::UploadStart,
        ("POST", "multipart", false) => {
            route.boundary = Some(boundary(head).ok_or_else(|| {
                Refusal::new(
                    Reason::Invalid,
                    "A multipart upload needs 'Content-Type: multipart/related; boundary=...'.",
                )
            })?);
            RouteKind::UploadAtOnce
        }
        ("POST", "media", false) => RouteKind::UploadAtOnce,
        _ => return Err(unknown(head)),
    };
    Ok(route)
}

/// RFC 2046 section 5.1.1.
fn boundary(head: &Parts) -> Option<String> {
    let content_type = head.headers.get("content-type")?.to_str().ok()?;
    let mut parts = content_type.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("multipart/related") {
        return None;
    }
    let value = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("boundary")
            .then(|| value.trim().trim_matches(['"', '\'']).to_owned())
    })?;
    (1..=70).contains(&value.len()).then_some(value)
}

fn is_discovery(path: &str) -> bool {
    matches!(path, "/$discovery/rest" | "/%24discovery/rest" | "/discovery/v1/apis/bigquery/v2/rest")
}

/// `X-HTTP-Method-Override` on a POST is what the client means: googleapiclient sends long GETs so, with the
/// query in the body.
fn effective_verb(head: &Parts) -> Result<(Verb, bool), Refusal> {
    let mut overrides = head.headers.get_all("x-http-method-override").iter();
    let Some(value) = overrides.next() else { return Ok((head.method.clone(), false)) };
    let invalid =
        || Refusal::new(Reason::Invalid, "X-HTTP-Method-Override names no method that is allowed here.");
    if overrides.next().is_some() || head.method != Verb::POST {
        return Err(invalid());
    }
    let text = value.to_str().map_err(|_| invalid())?.to_ascii_uppercase();
    match text.as_str() {
        "GET" => {
            let form =
                head.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
            Ok((Verb::GET, form.starts_with("application/x-www-form-urlencoded")))
        }
        "POST" => Ok((Verb::POST, false)),
        "PUT" => Ok((Verb::PUT, false)),
        "PATCH" => Ok((Verb::PATCH, false)),
        "DELETE" => Ok((Verb::DELETE, false)),
        _ => Err(invalid()),
    }
}

/// Decoded segments; none for a path that two readers could understand differently.
fn segments(path: &str) -> Option<Vec<String>> {
    path.split('/')
        .map(|segment| {
            let decoded = percent_decode(segment)?;
            let plain = !decoded.is_empty()
                && decoded != "."
                && decoded != ".."
                && !decoded.contains(['/', '\\', '?', '#'])
                && !decoded.chars().any(char::is_control);
            plain.then_some(decoded)
        })
        .collect()
}

fn match_path(template: &'static str, segments: &[String]) -> Option<BTreeMap<&'static str, String>> {
    // Most templates differ in length: nothing is taken out of a path for those.
    if template.split('/').count() != segments.len() {
        return None;
    }
    let mut params = BTreeMap::new();
    for (part, segment) in template.split('/').zip(segments) {
        let Some(rest) = part.strip_prefix('{') else {
            // `rowAccessPolicies:batchDelete` is a plain part.
            if part != segment {
                return None;
            }
            continue;
        };
        let (name, verb) = rest.split_once('}').expect("templates are ours");
        let value = segment.strip_suffix(verb)?;
        // A custom verb is never part of an id.
        if value.is_empty() || (verb.is_empty() && is_custom_verb(value)) {
            return None;
        }
        params.insert(name, value.to_owned());
    }
    Some(params)
}

fn is_custom_verb(value: &str) -> bool {
    const VERBS: &[&str] =
        &[":undelete", ":getIamPolicy", ":setIamPolicy", ":testIamPermissions", ":batchDelete"];
    VERBS.iter().any(|verb| value.ends_with(verb))
}

pub(crate) fn parse_query(text: &str) -> Result<Vec<(String, String)>, Refusal> {
    let invalid = || Refusal::new(Reason::Invalid, "The query string is not well-formed.");
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| percent_decode(&text.replace('+', " ")).ok_or_else(invalid);
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

pub(crate) fn percent_decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let high = (bytes.next()? as char).to_digit(16)?;
        let low = (bytes.next()? as char).to_digit(16)?;
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).ok()
}

pub(crate) fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn unknown(head: &Parts) -> Refusal {
    let path: String = head.uri.path().chars().take(200).collect();
    Refusal::new(
        Reason::UnknownMethod,
        format!(
            "Not found: {} {path} is no method of BigQuery's API v2 that hansard carries; nothing was forwarded. \
             Check the path and the client's endpoint setting.",
            head.method
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_form_of_a_client_leads_to_the_method() {
        check("POST", "/bigquery/v2/projects/p/queries?prettyPrint=false", "jobs.query project=p");
        check("POST", "/projects/p/queries", "jobs.query project=p");
        check("GET", "/bigquery/v2/projects/p/queries/j%2D1", "jobs.getQueryResults job=j-1 project=p");
        check("POST", "/upload/bigquery/v2/projects/p/jobs?uploadType=resumable", "jobs.insert project=p");
        check(
            "POST",
            "/bigquery/v2/upload/bigquery/v2/projects/p/jobs?uploadType=media",
            "jobs.insert project=p",
        );
        check("PUT", "/resumable/upload/bigquery/v2/projects/p/jobs?upload_id=x", "jobs.insert project=p");
        check("GET", "/$discovery/rest?version=v2", "discovery.getRest");
        check("POST", "/bigquery/v2/projects/p/datasets/d:undelete", "datasets.undelete dataset=d project=p");
        check(
            "POST",
            "/bigquery/v2/projects/p/datasets/d/tables/t/rowAccessPolicies:batchDelete",
            "rowAccessPolicies.batchDelete dataset=d project=p table=t",
        );
        check("GET", "/bigquery/v2/projects/example.com:p/datasets", "datasets.list project=example.com:p");
    }

    #[test]
    fn what_is_no_method_is_refused() {
        for (verb, path) in [
            ("POST", "/mcp"),
            ("GET", "/bigquery/v2/projects/p/queries"),
            ("GET", "/bigquery/v2/projects/p/datasets/../secrets"),
            ("GET", "/bigquery/v2/projects//datasets"),
            ("GET", "/bigquery/v2/projects/p/datasets/a%2Fb"),
            ("POST", "/batch/bigquery/v2"),
            ("TRACE", "/bigquery/v2/projects/p/datasets"),
            ("GET", "/bigquery/v2/projects/p/datasets/d:getIamPolicy"),
        ] {
            assert!(route(&head(verb, path)).is_err(), "{verb} {path}");
        }
    }

    fn check(verb: &str, path: &str, expected: &str) {
        let route = route(&head(verb, path)).unwrap_or_else(|refusal| panic!("{path}: {}", refusal.message));
        let params: Vec<_> = route.params.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        assert_eq!(format!("{}{}", route.method_name(), params.concat()), expected);
    }

    fn head(verb: &str, path: &str) -> Parts {
        http::Request::builder().method(verb).uri(path).body(()).unwrap().into_parts().0
    }
}
