//! Budgets of bytes and rows: counted when what they bound is over, durably, and never exceeded by more than what is
//! under way.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use testkit::{ScriptedReply, ask};

use crate::rules::{Set, rule_of};
use crate::{block_on, record_of};

const CAPS: &str = "[[rule]]\nname = \"cap\"\nwhen = \"true\"\naction = \"limit\"\nbytes_billed_per_day = \"100MiB\"\n\
     message = \"Data is dear.\"\n";
const MIB: u64 = 1 << 20;

/// Every query is billed 10 MiB, or what it is bound to if that is less; every job by what it moves.
fn billed(_: &str, request: &Request<Bytes>) -> ScriptedReply {
    let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
    let last = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let bound = body["maximumBytesBilled"].as_str().and_then(|bytes| bytes.parse().ok()).unwrap_or(u64::MAX);
    let job = match (request.method().as_str(), last.as_str()) {
        ("POST", "queries") => json!({
            "jobComplete": true, "statementType": "SELECT", "totalRows": "0", "totalBytesBilled": (10 * MIB).min(bound).to_string(),
            "jobReference": {"projectId": "proj", "jobId": body["requestId"]},
        }),
        ("POST", "jobs") => json!({"jobReference": body["jobReference"], "status": {"state": "RUNNING"}}),
        ("GET", id) => {
            let statistics = match id {
                "load" => json!({"load": {"outputBytes": (20 * MIB).to_string()}}),
                "copy" => json!({"copy": {"copiedLogicalBytes": (30 * MIB).to_string()}}),
                "extract" => json!({"extract": {"inputBytes": (40 * MIB).to_string()}}),
                _ => json!({"query": {"totalBytesBilled": (5 * MIB).to_string(), "statementType": "SELECT"}}),
            };
            json!({"jobReference": {"projectId": "proj", "jobId": id}, "status": {"state": "DONE"}, "statistics": statistics})
        }
        _ => json!({}),
    };
    ScriptedReply::json(job.to_string())
}

#[test]
fn a_days_budget_holds_under_load_and_over_a_restart() {
    block_on(async {
        let mut set = Set::new("", CAPS, billed).await;
        let token = set.person();
        let asking: Vec<_> = (0..32)
            .map(|_| {
                let (url, token) =
                    (format!("{}/bigquery/v2/projects/proj/queries", set.gateway.url), token.clone());
                tokio::spawn(async move {
                    let body =
                        json!({"query": "SELECT * FROM crm.orders", "useLegacySql": false}).to_string();
                    let mut billed = 0;
                    for _ in 0..4 {
                        let answer = ask("POST", &url, &token, body.clone()).await;
                        match answer.status {
                            200 => {
                                billed += answer.json()["totalBytesBilled"]
                                    .as_str()
                                    .unwrap()
                                    .parse::<u64>()
                                    .unwrap()
                            }
                            status => {
                                assert_eq!((status, rule_of(&answer).as_str()), (403, "cap"), "{answer:?}")
                            }
                        }
                    }
                    billed
                })
            })
            .collect();
        let mut total = 0;
        for one in asking {
            total += one.await.unwrap();
        }
        assert!((100 * MIB..=(100 + 32 * 10) * MIB).contains(&total), "{total}");
        set.gateway.kill();
        set.gateway = set.world.gateway();
        let refused = set.query(&token, "SELECT * FROM crm.orders").await;
        let said = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(
            refused.status == 403
                && said.contains("104857600 bytes billed a day")
                && said.contains("Data is dear."),
            "{said}"
        );
        assert!(said.contains("Wait until midnight UTC"), "{said}");
        // What is billed for nothing goes on, and so do others.
        let crm = "/bigquery/v2/projects/proj/datasets/crm";
        for path in [crm.to_owned(), format!("{crm}/tables/orders"), format!("{crm}/tables/orders/data")] {
            assert_eq!(set.send("GET", &path, &token, "").await.status, 200, "{path}");
        }
        let bob = set.world.issuer.token("bob@example.com", &["data"]);
        let answer = set.query(&bob, "SELECT * FROM crm.orders").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let sent = set.upstream.asked().pop().unwrap();
        let sent: Value = serde_json::from_slice(sent.body()).unwrap();
        assert_eq!(sent["maximumBytesBilled"], (100 * MIB).to_string(), "bound by what is left of it");
    });
}

#[test]
fn a_task_has_a_budget_and_every_kind_of_job_counts() {
    block_on(async {
        let rules = "[[rule]]\nname = \"task\"\nwhen = \"principal.is_agent\"\naction = \"limit\"\nbytes_billed_per_task = \"90MiB\"\n\
             [[rule]]\nname = \"spent\"\nwhen = \"!principal.is_agent && history.bytes_today >= mib(5)\"\naction = \"deny\"\n";
        let set = Set::new("allow_egress = [\"gs://\"]", rules, billed).await;
        let own = json!({"projectId": "proj", "datasetId": "crm", "tableId": "t"});
        let jobs = [
            ("load", json!({"load": {"destinationTable": own, "sourceUris": ["gs://i/x"]}})),
            ("copy", json!({"copy": {"sourceTable": own, "destinationTable": own}})),
            ("extract", json!({"extract": {"sourceTable": own, "destinationUris": ["gs://o/x"]}})),
        ];
        let path = "/bigquery/v2/projects/proj/jobs";
        for (name, configuration) in jobs {
            let job =
                json!({"jobReference": {"projectId": "proj", "jobId": name}, "configuration": configuration});
            let answer = set.send("POST", path, &set.agent, &job.to_string()).await;
            assert_eq!(answer.status, 200, "{name}: {answer:?}");
        }
        set.gateway.until_jobs_are_recorded().await;
        let refused = set.query(&set.agent, "SELECT * FROM crm.orders").await;
        let said = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(said.contains(&format!("and {} were", 90 * MIB)), "20 + 30 + 40 MiB: {said}");
        // A job that nobody asks for counts, once.
        let person = set.person();
        let job = json!({"jobReference": {"projectId": "proj", "jobId": "q"}, "configuration": {"query": {"query": "SELECT 1", "useLegacySql": false}}});
        assert_eq!(set.send("POST", path, &person, &job.to_string()).await.status, 200);
        set.gateway.until_jobs_are_recorded().await;
        let refused = set.query(&person, "SELECT 1").await;
        assert_eq!(rule_of(&refused), "spent", "{refused:?}");
    });
}

#[test]
fn a_result_of_too_many_rows_is_refused_before_the_first_and_never_cut() {
    block_on(async {
        let rule = "[[rule]]\nname = \"rows\"\nwhen = \"true\"\naction = \"limit\"\nrows = 1000\n";
        let rows = |_: &str, request: &Request<Bytes>| {
            let path = request.uri().path();
            let many = |count: usize| vec![json!({"f": [{"v": "x".repeat(200)}]}); count];
            let body = match path.rsplit('/').next().unwrap_or_default() {
                "queries" => json!({"jobComplete": true, "totalRows": "5000", "rows": many(10)}),
                "data" => json!({"totalRows": "1000", "rows": many(1000)}),
                // No word of how many there are, and more than a window of them.
                _ => json!({"jobComplete": true, "rows": many(20_000)}),
            };
            ScriptedReply::json(body.to_string())
        };
        let set = Set::new("shared_history = true", rule, rows).await;
        let token = set.person();
        let refused = set.query(&token, "SELECT * FROM crm.orders").await;
        assert_eq!((refused.status, rule_of(&refused).as_str()), (403, "rows"), "{refused:?}");
        let said = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(said.contains("results of 1000 rows, and this one has 5000"), "{said}");
        let record = record_of(&set.gateway, &refused);
        assert_eq!(
            (&record["outcome"], &record["result"]["rows"]),
            (&json!("refused"), &Value::Null),
            "{record:#}"
        );
        let crm = "/bigquery/v2/projects/proj/datasets/crm";
        assert_eq!(set.send("GET", &format!("{crm}/tables/orders/data"), &token, "").await.status, 200);
        let cut = set.send("GET", "/bigquery/v2/projects/proj/queries/j", &token, "").await;
        assert!(cut.status == 403 || !cut.whole, "never a clean end: {} {}", cut.status, cut.body.len());
    });
}
