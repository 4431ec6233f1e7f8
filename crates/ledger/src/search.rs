//! Finds and reads records and sessions. Everything is streamed: nothing here holds more than one record.

use aws_lc_rs::digest::{Context, SHA256};
use record::{BlobRef, Digest, Record, RecordId, Retained, SessionId, Timestamp};
use rusqlite::types::{ToSql, ValueRef};
use rusqlite::{OptionalExtension, Row};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::index::{SqlError, SqlRow, TEXT_DAYS, days, fts_table, sql};
use crate::recorder::{Ledger, LedgerError};
use crate::text::StatementText;

/// An SQL query runs at most so long.
const SQL_MAX: Duration = Duration::from_secs(60);
/// Shorter texts can't be found by trigram.
const TRIGRAM_CHARS: usize = 3;

/// Which records. Every field narrows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Received at or after.
    pub since: Option<Timestamp>,
    /// Received before.
    pub until: Option<Timestamp>,
    pub session: Option<SessionId>,
    /// E-mail address or id.
    pub principal: Option<String>,
    pub agent: Option<String>,
    pub task: Option<String>,
    pub connection: Option<String>,
    /// BigQuery's statement type, whole or inside a script.
    pub kind: Option<String>,
    /// `project.dataset.table`, or its end.
    pub table: Option<String>,
    /// A part of the statement or of the error message, in any case.
    pub contains: Option<String>,
    pub outcome: Option<String>,
    pub effect: Option<String>,
    /// The newest so many; absent = all.
    pub limit: Option<u64>,
    /// Only what is under way, instead of what has ended.
    pub open: bool,
    /// Only records that closed with this leaf or a later one, oldest first: for `tail`.
    pub from: Option<u64>,
}

/// A session in one line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionSummary {
    pub id: SessionId,
    pub started: Timestamp,
    pub last: Timestamp,
    pub actor_kind: String,
    pub principal: String,
    pub agent: String,
    pub task: String,
    pub connection: String,
    pub records: u64,
    pub errors: u64,
    pub refused: u64,
    pub result_rows: u64,
    pub result_bytes: u64,
    pub bytes_billed: u64,
    /// Exchanges under way.
    #[serde(default)]
    pub open: u64,
}

impl SessionSummary {
    /// Sums up a session by one of its exchanges that is under way.
    pub(crate) fn of_open(record: &Record) -> Self {
        Self {
            id: record.session,
            started: record.time.received,
            last: record.time.received,
            actor_kind: record.actor.kind.as_str().to_owned(),
            principal: crate::index::principal_of(record).to_owned(),
            agent: record.actor.agent.as_ref().map_or_else(String::new, |agent| agent.name.clone()),
            task: record.task.id.clone(),
            connection: record.target.connection.clone(),
            records: 0,
            errors: 0,
            refused: 0,
            result_rows: 0,
            result_bytes: 0,
            bytes_billed: 0,
            open: 0,
        }
    }
}

/// Why nothing was read.
#[derive(Debug)]
pub enum SearchError {
    Ledger(LedgerError),
    /// So many leaves are durable and not yet readable.
    Behind(u64),
}

impl From<LedgerError> for SearchError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl fmt::Display for SearchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ledger(error) => error.fmt(f),
            Self::Behind(leaves) => write!(
                f,
                "the index is {leaves} leaves behind the journal after {} s; try again",
                crate::INDEX_WAIT_MAX.as_secs()
            ),
        }
    }
}

impl std::error::Error for SearchError {}

/// What is kept of what was delivered.
struct KeptResult {
    session: SessionId,
    blobs: Vec<BlobRef>,
    /// Of all that was delivered, by the outcome's word.
    sha256: Option<Digest>,
}

impl Ledger {
    /// Waits until all that is durable now can be read.
    pub async fn readable(&self) -> Result<(), SearchError> {
        let durable = *self.durable.borrow();
        self.index.wait_for(durable).await.map_err(SearchError::Behind)
    }

    /// The number of the next leaf: where `tail` begins.
    pub fn position(&self) -> u64 {
        *self.durable.borrow()
    }

    /// Waits until something is readable beyond leaf `n`.
    pub async fn wait_beyond(&self, n: u64) {
        let _ = self.index.wait_for(n + 1).await;
    }

    /// Gives the matching records to `each`, newest first (oldest first with `from`), with the leaf number
    /// that closed them, until it breaks. Texts are filled in; rows are not. Blocks.
    pub fn records(
        &self,
        filter: &Filter,
        mut each: impl FnMut(u64, Record) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        let db = self.index.reader()?;
        let mut wanted = Wanted::new(filter);
        if let Some(text) = &filter.contains {
            wanted.containing(text, &days(&db, TEXT_DAYS)?);
        }
        let mut query = db.prepare(&wanted.sql()).map_err(sql)?;
        let values: Vec<&dyn ToSql> = wanted.values.iter().map(|value| value.as_ref()).collect();
        let mut rows = query.query(values.as_slice()).map_err(sql)?;
        while let Some(row) = rows.next().map_err(sql)? {
            let found = FoundRow::read(row)?;
            let n = found.n;
            if each(n, self.fill_texts(found)?).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// One record with its texts, without rows. Blocks.
    pub fn record(&self, id: RecordId) -> Result<Option<Record>, LedgerError> {
        let db = self.index.reader()?;
        found(&db, id)?.map(|found| self.fill_texts(found)).transpose()
    }

    /// Gives the body of a record's result to `each`, window by window, as it was delivered. False if nothing
    /// of it was kept, or retention destroyed it. `Differs` where all of it was given, and is not what the outcome says was
    /// delivered. Blocks.
    pub fn result_windows(
        &self,
        id: RecordId,
        mut each: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<bool, LedgerError> {
        let KeptResult { session, blobs, sha256 } = self.kept_result(id)?;
        let mut given = Context::new(&SHA256);
        for blob in &blobs {
            match self.sealer.open(session, blob) {
                Ok(window) => {
                    given.update(&window);
                    if each(&window).is_break() {
                        return Ok(true);
                    }
                }
                Err(LedgerError::Expired) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        match sha256 {
            Some(said) if !blobs.is_empty() && said.0 != given.finish().as_ref() => {
                Err(LedgerError::Differs(id))
            }
            _ => Ok(!blobs.is_empty()),
        }
    }

    /// The texts of a record's outcome: its message and, where the body lacks it, the schema. Blocks.
    pub fn outcome_text(&self, id: RecordId) -> Result<Option<StatementText>, LedgerError> {
        let db = self.index.reader()?;
        let found: Option<(String, Option<String>)> = db
            .query_row("SELECT session, outcome_text FROM t_records WHERE id = ?1", [id.to_string()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
            .map_err(sql)?;
        let Some((session, Some(blob))) = found else { return Ok(None) };
        self.open_text(parse_session(&session)?, Some(blob))
    }

    fn kept_result(&self, id: RecordId) -> Result<KeptResult, LedgerError> {
        let db = self.index.reader()?;
        let record = found(&db, id)?.ok_or_else(|| LedgerError::Index(format!("no record {id}")))?.record;
        let last: Option<String> = db
            .query_row("SELECT last_blob FROM t_records WHERE id = ?1", [id.to_string()], |row| row.get(0))
            .map_err(sql)?;
        let mut query = db
            .prepare("SELECT blob FROM t_windows WHERE record = ?1 AND upload = 0 AND blob IS NOT NULL ORDER BY number")
            .map_err(sql)?;
        let texts = query
            .query_map([id.to_string()], |row| row.get::<_, String>(0))
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(sql)?;
        Ok(KeptResult {
            session: record.session,
            blobs: texts.iter().chain(&last).map(|text| parsed(text)).collect::<Result<_, _>>()?,
            sha256: record.result.sha256.filter(|_| record.result.retained == Retained::Rows),
        })
    }

    fn fill_texts(&self, found: FoundRow) -> Result<Record, LedgerError> {
        let mut record = found.record;
        for blob in [found.intent_text, found.outcome_text] {
            let Some(text) = self.open_text(record.session, blob)? else { continue };
            // The request's texts lie in the outcome's where they were left out at first.
            if text.sql.is_some() {
                record.statement.sql = text.sql;
                record.statement.params = text.params;
            }
            if !text.body.is_empty() {
                record.request.body = Some(String::from_utf8_lossy(&text.body).into_owned());
            }
            record.status.message = text.message;
        }
        Ok(record)
    }

    fn open_text(
        &self,
        session: SessionId,
        blob: Option<String>,
    ) -> Result<Option<StatementText>, LedgerError> {
        let Some(blob) = blob else { return Ok(None) };
        let blob: BlobRef = parsed(&blob)?;
        match self.sealer.open(session, &blob) {
            Ok(bytes) => Ok(StatementText::decode(&bytes)),
            Err(LedgerError::Expired) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sessions that began or went on at or after `since`, the newest first; before them those of which only something under
    /// way is known. Blocks.
    pub fn sessions(
        &self,
        since: Option<Timestamp>,
        limit: Option<u64>,
        mut each: impl FnMut(SessionSummary) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        let db = self.index.reader()?;
        let mut open: HashMap<SessionId, SessionSummary> = HashMap::new();
        let mut begun = Vec::new();
        for session in self.open_sessions() {
            match known_session(&db, session.id)? {
                Some(_) => drop(open.insert(session.id, session)),
                None => begun.push(session),
            }
        }
        let limit = limit.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let mut left = limit;
        for session in begun {
            if left == 0 || each(session).is_break() {
                return Ok(());
            }
            left -= 1;
        }
        let mut query = db
            .prepare(&format!(
                "{SELECT_SESSION} WHERE records > 0 AND last >= ?1 ORDER BY started DESC LIMIT ?2"
            ))
            .map_err(sql)?;
        let mut rows = query.query((since.map_or(0, Timestamp::micros), left)).map_err(sql)?;
        while let Some(row) = rows.next().map_err(sql)? {
            let mut session = read_session(row)?;
            session.open = open.get(&session.id).map_or(0, |open| open.open);
            if each(session).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// One session. Blocks.
    pub fn session(&self, id: SessionId) -> Result<Option<SessionSummary>, LedgerError> {
        let db = self.index.reader()?;
        let open = self.open_sessions().into_iter().find(|session| session.id == id);
        Ok(match (known_session(&db, id)?, open) {
            (Some(known), Some(open)) => Some(SessionSummary { open: open.open, ..known }),
            (known, open) => known.or(open),
        })
    }

    /// Runs one reading SQL statement over the documented views. Blocks, at most a minute.
    pub fn query(&self, text: &str, mut each: impl FnMut(SqlRow) -> ControlFlow<()>) -> Result<(), SqlError> {
        use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
        let wrong = |error: rusqlite::Error| SqlError(error.to_string());
        let mut db = self.index.reader().map_err(|error| SqlError(error.to_string()))?;
        let _ = db.authorizer(Some(|context: AuthContext<'_>| match context.action {
            AuthAction::Select
            | AuthAction::Read { .. }
            | AuthAction::Function { .. }
            | AuthAction::Recursive => Authorization::Allow,
            _ => Authorization::Deny,
        }));
        let ends = Instant::now() + SQL_MAX;
        let _ = db.progress_handler(10_000, Some(move || Instant::now() > ends));
        let mut query = db.prepare(text).map_err(wrong)?;
        if !query.readonly() {
            return Err(SqlError("only reading statements are run".to_owned()));
        }
        let names: Vec<String> = query.column_names().map(str::to_owned).collect();
        let mut rows = query.query([]).map_err(wrong)?;
        while let Some(row) = rows.next().map_err(wrong)? {
            let values =
                names.iter().enumerate().map(|(at, name)| Ok((name.clone(), value_of(row.get_ref(at)?))));
            if each(values.collect::<Result<_, _>>().map_err(wrong)?).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SqlError {}

fn value_of(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()).into(),
    }
}

const SELECT: &str =
    "SELECT r.n, r.record, r.intent_text, r.outcome_text, d.sha256, u.sha256 FROM t_records r
    LEFT JOIN t_digests d ON d.n = r.n AND d.upload = 0 LEFT JOIN t_digests u ON u.n = r.n AND u.upload = 1";
const SELECT_SESSION: &str =
    "SELECT id, started, last, actor_kind, principal, agent, task, connection, records,
    errors, refused, result_rows, result_bytes, bytes_billed FROM t_sessions";

struct FoundRow {
    n: u64,
    record: Record,
    intent_text: Option<String>,
    outcome_text: Option<String>,
}

impl FoundRow {
    fn read(row: &Row<'_>) -> Result<Self, LedgerError> {
        let text: String = row.get(1).map_err(sql)?;
        let mut record: Record = parsed(&text)?;
        let digest = |at: usize| {
            let text: Option<String> = row.get(at).map_err(sql)?;
            Ok::<_, LedgerError>(text.and_then(|text| text.parse().ok()))
        };
        // Records of an older journal have their own.
        record.result.sha256 = digest(4)?.or(record.result.sha256);
        record.request.sha256 = digest(5)?.or(record.request.sha256);
        Ok(Self {
            n: row.get::<_, i64>(0).map_err(sql)? as u64,
            record,
            intent_text: row.get(2).map_err(sql)?,
            outcome_text: row.get(3).map_err(sql)?,
        })
    }
}

fn found(db: &rusqlite::Connection, id: RecordId) -> Result<Option<FoundRow>, LedgerError> {
    db.query_row(&format!("{SELECT} WHERE r.id = ?1"), [id.to_string()], |row| Ok(FoundRow::read(row)))
        .optional()
        .map_err(sql)?
        .transpose()
}

/// What a column of the index holds as JSON.
fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, LedgerError> {
    serde_json::from_str(text).map_err(|error| LedgerError::Index(error.to_string()))
}

fn known_session(db: &rusqlite::Connection, id: SessionId) -> Result<Option<SessionSummary>, LedgerError> {
    db.query_row(&format!("{SELECT_SESSION} WHERE id = ?1 AND records > 0"), [id.to_string()], |row| {
        Ok(read_session(row))
    })
    .optional()
    .map_err(sql)?
    .transpose()
}

fn read_session(row: &Row<'_>) -> Result<SessionSummary, LedgerError> {
    let count = |at: usize| row.get::<_, i64>(at).map(|count| count as u64).map_err(sql);
    let text = |at: usize| row.get::<_, String>(at).map_err(sql);
    let time = |at: usize| row.get::<_, i64>(at).map(Timestamp::from_micros).map_err(sql);
    Ok(SessionSummary {
        id: parse_session(&text(0)?)?,
        started: time(1)?,
        last: time(2)?,
        actor_kind: text(3)?,
        principal: text(4)?,
        agent: text(5)?,
        task: text(6)?,
        connection: text(7)?,
        records: count(8)?,
        errors: count(9)?,
        refused: count(10)?,
        result_rows: count(11)?,
        result_bytes: count(12)?,
        bytes_billed: count(13)?,
        open: 0,
    })
}

fn parse_session(text: &str) -> Result<SessionId, LedgerError> {
    text.parse().map_err(|_| LedgerError::Index("a session id that is none".to_owned()))
}

/// A filter as SQL.
struct Wanted {
    conditions: Vec<String>,
    values: Vec<Box<dyn ToSql>>,
    order: &'static str,
    limit: Option<u64>,
}

impl Wanted {
    fn new(filter: &Filter) -> Self {
        let order = if filter.from.is_some() { "ASC" } else { "DESC" };
        let mut wanted = Self { conditions: Vec::new(), values: Vec::new(), order, limit: filter.limit };
        wanted.add("r.received >= ?", filter.since.map(Timestamp::micros));
        wanted.add("r.received < ?", filter.until.map(Timestamp::micros));
        wanted.add("r.session = ?", filter.session.map(|id| id.to_string()));
        wanted.add("r.principal = ?", filter.principal.clone());
        wanted.add("r.agent = ?", filter.agent.clone());
        wanted.add("r.task = ?", filter.task.clone());
        wanted.add("r.connection = ?", filter.connection.clone());
        wanted.add("r.n IN (SELECT n FROM t_kinds WHERE kind = ?)", filter.kind.clone());
        wanted.add("r.outcome = ?", filter.outcome.clone());
        wanted.add("r.effect = ?", filter.effect.clone());
        wanted.add("r.n >= ?", filter.from.map(|n| n as i64));
        if let Some(table) = &filter.table {
            wanted
                .conditions
                .push("r.n IN (SELECT n FROM t_tables WHERE name = ? OR name LIKE ? ESCAPE '\\')".into());
            wanted.values.push(Box::new(table.clone()));
            wanted.values.push(Box::new(format!("%.{}", like(table))));
        }
        wanted
    }

    fn add<T: ToSql + 'static>(&mut self, condition: &str, value: Option<T>) {
        if let Some(value) = value {
            self.conditions.push(condition.to_owned());
            self.values.push(Box::new(value));
        }
    }

    fn containing(&mut self, text: &str, days: &[String]) {
        let pattern = format!("%{}%", like(text));
        let mut found = vec!["SELECT n FROM t_texts WHERE long AND sql LIKE ? ESCAPE '\\'".to_owned()];
        self.values.push(Box::new(pattern.clone()));
        if text.chars().count() < TRIGRAM_CHARS {
            found.push(
                "SELECT n FROM t_texts WHERE sql LIKE ? ESCAPE '\\' OR message LIKE ? ESCAPE '\\'".into(),
            );
            self.values.push(Box::new(pattern.clone()));
            self.values.push(Box::new(pattern));
        } else {
            for day in days {
                let table = fts_table(day);
                found.push(format!("SELECT rowid FROM {table} WHERE {table} MATCH ?"));
                self.values.push(Box::new(format!("\"{}\"", text.replace('"', "\"\""))));
            }
        }
        // SQLite joins at most 500 selects: years of days are searched in groups.
        let groups: Vec<String> =
            found.chunks(400).map(|group| format!("r.n IN ({})", group.join(" UNION ALL "))).collect();
        self.conditions.push(format!("({})", groups.join(" OR ")));
    }

    fn sql(&self) -> String {
        let mut text = SELECT.to_owned();
        if !self.conditions.is_empty() {
            text.push_str(&format!(" WHERE {}", self.conditions.join(" AND ")));
        }
        text.push_str(&format!(" ORDER BY r.n {}", self.order));
        if let Some(limit) = self.limit {
            text.push_str(&format!(" LIMIT {limit}"));
        }
        text
    }
}

fn like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
