//! Rules on the data path: by SQL and by every other door, with the defaults for agents, and what the record says.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use testkit::{Answer, Emulator, Gateway, Scripted, ScriptedReply, World, ask, send, token_by_key};

use crate::{binary, block_on, record_of};

/// Whatever is asked, a job is done.
fn anything(_: &str, _: &Request<Bytes>) -> ScriptedReply {
    let job = json!({
        "kind": "bigquery#job", "jobReference": {"projectId": "proj", "jobId": "j", "location": "US"},
        "jobComplete": true, "status": {"state": "DONE"}, "rows": [], "totalRows": "0",
    });
    ScriptedReply::json(job.to_string())
}

/// A gateway with rules before an upstream that answers anything, and how to ask it.
pub(crate) struct Set {
    pub(crate) world: World,
    pub(crate) gateway: Gateway,
    pub(crate) upstream: Scripted,
    pub(crate) agent: String,
}

impl Set {
    pub(crate) async fn new(
        connection: &str,
        rules: &str,
        script: impl Fn(&str, &Request<Bytes>) -> ScriptedReply + Send + Sync + 'static,
    ) -> Self {
        let upstream = Scripted::start(Arc::new(script)).await;
        let roles = "[roles]\nauditor = \"'security' in principal.groups\"\n";
        let world = World::new(binary(), &upstream.url, &format!("{connection}\n{roles}{rules}")).await;
        let gateway = world.gateway();
        let agent = token_by_key(&gateway.issue_key("devin@agents.example.com", "key.json")).await;
        Self { world, gateway, upstream, agent }
    }

    pub(crate) fn person(&self) -> String {
        self.world.issuer.token("alice@example.com", &["data"])
    }

    pub(crate) async fn query(&self, token: &str, sql: &str) -> Answer {
        let body = json!({"query": sql, "useLegacySql": false}).to_string();
        self.send("POST", "/bigquery/v2/projects/proj/queries", token, &body).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, token: &str, body: &str) -> Answer {
        ask(method, &format!("{}{path}", self.gateway.url), token, body.to_owned()).await
    }

    /// What reached the upstream, but for what the gateway asked itself.
    fn forwarded(&self) -> usize {
        let asked = self.upstream.asked();
        let sent = asked.iter().filter(|request| request.method() != "GET");
        sent.filter(|request| !String::from_utf8_lossy(request.body()).contains("\"dryRun\":true")).count()
    }
}

pub(crate) fn rule_of(answer: &Answer) -> String {
    let details = answer.json()["error"]["details"].clone();
    details[0]["metadata"]["rule"].as_str().unwrap_or_default().to_owned()
}

/// What agents may not do by default: one case or more for every line of the table.
const DEFAULTS: &[(&str, &str)] = &[
    ("export", "EXPORT DATA OPTIONS (uri = 'gs://out/*.csv', format = 'CSV') AS SELECT 1 AS x"),
    ("export", "EXPORT MODEL crm.m OPTIONS (uri = 'gs://out/m')"),
    (
        "export",
        "BEGIN IF TRUE THEN EXPORT DATA OPTIONS (uri = CONCAT('gs://o', 'ut/*')) AS SELECT 1; END IF; END",
    ),
    ("export", "FROM crm.orders |> EXPORT DATA OPTIONS (uri = 'gs://out/*', format = 'CSV')"),
    ("foreign-project", "CREATE TABLE other.d.t AS SELECT * FROM crm.orders"),
    ("foreign-project", "INSERT `other.d.t` SELECT * FROM crm.orders"),
    ("foreign-project", "CREATE TABLE other.d.t CLONE crm.orders"),
    ("foreign-project", "EXECUTE IMMEDIATE 'CREATE TABLE other.d.t AS ' || 'SELECT 1 AS x'"),
    (
        "foreign-project",
        "CREATE MODEL other.d.m OPTIONS (model_type = 'linear_reg') AS SELECT 1 AS label, 2 AS x",
    ),
    ("external-location", "LOAD DATA INTO crm.t FROM FILES (format = 'CSV', uris = ['gs://in/x.csv'])"),
    ("external-location", "CREATE EXTERNAL TABLE crm.e OPTIONS (format = 'CSV', uris = ['gs://in/x.csv'])"),
    ("remote-function", "SELECT * FROM EXTERNAL_QUERY('proj.us.pg', 'SELECT 1')"),
    ("remote-function", "SELECT crm.remote_fn(name) FROM crm.orders"),
    (
        "remote-function",
        "CREATE TEMP FUNCTION f(x INT64) RETURNS INT64 REMOTE WITH CONNECTION proj.us.c OPTIONS (endpoint = 'https://x')",
    ),
    ("remote-model", "SELECT * FROM AI.GENERATE_TEXT(MODEL crm.m, TABLE crm.orders)"),
    ("remote-model", "SELECT AI.IF(name, 'is it a person') FROM crm.orders"),
    ("remote-function", "SELECT * FROM ML.PREDICT(MODEL crm.remote_model, TABLE crm.orders)"),
    ("access", "GRANT `roles/bigquery.dataViewer` ON TABLE crm.orders TO 'user:x@example.com'"),
    ("access", "REVOKE `roles/bigquery.dataViewer` ON SCHEMA crm FROM 'user:x@example.com'"),
    (
        "access",
        "CREATE ROW ACCESS POLICY p ON crm.orders GRANT TO ('user:x@example.com') FILTER USING (TRUE)",
    ),
    ("access", "DROP ALL ROW ACCESS POLICIES ON crm.orders"),
    ("runs-later", "CREATE FUNCTION crm.f(x INT64) AS (x + 1)"),
    ("runs-later", "CREATE OR REPLACE PROCEDURE crm.p() BEGIN SELECT 1; END"),
    ("runs-later", "CREATE TABLE FUNCTION crm.tf() AS SELECT 1 AS x"),
    ("dynamic", "DECLARE q STRING DEFAULT 'SELECT 1'; EXECUTE IMMEDIATE q"),
    ("dynamic", "CALL other.d.unseen()"),
    ("history", "SELECT * FROM `region-us`.INFORMATION_SCHEMA.JOBS_BY_PROJECT"),
    ("history", "SELECT @@last_job_id"),
    ("others-work", "DECLARE s STRING DEFAULT 'abc'; CALL BQ.ABORT_SESSION(s)"),
    ("others-work", "CALL BQ.JOBS.CANCEL('proj.job')"),
    ("external-location", "CREATE MODEL crm.m OPTIONS (model_type = 'tensorflow', model_path = 'gs://in/*')"),
    // What the parser refuses is judged by its words.
    ("remote-function", "SELECT * FROM EXTERNAL_QUERY('proj.us.pg', 'SELECT 1');;"),
    ("remote-function", "SELECT crm.unseen(x) FROM crm.orders;;"),
    ("history", "SELECT @@script.job_id;;"),
    ("dynamic", "SELECT * FROM `region-us.INFORMATION_SCHEMA.\\x4aOBS`;;"),
    (
        "foreign-project",
        "SET @@dataset_project_id = (SELECT 'other'); CREATE TABLE x.y AS SELECT * FROM crm.orders",
    ),
    ("foreign-project", "CREATE SCHEMA other.d"),
    ("access", "CREATE CONNECTION proj.us.c OPTIONS (connection_type = 'CLOUD_RESOURCE')"),
    ("remote-function", "SELECT * FROM ML.PREDICT(MODEL crm.unseen, TABLE crm.orders)"),
];

/// What they may: none of it is on the list, however it looks.
const ALLOWED: &[&str] = &[
    "SELECT 'EXPORT DATA', \"gs://out\" FROM crm.orders",
    "SELECT * FROM other.d.t",
    "CREATE TABLE crm.t AS SELECT * FROM other.d.t",
    "CREATE TEMP FUNCTION f(x INT64) AS (x + 1); SELECT f(2)",
    "SELECT crm.local_fn(name) FROM crm.orders",
    "SELECT * FROM ML.PREDICT(MODEL crm.local_model, TABLE crm.orders)",
    "CALL crm.known()",
    "CREATE TEMP TABLE t AS SELECT 1 AS x; SELECT * FROM t",
    "EXECUTE IMMEDIATE 'SELECT 1'",
    "SELECT * FROM AI.FORECAST(TABLE crm.orders, data_col => 'x', timestamp_col => 't')",
    "SELECT * FROM crm.INFORMATION_SCHEMA.TABLES",
    "CALL BQ.ABORT_SESSION()",
    "SELEC 1",
];

fn definitions(line: &str, request: &Request<Bytes>) -> ScriptedReply {
    let answer = |body: Value| ScriptedReply::json(body.to_string());
    let path = request.uri().path();
    match path.rsplit('/').next().unwrap_or_default() {
        "remote_fn" => answer(json!({
            "routineType": "SCALAR_FUNCTION", "remoteFunctionOptions": {"connection": "proj.us.c", "endpoint": "https://x"},
        })),
        "local_fn" => {
            answer(json!({"routineType": "SCALAR_FUNCTION", "language": "SQL", "definitionBody": "UPPER(x)"}))
        }
        "known" => answer(
            json!({"routineType": "PROCEDURE", "language": "SQL", "definitionBody": "BEGIN SELECT 1; END"}),
        ),
        "unseen" => answer(json!({"error": {"code": 403}})).status(403),
        "remote_model" => {
            answer(json!({"remoteModelInfo": {"endpoint": "https://e", "connection": "proj.us.c"}}))
        }
        "local_model" => answer(json!({"modelType": "LINEAR_REGRESSION"})),
        _ => anything(line, request),
    }
}

#[test]
fn agents_may_not_leave_by_any_way_that_we_know_of() {
    block_on(async {
        let set = Set::new("", "", definitions).await;
        let mut wrong = Vec::new();
        for (name, sql) in DEFAULTS {
            let answer = set.query(&set.agent, sql).await;
            let rule = if answer.status == 403 { rule_of(&answer) } else { answer.status.to_string() };
            if rule != *name {
                wrong.push(format!("{name}: {rule}: {sql}"));
            }
        }
        assert_eq!(set.forwarded(), 0, "{wrong:#?}");
        for sql in ALLOWED {
            let answer = set.query(&set.agent, sql).await;
            if answer.status != 200 {
                wrong.push(format!("allowed, but {} {:?}: {sql}", answer.status, answer.body));
            }
        }
        assert_eq!(wrong, Vec::<String>::new());
        let covered: BTreeSet<&str> = DEFAULTS.iter().map(|(name, _)| *name).collect();
        let known: BTreeSet<&str> = policy::DEFAULTS.iter().map(|default| default.name).collect();
        assert_eq!(covered, known);

        // People may; but for other people's history, which an auditor may read.
        for (name, sql) in DEFAULTS {
            let answer = set.query(&set.person(), sql).await;
            let is_history = matches!(*name, "history" | "dynamic" | "others-work");
            assert_eq!(answer.status, if is_history { 403 } else { 200 }, "{sql}: {:?}", answer.body);
        }
        let other = set.query(&set.person(), "CALL BQ.ABORT_SESSION('abc')").await;
        assert!(other.status == 403 || other.status == 404, "{other:?}");
        let auditor = set.world.issuer.token("sec@example.com", &["data", "security"]);
        assert_eq!(set.query(&auditor, "SELECT @@last_job_id").await.status, 200);
    });
}

#[test]
fn agents_may_not_leave_by_the_api_either() {
    block_on(async {
        let set = Set::new("", "", definitions).await;
        let (jobs, crm) = ("/bigquery/v2/projects/proj/jobs", "/bigquery/v2/projects/proj/datasets/crm");
        let foreign = json!({"projectId": "other", "datasetId": "d", "tableId": "t"});
        let own = json!({"projectId": "proj", "datasetId": "crm", "tableId": "t"});
        let job = |kind: &str, what: Value| json!({"configuration": {kind: what}}).to_string();
        let cases = [
            ("export", "POST", jobs.to_owned(), job("extract", json!({"sourceTable": own, "destinationUris": ["gs://o/x"]}))),
            ("foreign-project", "POST", jobs.to_owned(), job("copy", json!({"sourceTable": own, "destinationTable": foreign}))),
            (
                "foreign-project",
                "POST",
                jobs.to_owned(),
                job("query", json!({"query": "SELECT 1", "useLegacySql": false, "destinationTable": foreign})),
            ),
            (
                "external-location",
                "POST",
                jobs.to_owned(),
                job("load", json!({"destinationTable": own, "sourceUris": ["gs://in/x"]})),
            ),
            (
                "external-location",
                "POST",
                jobs.to_owned(),
                job("query", json!({"query": "SELECT * FROM e", "useLegacySql": false,
                    "tableDefinitions": {"e": {"sourceUris": ["https://drive.google.com/x"]}}})),
            ),
            (
                "external-location",
                "POST",
                format!("{crm}/tables"),
                json!({"tableReference": own, "externalDataConfiguration": {"sourceUris": ["gs://in/x"]}}).to_string(),
            ),
            ("access", "POST", format!("{crm}/tables/t:setIamPolicy"), json!({"policy": {}}).to_string()),
            ("access", "PATCH", crm.to_owned(), json!({"access": [{"role": "READER"}]}).to_string()),
            ("access", "POST", format!("{crm}/tables/t/rowAccessPolicies"), "{}".to_owned()),
            ("access", "POST", format!("{crm}/tables/t/rowAccessPolicies:batchDelete"), "{}".to_owned()),
            ("runs-later", "POST", format!("{crm}/routines"), json!({"routineType": "PROCEDURE"}).to_string()),
            (
                "remote-function",
                "POST",
                format!("{crm}/routines"),
                json!({"routineType": "SCALAR_FUNCTION", "remoteFunctionOptions": {"connection": "proj.us.c"}}).to_string(),
            ),
        ];
        for (name, method, path, body) in &cases {
            let answer = set.send(method, path, &set.agent, body).await;
            assert_eq!(
                (answer.status, rule_of(&answer).as_str()),
                (403, *name),
                "{path} {body}: {:?}",
                answer.body
            );
        }
        assert_eq!(set.forwarded(), 0);
        for (_, method, path, body) in &cases {
            assert_eq!(set.send(method, path, &set.person(), body).await.status, 200, "{path} {body}");
        }
        let said = set.gateway.records(&["--outcome", "refused"]);
        assert_eq!(said.len(), cases.len());
        assert!(said.iter().all(|record| record["decision"]["effect"] == "deny"), "{said:#?}");
    });
}

#[test]
fn egress_is_opened_by_name_and_no_further() {
    block_on(async {
        let open = "allow_egress = [\"gs://exports/\", \"shared.d\", \"routines\"]";
        let set = Set::new(open, "", anything).await;
        for (sql, status) in [
            ("EXPORT DATA OPTIONS (uri = 'gs://exports/a*', format = 'CSV') AS SELECT 1", 200),
            ("EXPORT DATA OPTIONS (uri = 'gs://exports-of-mine/a*', format = 'CSV') AS SELECT 1", 403),
            ("CREATE TABLE shared.d.t AS SELECT 1 AS x", 200),
            ("CREATE TABLE shared.d2.t AS SELECT 1 AS x", 403),
            ("CREATE FUNCTION crm.f(x INT64) AS (x + 1)", 200),
        ] {
            assert_eq!(set.query(&set.agent, sql).await.status, status, "{sql}");
        }
    });
}

const NO_CUSTOMERS: &str = "[[rule]]\nname = \"no-customers\"\nwhen = \"'proj.crm.customers' in statement.tables\"\n\
     action = \"deny\"\nmessage = \"Customers are read by the CRM team.\"\ninstead = \"Use proj.crm.customers_public.\"\n";

#[test]
fn one_rule_closes_a_table_by_every_door() {
    block_on(async {
        let set = Set::new("shared_history = true", NO_CUSTOMERS, anything).await;
        let token = set.person();
        let crm = "/bigquery/v2/projects/proj/datasets/crm";
        let own = json!({"projectId": "proj", "datasetId": "crm", "tableId": "customers"});
        let other = json!({"projectId": "proj", "datasetId": "crm", "tableId": "t"});
        let jobs = "/bigquery/v2/projects/proj/jobs";
        let job = |kind: &str, what: Value| json!({"configuration": {kind: what}}).to_string();
        let doors = [
            ("GET", format!("{crm}/tables/customers/data"), String::new()),
            ("GET", format!("{crm}/tables/customers$20260101/data"), String::new()),
            ("GET", format!("{crm}/tables/%63ustomers/data"), String::new()),
            (
                "GET",
                "/bigquery/v2//projects/proj/./datasets/crm/tables/customers/data".to_owned(),
                String::new(),
            ),
            ("DELETE", format!("{crm}/tables/customers"), String::new()),
            ("PATCH", format!("{crm}/tables/customers"), "{}".to_owned()),
            ("POST", format!("{crm}/tables/customers/insertAll"), r#"{"rows":[]}"#.to_owned()),
            ("POST", format!("{crm}/tables"), json!({"tableReference": own}).to_string()),
            (
                "POST",
                jobs.to_owned(),
                job("extract", json!({"sourceTable": own, "destinationUris": ["gs://o/x"]})),
            ),
            (
                "POST",
                jobs.to_owned(),
                job("copy", json!({"sourceTables": [other, own], "destinationTable": other})),
            ),
            (
                "POST",
                jobs.to_owned(),
                job("load", json!({"destinationTable": own, "sourceUris": ["gs://i/x"]})),
            ),
            (
                "POST",
                jobs.to_owned(),
                job("query", json!({"query": "SELECT 1", "useLegacySql": false, "destinationTable": own})),
            ),
            (
                "POST",
                jobs.to_owned(),
                job(
                    "query",
                    json!({"query": "SELECT * FROM customers", "useLegacySql": false,
                    "defaultDataset": {"datasetId": "crm"}}),
                ),
            ),
            // Legacy SQL, by word and by BigQuery's default.
            ("POST", jobs.to_owned(), job("query", json!({"query": "SELECT * FROM [proj:crm.customers]"}))),
            (
                "POST",
                jobs.to_owned(),
                job(
                    "query",
                    json!({"query": "SELECT * FROM TABLE_QUERY(crm, 'true')", "useLegacySql": true}),
                ),
            ),
        ];
        for (method, path, body) in &doors {
            let answer = set.send(method, path, &token, body).await;
            let is_refused = answer.status == 403 && rule_of(&answer) == "no-customers";
            // A path that could be read in two ways is refused before any rule is asked.
            assert!(is_refused || answer.status == 400 || answer.status == 404, "{path} {body}: {answer:?}");
        }
        assert_eq!(set.forwarded(), 0);

        let by_header = Request::post(format!("{}{crm}/tables/customers", set.gateway.url))
            .header("authorization", format!("Bearer {token}"))
            .header("x-http-method-override", "DELETE");
        let answer = send(by_header.body(Bytes::new()).unwrap()).await;
        assert_eq!((answer.status, rule_of(&answer).as_str()), (403, "no-customers"));
        let part = format!("GET {crm}/tables/customers/data");
        let batch = format!("--b\r\nContent-Type: application/http\r\n\r\n{part}\r\n\r\n--b--\r\n");
        let batch = Request::post(format!("{}/batch/bigquery/v2", set.gateway.url))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "multipart/mixed; boundary=b")
            .body(Bytes::from(batch))
            .unwrap();
        let answer = send(batch).await;
        assert!(String::from_utf8_lossy(&answer.body).contains("no-customers"), "{answer:?}");
        let doubled = r#"{"query":"SELECT 1","query":"SELECT * FROM crm.customers","useLegacySql":false}"#;
        assert_eq!(set.send("POST", "/bigquery/v2/projects/proj/queries", &token, doubled).await.status, 400);
        let wide: Vec<u8> =
            r#"{"query":"SELECT * FROM crm.customers","useLegacySql":false}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let answer =
            ask("POST", &format!("{}/bigquery/v2/projects/proj/queries", set.gateway.url), &token, wide)
                .await;
        assert_eq!(answer.status, 400);
        assert_eq!(set.forwarded(), 0);
        assert_eq!(set.query(&token, "SELECT * FROM crm.customers_public").await.status, 200);
    });
}

#[test]
fn a_refusal_says_what_an_agent_can_act_on_and_the_record_has_it() {
    block_on(async {
        let set = Set::new("", NO_CUSTOMERS, anything).await;
        let answer = set.query(&set.person(), "SELECT email FROM crm.customers").await;
        let error = answer.json()["error"].clone();
        let text = format!(
            "Access Denied: hansard rule 'no-customers' does not allow SELECT on proj.crm.customers. Customers are read by \
             the CRM team. Use proj.crm.customers_public. Record {}",
            answer.record()
        );
        assert_eq!((answer.status, &error["status"]), (403, &json!("PERMISSION_DENIED")));
        assert_eq!((&error["message"], &error["errors"][0]["message"]), (&json!(text), &json!(text)));
        assert_eq!(error["errors"][0]["reason"], "accessDenied");
        assert_eq!(
            error["details"][0]["metadata"],
            json!({"record": answer.record(), "rule": "no-customers", "allowed_instead": "Use proj.crm.customers_public."})
        );
        let record = record_of(&set.gateway, &answer);
        assert_eq!(record["decision"]["rules"], json!(["no-customers"]));
        assert_eq!((&record["decision"]["effect"], &record["outcome"]), (&json!("deny"), &json!("refused")));
        assert_eq!(record["statement"]["sql"], "SELECT email FROM crm.customers");
        assert_eq!(
            (&record["statement"]["kind"], &record["statement"]["tables"], &record["statement"]["certain"]),
            (&json!("SELECT"), &json!(["proj.crm.customers"]), &json!(true))
        );
        // A dry run is decided as what it tries.
        let dry = json!({"query": "SELECT email FROM crm.customers", "useLegacySql": false, "dryRun": true})
            .to_string();
        let answer = set.send("POST", "/bigquery/v2/projects/proj/queries", &set.person(), &dry).await;
        assert_eq!(answer.status, 403);
    });
}

#[test]
fn rules_that_observe_warn_and_leave_out_do_so_visibly() {
    block_on(async {
        let rules = "[[rule]]\nname = \"would-deny\"\nwhen = \"true\"\naction = \"deny\"\nobserve = true\n\
             [[rule]]\nname = \"careful\"\nwhen = \"statement.kind == 'UPDATE'\"\naction = \"warn\"\nmessage = \"Think twice\"\n\
             [[rule]]\nname = \"health\"\nwhen = \"statement.sql == 'SELECT 1'\"\naction = \"record\"\nexclude = true\n\
             [[rule]]\nname = \"counts\"\nwhen = \"statement.sql == 'SELECT 2'\"\naction = \"record\"\nresults = \"none\"\n";
        let set = Set::new("", rules, anything).await;
        let token = set.person();
        let answer = set.query(&token, "UPDATE crm.t SET a = 1 WHERE b = 2").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-hansard-warning"), "Think twice (hansard rule 'careful')");
        let record = record_of(&set.gateway, &answer);
        assert_eq!(record["decision"]["rules"], json!(["careful"]));
        assert_eq!(record["decision"]["terms"], json!(["warn"]));
        assert_eq!(record["decision"]["observed"], json!([{"rule": "would-deny", "action": "deny"}]));

        let answer = set.query(&token, "SELECT 1").await;
        assert_eq!(answer.status, 200);
        let record = record_of(&set.gateway, &answer);
        assert_eq!((&record["kind"], &record["decision"]["rules"]), (&json!("excluded"), &json!(["health"])));
        assert_eq!(record["actor"]["email"]["value"], "alice@example.com");
        assert_eq!(record["target"]["method"], "jobs.query");
        assert!(record["statement"]["sql"].is_null() && record["request"]["body"].is_null(), "{record:#}");
        assert!(record["result"]["data"].is_null() && record["result"]["sha256"].is_null(), "{record:#}");
        assert!(record["result"]["bytes"].as_u64().is_some_and(|bytes| bytes > 0));
        // With a destination it is another thing.
        let body = json!({"configuration": {"query": {"query": "SELECT 1", "useLegacySql": false,
            "destinationTable": {"projectId": "proj", "datasetId": "crm", "tableId": "t"}}}});
        let answer = set.send("POST", "/bigquery/v2/projects/proj/jobs", &token, &body.to_string()).await;
        assert_eq!(record_of(&set.gateway, &answer)["statement"]["sql"], "SELECT 1");

        let record = record_of(&set.gateway, &set.query(&token, "SELECT 2").await);
        assert_eq!(
            (&record["result"]["retained"], &record["statement"]["sql"]),
            (&json!("none"), &json!("SELECT 2"))
        );
        assert_eq!(set.gateway.hansard(&["verify"]).code, 0);
    });
}

/// Views and functions in Google's shape: discovery revision 20261009, schemas.Table and schemas.Routine.
fn behind(line: &str, request: &Request<Bytes>, views: &Mutex<BTreeMap<String, String>>) -> ScriptedReply {
    let answer = |body: Value| ScriptedReply::json(body.to_string());
    let path = request.uri().path();
    let name = path.rsplit('/').next().unwrap_or_default();
    if let Some(query) = views.lock().unwrap().get(name) {
        return answer(json!({"type": "VIEW", "view": {"query": query, "useLegacySql": false}}));
    }
    match name {
        "reads_them" => answer(json!({
            "routineType": "SCALAR_FUNCTION", "language": "SQL",
            "definitionBody": "(SELECT MAX(email) FROM proj.crm.customers)",
        })),
        "lists_them" => answer(json!({
            "routineType": "TABLE_VALUED_FUNCTION", "language": "SQL", "definitionBody": "SELECT * FROM proj.crm.customers",
        })),
        "empties_them" => answer(json!({
            "routineType": "PROCEDURE", "language": "SQL", "definitionBody": "BEGIN DELETE FROM proj.crm.customers WHERE TRUE; END",
        })),
        "unseen" => answer(json!({"error": {"code": 403}})).status(403),
        "missing" => answer(json!({"error": {"code": 404}})).status(404),
        _ => anything(line, request),
    }
}

#[test]
fn views_and_functions_do_not_hide_a_table() {
    block_on(async {
        let views: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
        let set_view = |name: &str, query: &str| {
            views.lock().unwrap().insert(name.to_owned(), query.to_owned());
        };
        set_view("inner_view", "SELECT * FROM `proj.crm.customers`");
        set_view("outer_view", "SELECT email FROM proj.web.inner_view");
        set_view("harmless", "SELECT 1 AS x FROM proj.crm.orders");
        set_view("circle", "SELECT * FROM proj.web.circle");
        let known = views.clone();
        let set = Set::new("", NO_CUSTOMERS, move |line, request| behind(line, request, &known)).await;
        let token = set.person();
        for (sql, status) in [
            ("SELECT * FROM web.outer_view", 403),
            ("SELECT * FROM web.harmless", 200),
            ("SELECT * FROM web.circle", 200),
            ("SELECT web.reads_them()", 403),
            ("SELECT * FROM web.lists_them()", 403),
            ("BEGIN IF TRUE THEN CALL web.empties_them(); END IF; END", 403),
            ("SELECT web.unseen()", 403),
            ("SELECT * FROM web.unseen", 403),
            ("SELECT * FROM web.missing", 200),
        ] {
            let answer = set.query(&token, sql).await;
            assert_eq!(answer.status, status, "{sql}: {:?}", answer.body);
        }
        let answer = set.query(&token, "SELECT * FROM web.outer_view").await;
        let record = record_of(&set.gateway, &answer);
        let tables = json!(["proj.crm.customers", "proj.web.inner_view", "proj.web.outer_view"]);
        assert_eq!(record["statement"]["tables"], tables);
        // What the gateway asked for it is recorded as its own, and names what caused it.
        let asked: Vec<Value> = set.gateway.records(&[]);
        let own: Vec<&Value> = asked.iter().filter(|one| one["target"]["method"] == "tables.get").collect();
        assert!(own.len() >= 6, "{own:#?}");
        for one in own {
            assert_eq!(one["actor"]["kind"], "gateway");
            assert!(asked.iter().any(|cause| cause["id"] == one["caused_by"]), "{one:#}");
        }
        // Whoever changes a view through the gateway is not served from what it remembers.
        let change = "CREATE OR REPLACE VIEW web.harmless AS SELECT 2 AS x";
        assert_eq!(set.query(&token, change).await.status, 200);
        set_view("harmless", "SELECT * FROM proj.crm.customers");
        assert_eq!(set.query(&token, "SELECT * FROM web.harmless").await.status, 403);
    });
}

#[test]
fn what_the_warehouse_does_not_say_of_a_view_is_not_taken_for_harmless() {
    block_on(async {
        let log = std::env::temp_dir().join(format!("hansard-rules-emulator-{}.log", std::process::id()));
        let emulator = Emulator::start(&log);
        let world = World::new(binary(), &emulator.url, NO_CUSTOMERS).await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let direct = format!("{}/bigquery/v2/projects/proj", emulator.url);
        let made = json!({"datasetReference": {"projectId": "proj", "datasetId": "web"}}).to_string();
        assert_eq!(ask("POST", &format!("{direct}/datasets"), "", made).await.status, 200);
        let query = |sql: &str| json!({"query": sql, "useLegacySql": false}).to_string();
        for sql in ["CREATE TABLE web.t AS SELECT 1 AS id", "CREATE VIEW web.v AS SELECT * FROM proj.web.t"] {
            assert_eq!(ask("POST", &format!("{direct}/queries"), "", query(sql)).await.status, 200, "{sql}");
        }
        let url = format!("{}/bigquery/v2/projects/proj/queries", gateway.url);
        assert_eq!(ask("POST", &url, &token, query("SELECT * FROM web.t")).await.status, 200);
        // The emulator says that it is a view, and not of what.
        let answer = ask("POST", &url, &token, query("SELECT * FROM web.v")).await;
        let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(
            message.contains("which is not known: what proj.web.v is could not be looked up"),
            "{message}"
        );
    });
}

#[test]
fn limits_are_put_into_what_is_forwarded_and_pace_is_kept() {
    block_on(async {
        let rules = "[[rule]]\nname = \"cap\"\nwhen = \"principal.is_agent\"\naction = \"limit\"\nbytes_billed = \"1GiB\"\n\
             job_timeout = \"10m\"\nstatements_per_minute = 3\n[[rule]]\nname = \"tighter\"\nwhen = \
             \"statement.kind == 'SELECT'\"\naction = \"limit\"\nbytes_billed = \"1MiB\"\n";
        let set = Set::new("", rules, anything).await;
        let answer = set.query(&set.agent, "SELECT 1").await;
        assert_eq!(answer.status, 200);
        let sent = |set: &Set| -> Value {
            let asked = set.upstream.asked();
            serde_json::from_slice(asked.last().expect("forwarded").body()).expect("JSON")
        };
        let body = sent(&set);
        assert_eq!(
            (&body["maximumBytesBilled"], &body["jobTimeoutMs"]),
            (&json!("1048576"), &json!("600000"))
        );
        let record = record_of(&set.gateway, &answer);
        assert_eq!(record["decision"]["rules"], json!(["cap", "tighter"]));
        assert_eq!(
            (&record["decision"]["terms"], &record["job"]["max_bytes_billed"]),
            (&json!(["limit"]), &json!("1048576"))
        );
        let job = json!({"configuration": {"query": {"query": "INSERT crm.t (x) VALUES (1)", "useLegacySql": false,
            "maximumBytesBilled": "99"}}});
        let path = "/bigquery/v2/projects/proj/jobs";
        assert_eq!(set.send("POST", path, &set.agent, &job.to_string()).await.status, 200);
        let body = sent(&set);
        assert_eq!(body["configuration"]["query"]["maximumBytesBilled"], "99");
        assert_eq!(body["configuration"]["jobTimeoutMs"], "600000");
        assert_eq!(set.query(&set.agent, "SELECT 2").await.status, 200);
        let answer = set.query(&set.agent, "SELECT 3").await;
        assert_eq!(
            (answer.status, answer.reason().as_str(), rule_of(&answer).as_str()),
            (403, "accessDenied", "cap")
        );
        let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains("allows 3 statements a minute") && message.contains("Wait "), "{message}");
        // What is no statement is not counted, and people have their own pace.
        assert_eq!(set.send("GET", "/bigquery/v2/projects/proj/datasets", &set.agent, "").await.status, 200);
        assert_eq!(set.query(&set.person(), "SELECT 3").await.status, 200);
        assert!(sent(&set)["jobTimeoutMs"].is_null());
    });
}

/// A dry run in Google's documented shape: discovery revision 20261009, schemas.Job and schemas.JobStatistics2.
fn dry_run(_: &str, request: &Request<Bytes>) -> ScriptedReply {
    let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
    if body["configuration"]["dryRun"] != true {
        return anything("", request);
    }
    let sql = body["configuration"]["query"]["query"].as_str().unwrap_or_default();
    let table = |name: &str| json!({"projectId": "proj", "datasetId": "crm", "tableId": name});
    let (bytes, kind, tables) = match sql {
        sql if sql.contains("big") => (200u64 << 30, "SELECT", vec![table("big")]),
        sql if sql.contains("hidden") => (1, "SELECT", vec![table("hidden"), table("customers")]),
        sql if sql.contains("odd") => (1, "DELETE", vec![table("odd")]),
        sql if sql.contains("broken") => {
            let error = json!({"error": {"code": 400, "message": "Unrecognized name: nope at [1:8]",
                "errors": [{"reason": "invalidQuery", "message": "Unrecognized name: nope at [1:8]"}]}});
            return ScriptedReply::json(error.to_string()).status(400);
        }
        _ => (1 << 20, "SELECT", vec![table("small")]),
    };
    let job = json!({
        "kind": "bigquery#job", "configuration": {"dryRun": true}, "status": {"state": "DONE"},
        "statistics": {"totalBytesProcessed": bytes.to_string(),
            "query": {"totalBytesProcessed": bytes.to_string(), "statementType": kind, "referencedTables": tables}},
    });
    ScriptedReply::json(job.to_string())
}

#[test]
fn what_a_statement_would_cost_is_asked_where_a_rule_wants_to_know() {
    block_on(async {
        let big = "[[rule]]\nname = \"big\"\nwhen = \"principal.is_agent && estimate.bytes > gib(100)\"\naction = \"deny\"\n\
             [[rule]]\nname = \"no-delete\"\nwhen = \"statement.kind == 'DELETE'\"\naction = \"deny\"\n";
        let set = Set::new("", &format!("{big}{NO_CUSTOMERS}"), dry_run).await;
        for (sql, status, rule) in [
            ("SELECT * FROM crm.small", 200, ""),
            ("SELECT * FROM crm.big", 403, "big"),
            // What BigQuery says that we do not see counts; and where it reads another statement, nothing is certain.
            ("SELECT * FROM crm.hidden", 403, "no-customers"),
            ("SELECT * FROM crm.odd", 403, "dynamic"),
            ("SELECT nope FROM crm.broken", 403, "big"),
        ] {
            let answer = set.query(&set.agent, sql).await;
            let found = if answer.status == 403 { rule_of(&answer) } else { String::new() };
            assert_eq!((answer.status, found.as_str()), (status, rule), "{sql}: {:?}", answer.body);
        }
        let answer = set.query(&set.agent, "SELECT nope FROM crm.broken").await;
        let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains("its dry run failed: Unrecognized name: nope"), "{message}");

        let dry_runs = |set: &Set| {
            let is_dry = |body: &Bytes| body.windows(13).any(|window| window == b"\"dryRun\":true");
            set.upstream.asked().iter().filter(|request| is_dry(request.body())).count()
        };
        let before = dry_runs(&set);
        let answer = set.query(&set.agent, "SELECT * FROM crm.small").await;
        assert_eq!((answer.status, dry_runs(&set)), (200, before), "a dry run is remembered");
        let record = record_of(&set.gateway, &answer);
        assert_eq!(record["job"]["estimate_bytes"], (1u64 << 20).to_string());
        let job =
            json!({"configuration": {"query": {"query": "SELECT 1 FROM crm.big", "useLegacySql": false}}});
        let answer = set.send("POST", "/bigquery/v2/projects/proj/jobs", &set.agent, &job.to_string()).await;
        assert_eq!((answer.status, rule_of(&answer).as_str()), (403, "big"));
        // Who is not asked about it does not wait for it.
        let before = dry_runs(&set);
        assert_eq!(set.query(&set.person(), "SELECT * FROM crm.big").await.status, 200);
        assert_eq!(dry_runs(&set), before);
        // What the gateway asked is recorded as its own.
        let own = set.gateway.records(&[]).into_iter().filter(|one| one["actor"]["kind"] == "gateway");
        assert!(
            own.into_iter()
                .any(|one| one["target"]["method"] == "jobs.insert" && !one["caused_by"].is_null())
        );
    });
}

#[test]
fn a_session_that_runs_in_circles_is_stopped() {
    block_on(async {
        let rules = "[[rule]]\nname = \"circles\"\nwhen = \"history.same_fingerprint_last_minute >= 3\"\naction = \"deny\"\n\
             [[rule]]\nname = \"no-drop\"\nwhen = \"statement.kind == 'DROP_TABLE'\"\naction = \"deny\"\n\
             [[rule]]\nname = \"enough\"\nwhen = \"history.refusals_this_session >= 3\"\naction = \"deny\"\n";
        let set = Set::new("", rules, anything).await;
        for (sql, status, rule) in [
            ("SELECT 1 FROM crm.t", 200, ""),
            ("select  2 from crm.t -- again", 200, ""),
            ("SELECT 3 FROM crm.t", 200, ""),
            ("SELECT 4 FROM crm.t", 403, "circles"),
            ("SELECT a FROM crm.t", 200, ""),
            ("DROP TABLE crm.t", 403, "no-drop"),
            ("DROP TABLE crm.u", 403, "no-drop"),
            ("SELECT b FROM crm.t", 403, "enough"),
        ] {
            let answer = set.query(&set.agent, sql).await;
            let found = if answer.status == 403 { rule_of(&answer) } else { String::new() };
            assert_eq!((answer.status, found.as_str()), (status, rule), "{sql}");
        }
        // Another session is another story.
        assert_eq!(set.query(&set.person(), "SELECT b FROM crm.t").await.status, 200);
    });
}

#[test]
fn a_statement_that_ran_as_another_kind_is_an_alarm() {
    block_on(async {
        let script = |_: &str, _: &Request<Bytes>| {
            let answer = json!({"kind": "bigquery#queryResponse", "jobReference": {"projectId": "proj", "jobId": "j"},
                "jobComplete": true, "statementType": "DELETE", "rows": [], "totalRows": "0"});
            ScriptedReply::json(answer.to_string())
        };
        let set = Set::new("", NO_CUSTOMERS, script).await;
        let answer = set.query(&set.person(), "SELECT * FROM crm.t").await;
        let record = record_of(&set.gateway, &answer);
        assert_eq!(
            (&record["statement"]["kind"], &record["statement"]["decided_as"]),
            (&json!("DELETE"), &json!("SELECT"))
        );
        assert!((set.gateway.metric("hansard_mismatches_total").await - 1.0).abs() < 0.1);
        let record =
            record_of(&set.gateway, &set.query(&set.person(), "DELETE FROM crm.t WHERE x = 1").await);
        assert!(record["statement"]["decided_as"].is_null(), "{record:#}");
    });
}
