//! What a rule leaves out of the record, and what belongs to it.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::ScriptedReply;

use crate::block_on;
use crate::rules::Set;

const SQL: &str = "SELECT a FROM medical.patients WHERE name = 'Jane Doe'";
const RULE: &str = "[[rule]]\nname = \"medical-out\"\nwhen = \"request.is_read && statement.tables.exists(t, \
     t.contains('medical'))\"\naction = \"record\"\nexclude = true\n";
/// The same where it is known only once BigQuery was asked what the statement would cost.
const CHEAP: &str = "[[rule]]\nname = \"medical-out\"\nwhen = \"estimate.bytes < 1000 && \
     statement.tables.exists(t, t.contains('medical'))\"\naction = \"record\"\nexclude = true\n\
     [[rule]]\nname = \"dear\"\nwhen = \"estimate.bytes > gib(1)\"\naction = \"deny\"\n";

/// What a job turns out to be, as BigQuery says in the end.
#[derive(Clone)]
struct Ran {
    kind: &'static str,
    table: &'static str,
}

/// BigQuery's answers, discovery revision 20261009: a job runs until it is asked for, and then is done.
fn upstream(request: &Request<Bytes>, ran: &Ran) -> ScriptedReply {
    let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
    let path = request.uri().path();
    let id = path.rsplit('/').next().unwrap_or_default();
    let configuration = json!({
        "jobType": "QUERY", "labels": {"about": "jane"}, "query": {
            "query": SQL, "useLegacySql": false,
            "destinationTable": {"projectId": "proj", "datasetId": "_a", "tableId": "anon1"},
        },
    });
    let job = |state: &str, id: &str| {
        json!({
            "kind": "bigquery#job", "configuration": configuration, "status": {"state": state},
            "jobReference": {"projectId": "proj", "jobId": id, "location": "US"},
            "statistics": {"totalBytesProcessed": "10", "query": {
                "statementType": if state == "DONE" { ran.kind } else { "SELECT" }, "totalBytesProcessed": "10",
                "referencedTables": [{"projectId": "proj", "datasetId": "medical", "tableId": if state == "DONE" { ran.table } else { "patients" }}],
            }},
        })
    };
    let answer = if path.contains("/tables/") {
        json!({"type": "TABLE", "schema": {"fields": [{"name": "a", "type": "STRING"}]}})
    } else if path.ends_with("/jobs") && body["configuration"]["dryRun"] == true {
        job("DONE", "")
    } else if path.ends_with("/jobs") {
        job("RUNNING", body["jobReference"]["jobId"].as_str().unwrap_or("j"))
    } else if path.contains("/jobs/") {
        job("DONE", id)
    } else if body["query"].as_str().is_some_and(|sql| sql.contains("boom")) {
        let error = json!({"code": 400, "message": "Syntax error near 'Jane Doe'", "errors": [{"reason": "invalidQuery"}]});
        return ScriptedReply::json(json!({"error": error}).to_string()).status(400);
    } else {
        json!({
            "kind": "bigquery#queryResponse", "jobComplete": true, "totalRows": "1",
            "jobReference": {"projectId": "proj", "jobId": if id == "queries" { "q" } else { id }, "location": "US"},
            "schema": {"fields": [{"name": "a", "type": "STRING"}]}, "rows": [{"f": [{"v": "Jane Doe's row"}]}],
        })
    };
    ScriptedReply::json(answer.to_string())
}

async fn set(rules: &str, ran: Ran) -> Set {
    let ran = Arc::new(Mutex::new(ran));
    Set::new("", rules, move |_, request| upstream(request, &ran.lock().unwrap())).await
}

/// Starts a job, asks for its rows and its state, and waits for its end. Returns the records of all of it.
async fn run(set: &Set) -> Vec<Value> {
    let alice = set.person();
    let job = json!({
        "jobReference": {"projectId": "proj", "jobId": "out"},
        "configuration": {"labels": {"about": "jane"}, "query": {"query": SQL, "useLegacySql": false}},
    });
    let base = "/bigquery/v2/projects/proj";
    let sent = set.send("POST", &format!("{base}/jobs"), &alice, &job.to_string()).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let ended = |records: &[Value]| {
        records.iter().any(|one| one["kind"] == "job")
            || records
                .iter()
                .filter(|one| one["kind"] == "excluded" && one["target"]["method"].is_null())
                .count()
                > 0
    };
    let mut records = Vec::new();
    for _ in 0..100 {
        records = set.gateway.records(&[]);
        if ended(&records) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(ended(&records), "{records:#?}");
    for path in ["queries/out", "jobs/out"] {
        assert_eq!(set.send("GET", &format!("{base}/{path}"), &alice, "").await.status, 200);
    }
    assert_eq!(set.query(&alice, &format!("{SQL} AND boom")).await.status, 400);
    set.gateway.records(&[])
}

fn texts_of(set: &Set) -> usize {
    ["Jane Doe", "medical"].iter().map(|text| set.gateway.records(&["--contains", text]).len()).sum::<usize>()
        + set.gateway.records(&["--table", "proj.medical.patients"]).len()
}

/// Attack 53: text, tables, labels, an error's message and rows were in the record all the same.
#[test]
fn what_belongs_to_what_is_left_out_is_left_out_with_it() {
    block_on(async {
        for rule in [RULE, CHEAP] {
            let set = set(rule, Ran { kind: "SELECT", table: "patients" }).await;
            let records = run(&set).await;
            let excluded = records.iter().filter(|one| one["kind"] == "excluded");
            let methods: Vec<_> = excluded
                .clone()
                .filter(|one| one["actor"]["kind"] == "person")
                .map(|one| one["target"]["method"].as_str().unwrap_or("end of the job"))
                .collect();
            let expected =
                ["jobs.insert", "end of the job", "jobs.getQueryResults", "jobs.get", "jobs.query"];
            assert_eq!(methods, expected, "each has its tombstone");
            for record in excluded {
                assert_eq!(record["decision"]["rules"], json!(["medical-out"]), "{record:#}");
            }
            for record in &records {
                let whole = serde_json::to_string(record).unwrap();
                for word in ["Jane", "medical.", "patients", "about"] {
                    let is_admin = record["kind"] == "admin";
                    assert!(is_admin || !whole.contains(word), "{word}: {record:#}");
                }
                let id = record["id"].as_str().unwrap();
                let shown = set.gateway.hansard(&["record", "show", id, "--rows", "--json"]).stdout;
                assert!(!shown.contains("Jane Doe"), "{shown}");
            }
            assert_eq!(texts_of(&set), 0);
            assert_eq!(set.gateway.hansard(&["verify"]).code, 0);
        }
    });
}

#[test]
fn what_ran_as_something_else_is_kept_with_all_that_belongs_to_it() {
    block_on(async {
        for ran in [Ran { kind: "DELETE", table: "patients" }, Ran { kind: "SELECT", table: "doctors" }] {
            let set = set(RULE, ran.clone()).await;
            let records = run(&set).await;
            let ended = records.iter().find(|one| one["kind"] == "job").unwrap();
            assert_eq!(ended["statement"]["sql"], SQL, "{ended:#}");
            assert_eq!(ended["statement"]["kind"], ran.kind);
            assert_eq!(ended["statement"]["tables"], json!([format!("proj.medical.{}", ran.table)]));
            for method in ["jobs.get", "jobs.getQueryResults"] {
                let asked = records
                    .iter()
                    .find(|one| one["target"]["method"] == method && one["actor"]["kind"] == "person");
                assert_eq!(asked.unwrap()["kind"], "exchange", "what comes after it is seen");
            }
        }
    });
}

/// Where the answer itself says it, the same record tells what it had left out.
#[test]
fn an_answer_that_says_it_ran_as_something_else_brings_its_text_back() {
    block_on(async {
        let set = Set::new("", RULE, |_, request| {
            let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
            if request.uri().path().contains("/tables/") {
                return ScriptedReply::json(json!({"type": "TABLE"}).to_string());
            }
            let job = json!({
                "kind": "bigquery#job", "configuration": body["configuration"], "status": {"state": "DONE"},
                "jobReference": {"projectId": "proj", "jobId": "j", "location": "US"},
                "statistics": {"query": {"statementType": "DELETE"}},
            });
            ScriptedReply::json(job.to_string())
        })
        .await;
        let job = json!({"configuration": {"labels": {"about": "jane"}, "query": {"query": SQL, "useLegacySql": false}}});
        let sent = set.send("POST", "/bigquery/v2/projects/proj/jobs", &set.person(), &job.to_string()).await;
        let record = crate::record_of(&set.gateway, &sent);
        assert_eq!((&record["kind"], &record["statement"]["sql"]), (&json!("exchange"), &json!(SQL)));
        assert_eq!(record["statement"]["decided_as"], "SELECT", "{record:#}");
        assert_eq!(record["task"]["labels"], json!({"about": "jane"}));
        assert_eq!(record["result"]["retained"], "rows");
        assert!(record["request"]["body"].as_str().unwrap().contains("Jane Doe"), "{record:#}");
        assert_eq!(set.gateway.records(&["--contains", "Jane Doe"]).len(), 1);
    });
}

/// What is left out is no cloak for something else.
#[test]
fn what_does_more_than_read_what_is_left_out_is_recorded() {
    block_on(async {
        let set = set(RULE, Ran { kind: "SELECT", table: "patients" }).await;
        run(&set).await;
        let alice = set.person();
        let base = "/bigquery/v2/projects/proj";
        let table =
            |dataset: &str, table: &str| json!({"projectId": "proj", "datasetId": dataset, "tableId": table});
        let rows = set.send("GET", &format!("{base}/datasets/_a/tables/anon1/data"), &alice, "").await;
        assert_eq!(crate::record_of(&set.gateway, &rows)["kind"], "excluded", "its rows belong to it");
        let copy = |sources: Value| {
            json!({"jobReference": {"projectId": "proj", "jobId": null},
            "configuration": {"copy": {"sourceTables": sources, "destinationTable": table("prod", "t")}}})
        };
        let extract = json!({"jobReference": {"projectId": "proj", "jobId": ""},
            "configuration": {"extract": {"sourceTable": table("_a", "anon1"), "destinationUris": ["gs://out/x"]}}});
        for (method, path, body) in [
            ("POST", "jobs", copy(json!([table("_a", "anon1"), table("payroll", "salaries")]))),
            ("POST", "jobs", copy(json!([table("_a", "anon1")]))),
            ("POST", "jobs", extract),
            ("POST", "jobs/out/cancel", Value::Null),
            ("DELETE", "jobs/out/delete", Value::Null),
            ("POST", "datasets/_a/tables/anon1/insertAll", json!({"rows": [{"json": {"a": "x"}}]})),
            ("PATCH", "datasets/_a/tables/anon1", json!({"description": "x"})),
        ] {
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let answer = set.send(method, &format!("{base}/{path}"), &alice, &body).await;
            let record = crate::record_of(&set.gateway, &answer);
            assert_eq!(record["kind"], "exchange", "{method} {path}: {record:#}");
            assert!(record["request"]["path"].as_str().unwrap().ends_with(path), "{record:#}");
        }
        // Somebody else who may read it leaves a record, not a tombstone.
        let auditor = set.world.issuer.token("audrey@example.com", &["security"]);
        let read = set.send("GET", &format!("{base}/queries/out"), &auditor, "").await;
        assert_eq!(crate::record_of(&set.gateway, &read)["kind"], "exchange", "{read:?}");
        // The name of a job that a rule left out, used again.
        let again = json!({"jobReference": {"projectId": "proj", "jobId": "out"},
            "configuration": {"query": {"query": "SELECT a FROM shop.orders", "useLegacySql": false}}});
        set.send("POST", &format!("{base}/jobs"), &alice, &again.to_string()).await;
        let read = set.send("GET", &format!("{base}/queries/out"), &alice, "").await;
        assert_eq!(crate::record_of(&set.gateway, &read)["kind"], "exchange", "{read:?}");
    });
}
