//! Checks the whole local log: framing, leaf hashes, links, gapless order, and that what leaves refer to is
//! there and unaltered as far as it can be told without keys.

use record::{BlobClass, BlobRef, Digest, Leaf, LeafBody, SessionId};
use serde::Serialize;
use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::frame;
use crate::layout::Layout;
use crate::leaves::{self, Leaves};
use crate::sealing::leaf_hash;

/// What a check found.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    Clean {
        segments: u64,
        leaves: u64,
        blobs: u64,
        /// Blobs whose day retention dropped.
        expired: u64,
    },
    Damaged {
        segment: String,
        offset: u64,
        /// The record of the first bad leaf, where it can be read.
        record: Option<String>,
        why: String,
    },
    Unchecked {
        why: String,
    },
}

struct Walk<'a> {
    layout: &'a Layout,
    next_n: Option<u64>,
    chain: Option<Digest>,
    sessions: HashMap<SessionId, (u64, Digest)>,
    leaves: u64,
    blobs: u64,
    expired: u64,
}

/// Walks the log from its first kept leaf to its last. What a crashed writer left in the write-ahead log is
/// written where it belongs first; a torn tail is reported as damage: opening the folder cuts it.
pub fn verify(layout: &Layout, progress: impl FnMut(u64)) -> Verdict {
    if layout.wal().is_dir()
        && let Err(error) = crate::wal::replay(layout)
    {
        return Verdict::Unchecked { why: error.to_string() };
    }
    verify_below(layout, u64::MAX, progress)
}

impl crate::Ledger {
    /// The same for a log that is being written: as far as it was durable when this was called.
    pub fn verify(&self, progress: impl FnMut(u64)) -> Verdict {
        verify_below(&self.layout, self.position(), progress)
    }
}

fn verify_below(layout: &Layout, limit: u64, mut progress: impl FnMut(u64)) -> Verdict {
    let segments = match layout.leaf_segments() {
        Ok(segments) => segments,
        Err(error) => return Verdict::Unchecked { why: format!("{}: {error}", layout.root().display()) },
    };
    let mut walk =
        Walk { layout, next_n: None, chain: None, sessions: HashMap::new(), leaves: 0, blobs: 0, expired: 0 };
    for path in &segments {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => return Verdict::Unchecked { why: format!("{}: {error}", path.display()) },
        };
        let mut frames = leaves::frames(&bytes, 0);
        for (offset, payload) in frames.by_ref() {
            if walk.next_n.is_some_and(|next| next >= limit) {
                break;
            }
            let Some(unpacked) = Leaves::unpack(payload) else {
                return damaged(path, offset, None, "no frame of leaves".to_owned());
            };
            for leaf in unpacked.iter() {
                if let Err((record, why)) = walk.leaf(leaf) {
                    return damaged(path, offset, record, why);
                }
            }
        }
        if !frames.at_end() && walk.next_n.is_none_or(|next| next < limit) {
            return damaged(path, frames.offset, None, "not a whole frame".to_owned());
        }
        progress(walk.leaves);
    }
    Verdict::Clean {
        segments: segments.len() as u64,
        leaves: walk.leaves,
        blobs: walk.blobs,
        expired: walk.expired,
    }
}

fn damaged(path: &Path, offset: usize, record: Option<String>, why: String) -> Verdict {
    let segment = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    Verdict::Damaged { segment, offset: offset as u64, record, why }
}

impl Walk<'_> {
    fn leaf(&mut self, bytes: &[u8]) -> Result<(), (Option<String>, String)> {
        let leaf = Leaf::read(bytes).map_err(|error| (None, format!("not a leaf: {error}")))?;
        self.links(&leaf).and_then(|()| self.refs(&leaf)).map_err(|why| (Some(record_of(&leaf)), why))?;
        let hash = leaf_hash(bytes);
        self.next_n = Some(leaf.n + 1);
        self.chain = Some(hash);
        self.sessions.insert(leaf.session, (leaf.leaf_seq, hash));
        self.leaves += 1;
        Ok(())
    }

    fn links(&self, leaf: &Leaf) -> Result<(), String> {
        if let Some(expected) = self.next_n {
            if leaf.n != expected {
                return Err(format!("leaf {} stands where {expected} belongs", leaf.n));
            }
            if leaf.chain != self.chain {
                return Err("it does not link to the leaf before it".to_owned());
            }
        }
        match self.sessions.get(&leaf.session) {
            Some((before, _)) if leaf.leaf_seq != before + 1 => {
                Err(format!("leaf {} of its session follows leaf {before}", leaf.leaf_seq))
            }
            Some((_, hash)) if leaf.prev != Some(*hash) => {
                Err("it does not link to its session's leaf before it".to_owned())
            }
            // The first kept leaf of a session: those before it may have been dropped with their segment, but
            // only if this log does not begin at 0.
            None if leaf.leaf_seq > 0 && self.next_n.is_some() && self.began_at_zero() => {
                Err(format!("its session begins with leaf {}", leaf.leaf_seq))
            }
            _ => Ok(()),
        }
    }

    fn began_at_zero(&self) -> bool {
        self.next_n.is_some_and(|next| next == self.leaves)
    }

    fn refs(&mut self, leaf: &Leaf) -> Result<(), String> {
        let pieces = leaf.more.iter().flat_map(|more| &more.blobs);
        for blob in leaf.refs.iter().chain(pieces) {
            self.blob(leaf.session, blob)?;
        }
        Ok(())
    }

    fn blob(&mut self, session: SessionId, blob: &BlobRef) -> Result<(), String> {
        let path = self.layout.blob_segment(blob.class, &blob.segment);
        let bad = |why: &str| {
            format!("its blob in {}/{} at {}: {why}", blob.class.folder(), blob.segment, blob.offset)
        };
        if blob.len > (frame::PAYLOAD_BYTES_MAX + frame::HEADER_BYTES) as u64 {
            return Err(bad("longer than any"));
        }
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            // A whole day is gone when retention dropped it; a lone segment is gone when somebody took it, and so is a
            // long body, for it is kept as long as its leaf.
            Err(_) if blob.class != BlobClass::Records && path.parent().is_some_and(|day| !day.exists()) => {
                self.expired += 1;
                return Ok(());
            }
            Err(error) => return Err(bad(&error.to_string())),
        };
        let mut framed = vec![0; blob.len as usize];
        file.read_exact_at(&mut framed, blob.offset).map_err(|error| bad(&error.to_string()))?;
        let payload =
            frame::first(&framed, frame::PAYLOAD_BYTES_MAX).ok_or_else(|| bad("not a whole frame"))?.0;
        if !payload.starts_with(session.0.as_bytes()) {
            return Err(bad("it belongs to another session"));
        }
        self.blobs += 1;
        Ok(())
    }
}

fn record_of(leaf: &Leaf) -> String {
    match &leaf.body {
        LeafBody::Intent(intent) => intent.id.to_string(),
        LeafBody::Window(window) => window.id.to_string(),
        LeafBody::Outcome(outcome) => outcome.id.to_string(),
        LeafBody::Event(event) => event.id.to_string(),
    }
}
