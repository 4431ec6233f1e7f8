//! Retention: whole days of blobs and whole segments of leaves are dropped, with their keys. The log is never
//! rewritten, and what is about to be dropped is recorded first.

use record::{Actor, ActorKind, BlobClass, Client, Outcome, RecordKind, Status, Timestamp};
use serde::Serialize;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

use crate::drafts::EventDraft;
use crate::index::{first_n, sql};
use crate::leaves::Leaves;
use crate::recorder::{Ledger, LedgerError, io};
use crate::segment::sync_folder;

/// How long each class is kept, in seconds; absent = for ever.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retention {
    pub rows: Option<i64>,
    pub statements: Option<i64>,
    pub records: Option<i64>,
}

/// One thing that was dropped, or would be.
#[derive(Clone, Debug, Serialize)]
pub struct Dropped {
    /// `rows`, `uploads`, `statements`, `records` (leaves) or `bodies` (what is too long for a leaf)
    pub class: &'static str,
    /// A day, or a segment of leaves.
    pub what: String,
    pub bytes: u64,
}

impl Ledger {
    /// What retention would drop now. Blocks.
    pub fn retention_due(&self, retention: &Retention) -> Result<Vec<Dropped>, LedgerError> {
        let now = self.clock.now();
        let mut due = Vec::new();
        for (class, secs) in [
            (BlobClass::Rows, retention.rows),
            (BlobClass::Uploads, retention.rows),
            (BlobClass::Statements, retention.statements),
        ] {
            if let Some(secs) = secs {
                due.extend(self.days_due(class, &last_day_dropped(now, secs))?);
            }
        }
        if let Some(secs) = retention.records {
            let leaves = self.leaf_segments_due(now.plus_secs(-secs))?;
            let bodies = self.bodies_due(leaves.len(), &last_day_dropped(now, DAY_SECS))?;
            due.extend(leaves.into_iter().chain(bodies));
        }
        Ok(due)
    }

    /// Drops it, after recording what and why. Blocks.
    pub fn retention_run(&self, retention: &Retention, actor: Actor) -> Result<Vec<Dropped>, LedgerError> {
        let due = self.retention_due(retention)?;
        if due.is_empty() {
            return Ok(due);
        }
        let draft = EventDraft {
            id: None,
            session: self.node_session(),
            kind: RecordKind::Admin,
            actor,
            client: Client::default(),
            status: Status::default(),
            outcome: Outcome::Ok,
            event: json!({
                "action": "retention.delete",
                "rows_secs": retention.rows, "statements_secs": retention.statements, "records_secs": retention.records,
                "count": due.len(), "bytes": due.iter().map(|dropped| dropped.bytes).sum::<u64>().to_string(),
                "first": due.iter().map(|dropped| dropped.what.as_str()).min(),
                "last": due.iter().map(|dropped| dropped.what.as_str()).max(),
            }),
        };
        self.event_blocking(draft)?;
        // The write-ahead log must not bring back what is dropped.
        self.checkpoint()?;
        for dropped in &due {
            match dropped.class {
                "records" => self.drop_leaves(&dropped.what)?,
                class => self.drop_day(class, &dropped.what)?,
            }
        }
        Ok(due)
    }

    fn days_due(&self, class: BlobClass, last: &str) -> Result<Vec<Dropped>, LedgerError> {
        let folder = self.layout.class(class);
        let mut due = Vec::new();
        for entry in fs::read_dir(&folder).map_err(|error| io(&folder, error))? {
            let path = entry.map_err(|error| io(&folder, error))?.path();
            let day = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() && day.as_str() <= last {
                due.push(Dropped { class: class.folder(), what: day, bytes: size(&path) });
            }
        }
        due.sort_by(|a, b| a.what.cmp(&b.what));
        Ok(due)
    }

    /// Whole segments whose successor already began before the limit: everything in them is older.
    fn leaf_segments_due(&self, limit: Timestamp) -> Result<Vec<Dropped>, LedgerError> {
        let segments = self.layout.leaf_segments().map_err(|error| io(self.layout.root(), error))?;
        let mut due = Vec::new();
        for pair in segments.windows(2) {
            if self.began(&pair[1])?.is_none_or(|began| began >= limit) {
                break;
            }
            let bytes = fs::metadata(&pair[0]).map(|meta| meta.len()).unwrap_or(0);
            let what = pair[0].file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            due.push(Dropped { class: "records", what, bytes });
        }
        Ok(due)
    }

    fn began(&self, segment: &PathBuf) -> Result<Option<Timestamp>, LedgerError> {
        let bytes = fs::read(segment).map_err(|error| io(segment, error))?;
        let first = crate::leaves::frames(&bytes, 0).next().and_then(|(_, payload)| Leaves::unpack(payload));
        let leaf = first.as_ref().and_then(|leaves| leaves.iter().next());
        Ok(leaf.and_then(|leaf| record::Leaf::read(leaf).ok()).map(|leaf| leaf.at))
    }

    /// Days of long bodies that no leaf refers to any more, once so many segments are dropped: told by numbers, whatever
    /// the clock was. One that may still be written is no day to drop.
    fn bodies_due(&self, segments_dropped: usize, last: &str) -> Result<Vec<Dropped>, LedgerError> {
        let segments = self.layout.leaf_segments().map_err(|error| io(self.layout.root(), error))?;
        let Some(first_kept) = segments.get(segments_dropped).map(|segment| first_n(segment)) else {
            return Ok(Vec::new());
        };
        let mut due = self.days_due(BlobClass::Records, last)?;
        due.retain(|day| {
            let named = self.layout.named(BlobClass::Records, &day.what);
            last_named(&named).is_some_and(|last| last < first_kept)
        });
        Ok(due)
    }

    fn drop_day(&self, class: &str, day: &str) -> Result<(), LedgerError> {
        let class =
            BlobClass::ALL.into_iter().find(|known| known.folder() == class).expect("made from a class");
        let folder = self.layout.class(class).join(day);
        // The keys go first: a folder half removed after a crash is unreadable, not half readable.
        let keys = self.layout.keys(class, day);
        if keys.exists() {
            fs::remove_file(&keys).map_err(|error| io(&keys, error))?;
            sync_folder(&folder).map_err(|error| io(&folder, error))?;
        }
        fs::remove_dir_all(&folder).map_err(|error| io(&folder, error))?;
        sync_folder(&self.layout.class(class)).map_err(|error| io(&folder, error))?;
        self.index.drop_day(class, day)
    }

    fn drop_leaves(&self, segment: &str) -> Result<(), LedgerError> {
        let path = self.layout.leaves().join(segment);
        let segments = self.layout.leaf_segments().map_err(|error| io(self.layout.root(), error))?;
        let next = segments.iter().find(|other| first_n(other) > first_n(&path)).map(|other| first_n(other));
        fs::remove_file(&path).map_err(|error| io(&path, error))?;
        sync_folder(&self.layout.leaves()).map_err(|error| io(&path, error))?;
        if let Some(next) = next {
            let db = self.index.db();
            for table in ["t_records", "t_kinds", "t_tables", "t_digests", "t_texts"] {
                db.execute(&format!("DELETE FROM {table} WHERE n < ?1"), [next as i64]).map_err(sql)?;
            }
        }
        Ok(())
    }

    /// The actor of what the gateway does by itself.
    pub fn gateway_actor() -> Actor {
        Actor {
            kind: ActorKind::Gateway,
            id: None,
            email: None,
            name: None,
            groups: None,
            idp: None,
            agent: None,
            act_chain: Vec::new(),
            credential: None,
        }
    }
}

/// The number of the last leaf that refers to a day. None where that can't be told: the day is kept then.
fn last_named(named: &Path) -> Option<u64> {
    let bytes = fs::read(named).ok()?;
    let mut frames = crate::leaves::frames(&bytes, 0);
    let (_, last) = frames.by_ref().last().filter(|_| frames.at_end())?;
    Some(u64::from_le_bytes(last.try_into().ok()?))
}

const DAY_SECS: i64 = 86_400;

/// A day is dropped once its last moment is older than the limit.
fn last_day_dropped(now: Timestamp, secs: i64) -> String {
    now.plus_secs(-secs - DAY_SECS).day()
}

fn size(folder: &PathBuf) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}
