//! A view of the journal in SQLite: follows it, may lag, may be deleted. It never decides anything.

use record::{
    ActorKind, BlobClass, BlobRef, Digest, Event, Intent, Leaf, LeafBody, More, OutcomeLeaf, Record,
    RecordId, RecordKind, Refs, SessionId, Timestamp, Window,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;

use crate::join::{self, At, Opened};
use crate::layout::Layout;
use crate::leaves::{self, Leaves};
use crate::recorder::{self, LedgerError};
use crate::sealing::{Sealer, leaf_hash};
use crate::text::StatementText;
use crate::writer::{Head, LogEnd};

/// A reading command waits at most so long for the index.
pub const INDEX_WAIT_MAX: Duration = Duration::from_secs(5);
/// Another number here, and the index is rebuilt.
const VERSION: &str = "3";
/// Its thread's nice value. With 19 it got so little of a busy machine that readers gave up waiting for it.
const NICE: i32 = 5;
/// New leaves are gathered for so long before they are read.
const GATHER: Duration = Duration::from_millis(20);
/// With more new leaves than that in one such time, the gateway is busy.
const BUSY_LEAVES: u64 = 60;
/// A busy gateway's index reads on when it is so far behind.
const LAG_LEAVES: u64 = 200_000;
/// Leaves in one transaction.
const BATCH_LEAVES: usize = 2000;
/// Longer texts are searched by reading them; the rest by trigram.
const FTS_TEXT_BYTES_MAX: usize = 256 * 1024;

/// The index and where it stands.
pub(crate) struct Index {
    layout: Layout,
    sealer: Arc<Sealer>,
    db: Mutex<Connection>,
    position: AtomicU64,
    /// Somebody waits until everything below is readable.
    wanted: AtomicU64,
    moved: watch::Sender<u64>,
    /// Days that have their full-text table.
    days: Mutex<BTreeSet<String>>,
}

/// Texts of one transaction, by day: they are indexed after everything else, for each statement in between would
/// make SQLite write out what it has gathered of them.
#[derive(Default)]
struct Texts {
    waiting: Vec<Text>,
}

struct Text {
    n: i64,
    day: String,
    long: bool,
    sql: Option<String>,
    message: Option<String>,
}

/// A record without an outcome.
pub(crate) struct OpenRow {
    pub(crate) session: SessionId,
    pub(crate) id: RecordId,
    /// Bytes whose windows are durable: at most so many had left.
    pub(crate) delivered: u64,
    pub(crate) kept: bool,
}

/// A row of an SQL query: values by column.
pub type SqlRow = Vec<(String, serde_json::Value)>;

/// Why an SQL query has no answer.
#[derive(Debug)]
pub struct SqlError(pub String);

const SCHEMA: &str = "
CREATE TABLE t_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE t_open (id TEXT PRIMARY KEY, session TEXT NOT NULL, n INTEGER NOT NULL, intent TEXT NOT NULL,
    text TEXT) STRICT;
CREATE TABLE t_windows (record TEXT NOT NULL, upload INTEGER NOT NULL, number INTEGER NOT NULL,
    bytes INTEGER NOT NULL, blob TEXT, PRIMARY KEY (record, upload, number)) STRICT, WITHOUT ROWID;
CREATE TABLE t_records (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, session TEXT NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL,
    received INTEGER NOT NULL, done INTEGER NOT NULL, actor_kind TEXT NOT NULL, principal TEXT NOT NULL,
    agent TEXT NOT NULL, task TEXT NOT NULL, connection TEXT NOT NULL, project TEXT NOT NULL, method TEXT NOT NULL,
    statement_kind TEXT NOT NULL, outcome TEXT NOT NULL, effect TEXT NOT NULL, http INTEGER, reason TEXT NOT NULL,
    result_rows INTEGER, result_bytes INTEGER NOT NULL, bytes_processed INTEGER, bytes_billed INTEGER,
    slot_ms INTEGER, job TEXT NOT NULL, client_ip TEXT NOT NULL, user_agent TEXT NOT NULL,
    intent_text TEXT, outcome_text TEXT, last_blob TEXT, record TEXT NOT NULL) STRICT;
CREATE INDEX t_records_session ON t_records (session, seq);
CREATE INDEX t_records_received ON t_records (received);
CREATE INDEX t_records_principal ON t_records (principal, n);
CREATE INDEX t_records_task ON t_records (task, n) WHERE task <> '';
CREATE TABLE t_kinds (kind TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (kind, n)) STRICT, WITHOUT ROWID;
CREATE TABLE t_tables (name TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (name, n)) STRICT, WITHOUT ROWID;
CREATE TABLE t_digests (n INTEGER NOT NULL, upload INTEGER NOT NULL, day TEXT NOT NULL, sha256 TEXT NOT NULL,
    PRIMARY KEY (n, upload)) STRICT, WITHOUT ROWID;
CREATE INDEX t_digests_day ON t_digests (upload, day);
CREATE TABLE t_texts (n INTEGER PRIMARY KEY, day TEXT NOT NULL, long INTEGER NOT NULL, sql TEXT, message TEXT) STRICT;
CREATE INDEX t_texts_day ON t_texts (day);
CREATE TABLE t_sessions (
    id TEXT PRIMARY KEY, started INTEGER NOT NULL, last INTEGER NOT NULL, actor_kind TEXT NOT NULL DEFAULT '',
    principal TEXT NOT NULL DEFAULT '', agent TEXT NOT NULL DEFAULT '', task TEXT NOT NULL DEFAULT '',
    connection TEXT NOT NULL DEFAULT '', is_owned INTEGER NOT NULL DEFAULT 0, records INTEGER NOT NULL DEFAULT 0, errors INTEGER NOT NULL DEFAULT 0,
    refused INTEGER NOT NULL DEFAULT 0, result_rows INTEGER NOT NULL DEFAULT 0,
    result_bytes INTEGER NOT NULL DEFAULT 0, bytes_billed INTEGER NOT NULL DEFAULT 0,
    next_seq INTEGER NOT NULL, next_leaf_seq INTEGER NOT NULL, prev TEXT NOT NULL) STRICT;
CREATE INDEX t_sessions_last ON t_sessions (last);
CREATE VIEW records AS SELECT r.id, r.session, r.seq, r.kind,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.received / 1e6, 'unixepoch') AS received,
    (r.done - r.received) / 1000.0 AS duration_ms, r.actor_kind, r.principal, r.agent, r.task, r.connection,
    r.project, r.method, r.statement_kind, t.sql, r.outcome, r.effect, r.http, r.reason, t.message,
    r.result_rows, r.result_bytes, r.bytes_processed, r.bytes_billed, r.slot_ms, r.job, r.client_ip, r.user_agent,
    coalesce(d.sha256, r.record ->> '$.result.sha256') AS result_sha256,
    coalesce(u.sha256, r.record ->> '$.request.sha256') AS request_sha256,
    r.record FROM t_records r LEFT JOIN t_texts t USING (n)
    LEFT JOIN t_digests d ON d.n = r.n AND d.upload = 0 LEFT JOIN t_digests u ON u.n = r.n AND u.upload = 1;
CREATE VIEW statement_tables AS SELECT r.id AS record, x.name AS table_name FROM t_tables x JOIN t_records r USING (n);
CREATE VIEW sessions AS SELECT id, strftime('%Y-%m-%dT%H:%M:%fZ', started / 1e6, 'unixepoch') AS started,
    strftime('%Y-%m-%dT%H:%M:%fZ', last / 1e6, 'unixepoch') AS last, actor_kind, principal, agent, task, connection,
    records, errors, refused, result_rows, result_bytes, bytes_billed FROM t_sessions WHERE records > 0;
";

impl Index {
    /// Opens it; a missing, foreign or broken one is made anew, and so is one that has read what the log no
    /// longer says.
    pub(crate) fn open(layout: &Layout, sealer: Arc<Sealer>, end: &LogEnd) -> Result<Self, LedgerError> {
        let path = layout.index();
        let db = match Self::open_current(&path).filter(|db| follows(db, end)) {
            Some(db) => db,
            None => Self::create(&path)?,
        };
        let position: u64 = meta(&db, "next_n").and_then(|text| text.parse().ok()).unwrap_or(0);
        let (moved, _) = watch::channel(position);
        let index = Self {
            layout: layout.clone(),
            sealer,
            db: Mutex::new(db),
            position: AtomicU64::new(position),
            wanted: AtomicU64::new(0),
            moved,
            days: Mutex::default(),
        };
        index.drop_lost_days()?;
        Ok(index)
    }

    /// Drops what the index has of days that are gone: retention was stopped in the middle, or somebody took their folder.
    fn drop_lost_days(&self) -> Result<(), LedgerError> {
        for (class, known) in [
            (BlobClass::Statements, TEXT_DAYS),
            (BlobClass::Rows, "SELECT min(day) FROM t_digests WHERE upload = 0 AND day > ?1"),
            (BlobClass::Uploads, "SELECT min(day) FROM t_digests WHERE upload = 1 AND day > ?1"),
        ] {
            let known = days(&self.db(), known)?;
            for day in known.iter().filter(|day| !self.layout.class(class).join(day).exists()) {
                self.drop_day(class, day)?;
            }
        }
        Ok(())
    }

    fn open_current(path: &Path) -> Option<Connection> {
        if !path.exists() {
            return None;
        }
        let db = Connection::open(path).ok()?;
        prepare(&db).ok()?;
        (meta(&db, "version").as_deref() == Some(VERSION)).then_some(db)
    }

    fn create(path: &Path) -> Result<Connection, LedgerError> {
        for suffix in ["", "-wal", "-shm"] {
            let file = PathBuf::from(format!("{}{suffix}", path.display()));
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(recorder::io(&file, error));
                }
                _ => {}
            }
        }
        let db = Connection::open(path).map_err(sql)?;
        prepare(&db).map_err(sql)?;
        db.execute_batch(SCHEMA).map_err(sql)?;
        db.execute("INSERT INTO t_meta VALUES ('version', ?1)", [VERSION]).map_err(sql)?;
        Ok(db)
    }

    /// The number of the next leaf that it has not read.
    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// Waits until everything below `n` is readable, at most `INDEX_WAIT_MAX`; else how far behind it is.
    pub(crate) async fn wait_for(&self, n: u64) -> Result<(), u64> {
        let mut moved = self.moved.subscribe();
        self.wanted.fetch_max(n, Ordering::AcqRel);
        let reached = tokio::time::timeout(INDEX_WAIT_MAX, moved.wait_for(|at| *at >= n)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            _ => Err(n.saturating_sub(self.position())),
        }
    }

    /// A reader of its own: it sees a consistent state and never waits for the writer.
    pub(crate) fn reader(&self) -> Result<Connection, LedgerError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(self.layout.index(), flags).map_err(sql)?;
        db.busy_timeout(INDEX_WAIT_MAX).map_err(sql)?;
        Ok(db)
    }

    /// Follows the journal until the writer is gone and everything is read.
    pub(crate) fn follow(&self, mut durable: watch::Receiver<u64>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime of one thread");
        // Exchanges come first: under load the index falls behind, and catches up afterwards.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
        loop {
            let more = runtime.block_on(durable.changed()).is_ok();
            let limit = if more { self.gather(&mut durable) } else { *durable.borrow() };
            if let Err(error) = self.catch_up(limit) {
                tracing::error!(%error, "the index can't follow the journal");
                // What the failed transaction had made is gone.
                self.days.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
                std::thread::sleep(Duration::from_millis(500));
            }
            if !more {
                return;
            }
        }
    }

    /// Lets new leaves come together, for one transaction costs more than many leaves; and while many come, leaves
    /// the machine to those who write them, until somebody wants to read or the index is too far behind.
    fn gather(&self, durable: &mut watch::Receiver<u64>) -> u64 {
        let mut limit = *durable.borrow_and_update();
        loop {
            std::thread::sleep(GATHER);
            let before = std::mem::replace(&mut limit, *durable.borrow_and_update());
            let is_busy = limit - before > BUSY_LEAVES;
            let is_wanted = self.wanted.load(Ordering::Acquire) > self.position();
            if !is_busy || is_wanted || limit - self.position() > LAG_LEAVES {
                return limit;
            }
        }
    }

    /// Reads every leaf beyond the position and below `limit`: what lies in a file is not yet durable.
    pub(crate) fn catch_up(&self, limit: u64) -> Result<(), LedgerError> {
        let segments =
            self.layout.leaf_segments().map_err(|error| recorder::io(self.layout.root(), error))?;
        let position = self.position();
        let first = segments.iter().rposition(|path| first_n(path) <= position).unwrap_or(0);
        for path in segments.iter().skip(first) {
            self.read_segment(path, limit)?;
        }
        Ok(())
    }

    fn read_segment(&self, path: &Path, limit: u64) -> Result<(), LedgerError> {
        let mut offset = self.segment_offset(path);
        loop {
            let bytes = leaves::read_from(path, offset)?;
            let mut frames = leaves::frames(&bytes, 0);
            let mut db = self.db();
            let transaction = db.transaction().map_err(sql)?;
            let mut next = self.position();
            let mut count = 0;
            let mut read = 0;
            let mut last = None;
            let mut texts = Texts::default();
            while count < BATCH_LEAVES && next < limit {
                let Some((_, payload)) = frames.next() else { break };
                let unpacked = Leaves::unpack(payload)
                    .ok_or_else(|| LedgerError::Damaged(format!("{}: no frame of leaves", path.display())))?;
                for bytes in unpacked.iter() {
                    let leaf = Leaf::read(bytes)
                        .map_err(|error| LedgerError::Damaged(format!("a leaf that is no leaf: {error}")))?;
                    let hash = leaf_hash(bytes);
                    next = self.take_leaf(&transaction, leaf, hash, &mut texts)?.max(next);
                    last = Some(hash);
                    count += 1;
                }
                read = frames.offset as u64;
            }
            if count == 0 {
                return Ok(());
            }
            self.insert_texts(&transaction, texts)?;
            offset += read;
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            set_meta(&transaction, "next_n", &next.to_string())?;
            set_meta(&transaction, "chain", &last.map(|hash| hash.to_string()).unwrap_or_default())?;
            set_meta(&transaction, "segment", name)?;
            set_meta(&transaction, "offset", &offset.to_string())?;
            transaction.commit().map_err(sql)?;
            drop(db);
            self.position.store(next, Ordering::Release);
            self.moved.send_replace(next);
        }
    }

    fn segment_offset(&self, path: &Path) -> u64 {
        let db = self.db();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match meta(&db, "segment") {
            Some(segment) if segment == name => {
                meta(&db, "offset").and_then(|text| text.parse().ok()).unwrap_or(0)
            }
            _ => 0,
        }
    }

    fn take_leaf(
        &self,
        db: &Transaction<'_>,
        leaf: Leaf,
        hash: Digest,
        texts: &mut Texts,
    ) -> Result<u64, LedgerError> {
        if leaf.n < self.position() {
            return Ok(leaf.n + 1);
        }
        let starts_record = matches!(leaf.body, LeafBody::Intent(_) | LeafBody::Event(_));
        db.prepare_cached(
            "INSERT INTO t_sessions (id, started, last, next_seq, next_leaf_seq, prev) VALUES (?1, ?2, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET last = ?2, next_seq = next_seq + ?3, next_leaf_seq = ?4, prev = ?5",
        )
        .and_then(|mut query| {
            query.execute(params![
                leaf.session.to_string(),
                leaf.at.micros(),
                i64::from(starts_record),
                leaf.leaf_seq as i64 + 1,
                hash.to_string()
            ])
        })
        .map_err(sql)?;
        let Leaf { n, session, leaf_seq, prev, at, seq, refs, more, body, .. } = leaf;
        let (body, cut) = self.whole(session, more, body);
        let at = At { n, session, seq: seq.unwrap_or_default(), leaf_seq, prev, at, hash, cut };
        match body {
            LeafBody::Intent(intent) => take_intent(db, &at, *intent, &refs)?,
            LeafBody::Window(window) => take_window(db, &window, &refs)?,
            LeafBody::Outcome(outcome) => self.take_outcome(db, &at, *outcome, refs, texts)?,
            LeafBody::Event(event) => take_event(db, &at, *event)?,
        }
        Ok(n + 1)
    }

    /// The whole body of a leaf that has only the beginning of it; where it can't be read, that beginning and what is
    /// missing. The log is not damaged by it: `verify` finds the blob.
    fn whole(
        &self,
        session: SessionId,
        more: Option<More>,
        first: LeafBody,
    ) -> (LeafBody, BTreeMap<String, u64>) {
        let Some(More { cut, blobs }) = more else { return (first, BTreeMap::new()) };
        let pieces = blobs.iter().map(|blob| self.sealer.open_patiently(session, blob));
        let whole = pieces.collect::<Result<Vec<_>, _>>().and_then(|pieces| {
            serde_json::from_slice(&pieces.concat()).map_err(|error| LedgerError::Damaged(error.to_string()))
        });
        match whole {
            Ok(whole) => (whole, BTreeMap::new()),
            Err(error) => {
                tracing::error!(%error, %session, "a long record is shown without its end, which can't be read");
                (first, cut)
            }
        }
    }

    fn take_outcome(
        &self,
        db: &Transaction<'_>,
        leaf: &At,
        outcome: OutcomeLeaf,
        refs: Refs,
        texts: &mut Texts,
    ) -> Result<(), LedgerError> {
        let id = outcome.id.to_string();
        let opened: Option<(String, Option<String>)> = db
            .prepare_cached("DELETE FROM t_open WHERE id = ?1 RETURNING intent, text")
            .and_then(|mut query| query.query_row([&id], |row| Ok((row.get(0)?, row.get(1)?))).optional())
            .map_err(sql)?;
        // Retention may have dropped the segment with the intent: there is no record to show then.
        let Some((opened, text)) = opened else { return Ok(()) };
        let damaged = |error: serde_json::Error| LedgerError::Damaged(error.to_string());
        let opened: Opened = serde_json::from_str(&opened).map_err(damaged)?;
        let intent_text = text.map(|text| serde_json::from_str(&text)).transpose().map_err(damaged)?;
        self.insert_digests(db, leaf, &refs)?;
        let blobs = Blobs { intent_text, outcome_text: refs.text, last: refs.data };
        let record = join::exchange(opened, leaf, outcome);
        insert_record(db, leaf.n, &record, &blobs)?;
        count_in_session(db, &record)?;
        texts.waiting.extend(self.text(leaf, &blobs));
        Ok(())
    }

    /// Digests lie apart, so that they can go with what they describe and a listing opens no blob.
    fn insert_digests(&self, db: &Transaction<'_>, leaf: &At, refs: &Refs) -> Result<(), LedgerError> {
        for (is_upload, blob) in [(false, &refs.result_sha256), (true, &refs.upload_sha256)] {
            let Some(blob) = blob else { continue };
            let digest = self.sealer.open_digest(leaf.session, blob);
            let Some(digest) = shown(leaf, digest) else { continue };
            let day = blob.day();
            db.prepare_cached("INSERT OR REPLACE INTO t_digests VALUES (?1, ?2, ?3, ?4)")
                .and_then(|mut query| {
                    query.execute(params![leaf.n as i64, is_upload, day, digest.to_string()])
                })
                .map_err(sql)?;
        }
        Ok(())
    }

    fn text(&self, leaf: &At, blobs: &Blobs) -> Option<Text> {
        let open = |blob: &Option<BlobRef>| {
            let blob = blob.as_ref()?;
            let bytes = shown(leaf, self.sealer.open_patiently(leaf.session, blob))?;
            StatementText::decode(&bytes)
        };
        let asked = open(&blobs.intent_text).unwrap_or_default();
        let ended = open(&blobs.outcome_text).unwrap_or_default();
        let sql = asked.sql.or(ended.sql);
        let message = Some(ended.message).filter(|text| !text.is_empty());
        if sql.is_none() && message.is_none() {
            return None;
        }
        let day = blobs.intent_text.as_ref().or(blobs.outcome_text.as_ref()).map(BlobRef::day);
        let day = day.unwrap_or_default().to_owned();
        let long = sql.as_ref().is_some_and(|text| text.len() > FTS_TEXT_BYTES_MAX);
        Some(Text { n: leaf.n as i64, day, long, sql, message })
    }

    fn insert_texts(&self, db: &Transaction<'_>, texts: Texts) -> Result<(), LedgerError> {
        let insert = "INSERT INTO t_texts (n, day, long, sql, message) VALUES (?1, ?2, ?3, ?4, ?5)";
        for text in &texts.waiting {
            self.make_day(db, &text.day)?;
            db.prepare_cached(insert)
                .and_then(|mut query| {
                    query.execute(params![text.n, text.day, text.long, text.sql, text.message])
                })
                .map_err(sql)?;
        }
        for text in texts.waiting {
            let searched = if text.long { None } else { text.sql };
            let insert =
                format!("INSERT INTO {} (rowid, sql, message) VALUES (?1, ?2, ?3)", fts_table(&text.day));
            db.prepare_cached(&insert)
                .and_then(|mut query| query.execute(params![text.n, searched, text.message]))
                .map_err(sql)?;
        }
        Ok(())
    }

    fn make_day(&self, db: &Transaction<'_>, day: &str) -> Result<(), LedgerError> {
        let mut days = self.days.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !days.contains(day) {
            let table = fts_table(day);
            db.execute_batch(&format!(
                "CREATE VIRTUAL TABLE IF NOT EXISTS {table} USING fts5(sql, message, content='', tokenize='trigram')"
            ))
            .map_err(sql)?;
            days.insert(day.to_owned());
        }
        Ok(())
    }

    /// A day of a class is gone, and what the index had of it.
    pub(crate) fn drop_day(&self, class: BlobClass, day: &str) -> Result<(), LedgerError> {
        let db = self.db();
        match class {
            BlobClass::Statements => {
                db.execute("DELETE FROM t_texts WHERE day = ?1", [day]).map_err(sql)?;
                db.execute_batch(&format!("DROP TABLE IF EXISTS {}", fts_table(day))).map_err(sql)?;
                self.days.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(day);
            }
            BlobClass::Rows | BlobClass::Uploads => {
                let is_upload = class == BlobClass::Uploads;
                db.execute("DELETE FROM t_digests WHERE day = ?1 AND upload = ?2", params![day, is_upload])
                    .map_err(sql)?;
            }
            // Its leaves are gone already.
            BlobClass::Records => {}
        }
        Ok(())
    }

    /// Where a session stands, if it ever wrote.
    pub(crate) fn head(&self, session: SessionId) -> Option<Head> {
        self.db()
            .query_row(
                "SELECT next_seq, next_leaf_seq, prev, last FROM t_sessions WHERE id = ?1",
                [session.to_string()],
                |row| {
                    Ok(Head {
                        next_seq: row.get::<_, i64>(0)? as u64,
                        next_leaf_seq: row.get::<_, i64>(1)? as u64,
                        prev: row.get::<_, String>(2)?.parse().ok(),
                        at: Timestamp::from_micros(row.get(3)?),
                    })
                },
            )
            .optional()
            .ok()
            .flatten()
    }

    /// Every record without an outcome.
    pub(crate) fn open_records(&self) -> Result<Vec<OpenRow>, LedgerError> {
        let db = self.db();
        let mut query = db
            .prepare(
                "SELECT o.session, o.id, coalesce(sum(w.bytes), 0), count(w.blob) FROM t_open o
                 LEFT JOIN t_windows w ON w.record = o.id AND w.upload = 0 GROUP BY o.id ORDER BY o.n",
            )
            .map_err(sql)?;
        let rows = query
            .query_map([], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, i64>(2)?,
                    row.get::<_, i64>(3)?,
                ))
            })
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(sql)?;
        rows.into_iter()
            .map(|(session, id, delivered, kept)| {
                let bad = |error: uuid::Error| LedgerError::Index(error.to_string());
                Ok(OpenRow {
                    session: session.parse().map_err(bad)?,
                    id: id.parse().map_err(bad)?,
                    delivered: delivered as u64,
                    kept: kept > 0,
                })
            })
            .collect()
    }

    pub(crate) fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Whether an index has read a part of this log, and nothing else.
fn follows(db: &Connection, end: &LogEnd) -> bool {
    let next: u64 = meta(db, "next_n").and_then(|text| text.parse().ok()).unwrap_or(0);
    let chain = meta(db, "chain").and_then(|text| text.parse().ok());
    next < end.next_n || (next == end.next_n && chain == end.chain)
}

fn take_event(db: &Transaction<'_>, leaf: &At, event: Event) -> Result<(), LedgerError> {
    let record = join::event(leaf, event);
    insert_record(db, leaf.n, &record, &Blobs::default())?;
    count_in_session(db, &record)
}

#[derive(Default)]
struct Blobs {
    intent_text: Option<BlobRef>,
    outcome_text: Option<BlobRef>,
    last: Option<BlobRef>,
}

fn prepare(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(INDEX_WAIT_MAX)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    // It may be rebuilt: a power failure costs time, not truth.
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.pragma_update(None, "secure_delete", "ON")?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn take_intent(db: &Transaction<'_>, leaf: &At, intent: Intent, refs: &Refs) -> Result<(), LedgerError> {
    let id = intent.id.to_string();
    let opened = Opened { intent, seq: leaf.seq, cut: leaf.cut.clone() };
    let opened = serde_json::to_string(&opened).expect("an intent is JSON");
    db.prepare_cached(
        "INSERT OR REPLACE INTO t_open (id, session, n, intent, text) VALUES (?1, ?2, ?3, ?4, ?5)",
    )
    .and_then(|mut query| {
        query.execute(params![id, leaf.session.to_string(), leaf.n as i64, opened, json(&refs.text)])
    })
    .map_err(sql)?;
    Ok(())
}

fn take_window(db: &Transaction<'_>, window: &Window, refs: &Refs) -> Result<(), LedgerError> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO t_windows (record, upload, number, bytes, blob) VALUES (?1,?2,?3,?4,?5)",
    )
    .and_then(|mut query| {
        query.execute(params![
            window.id.to_string(),
            window.upload,
            window.window as i64,
            window.bytes as i64,
            json(&refs.data)
        ])
    })
    .map_err(sql)?;
    Ok(())
}

/// A reference as a column holds it.
fn json(blob: &Option<BlobRef>) -> Option<String> {
    blob.as_ref().map(|blob| serde_json::to_string(blob).expect("a reference is JSON"))
}

fn insert_record(db: &Transaction<'_>, n: u64, record: &Record, blobs: &Blobs) -> Result<(), LedgerError> {
    let number = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<i64>().ok());
    db.prepare_cached(
        "INSERT OR REPLACE INTO t_records VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,
            ?19,?20,?21,?22,?23,?24,?25,?26,?27,?28,?29,?30,?31)",
    )
    .and_then(|mut query| {
        query.execute(params![
            n as i64,
            record.id.to_string(),
            record.session.to_string(),
            record.seq as i64,
            record.kind.as_str(),
            record.time.received.micros(),
            record.time.done.unwrap_or(record.time.received).micros(),
            record.actor.kind.as_str(),
            principal_of(record),
            record.actor.agent.as_ref().map_or("", |agent| agent.name.as_str()),
            record.task.id,
            record.target.connection,
            record.target.project,
            record.target.method,
            record.statement.kind,
            record.outcome.as_str(),
            record.decision.effect.as_str(),
            record.status.http,
            record.status.reason,
            record.result.rows.map(|rows| rows as i64),
            record.result.bytes as i64,
            number(&record.job.bytes_processed),
            number(&record.job.bytes_billed),
            number(&record.job.slot_ms),
            record.job.id,
            record.client.ip,
            record.client.user_agent,
            json(&blobs.intent_text),
            json(&blobs.outcome_text),
            json(&blobs.last),
            serde_json::to_string(record).expect("a record is JSON"),
        ])
    })
    .map_err(sql)?;
    let kinds =
        record.statement.kinds.iter().chain(Some(&record.statement.kind)).filter(|kind| !kind.is_empty());
    for kind in kinds {
        db.prepare_cached("INSERT OR IGNORE INTO t_kinds VALUES (?1, ?2)")
            .and_then(|mut query| query.execute(params![kind, n as i64]))
            .map_err(sql)?;
    }
    for table in &record.statement.tables {
        db.prepare_cached("INSERT OR IGNORE INTO t_tables VALUES (?1, ?2)")
            .and_then(|mut query| query.execute(params![table, n as i64]))
            .map_err(sql)?;
    }
    Ok(())
}

/// What people search a principal by: the e-mail address, else the id.
pub(crate) fn principal_of(record: &Record) -> &str {
    let said = record.actor.email.as_ref().or(record.actor.id.as_ref());
    said.map_or("", |said| said.value.as_str())
}

/// Tells if the actor of a record is the one whose session it is. Whoever answers an approval or ends the session
/// acts in it, and is not.
fn is_of_owner(record: &Record) -> bool {
    let is_own = !matches!(record.actor.kind, ActorKind::Gateway | ActorKind::Local);
    match record.kind {
        RecordKind::Exchange | RecordKind::Job | RecordKind::Excluded | RecordKind::Auth => is_own,
        RecordKind::Session => {
            is_own && record.event.as_ref().is_some_and(|event| event["action"] == "session.open")
        }
        RecordKind::Approval | RecordKind::Admin | RecordKind::Gap => false,
    }
}

/// Adds a record to the sums of its session, which is named for its owner: until a record of theirs has come, for
/// whoever spoke last.
fn count_in_session(db: &Transaction<'_>, record: &Record) -> Result<(), LedgerError> {
    let billed = record.job.bytes_billed.as_ref().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    db.prepare_cached(
        "UPDATE t_sessions SET records = records + 1, errors = errors + ?2, refused = refused + ?3,
            result_rows = result_rows + ?4, result_bytes = result_bytes + ?5, bytes_billed = bytes_billed + ?6,
            actor_kind = CASE is_owned WHEN 1 THEN actor_kind ELSE ?7 END,
            principal = CASE is_owned WHEN 1 THEN principal ELSE ?8 END,
            agent = CASE is_owned WHEN 1 THEN agent ELSE ?9 END,
            is_owned = MAX(is_owned, ?12),
            task = CASE WHEN ?10 = '' THEN task ELSE ?10 END,
            connection = CASE WHEN ?11 = '' THEN connection ELSE ?11 END WHERE id = ?1",
    )
    .and_then(|mut query| {
        query.execute(params![
            record.session.to_string(),
            i64::from(record.outcome == record::Outcome::Error),
            i64::from(record.outcome == record::Outcome::Refused),
            record.result.rows.unwrap_or(0) as i64,
            record.result.bytes as i64,
            billed,
            record.actor.kind.as_str(),
            principal_of(record),
            record.actor.agent.as_ref().map_or("", |agent| agent.name.as_str()),
            record.task.id,
            record.target.connection,
            is_of_owner(record),
        ])
    })
    .map_err(sql)?;
    Ok(())
}

/// Takes what a blob says, if it can be read. In a rebuild after retention it is gone, and the record stays; so it does where
/// the blob is damaged, which `verify` finds: the index goes on.
fn shown<T>(leaf: &At, read: Result<T, LedgerError>) -> Option<T> {
    match read {
        Ok(read) => Some(read),
        Err(LedgerError::Expired) => None,
        Err(error) => {
            tracing::error!(%error, n = leaf.n, "a record is shown without what can't be read");
            None
        }
    }
}

/// Finds the next day of texts.
pub(crate) const TEXT_DAYS: &str = "SELECT min(day) FROM t_texts WHERE day > ?1";

/// The days that a table has, each found by its index from the one before: however many rows a day has.
pub(crate) fn days(db: &Connection, next: &str) -> Result<Vec<String>, LedgerError> {
    let mut query = db.prepare(next).map_err(sql)?;
    let mut found: Vec<String> = Vec::new();
    loop {
        let last = found.last().map_or("", String::as_str);
        match query.query_row([last], |row| row.get::<_, Option<String>>(0)).map_err(sql)? {
            Some(day) => found.push(day),
            None => return Ok(found),
        }
    }
}

/// The full-text table of a day.
pub(crate) fn fts_table(day: &str) -> String {
    let digits: String = day.chars().filter(char::is_ascii_digit).collect();
    format!("t_fts_{digits}")
}

pub(crate) fn sql(error: rusqlite::Error) -> LedgerError {
    LedgerError::Index(error.to_string())
}

fn meta(db: &Connection, name: &str) -> Option<String> {
    db.query_row("SELECT value FROM t_meta WHERE name = ?1", [name], |row| row.get(0)).ok()
}

fn set_meta(db: &Connection, name: &str, value: &str) -> Result<(), LedgerError> {
    db.prepare_cached("INSERT OR REPLACE INTO t_meta VALUES (?1, ?2)")
        .and_then(|mut query| query.execute([name, value]))
        .map(|_| ())
        .map_err(sql)
}

/// A segment is named for its first leaf.
pub(crate) fn first_n(path: &Path) -> u64 {
    path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok()).unwrap_or(0)
}
