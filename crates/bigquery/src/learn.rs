//! What an answer says about its statement, its job and its result.

use gateway::Learnt;
use http::StatusCode;
use record::{Job, Statement, Status};
use serde::Deserialize;
use serde_json::Value;

use crate::json::Watcher;
use crate::methods::Shape;

/// Reads what was watched.
pub(crate) fn from_answer(status: StatusCode, shape: Shape, watcher: &Watcher, keeps_schema: bool) -> Learnt {
    let rows = watcher.rows();
    let Some(skeleton) = watcher.skeleton().filter(|skeleton| !skeleton.is_empty()) else {
        return Learnt { rows, ..Learnt::default() };
    };
    if !status.is_success() {
        return Learnt { status: error_status(skeleton), ..Learnt::default() };
    }
    match shape {
        Shape::Query => serde_json::from_slice(skeleton).map(|answer| of_query(answer, rows, keeps_schema)),
        Shape::Job => serde_json::from_slice(skeleton).map(of_job),
        Shape::JobWrapped => serde_json::from_slice(skeleton).map(|wrapped: Wrapped| of_job(wrapped.job)),
        Shape::Rows => Ok(Learnt { rows: Some(rows.unwrap_or(0)), ..Learnt::default() }),
        Shape::Jobs | Shape::Other => Ok(Learnt::default()),
    }
    .unwrap_or_else(|_| Learnt { rows, ..Learnt::default() })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorAnswer {
    error: ErrorBody,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    message: String,
    status: String,
    errors: Vec<ErrorProto>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorProto {
    reason: String,
    message: String,
}

fn error_status(skeleton: &[u8]) -> Status {
    let Ok(answer) = serde_json::from_slice::<ErrorAnswer>(skeleton) else { return Status::default() };
    let reason =
        answer.error.errors.first().map(|error| error.reason.clone()).filter(|reason| !reason.is_empty());
    Status {
        reason: reason.unwrap_or(answer.error.status),
        message: answer.error.message,
        ..Status::default()
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Reference {
    job_id: String,
    location: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct QueryAnswer {
    job_reference: Reference,
    query_id: String,
    job_complete: Option<bool>,
    location: String,
    statement_type: String,
    cache_hit: Option<bool>,
    total_bytes_processed: Option<Value>,
    total_bytes_billed: Option<Value>,
    total_slot_ms: Option<Value>,
    dml_stats: Option<Value>,
    num_dml_affected_rows: Option<Value>,
    page_row_count: Option<Value>,
    errors: Vec<ErrorProto>,
    schema: Option<Value>,
}

fn of_query(answer: QueryAnswer, rows: Option<u64>, keeps_schema: bool) -> Learnt {
    let complete = answer.job_complete.unwrap_or(false);
    // Rows may come as Arrow, which says how many they are.
    let arrow_rows = answer.page_row_count.as_ref().and_then(|count| digits(count).parse().ok());
    let failed = if complete { None } else { answer.errors.first() };
    // An answer that is complete, has errors and no schema is a failure in an answer of success.
    let failed = failed.or(answer.errors.first().filter(|_| answer.schema.is_none()));
    let location = if answer.location.is_empty() { answer.job_reference.location } else { answer.location };
    Learnt {
        statement: Statement {
            certain: !answer.statement_type.is_empty(),
            kind: answer.statement_type,
            ..Statement::default()
        },
        job: Job {
            id: answer.job_reference.job_id,
            query_id: answer.query_id,
            state: if complete { "DONE".to_owned() } else { "RUNNING".to_owned() },
            cache_hit: answer.cache_hit,
            bytes_processed: answer.total_bytes_processed.as_ref().map(digits),
            bytes_billed: answer.total_bytes_billed.as_ref().map(digits),
            slot_ms: answer.total_slot_ms.as_ref().map(digits),
            dml: answer.dml_stats.or(answer.num_dml_affected_rows),
            ..Job::default()
        },
        location,
        rows: rows.or(arrow_rows).or(complete.then_some(0)),
        status: failed.map(proto_status).unwrap_or_default(),
        schema: answer.schema.filter(|_| keeps_schema),
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wrapped {
    job: JobAnswer,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JobAnswer {
    job_reference: Reference,
    status: JobStatus,
    statistics: Statistics,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JobStatus {
    state: String,
    error_result: Option<ErrorProto>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Statistics {
    parent_job_id: String,
    total_bytes_processed: Option<Value>,
    total_slot_ms: Option<Value>,
    query: QueryStatistics,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct QueryStatistics {
    statement_type: String,
    cache_hit: Option<bool>,
    total_bytes_billed: Option<Value>,
    estimated_bytes_processed: Option<Value>,
    dml_stats: Option<Value>,
    num_dml_affected_rows: Option<Value>,
    referenced_tables: Vec<TableReference>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TableReference {
    project_id: String,
    dataset_id: String,
    table_id: String,
}

fn of_job(answer: JobAnswer) -> Learnt {
    let query = answer.statistics.query;
    let tables = query.referenced_tables.iter().take(200);
    Learnt {
        statement: Statement {
            certain: !query.statement_type.is_empty(),
            kind: query.statement_type,
            tables: tables
                .map(|table| format!("{}.{}.{}", table.project_id, table.dataset_id, table.table_id))
                .collect(),
            ..Statement::default()
        },
        job: Job {
            id: answer.job_reference.job_id,
            parent: answer.statistics.parent_job_id,
            state: answer.status.state,
            cache_hit: query.cache_hit,
            bytes_processed: answer.statistics.total_bytes_processed.as_ref().map(digits),
            bytes_billed: query.total_bytes_billed.as_ref().map(digits),
            slot_ms: answer.statistics.total_slot_ms.as_ref().map(digits),
            dml: query.dml_stats.or(query.num_dml_affected_rows),
            estimate_bytes: query.estimated_bytes_processed.as_ref().map(digits),
            ..Job::default()
        },
        location: answer.job_reference.location,
        rows: None,
        status: answer.status.error_result.as_ref().map(proto_status).unwrap_or_default(),
        schema: None,
    }
}

fn proto_status(error: &ErrorProto) -> Status {
    let reason = if error.reason.is_empty() { "error" } else { &error.reason };
    Status { reason: reason.to_owned(), message: error.message.clone(), ..Status::default() }
}

fn digits(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
