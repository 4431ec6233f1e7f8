//! What must be known before an exchange goes on: virtual keys, upload bindings, whose a job is, which jobs are
//! still under way, what waits for a human's answer, what was billed, the wrapped token key.
//!
//! Transactional: whatever a call wrote is on the disk when it returns. Lives in `data_dir/state.db`. Calls
//! block; async callers use a blocking thread. Never holds a secret in the clear.

mod keys;
mod uploads;
mod owned;
mod followed;
mod ended;
mod logins;
mod held;
mod spent;

pub use followed::Followed;
pub use held::HeldRow;
pub use keys::VirtualKey;
pub use logins::Login;
pub use owned::{Claim, ClaimError, Claimed, Owned, OwnedKind, Owner, Owners};
pub use spent::{Payer, Spending, Spent, secs_left_today};
pub use uploads::Upload;

use rusqlite::{Connection, OptionalExtension, params};
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

/// The state, one writer at a time.
pub struct State {
    db: Mutex<Connection>,
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS virtual_keys (
    id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE, principal TEXT NOT NULL, connection TEXT NOT NULL,
    task TEXT NOT NULL, kind TEXT NOT NULL, agent TEXT NOT NULL, groups TEXT NOT NULL, issued_by TEXT NOT NULL,
    issued_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, revoked_at INTEGER, public_pem TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS uploads (
    id TEXT PRIMARY KEY, principal TEXT NOT NULL, session TEXT NOT NULL, connection TEXT NOT NULL,
    upstream TEXT NOT NULL, record TEXT NOT NULL, expires_at INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS owned (
    kind TEXT NOT NULL, name TEXT NOT NULL, principal TEXT NOT NULL, record TEXT NOT NULL, at INTEGER NOT NULL,
    excluded_by TEXT NOT NULL DEFAULT '', PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS followed (
    project TEXT NOT NULL, job TEXT NOT NULL, location TEXT NOT NULL, connection TEXT NOT NULL,
    principal TEXT NOT NULL, record TEXT NOT NULL, session TEXT NOT NULL, actor TEXT NOT NULL,
    next_at INTEGER NOT NULL, asked INTEGER NOT NULL, since INTEGER NOT NULL, account TEXT, task TEXT NOT NULL,
    decided TEXT NOT NULL, fingerprint TEXT NOT NULL, kinds TEXT NOT NULL, excluded_by TEXT NOT NULL DEFAULT '',
    tables TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (project, job)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS logins (
    id TEXT PRIMARY KEY, refresh BLOB NOT NULL UNIQUE, who TEXT NOT NULL, expires_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS ended_sessions (id TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (
    who TEXT NOT NULL, day INTEGER NOT NULL, bytes INTEGER NOT NULL, seen INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (who, day)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS held (
    id TEXT PRIMARY KEY, stand TEXT NOT NULL, version INTEGER NOT NULL, forget_at INTEGER NOT NULL,
    facts TEXT NOT NULL, sealed BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS followed_next ON followed (next_at);
";

/// Columns that a table got after it was first made: a folder of an earlier build is taken over.
const ADDED: &[(&str, &str, &str)] = &[
    ("followed", "account", "TEXT"),
    ("followed", "task", "TEXT NOT NULL DEFAULT ''"),
    ("followed", "decided", "TEXT NOT NULL DEFAULT ''"),
    ("followed", "fingerprint", "TEXT NOT NULL DEFAULT ''"),
    ("followed", "kinds", "TEXT NOT NULL DEFAULT ''"),
    ("followed", "excluded_by", "TEXT NOT NULL DEFAULT ''"),
    ("followed", "tables", "TEXT NOT NULL DEFAULT ''"),
    ("owned", "excluded_by", "TEXT NOT NULL DEFAULT ''"),
    ("spent", "seen", "INTEGER NOT NULL DEFAULT 0"),
];

impl State {
    /// Opens or makes the database.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let db = Connection::open(path)?;
        db.busy_timeout(std::time::Duration::from_secs(5))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.execute_batch(SCHEMA)?;
        for (table, column, kind) in ADDED {
            let found = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2";
            let is_there: i64 = db.query_row(found, [table, column], |row| row.get(0))?;
            if is_there == 0 {
                db.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column} {kind}"))?;
            }
        }
        Ok(Self { db: Mutex::new(db) })
    }

    /// The named value; the first caller's `make` decides it for good.
    pub fn meta_or(&self, name: &str, make: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>, StateError> {
        let db = self.db();
        let found =
            db.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()?;
        if let Some(value) = found {
            return Ok(value);
        }
        let value = make();
        db.execute("INSERT INTO meta (name, value) VALUES (?1, ?2)", params![name, value])?;
        Ok(value)
    }

    /// Proves that the state can be written.
    pub fn probe(&self) -> Result<(), StateError> {
        self.db().execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('probe', x'')", [])?;
        Ok(())
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The state could not be read or written.
#[derive(Debug)]
pub struct StateError(rusqlite::Error);

impl From<rusqlite::Error> for StateError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "state: {}", self.0)
    }
}

impl std::error::Error for StateError {}
