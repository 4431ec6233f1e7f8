//! BigQuery's own word on which tables a statement reads, where hansard can't tell and a rule asks.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use testkit::ScriptedReply;

use crate::block_on;
use crate::rules::{Set, rule_of};

const NO_CUSTOMERS: &str = "[[rule]]\nname = \"no-customers\"\nwhen = \"'proj.crm.customers' in statement.tables\"\naction = \"deny\"\n";

/// A dry run in Google's documented shape: the names behind a comment in the text are the tables, so many times as the
/// number there says.
fn script(_: &str, request: &Request<Bytes>) -> ScriptedReply {
    let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
    let sql = body["configuration"]["query"]["query"].as_str().unwrap_or_default();
    if body["configuration"]["dryRun"] != true {
        return ScriptedReply::json(
            json!({"jobComplete": true, "totalRows": "0", "type": "TABLE"}).to_string(),
        );
    }
    let mut query = json!({"statementType": "SELECT", "totalBytesProcessed": "1"});
    if let Some((_, said)) = sql.split_once("-- ") {
        let (count, table) = said.split_once(' ').unwrap_or(("1", said));
        let name = |at: usize| if at == 0 { table.to_owned() } else { format!("{table}{at}") };
        let named = (0..count.parse().unwrap_or(1))
            .map(|at| json!({"projectId": "proj", "datasetId": "crm", "tableId": name(at)}));
        query["referencedTables"] = named.collect();
    }
    ScriptedReply::json(json!({"statistics": {"query": query, "totalBytesProcessed": "1"}}).to_string())
}

#[test]
fn what_bigquery_names_is_known_and_what_it_may_leave_out_is_not() {
    block_on(async {
        let set = Set::new("", NO_CUSTOMERS, script).await;
        let token = set.person();
        for (sql, legacy, expected) in [
            ("SELECT id FROM crm.orders -- 1 orders", true, ""),
            ("SELECT id FROM crm.orders -- 1 customers", true, "no-customers"),
            // A text that can't be read at all may do more than read tables.
            ("SELECT * FROM [proj:crm.orders] -- 1 orders", true, "no-customers"),
            ("SELECT * FROM `proj.crm.c*` -- 1 calls", false, ""),
            ("SELECT * FROM `proj.crm.c*` -- 1 customers", false, "no-customers"),
            // A list of fifty is not whole, one that is not there says nothing, and a script has more than one statement.
            ("SELECT * FROM `proj.crm.c*` -- 50 calls", false, "no-customers"),
            ("SELECT * FROM `proj.crm.c*`", false, "no-customers"),
            ("SELECT 1; SELECT * FROM `proj.crm.c*` -- 1 calls", false, "no-customers"),
            ("EXECUTE IMMEDIATE (SELECT q FROM crm.texts LIMIT 1) -- 1 texts", false, "no-customers"),
        ] {
            let body = json!({"query": sql, "useLegacySql": legacy}).to_string();
            let answer = set.send("POST", "/bigquery/v2/projects/proj/queries", &token, &body).await;
            let rule = if answer.status == 403 { rule_of(&answer) } else { String::new() };
            assert!(
                rule == expected || expected == "no-customers" && answer.status == 403,
                "{sql}: {answer:?}"
            );
        }
        // A statement whose tables are known costs no question.
        let before = set.upstream.asked().len();
        set.query(&token, "SELECT * FROM crm.orders").await;
        let asked = set.upstream.asked()[before..].iter().filter(|one| one.method() == "POST").count();
        assert_eq!(asked, 1);
    });
}
