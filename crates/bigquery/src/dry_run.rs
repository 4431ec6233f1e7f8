//! BigQuery's own word on a statement before it runs: a dry run of what would be forwarded.

use bytes::Bytes;
use gateway::{Definition, DryRun, Question};
use http::Method as Verb;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::route::percent_encode;
use crate::understand::Plan;

/// Members of `QueryRequest` that `JobConfigurationQuery` has too and that bear on what a statement means or costs.
const SHARED: &[&str] = &[
    "connectionProperties",
    "defaultDataset",
    "destinationEncryptionConfiguration",
    "parameterMode",
    "query",
    "queryParameters",
    "useLegacySql",
    "useQueryCache",
];

/// How to ask for a dry run of a query; none if it is no query, or is one already.
pub(crate) fn question(plan: &Plan, read: &Bytes) -> Option<Question> {
    plan.reading.as_ref()?;
    let json = plan.job_json.clone()?;
    let sent = plan.body.as_ref().unwrap_or(read);
    let asked: Value = serde_json::from_slice(sent.get(json)?).ok()?;
    let (mut configuration, location) = match plan.is_query_door {
        true => {
            let shared =
                SHARED.iter().filter_map(|name| Some(((*name).to_owned(), asked.get(name)?.clone())));
            let query: Map<String, Value> = shared.collect();
            (json!({"query": query}), asked["location"].clone())
        }
        false => (asked["configuration"].clone(), asked["jobReference"]["location"].clone()),
    };
    let object = configuration.as_object_mut()?;
    object.remove("labels");
    if let Some(query) = object.get_mut("query").and_then(Value::as_object_mut) {
        query.remove("createSession");
        query.remove("maximumBytesBilled");
    }
    object.insert("dryRun".to_owned(), true.into());
    let mut job = json!({"configuration": configuration});
    if location.is_string() {
        job["jobReference"] = json!({"projectId": plan.project, "location": location});
    }
    let uri = crate::own_uri(&format!("/bigquery/v2/projects/{}/jobs", percent_encode(&plan.project)));
    Some(Question { verb: Verb::POST, uri, body: job.to_string().into() })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
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
    let statistics = answer.statistics;
    let bytes = number(&statistics.query.total_bytes_processed).or(number(&statistics.total_bytes_processed));
    let tables = statistics.query.referenced_tables.map(|tables| {
        let name =
            |table: Table| crate::doors::table_name(&table.project_id, &table.dataset_id, &table.table_id);
        tables.into_iter().map(name).collect()
    });
    let failed = if bytes.is_none() { "its dry run says no bytes".to_owned() } else { String::new() };
    DryRun { bytes, kind: statistics.query.statement_type, tables, failed }
}

/// An int64, which BigQuery's JSON writes as a string.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
