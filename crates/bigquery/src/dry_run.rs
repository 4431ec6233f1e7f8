//! BigQuery's own word on a statement before it runs: a dry run of what would be forwarded.

use bytes::Bytes;
use gateway::{Definition, DryRun, Estimating, Question};
use http::Method as Verb;
use record::{Deed, Footprint};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::later::{job_of_query, sent};
use crate::methods::Shape;
use crate::route::percent_encode;
use crate::touches;
use crate::understand::Plan;

/// What it takes to know what a request would process.
pub(crate) fn estimating(plan: &Plan, footprint: &Footprint, read: &Bytes) -> Estimating {
    match question(plan, read) {
        Some(question) => Estimating::Ask(question),
        None if plan.reading.is_none() && is_free(plan, footprint) => Estimating::Free,
        None => Estimating::Unknown("it is no query, and only those can be estimated"),
    }
}

/// The same for a call of the Storage API: reading earlier results is free, and appending processes nothing.
pub(crate) fn estimating_stream(footprint: &Footprint) -> Estimating {
    let is_anonymous = |table: &String| touches::is_anonymous_result(table);
    let is_free =
        |deed: &Deed| deed.kind != "SELECT" || !deed.read.is_empty() && deed.read.iter().all(is_anonymous);
    match footprint.statements.iter().all(is_free) {
        true => Estimating::Free,
        false => Estimating::Unknown("only queries can be estimated, and this reads a table as it is"),
    }
}

/// Whether it processes nothing that is billed: no statement, a change of definitions, or rows of a table that are
/// listed (https://cloud.google.com/bigquery/pricing, "Free operations").
fn is_free(plan: &Plan, footprint: &Footprint) -> bool {
    const FREE: &[&str] = &["CREATE_", "ALTER_", "DROP_", "UNDROP_"];
    let is_free = |deed: &Deed| deed.kind.is_empty() || FREE.iter().any(|begin| deed.kind.starts_with(begin));
    plan.shape == Shape::Rows || plan.job_json.is_none() && footprint.statements.iter().all(is_free)
}

/// How to ask for a dry run of a query; none if it is no query, or is one already.
fn question(plan: &Plan, read: &Bytes) -> Option<Question> {
    plan.reading.as_ref()?;
    let asked: Value = serde_json::from_slice(sent(plan, read).get(plan.job_json.clone()?)?).ok()?;
    let mut job = if plan.is_query_door { job_of_query(&asked) } else { asked };
    let object = job["configuration"].as_object_mut()?;
    object.remove("labels");
    if let Some(query) = object.get_mut("query").and_then(Value::as_object_mut) {
        query.remove("createSession");
        query.remove("maximumBytesBilled");
    }
    object.insert("dryRun".to_owned(), true.into());
    let location = job["jobReference"]["location"].take();
    let mut asked = json!({"configuration": job["configuration"].take()});
    if location.is_string() {
        asked["jobReference"] = json!({"projectId": plan.project, "location": location});
    }
    let uri = crate::own_uri(&format!("/bigquery/v2/projects/{}/jobs", percent_encode(&plan.project)));
    Some(Question { verb: Verb::POST, uri, body: asked.to_string().into() })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reference {
    location: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Answer {
    job_reference: Reference,
    statistics: Statistics,
    status: Status,
    error: Error,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Statistics {
    total_bytes_processed: Value,
    query: QueryStatistics,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct QueryStatistics {
    total_bytes_processed: Value,
    statement_type: String,
    referenced_tables: Option<Vec<Table>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Table {
    project_id: String,
    dataset_id: String,
    table_id: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    error_result: Error,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Error {
    message: String,
}

/// "Queries that reference more than 50 tables will not have a complete list." (`JobStatistics2.referencedTables`)
const REFERENCED_MAX: usize = 50;

/// What a dry run said. What it does not say is not known.
pub(crate) fn read(answer: &Definition) -> DryRun {
    let Some((status, body)) = answer else {
        return DryRun { failed: "the dry run got no answer".to_owned(), ..DryRun::default() };
    };
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    let said = [answer.error.message, answer.status.error_result.message];
    if let Some(message) = said.into_iter().find(|message| !message.is_empty()) {
        return DryRun { failed: format!("its dry run failed: {message}"), ..DryRun::default() };
    }
    if !status.is_success() {
        return DryRun { failed: format!("its dry run failed: HTTP {status}"), ..DryRun::default() };
    }
    let location = answer.job_reference.location;
    let statistics = answer.statistics;
    let bytes = number(&statistics.query.total_bytes_processed).or(number(&statistics.total_bytes_processed));
    let referenced = statistics.query.referenced_tables;
    let names_all_tables = referenced.as_ref().is_some_and(|tables| tables.len() < REFERENCED_MAX);
    let tables = referenced.map(|tables| {
        let name =
            |table: Table| crate::doors::table_name(&table.project_id, &table.dataset_id, &table.table_id);
        tables.into_iter().map(name).collect()
    });
    let failed = if bytes.is_none() { "its dry run says no bytes".to_owned() } else { String::new() };
    DryRun { bytes, kind: statistics.query.statement_type, tables, names_all_tables, location, failed }
}

/// An int64, which BigQuery's JSON writes as a string.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
