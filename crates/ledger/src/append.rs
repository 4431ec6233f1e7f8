//! What the writer is asked to append: a leaf's body and the blobs that it will refer to; and how the blobs of a round
//! are gathered to be sealed together.

use record::{BlobClass, Digest, LeafBody, RecordKind, SessionId};
use std::collections::HashMap;
use tokio::sync::oneshot;

use crate::body::Body;
use crate::sealing::{Blob, Entries, Group, Loose};
use crate::writer::Done;

/// A leaf to be written, with the blobs that it will refer to.
pub(crate) struct Append {
    pub(crate) session: SessionId,
    pub(crate) body: Body,
    pub(crate) blobs: Blobs,
    pub(crate) done: Done,
}

/// Blobs that a leaf refers to, beside those of its own long body.
#[derive(Default)]
pub(crate) struct Blobs {
    pub(crate) text: Option<Blob>,
    pub(crate) data: Option<Blob>,
    pub(crate) digests: Digests,
}

/// Digests of what passed, each sealed in the class of what it describes.
#[derive(Clone, Default)]
pub(crate) struct Digests {
    pub(crate) result: Option<Loose>,
    pub(crate) upload: Option<Loose>,
}

impl Append {
    /// Makes a leaf that nobody waits for.
    pub(crate) fn unwaited(session: SessionId, body: Body, digests: Digests) -> Self {
        let (done, _nobody_waits) = oneshot::channel();
        Self { session, body, blobs: Blobs { digests, ..Blobs::default() }, done }
    }

    /// Counts about how many bytes its blobs bring.
    pub(crate) fn bytes(&self) -> usize {
        let pieces = self.body.sealed.iter().flat_map(|sealed| &sealed.pieces);
        self.blobs.text.iter().chain(&self.blobs.data).chain(pieces).map(Blob::bytes).sum()
    }

    /// Tells if it may not use what the disk keeps for closing open records.
    pub(crate) fn is_new(&self) -> bool {
        match &self.body.whole {
            LeafBody::Intent(_) => true,
            LeafBody::Event(event) => event.kind == RecordKind::Auth,
            LeafBody::Window(_) | LeafBody::Outcome(_) => false,
        }
    }
}

/// The place of a blob of the round.
pub(crate) enum Place {
    Among { group: usize, at: u64, size: u64, commit: Digest },
    Alone { group: Group, size: u64, commit: Digest },
}

/// The places of the blobs of one append.
pub(crate) struct Places {
    pub(crate) text: Option<Place>,
    pub(crate) data: Option<Place>,
    pub(crate) result_sha256: Option<Place>,
    pub(crate) upload_sha256: Option<Place>,
    pub(crate) pieces: Vec<Place>,
}

/// Blobs that the sessions of a round write, gathered to be sealed together.
#[derive(Default)]
pub(crate) struct Groups {
    pub(crate) all: Vec<(BlobClass, SessionId, Entries)>,
    open: HashMap<(BlobClass, SessionId), usize>,
}

impl Groups {
    pub(crate) fn place(&mut self, session: SessionId, blob: Blob) -> Place {
        match blob {
            Blob::Sealed { group, size, commit } => Place::Alone { group, size, commit },
            Blob::Loose(loose) => self.add(session, &loose),
        }
    }

    pub(crate) fn add(&mut self, session: SessionId, loose: &Loose) -> Place {
        let key = (loose.class, session);
        let fits = self.open.get(&key).copied().filter(|at| !self.all[*at].2.is_full());
        let group = fits.unwrap_or_else(|| {
            self.all.push((loose.class, session, Entries::default()));
            self.all.len() - 1
        });
        self.open.insert(key, group);
        let (at, size) = self.all[group].2.push(loose);
        Place::Among { group, at, size, commit: loose.commit }
    }
}
