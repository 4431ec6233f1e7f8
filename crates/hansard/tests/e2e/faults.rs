//! The worst day: kills at every step, a journal that takes nothing, a disk that is full, an upstream that breaks
//! off, a configuration that is wrong. What was answered is recorded, what could not be recorded was not answered.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testkit::{Gateway, Scripted, ScriptedReply, World, ask, try_send};

use crate::{binary, block_on, queries};

const SMALL: &str = r#"{"jobComplete":true,"jobReference":{"projectId":"p","jobId":"j"},"rows":[{"f":[{"v":"1"}]}],"totalRows":"1"}"#;

/// Record and hash of every answer that reached a client whole.
pub(crate) type Answered = Arc<Mutex<BTreeMap<String, String>>>;

fn long_answer() -> String {
    let row = format!(r#"{{"f":[{{"v":"{}"}}]}}"#, "x".repeat(500));
    format!(r#"{{"jobComplete":true,"rows":[{}],"totalRows":"6000"}}"#, vec![row; 6000].join(","))
}

pub(crate) async fn world(extra: &str) -> (World, Scripted) {
    let long = long_answer();
    let script = move |line: &str, _: &_| {
        ScriptedReply::json(if line.ends_with("/data") { long.clone() } else { SMALL.to_owned() })
    };
    let upstream = Scripted::start(Arc::new(script)).await;
    (World::new(binary(), &upstream.url, extra).await, upstream)
}

/// Asks again and again until the gateway is gone.
async fn client(url: String, token: String, number: usize, answered: Answered) {
    loop {
        let (method, path, body) = match number {
            0 => ("GET", "datasets/d/tables/t/data", ""),
            _ => ("POST", "queries", r#"{"query":"SELECT 1"}"#),
        };
        let request =
            http::Request::builder().method(method).uri(format!("{url}/bigquery/v2/projects/p/{path}"));
        let request = request.header("authorization", format!("Bearer {token}")).body(body.into());
        let Some(answer) = try_send(request.expect("a request")).await else { return };
        if answer.whole && answer.status == 200 {
            answered.lock().unwrap().insert(answer.record(), testkit::sha256(&answer.body).to_string());
        }
    }
}

pub(crate) fn load(
    world: &World,
    gateway: &Gateway,
    answered: &Answered,
) -> Vec<tokio::task::JoinHandle<()>> {
    let token = world.issuer.token("alice@example.com", &["data"]);
    (0..6)
        .map(|number| tokio::spawn(client(gateway.url.clone(), token.clone(), number, answered.clone())))
        .collect()
}

/// Everything that was answered or that the upstream saw is in the record, as it was.
pub(crate) fn three_logs_agree(gateway: &Gateway, upstream: &Scripted, answered: &Answered) -> usize {
    let records = gateway.records(&[]);
    let by_id: BTreeMap<&str, &Value> =
        records.iter().map(|record| (record["id"].as_str().unwrap(), record)).collect();
    let answered = answered.lock().unwrap();
    for (id, hash) in answered.iter() {
        let record = by_id.get(id.as_str()).unwrap_or_else(|| panic!("answered and not recorded: {id}"));
        assert_eq!(record["result"]["sha256"], hash.as_str(), "{record}");
    }
    for asked in upstream.asked() {
        let id = asked.headers()["x-hansard-record"].to_str().unwrap().to_owned();
        assert!(by_id.contains_key(id.as_str()), "sent and not recorded: {id}");
    }
    assert_eq!(gateway.hansard(&["verify"]).code, 0);
    answered.len()
}

#[test]
fn a_kill_at_any_step_leaves_nothing_unrecorded() {
    block_on(async {
        let (world, upstream) = world("").await;
        let answered = Answered::default();
        for (round, name) in ledger::FAILPOINTS.iter().chain(ledger::FAILPOINTS).enumerate() {
            let armed = format!("{name}:{}", 1 + round * 7 % 23);
            let gateway = world.gateway_with(&[("HANSARD_FAILPOINT", &armed)]);
            let clients = load(&world, &gateway, &answered);
            let all = async {
                for client in clients {
                    let _ = client.await;
                }
            };
            let died = tokio::time::timeout(Duration::from_secs(20), all).await;
            assert!(died.is_ok(), "nobody passed {armed}: {}", gateway.log());
            drop(gateway);
        }
        let gateway = world.gateway();
        let answers = three_logs_agree(&gateway, &upstream, &answered);
        assert!(answers > 20, "only {answers} answers: nothing was under load");
        let records = gateway.records(&[]);
        let interrupted: Vec<_> =
            records.iter().filter(|record| record["outcome"] == "interrupted").collect();
        assert!(!interrupted.is_empty());
        for record in interrupted {
            assert!(record["result"]["delivered_at_most"].is_u64(), "{record}");
        }
    });
}

#[test]
fn random_kills_under_load_leave_nothing_unrecorded() {
    block_on(async {
        let (world, upstream) = world("").await;
        let answered = Answered::default();
        for round in 0u64..20 {
            let gateway = world.gateway();
            let clients = load(&world, &gateway, &answered);
            tokio::time::sleep(Duration::from_millis(30 + round * 7919 % 190)).await;
            gateway.kill();
            clients.iter().for_each(tokio::task::JoinHandle::abort);
        }
        let gateway = world.gateway();
        let answers = three_logs_agree(&gateway, &upstream, &answered);
        println!("{answers} answers, 0 unrecorded");
    });
}

#[test]
fn a_spooled_record_survives_a_kill_too() {
    block_on(async {
        let (world, upstream) = world("[recording]\nmode = \"spool\"\n").await;
        let answered = Answered::default();
        for _ in 0..3 {
            let gateway = world.gateway();
            let clients = load(&world, &gateway, &answered);
            tokio::time::sleep(Duration::from_millis(200)).await;
            gateway.kill();
            clients.iter().for_each(tokio::task::JoinHandle::abort);
        }
        let gateway = world.gateway();
        assert!(three_logs_agree(&gateway, &upstream, &answered) > 10);
        assert!(
            gateway.records(&[]).iter().all(|record| record["kind"] != "gap"),
            "a kill is no power failure"
        );
        // The machine lost its power: its next boot has another id.
        gateway.kill();
        std::fs::write(world.folder.join("hansard-data/journal/spool"), "another boot").unwrap();
        let gateway = world.gateway();
        let gaps: Vec<_> =
            gateway.records(&[]).into_iter().filter(|record| record["kind"] == "gap").collect();
        assert_eq!(gaps.len(), 1);
        assert_eq!(gaps[0]["event"]["lost_at_most"], json!({"seconds": 1, "bytes": 67_108_864}));
    });
}

/// Puts a file where the journal needs a folder, so that nothing of that family can be written.
struct Blocked(std::path::PathBuf);

impl Blocked {
    fn new(world: &World, family: &str) -> Self {
        let path = world.folder.join("hansard-data/journal").join(family);
        std::fs::rename(&path, path.with_extension("aside")).unwrap();
        std::fs::write(&path, "in the way").unwrap();
        Self(path)
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
        std::fs::rename(self.0.with_extension("aside"), &self.0).unwrap();
    }
}

#[test]
fn what_can_not_be_recorded_does_not_run_and_what_ran_is_not_repeated() {
    block_on(async {
        let (world, upstream) = world("").await;
        let token = world.issuer.token("alice@example.com", &["data"]);
        // A fresh process has no file of today open, so the blocked family can't be written at all.
        let gateway = world.gateway();
        let blocked = Blocked::new(&world, "statements");
        let refused = ask("POST", &queries(&gateway.url), &token, r#"{"query":"SELECT 1"}"#).await;
        assert_eq!((refused.status, refused.reason().as_str()), (503, "backendError"), "clients try again");
        assert_eq!(refused.record(), "", "there is no record to name");
        assert_eq!(upstream.asked().len(), 0, "no record, no query");
        drop(blocked);
        assert_eq!(ask("POST", &queries(&gateway.url), &token, r#"{"query":"SELECT 1"}"#).await.status, 200);
        assert_eq!(gateway.stop(), 0);

        let gateway = world.gateway();
        let blocked = Blocked::new(&world, "rows");
        let before = upstream.asked().len();
        let ran = ask("POST", &queries(&gateway.url), &token, r#"{"query":"DROP TABLE d.t"}"#).await;
        assert_eq!((ran.status, ran.reason().as_str()), (403, "stopped"), "clients do not repeat it");
        let message = ran.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("do not repeat"), "{message}");
        let read = ask("GET", &format!("{}/bigquery/v2/projects/p/datasets", gateway.url), &token, "").await;
        assert_eq!((read.status, read.reason().as_str()), (503, "backendError"), "a read may be repeated");
        assert_eq!(upstream.asked().len(), before + 2, "no record, no result");
        drop(blocked);
        // The journal is back: the gap is a record, and both records are closed by it.
        let until = Instant::now() + Duration::from_secs(10);
        let records = loop {
            let records = gateway.records(&[]);
            let gaps = records.iter().filter(|record| record["kind"] == "gap");
            if gaps.filter_map(|record| record["event"]["withheld"].as_u64()).sum::<u64>() == 2 {
                break records;
            }
            assert!(Instant::now() < until, "{records:#?}");
            std::thread::sleep(Duration::from_millis(100));
        };
        let withheld: Vec<_> =
            records.iter().filter(|record| record["status"]["reason"] == "withheld").collect();
        assert_eq!(withheld.len(), 2);
        assert!(withheld.iter().any(|record| message.contains(record["id"].as_str().unwrap())));
        assert_eq!(gateway.hansard(&["verify"]).code, 0);
    });
}

#[test]
fn a_full_disk_admits_nothing_new_and_says_so() {
    block_on(async {
        let (world, upstream) = world("[recording]\ndisk_floor = \"10000TiB\"\n").await;
        let gateway = world.gateway_alive();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let refused = ask("POST", &queries(&gateway.url), &token, r#"{"query":"SELECT 1"}"#).await;
        assert_eq!((refused.status, upstream.asked().len()), (503, 0));
        assert_eq!(gateway.metric("hansard_disk_low").await, 1.0);
        let ready = testkit::send(
            http::Request::get(format!("{}/readyz", gateway.url)).body(Default::default()).unwrap(),
        );
        assert_eq!(ready.await.status, 503, "it may not serve");
    });
}

#[test]
fn an_upstream_that_breaks_off_is_never_a_clean_end() {
    block_on(async {
        let port = broken_upstream().await;
        let world = World::new(binary(), &format!("http://127.0.0.1:{port}"), "").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        for (dataset, before_head) in
            [("no-answer", true), ("half-head", true), ("short", true), ("chunk", true), ("long", false)]
        {
            let url = format!("{}/bigquery/v2/projects/p/datasets/{dataset}", gateway.url);
            let request = http::Request::get(url).header("authorization", format!("Bearer {token}"));
            let answer = try_send(request.body(Default::default()).unwrap()).await.expect("an answer");
            match before_head {
                true => assert_eq!((answer.status, answer.whole), (503, true), "{dataset}"),
                false => assert!(!answer.whole, "{dataset}: a shortened result with a clean end"),
            }
            let record = gateway.record(&answer.record());
            assert!(
                ["error", "aborted"].contains(&record["outcome"].as_str().unwrap()),
                "{dataset}: {record}"
            );
        }
    });
}

/// Breaks off in a different way for each dataset.
async fn broken_upstream() -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = vec![0; 64 * 1024];
                let len = socket.read(&mut read).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&read[..len]).into_owned();
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
                let answer =
                    match text.split(' ').nth(1).unwrap_or_default().rsplit('/').next().unwrap_or_default() {
                        "no-answer" => String::new(),
                        "half-head" => head.to_owned(),
                        "short" => format!("{head}Content-Length: 100\r\n\r\n{{\"id\":\"half"),
                        "chunk" => format!("{head}Transfer-Encoding: chunked\r\n\r\n8\r\n{{\"id\":\"h\r\n"),
                        _ => format!(
                            "{head}Content-Length: 9000000\r\n\r\n{{\"id\":\"{}",
                            "x".repeat(3_000_000)
                        ),
                    };
                let _ = socket.write_all(answer.as_bytes()).await;
            });
        }
    });
    port
}

fn hangup(gateway: &Gateway) {
    let sent = Command::new("kill").args(["-HUP", &gateway.pid().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// The newest reload that the log tells of.
fn reloaded(gateway: &Gateway, count: usize) -> Value {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let records = gateway.records(&[]);
        let mut all: Vec<_> =
            records.into_iter().filter(|record| record["event"]["action"] == "reload").collect();
        if all.len() == count {
            return all.pop().unwrap();
        }
        assert!(Instant::now() < until, "{}", gateway.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn sighup_takes_up_a_new_configuration_whole_or_not_at_all() {
    block_on(async {
        let (world, _upstream) = world("").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let datasets = format!("{}/bigquery/v2/projects/p/datasets", gateway.url);
        let first = ask("GET", &datasets, &token, "").await;
        assert_eq!(first.status, 200);
        let path = world.folder.join("hansard.toml");
        let before = std::fs::read_to_string(&path).unwrap();

        std::fs::write(&path, before.replace("'data' in", "'other' in")).unwrap();
        hangup(&gateway);
        let told = reloaded(&gateway, 1);
        assert_eq!(told["outcome"], "ok");
        assert_ne!(told["event"]["before"], told["event"]["after"]);
        let second = ask("GET", &datasets, &token, "").await;
        assert_eq!(second.status, 404, "the new version rules");
        let policy =
            |answer: &testkit::Answer| gateway.record(&answer.record())["decision"]["policy"].clone();
        assert_eq!(
            (policy(&first), policy(&second)),
            (told["event"]["before"].clone(), told["event"]["after"].clone())
        );
        assert_eq!(told["decision"]["policy"], told["event"]["after"], "every record names its version");

        // One wrong line, and nothing of it is taken up.
        for (number, wrong) in [
            (2, before.replace("'data' in principal.groups", "'data' in principal.gruops")),
            (
                3,
                before.replace(
                    "credentials = { file = \"sa.json\" }",
                    "credentials = { file = \"gone.json\" }",
                ),
            ),
            (4, before.replace(&world.port.to_string(), "1")),
        ] {
            std::fs::write(&path, wrong).unwrap();
            hangup(&gateway);
            let told = reloaded(&gateway, number);
            assert_eq!(told["outcome"], "error", "{told}");
            assert_eq!(told["event"]["before"], told["event"]["after"]);
            assert_eq!(ask("GET", &datasets, &token, "").await.status, 404, "the version before rules on");
        }
        std::fs::write(&path, &before).unwrap();
        hangup(&gateway);
        assert_eq!(reloaded(&gateway, 5)["outcome"], "ok");
        assert_eq!(ask("GET", &datasets, &token, "").await.status, 200);
    });
}
