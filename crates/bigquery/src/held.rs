//! What BigQuery would say of a job that waits, or that ended before it began.
//!
//! Source: `Job`, `QueryResponse` and `JobCancelResponse` of BigQuery's REST reference; which of it clients read:
//! docs/clients.md.

use gateway::{HeldJob, Reply};
use http::{Response, header};
use serde_json::{Value, json};

use crate::json::Editor;
use crate::methods::Shape;
use crate::understand::Plan;

/// The answer, in the shape that the method has, narrowed as the client asked.
pub(crate) fn answer(plan: &Plan, held: &HeldJob<'_>) -> Reply {
    let body = match plan.shape {
        Shape::Query => waiting_query(held, plan.is_query_door),
        Shape::JobWrapped => json!({"kind": "bigquery#jobCancelResponse", "job": job(held)}),
        _ => job(held),
    };
    let mut text = body.to_string().into_bytes();
    for edit in plan.edits.clone() {
        let mut narrowed = Vec::with_capacity(text.len());
        Editor::new(edit).push(&text, &mut narrowed).expect("it is JSON of ours");
        text = narrowed;
    }
    let mut reply = Response::new(gateway::full(text));
    let json = header::HeaderValue::from_static("application/json; charset=UTF-8");
    reply.headers_mut().insert(header::CONTENT_TYPE, json);
    reply
}

fn waiting_query(held: &HeldJob<'_>, is_query: bool) -> Value {
    let kind = if is_query { "bigquery#queryResponse" } else { "bigquery#getQueryResultsResponse" };
    json!({
        "kind": kind, "jobReference": reference(held, &request(held)), "jobComplete": false,
    })
}

fn request(held: &HeldJob<'_>) -> Value {
    serde_json::from_slice(held.body).unwrap_or_default()
}

fn reference(held: &HeldJob<'_>, request: &Value) -> Value {
    let mut reference = json!({"projectId": held.job.project, "jobId": held.job.job});
    if let Some(location) = request["jobReference"]["location"].as_str() {
        reference["location"] = location.into();
    }
    reference
}

fn job(held: &HeldJob<'_>) -> Value {
    let mut request = request(held);
    let reference = reference(held, &request);
    let mut configuration = request["configuration"].take();
    let kind = ["query", "load", "extract", "copy"].into_iter().find(|kind| configuration[*kind].is_object());
    if let (Some(kind), Some(configuration)) = (kind, configuration.as_object_mut()) {
        configuration.insert("jobType".to_owned(), kind.to_ascii_uppercase().into());
    }
    let created = (held.created.micros() / 1_000).to_string();
    let mut statistics = json!({"creationTime": created});
    let status = match held.ended {
        None => json!({"state": "PENDING"}),
        Some((reason, message)) => {
            let error = json!({"reason": reason, "message": message});
            statistics["startTime"] = created.clone().into();
            statistics["endTime"] = created.into();
            json!({"state": "DONE", "errorResult": error, "errors": [error]})
        }
    };
    let id = match reference["location"].as_str() {
        Some(location) => format!("{}:{location}.{}", held.job.project, held.job.job),
        None => format!("{}:{}", held.job.project, held.job.job),
    };
    json!({
        "kind": "bigquery#job", "id": id, "jobReference": reference, "configuration": configuration,
        "status": status, "statistics": statistics, "user_email": held.user,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway::JobRef;
    use record::Timestamp;

    #[test]
    fn a_held_job_waits_and_one_that_was_denied_is_done() {
        let named = JobRef { project: "p".to_owned(), job: "j".to_owned(), location: String::new() };
        let body = br#"{"configuration":{"query":{"query":"q"}},"jobReference":{"location":"EU"}}"#;
        let created = Timestamp::from_secs(1);
        let held = HeldJob { job: &named, ended: None, body, created, user: "a@example.com" };
        let waiting = job(&held);
        assert_eq!(waiting["status"], json!({"state": "PENDING"}));
        assert_eq!(waiting["jobReference"], json!({"projectId": "p", "jobId": "j", "location": "EU"}));
        assert_eq!(waiting["configuration"]["jobType"], "QUERY");
        let denied = job(&HeldJob { ended: Some(("accessDenied", "no")), ..held });
        assert_eq!(denied["status"]["state"], "DONE");
        assert_eq!(denied["status"]["errorResult"]["reason"], "accessDenied");
    }
}
