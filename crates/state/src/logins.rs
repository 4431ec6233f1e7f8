//! People who signed in, and the fingerprint of the token by which they stay so.

use record::Timestamp;
use rusqlite::{OptionalExtension, params};

use crate::{State, StateError};

/// One sign-in.
#[derive(Clone, Debug)]
pub struct Login {
    pub id: String,
    /// SHA-256 of the refresh token that is good now.
    pub refresh: [u8; 32],
    /// Who, as JSON.
    pub who: String,
    pub expires_at: Timestamp,
}

impl State {
    /// Adds a sign-in.
    pub fn insert_login(&self, login: &Login) -> Result<(), StateError> {
        self.db().execute(
            "INSERT INTO logins (id, refresh, who, expires_at) VALUES (?1, ?2, ?3, ?4)",
            params![login.id, login.refresh, login.who, login.expires_at.micros()],
        )?;
        Ok(())
    }

    /// Puts another refresh token in the place of one, which is good no more. None if it was not good.
    pub fn renew_login(
        &self,
        refresh: [u8; 32],
        next: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Login>, StateError> {
        let db = self.db();
        let login = db
            .query_row(
                "UPDATE logins SET refresh = ?2 WHERE refresh = ?1 AND ended_at IS NULL AND expires_at > ?3
                 RETURNING id, who, expires_at",
                params![refresh, next, now.micros()],
                |row| {
                    Ok(Login {
                        id: row.get(0)?,
                        refresh: next,
                        who: row.get(1)?,
                        expires_at: Timestamp::from_micros(row.get(2)?),
                    })
                },
            )
            .optional()?;
        Ok(login)
    }

    /// Ends the sign-in of a refresh token; its id, if there was one.
    pub fn end_login(&self, refresh: [u8; 32], now: Timestamp) -> Result<Option<String>, StateError> {
        let ended = self
            .db()
            .query_row(
                "UPDATE logins SET ended_at = ?2 WHERE refresh = ?1 AND ended_at IS NULL RETURNING id",
                params![refresh, now.micros()],
                |row| row.get(0),
            )
            .optional()?;
        Ok(ended)
    }

    /// Ids of the sign-ins that hold, with their ends. Forgets the others.
    pub fn live_logins(&self, now: Timestamp) -> Result<Vec<(String, Timestamp)>, StateError> {
        let db = self.db();
        db.execute("DELETE FROM logins WHERE expires_at <= ?1 OR ended_at IS NOT NULL", [now.micros()])?;
        let mut query = db.prepare("SELECT id, expires_at FROM logins")?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, Timestamp::from_micros(row.get(1)?))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
