//! A call to the kernel fails, each in turn: what was acknowledged is recorded, what was not is a record, a gap or a
//! refusal, never nothing.
//!
//! The test runs itself again under `strace`, which makes the n-th call of a kind fail in each thread.

use bytes::Bytes;
use ledger::{
    Closing, Durability, EventDraft, Filter, IntentDraft, Layout, Ledger, LedgerConfig, Recording,
    StatementText, Verdict,
};
use record::*;
use registry::Vault;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Set in the copy that writes: the folder.
const FOLDER: &str = "HANSARD_TEST_FOLDER";
/// Fail all of them, not only a sample.
const ALL: &str = "HANSARD_TEST_ALL";
/// A key of this test alone: 32 bytes.
const KEY: &[u8] = b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Calls that may fail, and how often it is called by a thread while the exchanges are written, about.
const CALLS: &[(&str, usize)] = &[
    ("pwrite64", 60),
    ("write", 40),
    ("fdatasync", 40),
    ("fsync", 24),
    ("openat", 40),
    ("mkdir", 6),
    ("ftruncate", 2),
    ("rename", 2),
];
/// Distance between those that a sample tries.
const SAMPLED: usize = 9;

fn open(folder: &Path) -> Ledger {
    let config = LedgerConfig {
        layout: Layout::new(folder),
        vault: Arc::new(Vault::from_text(&registry::Secret::new(KEY.to_vec())).unwrap()),
        clock: Arc::new(SystemClock),
        durability: Durability::Strict,
        disk_floor: Some(0),
        unpacking: Arc::new(ledger::NoPacking),
    };
    Ledger::open(config).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
}

fn tables(n: usize) -> Vec<String> {
    (0..if n % 3 == 2 { 2_000 } else { n }).map(|table| format!("p.d{n}.{table:032}")).collect()
}

/// Prints a line, though that may be the call that fails.
fn say(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    while out.write_all(format!("\n{line}\n").as_bytes()).and_then(|()| out.flush()).is_err() {}
}

/// Writes exchanges and says of each how far it was acknowledged.
async fn write(ledger: &Ledger) {
    for n in 0..9 {
        let now = SystemClock.now();
        let id = RecordId::new(now);
        let draft = IntentDraft {
            statement: Statement { tables: tables(n), ..Statement::default() },
            text: StatementText { sql: Some(format!("SELECT {n}")), ..StatementText::default() },
            ..IntentDraft::new(SessionId::new(now), RecordKind::Exchange, now, Ledger::gateway_actor())
        };
        let kept = Recording { results: Retained::Rows, uploads: Retained::Rows, is_excluded: false };
        let Ok(mut record) = ledger.open_record_as(id, Box::new(draft), kept).await else {
            say(&format!("step {id} refused {n}"));
            continue;
        };
        say(&format!("step {id} open {n}"));
        let part = Bytes::from(vec![b'x'; 70_000]);
        let uploaded = record.upload_recorder().record(part.clone()).await;
        let delivered = record.window(part.into()).await;
        let mut closing = Closing::new(Outcome::Ok, Status::default());
        closing.statement.tables = tables(n + 1);
        if uploaded.is_ok()
            && delivered.is_ok()
            && record.close(closing, Bytes::from_static(b"end").into()).await.is_ok()
        {
            say(&format!("step {id} closed {n}"));
        }
        let event = EventDraft {
            id: None,
            session: ledger.node_session(),
            kind: RecordKind::Admin,
            actor: Ledger::gateway_actor(),
            client: Client::default(),
            status: Status::default(),
            outcome: Outcome::Ok,
            event: serde_json::json!({"action": "test", "n": n}),
        };
        if let Ok(id) = ledger.event(event).await {
            say(&format!("step {id} event {n}"));
        }
    }
}

/// How far each record was acknowledged by the copy that failed once.
fn acknowledged(folder: &Path, call: &str, n: usize) -> BTreeMap<String, (String, usize)> {
    let output = Command::new("timeout")
        .args(["60", "strace", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:error=EIO:when={n}")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "whatever_fails_once_nothing_is_missing", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .output()
        .expect("strace is installed");
    assert_ne!(output.status.code(), Some(124), "it hangs with {call} {n}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let steps = said.lines().filter_map(|line| line.split_once("step ").map(|(_, step)| step));
    let mut words = steps.map(|step| step.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let mut reached = BTreeMap::new();
    for step in &mut words {
        let [id, how, n] = &step[..] else { continue };
        reached.insert(id.clone(), (how.clone(), n.parse().unwrap()));
    }
    reached
}

fn check(folder: &Path, reached: &BTreeMap<String, (String, usize)>, what: &str) {
    let ledger = open(folder);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(ledger.readable()).unwrap();
    let mut records = BTreeMap::new();
    ledger
        .records(&Filter::default(), |_, record| {
            records.insert(record.id.to_string(), record);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(matches!(ledger.verify(|_| ()), Verdict::Clean { .. }), "{what}");
    for (id, (how, n)) in reached {
        let record = records.remove(id);
        match (how.as_str(), record) {
            ("closed", Some(record)) => {
                assert_eq!(
                    (record.outcome, &record.statement.tables),
                    (Outcome::Ok, &tables(n + 1)),
                    "{what}"
                );
                let mut kept = 0;
                let whole = ledger.result_windows(record.id, |window| {
                    kept += window.len();
                    ControlFlow::Continue(())
                });
                assert_eq!((whole.unwrap(), kept), (true, 70_003), "{what}");
            }
            ("open", Some(record)) => {
                let ended = [Outcome::Aborted, Outcome::Interrupted].contains(&record.outcome);
                assert!(ended, "{what}: {:?}", record.outcome);
                // Withheld with what its answer taught, or without.
                let named = record.statement.tables;
                assert!(named == tables(*n) || named == tables(n + 1), "{what}: {} tables", named.len());
            }
            ("event", Some(_)) | ("refused", None) => {}
            // The kernel was asked to take it back, and could not.
            ("refused", Some(record)) => assert_eq!(record.outcome, Outcome::Interrupted, "{what}"),
            (how, record) => panic!("{what}: record {id} was {how} and is {record:?}"),
        }
    }
    for record in records.into_values() {
        let is_own = matches!(record.kind, RecordKind::Gap | RecordKind::Admin);
        assert!(is_own, "{what}: nobody asked for {record:?}");
    }
    ledger.stop();
}

#[test]
fn whatever_fails_once_nothing_is_missing() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let ledger = open(folder.as_ref());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(write(&ledger));
        return ledger.stop();
    }
    let each = if std::env::var_os(ALL).is_some() { 1 } else { SAMPLED };
    let (mut failed, mut refused, mut gaps) = (0, 0, 0);
    for (at, (call, most)) in CALLS.iter().enumerate() {
        for n in (1 + at % each.min(2)..=*most).step_by(each) {
            let folder =
                std::env::temp_dir().join(format!("hansard-every-{}-{call}-{n}", std::process::id()));
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            let reached = acknowledged(&folder, call, n);
            check(&folder, &reached, &format!("{call} {n}"));
            failed += 1;
            refused += reached.values().filter(|(how, _)| how != "closed" && how != "event").count();
            gaps += usize::from(reached.is_empty());
            std::fs::remove_dir_all(&folder).unwrap();
        }
    }
    println!(
        "{failed} calls failed: {refused} exchanges were refused or withheld, {gaps} ledgers did not open"
    );
    assert!(refused > 0, "nothing failed");
}
