//! Keeping tables before they are changed, by snapshots of BigQuery's own.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use testkit::ScriptedReply;

use crate::rules::{Set, rule_of};
use crate::{block_on, record_of};

const RULE: &str = "[[rule]]\nname = \"keep\"\nwhen = \"principal.is_agent || request.is_write\"\naction = \"snapshot\"\n\
     dataset = \"proj.hansard_snapshots\"\n";

/// What is kept is answered as done; `gone` is not there, and `locked` can't be kept.
fn script(_: &str, request: &Request<Bytes>) -> ScriptedReply {
    let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
    let sql = body["query"].as_str().unwrap_or_default();
    let error = |status: u16, reason: &str| {
        let error = json!({"error": {"code": status, "message": reason, "errors": [{"reason": reason}]}});
        ScriptedReply::json(error.to_string()).status(status)
    };
    match sql {
        sql if sql.starts_with("CREATE SNAPSHOT") && (sql.contains("gone") || sql.contains("astray")) => {
            error(404, "notFound")
        }
        _ if request.uri().path().ends_with("/gone") => error(404, "notFound"),
        sql if sql.starts_with("CREATE SNAPSHOT") && sql.contains("locked") => error(403, "accessDenied"),
        _ => ScriptedReply::json(json!({"jobComplete": true, "totalRows": "0", "type": "TABLE"}).to_string()),
    }
}

impl Set {
    /// Statements that reached the upstream.
    fn statements(&self) -> Vec<String> {
        let asked = self.upstream.asked();
        let texts = asked.iter().filter(|one| one.method() != "GET").map(|one| {
            let body: Value = serde_json::from_slice(one.body()).unwrap_or_default();
            body["query"]
                .as_str()
                .map_or_else(|| format!("{} {}", one.method(), one.uri().path()), str::to_owned)
        });
        texts.collect()
    }
}

#[test]
fn what_is_about_to_be_changed_is_kept_and_the_record_says_how_to_undo_it() {
    block_on(async {
        let set = Set::new("", RULE, script).await;
        let answer = set.query(&set.agent, "DELETE FROM crm.orders WHERE id = 1").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let snapshot = format!("proj.hansard_snapshots.crm_orders_{}", answer.record().replace('-', ""));
        let sent = set.statements();
        let kept = format!(
            "CREATE SNAPSHOT TABLE `{snapshot}` CLONE `proj.crm.orders` OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 604800 SECOND))"
        );
        assert_eq!(
            sent,
            [kept, "DELETE FROM crm.orders WHERE id = 1".to_owned()],
            "kept first, for seven days"
        );
        let undo = format!("CREATE OR REPLACE TABLE `proj.crm.orders` CLONE `{snapshot}`");
        assert_eq!(answer.header("x-hansard-undo"), undo);
        let record = record_of(&set.gateway, &answer);
        assert_eq!(record["statement"]["undo"], json!([undo]));
        assert_eq!(
            (&record["decision"]["terms"], &record["decision"]["rules"]),
            (&json!(["snapshot"]), &json!(["keep"]))
        );
        let own = set.gateway.records(&["--contains", "CREATE SNAPSHOT"]);
        assert_eq!(
            (own.len(), &own[0]["caused_by"], &own[0]["actor"]["kind"]),
            (1, &record["id"], &json!("gateway"))
        );

        // Every way to change a table; and none where nothing is changed.
        let before = set.statements().len();
        for sql in [
            "SELECT * FROM crm.orders",
            "INSERT INTO crm.orders (id) VALUES (1)",
            "CREATE TABLE crm.new AS SELECT 1 AS x",
        ] {
            assert_eq!(set.query(&set.agent, sql).await.header("x-hansard-undo"), "", "{sql}");
        }
        assert_eq!(set.statements().len(), before + 3);
        for sql in [
            "UPDATE crm.orders SET a = 1 WHERE TRUE",
            "TRUNCATE TABLE crm.orders",
            "DROP TABLE crm.orders",
            "ALTER TABLE crm.orders DROP COLUMN a",
            "DELETE FROM crm.orders WHERE TRUE; DELETE FROM web.orders WHERE TRUE",
            "CREATE OR REPLACE TABLE crm.orders AS SELECT 1 AS x",
            "MERGE crm.orders USING crm.t ON FALSE WHEN NOT MATCHED THEN INSERT (a) VALUES (1)",
        ] {
            let answer = set.query(&set.agent, sql).await;
            assert!(answer.header("x-hansard-undo").contains("CLONE"), "{sql}: {answer:?}");
        }
        let deleted =
            set.send("DELETE", "/bigquery/v2/projects/proj/datasets/crm/tables/orders", &set.agent, "").await;
        assert!(deleted.header("x-hansard-undo").contains("CLONE"), "by the API, too: {deleted:?}");
        // A dry run changes nothing.
        let before = set.statements().len();
        let dry =
            json!({"query": "DROP TABLE crm.orders", "useLegacySql": false, "dryRun": true}).to_string();
        assert_eq!(
            set.send("POST", "/bigquery/v2/projects/proj/queries", &set.agent, &dry).await.status,
            200
        );
        assert_eq!(set.statements().len(), before + 1);
    });
}

#[test]
fn nothing_is_sent_where_it_could_not_be_kept() {
    block_on(async {
        let set = Set::new("", RULE, script).await;
        let refused = set.query(&set.agent, "DROP TABLE crm.locked").await;
        assert_eq!((refused.status, rule_of(&refused).as_str()), (403, "keep"), "{refused:?}");
        assert!(refused.json()["error"]["message"].as_str().unwrap().contains("Nothing was sent"));
        // The table is there: what is not there is the dataset that it was to be kept in.
        let refused = set.query(&set.agent, "DROP TABLE crm.astray").await;
        assert_eq!((refused.status, rule_of(&refused).as_str()), (403, "keep"), "{refused:?}");
        assert_eq!(set.statements().len(), 2, "{:?}", set.statements());
        // What is not there is not kept, and BigQuery says what it says of it.
        let answer = set.query(&set.agent, "DROP TABLE IF EXISTS crm.gone").await;
        assert_eq!((answer.status, answer.header("x-hansard-undo")), (200, String::new()));
        // What it would change is not known.
        for sql in
            ["DROP SCHEMA crm CASCADE", "DECLARE t STRING DEFAULT 'x'; EXECUTE IMMEDIATE 'DROP TABLE ' || t"]
        {
            let refused = set.query(&set.person(), sql).await;
            assert_eq!(refused.status, 403, "{sql}: {refused:?}");
        }
    });
}
