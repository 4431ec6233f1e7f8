//! Holding for a human: jobs wait as BigQuery's jobs wait, everything else is asked again, and whatever breaks, what
//! was allowed runs once.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testkit::{Answer, Gateway, Scripted, ScriptedReply, World, ask, token_by_key};

use crate::{binary, block_on, record_of};

const JOBS: &str = "/bigquery/v2/projects/proj/jobs";
const QUERIES: &str = "/bigquery/v2/projects/proj/queries";
const ORDERS: &str = "/bigquery/v2/projects/proj/datasets/crm/tables/orders";

/// Whatever changes something waits for a lead, or for a user of the gateway's machine.
pub(crate) const RULE: &str = "[[rule]]\nname = \"changes\"\nwhen = \"request.is_write && statement.kind != ''\"\naction = \"approve\"\n\
     approvers = \"'leads' in approver.groups || approver.idp == 'local'\"\n";

/// An upstream that keeps jobs by their names, as BigQuery does: a name is taken once.
#[derive(Default)]
struct Jobs(Mutex<BTreeMap<String, Value>>);

impl Jobs {
    fn answer(&self, request: &Request<Bytes>) -> ScriptedReply {
        let path = request.uri().path();
        let last = path.rsplit('/').next().unwrap_or_default();
        let mut jobs = self.0.lock().unwrap();
        match (request.method().as_str(), last) {
            ("POST", "jobs") => {
                let mut job: Value = serde_json::from_slice(request.body()).expect("a job");
                if job["configuration"]["dryRun"] == true {
                    let sql = job["configuration"]["query"]["query"].as_str().expect("a text");
                    let kind = sql.split(' ').next().unwrap_or_default().replace("ALTER", "ALTER_TABLE");
                    let statistics =
                        json!({"totalBytesProcessed": "1048576", "query": {"statementType": kind}});
                    let reference = json!({"projectId": "proj", "location": "europe-west1"});
                    let answer = json!({"statistics": statistics, "jobReference": reference});
                    return ScriptedReply::json(answer.to_string());
                }
                let id = job["jobReference"]["jobId"].as_str().expect("a name").to_owned();
                if id == "away" {
                    let error = json!({"error": {"code": 503, "message": "away", "errors": [{"reason": "backendError"}]}});
                    return ScriptedReply::json(error.to_string()).status(503);
                }
                if jobs.contains_key(&id) {
                    let error = json!({"error": {"code": 409, "message": "Already Exists", "errors": [{"reason": "duplicate"}]}});
                    return ScriptedReply::json(error.to_string()).status(409);
                }
                job["status"] = json!({"state": "DONE"});
                jobs.insert(id, job.clone());
                ScriptedReply::json(job.to_string())
            }
            // Started by somebody else, not through hansard.
            ("GET", "foreign") => {
                ScriptedReply::json(json!({"jobReference": {"jobId": "foreign"}}).to_string())
            }
            ("POST", "queries") => {
                ScriptedReply::json(json!({"jobComplete": true, "totalRows": "0"}).to_string())
            }
            ("GET", "orders") => ScriptedReply::json(json!({"numRows": "42", "type": "TABLE"}).to_string()),
            ("GET", id) if path.contains("/jobs/") || path.contains("/queries/") => match jobs.get(id) {
                None => ScriptedReply::json(json!({"error": {"code": 404}}).to_string()).status(404),
                Some(_) if path.contains("/queries/") => {
                    let reference = json!({"projectId": "proj", "jobId": id});
                    let body =
                        json!({"jobReference": reference, "jobComplete": true, "totalRows": "0", "rows": []});
                    ScriptedReply::json(body.to_string())
                }
                Some(job) => ScriptedReply::json(job.to_string()),
            },
            _ => ScriptedReply::json("{}"),
        }
    }
}

pub(crate) struct Set {
    world: World,
    pub(crate) gateway: Gateway,
    upstream: Scripted,
}

impl Set {
    pub(crate) async fn new(rules: &str) -> Self {
        let jobs = Arc::new(Jobs::default());
        let upstream =
            Scripted::start(Arc::new(move |_: &str, request: &Request<Bytes>| jobs.answer(request))).await;
        let roles = "[roles]\nauditor = \"'security' in principal.groups\"\nadmin = \"'platform' in principal.groups\"\n";
        let world = World::new(binary(), &upstream.url, &format!("{roles}{rules}")).await;
        let gateway = world.gateway();
        Self { world, gateway, upstream }
    }

    fn token(&self, email: &str, groups: &[&str]) -> String {
        self.world.issuer.token(email, groups)
    }

    pub(crate) fn alice(&self) -> String {
        self.token("alice@example.com", &["data"])
    }

    pub(crate) fn lead(&self) -> String {
        self.token("lead@example.com", &["data", "leads"])
    }

    async fn send(&self, method: &str, path: &str, token: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        ask(method, &format!("{}{path}", self.gateway.url), token, body).await
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        self.send("GET", path, token, &Value::Null).await
    }

    /// Statements and changes that reached the upstream, but for dry runs.
    fn ran(&self) -> Vec<Value> {
        let asked = self.upstream.asked();
        let posts = asked.iter().filter(|request| request.method() != "GET");
        let bodies = posts.map(|request| serde_json::from_slice(request.body()).unwrap_or(Value::Null));
        bodies.filter(|body: &Value| body["configuration"]["dryRun"] != true).collect()
    }

    pub(crate) async fn insert(&self, token: &str, id: &str, sql: &str) -> Answer {
        self.send("POST", JOBS, token, &job(id, sql)).await
    }

    pub(crate) async fn pending(&self, token: &str) -> Vec<Value> {
        let answer = self.get("/api/v1/approvals", token).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    pub(crate) async fn approve(&self, id: &str, token: &str, how: &Value) -> Answer {
        self.send("POST", &format!("/api/v1/approvals/{id}/approve"), token, how).await
    }

    pub(crate) async fn deny(&self, id: &str, token: &str, reason: &str) -> Answer {
        self.send("POST", &format!("/api/v1/approvals/{id}/deny"), token, &json!({"reason": reason})).await
    }
}

fn job(id: &str, sql: &str) -> Value {
    json!({
        "jobReference": {"projectId": "proj", "jobId": id, "location": "EU"},
        "configuration": {"query": {"query": sql, "useLegacySql": false}, "labels": {"team": "crm"}},
    })
}

fn approval_of(answer: &Answer) -> String {
    let details = answer.json()["error"]["details"].clone();
    let url = details[0]["metadata"]["approval_url"].as_str().unwrap_or_default().to_owned();
    url.rsplit('/').next().unwrap_or_default().to_owned()
}

pub(crate) const DELETE: &str = "DELETE FROM crm.orders WHERE id = 7";

#[test]
fn a_job_waits_and_runs_under_its_own_name_once_somebody_agrees() {
    block_on(async {
        let set = Set::new(RULE).await;
        let alice = set.alice();
        let held = set.insert(&alice, "j1", DELETE).await;
        assert_eq!((held.status, &held.json()["status"]["state"]), (200, &json!("PENDING")), "{held:?}");
        assert_eq!(held.json()["configuration"]["query"]["query"], DELETE);
        assert_eq!(held.json()["configuration"]["labels"], json!({"team": "crm"}), "ours are not shown");
        let record = record_of(&set.gateway, &held);
        assert_eq!((&record["outcome"], &record["decision"]["effect"]), (&json!("held"), &json!("approve")));
        assert_eq!(record["decision"]["rules"], json!(["changes"]));
        assert_eq!(record["job"]["estimate_bytes"], "1048576");

        // What it is to be held: it waits, here and nowhere else.
        let stands = set.get(&format!("{JOBS}/j1"), &alice).await;
        assert_eq!(stands.json()["status"]["state"], "PENDING");
        let begun = Instant::now();
        let waits = set.get(&format!("{QUERIES}/j1?timeoutMs=400"), &alice).await;
        assert_eq!((waits.status, &waits.json()["jobComplete"]), (200, &json!(false)));
        assert!(begun.elapsed() >= Duration::from_millis(400), "it is waited for");
        assert_eq!(
            set.get(&format!("{JOBS}/j1"), &set.token("bob@example.com", &["data"])).await.status,
            403
        );
        let again = set.insert(&alice, "j1", DELETE).await;
        assert_eq!(
            (again.status, again.reason().as_str()),
            (409, "duplicate"),
            "sent again, it is the same job"
        );
        assert_eq!(set.ran(), Vec::<Value>::new());

        // The card.
        let lead = set.lead();
        let pending = set.pending(&lead).await;
        assert_eq!(pending.len(), 1, "{pending:#?}");
        assert!((set.gateway.metric("hansard_held_exchanges").await - 1.0).abs() < 0.1);
        let id = pending[0]["id"].as_str().unwrap().to_owned();
        let card = set.get(&format!("/api/v1/approvals/{id}"), &lead).await.json();
        assert_eq!(card["statement"]["sql"], DELETE);
        assert_eq!(card["statement"]["tables_written"], json!(["proj.crm.orders"]));
        assert_eq!(card["who"]["email"], "alice@example.com");
        assert_eq!(
            (&card["estimate"]["bytes"], &card["estimate"]["rows_at_most"]),
            (&json!(1_048_576), &json!(42))
        );
        assert!(card["recent"].as_array().is_some_and(|recent| !recent.is_empty()), "{card:#?}");
        assert_eq!(card["rules"][0]["needed"], 1);

        // A client that waits is answered as soon as it runs.
        let (url, token) = (format!("{}{QUERIES}/j1", set.gateway.url), alice.clone());
        let waiting = tokio::spawn(async move { ask("GET", &url, &token, "").await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        let begun = Instant::now();
        let approved = set.approve(&id, &lead, &Value::Null).await;
        assert_eq!((approved.status, &approved.json()["stand"]), (200, &json!("released")), "{approved:?}");
        let results = waiting.await.unwrap();
        assert_eq!((results.status, &results.json()["jobComplete"]), (200, &json!(true)), "{results:?}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        let ran = set.ran();
        assert_eq!(ran.len(), 1, "{ran:#?}");
        assert_eq!(ran[0]["jobReference"], json!({"projectId": "proj", "jobId": "j1", "location": "EU"}));
        assert_eq!(ran[0]["configuration"]["query"]["query"], DELETE);
        assert_eq!(ran[0]["configuration"]["labels"]["team"], "crm");
        let most =
            ran[0]["configuration"]["query"]["maximumBytesBilled"].as_str().unwrap().parse::<u64>().unwrap();
        assert!((1_048_576..=64 << 20).contains(&most), "bound by what was estimated: {most}");
        assert_eq!(set.get(&format!("{JOBS}/j1"), &alice).await.json()["status"]["state"], "DONE");

        // The record: who asked, who agreed, what ran, and why.
        let steps = set.gateway.records(&["--session", record["session"].as_str().unwrap()]);
        let vote = steps.iter().find(|one| one["kind"] == "approval").expect("the answer is recorded");
        assert_eq!(vote["event"]["action"], "approval.approve");
        assert_eq!(vote["actor"]["email"]["value"], "lead@example.com");
        let release = set.gateway.record(approved.json()["record"].as_str().unwrap());
        assert_eq!(release["caused_by"], record["id"]);
        assert_eq!(release["actor"]["email"]["value"], "alice@example.com");
        assert_eq!(release["decision"]["approval"]["id"], id);
        assert_eq!((&release["decision"]["effect"], &release["outcome"]), (&json!("approve"), &json!("ok")));
        let late = set.deny(&id, &lead, "too late").await;
        assert_eq!(late.status, 409, "{late:?}");
    });
}

#[test]
fn a_query_waits_by_a_name_of_ours_and_a_denial_ends_it() {
    block_on(async {
        let set = Set::new(RULE).await;
        let (alice, lead) = (set.alice(), set.lead());
        let body = json!({
            "query": "UPDATE crm.orders SET a = @a WHERE id = 1", "useLegacySql": false, "location": "EU", "requestId": "r-1",
            "queryParameters": [{"name": "a", "parameterType": {"type": "STRING"}, "parameterValue": {"value": "x"}}],
            "labels": {"team": "crm"}, "jobTimeoutMs": "60000", "maxResults": 5, "timeoutMs": 100,
        });
        let held = set.send("POST", QUERIES, &alice, &body).await;
        assert_eq!((held.status, &held.json()["jobComplete"]), (200, &json!(false)), "{held:?}");
        let reference = held.json()["jobReference"].clone();
        assert_eq!((&reference["projectId"], &reference["location"]), (&json!("proj"), &json!("EU")));
        // Sent again with its mark it is the same statement.
        let again = set.send("POST", QUERIES, &alice, &body).await;
        assert_eq!(again.json()["jobReference"], reference);
        assert_eq!(set.pending(&lead).await.len(), 1);
        let id = set.pending(&lead).await[0]["id"].as_str().unwrap().to_owned();
        assert_eq!(set.approve(&id, &lead, &Value::Null).await.status, 200);
        let ran = set.ran();
        assert_eq!(ran.len(), 1);
        let configuration = &ran[0]["configuration"];
        assert_eq!(configuration["query"]["queryParameters"], body["queryParameters"]);
        assert_eq!(
            (&configuration["jobTimeoutMs"], &configuration["labels"]["team"]),
            (&json!("60000"), &json!("crm"))
        );
        assert_eq!(ran[0]["jobReference"], reference);

        let held = set.insert(&alice, "j2", DELETE).await;
        let id = set.pending(&lead).await[0]["id"].as_str().unwrap().to_owned();
        assert_eq!(set.deny(&id, &lead, "Ask the CRM team").await.status, 200);
        let done = set.get(&format!("{JOBS}/j2"), &alice).await.json();
        assert_eq!(done["status"]["state"], "DONE");
        assert_eq!(done["status"]["errorResult"]["reason"], "accessDenied");
        let results = set.get(&format!("{QUERIES}/j2"), &alice).await;
        assert_eq!((results.status, results.reason().as_str()), (403, "accessDenied"));
        let said = results.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(said.contains("lead@example.com denied it: Ask the CRM team."), "{said}");
        assert!(said.contains(&held.record()), "it names the record that was held: {said}");
        assert_eq!(set.ran().len(), 1);
    });
}

#[test]
fn what_is_no_job_is_asked_again_and_passes_once() {
    block_on(async {
        let set = Set::new(RULE).await;
        let (alice, lead) = (set.alice(), set.lead());
        let refused = set.send("DELETE", ORDERS, &alice, &Value::Null).await;
        assert_eq!((refused.status, refused.reason().as_str()), (403, "accessDenied"), "{refused:?}");
        let id = approval_of(&refused);
        let said = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(said.contains(&format!("hansard approvals approve {id}")), "{said}");
        assert_eq!(record_of(&set.gateway, &refused)["outcome"], "held");
        assert_eq!(
            approval_of(&set.send("DELETE", ORDERS, &alice, &Value::Null).await),
            id,
            "it waits already"
        );
        assert_eq!(set.approve(&id, &lead, &Value::Null).await.json()["stand"], "approved");
        // Anything else, or anybody else, asks again.
        let other = format!("{ORDERS}2");
        assert_ne!(approval_of(&set.send("DELETE", &other, &alice, &Value::Null).await), id);
        let bob = set.token("bob@example.com", &["data"]);
        assert_ne!(approval_of(&set.send("DELETE", ORDERS, &bob, &Value::Null).await), id);
        assert_eq!(set.ran().len(), 0);
        let passed = set.send("DELETE", ORDERS, &alice, &Value::Null).await;
        assert_eq!(passed.status, 200, "{passed:?}");
        assert_eq!(record_of(&set.gateway, &passed)["decision"]["approval"]["id"], id);
        assert_eq!(set.send("DELETE", ORDERS, &alice, &Value::Null).await.status, 403, "once is once");
        assert_eq!(set.ran().len(), 1);

        // The exact rows, and no others.
        let insert = |value: i32| json!({"rows": [{"insertId": "1", "json": {"id": value}}]});
        let path = format!("{ORDERS}/insertAll");
        let refused = set.send("POST", &path, &alice, &insert(1)).await;
        assert_eq!(set.approve(&approval_of(&refused), &lead, &Value::Null).await.status, 200);
        assert_eq!(set.send("POST", &path, &alice, &insert(2)).await.status, 403);
        assert_eq!(set.send("POST", &path, &alice, &insert(1)).await.status, 200);
    });
}

#[test]
fn nobody_answers_for_themselves_nor_without_being_an_approver() {
    block_on(async {
        let set = Set::new(RULE).await;
        let lead = set.lead();
        // A lead's own statement, and that of an agent which works for one.
        set.insert(&lead, "own", DELETE).await;
        let second = set.token("second@example.com", &["data", "leads"]);
        let id = set.pending(&second).await[0]["id"].as_str().unwrap().to_owned();
        let own = set.approve(&id, &lead, &Value::Null).await;
        assert_eq!(own.status, 403, "{own:?}");
        assert_eq!(set.approve(&id, &set.alice(), &Value::Null).await.status, 403, "no approver");
        assert_eq!(set.deny(&id, &set.alice(), "no").await.status, 403);
        let agent = [
            "key",
            "issue",
            "--principal",
            "bot@example.com",
            "--connection",
            "main",
            "--group",
            "leads",
            "--group",
            "data",
            "--out",
            "bot.json",
        ];
        assert_eq!(set.gateway.hansard(&agent).code, 0);
        let bot = token_by_key(&set.gateway.folder.join("bot.json")).await;
        let by_bot = set.approve(&id, &bot, &Value::Null).await;
        assert_eq!(by_bot.status, 403, "a human answers: {by_bot:?}");
        assert!(set.pending(&set.alice()).await.is_empty(), "it is not hers to see");
        assert_eq!(set.pending(&set.token("sec@example.com", &["security"])).await.len(), 1);
        assert_eq!(set.pending(&lead).await.len(), 1, "her own");
        assert_eq!(set.ran().len(), 0);
        // The command line, as a user of the gateway's own machine.
        let listed = set.gateway.hansard(&["approvals", "list"]);
        assert!(
            listed.stdout.contains("lead@example.com") && listed.stdout.contains("changes 0/1"),
            "{listed:?}"
        );
        let shown = set.gateway.hansard(&["approvals", "show", &id]);
        assert!(shown.stdout.contains("1.0 MiB") && shown.stdout.contains(DELETE), "{shown:?}");
        let approved = set.gateway.hansard(&["approvals", "approve", &id]);
        assert_eq!(approved.code, 0, "{approved:?}");
        assert!(approved.stdout.contains("approved: job proj:own runs"), "{approved:?}");
        let again = set.gateway.hansard(&["approvals", "deny", &id, "--reason", "late"]);
        assert_eq!(again.code, 1, "{again:?}");
        assert_eq!(set.ran().len(), 1);
    });
}

#[test]
fn what_changed_since_asks_again() {
    block_on(async {
        let set = Set::new(RULE).await;
        let (alice, lead) = (set.alice(), set.lead());
        set.insert(&alice, "j1", DELETE).await;
        let id = set.pending(&lead).await[0]["id"].as_str().unwrap().to_owned();
        let path = set.world.folder.join("hansard.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        let reload = |text: String| {
            std::fs::write(&path, text).unwrap();
            let kill =
                std::process::Command::new("kill").args(["-HUP", &set.gateway.pid().to_string()]).status();
            assert!(kill.unwrap().success());
            std::thread::sleep(Duration::from_millis(700));
        };
        // Other rules: whoever agreed to it by the old ones agreed to something else.
        reload(format!(
            "{config}\n[[rule]]\nname = \"second\"\nwhen = \"statement.kind == 'DELETE'\"\naction = \"approve\"\napprovers = \"'leads' in approver.groups\"\n"
        ));
        let answer = set.approve(&id, &lead, &Value::Null).await;
        assert_eq!(answer.status, 409, "{answer:?}");
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(said.contains("asked again"), "{said}");
        // By another name: an answer to what it was says nothing of what it is.
        let old = id;
        let id = set.pending(&lead).await[0]["id"].as_str().unwrap().to_owned();
        assert!(id != old && said.contains(&id), "{said}");
        let late = set.approve(&old, &lead, &Value::Null).await;
        assert_eq!(late.status, 409, "{late:?}");
        assert_eq!(set.get(&format!("{JOBS}/j1"), &alice).await.json()["status"]["state"], "PENDING");
        let card = set.get(&format!("/api/v1/approvals/{id}"), &lead).await.json();
        assert_eq!(card["rules"].as_array().unwrap().len(), 2, "{card:#?}");
        assert_eq!(set.ran().len(), 0);
        // And rules that deny end it.
        reload(format!(
            "{config}\n[[rule]]\nname = \"never\"\nwhen = \"statement.kind == 'DELETE'\"\naction = \"deny\"\n"
        ));
        let answer = set.approve(&id, &lead, &Value::Null).await;
        assert_eq!(answer.status, 409, "{answer:?}");
        let done = set.get(&format!("{JOBS}/j1"), &alice).await.json();
        assert_eq!(done["status"]["errorResult"]["reason"], "accessDenied", "{done:#?}");
        assert_eq!(set.ran().len(), 0);
    });
}

#[test]
fn a_yes_may_reach_further_and_never_beyond() {
    block_on(async {
        let set = Set::new(RULE).await;
        let (alice, lead) = (set.alice(), set.lead());
        let sql = |id: i32| format!("DELETE FROM crm.orders WHERE id = {id}");
        set.insert(&alice, "a", &sql(1)).await;
        let id = set.pending(&lead).await[0]["id"].as_str().unwrap().to_owned();
        assert_eq!(set.approve(&id, &lead, &json!({"for_secs": 60})).await.status, 200);
        // The very same, under another name: it runs at once. Others wait.
        let same = set.insert(&alice, "b", &sql(1)).await;
        assert_eq!(same.json()["status"]["state"], "DONE", "{same:?}");
        assert_eq!(record_of(&set.gateway, &same)["decision"]["approval"]["id"], id);
        assert_eq!(set.insert(&alice, "c", &sql(2)).await.json()["status"]["state"], "PENDING");
        let parameters = |id: &str, value: &str| {
            let mut job = job(id, "DELETE FROM crm.orders WHERE id = @id");
            job["configuration"]["query"]["queryParameters"] = json!([{"name": "id", "parameterType": {"type": "INT64"}, "parameterValue": {"value": value}}]);
            job
        };
        let held = set.send("POST", JOBS, &alice, &parameters("d", "1")).await;
        let id = held.record();
        assert_eq!(set.approve(&id, &lead, &json!({"for_secs": 60})).await.status, 200);
        assert_eq!(
            set.send("POST", JOBS, &alice, &parameters("e", "1")).await.json()["status"]["state"],
            "DONE"
        );
        let other = set.send("POST", JOBS, &alice, &parameters("f", "2")).await;
        assert_eq!(other.json()["status"]["state"], "PENDING", "other parameters are another request");

        // By its fingerprint literals and parameters may differ, and nothing else.
        assert_eq!(set.approve(&other.record(), &lead, &json!({"fingerprint": true})).await.status, 200);
        assert_eq!(
            set.send("POST", JOBS, &alice, &parameters("g", "3")).await.json()["status"]["state"],
            "DONE"
        );
        for wide in ["DELETE FROM crm.orders WHERE TRUE", "DELETE FROM crm.customers WHERE id = @id"] {
            assert_eq!(
                set.insert(&alice, &format!("w{}", wide.len()), wide).await.json()["status"]["state"],
                "PENDING"
            );
        }
        let bob = set.token("bob@example.com", &["data"]);
        let theirs = set.send("POST", JOBS, &bob, &parameters("h", "3")).await;
        assert_eq!(theirs.json()["status"]["state"], "PENDING", "a yes is one principal's");
        let mut elsewhere = parameters("i", "3");
        elsewhere["configuration"]["query"]["createSession"] = true.into();
        assert_eq!(set.send("POST", JOBS, &alice, &elsewhere).await.json()["status"]["state"], "PENDING");
        let nothing = set.send("DELETE", ORDERS, &alice, &Value::Null).await;
        let answer = set.approve(&approval_of(&nothing), &lead, &json!({"fingerprint": true})).await;
        assert_eq!(answer.status, 400, "{answer:?}");
    });
}

#[test]
fn several_agree_and_a_race_runs_it_once() {
    block_on(async {
        let two = RULE.replace("action = \"approve\"", "action = \"approve\"\napprovals = 2");
        let set = Set::new(&two).await;
        let alice = set.alice();
        let lead = |name: &str| set.token(&format!("{name}@example.com"), &["data", "leads"]);
        set.insert(&alice, "j1", DELETE).await;
        let id = set.pending(&lead("l0")).await[0]["id"].as_str().unwrap().to_owned();
        let first = set.approve(&id, &lead("l0"), &Value::Null).await.json();
        assert_eq!((&first["stand"], &first["needs_more"]), (&json!("pending"), &json!(1)));
        assert_eq!(set.approve(&id, &lead("l0"), &Value::Null).await.status, 409, "one person has one voice");
        let racing: Vec<_> = (1..9)
            .map(|number| {
                let url = format!("{}/api/v1/approvals/{id}/approve", set.gateway.url);
                let token = lead(&format!("l{number}"));
                tokio::spawn(async move { ask("POST", &url, &token, "").await.status })
            })
            .collect();
        let mut won = 0;
        for one in racing {
            won += usize::from(one.await.unwrap() == 200);
        }
        assert_eq!((won, set.ran().len()), (1, 1), "one of them was the second");
    });
}

#[test]
fn what_waits_expires_is_cancelled_and_ends_with_its_session() {
    block_on(async {
        let short = RULE.replace("action = \"approve\"", "action = \"approve\"\nexpires = \"2s\"");
        let set = Set::new(&short).await;
        let (alice, lead) = (set.alice(), set.lead());
        set.insert(&alice, "j1", DELETE).await;
        let id = set.pending(&lead).await[0]["id"].as_str().unwrap().to_owned();
        tokio::time::sleep(Duration::from_millis(3_300)).await;
        assert_eq!(set.approve(&id, &lead, &Value::Null).await.status, 409);
        let done = set.get(&format!("{QUERIES}/j1"), &alice).await;
        assert_eq!(done.status, 403);
        assert!(String::from_utf8_lossy(&done.body).contains("nobody answered"), "{done:?}");

        let held = set.insert(&alice, "j2", DELETE).await;
        let bob = set.token("bob@example.com", &["data"]);
        assert_eq!(set.send("POST", &format!("{JOBS}/j2/cancel"), &bob, &Value::Null).await.status, 403);
        let cancelled = set.send("POST", &format!("{JOBS}/j2/cancel"), &alice, &Value::Null).await.json();
        assert_eq!(cancelled["job"]["status"]["errorResult"]["reason"], "stopped", "{cancelled:#?}");
        assert_eq!(set.approve(&held.record(), &lead, &Value::Null).await.status, 409);

        let held = set.insert(&alice, "j3", DELETE).await;
        let session = record_of(&set.gateway, &held)["session"].as_str().unwrap().to_owned();
        assert_eq!(set.gateway.hansard(&["session", "end", &session]).code, 0);
        assert_eq!(set.approve(&held.record(), &lead, &Value::Null).await.status, 409);
        assert_eq!(set.ran().len(), 0);
    });
}

#[test]
fn dry_runs_are_not_held_and_reads_are_not_touched() {
    block_on(async {
        let set = Set::new(RULE).await;
        let mut dry = job("j1", DELETE);
        dry["configuration"]["dryRun"] = true.into();
        let answer = set.send("POST", JOBS, &set.alice(), &dry).await;
        assert_eq!(
            (answer.status, &answer.json()["statistics"]["totalBytesProcessed"]),
            (200, &json!("1048576"))
        );
        assert_eq!(set.insert(&set.alice(), "j2", "SELECT 1").await.json()["status"]["state"], "DONE");
        assert!(set.pending(&set.lead()).await.is_empty());
    });
}

#[test]
fn a_cost_rule_holds_scans_and_not_the_rest() {
    block_on(async {
        let rule = "[[rule]]\nname = \"big\"\nwhen = \"estimate.bytes > kib(1)\"\naction = \"approve\"\napprovers = \"'leads' in approver.groups\"\n";
        let set = Set::new(rule).await;
        let alice = set.alice();
        assert_eq!(
            set.insert(&alice, "j1", "SELECT * FROM crm.orders").await.json()["status"]["state"],
            "PENDING"
        );
        for path in [format!("{JOBS}/j1"), ORDERS.to_owned(), format!("{ORDERS}/data"), JOBS.to_owned()] {
            assert_eq!(set.get(&path, &alice).await.status, 200, "{path} processes nothing");
        }
        assert_eq!(set.send("DELETE", ORDERS, &alice, &Value::Null).await.status, 200);
    });
}

#[test]
fn what_waits_survives_a_kill_and_runs_at_most_once() {
    block_on(async {
        let mut set = Set::new(RULE).await;
        let (alice, lead) = (set.alice(), set.lead());
        set.insert(&alice, "j1", DELETE).await;
        let id = set.pending(&lead).await[0]["id"].as_str().unwrap().to_owned();
        set.gateway.kill();
        // It dies between the yes and the statement.
        set.gateway = set.world.gateway_with(&[("HANSARD_FAILPOINT", "releasing")]);
        assert_eq!(set.get(&format!("{JOBS}/j1"), &alice).await.json()["status"]["state"], "PENDING");
        let url = format!("{}/api/v1/approvals/{id}/approve", set.gateway.url);
        let request =
            Request::builder().method("POST").uri(url).header("authorization", format!("Bearer {lead}"));
        assert!(testkit::try_send(request.body(Bytes::new()).unwrap()).await.is_none(), "it died");
        assert_eq!(set.ran().len(), 0);
        set.gateway.has_died();
        set.gateway = set.world.gateway();
        let until = Instant::now() + Duration::from_secs(20);
        while set.ran().is_empty() {
            assert!(Instant::now() < until, "{}", set.gateway.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(set.get(&format!("{JOBS}/j1"), &alice).await.json()["status"]["state"], "DONE");
        set.gateway.kill();
        // And after it: the name is taken, so it is not run again.
        set.gateway = set.world.gateway();
        set.insert(&alice, "j2", DELETE).await;
        let id = set.pending(&lead).await[0]["id"].as_str().unwrap().to_owned();
        set.gateway.kill();
        set.gateway = set.world.gateway_with(&[("HANSARD_FAILPOINT", "first_byte:2")]);
        let url = format!("{}/api/v1/approvals/{id}/approve", set.gateway.url);
        let request =
            Request::builder().method("POST").uri(url).header("authorization", format!("Bearer {lead}"));
        let _ = testkit::try_send(request.body(Bytes::new()).unwrap()).await;
        set.gateway.has_died();
        set.gateway = set.world.gateway();
        tokio::time::sleep(Duration::from_secs(8)).await;
        let names: Vec<_> = set.ran().iter().map(|job| job["jobReference"]["jobId"].clone()).collect();
        let done = set.get(&format!("{JOBS}/j2"), &alice).await.json();
        assert_eq!(done["status"]["state"], "DONE", "{done:#?} {names:?}");
        assert!(done["status"]["errorResult"].is_null(), "{done:#?}");
    });
}

#[test]
fn a_name_that_is_somebody_elses_is_not_taken_by_waiting_for_it() {
    block_on(async {
        let set = Set::new(RULE).await;
        let alice = set.alice();
        let taken = set.insert(&alice, "foreign", DELETE).await;
        assert_eq!((taken.status, taken.reason().as_str()), (409, "duplicate"), "{taken:?}");
        for path in
            [format!("{JOBS}/foreign"), format!("{QUERIES}/foreign"), format!("{JOBS}?parentJobId=foreign")]
        {
            assert!(matches!(set.get(&path, &alice).await.status, 403 | 404), "{path}");
        }
        assert!(set.pending(&set.lead()).await.is_empty());
    });
}

#[test]
fn a_mark_is_one_statement_whatever_became_of_it() {
    block_on(async {
        let set = Set::new(RULE).await;
        let (alice, lead) = (set.alice(), set.lead());
        let body = json!({"query": DELETE, "useLegacySql": false, "requestId": "r-1"});
        let held = set.send("POST", QUERIES, &alice, &body).await;
        // Nobody said where it runs: whoever asks for it by its name must find it, so BigQuery's own word is taken.
        assert_eq!(held.json()["jobReference"]["location"], "europe-west1", "{held:?}");
        assert_eq!(set.approve(&held.record(), &lead, &json!({"for_secs": 60})).await.status, 200);
        let again = set.send("POST", QUERIES, &alice, &body).await;
        assert_eq!(
            (again.status, &again.json()["jobReference"]),
            (200, &held.json()["jobReference"]),
            "{again:?}"
        );
        assert_eq!(set.ran().len(), 1, "sent again with its mark, it is the statement that ran");
        let other = json!({"query": DELETE, "useLegacySql": false, "requestId": "r-2"});
        assert_eq!(set.send("POST", QUERIES, &alice, &other).await.json()["jobComplete"], true);
        // A yes for a time is taken back by a no.
        assert_eq!(set.deny(&held.record(), &lead, "enough").await.status, 200);
        let third = json!({"query": DELETE, "useLegacySql": false, "requestId": "r-3"});
        assert_eq!(set.send("POST", QUERIES, &alice, &third).await.json()["jobComplete"], false);
    });
}

#[test]
fn a_literal_that_is_the_deed_is_nothing_alike() {
    block_on(async {
        let rule = RULE.replace("request.is_write && ", "");
        let set = Set::new(&rule).await;
        let (alice, lead) = (set.alice(), set.lead());
        for (id, sql) in [
            ("g", "GRANT `roles/bigquery.dataViewer` ON TABLE crm.orders TO 'user:a@example.com'"),
            ("e", "ALTER TABLE crm.orders SET OPTIONS (expiration_timestamp = TIMESTAMP '2099-01-01')"),
        ] {
            let held = set.insert(&alice, id, sql).await;
            let answer = set.approve(&held.record(), &lead, &json!({"fingerprint": true})).await;
            assert_eq!(answer.status, 400, "{sql}: {answer:?}");
        }
    });
}

#[test]
fn agents_by_expression_and_keys_do_not_answer() {
    block_on(async {
        let any = RULE.replace("'leads' in approver.groups || approver.idp == 'local'", "true");
        let agents = "[identity]\nagents = \"principal.email.endsWith('@agents.example.com')\"\n";
        let set = Set::new(&any).await;
        let path = set.world.folder.join("hansard.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, config.replacen("[[identity.oidc]]", &format!("{agents}[[identity.oidc]]"), 1))
            .unwrap();
        let kill = std::process::Command::new("kill").args(["-HUP", &set.gateway.pid().to_string()]).status();
        assert!(kill.unwrap().success());
        tokio::time::sleep(Duration::from_millis(700)).await;
        let held = set.insert(&set.alice(), "j1", DELETE).await;
        let id = held.record();
        let agent = set.token("bot@agents.example.com", &["data"]);
        assert_eq!(set.approve(&id, &agent, &Value::Null).await.status, 403);
        let issue = [
            "key",
            "issue",
            "--principal",
            "bob@example.com",
            "--connection",
            "main",
            "--kind",
            "person",
            "--group",
            "data",
            "--out",
            "bob.json",
        ];
        assert_eq!(set.gateway.hansard(&issue).code, 0);
        let key = token_by_key(&set.gateway.folder.join("bob.json")).await;
        assert_eq!(set.approve(&id, &key, &Value::Null).await.status, 403, "a key is no sign-in");
        let local = set.gateway.hansard(&["approvals", "approve", &id]);
        assert_eq!(local.code, 1, "nor is the machine's own user, unless the rule says so: {local:?}");
        let bob = set.token("bob@example.com", &["data"]);
        assert_eq!(set.approve(&id, &bob, &Value::Null).await.status, 200);
    });
}

#[test]
fn an_upload_that_was_agreed_to_passes_with_another_boundary_and_name() {
    block_on(async {
        let set = Set::new(RULE).await;
        let (alice, lead) = (set.alice(), set.lead());
        let upload = |boundary: &str, name: &str, table: &str| {
            let job = json!({"jobReference": {"projectId": "proj", "jobId": name}, "configuration": {"load": {
                "destinationTable": {"projectId": "proj", "datasetId": "crm", "tableId": table}, "sourceFormat": "CSV"}}});
            let body = format!(
                "--{boundary}\r\nContent-Type: application/json\r\n\r\n{job}\r\n--{boundary}\r\nContent-Type: text/csv\r\n\r\n1,2\r\n--{boundary}--\r\n"
            );
            let url =
                format!("{}/upload/bigquery/v2/projects/proj/jobs?uploadType=multipart", set.gateway.url);
            let request = Request::post(url).header("authorization", format!("Bearer {alice}"));
            let request = request.header("content-type", format!("multipart/related; boundary={boundary}"));
            testkit::send(request.body(Bytes::from(body)).unwrap())
        };
        let refused = upload("aaa", "u1", "orders").await;
        assert_eq!(refused.status, 403, "{refused:?}");
        assert_eq!(set.approve(&approval_of(&refused), &lead, &Value::Null).await.status, 200);
        assert_eq!(upload("bbb", "u2", "customers").await.status, 403, "another table is another request");
        assert_ne!(upload("ccc", "u3", "orders").await.status, 403);
        assert_eq!(upload("ddd", "u4", "orders").await.status, 403, "once is once");
    });
}

#[test]
fn a_yes_that_could_not_be_carried_out_yet_is_taken_back() {
    block_on(async {
        let set = Set::new(RULE).await;
        let (alice, lead) = (set.alice(), set.lead());
        let held = set.insert(&alice, "away", DELETE).await;
        let approved = set.approve(&held.record(), &lead, &json!({"for_secs": 60})).await.json();
        assert_eq!(approved["stand"], "approved", "{approved}");
        assert!(
            approved["said"].as_str().unwrap().contains("away"),
            "it is tried again, and says why: {approved}"
        );
        let begun = Instant::now();
        assert_eq!(set.get(&format!("{JOBS}/away"), &alice).await.json()["status"]["state"], "PENDING");
        assert!(begun.elapsed() < Duration::from_secs(15), "whoever asks how it stands is not kept");
        let until = Instant::now() + Duration::from_secs(15);
        while set.deny(&held.record(), &lead, "not now").await.status != 200 {
            assert!(Instant::now() < until, "{}", set.gateway.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let tries = set.ran().len();
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(set.ran().len(), tries, "it is not tried any more");
        let done = set.get(&format!("{JOBS}/away"), &alice).await.json();
        assert_eq!(done["status"]["errorResult"]["reason"], "accessDenied", "{done:#}");
        let other = set.insert(&alice, "b", DELETE).await;
        assert_eq!(other.json()["status"]["state"], "PENDING", "and it is good for nothing else");
    });
}

#[test]
fn a_job_without_a_statement_shows_all_of_itself() {
    block_on(async {
        let set = Set::new(&RULE.replace("request.is_write && ", "")).await;
        let table = json!({"projectId": "proj", "datasetId": "crm", "tableId": "orders"});
        let job = json!({"jobReference": {"projectId": "proj", "jobId": "x"},
            "configuration": {"extract": {"sourceTable": table, "destinationUris": ["gs://out/x*"]}}});
        let held = set.send("POST", JOBS, &set.alice(), &job).await;
        let card = set.get(&format!("/api/v1/approvals/{}", held.record()), &set.lead()).await.json();
        assert_eq!(card["statement"]["destinations"], json!(["gs://out/x*"]), "{card:#}");
        assert!(card["request"]["body"].as_str().unwrap().contains("gs://out/x*"), "{card:#}");
    });
}
