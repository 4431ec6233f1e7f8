//! What a crash left: a torn tail is cut, open records are closed as `interrupted`.

use record::{Leaf, LeafBody, Outcome, OutcomeLeaf, ResultFacts, Retained, Statement, Status};
use serde_json::json;
use std::fs::File;
use std::path::Path;

use crate::gap::gap_event;
use crate::layout::Layout;
use crate::leaves::{self, Leaves};
use crate::recorder::{self, Durability, Ledger, LedgerError};
use crate::sealing::leaf_hash;
use crate::writer::LogEnd;

/// Finds the end of the log and cuts a torn tail. Damage before the tail is an error: nothing is cut then.
pub(crate) fn log_end(layout: &Layout) -> Result<LogEnd, LedgerError> {
    let segments = layout.leaf_segments().map_err(|error| recorder::io(layout.root(), error))?;
    for path in segments.iter().rev() {
        if let Some(end) = segment_end(path)? {
            return Ok(end);
        }
    }
    Ok(LogEnd::default())
}

fn segment_end(path: &Path) -> Result<Option<LogEnd>, LedgerError> {
    let bytes = std::fs::read(path).map_err(|error| recorder::io(path, error))?;
    let mut frames = leaves::frames(&bytes, 0);
    let last = frames.by_ref().last().map(|(_, payload)| payload);
    if !frames.at_end() {
        let whole = frames.offset;
        if leaves::stand_in(&bytes[whole..]) {
            return Err(LedgerError::Damaged(format!("{} at byte {whole}", path.display())));
        }
        tracing::warn!(segment = %path.display(), cut = bytes.len() - whole, "torn tail cut");
        let cut = File::options().write(true).open(path).and_then(|file| {
            file.set_len(whole as u64)?;
            file.sync_all()
        });
        cut.map_err(|error| recorder::io(path, error))?;
    }
    let Some(last) = last else { return Ok(None) };
    let damaged = |why: &str| LedgerError::Damaged(format!("{}: last leaf: {why}", path.display()));
    let unpacked = Leaves::unpack(last).ok_or_else(|| damaged("not a frame of leaves"))?;
    let last = unpacked.iter().next_back().ok_or_else(|| damaged("an empty frame"))?;
    let leaf = Leaf::read(last).map_err(|error| damaged(&error.to_string()))?;
    Ok(Some(LogEnd { next_n: leaf.n + 1, chain: Some(leaf_hash(last)) }))
}

/// Says that something may be missing, where the machine stopped in the middle of a spool; and marks this run as
/// one that spools. A process that dies alone loses nothing: its machine still writes what it was given.
pub(crate) fn power_failure(ledger: &Ledger, durability: Durability) -> Result<(), LedgerError> {
    let mark = ledger.layout.spool_mark();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if std::fs::read_to_string(&mark).is_ok_and(|marked| marked != boot) {
        let event = gap_event(
            ledger.clock.now(),
            "",
            json!({
                "action": "gap", "why": "the machine stopped while records were spooled",
                "lost_at_most": {"seconds": 1, "bytes": 64 * 1024 * 1024}, "last_leaf": *ledger.durable.borrow(),
            }),
        );
        ledger.append_blocking(ledger.node_session(), event)?;
    }
    let marked = match durability {
        Durability::Spool => std::fs::write(&mark, boot).and_then(|()| File::open(&mark)?.sync_all()),
        Durability::Strict => match std::fs::remove_file(&mark) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    };
    marked.map_err(|error| recorder::io(&mark, error))
}

/// Closes what no one closed. Returns how many.
pub(crate) fn close_open_records(ledger: &Ledger) -> Result<u64, LedgerError> {
    let open = ledger.index.open_records()?;
    let count = open.len() as u64;
    for crate::index::OpenRow { session, id, delivered, kept } in open {
        let outcome = OutcomeLeaf {
            id,
            outcome: Outcome::Interrupted,
            forwarded: None,
            first_byte: None,
            done: ledger.clock.now(),
            uploaded: None,
            statement: Statement::default(),
            job: record::Job::default(),
            location: String::new(),
            result: ResultFacts {
                bytes: delivered,
                delivered_at_most: Some(delivered),
                retained: if kept { Retained::Rows } else { Retained::None },
                ..ResultFacts::default()
            },
            status: Status { reason: "interrupted".to_owned(), ..Status::default() },
            left_out: None,
        };
        ledger.append_blocking(session, LeafBody::Outcome(Box::new(outcome)))?;
    }
    Ok(count)
}
