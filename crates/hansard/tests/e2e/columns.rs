//! Rules about columns: which ones a statement touches is known from the tables' own definitions.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use testkit::{Emulator, ScriptedReply, World, ask};

use crate::rules::{Set, rule_of};
use crate::{binary, block_on, record_of};

const NO_SSN: &str = "[[rule]]\nname = \"no-ssn\"\nwhen = \"statement.columns.exists(c, c.endsWith('.ssn'))\"\naction = \"deny\"\n";
const HIDE: &str =
    "[[rule]]\nname = \"hide\"\nwhen = \"true\"\naction = \"mask\"\ncolumns = [\"*.*.*.ssn\"]\n";

/// Tables and functions in Google's shape: discovery revision 20261009, schemas.Table and schemas.Routine.
fn warehouse(_: &str, request: &Request<Bytes>) -> ScriptedReply {
    let answer = |body: Value| ScriptedReply::json(body.to_string());
    let fields = |names: &[&str]| {
        let fields = names.iter().map(|name| json!({"name": name, "type": "STRING", "mode": "NULLABLE"}));
        json!({"fields": fields.collect::<Value>()})
    };
    let view = |query: &str, names: &[&str]| {
        let view = json!({"query": query, "useLegacySql": false});
        json!({"type": "VIEW", "view": view, "schema": fields(names)})
    };
    let name = request.uri().path().rsplit('/').next().unwrap_or_default();
    match (request.method().as_str(), name) {
        ("GET", "people") => answer(json!({"type": "TABLE", "schema": fields(&["id", "name", "ssn"])})),
        ("GET", "names") => answer(view("SELECT id, name FROM proj.hr.people", &["id", "name"])),
        ("GET", "numbers") => answer(view("SELECT id, ssn AS number FROM proj.hr.people", &["id", "number"])),
        ("GET", "initials") => answer(json!({
            "routineType": "SCALAR_FUNCTION", "language": "SQL", "definitionBody": "SUBSTR(x, 1, 1)",
            "returnType": {"typeKind": "STRING"},
        })),
        ("GET", "doubled") => answer(json!({
            "routineType": "SCALAR_FUNCTION", "language": "SQL", "definitionBody": "x * 2",
            "arguments": [{"name": "x", "dataType": {"typeKind": "INT64"}}],
        })),
        ("GET", "number_of") => answer(json!({
            "routineType": "SCALAR_FUNCTION", "language": "SQL", "returnType": {"typeKind": "STRING"},
            "definitionBody": "(SELECT MAX(p.ssn) FROM proj.hr.people AS p)",
        })),
        ("GET", "missing") => answer(json!({"error": {"code": 404}})).status(404),
        ("GET", "unseen") => answer(json!({"error": {"code": 403}})).status(403),
        _ => answer(json!({
            "kind": "bigquery#job", "jobReference": {"projectId": "proj", "jobId": "j", "location": "US"},
            "jobComplete": true, "status": {"state": "DONE"}, "rows": [], "totalRows": "0",
        })),
    }
}

#[test]
fn a_rule_about_a_column_holds_where_it_is_touched_and_nowhere_else() {
    block_on(async {
        let set = Set::new("", NO_SSN, warehouse).await;
        let token = set.person();
        for (sql, status) in [
            ("SELECT id, name FROM hr.people", 200),
            ("SELECT * EXCEPT (ssn) FROM hr.people", 200),
            ("SELECT COUNT(*) FROM hr.people", 200),
            ("SELECT 'ssn' AS x, 1 AS ssn FROM hr.people", 200),
            ("SELECT name FROM hr.names", 200),
            ("SELECT hr.initials(name) FROM hr.people", 200),
            ("SELECT name FROM hr.people WHERE hr.doubled(2) = 4", 200),
            ("SELECT name FROM hr.people WHERE id = @id", 200),
            ("DECLARE x STRING DEFAULT '1'; SELECT name FROM hr.people WHERE id = x", 200),
            ("CREATE TEMP TABLE t AS SELECT name FROM hr.people; SELECT name FROM t", 200),
            ("INSERT hr.people (id, name) VALUES ('1', 'a')", 200),
            ("UPDATE hr.people SET name = 'x' WHERE id = '1'", 200),
            ("SELECT 1", 200),
            ("SELECT ssn FROM hr.people", 403),
            ("SELECT SSN FROM hr.people", 403),
            ("SELECT * FROM hr.people", 403),
            ("SELECT p FROM hr.people AS p", 403),
            ("SELECT id FROM hr.people ORDER BY ssn", 403),
            ("SELECT 1 FROM hr.people WHERE ssn LIKE '1%'", 403),
            ("SELECT number FROM hr.numbers", 403),
            ("SELECT hr.number_of()", 403),
            ("BEGIN IF TRUE THEN SELECT ssn FROM hr.people; END IF; END", 403),
            ("EXECUTE IMMEDIATE 'SELECT ssn FROM hr.people'", 403),
            ("UPDATE hr.people SET ssn = 'x' WHERE id = '1'", 403),
            ("INSERT hr.people (id, ssn) VALUES ('1', 'a')", 403),
            ("DELETE FROM hr.people WHERE id = '1'", 403),
            ("TRUNCATE TABLE hr.people", 403),
            ("DROP TABLE hr.people", 403),
            ("ALTER TABLE hr.people DROP COLUMN ssn", 403),
            ("ALTER TABLE hr.people DROP COLUMN name", 200),
            ("CREATE TABLE hr.missing CLONE hr.people", 403),
            ("CREATE TABLE hr.missing AS SELECT name FROM hr.people", 200),
            // What can't be told applies the rule.
            ("SELECT name FROM hr.unseen", 403),
            ("SELECT name FROM `hr.peop*`", 403),
            ("SELECT nothing FROM hr.people", 403),
        ] {
            let answer = set.query(&token, sql).await;
            assert_eq!(answer.status, status, "{sql}: {:?}", answer.body);
            assert!(status == 200 || rule_of(&answer) == "no-ssn", "{sql}: {:?}", answer.body);
        }
        let answer = set.query(&token, "SELECT name FROM hr.people WHERE id = '1'").await;
        let columns = &record_of(&set.gateway, &answer)["statement"]["columns"];
        assert_eq!(*columns, json!(["proj.hr.people.id", "proj.hr.people.name"]));
        let answer = set.query(&token, "SELECT name FROM `hr.peop*`").await;
        let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains("asks about columns, which is not known: which tables"), "{message}");
    });
}

#[test]
fn the_api_touches_columns_as_statements_do() {
    block_on(async {
        let set = Set::new("", NO_SSN, warehouse).await;
        let token = set.person();
        let rows = "/bigquery/v2/projects/proj/datasets/hr/tables/people/data";
        let table = |name: &str| json!({"projectId": "proj", "datasetId": "hr", "tableId": name});
        let copy = json!({"configuration": {"copy": {"sourceTable": table("people"), "destinationTable": table("missing")}}});
        let jobs = "/bigquery/v2/projects/proj/jobs";
        for (method, path, body, status) in [
            ("GET", format!("{rows}?selectedFields=id,name"), String::new(), 200),
            ("GET", format!("{rows}?selectedFields=id,ssn"), String::new(), 403),
            ("GET", format!("{rows}?selectedFields="), String::new(), 403),
            ("GET", format!("{rows}?selectedFields=*"), String::new(), 403),
            ("GET", rows.to_owned(), String::new(), 403),
            ("POST", jobs.to_owned(), copy.to_string(), 403),
            ("DELETE", rows.trim_end_matches("/data").to_owned(), String::new(), 403),
            (
                "POST",
                rows.replace("people/data", "people/insertAll"),
                json!({"rows": [{"json": {"id": "1"}}]}).to_string(),
                403,
            ),
        ] {
            let answer = set.send(method, &path, &token, &body).await;
            assert_eq!(answer.status, status, "{method} {path}: {:?}", answer.body);
        }
    });
}

#[test]
fn a_mask_rule_refuses_what_reads_the_column_and_lets_the_rest_pass() {
    block_on(async {
        let log = std::env::temp_dir().join(format!("hansard-columns-emulator-{}.log", std::process::id()));
        let emulator = Emulator::start(&log);
        let world = World::new(binary(), &emulator.url, HIDE).await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let direct = format!("{}/bigquery/v2/projects/proj", emulator.url);
        let made = json!({"datasetReference": {"projectId": "proj", "datasetId": "hr"}}).to_string();
        assert_eq!(ask("POST", &format!("{direct}/datasets"), "", made).await.status, 200);
        let query = |sql: &str| json!({"query": sql, "useLegacySql": false}).to_string();
        let people = "CREATE TABLE hr.people AS SELECT 1 AS id, 'ada' AS name, '123' AS ssn";
        assert_eq!(ask("POST", &format!("{direct}/queries"), "", query(people)).await.status, 200);
        let url = format!("{}/bigquery/v2/projects/proj/queries", gateway.url);
        for (sql, status) in [
            ("SELECT name FROM hr.people", 200),
            ("SELECT * EXCEPT (ssn) FROM hr.people", 200),
            ("SELECT COUNT(*) FROM hr.people", 200),
            // What is written is not shown.
            ("INSERT INTO hr.people (id, name, ssn) VALUES (2, 'bob', '456')", 200),
            ("SELECT * FROM hr.people", 403),
            ("SELECT name FROM hr.people WHERE ssn = '123'", 403),
            ("CREATE TABLE hr.copy AS SELECT * FROM hr.people", 403),
            // By another name it would not be known again.
            ("ALTER TABLE hr.people RENAME COLUMN ssn TO number", 403),
            ("ALTER TABLE hr.people RENAME TO persons", 403),
            ("ALTER TABLE hr.people ADD COLUMN age INT64", 200),
        ] {
            let answer = ask("POST", &url, &token, query(sql)).await;
            assert_eq!(answer.status, status, "{sql}: {:?}", answer.body);
        }
        let answer = ask("POST", &url, &token, query("SELECT ssn FROM hr.people")).await;
        let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains("it reads proj.hr.people.ssn"), "{message}");
    });
}

#[test]
fn rules_are_checked_against_the_tables_that_are_there() {
    block_on(async {
        let rules = "[[rule]]\nname = \"hide\"\nwhen = \"'proj.hr.people' in statement.tables\"\naction = \"mask\"\n\
             columns = [\"proj.hr.people.SSN\", \"proj.hr.people.snn\", \"proj.hr.missing.x\", \"*.*.*.ssn\"]\n";
        let set = Set::new("", rules, warehouse).await;
        let check = set.gateway.hansard(&["policy", "check", "--connection", "main"]);
        assert_eq!(check.code, 1, "{}{}", check.stdout, check.stderr);
        for expected in [
            "hide: proj.hr.people has no column snn; it has id, name, ssn",
            "hide: proj.hr.missing is not there, or can't be seen (HTTP 404",
            "2 of 4 tables and columns that rules name in full are there in 'main'",
        ] {
            assert!(check.stdout.contains(expected), "{}", check.stdout);
        }
        let check = set.gateway.hansard(&["policy", "check", "--connection", "other"]);
        assert!(
            check.code != 0 && check.stderr.contains("no connection 'other'"),
            "{}{}",
            check.stdout,
            check.stderr
        );
        // What was looked at is in the record.
        let records = set.gateway.records(&[]);
        let seen = records.iter().find(|one| one["event"]["action"] == "connection.tables");
        assert_eq!(seen.expect("a record")["event"]["tables"], json!(["proj.hr.missing", "proj.hr.people"]));
    });
}
