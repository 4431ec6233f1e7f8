//! Resumable uploads: the client only ever sees the gateway's address, which is bound to whoever opened it.

use gateway::Forwardable;
use http::{HeaderValue, StatusCode, Uri, header};
use state::Upload;

use crate::BigQuery;
use crate::forward::own_address;
use crate::route::RouteKind;
use crate::sisters;
use crate::understand::Plan;

/// Google's upload addresses live a week.
const UPLOAD_SECS: i64 = 7 * 86_400;
const UPLOAD_PREFIX: &str = "hsu_";

type Failure = (StatusCode, &'static str, String);

/// Where a request goes: the upstream's address and the plan's path, or the address of its upload.
pub(crate) async fn target(bigquery: &BigQuery, parts: &Forwardable<Plan>) -> Result<Uri, Failure> {
    let bad = |why: &str| (StatusCode::BAD_GATEWAY, "badGateway", format!("{why}."));
    if let RouteKind::Sister(api) = parts.plan.kind {
        let address = sisters::target(&parts.connection().upstream_apis, api, &parts.plan.target);
        return address.ok_or_else(|| bad("The connection's upstream_apis and this path make no URL"));
    }
    if parts.plan.kind != RouteKind::UploadPart {
        let address = join(&parts.connection().upstream, &parts.plan.target);
        return address.ok_or_else(|| bad("The connection's upstream and this path make no URL"));
    }
    let id = parts.plan.upload_id.clone().unwrap_or_default();
    let not_found = || {
        (
            StatusCode::NOT_FOUND,
            "notFound",
            "Not found: this upload does not exist, has expired, or is not yours. Start a new one."
                .to_owned(),
        )
    };
    let (state, now) = (bigquery.state.clone(), bigquery.clock.now());
    let found = tokio::task::spawn_blocking(move || state.upload(&id, now)).await;
    let found = found.ok().and_then(Result::ok).flatten().ok_or_else(not_found)?;
    if found.principal != parts.principal || found.connection != parts.connection().name.as_str() {
        return Err(not_found());
    }
    found.upstream.parse().map_err(|_| bad("The upload's address is no URL"))
}

fn join(upstream: &Uri, target: &str) -> Option<Uri> {
    format!("{}{target}", upstream.to_string().trim_end_matches('/')).parse().ok()
}

/// Puts the gateway's own address in the place of the upstream's. Durable before the client sees it.
pub(crate) async fn rewrite_location(
    bigquery: &BigQuery,
    parts: &Forwardable<Plan>,
    head: &mut http::response::Parts,
) -> Result<(), String> {
    let Some(location) = head.headers.remove(header::LOCATION) else { return Ok(()) };
    if parts.plan.kind != RouteKind::UploadStart || !head.status.is_success() {
        return Ok(());
    }
    let upstream = own_upstream(parts, &location).ok_or_else(|| {
        "BigQuery gave an upload address on another host, which hansard does not follow.".to_owned()
    })?;
    let id = format!("{UPLOAD_PREFIX}{}", parts.record);
    let upload = Upload {
        id: id.clone(),
        principal: parts.principal.clone(),
        session: parts.session.to_string(),
        connection: parts.connection().name.to_string(),
        upstream: upstream.to_string(),
        record: parts.record.to_string(),
        expires_at: bigquery.clock.now().plus_secs(UPLOAD_SECS),
    };
    let state = bigquery.state.clone();
    let bound = tokio::task::spawn_blocking(move || state.insert_upload(&upload)).await;
    if !matches!(bound, Ok(Ok(()))) {
        return Err("hansard could not bind the upload; try again.".to_owned());
    }
    let own = own_address(&bigquery.public_url, &parts.head, parts.client);
    let path = parts.plan.target.split('?').next().unwrap_or_default();
    let address = format!("{own}{path}?uploadType=resumable&upload_id={id}");
    let value = HeaderValue::from_str(&address)
        .map_err(|_| "The gateway's address is no header value.".to_owned())?;
    head.headers.insert(header::LOCATION, value);
    Ok(())
}

/// The upload's address, if it is on the connection's own upstream: the token goes there.
fn own_upstream(parts: &Forwardable<Plan>, location: &HeaderValue) -> Option<Uri> {
    let text = location.to_str().ok()?;
    let upstream = &parts.connection().upstream;
    if text.starts_with('/') {
        return join(upstream, text);
    }
    let given: Uri = text.parse().ok()?;
    let same = given.authority() == upstream.authority() && given.scheme() == upstream.scheme();
    let google = |uri: &Uri| {
        uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| host.ends_with(".googleapis.com"))
    };
    (same || (google(&given) && google(upstream))).then_some(given)
}
