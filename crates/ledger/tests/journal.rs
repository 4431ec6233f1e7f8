//! The journal under cuts and faults: whatever is cut, what is left is a prefix, never a hole.

use bytes::Bytes;
use ledger::{
    Closing, Durability, EventDraft, Filter, IntentDraft, Layout, Ledger, LedgerConfig, LedgerError,
    Recording, StatementText, Verdict,
};
use proptest::prelude::*;
use record::*;
use registry::Vault;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::task::{Context, Waker};

/// A clock that a test moves.
struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("hansard-journal-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn vault() -> Arc<Vault> {
    static TEXT: std::sync::LazyLock<registry::Secret> = std::sync::LazyLock::new(Vault::new_key_text);
    Arc::new(Vault::from_text(&TEXT).unwrap())
}

fn config(folder: &Path, secs: i64) -> LedgerConfig {
    LedgerConfig {
        layout: Layout::new(folder),
        vault: vault(),
        clock: Arc::new(TestClock(AtomicI64::new(secs * 1_000_000))),
        durability: Durability::Strict,
        disk_floor: None,
        unpacking: Arc::new(ledger::NoPacking),
    }
}

fn open_at(folder: &Path, secs: i64) -> Result<Ledger, LedgerError> {
    Ledger::open(config(folder, secs))
}

fn open(folder: &Path) -> Result<Ledger, LedgerError> {
    open_at(folder, 1_800_000_000)
}

fn intent(session: SessionId, sql: &str) -> IntentDraft {
    let said = |value: &str| Some(Asserted { value: value.to_owned(), proof: Proof::Verified });
    IntentDraft {
        session,
        kind: RecordKind::Exchange,
        received: Timestamp::from_secs(1_800_000_000),
        actor: Actor { id: said("a"), kind: ActorKind::Person, ..Ledger::gateway_actor() },
        client: Client::default(),
        task: Task::default(),
        target: Target::default(),
        request: RequestFacts::default(),
        statement: Statement::default(),
        job: Job::default(),
        decision: Decision { effect: Effect::Allow, ..Decision::default() },
        text: StatementText { sql: Some(sql.to_owned()), ..StatementText::default() },
        caused_by: None,
    }
}

const EVERYTHING: Recording =
    Recording { results: Retained::Rows, uploads: Retained::Hash, is_excluded: false };

/// What a crash leaves of a ledger that writes one exchange: a copy of its journal, with the write-ahead log.
fn crashed(folder: &Path, to: &Path) {
    let ledger = open(folder).unwrap();
    let session = ledger.node_session();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for n in 0..3 {
            let record =
                ledger.open_record(intent(session, &format!("SELECT {n}")), EVERYTHING).await.unwrap();
            let closing = Closing::new(Outcome::Ok, Status { http: Some(200), ..Status::default() });
            record.close(closing, Bytes::from(format!("rows of {n}")).into()).await.unwrap();
        }
    });
    copy(&folder.join("journal"), &to.join("journal"));
    ledger.stop();
}

/// Writes exchanges of one session, each with two windows, and stops well. Returns their ids.
fn write(folder: &Path, statements: &[String]) -> Vec<RecordId> {
    let ledger = open(folder).unwrap();
    let session = SessionId::new(Timestamp::from_secs(1_800_000_000));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ids = runtime.block_on(async {
        let mut ids = Vec::new();
        for sql in statements {
            let mut record = ledger.open_record(intent(session, sql), EVERYTHING).await.unwrap();
            ids.push(record.id());
            record.window(Bytes::from(format!("window of {sql}")).into()).await.unwrap();
            let closing = Closing::new(Outcome::Ok, Status { http: Some(200), ..Status::default() });
            record.close(closing, Bytes::from_static(b"end").into()).await.unwrap();
        }
        ids
    });
    ledger.stop();
    ids
}

fn leaves(folder: &Path) -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder.join("journal/leaves"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found.remove(0)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            drop(std::fs::copy(entry.path(), target))
        }
    }
}

fn all(ledger: &Ledger) -> Vec<Record> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(ledger.readable()).unwrap();
    let mut found = Vec::new();
    ledger
        .records(&Filter { from: Some(0), ..Filter::default() }, |_, record| {
            found.push(record);
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_cut_at_any_byte_leaves_a_prefix(statements in prop::collection::vec("[a-zA-Z '\\n]{1,60}", 1..6), at in 0.0..1.0f64) {
        let folder = Folder::new();
        let ids = write(&folder.0, &statements);
        let path = leaves(&folder.0);
        let whole = std::fs::read(&path).unwrap();
        let cut = (whole.len() as f64 * at) as usize;
        std::fs::write(&path, &whole[..cut]).unwrap();
        // The index of a machine that lost power may be ahead of what is left: it is deleted here, and must not matter.
        for file in ["index.db", "index.db-wal", "index.db-shm"] {
            let _ = std::fs::remove_file(folder.0.join(file));
        }
        let ledger = open(&folder.0).unwrap();
        let records = all(&ledger);
        prop_assert!(records.len() <= ids.len());
        for (record, (id, sql)) in records.iter().zip(ids.iter().zip(&statements)) {
            prop_assert_eq!(&record.id, id);
            prop_assert_eq!(record.statement.sql.as_ref(), Some(sql));
        }
        let interrupted = records.iter().filter(|record| record.outcome == Outcome::Interrupted).count() as u64;
        prop_assert_eq!(interrupted, ledger.interrupted);
        let clean = matches!(ledger.verify(|_| ()), Verdict::Clean { .. });
        prop_assert!(clean);
        ledger.stop();
    }
}

#[test]
fn every_byte_of_a_small_log_is_cut_once() {
    let folder = Folder::new();
    write(&folder.0, &["SELECT 1".to_owned()]);
    let whole = std::fs::read(leaves(&folder.0)).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for cut in 0..whole.len() {
        let layout = Folder::new();
        copy(&folder.0.join("journal"), &layout.0.join("journal"));
        std::fs::write(leaves(&layout.0), &whole[..cut]).unwrap();
        let ledger = open(&layout.0).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert!(matches!(ledger.verify(|_| ()), Verdict::Clean { .. }), "cut at {cut}");
        seen.insert(ledger.interrupted);
        ledger.stop();
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn an_index_that_is_ahead_of_a_cut_log_is_not_believed() {
    let folder = Folder::new();
    write(&folder.0, &["SELECT 1".to_owned(), "SELECT 2".to_owned()]);
    let path = leaves(&folder.0);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let ledger = open(&folder.0).unwrap();
    assert_eq!(all(&ledger).len(), 1, "only what the log still says");
    assert!(matches!(ledger.verify(|_| ()), Verdict::Clean { .. }));
    ledger.stop();
}

/// A record of one leaf; when it is written, so is whatever was queued before it.
fn event(session: SessionId) -> EventDraft {
    EventDraft {
        id: None,
        session,
        kind: RecordKind::Admin,
        actor: Ledger::gateway_actor(),
        client: Client::default(),
        status: Status::default(),
        outcome: Outcome::Ok,
        event: serde_json::json!({"action": "test"}),
    }
}

/// All of a result that is kept.
fn result(ledger: &Ledger, id: RecordId) -> Result<Vec<u8>, LedgerError> {
    let mut read = Vec::new();
    let kept = ledger.result_windows(id, |window| {
        read.extend_from_slice(window);
        ControlFlow::Continue(())
    });
    kept.map(|_| read)
}

#[test]
fn what_was_closed_is_read_back_as_it_was_written() {
    let folder = Folder::new();
    let ids = write(&folder.0, &["SELECT 1".to_owned()]);
    let ledger = open(&folder.0).unwrap();
    let record = ledger.record(ids[0]).unwrap().unwrap();
    assert_eq!((record.result.bytes, record.result.pages), (21, 2));
    assert_eq!(record.result.sha256, Some(ledger::sha256(b"window of SELECT 1end")));
    assert_eq!(result(&ledger, ids[0]).unwrap(), b"window of SELECT 1end");
    ledger.stop();
}

/// Turns anything back into the same text.
struct OneText;

impl ledger::Unpacking for OneText {
    fn unpack(&self, _: &[u8]) -> Option<Vec<u8>> {
        Some(b"what was delivered".to_vec())
    }
}

#[test]
fn a_result_that_is_kept_otherwise_than_delivered_is_told() {
    let folder = Folder::new();
    let ledger =
        Ledger::open(LedgerConfig { unpacking: Arc::new(OneText), ..config(&folder.0, 1_800_000_000) })
            .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let read = |delivered: &'static [u8]| {
        let record = runtime.block_on(async {
            let draft = intent(ledger.node_session(), "SELECT 1");
            let record = ledger.open_record(draft, EVERYTHING).await.unwrap();
            let last = ledger::Payload { bytes: delivered.into(), packed: Some(b"packed".to_vec()) };
            record.close(Closing::new(Outcome::Ok, Status::default()), last).await.unwrap()
        });
        // The index follows what is written.
        let _ = all(&ledger);
        result(&ledger, record.id())
    };
    assert_eq!(read(b"what was delivered").unwrap(), b"what was delivered");
    assert!(matches!(read(b"something else"), Err(LedgerError::Differs(_))));
    ledger.stop();
}

#[test]
fn the_log_goes_on_over_midnight_and_restarts() {
    let folder = Folder::new();
    let midnight = 1_800_000_000 - 1_800_000_000 % 86_400;
    for (round, secs) in [midnight - 1, midnight + 1, midnight - 10].into_iter().enumerate() {
        let ledger = open_at(&folder.0, secs).unwrap();
        let session = ledger.node_session();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let record =
                ledger.open_record(intent(session, &format!("SELECT {round}")), EVERYTHING).await.unwrap();
            let closing = Closing::new(Outcome::Ok, Status::default());
            record.close(closing, Bytes::from_static(b"rows").into()).await.unwrap();
        });
        assert!(matches!(ledger.verify(|_| ()), Verdict::Clean { .. }));
        ledger.stop();
    }
    let ledger = open(&folder.0).unwrap();
    let statements: Vec<_> = all(&ledger).into_iter().filter_map(|record| record.statement.sql).collect();
    assert_eq!(statements, ["SELECT 0", "SELECT 1", "SELECT 2"], "a clock that jumps back does not reorder");
    ledger.stop();
}

#[test]
fn a_journal_that_can_not_be_written_says_so_and_goes_on_when_it_can() {
    let folder = Folder::new();
    let ledger = open(&folder.0).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let session = ledger.node_session();
    runtime.block_on(async {
        // The day's folder can't be made where a file stands.
        std::fs::remove_dir_all(folder.0.join("journal/statements")).unwrap();
        std::fs::write(folder.0.join("journal/statements"), b"in the way").unwrap();
        let failed = ledger.open_record(intent(session, "SELECT 1"), EVERYTHING).await;
        assert!(matches!(failed.map(|_| ()), Err(LedgerError::Io { .. })));
        std::fs::remove_file(folder.0.join("journal/statements")).unwrap();
        std::fs::create_dir(folder.0.join("journal/statements")).unwrap();
        let record = ledger.open_record(intent(session, "SELECT 2"), EVERYTHING).await.unwrap();
        record.close(Closing::new(Outcome::Ok, Status::default()), ledger::Payload::default()).await.unwrap();
    });
    let records = all(&ledger);
    let told: Vec<_> =
        records.iter().map(|record| (record.seq, record.kind, record.statement.sql.as_deref())).collect();
    let expected = [(0, RecordKind::Gap, None), (1, RecordKind::Exchange, Some("SELECT 2"))];
    assert_eq!(told, expected, "the gap is a record itself");
    let gap = records[0].event.as_ref().unwrap();
    assert_eq!((&gap["refused"], &gap["withheld"]), (&1.into(), &0.into()), "{gap}");
    assert!(matches!(ledger.verify(|_| ()), Verdict::Clean { .. }));
    ledger.stop();
}

#[test]
fn a_record_that_is_dropped_is_closed_as_aborted() {
    let folder = Folder::new();
    let ledger = open(&folder.0).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let session = ledger.node_session();
    runtime.block_on(async {
        drop(ledger.open_record(intent(session, "SELECT 1"), EVERYTHING).await.unwrap());
        ledger.event(event(session)).await.unwrap();
    });
    let records = all(&ledger);
    assert_eq!(
        records.iter().map(|record| record.outcome).collect::<Vec<_>>(),
        [Outcome::Aborted, Outcome::Ok]
    );
    assert_eq!(ledger.interrupted, 0);
    ledger.stop();
}

#[test]
fn a_record_that_is_dropped_amid_a_window_says_no_hash() {
    let folder = Folder::new();
    let ledger = open(&folder.0).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let id = runtime.block_on(async {
        let draft = intent(ledger.node_session(), "SELECT 1");
        let mut record = ledger.open_record(draft, EVERYTHING).await.unwrap();
        record.window(Bytes::from_static(b"a window").into()).await.unwrap();
        // It is compressed on another thread, so it can't be over at once.
        let long = Bytes::from(vec![b'x'; 4 * 1024 * 1024]);
        let polled = std::pin::pin!(record.window(long.into())).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        record.id()
    });
    runtime.block_on(ledger.event(event(ledger.node_session()))).unwrap();
    let records = all(&ledger);
    assert_eq!((records[0].id, records[0].outcome, records[0].result.sha256), (id, Outcome::Aborted, None));
    assert_eq!(result(&ledger, id).unwrap(), b"a window");
    ledger.stop();
}

#[test]
fn what_only_the_write_ahead_log_holds_is_written_again() {
    let (folder, left) = (Folder::new(), Folder::new());
    crashed(&folder.0, &left.0);
    // The machine lost its power before the kernel wrote a byte of the files.
    for family in ["leaves", "statements", "rows"] {
        std::fs::remove_dir_all(left.0.join("journal").join(family)).unwrap();
    }
    let ledger = open(&left.0).unwrap();
    assert!(matches!(ledger.verify(|_| ()), Verdict::Clean { .. }));
    let records = all(&ledger);
    assert_eq!(records.len(), 3);
    for (n, record) in records.iter().enumerate() {
        assert_eq!(result(&ledger, record.id).unwrap(), format!("rows of {n}").as_bytes());
    }
    let logs = std::fs::read_dir(left.0.join("journal/wal")).unwrap().count();
    ledger.stop();
    assert_eq!(logs, 0, "what is replayed is dropped");
}

#[test]
fn a_write_ahead_log_that_is_cut_leaves_a_prefix() {
    let (folder, left) = (Folder::new(), Folder::new());
    crashed(&folder.0, &left.0);
    for family in ["leaves", "statements", "rows"] {
        std::fs::remove_dir_all(left.0.join("journal").join(family)).unwrap();
    }
    let log = |folder: &Path| {
        std::fs::read_dir(folder.join("journal/wal")).unwrap().flatten().next().unwrap().path()
    };
    let mut whole = std::fs::read(log(&left.0)).unwrap();
    // The file is longer than its frames; some of the zeros behind them are cut too.
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    whole.truncate(used + 200);
    let mut seen = std::collections::BTreeSet::new();
    for cut in (0..whole.len()).step_by(23) {
        let torn = Folder::new();
        copy(&left.0.join("journal"), &torn.0.join("journal"));
        std::fs::write(log(&torn.0), &whole[..cut]).unwrap();
        let ledger = open(&torn.0).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert!(matches!(ledger.verify(|_| ()), Verdict::Clean { .. }), "cut at {cut}");
        let records = all(&ledger);
        for (n, record) in records.iter().enumerate() {
            assert_eq!(record.statement.sql, Some(format!("SELECT {n}")), "cut at {cut}");
        }
        seen.insert(records.len());
        ledger.stop();
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn outcomes_that_were_lost_are_closed_when_the_journal_is_back() {
    let folder = Folder::new();
    let clock = Arc::new(TestClock(AtomicI64::new(1_800_000_000_000_000)));
    let ledger = Ledger::open(LedgerConfig { clock: clock.clone(), ..config(&folder.0, 0) }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let session = SessionId::new(Timestamp::from_secs(1_800_000_000));
    let id = runtime.block_on(async {
        let mut record = ledger.open_record(intent(session, "SELECT 1"), EVERYTHING).await.unwrap();
        let id = record.id();
        record.window(Bytes::from_static(b"a window").into()).await.unwrap();
        clock.0.fetch_add(86_400_000_000, Ordering::Relaxed);
        let day = folder.0.join("journal/rows").join(clock.now().day());
        std::fs::write(&day, b"in the way").unwrap();
        let closed =
            record.close(Closing::new(Outcome::Ok, Status::default()), Bytes::from_static(b"rows").into());
        assert!(closed.await.is_err());
        std::fs::remove_file(&day).unwrap();
        id
    });
    // Nobody asks: the writer mends it by itself.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
    let record = loop {
        match ledger.record(id).unwrap() {
            Some(record) => break record,
            None => assert!(std::time::Instant::now() < until, "it stays open"),
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert_eq!((record.outcome, record.status.reason.as_str()), (Outcome::Aborted, "withheld"));
    assert_eq!(record.result.sha256, None, "nobody was given all that was hashed");
    assert_eq!(result(&ledger, id).unwrap(), b"a window");
    let records = all(&ledger);
    let gap = records.iter().find(|record| record.kind == RecordKind::Gap).unwrap();
    assert_eq!(gap.event.as_ref().unwrap()["records"], serde_json::json!([id.to_string()]));
    assert!(matches!(ledger.verify(|_| ()), Verdict::Clean { .. }));
    ledger.stop();
}

#[test]
fn a_spool_that_lost_its_power_says_so_and_one_that_was_killed_does_not() {
    let spool = |folder: &Path| {
        Ledger::open(LedgerConfig { durability: Durability::Spool, ..config(folder, 1_800_000_000) }).unwrap()
    };
    let folder = Folder::new();
    let ledger = spool(&folder.0);
    let (killed, dark) = (Folder::new(), Folder::new());
    copy(&folder.0.join("journal"), &killed.0.join("journal"));
    copy(&folder.0.join("journal"), &dark.0.join("journal"));
    ledger.stop();
    let gaps = |folder: &Path| {
        let ledger = spool(folder);
        let gaps = all(&ledger).iter().filter(|record| record.kind == RecordKind::Gap).count();
        ledger.stop();
        gaps
    };
    assert_eq!(gaps(&killed.0), 0);
    std::fs::write(dark.0.join("journal/spool"), "another boot").unwrap();
    assert_eq!(gaps(&dark.0), 1);
    assert_eq!(gaps(&folder.0), 0, "it was stopped well");
}

#[test]
fn below_the_disk_floor_nothing_new_is_admitted_and_what_is_open_is_closed() {
    let folder = Folder::new();
    let open_with = |floor: u64| {
        Ledger::open(LedgerConfig { disk_floor: Some(floor), ..config(&folder.0, 1_800_000_000) }).unwrap()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ledger = open_with(u64::MAX);
    let session = ledger.node_session();
    let refused = runtime.block_on(ledger.open_record(intent(session, "SELECT 1"), EVERYTHING));
    assert!(matches!(refused.map(|_| ()), Err(LedgerError::DiskFloor)));
    assert!(ledger.is_disk_low());
    ledger.stop();
    let ledger = open_with(0);
    assert!(all(&ledger).iter().all(|record| record.kind == RecordKind::Gap));
    ledger.stop();
}
