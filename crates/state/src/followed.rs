//! Jobs whose end is still to be recorded.

use record::Timestamp;
use rusqlite::{Connection, params};

use crate::{Spent, State, StateError};

/// A job under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    pub project: String,
    pub job: String,
    /// Empty until it is known.
    pub location: String,
    pub connection: String,
    /// Provider and id.
    pub principal: String,
    /// The record that started it, and its session.
    pub record: String,
    pub session: String,
    /// The actor of that record, as JSON.
    pub actor: String,
    /// The task that it belongs to; empty if none was named.
    pub task: String,
    /// The kind of statement that was decided on; empty where that is not certain.
    pub decided: String,
    /// Of a script: the kinds of its statements, separated by commas.
    pub kinds: String,
    /// The statement's fingerprint; empty where it was not read.
    pub fingerprint: String,
    /// Marks what a rule leaves out of the record, as in `Owner`.
    pub excluded_by: String,
    /// Hashes of the tables that were decided on, of what is left out, as a JSON list; empty where they are not known for certain.
    pub tables: String,
    /// The account that started it, if not the connection's own.
    pub account: Option<String>,
    /// When it is to be asked next.
    pub next_at: Timestamp,
    pub asked: u32,
    pub since: Timestamp,
}

/// Follows a job from now on; one that is followed already is only asked sooner.
pub(crate) fn insert(db: &Connection, job: &Followed, is_told: bool) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO followed (project, job, location, connection, principal, record, session, actor, next_at,
            asked, since, account, task, decided, fingerprint, kinds, excluded_by, tables)
            VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18)
         ON CONFLICT (project, job) DO UPDATE SET next_at = min(next_at, excluded.next_at),
            location = CASE WHEN location = '' THEN excluded.location ELSE location END,
            excluded_by = CASE WHEN ?19 THEN '' ELSE excluded_by END",
    )?
    .execute(params![
        job.project,
        job.job,
        job.location,
        job.connection,
        job.principal,
        job.record,
        job.session,
        job.actor,
        job.next_at.micros(),
        job.asked,
        job.since.micros(),
        job.account,
        job.task,
        job.decided,
        job.fingerprint,
        job.kinds,
        job.excluded_by,
        job.tables,
        is_told
    ])
    .map(|_| ())
}

impl State {
    /// Jobs that are to be asked by now, the most overdue first.
    pub fn followed_due(&self, now: Timestamp, limit: usize) -> Result<Vec<Followed>, StateError> {
        let db = self.db();
        let mut query = db.prepare_cached(
            "SELECT project, job, location, connection, principal, record, session, actor, next_at, asked, since, account, task,
                decided, fingerprint, kinds, excluded_by, tables
             FROM followed WHERE next_at <= ?1 ORDER BY next_at LIMIT ?2",
        )?;
        let rows = query.query_map(params![now.micros(), limit as i64], |row| {
            Ok(Followed {
                project: row.get(0)?,
                job: row.get(1)?,
                location: row.get(2)?,
                connection: row.get(3)?,
                principal: row.get(4)?,
                record: row.get(5)?,
                session: row.get(6)?,
                actor: row.get(7)?,
                next_at: Timestamp::from_micros(row.get(8)?),
                asked: row.get(9)?,
                since: Timestamp::from_micros(row.get(10)?),
                account: row.get(11)?,
                task: row.get(12)?,
                decided: row.get(13)?,
                fingerprint: row.get(14)?,
                kinds: row.get(15)?,
                excluded_by: row.get(16)?,
                tables: row.get(17)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Asks again at that time.
    pub fn follow_later(&self, job: &Followed, at: Timestamp) -> Result<(), StateError> {
        self.db().execute(
            "UPDATE followed SET next_at = ?3, asked = asked + 1 WHERE project = ?1 AND job = ?2",
            params![job.project, job.job, at.micros()],
        )?;
        Ok(())
    }

    /// Its end is recorded; what it was billed is counted with that, once.
    pub fn unfollow(&self, project: &str, job: &str, spent: Option<&Spent>) -> Result<(), StateError> {
        let mut db = self.db();
        let transaction = db.transaction()?;
        let forgotten = transaction
            .execute("DELETE FROM followed WHERE project = ?1 AND job = ?2", params![project, job])?;
        if let Some(spent) = spent.filter(|_| forgotten == 1) {
            crate::spent::add(&transaction, spent)?;
        }
        Ok(transaction.commit()?)
    }

    /// How many are followed.
    pub fn followed(&self) -> Result<u64, StateError> {
        let count: i64 = self.db().query_row("SELECT count(*) FROM followed", [], |row| row.get(0))?;
        Ok(count as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_an_earlier_build_is_taken_over() {
        let folder = std::env::temp_dir().join(format!("hansard-followed-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("state.db");
        let earlier = "CREATE TABLE followed (
            project TEXT NOT NULL, job TEXT NOT NULL, location TEXT NOT NULL, connection TEXT NOT NULL,
            principal TEXT NOT NULL, record TEXT NOT NULL, session TEXT NOT NULL, actor TEXT NOT NULL,
            next_at INTEGER NOT NULL, asked INTEGER NOT NULL, since INTEGER NOT NULL, PRIMARY KEY (project, job)
            ) STRICT, WITHOUT ROWID;
            INSERT INTO followed VALUES ('p', 'j', '', 'main', 'okta/a', 'r', 's', '{}', 0, 0, 0);";
        Connection::open(&path).unwrap().execute_batch(earlier).unwrap();
        let state = State::open(&path).unwrap();
        let due = state.followed_due(Timestamp::from_secs(1), 10).unwrap();
        assert_eq!((due.len(), due[0].task.as_str(), due[0].kinds.as_str()), (1, "", ""));
        drop(state);
        assert_eq!(State::open(&path).unwrap().followed().unwrap(), 1, "and once more");
        let _ = std::fs::remove_dir_all(&folder);
    }
}
