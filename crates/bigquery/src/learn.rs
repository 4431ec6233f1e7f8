//! What an answer says about its statement, its job and its result.

use gateway::{JobRef, JobSeen, JobsSeen, Learnt};
use http::StatusCode;
use record::{Job, Statement, Status};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use state::Owned;
use std::collections::BTreeMap;

use crate::json::Watcher;
use crate::methods::Shape;
use crate::touches::{self, TableName};

/// Reads what was watched.
pub(crate) fn from_answer(
    status: StatusCode,
    shape: Shape,
    watcher: &Watcher,
    keeps_schema: bool,
    (project, starts_query): (&str, bool),
) -> Learnt {
    let rows = watcher.rows();
    let Some(skeleton) = watcher.skeleton().filter(|skeleton| !skeleton.is_empty()) else {
        // Without errors the answer to an insert is short.
        if shape == Shape::Inserted && watcher.skeleton().is_none() {
            return Learnt { status: refused_rows(None), ..Learnt::default() };
        }
        return Learnt { rows, ..Learnt::default() };
    };
    if !status.is_success() {
        return Learnt { status: error_status(skeleton), ..Learnt::default() };
    }
    match shape {
        Shape::Query => {
            let schema = keeps_schema.then(|| serde_json::from_slice::<SchemaAnswer>(skeleton));
            let schema = schema.and_then(|kept| kept.ok()?.schema);
            serde_json::from_slice(skeleton).map(|answer| {
                let learnt = of_query(answer, rows, schema, project);
                // Whatever is under way is followed, and counted at its end.
                let billed = learnt.job.bytes_billed.as_ref().and_then(|bytes| bytes.parse().ok());
                let is_over = starts_query && learnt.under_way.is_none();
                Learnt { spent: billed.filter(|_| is_over), ..learnt }
            })
        }
        Shape::Job => serde_json::from_slice(skeleton).map(|answer| learnt_of(seen(answer, project))),
        Shape::JobWrapped => {
            serde_json::from_slice(skeleton).map(|wrapped: Wrapped| learnt_of(seen(wrapped.job, project)))
        }
        Shape::Inserted => serde_json::from_slice(skeleton).map(|answer: InsertAnswer| Learnt {
            status: answer.insert_errors.first().map(|row| refused_rows(Some(row))).unwrap_or_default(),
            ..Learnt::default()
        }),
        Shape::Rows => Ok(Learnt { rows: Some(rows.unwrap_or(0)), ..Learnt::default() }),
        Shape::Jobs | Shape::Other => Ok(Learnt::default()),
    }
    .unwrap_or_else(|_| match starts_query {
        true => Learnt { rows, ..begun(skeleton, project) },
        false => Learnt { rows, ..Learnt::default() },
    })
}

/// Of an answer to `jobs.query` that broke off: the job that it names, if that came. It is followed, whatever became of it.
fn begun(skeleton: &[u8], project: &str) -> Learnt {
    const NAME: &[u8] = b"\"jobReference\"";
    let named = memchr::memmem::find(skeleton, NAME).and_then(|at| {
        let rest = skeleton[at + NAME.len()..].trim_ascii_start().strip_prefix(b":")?;
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<Reference>();
        reference(&values.next()?.ok()?, "", project)
    });
    let owns = named.iter().map(|job| Owned::job(&job.project, &job.job)).collect();
    Learnt { owns, under_way: named, ..Learnt::default() }
}

/// Rows that BigQuery refused, in an answer of 200.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct InsertAnswer {
    insert_errors: Vec<RefusedRow>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RefusedRow {
    index: Value,
    errors: Vec<ErrorProto>,
}

/// The first refused row, in BigQuery's words; none where they are too many to be read.
fn refused_rows(row: Option<&RefusedRow>) -> Status {
    let error = row.and_then(|row| row.errors.first());
    let reason = error.map(|error| error.reason.clone()).filter(|reason| !reason.is_empty());
    let message = match (row, error) {
        (Some(row), Some(error)) => format!("row {}: {}", digits(&row.index), error.message),
        (_, _) => "rows were refused".to_owned(),
    };
    Status { reason: reason.unwrap_or_else(|| "invalid".to_owned()), message, ..Status::default() }
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
    project_id: String,
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
    /// Whether there is one: what it says is read only where it is kept.
    schema: Option<IgnoredAny>,
    session_info: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SchemaAnswer {
    schema: Option<Value>,
}

fn of_query(answer: QueryAnswer, rows: Option<u64>, schema: Option<Value>, project: &str) -> Learnt {
    let complete = answer.job_complete.unwrap_or(false);
    let job = reference(&answer.job_reference, &answer.location, project);
    let mut owns: Vec<Owned> = job.iter().map(|job| Owned::job(&job.project, &job.job)).collect();
    owns.extend(touches::session_of(answer.session_info.as_ref()));
    // A script's children are told by their own records, so it is followed though it is complete.
    let under_way = job.filter(|_| !complete || answer.statement_type == "SCRIPT");
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
            dml: counts(answer.dml_stats.or(answer.num_dml_affected_rows)),
            ..Job::default()
        },
        location,
        rows: rows.or(arrow_rows).or(complete.then_some(0)),
        status: failed.map(proto_status).unwrap_or_default(),
        schema,
        owns,
        under_way,
        ..Learnt::default()
    }
}

/// The job that an answer names, if it names one.
fn reference(named: &Reference, location: &str, project: &str) -> Option<JobRef> {
    let or = |first: &str, second: &str| if first.is_empty() { second.to_owned() } else { first.to_owned() };
    // A longer name is none that could be asked for.
    let is_name = |name: &str| name.len() <= crate::understand::NAME_BYTES_MAX;
    let is_one =
        !named.job_id.is_empty() && is_name(&named.job_id) && is_name(&named.location) && is_name(location);
    is_one.then(|| JobRef {
        project: or(&named.project_id, project),
        job: named.job_id.clone(),
        location: or(&named.location, location),
    })
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
    configuration: Configuration,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Configuration {
    query: ConfiguredQuery,
    labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ConfiguredQuery {
    query: Option<String>,
    destination_table: TableName,
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
    num_child_jobs: Option<Value>,
    session_info: Option<Value>,
    total_bytes_processed: Option<Value>,
    total_slot_ms: Option<Value>,
    query: QueryStatistics,
    load: LoadStatistics,
    copy: CopyStatistics,
    extract: ExtractStatistics,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LoadStatistics {
    output_bytes: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CopyStatistics {
    copied_logical_bytes: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ExtractStatistics {
    input_bytes: Option<Value>,
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

fn learnt_of(seen: JobSeen) -> Learnt {
    let under_way = (!seen.is_done).then(|| seen.job.clone());
    let own = Owned::job(&seen.job.project, &seen.job.job);
    Learnt {
        statement: seen.statement,
        job: seen.facts,
        location: seen.job.location.clone(),
        status: seen.status,
        // A dry run has no job.
        under_way: under_way.filter(|job| !job.job.is_empty()),
        owns: seen.owns.into_iter().chain(Some(own).filter(|_| !seen.job.job.is_empty())).collect(),
        ..Learnt::default()
    }
}

fn seen(answer: JobAnswer, project: &str) -> JobSeen {
    let query = answer.statistics.query;
    let moved = [
        &query.total_bytes_billed,
        &answer.statistics.load.output_bytes,
        &answer.statistics.copy.copied_logical_bytes,
        &answer.statistics.extract.input_bytes,
    ];
    let spent = moved.into_iter().flatten().find_map(|bytes| digits(bytes).parse().ok());
    let tables = query.referenced_tables.iter();
    let named = answer.job_reference;
    JobSeen {
        is_done: answer.status.state == "DONE",
        has_children: answer.statistics.num_child_jobs.as_ref().is_some_and(|count| digits(count) != "0"),
        statement: Statement {
            certain: !query.statement_type.is_empty(),
            kind: query.statement_type,
            tables: tables
                .map(|table| format!("{}.{}.{}", table.project_id, table.dataset_id, table.table_id))
                .collect(),
            ..Statement::default()
        },
        facts: Job {
            id: named.job_id.clone(),
            parent: answer.statistics.parent_job_id,
            state: answer.status.state,
            cache_hit: query.cache_hit,
            bytes_processed: answer.statistics.total_bytes_processed.as_ref().map(digits),
            bytes_billed: query.total_bytes_billed.as_ref().map(digits),
            slot_ms: answer.statistics.total_slot_ms.as_ref().map(digits),
            dml: counts(query.dml_stats.or(query.num_dml_affected_rows)),
            estimate_bytes: query.estimated_bytes_processed.as_ref().map(digits),
            ..Job::default()
        },
        status: answer.status.error_result.as_ref().map(proto_status).unwrap_or_default(),
        owns: answer
            .configuration
            .query
            .destination_table
            .anonymous()
            .into_iter()
            .chain(touches::session_of(answer.statistics.session_info.as_ref()))
            .collect(),
        spent,
        sql: answer.configuration.query.query,
        labels: without_ours(answer.configuration.labels),
        job: reference(&named, &named.location, project).unwrap_or_default(),
    }
}

fn without_ours(mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.retain(|key, _| !crate::understand::OUR_LABELS.contains(&key.as_str()));
    labels
}

/// `JobList`
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JobsAnswer {
    jobs: Option<Vec<ListedJob>>,
    next_page_token: Option<String>,
}

/// An item of a list, which has its state beside its status too.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ListedJob {
    state: String,
    #[serde(flatten)]
    job: JobAnswer,
}

/// One job, or a list of them.
pub(crate) fn jobs(body: &[u8]) -> Option<JobsSeen> {
    let value: Value = serde_json::from_slice(body).ok()?;
    if value.get("jobReference").is_some() {
        let job: JobAnswer = serde_json::from_value(value).ok()?;
        return Some(JobsSeen { jobs: vec![seen(job, "")], next_page: None });
    }
    let list: JobsAnswer = serde_json::from_value(value).ok()?;
    let jobs = list.jobs.unwrap_or_default().into_iter().map(|mut listed| {
        if listed.job.status.state.is_empty() {
            listed.job.status.state = listed.state;
        }
        seen(listed.job, "")
    });
    Some(JobsSeen { jobs: jobs.collect(), next_page: list.next_page_token.filter(|page| !page.is_empty()) })
}

fn proto_status(error: &ErrorProto) -> Status {
    let reason = if error.reason.is_empty() { "error" } else { &error.reason };
    Status { reason: reason.to_owned(), message: error.message.clone(), ..Status::default() }
}

fn digits(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Counts by name, or one count; anything else is none, so that a record holds nothing deep.
fn counts(said: Option<Value>) -> Option<Value> {
    let is_count = |value: &Value| value.is_string() || value.is_number();
    said.filter(|said| is_count(said) || said.as_object().is_some_and(|all| all.values().all(is_count)))
}
