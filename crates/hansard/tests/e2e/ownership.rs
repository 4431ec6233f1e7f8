//! Jobs, their results and BigQuery's sessions belong to whoever started them; every job's end is a record.

use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use testkit::{Answer, Gateway, Scripted, ScriptedReply, World, ask};

use crate::{binary, block_on};

/// An upstream with jobs: what was inserted stands in it, and is done when it was asked for often enough.
#[derive(Default)]
struct Jobs {
    jobs: Mutex<Vec<Value>>,
    asked: AtomicUsize,
    /// `jobs.get` answers RUNNING so often.
    running: usize,
}

impl Jobs {
    fn reply(&self, line: &str, body: &[u8]) -> ScriptedReply {
        let (verb, uri) = line.split_once(' ').unwrap();
        let path = uri.split('?').next().unwrap();
        let parts: Vec<&str> = path.trim_start_matches("/bigquery/v2/projects/p/").split('/').collect();
        let mut jobs = self.jobs.lock().unwrap();
        match (verb, parts.as_slice()) {
            ("POST", ["jobs"]) => {
                let asked: Value = serde_json::from_slice(body).unwrap();
                if asked["configuration"]["query"]["query"] == "BAD" {
                    return ScriptedReply::json(error(400, "invalidQuery")).status(400);
                }
                if jobs.iter().any(|job| job["jobReference"]["jobId"] == asked["jobReference"]["jobId"]) {
                    return ScriptedReply::json(error(409, "duplicate")).status(409);
                }
                let mut job = asked;
                job["status"] = json!({"state": "RUNNING"});
                job["jobReference"]["location"] = "EU".into();
                job["statistics"] = json!({"creationTime": "1"});
                jobs.push(job.clone());
                ScriptedReply::json(job.to_string())
            }
            ("POST", ["queries"]) => {
                let number = jobs.len();
                let job = json!({
                    "jobReference": {"projectId": "p", "jobId": format!("q{number}"), "location": "EU"},
                    "status": {"state": "DONE"}, "statistics": {},
                });
                jobs.push(job.clone());
                ScriptedReply::json(
                    json!({
                        "jobComplete": true, "jobReference": job["jobReference"], "rows": [], "totalRows": "0",
                        "sessionInfo": {"sessionId": format!("session-{number}")},
                    })
                    .to_string(),
                )
            }
            ("GET", ["jobs"]) if uri.contains("parentJobId=script") => {
                let child = |n: u32, kind: &str| {
                    json!({
                        "jobReference": {"projectId": "p", "jobId": format!("script_{n}"), "location": "EU"},
                        "status": {"state": "DONE"}, "state": "DONE",
                        "configuration": {"query": {"query": format!("statement {n}")}},
                        "statistics": {"parentJobId": "script", "query": {"statementType": kind, "totalBytesBilled": "10"}},
                    })
                };
                ScriptedReply::json(json!({"jobs": [child(2, "SELECT"), child(1, "INSERT")]}).to_string())
            }
            ("GET", ["jobs"]) => ScriptedReply::json(
                json!({"kind": "bigquery#jobList", "jobs": *jobs, "nextPageToken": "more"}).to_string(),
            ),
            ("POST", ["jobs", id, "cancel"]) => {
                let job = jobs.iter_mut().find(|job| job["jobReference"]["jobId"] == **id).unwrap();
                job["status"] =
                    json!({"state": "DONE", "errorResult": {"reason": "stopped", "message": "cancelled"}});
                ScriptedReply::json(json!({ "job": job }).to_string())
            }
            ("GET", ["jobs", id]) => {
                let asked = self.asked.fetch_add(1, Ordering::Relaxed);
                let Some(job) = jobs.iter_mut().find(|job| job["jobReference"]["jobId"] == **id) else {
                    return ScriptedReply::json(error(404, "notFound")).status(404);
                };
                if asked >= self.running && job["status"]["state"] != "DONE" {
                    job["status"] = json!({"state": "DONE"});
                    job["statistics"] = json!({
                        "totalBytesProcessed": "1000", "totalSlotMs": "77",
                        "query": {
                            "statementType": "SELECT", "cacheHit": false, "totalBytesBilled": "2000",
                            "referencedTables": [{"projectId": "p", "datasetId": "d", "tableId": "t"}],
                            "dmlStats": {"insertedRowCount": "3"},
                        },
                    });
                    job["configuration"]["query"]["destinationTable"] =
                        json!({"projectId": "p", "datasetId": "_hidden", "tableId": "anonabc123"});
                    if *id == "script" {
                        job["statistics"]["numChildJobs"] = "2".into();
                    }
                    if *id == "fails" {
                        job["status"]["errorResult"] =
                            json!({"reason": "stopped", "message": "it was stopped"});
                    }
                }
                ScriptedReply::json(job.to_string())
            }
            _ => ScriptedReply::json("{}"),
        }
    }
}

fn error(code: u16, reason: &str) -> String {
    json!({"error": {"code": code, "message": reason, "errors": [{"reason": reason, "message": reason}]}})
        .to_string()
}

async fn world(running: usize, extra: &str) -> (World, Scripted, Arc<Jobs>) {
    let jobs = Arc::new(Jobs { running, ..Jobs::default() });
    let script = jobs.clone();
    let upstream = Scripted::start(Arc::new(move |line, request| script.reply(line, request.body()))).await;
    (World::new(binary(), &upstream.url, extra).await, upstream, jobs)
}

struct Client<'a> {
    url: &'a str,
    token: String,
}

impl Client<'_> {
    async fn send(&self, verb: &str, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        ask(verb, &format!("{}/bigquery/v2/projects/p/{path}", self.url), &self.token, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, Value::Null).await
    }

    async fn insert(&self, id: &str, sql: &str) -> Answer {
        let job = json!({
            "jobReference": {"projectId": "p", "jobId": id, "location": "EU"},
            "configuration": {"query": {"query": sql}},
        });
        self.send("POST", "jobs", job).await
    }
}

fn clients<'a>(world: &World, gateway: &'a Gateway) -> (Client<'a>, Client<'a>, Client<'a>) {
    let client = |name: &str, groups: &[&str]| Client {
        url: &gateway.url,
        token: world.issuer.token(&format!("{name}@example.com"), groups),
    };
    (client("alice", &["data"]), client("bob", &["data"]), client("carol", &["data", "auditors"]))
}

const AUDITORS: &str = "[roles]\nauditor = \"'auditors' in principal.groups\"\n";

#[test]
fn a_job_is_whose_it_is_and_an_auditor_may_look() {
    block_on(async {
        let (world, upstream, _) = world(0, AUDITORS).await;
        let gateway = world.gateway();
        let (alice, bob, carol) = clients(&world, &gateway);
        assert_eq!(alice.insert("mine", "SELECT 1").await.status, 200);
        assert_eq!(bob.insert("bobs", "SELECT 2").await.status, 200);
        gateway.until_jobs_are_recorded().await;
        let before = upstream.asked().len();
        for (verb, path) in [
            ("GET", "jobs/mine"),
            ("GET", "queries/mine"),
            ("POST", "jobs/mine/cancel"),
            ("DELETE", "jobs/mine/delete"),
            ("GET", "jobs?parentJobId=mine"),
        ] {
            let answer = bob.send(verb, path, Value::Null).await;
            assert_eq!((answer.status, answer.reason().as_str()), (403, "accessDenied"), "{verb} {path}");
        }
        let unknown = bob.get("queries/never-seen").await;
        assert_eq!((unknown.status, unknown.reason().as_str()), (404, "notFound"));
        assert_eq!(
            carol.send("POST", "jobs/mine/cancel", Value::Null).await.status,
            403,
            "looking is not touching"
        );
        assert_eq!(upstream.asked().len(), before, "nothing of it was forwarded");
        let refused = gateway.records(&["--outcome", "refused"]);
        assert_eq!(refused.len(), 7);
        for client in [&alice, &carol] {
            assert_eq!(client.get("jobs/mine").await.status, 200);
            assert_eq!(client.get("queries/mine").await.status, 200);
        }
        assert_eq!(alice.send("POST", "jobs/mine/cancel", Value::Null).await.status, 200);
        // Somebody else's id can't be taken over, nor can its job be found by trying.
        let taken = bob.insert("mine", "SELECT 3").await;
        assert_eq!((taken.status, taken.reason().as_str()), (409, "duplicate"));
        // Ownership survives a restart.
        assert_eq!(gateway.stop(), 0);
        let gateway = world.gateway();
        let (alice, bob, _) = clients(&world, &gateway);
        assert_eq!(bob.get("jobs/mine").await.status, 403);
        assert_eq!(alice.get("jobs/mine").await.status, 200);
    });
}

#[test]
fn lists_show_everybody_their_own_jobs() {
    block_on(async {
        let (world, _upstream, _) = world(0, AUDITORS).await;
        let gateway = world.gateway();
        let (alice, bob, carol) = clients(&world, &gateway);
        alice.insert("a1", "SELECT 1").await;
        bob.insert("b1", "SELECT 1").await;
        alice.insert("a2", "SELECT 1").await;
        let ids = |answer: Answer| {
            let page = answer.json();
            assert_eq!(page["nextPageToken"], "more", "the token stays: {page}");
            let jobs = page["jobs"].as_array().unwrap().iter();
            jobs.map(|job| job["jobReference"]["jobId"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(ids(alice.get("jobs?allUsers=true&projection=full").await), ["a1", "a2"]);
        assert_eq!(ids(bob.get("jobs").await), ["b1"]);
        assert_eq!(ids(carol.get("jobs").await), ["a1", "b1", "a2"]);
        // Narrowed to fields that do not say whose it is, it still knows.
        let narrow = bob.get("jobs?fields=jobs(status(state))").await.json();
        assert_eq!(narrow["jobs"].as_array().unwrap().len(), 1, "{narrow}");
        assert!(narrow["jobs"][0].get("jobReference").is_none());
        // The label that marks a job is never shown.
        assert!(!String::from_utf8_lossy(&alice.get("jobs").await.body).contains("hansard_record"));
    });
}

#[test]
fn shared_history_shares() {
    block_on(async {
        let (world, _upstream, _) = world(0, "shared_history = true\n").await;
        let gateway = world.gateway();
        let (alice, bob, _) = clients(&world, &gateway);
        alice.insert("mine", "SELECT 1").await;
        assert_eq!(bob.get("jobs/mine").await.status, 200);
        assert_eq!(bob.send("POST", "jobs/mine/cancel", Value::Null).await.status, 200);
        assert_eq!(bob.get("jobs").await.json()["jobs"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn anonymous_results_and_bigquery_sessions_belong_to_somebody_too() {
    block_on(async {
        let (world, upstream, _) = world(0, "").await;
        let gateway = world.gateway();
        let (alice, bob, _) = clients(&world, &gateway);
        alice.insert("mine", "SELECT 1").await;
        gateway.until_jobs_are_recorded().await;
        let table = "datasets/_hidden/tables/anonabc123/data";
        assert_eq!(alice.get(table).await.status, 200);
        let session = json!({"query": "SELECT 1", "createSession": true});
        assert_eq!(alice.send("POST", "queries", session).await.status, 200);
        let with = |id: &str| json!({"query": "SELECT 1", "connectionProperties": [{"key": "session_id", "value": id}]});
        assert_eq!(alice.send("POST", "queries", with("session-1")).await.status, 200);
        let before = upstream.asked().len();
        let copy = json!({"configuration": {"copy": {
            "sourceTable": {"projectId": "p", "datasetId": "_hidden", "tableId": "anonabc123"},
            "destinationTable": {"projectId": "p", "datasetId": "d", "tableId": "mine"},
        }}});
        for (verb, path, body) in [
            ("GET", table, Value::Null),
            ("GET", "datasets/_hidden/tables/anonabc123", Value::Null),
            ("POST", "queries", with("session-1")),
            ("POST", "queries", json!({"query": "SELECT * FROM `p._hidden.anonabc123`"})),
            ("POST", "jobs", copy),
        ] {
            let answer = bob.send(verb, path, body.clone()).await;
            assert_eq!(answer.status, 403, "{verb} {path} {body}");
        }
        assert_eq!(upstream.asked().len(), before);
    });
}

#[test]
fn what_is_sent_again_is_one_statement() {
    block_on(async {
        let (world, upstream, jobs) = world(0, "").await;
        let gateway = world.gateway();
        let (alice, bob, _) = clients(&world, &gateway);
        let first = alice.insert("again", "SELECT 1").await;
        let second = alice.insert("again", "SELECT 1").await;
        assert_eq!((first.status, second.status), (200, 409), "as BigQuery says it");
        assert_eq!(alice.get("jobs/again").await.status, 200, "a refused retry does not take the job away");
        let record = |answer: &Answer| gateway.record(&answer.record());
        assert_eq!(record(&second)["caused_by"], first.record().as_str());
        let query = json!({"query": "SELECT 1", "requestId": "the-same"});
        let first = alice.send("POST", "queries", query.clone()).await;
        let second = alice.send("POST", "queries", query.clone()).await;
        let other = bob.send("POST", "queries", query).await;
        assert_eq!(record(&second)["caused_by"], first.record().as_str());
        assert!(record(&other).get("caused_by").is_none());
        let sent: Vec<String> = upstream
            .asked()
            .iter()
            .filter(|request| request.uri().path().ends_with("/queries"))
            .map(|request| {
                let body: Value = serde_json::from_slice(request.body()).unwrap();
                body["requestId"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(sent[0], sent[1], "BigQuery sees a retry as one");
        assert_ne!(sent[0], sent[2], "and somebody else's as another");
        // An id whose job BigQuery refused is free again.
        assert_eq!(alice.insert("free", "BAD").await.status, 400);
        assert_eq!(bob.insert("free", "SELECT 1").await.status, 200);
        assert_eq!(
            jobs.jobs.lock().unwrap().iter().filter(|job| job["jobReference"]["jobId"] == "again").count(),
            1
        );
    });
}

fn jobs_of(gateway: &Gateway) -> Vec<Value> {
    gateway.records(&[]).into_iter().filter(|record| record["kind"] == "job").collect()
}

#[test]
fn every_jobs_end_is_a_record_though_nobody_asks() {
    block_on(async {
        let (world, _upstream, _) = world(1, "").await;
        let gateway = world.gateway();
        let (alice, _, _) = clients(&world, &gateway);
        let started = alice.insert("slow", "SELECT 1").await;
        alice.insert("fails", "SELECT 2").await;
        gateway.until_jobs_are_recorded().await;
        let all = jobs_of(&gateway);
        let of = |id: &str| {
            all.iter().find(|record| record["job"]["id"] == id).unwrap_or_else(|| panic!("{id}: {all:#?}"))
        };
        let slow = of("slow");
        assert_eq!(slow["caused_by"], started.record().as_str());
        assert_eq!(slow["actor"]["email"]["value"], "alice@example.com");
        assert_eq!((&slow["outcome"], &slow["job"]["state"]), (&json!("ok"), &json!("DONE")));
        assert_eq!(
            (&slow["statement"]["kind"], &slow["statement"]["tables"]),
            (&json!("SELECT"), &json!(["p.d.t"]))
        );
        let job = &slow["job"];
        assert_eq!((&job["bytes_processed"], &job["bytes_billed"]), (&json!("1000"), &json!("2000")));
        assert_eq!((&job["slot_ms"], &job["cache_hit"]), (&json!("77"), &json!(false)));
        assert_eq!(job["dml"], json!({"insertedRowCount": "3"}));
        assert_eq!(
            (&of("fails")["outcome"], &of("fails")["status"]["reason"]),
            (&json!("error"), &json!("stopped"))
        );
        // What the gateway asked of its own accord is recorded as what it is.
        let own = gateway.records(&[]);
        let own: Vec<_> = own.iter().filter(|record| record["actor"]["kind"] == "gateway").collect();
        let questions: Vec<_> = own.iter().filter(|record| record["kind"] == "exchange").collect();
        assert!(questions.len() >= 3, "{questions:#?}");
        assert!(
            questions
                .iter()
                .all(|record| record["target"]["method"] == "jobs.get" && record.get("caused_by").is_some())
        );
    });
}

#[test]
fn each_child_of_a_script_is_a_record_of_its_own() {
    block_on(async {
        let (world, _upstream, _) = world(0, "").await;
        let gateway = world.gateway();
        let (alice, bob, _) = clients(&world, &gateway);
        let started = alice.insert("script", "INSERT d.t VALUES (1); SELECT 1").await;
        gateway.until_jobs_are_recorded().await;
        let all = jobs_of(&gateway);
        let told: Vec<_> = all
            .iter()
            .map(|record| {
                let text =
                    |path: &str| record.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
                (text("/job/id"), text("/job/parent"), text("/statement/kind"), text("/statement/sql"))
            })
            .collect();
        let child = |n: u32, kind: &str| {
            (format!("script_{n}"), "script".to_owned(), kind.to_owned(), format!("statement {n}"))
        };
        assert_eq!(told[..2], [child(1, "INSERT"), child(2, "SELECT")], "in the order in which they ran");
        assert_eq!(told[2].0, "script");
        assert!(all.iter().all(|record| record["caused_by"] == started.record().as_str()));
        // Children belong to whoever started the script.
        assert_eq!(bob.get("queries/script_1").await.status, 403);
        assert_eq!(alice.get("queries/script_1").await.status, 200);
    });
}

#[test]
fn a_job_that_a_kill_left_open_is_asked_for_by_the_next_start() {
    block_on(async {
        let (world, _upstream, jobs) = world(0, "").await;
        let gateway = world.gateway_with(&[("HANSARD_FAILPOINT", "first_byte:1")]);
        let (alice, _, _) = clients(&world, &gateway);
        let url = format!("{}/bigquery/v2/projects/p/jobs", gateway.url);
        let body = json!({"jobReference": {"projectId": "p", "jobId": "open"}, "configuration": {"query": {"query": "SELECT 1"}}});
        let request = http::Request::post(url).header("authorization", format!("Bearer {}", alice.token));
        assert!(
            testkit::try_send(request.body(body.to_string().into()).unwrap())
                .await
                .is_none_or(|answer| !answer.whole)
        );
        assert_eq!(jobs.jobs.lock().unwrap().len(), 1, "BigQuery has it");
        drop(gateway);
        let gateway = world.gateway();
        gateway.until_jobs_are_recorded().await;
        let records = gateway.records(&[]);
        let open = records.iter().find(|record| record["outcome"] == "interrupted").unwrap();
        assert_eq!(open["job"]["id"], "open");
        let job = jobs_of(&gateway).pop().unwrap();
        assert_eq!((&job["caused_by"], &job["job"]["state"]), (&open["id"], &json!("DONE")));
        let (alice, _, _) = clients(&world, &gateway);
        assert_eq!(alice.get("jobs/open").await.status, 200, "it is still hers");
    });
}

#[test]
fn ending_a_session_closes_its_streams_and_cancels_its_jobs() {
    block_on(async {
        let (world, upstream, _) =
            world(1_000_000, "[roles]\nadmin = \"'admins' in principal.groups\"\n").await;
        let gateway = world.gateway();
        let token = testkit::token_by_key(&gateway.issue_key("agent@example.com", "key.json")).await;
        let agent = Client { url: &gateway.url, token };
        let started = agent.insert("endless", "SELECT 1").await;
        assert_eq!(started.status, 200);
        let session = gateway.record(&started.record())["session"].as_str().unwrap().to_owned();
        let ended = gateway.hansard(&["session", "end", &session, "--json"]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert_eq!(ended.objects()[0]["cancelled"], json!(["p:endless"]));
        let cancelled =
            upstream.asked().iter().any(|request| request.uri().path().ends_with("/jobs/endless/cancel"));
        assert!(cancelled);
        gateway.until_jobs_are_recorded().await;
        let job = jobs_of(&gateway).pop().unwrap();
        assert_eq!((&job["status"]["reason"], &job["outcome"]), (&json!("stopped"), &json!("error")));
        let refused = agent.get("jobs/endless").await;
        assert_eq!(refused.status, 401, "its tokens are worth nothing any more");
        let records = gateway.records(&["--session", &session]);
        let told = records.iter().find(|record| record["kind"] == "session").unwrap();
        assert_eq!(told["event"]["action"], "session.end");
        // It stays ended after a restart.
        let token = agent.token;
        assert_eq!(gateway.stop(), 0);
        let gateway = world.gateway();
        let agent = Client { url: &gateway.url, token };
        assert_eq!(agent.get("jobs/endless").await.status, 401);
        assert_eq!(gateway.hansard(&["session", "end", &session]).code, 1, "it has ended already");
    });
}
