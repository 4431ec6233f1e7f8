//! Statements of the gateway's own.
//!
//! Source: "CREATE SNAPSHOT TABLE" in BigQuery's reference of data definition language.

use gateway::{Kept, Question};
use http::Method as Verb;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::route::percent_encode;

/// It is waited for so long, in milliseconds: a snapshot copies nothing.
const WAITED_MS: u64 = 60_000;

/// Keeps a table. Names were checked to hold no backtick.
pub(crate) fn snapshot(kept: &Kept<'_>) -> Question {
    let Kept { project, location, table, snapshot, expires_secs } = kept;
    let sql = format!(
        "CREATE SNAPSHOT TABLE `{snapshot}` CLONE `{table}` OPTIONS (expiration_timestamp = \
         TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL {expires_secs} SECOND))"
    );
    let mut body = json!({"query": sql, "useLegacySql": false, "timeoutMs": WAITED_MS});
    if !location.is_empty() {
        body["location"] = Value::from(*location);
    }
    let uri = crate::own_uri(&format!("/bigquery/v2/projects/{}/queries", percent_encode(project)));
    Question { verb: Verb::POST, uri, body: body.to_string().into() }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Answer {
    job_complete: bool,
    errors: Vec<Error>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Error {
    message: String,
}

/// Whether it is done.
pub(crate) fn done(body: &[u8]) -> Result<(), String> {
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    match (answer.errors.first(), answer.job_complete) {
        (Some(error), _) => Err(error.message.clone()),
        (None, true) => Ok(()),
        (None, false) => Err("it was not done in time".to_owned()),
    }
}
