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
