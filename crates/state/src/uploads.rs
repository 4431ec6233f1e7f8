//! Resumable uploads: what the gateway's address stands for, and whose it is.

use record::Timestamp;
use rusqlite::{OptionalExtension, params};

use crate::{State, StateError};

/// One resumable upload under way.
#[derive(Clone, Debug)]
pub struct Upload {
    /// What the client sees in its `Location`.
    pub id: String,
    pub principal: String,
    pub session: String,
    pub connection: String,
    /// The upstream's own address. It never leaves the gateway.
    pub upstream: String,
    /// The record that opened it.
    pub record: String,
    pub expires_at: Timestamp,
}

impl State {
    /// Binds an upload; durable when this returns.
    pub fn insert_upload(&self, upload: &Upload) -> Result<(), StateError> {
        self.db().execute(
            "INSERT INTO uploads (id, principal, session, connection, upstream, record, expires_at)
             VALUES (?1,?2,?3,?4,?5,?6,?7)",
            params![
                upload.id,
                upload.principal,
                upload.session,
                upload.connection,
                upload.upstream,
                upload.record,
                upload.expires_at.micros()
            ],
        )?;
        Ok(())
    }

    /// The upload of that id, if it has not expired.
    pub fn upload(&self, id: &str, now: Timestamp) -> Result<Option<Upload>, StateError> {
        let found = self
            .db()
            .query_row(
                "SELECT id, principal, session, connection, upstream, record, expires_at FROM uploads
                 WHERE id = ?1 AND expires_at > ?2",
                params![id, now.micros()],
                |row| {
                    Ok(Upload {
                        id: row.get(0)?,
                        principal: row.get(1)?,
                        session: row.get(2)?,
                        connection: row.get(3)?,
                        upstream: row.get(4)?,
                        record: row.get(5)?,
                        expires_at: Timestamp::from_micros(row.get(6)?),
                    })
                },
            )
            .optional()?;
        Ok(found)
    }

    /// Forgets what has expired.
    pub fn expire_uploads(&self, now: Timestamp) -> Result<usize, StateError> {
        Ok(self.db().execute("DELETE FROM uploads WHERE expires_at <= ?1", [now.micros()])?)
    }
}
