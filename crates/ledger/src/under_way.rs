//! Exchanges under way, as the process that carries them knows them: the index shows what has ended.

use record::{
    Effect, Integrity, Intent, Job, LeafBody, Outcome, Record, RecordId, ResultFacts, SessionId, Status,
    Times,
};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::body::Body;
use crate::drafts::IntentDraft;
use crate::recorder::{Counted, Ledger};
use crate::search::{Filter, SessionSummary};

/// Longer statements are shown by their beginning while they run, so that what is under way costs no memory of its own.
const SQL_BYTES_MAX: usize = 16 * 1024;

/// Tables and counts of a stream so far.
#[derive(Clone, Debug, Default)]
pub struct SoFar {
    pub tables: Vec<String>,
    pub job: Job,
}

/// Tells what a stream has done so far, whenever it is asked.
pub type Progress = Box<dyn Fn() -> SoFar + Send + Sync>;

/// All of them.
#[derive(Default)]
pub(crate) struct UnderWay(Mutex<BTreeMap<RecordId, Arc<Seen>>>);

/// One of them.
pub(crate) struct Seen {
    session: SessionId,
    /// The intent as its leaf has it.
    intent: Box<RawValue>,
    cut: BTreeMap<String, u64>,
    sql: Option<String>,
    /// Decoded bytes of the reply whose windows are durable, and the windows.
    pub(crate) bytes: AtomicU64,
    pub(crate) windows: AtomicU64,
    upload: Arc<Mutex<Counted>>,
    pub(crate) progress: Mutex<Option<Progress>>,
}

/// Keeps an exchange among those under way until it is dropped.
pub(crate) struct Shown {
    id: RecordId,
    all: Arc<UnderWay>,
    pub(crate) seen: Arc<Seen>,
}

impl UnderWay {
    fn all(&self) -> MutexGuard<'_, BTreeMap<RecordId, Arc<Seen>>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Seen {
    /// Keeps what is shown of an intent.
    pub(crate) fn new(
        session: SessionId,
        body: &Body,
        sql: Option<String>,
        upload: Arc<Mutex<Counted>>,
    ) -> Self {
        Self {
            session,
            intent: body.json.clone(),
            cut: body.sealed.as_ref().map(|sealed| sealed.cut.clone()).unwrap_or_default(),
            sql,
            bytes: AtomicU64::new(0),
            windows: AtomicU64::new(0),
            upload,
            progress: Mutex::default(),
        }
    }

    /// Copies the beginning of a draft's statement.
    pub(crate) fn sql_of(draft: &IntentDraft) -> Option<String> {
        let sql = draft.text.sql.as_ref()?;
        Some(sql[..sql.floor_char_boundary(SQL_BYTES_MAX)].to_owned())
    }

    /// Shows it until what is returned is dropped.
    pub(crate) fn show(self, id: RecordId, all: Arc<UnderWay>) -> Shown {
        let seen = Arc::new(self);
        all.all().insert(id, seen.clone());
        Shown { id, all, seen }
    }

    fn record(&self) -> Option<Record> {
        let LeafBody::Intent(intent) = serde_json::from_str(self.intent.get()).ok()? else { return None };
        let Intent { id, kind, received, actor, client, task, target, mut request, .. } = *intent;
        let (mut statement, mut job) = (intent.statement, intent.job);
        statement.sql.clone_from(&self.sql);
        let uploaded = self.upload.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).bytes;
        request.bytes = request.bytes.max(uploaded);
        let progress = self.progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(SoFar { tables, job: done }) = progress.as_ref().map(|so_far| so_far()) {
            job = done;
            if !tables.is_empty() {
                statement.tables = tables;
            }
        }
        drop(progress);
        Some(Record {
            v: crate::join::VERSION.to_owned(),
            id,
            session: self.session,
            seq: 0,
            kind,
            time: Times { received, forwarded: None, first_byte: None, done: None },
            actor,
            client,
            task,
            target,
            request,
            statement,
            job,
            result: ResultFacts {
                bytes: self.bytes.load(Ordering::Relaxed),
                pages: self.windows.load(Ordering::Relaxed),
                ..ResultFacts::default()
            },
            decision: intent.decision,
            outcome: Outcome::Unknown,
            status: Status { reason: "underWay".to_owned(), ..Status::default() },
            integrity: Integrity { cut: self.cut.clone(), ..Integrity::default() },
            caused_by: intent.caused_by,
            event: None,
        })
    }
}

impl Shown {
    /// A part of the reply is durable.
    pub(crate) fn window(&self, bytes: u64) {
        self.seen.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.seen.windows.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.all.all().remove(&self.id);
    }
}

impl Ledger {
    /// Returns what is under way and matches, the newest first, each as far as it has come. Its outcome is `unknown` and its status
    /// `underWay`; it has no place in the log yet.
    pub fn open_records(&self, filter: &Filter) -> Vec<Record> {
        let all: Vec<Arc<Seen>> = self.under_way.all().values().rev().cloned().collect();
        let found = all.iter().filter_map(|seen| seen.record()).filter(|record| is_wanted(filter, record));
        found.take(filter.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)).collect()
    }

    /// Sessions of what is under way, each with how many exchanges; the newest first.
    pub(crate) fn open_sessions(&self) -> Vec<SessionSummary> {
        let mut sessions: BTreeMap<SessionId, SessionSummary> = BTreeMap::new();
        for record in self.open_records(&Filter::default()) {
            let summary = sessions.entry(record.session).or_insert_with(|| SessionSummary::of_open(&record));
            summary.started = summary.started.min(record.time.received);
            summary.open += 1;
        }
        sessions.into_values().rev().collect()
    }
}

/// Tells if a record that is not in the index matches.
fn is_wanted(filter: &Filter, record: &Record) -> bool {
    fn same(wanted: &Option<String>, is: &str) -> bool {
        wanted.as_ref().is_none_or(|wanted| wanted == is)
    }
    let statement = &record.statement;
    let is_table = |wanted: &String| {
        let ends = |table: &String| table.ends_with(&format!(".{wanted}"));
        statement.tables.iter().any(|table| table == wanted || ends(table))
    };
    let contains = |wanted: &String| {
        let sql = statement.sql.as_deref().unwrap_or_default();
        sql.to_lowercase().contains(&wanted.to_lowercase())
    };
    let is_kind =
        |wanted: &String| statement.kind == *wanted || statement.kinds.iter().any(|kind| kind == wanted);
    filter.since.is_none_or(|since| record.time.received >= since)
        && filter.until.is_none_or(|until| record.time.received < until)
        && filter.session.is_none_or(|session| record.session == session)
        && same(&filter.principal, crate::index::principal_of(record))
        && same(&filter.agent, record.actor.agent.as_ref().map_or("", |agent| &agent.name))
        && same(&filter.task, &record.task.id)
        && same(&filter.connection, &record.target.connection)
        && filter.kind.as_ref().is_none_or(is_kind)
        && filter.table.as_ref().is_none_or(is_table)
        && filter.contains.as_ref().is_none_or(contains)
        && same(&filter.outcome, record.outcome.as_str())
        && same(&filter.effect, Effect::as_str(record.decision.effect))
}
