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
    let actor = Actor { id: said("a"), kind: ActorKind::Person, ..Ledger::gateway_actor() };
    IntentDraft {
        decision: Decision { effect: Effect::Allow, ..Decision::default() },
        text: StatementText { sql: Some(sql.to_owned()), ..StatementText::default() },
        ..IntentDraft::new(session, RecordKind::Exchange, Timestamp::from_secs(1_800_000_000), actor)
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

/// Names of tables, as long as BigQuery allows.
fn names(count: usize, bytes: usize) -> Vec<String> {
    (0..count).map(|n| format!("p.d.{n:06}_{}", "t".repeat(bytes))).collect()
}

/// Reads what each leaf of a folder says, and how long it is.
fn leaves_of(folder: &Path) -> Vec<(usize, serde_json::Value)> {
    let bytes = std::fs::read(leaves(folder)).unwrap();
    let mut found = Vec::new();
    let mut at = 0;
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    while at < bytes.len() {
        let len = word(&bytes[at..]);
        let packed = bytes[at + 8..at + 8 + len].strip_prefix(b"HSL1").unwrap();
        let plain = zstd::bulk::decompress(&packed[4..], word(packed)).unwrap();
        let mut leaf = 0;
        while leaf < plain.len() {
            let len = word(&plain[leaf..]);
            let text = &plain[leaf + 4..leaf + 4 + len];
            found.push((len, serde_json::from_slice(text).unwrap()));
            leaf += 4 + len;
        }
        at += 8 + len;
    }
    found
}

/// Writes an exchange whose intent and outcome name so many tables; returns its id.
fn write_long(ledger: &Ledger, asked: &[String], ran: &[String]) -> RecordId {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let statement = |tables: &[String]| Statement { tables: tables.to_vec(), ..Statement::default() };
        let draft = IntentDraft { statement: statement(asked), ..intent(ledger.node_session(), "SELECT 1") };
        let record = ledger.open_record(draft, EVERYTHING).await.unwrap();
        let closing = Closing {
            statement: statement(ran),
            ..Closing::new(Outcome::Ok, Status { http: Some(200), ..Status::default() })
        };
        record.close(closing, Bytes::from_static(b"rows").into()).await.unwrap().id()
    })
}

#[test]
fn nothing_is_too_long_to_be_recorded() {
    let folder = Folder::new();
    let ledger = open(&folder.0).unwrap();
    let mut written = Vec::new();
    for (asked, ran) in [(0, 0), (31, 33), (1_200, 0), (0, 1_200), (60, 60), (20_000, 1)] {
        let (asked, ran) = (names(asked, 1000), names(ran, 900));
        written.push((write_long(&ledger, &asked, &ran), if ran.is_empty() { asked } else { ran }));
    }
    // Texts and lists of any other field, and more of them than a leaf has room for the first of.
    let (longest, long) = ("x".repeat(100_000), "x".repeat(3_000));
    let event = EventDraft {
        event: serde_json::json!({
            "action": "test", "text": longest, "many": vec![vec![long.clone(); 40]; 40],
            "names": (0..500).map(|n| (format!("{n}{long}"), n)).collect::<std::collections::BTreeMap<_, _>>(),
        }),
        ..event(ledger.node_session())
    };
    let said = event.event.clone();
    let id = ledger.event_blocking(event).unwrap();
    all(&ledger);
    for (id, tables) in &written {
        assert_eq!(&ledger.record(*id).unwrap().unwrap().statement.tables, tables);
        let Some(last) = tables.last() else { continue };
        let mut found = Vec::new();
        let filter = Filter { table: Some(last.clone()), ..Filter::default() };
        ledger
            .records(&filter, |_, record| {
                found.push(record.id);
                ControlFlow::Continue(())
            })
            .unwrap();
        assert!(found.contains(id), "it is found by its last table");
    }
    assert_eq!(ledger.record(id).unwrap().unwrap().event, Some(said));
    assert!(matches!(ledger.verify(|_| ()), Verdict::Clean { .. }));
    ledger.stop();
    let leaves = leaves_of(&folder.0);
    assert_eq!(leaves.len(), 13);
    assert!(leaves.iter().all(|(bytes, leaf)| *bytes <= 65_535 && leaf["v"] == "hansard.leaf/2"));
    let (_, longest) = &leaves[10];
    assert_eq!(longest["body"]["intent"]["statement"]["tables"].as_array().unwrap().len(), 32, "the first");
    assert_eq!(longest["more"]["cut"], serde_json::json!({"statement.tables": 20_000}), "and how many");
    let again = open(&folder.0).unwrap();
    assert_eq!(again.interrupted, 0);
    again.stop();
}

#[test]
fn a_long_body_that_is_lost_is_told_and_its_beginning_is_shown() {
    let folder = Folder::new();
    let ledger = open(&folder.0).unwrap();
    let tables = names(5_000, 100);
    let id = write_long(&ledger, &tables, &[]);
    ledger.stop();
    std::fs::remove_dir_all(folder.0.join("journal/bodies")).unwrap();
    std::fs::remove_file(folder.0.join("index.db")).unwrap();
    let ledger = open(&folder.0).unwrap();
    all(&ledger);
    let record = ledger.record(id).unwrap().unwrap();
    assert_eq!(record.statement.tables, &tables[..32]);
    assert_eq!(record.integrity.cut, [("statement.tables".to_owned(), 5_000)].into());
    assert!(matches!(ledger.verify(|_| ()), Verdict::Damaged { .. }), "it lives as long as its leaf");
    ledger.stop();
}

#[test]
fn long_bodies_go_with_the_last_leaf_that_refers_to_them() {
    let folder = Folder::new();
    let (start, day) = (1_800_000_000, 86_400);
    // Each start begins a segment of leaves.
    let first = open_at(&folder.0, start).unwrap();
    let older = write_long(&first, &names(5_000, 100), &[]);
    first.stop();
    let second = open_at(&folder.0, start + 10 * day).unwrap();
    second.event_blocking(event(second.node_session())).unwrap();
    let younger = write_long(&second, &names(6_000, 100), &[]);
    second.stop();
    let kept = |days| ledger::Retention {
        rows: Some(days * day),
        statements: Some(days * day),
        records: Some(days * day),
    };
    let third = open_at(&folder.0, start + 20 * day).unwrap();
    third.event_blocking(event(third.node_session())).unwrap();
    assert!(third.retention_due(&kept(15)).unwrap().iter().all(|dropped| dropped.class != "bodies"));
    let dropped = third.retention_run(&kept(5), Ledger::gateway_actor()).unwrap();
    let classes: Vec<_> = dropped.iter().map(|dropped| dropped.class).collect();
    assert_eq!(classes.iter().filter(|class| **class == "bodies").count(), 1, "{dropped:?}");
    all(&third);
    assert!(third.record(older).unwrap().is_none());
    assert_eq!(third.record(younger).unwrap().unwrap().statement.tables.len(), 6_000);
    assert!(matches!(third.verify(|_| ()), Verdict::Clean { .. }));
    third.stop();
}

#[test]
fn a_digest_is_never_in_a_leaf_and_goes_with_what_it_is_of() {
    let folder = Folder::new();
    let ledger = open(&folder.0).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let keeping = |results| Recording { results, ..EVERYTHING };
    let ids = runtime.block_on(async {
        let mut ids = Vec::new();
        for results in [Retained::Rows, Retained::Hash, Retained::None] {
            let draft = intent(ledger.node_session(), "SELECT salary");
            let record = ledger.open_record(draft, keeping(results)).await.unwrap();
            record.upload_recorder().record(Bytes::from_static(b"4200")).await.unwrap();
            let closing = Closing::new(Outcome::Ok, Status::default());
            ids.push(record.close(closing, Bytes::from_static(b"4200").into()).await.unwrap().id());
        }
        ids
    });
    all(&ledger);
    let digest = ledger::sha256(b"4200");
    let shown = |ledger: &Ledger, id: RecordId| {
        let record = ledger.record(id).unwrap().unwrap();
        (record.result.sha256, record.request.sha256)
    };
    for (id, result) in ids.iter().zip([Some(digest), Some(digest), None]) {
        assert_eq!(shown(&ledger, *id), (result, Some(digest)));
    }
    // Every text of a leaf that could be a digest is one of a leaf, or a salted commitment.
    fn digests(value: &serde_json::Value, path: &str, found: &mut Vec<(String, String)>) {
        match value {
            serde_json::Value::String(text) if text.parse::<Digest>().is_ok() => {
                found.push((path.to_owned(), text.clone()));
            }
            serde_json::Value::Array(all) => all.iter().for_each(|one| digests(one, path, found)),
            serde_json::Value::Object(all) => {
                all.iter().for_each(|(name, one)| digests(one, &format!("{path}.{name}"), found));
            }
            _ => {}
        }
    }
    for (_, leaf) in leaves_of(&folder.0) {
        let mut found = Vec::new();
        digests(&leaf, "", &mut found);
        for (path, text) in found {
            assert!(
                [".prev", ".chain"].contains(&path.as_str()) || path.ends_with(".commit"),
                "{path} holds {text}"
            );
            assert_ne!(text, digest.to_string());
        }
    }
    let day = 86_400;
    ledger.stop();
    let ledger = open_at(&folder.0, 1_800_000_000 + 10 * day).unwrap();
    let kept = ledger::Retention { rows: Some(day), statements: None, records: None };
    ledger.retention_run(&kept, Ledger::gateway_actor()).unwrap();
    assert_eq!(shown(&ledger, ids[1]), (None, None));
    assert!(matches!(ledger.verify(|_| ()), Verdict::Clean { .. }));
    ledger.stop();
    std::fs::remove_file(folder.0.join("index.db")).unwrap();
    let ledger = open_at(&folder.0, 1_800_000_000 + 10 * day).unwrap();
    all(&ledger);
    assert_eq!(shown(&ledger, ids[1]), (None, None), "nor after the index is built anew");
    ledger.stop();
}
