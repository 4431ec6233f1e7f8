//! What stops a session that went wrong: failures and refusals again and again, ever more tables and bytes, and a
//! statement that runs as another than was decided on.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::ScriptedReply;

use crate::block_on;
use crate::rules::{Set, rule_of};

const AGENTS: &str = "[policy]\ninclude = [\"agents-default\"]\n";
const TIB: u64 = 1 << 40;

/// A statement that names `broken` fails; one that names `dear` is billed half a TiB; jobs fail when they are asked for.
fn script(_: &str, request: &Request<Bytes>) -> ScriptedReply {
    let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
    let sql = body["query"].as_str().unwrap_or_default();
    let last = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    if sql.contains("broken") {
        let error = json!({"error": {"code": 400, "message": "no such column", "errors": [{"reason": "invalidQuery"}]}});
        return ScriptedReply::json(error.to_string()).status(400);
    }
    let billed = if sql.contains("dear") { TIB / 2 } else { 1 };
    let answer = match (request.method().as_str(), last.as_str()) {
        ("POST", "queries") => {
            json!({"jobComplete": true, "totalRows": "0", "totalBytesBilled": billed.to_string(),
            "jobReference": {"projectId": "proj", "jobId": body["requestId"]}})
        }
        ("POST", "jobs") => json!({"jobReference": body["jobReference"], "status": {"state": "RUNNING"}}),
        ("GET", id) if request.uri().path().contains("/jobs/") => {
            let error = json!({"reason": "invalidQuery", "message": "no"});
            json!({"jobReference": {"projectId": "proj", "jobId": id}, "status": {"state": "DONE", "errorResult": error}})
        }
        _ => json!({"type": "TABLE"}),
    };
    ScriptedReply::json(answer.to_string())
}

#[test]
fn the_same_failure_again_and_again_is_stopped() {
    block_on(async {
        let set = Set::new("", AGENTS, script).await;
        for number in 0..10 {
            let answer =
                set.query(&set.agent, &format!("SELECT broken FROM crm.orders WHERE id = {number}")).await;
            assert_eq!(answer.status, 400, "{answer:?}");
        }
        let stopped = set.query(&set.agent, "SELECT broken FROM crm.orders WHERE id = 11").await;
        assert_eq!(
            (stopped.status, rule_of(&stopped).as_str()),
            (403, "agents-do-not-repeat-failures"),
            "{stopped:?}"
        );
        let said = stopped.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(said.contains("Read the error and the table's schema"), "an agent can act on it: {said}");
        assert_eq!(
            set.query(&set.agent, "SELECT id FROM crm.orders").await.status,
            200,
            "another one goes on"
        );

        // A job fails later, and counts all the same.
        for number in 0..10 {
            let job = json!({"jobReference": {"projectId": "proj", "jobId": format!("j{number}")},
                "configuration": {"query": {"query": format!("SELECT gone FROM crm.orders WHERE id = {number}"), "useLegacySql": false}}});
            assert_eq!(
                set.send("POST", "/bigquery/v2/projects/proj/jobs", &set.agent, &job.to_string())
                    .await
                    .status,
                200
            );
        }
        set.gateway.until_jobs_are_recorded().await;
        let stopped = set.query(&set.agent, "SELECT gone FROM crm.orders WHERE id = 12").await;
        assert_eq!(rule_of(&stopped), "agents-do-not-repeat-failures", "{stopped:?}");
    });
}

#[test]
fn refusals_in_a_row_tables_and_bytes_are_bounded() {
    block_on(async {
        let set = Set::new("", AGENTS, script).await;
        for number in 0..20 {
            let answer = set.query(&set.agent, &format!("DROP TABLE crm.t{number}")).await;
            assert_eq!(rule_of(&answer), "agents-do-not-drop");
        }
        let stopped = set.query(&set.agent, "SELECT id FROM crm.orders").await;
        assert_eq!(rule_of(&stopped), "agents-do-not-push", "{stopped:?}");
        assert_eq!(set.send("GET", "/bigquery/v2/projects/proj/datasets", &set.agent, "").await.status, 200);

        let set = Set::new("", AGENTS, script).await;
        for number in 0..25 {
            let tables: Vec<String> = (0..8).map(|table| format!("crm.t{number}_{table}")).collect();
            let sql = format!("SELECT * FROM {}", tables.join(", "));
            let answer = set.query(&set.agent, &sql).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        let stopped = set.query(&set.agent, "SELECT id FROM crm.orders").await;
        assert_eq!(rule_of(&stopped), "agents-do-not-roam", "{stopped:?}");

        let set = Set::new("", AGENTS, script).await;
        for _ in 0..2 {
            assert_eq!(set.query(&set.agent, "SELECT dear FROM crm.orders").await.status, 200);
        }
        let stopped = set.query(&set.agent, "SELECT id FROM crm.orders").await;
        assert_eq!(rule_of(&stopped), "agents-do-not-burn", "{stopped:?}");
    });
}

#[test]
fn a_job_that_runs_as_another_statement_is_cancelled_where_that_is_wanted() {
    block_on(async {
        let running = |_: &str, request: &Request<Bytes>| {
            let path = request.uri().path();
            // The job's kind is known only once it runs.
            let kind = if request.method() == "GET" { "DELETE" } else { "" };
            let job = json!({"jobReference": {"projectId": "proj", "jobId": "j1"}, "status": {"state": "RUNNING"},
                "statistics": {"query": {"statementType": kind}}, "configuration": {"query": {"query": "SELECT 1"}}});
            let job = if path.ends_with("/cancel") { json!({"job": job}) } else { job };
            ScriptedReply::json(job.to_string())
        };
        for (policy, is_stopped) in [("[policy]\non_mismatch = \"stop\"\n", true), ("", false)] {
            let rule =
                "[[rule]]\nname = \"label\"\nwhen = \"statement.kind == 'SELECT'\"\naction = \"label\"\n";
            let set = Set::new("", &format!("{policy}{rule}"), running).await;
            let job = json!({"jobReference": {"projectId": "proj", "jobId": "j1"},
                "configuration": {"query": {"query": "SELECT * FROM crm.t", "useLegacySql": false}}});
            let answer =
                set.send("POST", "/bigquery/v2/projects/proj/jobs", &set.person(), &job.to_string()).await;
            assert_eq!(answer.status, 200);
            let cancelled =
                || set.upstream.asked().iter().any(|asked| asked.uri().path().ends_with("/j1/cancel"));
            let until = Instant::now() + Duration::from_secs(if is_stopped { 15 } else { 4 });
            while !cancelled() && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let asked: Vec<String> =
                set.upstream.asked().iter().map(|one| format!("{} {}", one.method(), one.uri())).collect();
            assert_eq!(cancelled(), is_stopped, "{asked:#?} {}", set.gateway.log());
        }
    });
}

#[test]
fn a_child_of_another_kind_than_its_script_has_is_an_alarm_and_stops_it() {
    block_on(async {
        let children = |_: &str, request: &Request<Bytes>| {
            let uri = request.uri().to_string();
            let job = |id: &str, kind: &str, state: &str| {
                json!({"jobReference": {"projectId": "proj", "jobId": id}, "status": {"state": state},
                    "statistics": {"numChildJobs": "2", "query": {"statementType": kind}}})
            };
            let is_odd = uri.contains("parentJobId=odd");
            let answer = match uri.as_str() {
                uri if uri.contains("parentJobId=") => {
                    let second = if is_odd { "DROP_TABLE" } else { "INSERT" };
                    let mut jobs = [job("c1", "SELECT", "DONE"), job("c2", second, "DONE")];
                    jobs.iter_mut().for_each(|child| child["statistics"]["numChildJobs"] = Value::Null);
                    json!({"jobs": jobs})
                }
                uri if uri.ends_with("/cancel") => json!({"job": job("odd", "SCRIPT", "RUNNING")}),
                uri if uri.contains("/jobs/plain") => job("plain", "SCRIPT", "DONE"),
                uri if uri.contains("/jobs/") => job("odd", "SCRIPT", "RUNNING"),
                _ => {
                    let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
                    let mut begun = job("x", "SCRIPT", "RUNNING");
                    begun["jobReference"] = body["jobReference"].clone();
                    begun
                }
            };
            ScriptedReply::json(answer.to_string())
        };
        let rule = "[policy]\non_mismatch = \"stop\"\n[[rule]]\nname = \"label\"\nwhen = \"statement.kind == 'SCRIPT'\"\naction = \"label\"\n";
        let set = Set::new("", rule, children).await;
        let sql = "DECLARE x INT64 DEFAULT (SELECT 1); INSERT INTO crm.t (a) VALUES (x);";
        for id in ["plain", "odd"] {
            let job = json!({"jobReference": {"projectId": "proj", "jobId": id},
                "configuration": {"query": {"query": sql, "useLegacySql": false}}});
            let answer =
                set.send("POST", "/bigquery/v2/projects/proj/jobs", &set.person(), &job.to_string()).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        let cancelled = |id: &str| {
            let path = format!("/{id}/cancel");
            set.upstream.asked().iter().any(|asked| asked.uri().path().ends_with(&path))
        };
        let until = Instant::now() + Duration::from_secs(15);
        while !cancelled("odd") {
            assert!(Instant::now() < until, "{}", set.gateway.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(!cancelled("plain"), "what was decided on runs on");
    });
}
