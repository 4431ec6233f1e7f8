//! What a crash left: a torn tail is cut, open records are closed as `interrupted`.

use record::{Leaf, LeafBody, Outcome, OutcomeLeaf, ResultFacts, Retained, Statement, Status};
use std::fs::File;
use std::path::Path;

use crate::frame::Frames;
use crate::layout::Layout;
use crate::recorder::{self, Ledger, LedgerError};
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
    let mut frames = Frames::new(&bytes, 0, record::LEAF_BYTES_MAX);
    let last = frames.by_ref().last().map(|(_, leaf)| leaf.to_vec());
    if !frames.at_end() {
        let whole = frames.offset;
        if holds_a_leaf(&bytes[whole..]) {
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
    let leaf: Leaf = serde_json::from_slice(&last)
        .map_err(|error| LedgerError::Damaged(format!("{}: last leaf: {error}", path.display())))?;
    Ok(Some(LogEnd { next_n: leaf.n + 1, chain: Some(leaf_hash(&last)) }))
}

/// Whether a whole leaf stands somewhere in these bytes: then they are no torn tail.
fn holds_a_leaf(bytes: &[u8]) -> bool {
    const HEAD: &[u8] = b"{\"v\":\"hansard.leaf/1\"";
    bytes.windows(HEAD.len()).enumerate().skip(crate::frame::HEADER_BYTES).any(|(at, window)| {
        window == HEAD
            && crate::frame::first(&bytes[at - crate::frame::HEADER_BYTES..], record::LEAF_BYTES_MAX)
                .is_some()
    })
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
            text: None,
            blob: None,
        };
        ledger.append_blocking(session, LeafBody::Outcome(Box::new(outcome)))?;
    }
    Ok(count)
}
