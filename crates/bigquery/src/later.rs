//! A job that is sent later than it was asked for: the same job, as `jobs.insert` takes it, and what it is bound to.
//!
//! Source: `QueryRequest`, `Job` and `JobConfiguration` of Google's discovery document of the BigQuery API v2.

use bytes::Bytes;
use gateway::{JobRef, LaterJob, Question};
use http::Method as Verb;
use serde_json::{Map, Value, json};

use crate::route::{RouteKind, percent_encode};
use crate::understand::{OUR_LABELS, Plan};

/// Where a member of `QueryRequest` goes in a `Job`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    /// `configuration.query`
    Query,
    /// `configuration`
    Configuration,
    /// `jobReference`
    Reference,
    /// It shapes the answer of `jobs.query` alone, or is a mark of the one request.
    Nowhere,
}

/// Every member of `QueryRequest`; a test walks Google's schema.
const QUERY_REQUEST: &[(&str, Goes)] = &[
    ("arrowSerializationOptions", Goes::Nowhere),
    ("connectionProperties", Goes::Query),
    ("continuous", Goes::Query),
    ("createSession", Goes::Query),
    ("defaultDataset", Goes::Query),
    ("destinationEncryptionConfiguration", Goes::Query),
    ("dryRun", Goes::Configuration),
    ("formatOptions", Goes::Nowhere),
    ("jobCreationMode", Goes::Nowhere),
    ("jobTimeoutMs", Goes::Configuration),
    ("kind", Goes::Nowhere),
    ("labels", Goes::Configuration),
    ("location", Goes::Reference),
    ("maxResults", Goes::Nowhere),
    ("maxSlots", Goes::Configuration),
    ("maximumBytesBilled", Goes::Query),
    ("parameterMode", Goes::Query),
    ("preserveNulls", Goes::Query),
    ("query", Goes::Query),
    ("queryParameters", Goes::Query),
    ("queryResultsFormat", Goes::Nowhere),
    ("requestId", Goes::Nowhere),
    ("reservation", Goes::Configuration),
    ("secureContext", Goes::Query),
    ("timeoutMs", Goes::Nowhere),
    ("useLegacySql", Goes::Query),
    ("useQueryCache", Goes::Query),
    ("writeIncrementalResults", Goes::Query),
];

/// A query request as the job that it would be. What the schema does not name goes with the query, where BigQuery
/// judges it.
pub(crate) fn job_of_query(asked: &Value) -> Value {
    let (mut query, mut configuration, mut reference) = (Map::new(), Map::new(), Map::new());
    for (name, value) in asked.as_object().into_iter().flatten() {
        let known = QUERY_REQUEST.iter().find(|(known, _)| known == name);
        match known.map_or(Goes::Query, |(_, goes)| *goes) {
            Goes::Query => query.insert(name.clone(), value.clone()),
            Goes::Configuration => configuration.insert(name.clone(), value.clone()),
            Goes::Reference => reference.insert(name.clone(), value.clone()),
            Goes::Nowhere => None,
        };
    }
    configuration.insert("query".to_owned(), query.into());
    json!({"configuration": configuration, "jobReference": reference})
}

/// The job that a request makes, as it may be sent later, named `id` and run in `location` where it says neither; none
/// if it makes none.
pub(crate) fn job(plan: &Plan, read: &Bytes, (id, location): (&str, &str)) -> Option<LaterJob> {
    let asked: Value = serde_json::from_slice(sent(plan, read).get(plan.job_json.clone()?)?).ok()?;
    let mut job = if plan.is_query_door { job_of_query(&asked) } else { asked };
    if let Some(labels) = job["configuration"]["labels"].as_object_mut() {
        labels.retain(|key, _| !OUR_LABELS.contains(&key.as_str()));
    }
    let configuration = job["configuration"].as_object_mut()?;
    if configuration.get("labels").is_some_and(|labels| labels.as_object().is_some_and(Map::is_empty)) {
        configuration.remove("labels");
    }
    let reference =
        job.as_object_mut()?.entry("jobReference").or_insert_with(|| json!({})).as_object_mut()?;
    reference.insert("projectId".to_owned(), plan.project.clone().into());
    let said = |name: &str| reference.get(name).and_then(Value::as_str).filter(|said| !said.is_empty());
    let own_id = said("jobId").map(str::to_owned);
    // Whoever asks for it later by its name alone must find it.
    let location = said("location").unwrap_or(location).to_owned();
    if !location.is_empty() {
        reference.insert("location".to_owned(), location.clone().into());
    }
    reference.remove("jobId");
    let binding = job.to_string().into_bytes();
    let frame = framed(job.clone()).to_string().into_bytes();
    let is_named = own_id.is_some();
    let id = own_id.unwrap_or_else(|| id.to_owned());
    job["jobReference"]["jobId"] = id.clone().into();
    let uri = crate::own_uri(&format!("/bigquery/v2/projects/{}/jobs", percent_encode(&plan.project)));
    Some(LaterJob {
        job: JobRef { project: plan.project.clone(), job: id, location },
        is_named,
        is_whole: matches!(plan.kind, RouteKind::Plain(_)),
        question: Question { verb: Verb::POST, uri, body: job.to_string().into() },
        binding,
        frame,
    })
}

/// The body that would be sent.
pub(crate) fn sent<'a>(plan: &'a Plan, read: &'a Bytes) -> &'a Bytes {
    plan.body.as_ref().unwrap_or(read)
}

/// A job without its text and its parameters.
fn framed(mut job: Value) -> Value {
    if let Some(query) = job["configuration"]["query"].as_object_mut() {
        query.remove("query");
        query.remove("queryParameters");
    }
    job
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::tests::document;
    use std::collections::BTreeSet;

    #[test]
    fn every_member_of_googles_query_request_has_its_place() {
        let document = document();
        let properties = |schema: &str| -> BTreeSet<String> {
            let all = document["schemas"][schema]["properties"].as_object();
            all.expect("properties").keys().cloned().collect()
        };
        let ours: BTreeSet<String> = QUERY_REQUEST.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(properties("QueryRequest"), ours, "a member that is not mapped would be lost on release");
        for (name, goes) in QUERY_REQUEST {
            let there = match goes {
                Goes::Query => properties("JobConfigurationQuery"),
                Goes::Configuration => properties("JobConfiguration"),
                Goes::Reference => properties("JobReference"),
                Goes::Nowhere => continue,
            };
            assert!(there.contains(*name), "{name} has no place there");
        }
    }

    #[test]
    fn members_go_where_a_job_has_them() {
        let asked = json!({
            "query": "SELECT @id", "useLegacySql": false, "queryParameters": [{"name": "id"}], "location": "EU",
            "labels": {"a": "b"}, "maxResults": 5, "timeoutMs": 0, "requestId": "r", "jobTimeoutMs": "1000",
        });
        let expected = json!({
            "configuration": {
                "jobTimeoutMs": "1000", "labels": {"a": "b"},
                "query": {"query": "SELECT @id", "useLegacySql": false, "queryParameters": [{"name": "id"}]},
            },
            "jobReference": {"location": "EU"},
        });
        assert_eq!(job_of_query(&asked), expected);
    }
}
