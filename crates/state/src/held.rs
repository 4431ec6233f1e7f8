//! What waits for a human's answer, and what was answered: facts that are looked for, and a sealed rest.

use record::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{State, StateError};

/// One held exchange, as it lies in the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRow {
    pub id: String,
    /// A word for how it stands.
    pub stand: String,
    /// Counts its changes: whoever read an older one changes nothing.
    pub version: u64,
    /// When it may be forgotten.
    pub forget_at: Timestamp,
    /// JSON; nothing of the statement.
    pub facts: String,
}

fn insert(db: &Connection, row: &HeldRow, sealed: &[u8]) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO held (id, stand, version, forget_at, facts, sealed) VALUES (?1,?2,?3,?4,?5,?6)",
        params![row.id, row.stand, row.version as i64, row.forget_at.micros(), row.facts, sealed],
    )
    .map(|_| ())
}

fn change(db: &Connection, row: &HeldRow, sealed: Option<&[u8]>) -> rusqlite::Result<bool> {
    let changed = db.execute(
        "UPDATE held SET stand = ?2, version = ?3, forget_at = ?4, facts = ?5, sealed = coalesce(?6, sealed)
         WHERE id = ?1 AND version = ?3 - 1",
        params![row.id, row.stand, row.version as i64, row.forget_at.micros(), row.facts, sealed],
    )?;
    Ok(changed == 1)
}

impl State {
    /// Adds one with its sealed rest; durable when this returns.
    pub fn insert_held(&self, row: &HeldRow, sealed: &[u8]) -> Result<(), StateError> {
        Ok(insert(&self.db(), row, sealed)?)
    }

    /// Changes one whose version is the one before; false if somebody else changed it first. A rest that is none
    /// stays as it is.
    pub fn change_held(&self, row: &HeldRow, sealed: Option<&[u8]>) -> Result<bool, StateError> {
        Ok(change(&self.db(), row, sealed)?)
    }

    /// Puts another one in the place of one, whose end that is: both, or neither. False if somebody else changed it
    /// first.
    pub fn replace_held(
        &self,
        old: &HeldRow,
        new: &HeldRow,
        sealed: (&[u8], &[u8]),
    ) -> Result<bool, StateError> {
        let mut db = self.db();
        let transaction = db.transaction()?;
        let changed = change(&transaction, old, Some(sealed.0))?;
        if changed {
            insert(&transaction, new, sealed.1)?;
            transaction.commit()?;
        }
        Ok(changed)
    }

    /// All of them.
    pub fn held(&self) -> Result<Vec<HeldRow>, StateError> {
        let db = self.db();
        let mut query = db.prepare("SELECT id, stand, version, forget_at, facts FROM held ORDER BY id")?;
        let rows = query.query_map([], |row| {
            Ok(HeldRow {
                id: row.get(0)?,
                stand: row.get(1)?,
                version: row.get::<_, i64>(2)? as u64,
                forget_at: Timestamp::from_micros(row.get(3)?),
                facts: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The sealed rest of one.
    pub fn held_rest(&self, id: &str) -> Result<Option<Vec<u8>>, StateError> {
        let found = self.db().query_row("SELECT sealed FROM held WHERE id = ?1", [id], |row| row.get(0));
        Ok(found.optional()?)
    }

    /// Forgets what may be forgotten.
    pub fn forget_held(&self, now: Timestamp) -> Result<usize, StateError> {
        Ok(self.db().execute("DELETE FROM held WHERE forget_at <= ?1", [now.micros()])?)
    }
}
