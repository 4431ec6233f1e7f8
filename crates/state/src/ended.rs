//! Sessions that somebody ended: tokens that carry them are refused.

use record::{SessionId, Timestamp};
use rusqlite::params;

use crate::{Followed, State, StateError};

impl State {
    /// Ends a session for good; false if it had ended before. Durable when this returns.
    pub fn end_session(&self, session: SessionId, now: Timestamp) -> Result<bool, StateError> {
        let changed = self.db().execute(
            "INSERT OR IGNORE INTO ended_sessions (id, at) VALUES (?1, ?2)",
            params![session.to_string(), now.micros()],
        )?;
        Ok(changed == 1)
    }

    /// Sessions that ended since then.
    pub fn ended_sessions(&self, since: Timestamp) -> Result<Vec<SessionId>, StateError> {
        let db = self.db();
        let mut query = db.prepare("SELECT id FROM ended_sessions WHERE at >= ?1")?;
        let ids = query.query_map([since.micros()], |row| row.get::<_, String>(0))?;
        Ok(ids.collect::<Result<Vec<_>, _>>()?.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// Jobs of a session that are still followed.
    pub fn followed_of(&self, session: SessionId) -> Result<Vec<Followed>, StateError> {
        let all = self.followed_due(Timestamp::from_micros(i64::MAX), usize::MAX >> 1)?;
        Ok(all.into_iter().filter(|job| job.session == session.to_string()).collect())
    }
}
