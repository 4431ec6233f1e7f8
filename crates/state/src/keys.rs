//! Virtual service-account keys: the public half, and whom it stands for.

use record::{PrincipalKind, Timestamp};
use rusqlite::{Row, params};
use serde::Serialize;

use crate::{State, StateError};

/// An issued key. The private half is not here, nor anywhere else at the gateway.
#[derive(Clone, Debug, Serialize)]
pub struct VirtualKey {
    pub id: String,
    /// What the client's library sends as `iss`.
    pub email: String,
    pub principal: String,
    pub connection: String,
    pub task: String,
    pub kind: PrincipalKind,
    pub agent: String,
    pub groups: Vec<String>,
    pub issued_by: String,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    #[serde(skip)]
    pub public_pem: String,
}

impl State {
    /// Adds an issued key.
    pub fn insert_key(&self, key: &VirtualKey) -> Result<(), StateError> {
        self.db().execute(
            "INSERT INTO virtual_keys (id, email, principal, connection, task, kind, agent, groups, issued_by,
                issued_at, expires_at, public_pem) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)",
            params![
                key.id,
                key.email,
                key.principal,
                key.connection,
                key.task,
                key.kind.as_str(),
                key.agent,
                serde_json::to_string(&key.groups).expect("strings are JSON"),
                key.issued_by,
                key.issued_at.micros(),
                key.expires_at.micros(),
                key.public_pem,
            ],
        )?;
        Ok(())
    }

    /// All keys, newest first.
    pub fn keys(&self) -> Result<Vec<VirtualKey>, StateError> {
        let db = self.db();
        let mut query = db.prepare(&format!("{SELECT} ORDER BY issued_at DESC"))?;
        let keys = query.query_map([], read)?.collect::<Result<_, _>>()?;
        Ok(keys)
    }

    /// The key that a client names as `iss`.
    pub fn key_by_email(&self, email: &str) -> Result<Option<VirtualKey>, StateError> {
        let db = self.db();
        let mut query = db.prepare_cached(&format!("{SELECT} WHERE email = ?1"))?;
        let mut rows = query.query_map([email], read)?;
        Ok(rows.next().transpose()?)
    }

    /// The key of that id.
    pub fn key(&self, id: &str) -> Result<Option<VirtualKey>, StateError> {
        let db = self.db();
        let mut query = db.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
        let mut rows = query.query_map([id], read)?;
        Ok(rows.next().transpose()?)
    }

    /// Revokes it for good. False if there is no such key, or it was revoked before.
    pub fn revoke_key(&self, id: &str, now: Timestamp) -> Result<bool, StateError> {
        let changed = self.db().execute(
            "UPDATE virtual_keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
            params![id, now.micros()],
        )?;
        Ok(changed == 1)
    }
}

const SELECT: &str =
    "SELECT id, email, principal, connection, task, kind, agent, groups, issued_by, issued_at,
    expires_at, revoked_at, public_pem FROM virtual_keys";

fn read(row: &Row<'_>) -> rusqlite::Result<VirtualKey> {
    let kind: String = row.get(5)?;
    let groups: String = row.get(7)?;
    Ok(VirtualKey {
        id: row.get(0)?,
        email: row.get(1)?,
        principal: row.get(2)?,
        connection: row.get(3)?,
        task: row.get(4)?,
        kind: match kind.as_str() {
            "person" => PrincipalKind::Person,
            "service" => PrincipalKind::Service,
            _ => PrincipalKind::Agent,
        },
        agent: row.get(6)?,
        groups: serde_json::from_str(&groups).unwrap_or_default(),
        issued_by: row.get(8)?,
        issued_at: Timestamp::from_micros(row.get(9)?),
        expires_at: Timestamp::from_micros(row.get(10)?),
        revoked_at: row.get::<_, Option<i64>>(11)?.map(Timestamp::from_micros),
        public_pem: row.get(12)?,
    })
}
