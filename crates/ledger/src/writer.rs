//! The one thread that writes: it takes what waits, writes it, syncs once, and wakes whoever waited.
//!
//! ```text
//! t0  commands wait in the channel
//! t1  take all that wait (bounded), under load a moment later; seal small blobs together, number leaves, link them
//! t2  append all of it to the write-ahead log, sync        <- only now is anything true
//! t3  wake everybody of this round
//! t4  write the bytes to the files they belong to, at the latest after some rounds; tell the index
//! ```
//! When t2 fails, nothing of the round happened, everybody is told so, and the next round that succeeds begins
//! with a record of the gap.

use record::{
    BlobClass, BlobRef, Clock, Digest, LEAF_VERSION, Leaf, LeafBody, More, Refs, SessionId, Timestamp,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

use crate::append::{Append, Groups, Place, Places};
use crate::body::Sealed;
use crate::checkpoint::{Checkpoint, Checkpointer, Written};
use crate::failpoint::failpoint;
use crate::gap::Gap;
use crate::layout::Layout;
use crate::leaves;
use crate::recorder::{self, Durability, LedgerError, Shared};
use crate::sealing::{Group, Sealer, SessionKey, leaf_hash};
use crate::segment::{self, Segment};
use crate::wal::{self, Log, Wal};

/// About what a leaf has beside its body.
const LEAF_HEADER_BYTES: usize = 1024;
/// Commands that may wait; more callers wait for a place.
pub(crate) const QUEUE_MAX: usize = 1024;
/// One round takes at most so many commands and about so many bytes.
const ROUND_COMMANDS_MAX: usize = 512;
const ROUND_BYTES_MAX: usize = 16 * 1024 * 1024;
const LEAF_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
const BLOB_SEGMENT_BYTES: u64 = 256 * 1024 * 1024;
/// The write-ahead log is checkpointed when it is so long; the writer waits for a slow checkpoint at the other.
const WAL_BYTES: u64 = 64 * 1024 * 1024;
const WAL_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// While more comes, what the log holds waits so long for its files, and is at most so much.
const UNWRITTEN_MAX: Duration = Duration::from_millis(5);
const UNWRITTEN_BYTES_MAX: usize = 1024 * 1024;
/// Where a round had so many commands, the next one waits a moment for as many: each round costs the machine the same,
/// and a sync of its own.
const COMPANY: usize = 4;
const COMPANY_WAIT: Duration = Duration::from_micros(200);
/// One that begins with so much does not wait: it is worth a round.
const COMPANY_BYTES: usize = 64 * 1024;
/// A session that wrote nothing for so long is looked up in the index when it comes back.
const HEAD_IDLE_SECS: i64 = 3600;
const HEADS_SWEEP_AT: usize = 10_000;
/// Without commands, the writer looks so often whether something is to be done.
const IDLE: Duration = Duration::from_millis(250);
/// What `spool` may lose to a power failure at most.
const SPOOL_BYTES_MAX: u64 = 64 * 1024 * 1024;
const SPOOL_MAX: Duration = Duration::from_millis(750);
/// New records are admitted while so much of the disk is free, or a twentieth of it if that is less.
const FLOOR_BYTES: u64 = 256 * 1024 * 1024;
/// How long an answer about the disk holds: far too short to fill the floor.
const FLOOR_EVERY: Duration = Duration::from_millis(50);
/// While the disk is low, or errs, the write-ahead log is emptied so often.
const ROOM_EVERY: Duration = Duration::from_secs(1);

/// The index may be so many leaves behind; beyond, each round waits a little for it.
const INDEX_LAG_MAX: u64 = 1_000_000;
const INDEX_LAG_WAIT: Duration = Duration::from_millis(20);

/// What the writer is asked to do.
#[expect(clippy::large_enum_variant, reason = "nearly every command is the large one")]
pub(crate) enum Command {
    Append(Append),
    /// Make the files durable, and drop the write-ahead log.
    Checkpoint(Done),
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

/// What a writer is made of.
pub(crate) struct WriterConfig {
    pub(crate) layout: Layout,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) durability: Durability,
    /// Free bytes below which nothing new is admitted; absent = `FLOOR_BYTES`.
    pub(crate) disk_floor: Option<u64>,
    pub(crate) node: SessionId,
    pub(crate) end: LogEnd,
    pub(crate) find_head: FindHead,
    /// The number of the next leaf that the index has not read.
    pub(crate) indexed: Box<dyn Fn() -> u64 + Send>,
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Writer {
    layout: Layout,
    clock: Arc<dyn Clock>,
    sealer: Arc<Sealer>,
    durability: Durability,
    disk_floor: Option<u64>,
    /// When the disk was last asked how much is free.
    floor_asked: Option<Instant>,
    /// When space was last sought.
    room_made: Option<Instant>,
    node: SessionId,
    /// Keys first used in this round.
    new_keys: Vec<Arc<SessionKey>>,
    leaves: Option<Segment>,
    blobs: BlobSegments,
    heads: HashMap<SessionId, Head>,
    find_head: FindHead,
    indexed: Box<dyn Fn() -> u64 + Send>,
    end: LogEnd,
    wal: Option<Wal>,
    /// Files of the log that are complete and wait for a checkpoint.
    retired: Vec<Log>,
    written: Written,
    /// Since when something in the log waits for its file.
    unwritten_since: Option<Instant>,
    /// It could not be written: nothing new goes to the log before it is.
    write_failed: bool,
    checkpointer: Checkpointer,
    /// The last one that was waited for.
    checkpoint_failed: bool,
    unsynced: Unsynced,
    gap: Option<Gap>,
    durable: watch::Sender<u64>,
    readable: watch::Sender<u64>,
    shared: Arc<Shared>,
}

struct DaySegments {
    name: String,
    blobs: Segment,
    keys: Segment,
    /// Numbers of the leaves that refer to the day, of the class that lives as long as they do.
    named: Option<Segment>,
}

impl DaySegments {
    fn iter(&self) -> impl Iterator<Item = &Segment> {
        [&self.keys, &self.blobs].into_iter().chain(&self.named)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Segment> {
        [&mut self.keys, &mut self.blobs].into_iter().chain(&mut self.named)
    }
}

/// Open segments of blobs by class and day.
type BlobSegments = HashMap<(BlobClass, String), DaySegments>;

/// Every open segment.
fn segments<'a>(leaves: &'a Option<Segment>, blobs: &'a BlobSegments) -> impl Iterator<Item = &'a Segment> {
    leaves.iter().chain(blobs.values().flat_map(DaySegments::iter))
}

/// See `segments`.
fn segments_mut<'a>(
    leaves: &'a mut Option<Segment>,
    blobs: &'a mut BlobSegments,
) -> impl Iterator<Item = &'a mut Segment> {
    leaves.iter_mut().chain(blobs.values_mut().flat_map(DaySegments::iter_mut))
}

/// What was answered and is not synced: `spool` bounds it.
#[derive(Default)]
struct Unsynced {
    bytes: u64,
    since: Option<Instant>,
}

/// References of one append: its blobs, and the pieces of its long body.
type Referred = (Refs, Vec<BlobRef>);

impl Writer {
    /// The writer, what is durable, and what can be read.
    pub(crate) fn new(config: WriterConfig) -> (Self, watch::Receiver<u64>, watch::Receiver<u64>) {
        let (durable, watcher) = watch::channel(config.end.next_n);
        let (readable, reader) = watch::channel(config.end.next_n);
        let writer = Self {
            checkpointer: Checkpointer::start(config.layout.clone()),
            checkpoint_failed: false,
            layout: config.layout,
            clock: config.clock,
            sealer: config.sealer,
            durability: config.durability,
            disk_floor: config.disk_floor,
            floor_asked: None,
            room_made: None,
            node: config.node,
            new_keys: Vec::new(),
            leaves: None,
            blobs: HashMap::new(),
            heads: HashMap::new(),
            find_head: config.find_head,
            indexed: config.indexed,
            end: config.end,
            wal: None,
            retired: Vec::new(),
            written: Written::new(),
            unwritten_since: None,
            write_failed: false,
            unsynced: Unsynced::default(),
            gap: None,
            durable,
            readable,
            shared: config.shared,
        };
        (writer, watcher, reader)
    }

    /// Runs until every sender is gone.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime of one thread");
        // Commands of the round before.
        let mut last = 0;
        loop {
            let next = match queue.try_recv() {
                Ok(command) => Some(command),
                Err(_) => match runtime.block_on(async { tokio::time::timeout(IDLE, queue.recv()).await }) {
                    Ok(Some(command)) => Some(command),
                    Ok(None) => break,
                    Err(_idle) => None,
                },
            };
            match next {
                Some(Command::Append(first)) => {
                    let (round, then) = gather(first, last, &mut queue);
                    last = round.len();
                    self.commit(round);
                    if queue.is_empty() || self.is_write_due() {
                        self.write();
                    }
                    if let Some(done) = then {
                        let _ = done.send(self.checkpoint_now());
                    }
                }
                Some(Command::Checkpoint(done)) => {
                    let _ = done.send(self.checkpoint_now());
                }
                None => self.idle(),
            }
        }
        self.finish();
    }

    /// What is due though nobody asks: the rest of a spool, and the record of a gap.
    fn idle(&mut self) {
        if self.unsynced.since.is_some() {
            self.sync_spool();
        }
        self.is_below_floor();
        if self.gap.is_some() {
            self.commit(Vec::new());
            self.write();
        }
    }

    fn finish(mut self) {
        if self.gap.is_some() {
            self.commit(Vec::new());
        }
        match self.checkpoint_now() {
            Ok(()) => drop(std::fs::remove_file(self.layout.spool_mark())),
            Err(error) => tracing::error!(%error, "the write-ahead log is kept for the next start"),
        }
    }

    fn commit(&mut self, round: Vec<Append>) {
        self.commit_round(round);
        self.shared.has_gap.store(self.gap.is_some(), Ordering::Relaxed);
    }

    fn commit_round(&mut self, mut round: Vec<Append>) {
        let is_low = self.is_below_floor();
        if is_low {
            round = self.refuse_new(round);
        }
        if is_low || self.gap.is_some() {
            self.make_room();
        }
        let mending = match &self.gap {
            Some(gap) if !is_low || gap.leaves_open() => {
                gap.leaves(self.node, self.clock.now(), &self.sealer, &self.shared.policy())
            }
            _ => Vec::new(),
        };
        let mends = mending.len();
        round.splice(0..0, mending);
        if round.is_empty() {
            return;
        }
        let (end, heads) = (self.end, self.heads_of(&round));
        match self.try_commit(&mut round) {
            Ok(results) => {
                if mends > 0 && self.gap.as_mut().is_some_and(|gap| gap.mended(mends)) {
                    self.gap = None;
                    tracing::info!("the journal takes records again; the gap is recorded");
                }
                self.durable.send_replace(self.end.next_n);
                self.answer(round, results, mends);
                self.unwritten_since.get_or_insert_with(Instant::now);
                self.sweep();
                // An index that is too far behind slows whoever writes.
                if self.end.next_n.saturating_sub((self.indexed)()) > INDEX_LAG_MAX {
                    std::thread::sleep(INDEX_LAG_WAIT);
                }
            }
            Err(error) => {
                // Nothing of this round happened: leaf numbers and links go back to where they were.
                self.end = end;
                for (session, head) in heads {
                    match head {
                        Some(head) => self.heads.insert(session, head),
                        None => self.heads.remove(&session),
                    };
                }
                if self.gap.is_none() {
                    tracing::error!(%error, "journal write failed; nothing new passes until one succeeds");
                }
                self.remember(&error, round.split_off(mends));
            }
        }
    }

    /// Tells everybody how it went. A leaf that could not be made is a gap, as one that could not be written.
    fn answer(&mut self, round: Vec<Append>, results: Vec<Result<(), LedgerError>>, mends: usize) {
        for (at, (append, result)) in round.into_iter().zip(results).enumerate() {
            match result {
                Ok(()) => drop(append.done.send(Ok(()))),
                // It would fail again: the next start closes its record.
                Err(error) if at < mends => tracing::error!(%error, "a record can't be closed"),
                Err(error) => {
                    tracing::error!(%error, session = %append.session, "a leaf could not be made; what it is about does not pass");
                    self.remember(&error, vec![append]);
                }
            }
        }
    }

    /// Tells everybody, and keeps what the gap's record will say.
    fn remember(&mut self, error: &LedgerError, lost: Vec<Append>) {
        let now = self.clock.now();
        let gap = self.gap.get_or_insert_with(|| Gap::new(now, error));
        for append in lost {
            gap.take(append.session, append.body.whole, append.blobs.digests);
            let _ = append.done.send(Err(error.clone()));
        }
    }

    /// Below the floor, open records may be closed and nothing new is admitted.
    fn refuse_new(&mut self, round: Vec<Append>) -> Vec<Append> {
        let (new, rest): (Vec<_>, Vec<_>) = round.into_iter().partition(Append::is_new);
        if !new.is_empty() {
            self.remember(&LedgerError::DiskFloor, new);
        }
        rest
    }

    fn is_below_floor(&mut self) -> bool {
        if self.floor_asked.is_some_and(|asked| asked.elapsed() < FLOOR_EVERY) {
            return self.shared.disk_low.load(Ordering::Relaxed);
        }
        self.floor_asked = Some(Instant::now());
        let Ok(disk) = rustix::fs::statvfs(self.layout.root()) else { return false };
        let (free, all) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
        let is_low = free < self.disk_floor.unwrap_or(FLOOR_BYTES.min(all / 20));
        self.shared.disk_low.store(is_low, Ordering::Relaxed);
        is_low
    }

    fn heads_of(&self, round: &[Append]) -> Vec<(SessionId, Option<Head>)> {
        round.iter().map(|append| (append.session, self.heads.get(&append.session).copied())).collect()
    }

    fn try_commit(&mut self, round: &mut [Append]) -> Result<Vec<Result<(), LedgerError>>, LedgerError> {
        if self.write_failed {
            self.write_segments()?;
        }
        let placed = self.place(round).and_then(|results| self.log(round).map(|()| results));
        match placed {
            Ok(results) => {
                self.new_keys.drain(..).for_each(|key| key.durable.store(true, Ordering::Relaxed));
                Ok(results)
            }
            Err(error) => {
                self.new_keys.clear();
                segments_mut(&mut self.leaves, &mut self.blobs).for_each(Segment::discard);
                self.retire();
                Err(error)
            }
        }
    }

    /// Seals blobs, numbers and links leaves, and buffers all of it.
    fn place(&mut self, round: &mut [Append]) -> Result<Vec<Result<(), LedgerError>>, LedgerError> {
        let day = self.clock.now().day();
        let referred = self.place_blobs(round, &day)?;
        self.leaf_segment()?;
        let mut results = Vec::with_capacity(round.len());
        let mut bytes = Vec::with_capacity(round.len());
        for (append, (refs, pieces)) in round.iter().zip(referred) {
            let n = self.end.next_n;
            let days: Vec<String> = pieces.iter().map(|piece| piece.day().to_owned()).collect();
            results.push(self.number(append, refs, pieces).map(|leaf| bytes.push(leaf)));
            for day in days {
                self.name_day(&day, n)?;
            }
        }
        if !bytes.is_empty() {
            self.leaf_segment()?.push(&leaves::pack(&bytes));
        }
        Ok(results)
    }

    /// Notes that a leaf refers to a day of long bodies: retention drops the day after the last such leaf.
    fn name_day(&mut self, day: &str, n: u64) -> Result<(), LedgerError> {
        let segments = self.day_segments(BlobClass::Records, day)?;
        segments.named.as_mut().expect("a day of long bodies has it").push(&n.to_le_bytes());
        Ok(())
    }

    fn place_blobs(&mut self, round: &mut [Append], day: &str) -> Result<Vec<Referred>, LedgerError> {
        let mut groups = Groups::default();
        let mut places = Vec::with_capacity(round.len());
        for append in round.iter_mut() {
            let Append { session, body, blobs, .. } = append;
            let pieces = body.sealed.iter_mut().flat_map(|sealed| sealed.pieces.drain(..));
            places.push(Places {
                text: blobs.text.take().map(|blob| groups.place(*session, blob)),
                data: blobs.data.take().map(|blob| groups.place(*session, blob)),
                result_sha256: blobs.digests.result.as_ref().map(|digest| groups.add(*session, digest)),
                upload_sha256: blobs.digests.upload.as_ref().map(|digest| groups.add(*session, digest)),
                pieces: pieces.map(|blob| groups.place(*session, blob)).collect(),
            });
        }
        let mut sealed = Vec::with_capacity(groups.all.len());
        for (class, session, entries) in &groups.all {
            let group = self.sealer.seal_group(*class, *session, day, entries);
            sealed.push(self.place_group(*session, group)?);
        }
        let mut referred = Vec::with_capacity(round.len());
        for (append, places) in round.iter().zip(places) {
            let mut refer = |place: Place| match place {
                Place::Among { group, at, size, commit } => {
                    Ok(BlobRef { at, size, commit, ..sealed[group].clone() })
                }
                Place::Alone { group, size, commit } => {
                    let whole = self.place_group(append.session, group)?;
                    Ok::<_, LedgerError>(BlobRef { size, commit, ..whole })
                }
            };
            let refs = Refs {
                text: places.text.map(&mut refer).transpose()?,
                data: places.data.map(&mut refer).transpose()?,
                result_sha256: places.result_sha256.map(&mut refer).transpose()?,
                upload_sha256: places.upload_sha256.map(&mut refer).transpose()?,
            };
            let pieces = places.pieces.into_iter().map(refer).collect::<Result<_, _>>()?;
            referred.push((refs, pieces));
        }
        Ok(referred)
    }

    /// Buffers a sealed group; the reference still says nothing of what is in it.
    fn place_group(&mut self, session: SessionId, group: Group) -> Result<BlobRef, LedgerError> {
        let Group { class, day, payload, key } = group;
        let is_new =
            !key.durable.load(Ordering::Relaxed) && !self.new_keys.iter().any(|new| Arc::ptr_eq(new, &key));
        let segments = self.day_segments(class, &day)?;
        if is_new {
            segments.keys.push(&[session.0.as_bytes().as_slice(), &key.wrapped].concat());
        }
        let (offset, len) = segments.blobs.push(&payload);
        let segment = format!("{day}/{}", segments.name);
        if is_new {
            self.new_keys.push(key);
        }
        Ok(BlobRef { class, segment, offset, len, at: 0, size: 0, commit: Digest([0; 32]) })
    }

    /// Numbers and links one leaf.
    fn number(&mut self, append: &Append, refs: Refs, pieces: Vec<BlobRef>) -> Result<Vec<u8>, LedgerError> {
        let (session, at) = (append.session, self.clock.now());
        let head = match self.heads.get(&session) {
            Some(head) => *head,
            None => {
                (self.find_head)(session).unwrap_or(Head { next_seq: 0, next_leaf_seq: 0, prev: None, at })
            }
        };
        let begins_record = matches!(append.body.whole, LeafBody::Intent(_) | LeafBody::Event(_));
        let more =
            append.body.sealed.as_ref().map(|Sealed { cut, .. }| More { cut: cut.clone(), blobs: pieces });
        let leaf = Leaf {
            v: LEAF_VERSION.into(),
            n: self.end.next_n,
            session,
            leaf_seq: head.next_leaf_seq,
            prev: head.prev,
            chain: self.end.chain,
            at,
            seq: begins_record.then_some(head.next_seq),
            refs,
            more,
            body: &append.body.json,
        };
        let mut bytes = Vec::with_capacity(append.body.json.get().len() + LEAF_HEADER_BYTES);
        serde_json::to_writer(&mut bytes, &leaf).expect("a leaf is JSON");
        if bytes.len() > record::LEAF_BYTES_MAX {
            return Err(LedgerError::LeafTooLong(bytes.len()));
        }
        let hash = leaf_hash(&bytes);
        let next_seq = head.next_seq + u64::from(begins_record);
        self.heads
            .insert(session, Head { next_seq, next_leaf_seq: head.next_leaf_seq + 1, prev: Some(hash), at });
        self.end = LogEnd { next_n: self.end.next_n + 1, chain: Some(hash) };
        Ok(bytes)
    }

    fn leaf_segment(&mut self) -> Result<&mut Segment, LedgerError> {
        let full = self
            .leaves
            .as_ref()
            .is_some_and(|leaves| leaves.end() >= LEAF_SEGMENT_BYTES && !leaves.is_dirty());
        if full || self.leaves.is_none() {
            self.leaves = Some(self.open_segment(format!("leaves/{:016}.leaves", self.end.next_n))?);
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
        segment::make_folder(&folder).map_err(|error| recorder::io(&folder, error))?;
        let mut number = 1;
        let name = loop {
            let name = format!("{number:06}");
            if !self.layout.blob_segment(class, &format!("{day}/{name}")).exists() {
                break name;
            }
            number += 1;
        };
        Ok(DaySegments {
            blobs: self.open_segment(format!("{}/{day}/{name}.blobs", class.folder()))?,
            keys: self.open_segment(format!("{}/{day}/keys", class.folder()))?,
            named: match class {
                BlobClass::Records => Some(self.open_segment(format!("{}/{day}/named", class.folder()))?),
                BlobClass::Statements | BlobClass::Rows | BlobClass::Uploads => None,
            },
            name,
        })
    }

    fn open_segment(&self, name: String) -> Result<Segment, LedgerError> {
        let path = self.layout.journal().join(&name);
        Segment::open(&self.layout, name).map_err(|error| recorder::io(&path, error))
    }

    /// Appends the round to the write-ahead log, and syncs it as the mode asks.
    fn log(&mut self, round: &[Append]) -> Result<(), LedgerError> {
        let due = match self.durability {
            Durability::Strict => true,
            Durability::Spool => self.unsynced.bytes >= SPOOL_BYTES_MAX / 2 || self.unsynced.is_old(),
        };
        let started = Instant::now();
        if self.wal.is_none() {
            self.wal = Some(Wal::create(&self.layout)?);
        }
        let wal = self.wal.as_mut().expect("just set");
        let before = wal.len();
        let segments = segments(&self.leaves, &self.blobs);
        let unlogged = segments.filter(|segment| !segment.unlogged().is_empty());
        wal.append(unlogged, due, || passed(round, "written"))?;
        passed(round, "synced");
        match due {
            true => self.unsynced = Unsynced::default(),
            false => self.unsynced.add(wal.len() - before),
        }
        segments_mut(&mut self.leaves, &mut self.blobs).for_each(Segment::set_logged);
        self.shared.sync_micros.store(started.elapsed().as_micros() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Whether what the log holds has waited long enough for its files.
    fn is_write_due(&self) -> bool {
        let waiting = segments(&self.leaves, &self.blobs).map(Segment::waiting).sum::<usize>();
        waiting >= UNWRITTEN_BYTES_MAX
            || self.unwritten_since.is_some_and(|since| since.elapsed() >= UNWRITTEN_MAX)
    }

    /// Hands what the log holds to its files, if it holds something, and tells the index. A failure here is mended by the
    /// next round.
    fn write(&mut self) {
        if self.unwritten_since.is_none() {
            return;
        }
        match self.write_segments() {
            Ok(()) => {
                self.readable.send_replace(self.end.next_n);
            }
            Err(error) => tracing::error!(%error, "durable, but not yet in its file"),
        }
        if self.wal.as_ref().is_some_and(|wal| wal.len() >= WAL_BYTES) {
            self.offer_checkpoint(false);
        }
    }

    /// Gives back what the write-ahead log holds of the disk, before it is full.
    fn make_room(&mut self) {
        let has_log = self.wal.as_ref().is_some_and(|wal| wal.len() > 0)
            || !self.retired.is_empty()
            || wal::has_spares(&self.layout);
        if has_log && self.room_made.is_none_or(|made| made.elapsed() >= ROOM_EVERY) {
            self.room_made = Some(Instant::now());
            self.offer_checkpoint(true);
        }
    }

    fn write_segments(&mut self) -> Result<(), LedgerError> {
        self.write_failed = true;
        let segments = segments_mut(&mut self.leaves, &mut self.blobs);
        for segment in segments.filter(|segment| segment.is_dirty()) {
            segment.write().map_err(|error| recorder::io(&segment.path, error))?;
            if !self.written.contains_key(&segment.path) {
                self.written.insert(segment.path.clone(), segment.file.clone());
            }
        }
        (self.write_failed, self.unwritten_since) = (false, None);
        Ok(())
    }

    fn offer_checkpoint(&mut self, drops_spares: bool) {
        // What is not in its file yet stands in the log alone: the log stays.
        if self.write_segments().is_err() {
            return;
        }
        let is_urgent = self.wal.as_ref().is_some_and(|wal| wal.len() >= WAL_BYTES_MAX);
        if self.durability == Durability::Spool {
            self.sync_spool();
        }
        let job = self.checkpoint(drops_spares);
        let Err(job) = self.checkpointer.offer(job) else {
            self.checkpoint_failed = false;
            return;
        };
        // The one before is still at work: this one waits for the next occasion.
        self.written.extend(job.written);
        self.retired.splice(0..0, job.logs);
        if is_urgent {
            tracing::warn!("checkpoints are slower than what is written");
            std::thread::sleep(IDLE);
        }
    }

    /// Everything that was written since the last one, and a new log from here on.
    fn checkpoint(&mut self, drops_spares: bool) -> Checkpoint {
        self.retire();
        let (written, logs) = (std::mem::take(&mut self.written), std::mem::take(&mut self.retired));
        Checkpoint { written, logs, drops_spares, reapplies: self.checkpoint_failed }
    }

    /// The log's file is not written any more.
    fn retire(&mut self) {
        self.retired.extend(self.wal.take().map(Wal::retire));
    }

    fn checkpoint_now(&mut self) -> Result<(), LedgerError> {
        self.write_segments()?;
        let job = self.checkpoint(true);
        let fresh = Checkpointer::start(self.layout.clone());
        let result = std::mem::replace(&mut self.checkpointer, fresh).finish(&job);
        self.checkpoint_failed = result.is_err();
        match result {
            Ok(()) => self.unsynced = Unsynced::default(),
            Err(_) => self.retired.extend(job.logs),
        }
        self.readable.send_replace(self.end.next_n);
        result
    }

    fn sync_spool(&mut self) {
        let Some(wal) = &mut self.wal else { return };
        match wal.sync() {
            Ok(()) => self.unsynced = Unsynced::default(),
            Err(error) => {
                // What was answered may be lost with the power: the gap says so.
                let error = recorder::io(wal.path(), error);
                tracing::error!(%error, bytes = self.unsynced.bytes, "spool could not be synced");
                let now = self.clock.now();
                self.gap.get_or_insert_with(|| Gap::new(now, &error));
                self.unsynced = Unsynced::default();
                self.retire();
            }
        }
    }

    fn sweep(&mut self) {
        let now = self.clock.now();
        if self.heads.len() > HEADS_SWEEP_AT {
            self.heads.retain(|_, head| head.at.plus_secs(HEAD_IDLE_SECS) > now);
        }
        if self.blobs.len() > BlobClass::ALL.len() {
            let today = now.day();
            self.blobs.retain(|(_, day), open| *day == today || open.iter().any(Segment::is_dirty));
        }
    }
}

impl Unsynced {
    fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.since.get_or_insert_with(Instant::now);
    }

    fn is_old(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= SPOOL_MAX)
    }
}

/// What waits, up to a round's bounds; a checkpoint that was asked for meanwhile follows the round.
fn gather(first: Append, last: usize, queue: &mut mpsc::Receiver<Command>) -> (Vec<Append>, Option<Done>) {
    let mut bytes = first.bytes();
    // Not where as many as then have come already, while the last one was synced.
    if last >= COMPANY && bytes < COMPANY_BYTES && queue.len() + 1 < last {
        std::thread::sleep(COMPANY_WAIT);
    }
    let mut round = vec![first];
    while round.len() < ROUND_COMMANDS_MAX && bytes < ROUND_BYTES_MAX {
        match queue.try_recv() {
            Ok(Command::Append(next)) => {
                bytes += next.bytes();
                round.push(next);
            }
            Ok(Command::Checkpoint(done)) => return (round, Some(done)),
            Err(_) => break,
        }
    }
    (round, None)
}

/// Tells the failpoints which leaves have come so far.
fn passed(round: &[Append], how: &str) {
    if !cfg!(debug_assertions) {
        return;
    }
    for append in round {
        match (&append.body.whole, how) {
            (LeafBody::Intent(_), "written") => failpoint("intent_written"),
            (LeafBody::Intent(_), _) => failpoint("intent_synced"),
            (LeafBody::Outcome(_), "written") => failpoint("outcome_written"),
            (LeafBody::Outcome(_), _) => failpoint("outcome_synced"),
            _ => {}
        }
    }
}
