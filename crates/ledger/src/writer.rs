//! The one thread that writes: it takes what waits, writes it, syncs, and wakes whoever waited.
//!
//! ```text
//! t0  commands wait in the channel
//! t1  take all that wait (bounded); number leaves, link them, place blobs
//! t2  write and sync blobs and their keys
//! t3  write and sync leaves        <- only now is anything true
//! t4  wake everybody of this round; tell the index
//! ```
//! A leaf is never durable before what it refers to.

use record::{BlobClass, BlobRef, Clock, Digest, Leaf, LeafBody, SessionId, Timestamp};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot, watch};

use crate::layout::Layout;
use crate::recorder::{self, LedgerError};
use crate::sealing::{Sealed, SessionKey, leaf_hash};
use crate::segment::{self, Segment};

/// Commands that may wait; more callers wait for a place.
pub(crate) const QUEUE_MAX: usize = 1024;
/// One round takes at most so many commands and about so many bytes.
const ROUND_COMMANDS_MAX: usize = 512;
const ROUND_BYTES_MAX: usize = 16 * 1024 * 1024;
const LEAF_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
const BLOB_SEGMENT_BYTES: u64 = 256 * 1024 * 1024;
/// A session that wrote nothing for so long is looked up in the index when it comes back.
const HEAD_IDLE_SECS: i64 = 3600;
const HEADS_SWEEP_AT: usize = 10_000;

/// A leaf to be written, with the blobs that it will refer to.
pub(crate) struct Append {
    pub(crate) session: SessionId,
    pub(crate) body: LeafBody,
    pub(crate) text: Option<Sealed>,
    pub(crate) data: Option<Sealed>,
    pub(crate) done: Done,
}

/// Wakes whoever waits for an append.
pub(crate) type Done = oneshot::Sender<Result<(), LedgerError>>;

/// Where a session stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) next_seq: u64,
    pub(crate) next_leaf_seq: u64,
    pub(crate) prev: Option<Digest>,
    pub(crate) at: Timestamp,
}

/// Where the log stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogEnd {
    pub(crate) next_n: u64,
    pub(crate) chain: Option<Digest>,
}

/// Finds the head of a session that is not in memory.
pub(crate) type FindHead = Box<dyn Fn(SessionId) -> Option<Head> + Send>;

pub(crate) struct Writer {
    layout: Layout,
    clock: Arc<dyn Clock>,
    /// Keys first used in this round.
    new_keys: Vec<Arc<SessionKey>>,
    leaves: Option<Segment>,
    blobs: HashMap<(BlobClass, String), DaySegments>,
    heads: HashMap<SessionId, Head>,
    find_head: FindHead,
    end: LogEnd,
    durable: watch::Sender<u64>,
    sync_micros: Arc<AtomicU64>,
}

struct DaySegments {
    name: String,
    blobs: Segment,
    keys: Segment,
}

impl Writer {
    pub(crate) fn new(
        layout: Layout,
        clock: Arc<dyn Clock>,
        end: LogEnd,
        find_head: FindHead,
    ) -> (Self, watch::Receiver<u64>, Arc<AtomicU64>) {
        let (durable, watcher) = watch::channel(end.next_n);
        let sync_micros = Arc::new(AtomicU64::new(0));
        let writer = Self {
            layout,
            clock,
            new_keys: Vec::new(),
            leaves: None,
            blobs: HashMap::new(),
            heads: HashMap::new(),
            find_head,
            end,
            durable,
            sync_micros: sync_micros.clone(),
        };
        (writer, watcher, sync_micros)
    }

    /// Runs until every sender is gone.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Append>) {
        while let Some(first) = queue.blocking_recv() {
            let mut round = vec![first];
            let mut bytes = 0;
            while round.len() < ROUND_COMMANDS_MAX && bytes < ROUND_BYTES_MAX {
                let Ok(next) = queue.try_recv() else { break };
                bytes += next.data.as_ref().map_or(0, |sealed| sealed.payload.len());
                round.push(next);
            }
            self.commit(round);
        }
    }

    fn commit(&mut self, round: Vec<Append>) {
        let (end, heads) = (self.end, self.heads.clone_for(&round));
        match self.try_commit(round) {
            Ok(waiting) => {
                self.durable.send_replace(self.end.next_n);
                for done in waiting {
                    let _ = done.send(Ok(()));
                }
                self.sweep();
            }
            Err((error, waiting)) => {
                // Nothing of this round happened: leaf numbers and links go back to where they were.
                self.end = end;
                for (session, head) in heads {
                    match head {
                        Some(head) => self.heads.insert(session, head),
                        None => self.heads.remove(&session),
                    };
                }
                self.leaves = None;
                self.blobs.clear();
                tracing::error!(%error, "journal write failed");
                for done in waiting {
                    let _ = done.send(Err(error.clone()));
                }
            }
        }
    }

    fn try_commit(&mut self, round: Vec<Append>) -> Result<Vec<Done>, (LedgerError, Vec<Done>)> {
        let mut waiting = Vec::with_capacity(round.len());
        let mut placed = Ok(());
        for Append { session, body, text, data, done } in round {
            waiting.push(done);
            placed = placed.and_then(|()| self.place(session, body, text, data));
        }
        match placed.and_then(|()| self.sync()) {
            Ok(()) => {
                self.new_keys.drain(..).for_each(|key| key.durable.store(true, Ordering::Relaxed));
                Ok(waiting)
            }
            Err(error) => {
                self.discard();
                Err((error, waiting))
            }
        }
    }

    /// Numbers and links one leaf and buffers it with its blobs.
    fn place(
        &mut self,
        session: SessionId,
        mut body: LeafBody,
        text: Option<Sealed>,
        data: Option<Sealed>,
    ) -> Result<(), LedgerError> {
        let at = self.clock.now();
        let text = text.map(|sealed| self.place_blob(session, sealed)).transpose()?;
        let data = data.map(|sealed| self.place_blob(session, sealed)).transpose()?;
        let head = match self.heads.get(&session) {
            Some(head) => *head,
            None => {
                (self.find_head)(session).unwrap_or(Head { next_seq: 0, next_leaf_seq: 0, prev: None, at })
            }
        };
        let mut next = Head { next_leaf_seq: head.next_leaf_seq + 1, at, ..head };
        match &mut body {
            LeafBody::Intent(intent) => {
                (intent.seq, intent.text) = (head.next_seq, text);
                next.next_seq += 1;
            }
            LeafBody::Event(event) => {
                event.seq = head.next_seq;
                next.next_seq += 1;
            }
            LeafBody::Window(window) => window.blob = data,
            LeafBody::Outcome(outcome) => (outcome.text, outcome.blob) = (text, data),
        }
        let leaf = Leaf {
            v: "hansard.leaf/1".to_owned(),
            n: self.end.next_n,
            session,
            leaf_seq: head.next_leaf_seq,
            prev: head.prev,
            chain: self.end.chain,
            at,
            body,
        };
        let bytes = serde_json::to_vec(&leaf).expect("a leaf is JSON");
        if bytes.len() > record::LEAF_BYTES_MAX {
            return Err(LedgerError::LeafTooLong(bytes.len()));
        }
        let hash = leaf_hash(&bytes);
        self.leaf_segment()?.push(&bytes);
        self.heads.insert(session, Head { prev: Some(hash), ..next });
        self.end = LogEnd { next_n: self.end.next_n + 1, chain: Some(hash) };
        Ok(())
    }

    fn place_blob(&mut self, session: SessionId, sealed: Sealed) -> Result<BlobRef, LedgerError> {
        let Sealed { class, day, commit, payload, key } = sealed;
        let is_new =
            !key.durable.load(Ordering::Relaxed) && !self.new_keys.iter().any(|new| Arc::ptr_eq(new, &key));
        let segments = self.day_segments(class, &day)?;
        if is_new {
            segments.keys.push(&[session.0.as_bytes().as_slice(), &key.wrapped].concat());
        }
        let (offset, len) = segments.blobs.push(&payload);
        let name = segments.name.clone();
        if is_new {
            self.new_keys.push(key);
        }
        Ok(BlobRef { class, segment: format!("{day}/{name}"), offset, len, commit })
    }

    fn leaf_segment(&mut self) -> Result<&mut Segment, LedgerError> {
        let full = self
            .leaves
            .as_ref()
            .is_some_and(|leaves| leaves.end() >= LEAF_SEGMENT_BYTES && !leaves.is_dirty());
        if full || self.leaves.is_none() {
            let path = self.layout.leaves().join(format!("{:016}.leaves", self.end.next_n));
            let opened = Segment::open(path.clone()).map_err(|error| recorder::io(&path, error))?;
            self.leaves = Some(opened);
        }
        Ok(self.leaves.as_mut().expect("just set"))
    }

    fn day_segments(&mut self, class: BlobClass, day: &str) -> Result<&mut DaySegments, LedgerError> {
        let key = (class, day.to_owned());
        let full = self
            .blobs
            .get(&key)
            .is_some_and(|open| open.blobs.end() >= BLOB_SEGMENT_BYTES && !open.blobs.is_dirty());
        if full || !self.blobs.contains_key(&key) {
            let opened = self.open_day(class, day)?;
            self.blobs.insert(key.clone(), opened);
        }
        Ok(self.blobs.get_mut(&key).expect("just inserted"))
    }

    fn open_day(&self, class: BlobClass, day: &str) -> Result<DaySegments, LedgerError> {
        let folder = self.layout.class(class).join(day);
        segment::make_day(&folder).map_err(|error| recorder::io(&folder, error))?;
        let mut number = 1;
        let name = loop {
            let name = format!("{number:06}");
            if !self.layout.blob_segment(class, &format!("{day}/{name}")).exists() {
                break name;
            }
            number += 1;
        };
        let open = |path: PathBuf| Segment::open(path.clone()).map_err(|error| recorder::io(&path, error));
        Ok(DaySegments {
            blobs: open(self.layout.blob_segment(class, &format!("{day}/{name}")))?,
            keys: open(self.layout.keys(class, day))?,
            name,
        })
    }

    /// Blobs first, then the leaves that refer to them.
    fn sync(&mut self) -> Result<(), LedgerError> {
        let commit = |segment: &mut Segment| {
            let path = segment.path.clone();
            segment.commit().map_err(|error| recorder::io(&path, error))
        };
        for day in self.blobs.values_mut() {
            commit(&mut day.keys)?;
            commit(&mut day.blobs)?;
        }
        let started = std::time::Instant::now();
        self.leaves.as_mut().map_or(Ok(()), commit)?;
        self.sync_micros.store(started.elapsed().as_micros() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn discard(&mut self) {
        self.new_keys.clear();
        self.leaves.iter_mut().for_each(Segment::discard);
        for day in self.blobs.values_mut() {
            day.keys.discard();
            day.blobs.discard();
        }
    }

    fn sweep(&mut self) {
        let now = self.clock.now();
        if self.heads.len() > HEADS_SWEEP_AT {
            self.heads.retain(|_, head| head.at.plus_secs(HEAD_IDLE_SECS) > now);
        }
        let today = now.day();
        if self.blobs.len() > BlobClass::ALL.len() {
            self.blobs.retain(|(_, day), _| *day == today);
        }
    }
}

trait CloneFor {
    fn clone_for(&self, round: &[Append]) -> Vec<(SessionId, Option<Head>)>;
}

impl CloneFor for HashMap<SessionId, Head> {
    fn clone_for(&self, round: &[Append]) -> Vec<(SessionId, Option<Head>)> {
        round.iter().map(|append| (append.session, self.get(&append.session).copied())).collect()
    }
}
