//! Attack 51: what ran was in no record where it named too much.

use serde_json::{Value, json};
use testkit::ScriptedReply;

use crate::block_on;
use crate::rules::Set;

const RULE: &str = "[[rule]]\nname = \"no-secret\"\nwhen = \"statement.tables.exists(t, t.contains('secret'))\"\n\
     action = \"deny\"\n";

fn names(dataset: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("proj.{dataset}.{n:06}{}", "t".repeat(900))).collect()
}

fn reference(name: &str) -> Value {
    let mut parts = name.split('.');
    let mut next = || parts.next().unwrap();
    json!({"projectId": next(), "datasetId": next(), "tableId": next()})
}

fn copy(tables: &[String]) -> Value {
    json!({"configuration": {"copy": {
        "sourceTables": tables.iter().map(|table| reference(table)).collect::<Vec<_>>(),
        "destinationTable": reference("proj.shop.copy"),
    }}})
}

/// A job is done at once, and names the tables that it read.
async fn set(rules: &str, ran: Vec<String>) -> Set {
    Set::new("", rules, move |_, request| {
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let answer = json!({
            "kind": "bigquery#job", "configuration": body["configuration"], "status": {"state": "DONE"},
            "jobReference": {"projectId": "proj", "jobId": body["jobReference"]["jobId"], "location": "US"},
            "statistics": {"query": {
                "statementType": "INSERT",
                "referencedTables": ran.iter().map(|table| reference(table)).collect::<Vec<_>>(),
            }},
        });
        ScriptedReply::json(answer.to_string())
    })
    .await
}

#[test]
fn what_names_too_much_for_a_leaf_is_recorded_whole() {
    block_on(async {
        let set = set(RULE, Vec::new()).await;
        let alice = set.person();
        let jobs = "/bigquery/v2/projects/proj/jobs";
        // A copy of 1,200 tables that a rule forbids.
        let secret = names("secret", 1_200);
        let denied = set.send("POST", jobs, &alice, &copy(&secret).to_string()).await;
        assert_eq!(denied.status, 403, "{denied:?}");
        let record = crate::record_of(&set.gateway, &denied);
        assert_eq!(
            (&record["outcome"], &record["decision"]["rules"]),
            (&json!("refused"), &json!(["no-secret"]))
        );
        let tables = record["statement"]["tables"].as_array().unwrap();
        assert!(secret.iter().all(|name| tables.contains(&json!(name))), "every one of them");
        assert_eq!(set.gateway.records(&["--table", &secret[1_199]]).len(), 1, "found by its last table");
        assert_eq!(set.gateway.hansard(&["verify"]).code, 0);
    });
    block_on(async {
        let ran = names(&"d".repeat(900), 50);
        let set = set("", ran.clone()).await;
        let (alice, jobs) = (set.person(), "/bigquery/v2/projects/proj/jobs");
        let open = names("shop", 1_200);
        let copied = set.send("POST", jobs, &alice, &copy(&open).to_string()).await;
        assert_eq!(crate::record_of(&set.gateway, &copied)["outcome"], "ok");
        let record = crate::record_of(&set.gateway, &copied);
        assert_eq!(record["statement"]["tables"], json!(ran), "BigQuery's word");
        let rows = format!("SELECT count(*) AS n FROM statement_tables WHERE table_name = '{}'", ran[49]);
        let rows = set.gateway.hansard(&["query", &rows, "--format", "json"]).objects();
        assert_eq!(rows, [json!({"n": 1})]);
        // A job whose end names fifty long tables, and labels.
        let labels: Value = (0..60)
            .map(|n| (format!("l{n}"), json!("v".repeat(60))))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let job = json!({"configuration": {"labels": labels, "query": {"query": "INSERT shop.x SELECT * FROM v", "useLegacySql": false}}});
        let ended = set.send("POST", jobs, &alice, &job.to_string()).await;
        let record = crate::record_of(&set.gateway, &ended);
        assert_eq!(record["statement"]["tables"], json!(ran));
        assert_eq!(record["task"]["labels"], labels);
        assert_eq!(set.gateway.records(&[]).iter().filter(|one| one["kind"] == "gap").count(), 0);
        assert_eq!(set.gateway.hansard(&["verify"]).code, 0);
    });
}

/// A small generator of numbers (xorshift64), so that a failure can be had again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// Some tables, of which the whole fits into a request.
fn some_tables(random: &mut Random, at: usize) -> Vec<Value> {
    const COUNTS: [usize; 8] = [0, 1, 31, 32, 33, 400, 3_000, 100_000];
    const BYTES: [usize; 4] = [1, 30, 200, 1_000];
    let count = if at == 0 { 100_000 } else { COUNTS[random.below(COUNTS.len() - 1)] };
    let bytes = BYTES[random.below(BYTES.len())].min(12_000_000 / count.max(1) / 2).max(1);
    let table = |n| json!({"projectId": "proj", "datasetId": format!("d{at}"), "tableId": format!("{n:06}{}", "t".repeat(bytes))});
    (0..count).map(table).collect()
}

/// Random exchanges by every door of the REST API, with lists of any length: what the upstream saw and what the record
/// says are joined by another program.
#[test]
fn whatever_goes_up_is_recorded_with_every_name() {
    block_on(async {
        let set = set("", Vec::new()).await;
        let alice = set.person();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let base = "/bigquery/v2/projects/proj";
        let (jobs, mut sent) = (format!("{base}/jobs"), 0);
        for at in 0..28 {
            let tables = some_tables(&mut random, at);
            let copy = json!({"configuration": {"copy": {"sourceTables": tables, "destinationTable": reference("proj.shop.copy")}}});
            let uris: Vec<_> =
                (0..tables.len().min(10_000)).map(|n| format!("gs://bucket/{at}/{n}.csv")).collect();
            let load = json!({"configuration": {"load": {"sourceUris": uris, "destinationTable": reference("proj.shop.loaded")}}});
            let url = |path: &str| format!("{}{path}", set.gateway.url);
            let typed = |kind: String, path: &str, body: String| {
                let request =
                    http::Request::post(url(path)).header("authorization", format!("Bearer {alice}"));
                testkit::send(request.header("content-type", kind).body(body.into()).unwrap())
            };
            let answer = match if at == 0 { 0 } else { random.below(6) } {
                0 => set.send("POST", &jobs, &alice, &copy.to_string()).await,
                1 => set.send("POST", &jobs, &alice, &load.to_string()).await,
                2 => {
                    let rows = json!({"rows": (0..tables.len().min(500)).map(|n| json!({"json": {"n": n}})).collect::<Vec<_>>()});
                    let path = format!(
                        "{base}/datasets/shop/tables/{}/insertAll",
                        "t".repeat(1 + random.below(1_000))
                    );
                    set.send("POST", &path, &alice, &rows.to_string()).await
                }
                3 => {
                    let parts: String = (0..3).map(|n| format!("--b\r\nContent-Type: application/http\r\nContent-ID: <{n}>\r\n\r\nPOST {jobs} HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{copy}\r\n")).collect();
                    typed(
                        "multipart/mixed; boundary=b".to_owned(),
                        "/batch/bigquery/v2",
                        format!("{parts}--b--\r\n"),
                    )
                    .await
                }
                4 => {
                    let body = format!(
                        "--b\r\nContent-Type: application/json\r\n\r\n{load}\r\n--b\r\nContent-Type: text/csv\r\n\r\n1,2\r\n--b--\r\n"
                    );
                    let path = format!("/upload{jobs}?uploadType=multipart");
                    typed("multipart/related; boundary=b".to_owned(), &path, body).await
                }
                _ => set.query(&alice, &format!("SELECT '{}'", "x".repeat(random.below(300_000)))).await,
            };
            sent += usize::from(answer.status == 200);
        }
        assert!(sent > 20, "only {sent} were answered");
        let (upstream, records) =
            (set.world.folder.join("upstream.jsonl"), set.world.folder.join("records.jsonl"));
        let seen: String = set
            .upstream
            .asked()
            .iter()
            .map(|request| {
                let line = json!({
                    "record": request.headers()["x-hansard-record"].to_str().unwrap(),
                    "line": format!("{} {}", request.method(), request.uri()),
                    "body": String::from_utf8_lossy(request.body()),
                });
                format!("{line}\n")
            })
            .collect();
        std::fs::write(&upstream, seen).unwrap();
        std::fs::write(&records, set.gateway.hansard(&["records", "--json"]).stdout).unwrap();
        let python = testkit::tools().join("clients/bin/python");
        let joined = testkit::run(
            std::process::Command::new(python)
                .arg(testkit::root().join("tests/join/join.py"))
                .args([&upstream, &records])
                .arg("100000"),
        );
        assert_eq!(joined.code, 0, "{joined:?}");
        let status = std::fs::read_to_string(format!("/proc/{}/status", set.gateway.pid())).unwrap();
        let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
        println!("{}the gateway's memory: {peak}", joined.stdout);
        assert_eq!(set.gateway.hansard(&["verify"]).code, 0);
    });
}

/// A line or a header was cut at 1,024 characters, and what it asked for at its end was not in the record.
#[test]
fn a_long_line_and_long_headers_are_recorded_whole() {
    block_on(async {
        let set = set("", Vec::new()).await;
        let alice = set.person();
        let long = "q".repeat(6_000);
        let path = format!("/bigquery/v2/projects/proj/datasets/shop/routines/{}END", "r".repeat(1_100));
        let uri = format!("{}{path}?x={long}&deleteContents=true", set.gateway.url);
        let request = http::Request::delete(uri).header("authorization", format!("Bearer {alice}"));
        let request = request.header("x-goog-request-reason", &long).header("x-goog-api-client", &long);
        let answer = testkit::send(request.header("user-agent", &long).body("".into()).unwrap()).await;
        let record = crate::record_of(&set.gateway, &answer);
        assert_eq!(record["request"]["path"], path);
        assert!(record["request"]["query"].as_str().unwrap().ends_with("&deleteContents=true"));
        assert_eq!(record["request"]["headers"]["x-goog-api-client"], long);
        assert_eq!(
            (&record["task"]["reason"], &record["client"]["user_agent"]),
            (&json!(long), &json!(long))
        );
        // More tables than a short answer has room for.
        let ran: Vec<_> = (0..60_000).map(|n| format!("proj.d.t{n:06}")).collect();
        let set = self::set("", ran.clone()).await;
        let job = json!({"configuration": {"query": {"query": "INSERT shop.x SELECT * FROM v", "useLegacySql": false}}});
        let jobs = "/bigquery/v2/projects/proj/jobs";
        let answer = set.send("POST", jobs, &set.person(), &job.to_string()).await;
        let record = crate::record_of(&set.gateway, &answer);
        assert_eq!(record["statement"]["tables"].as_array().unwrap().len(), 60_000);
        let named = json!({"jobReference": {"projectId": "proj", "jobId": "j".repeat(70_000)}, "configuration": job["configuration"]});
        let refused = set.send("POST", jobs, &set.person(), &named.to_string()).await;
        assert_eq!(refused.status, 400, "{refused:?}");
    });
}
