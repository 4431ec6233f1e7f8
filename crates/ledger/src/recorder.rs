//! Opens and closes records. What is open is durable; what is closed is durable.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use record::{
    BlobClass, Clock, Digest, Event, Job, LeafBody, Outcome, OutcomeLeaf, RecordId, ResultFacts, Retained,
    SessionId, Statement, Status, Timestamp, Uploaded, Window,
};
use registry::{Vault, VaultError};
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use tokio::sync::{mpsc, oneshot, watch};

use crate::append::{Append, Blobs, Digests};
use crate::body::Body;
use crate::drafts::{Closing, EventDraft, IntentDraft, LeftOutDraft};
use crate::index::Index;
use crate::layout::{Layout, LockError};
use crate::recover;
use crate::sealing::{Blob, Payload, Sealer, Unpacking};
use crate::text::StatementText;
use crate::under_way::{Progress, Seen, Shown, UnderWay};
use crate::wal;
use crate::writer::{Command, Done, QUEUE_MAX, Writer, WriterConfig};

/// A reply is released in windows of so many decoded bytes and what the last part that was read brings beyond them, each
/// durable before it leaves.
pub const WINDOW_BYTES: usize = 1024 * 1024;
/// Larger payloads, and packed ones, are compressed and sealed by themselves, on a blocking thread; smaller ones with others.
const SEAL_INLINE_BYTES_MAX: usize = 64 * 1024;

/// How much of an exchange is kept.
#[derive(Clone, Copy, Debug)]
pub struct Recording {
    pub results: Retained,
    /// Of an upload, `Rows` means its bytes.
    pub uploads: Retained,
    /// A rule leaves the exchange out: what its answer teaches is not kept either.
    pub is_excluded: bool,
}

/// What an append waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The disk.
    Strict,
    /// The file: a power failure may cost at most 1 s or 64 MiB, and a gap record says so.
    Spool,
}

/// What a ledger is opened with.
pub struct LedgerConfig {
    pub layout: Layout,
    pub vault: Arc<Vault>,
    pub clock: Arc<dyn Clock>,
    pub durability: Durability,
    /// Nothing new is admitted while fewer bytes of the disk are free; absent = 256 MiB or a twentieth of it.
    pub disk_floor: Option<u64>,
    /// Turns back what was packed before it was given.
    pub unpacking: Arc<dyn Unpacking>,
}

/// What the writer and its ledger tell each other.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) sync_micros: AtomicU64,
    /// The disk is below its floor.
    pub(crate) disk_low: AtomicBool,
    /// Something could not be written, and that is not recorded yet.
    pub(crate) has_gap: AtomicBool,
    policy: RwLock<String>,
}

impl Shared {
    pub(crate) fn policy(&self) -> String {
        self.policy.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// The ledger of one data folder, which is ours as long as this lives.
pub struct Ledger {
    pub(crate) layout: Layout,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) index: Arc<Index>,
    pub(crate) clock: Arc<dyn Clock>,
    queue: Option<mpsc::Sender<Command>>,
    pub(crate) durable: watch::Receiver<u64>,
    threads: Vec<std::thread::JoinHandle<()>>,
    node_session: SessionId,
    shared: Arc<Shared>,
    pub(crate) under_way: Arc<UnderWay>,
    /// Records that were still open when the folder was opened, and are closed as `interrupted` now.
    pub interrupted: u64,
    _lock: File,
}

impl Ledger {
    /// Takes the folder, recovers what a crash left, brings the index up to date, starts the writer.
    pub fn open(config: LedgerConfig) -> Result<Self, LedgerError> {
        let LedgerConfig { layout, vault, clock, durability, disk_floor, unpacking } = config;
        layout.create().map_err(|error| io(layout.root(), error))?;
        let lock = layout.lock().map_err(|error| LedgerError::Lock(Arc::new(error)))?;
        wal::replay(&layout)?;
        let sealer = Arc::new(Sealer::new(vault, layout.clone(), unpacking));
        let end = recover::log_end(&layout)?;
        let index = Arc::new(Index::open(&layout, sealer.clone(), &end)?);
        index.catch_up(end.next_n)?;
        let (heads, indexed) = (index.clone(), index.clone());
        let node_session = SessionId::new(clock.now());
        let shared = Arc::new(Shared::default());
        let (writer, durable, readable) = Writer::new(WriterConfig {
            layout: layout.clone(),
            clock: clock.clone(),
            sealer: sealer.clone(),
            durability,
            disk_floor,
            node: node_session,
            end,
            find_head: Box::new(move |session| heads.head(session)),
            indexed: Box::new(move || indexed.position()),
            shared: shared.clone(),
        });
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let follower = index.clone();
        let threads = vec![
            spawn("journal", move || writer.run(waiting)),
            spawn("index", move || follower.follow(readable)),
        ];
        let mut ledger = Self {
            layout,
            sealer,
            index,
            clock,
            queue: Some(queue),
            durable,
            threads,
            node_session,
            shared,
            under_way: Arc::default(),
            interrupted: 0,
            _lock: lock,
        };
        recover::power_failure(&ledger, durability)?;
        ledger.interrupted = recover::close_open_records(&ledger)?;
        Ok(ledger)
    }

    /// The session of what this process records about itself.
    pub fn node_session(&self) -> SessionId {
        self.node_session
    }

    /// Whether the journal takes something new: its last round came to the disk, the disk is not low, and its
    /// thread runs.
    pub fn probe(&self) -> Result<(), LedgerError> {
        match self.queue.as_ref().is_some_and(|queue| !queue.is_closed()) {
            false => Err(LedgerError::Stopped),
            true if self.is_disk_low() => Err(LedgerError::DiskFloor),
            true if self.shared.has_gap.load(Ordering::Relaxed) => {
                Err(LedgerError::Damaged("its last round could not be written".to_owned()))
            }
            true => Ok(()),
        }
    }

    /// Whether so little of the disk is free that nothing new is admitted.
    pub fn is_disk_low(&self) -> bool {
        self.shared.disk_low.load(Ordering::Relaxed)
    }

    /// Which configuration rules from here on: records of one leaf name it.
    pub fn set_policy(&self, hash: &str) {
        hash.clone_into(&mut self.shared.policy.write().unwrap_or_else(|poisoned| poisoned.into_inner()));
    }

    /// Makes every file of the journal durable by itself and drops the write-ahead log. Blocks.
    pub(crate) fn checkpoint(&self) -> Result<(), LedgerError> {
        self.command_blocking(Command::Checkpoint)
    }

    /// How long the last round took to become durable.
    pub fn last_sync(&self) -> std::time::Duration {
        std::time::Duration::from_micros(self.shared.sync_micros.load(Ordering::Relaxed))
    }

    /// Durable leaves that the index has not read yet.
    pub fn index_lag(&self) -> u64 {
        self.durable.borrow().saturating_sub(self.index.position())
    }

    /// Makes the intent durable. Until this returns, nothing may move.
    pub async fn open_record(
        &self,
        draft: IntentDraft,
        recording: Recording,
    ) -> Result<OpenRecord, LedgerError> {
        let id = RecordId::new(draft.received);
        self.open_record_as(id, Box::new(draft), recording).await
    }

    /// The same, under an id that was given out before.
    pub async fn open_record_as(
        &self,
        id: RecordId,
        mut draft: Box<IntentDraft>,
        recording: Recording,
    ) -> Result<OpenRecord, LedgerError> {
        let session = draft.session;
        let left_out = draft.left_out.take();
        let blobs = Blobs { text: self.seal_text(session, &draft.text).await, ..Blobs::default() };
        let now = self.clock.now();
        let sql = Seen::sql_of(&draft);
        let body = Body::prepare(LeafBody::Intent(draft.into_intent(id)), &self.sealer, session, now).await;
        let upload = Arc::new(Mutex::new(Counted::new()));
        let seen = Seen::new(session, &body, sql, upload.clone());
        let queue = self.queue.as_ref().ok_or(LedgerError::Stopped)?.clone();
        send(&queue, session, body, blobs).await?;
        Ok(OpenRecord {
            id,
            session,
            recording,
            left_out,
            queue: Some(queue),
            sealer: self.sealer.clone(),
            clock: self.clock.clone(),
            result: Counted::new(),
            upload,
            shown: seen.show(id, self.under_way.clone()),
            passing: {
                let (passing, passed) = mpsc::channel(1);
                (Some(passing), passed)
            },
            parts: Parts::Recorded,
        })
    }

    /// Writes a record of one leaf and waits until it is durable.
    pub async fn event(&self, draft: EventDraft) -> Result<RecordId, LedgerError> {
        let (id, session, body) = self.event_body(draft);
        let body = Body::prepare(body, &self.sealer, session, self.clock.now()).await;
        send(self.queue.as_ref().ok_or(LedgerError::Stopped)?, session, body, Blobs::default()).await?;
        Ok(id)
    }

    /// The same from a thread that may block.
    pub fn event_blocking(&self, draft: EventDraft) -> Result<RecordId, LedgerError> {
        let (id, session, body) = self.event_body(draft);
        self.append_blocking(session, body)?;
        Ok(id)
    }

    /// Queues a record of one leaf without waiting; false if the queue is full.
    pub fn event_unwaited(&self, draft: EventDraft) -> Option<RecordId> {
        let (id, session, body) = self.event_body(draft);
        let body = Body::new(body, &self.sealer, session, self.clock.now());
        let queue = self.queue.as_ref()?;
        let append = Append::unwaited(session, body, Digests::default());
        queue.try_send(Command::Append(append)).ok().map(|()| id)
    }

    /// The same from a thread that may block.
    pub(crate) fn append_blocking(&self, session: SessionId, body: LeafBody) -> Result<(), LedgerError> {
        let body = Body::new(body, &self.sealer, session, self.clock.now());
        self.command_blocking(|done| Command::Append(Append { session, body, blobs: Blobs::default(), done }))
    }

    fn command_blocking(&self, command: impl FnOnce(Done) -> Command) -> Result<(), LedgerError> {
        let queue = self.queue.as_ref().ok_or(LedgerError::Stopped)?;
        let (done, mut written) = oneshot::channel();
        let mut waiting = command(done);
        while let Err(error) = queue.try_send(waiting) {
            match error {
                mpsc::error::TrySendError::Full(back) => waiting = back,
                mpsc::error::TrySendError::Closed(_) => return Err(LedgerError::Stopped),
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        loop {
            match written.try_recv() {
                Ok(result) => return result,
                Err(oneshot::error::TryRecvError::Empty) => {
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
                Err(oneshot::error::TryRecvError::Closed) => return Err(LedgerError::Stopped),
            }
        }
    }

    fn event_body(&self, draft: EventDraft) -> (RecordId, SessionId, LeafBody) {
        let id = draft.id.unwrap_or_else(|| RecordId::new(self.clock.now()));
        let event = Event {
            id,
            kind: draft.kind,
            actor: draft.actor,
            client: draft.client,
            status: draft.status,
            outcome: draft.outcome,
            event: draft.event,
            policy: self.shared.policy(),
        };
        (id, draft.session, LeafBody::Event(Box::new(event)))
    }

    async fn seal_text(&self, session: SessionId, text: &StatementText) -> Option<Blob> {
        if text.is_empty() {
            return None;
        }
        Some(
            seal(
                &self.sealer,
                BlobClass::Statements,
                session,
                self.clock.now(),
                Bytes::from(text.encode()).into(),
            )
            .await,
        )
    }

    /// Waits until everything accepted is written, then stops the threads. Blocks.
    pub fn stop(mut self) {
        self.stop_threads();
    }

    fn stop_threads(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.stop_threads();
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).expect("the system gives a thread at start")
}

/// Sends an append and waits until it is durable.
async fn send(
    queue: &mpsc::Sender<Command>,
    session: SessionId,
    body: Body,
    blobs: Blobs,
) -> Result<(), LedgerError> {
    let (done, written) = oneshot::channel();
    let append = Command::Append(Append { session, body, blobs, done });
    queue.send(append).await.map_err(|_| LedgerError::Stopped)?;
    written.await.map_err(|_| LedgerError::Stopped)?
}

async fn seal(
    sealer: &Arc<Sealer>,
    class: BlobClass,
    session: SessionId,
    at: Timestamp,
    payload: Payload,
) -> Blob {
    if payload.packed.is_none() && payload.bytes.len() <= SEAL_INLINE_BYTES_MAX {
        return Blob::Loose(sealer.loose(class, payload.bytes));
    }
    let sealer = sealer.clone();
    tokio::task::spawn_blocking(move || sealer.seal(class, session, at, &payload))
        .await
        .expect("sealing does not panic")
}

/// A record whose intent is durable. Close it; one that is dropped is closed as `aborted` behind the scenes.
#[must_use = "an open record is closed by `close`"]
pub struct OpenRecord {
    id: RecordId,
    session: SessionId,
    recording: Recording,
    left_out: Option<Box<LeftOutDraft>>,
    queue: Option<mpsc::Sender<Command>>,
    sealer: Arc<Sealer>,
    clock: Arc<dyn Clock>,
    result: Counted,
    upload: Arc<Mutex<Counted>>,
    shown: Shown,
    /// Every recorder of the upload has a clone of the sender.
    passing: (Option<mpsc::Sender<()>>, mpsc::Receiver<()>),
    parts: Parts,
}

/// Records what a client uploads while it passes; made by its open record.
#[derive(Clone)]
pub struct UploadRecorder {
    id: RecordId,
    session: SessionId,
    keeps_bytes: bool,
    queue: mpsc::Sender<Command>,
    sealer: Arc<Sealer>,
    clock: Arc<dyn Clock>,
    counted: Arc<Mutex<Counted>>,
    _passing: mpsc::Sender<()>,
}

impl UploadRecorder {
    /// Counts a part and, where uploads are kept, makes it durable. When this returns, it may go upstream.
    pub async fn record(&self, bytes: Bytes) -> Result<(), LedgerError> {
        let number = self.count(&bytes)?;
        if !self.keeps_bytes {
            return Ok(());
        }
        self.durably(number, bytes).await
    }

    /// Counts a part and makes it durable that it came, whether or not its bytes are kept. When this returns, it
    /// may go upstream.
    pub async fn record_durably(&self, bytes: Bytes) -> Result<(), LedgerError> {
        let number = self.count(&bytes)?;
        self.durably(number, bytes).await
    }

    /// Counts a part, unless the record is closing: then it must not go upstream.
    fn count(&self, bytes: &[u8]) -> Result<u64, LedgerError> {
        let mut counted = self.counted.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if counted.is_over { Err(LedgerError::Stopped) } else { Ok(counted.take(bytes)) }
    }

    async fn durably(&self, number: u64, bytes: Bytes) -> Result<(), LedgerError> {
        let len = bytes.len() as u64;
        let data = match self.keeps_bytes {
            true => Some(
                seal(&self.sealer, BlobClass::Uploads, self.session, self.clock.now(), bytes.into()).await,
            ),
            false => None,
        };
        let window = Window { id: self.id, window: number, bytes: len, upload: true };
        let now = self.clock.now();
        let body = Body::prepare(LeafBody::Window(window), &self.sealer, self.session, now).await;
        send(&self.queue, self.session, body, Blobs { data, ..Blobs::default() }).await
    }
}

/// What became of the parts of the reply that were counted; the worst of them counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Parts {
    Recorded,
    /// One may be recorded or not: nothing is said of the whole.
    UnderWay,
    /// One could not be recorded, so it was not released.
    Withheld,
}

/// Bytes that passed in one direction.
pub(crate) struct Counted {
    pub(crate) bytes: u64,
    windows: u64,
    hash: Context,
    /// No more is counted.
    is_over: bool,
}

impl Counted {
    fn new() -> Self {
        Self { bytes: 0, windows: 0, hash: Context::new(&SHA256), is_over: false }
    }

    /// Counts a part; returns its number.
    fn take(&mut self, bytes: &[u8]) -> u64 {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
        self.windows += 1;
        self.windows - 1
    }

    /// Of all that passed.
    fn digest(&self) -> Digest {
        Digest(self.hash.clone().finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl OpenRecord {
    /// The record's id.
    pub fn id(&self) -> RecordId {
        self.id
    }

    /// The session it belongs to.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Whether what is delivered is kept, not only counted.
    pub fn keeps_rows(&self) -> bool {
        self.recording.results == Retained::Rows
    }

    /// Makes a part of the reply durable. When this returns, it may be released.
    pub async fn window(&mut self, part: Payload) -> Result<(), LedgerError> {
        let number = self.result.take(&part.bytes);
        let before = self.parts;
        self.parts = before.max(Parts::UnderWay);
        let bytes = part.bytes.len() as u64;
        let data = match self.recording.results {
            Retained::Rows => Some(self.seal(BlobClass::Rows, part).await),
            Retained::Hash | Retained::None => None,
        };
        let window = Window { id: self.id, window: number, bytes, upload: false };
        let sent = self.send(LeafBody::Window(window), Blobs { data, ..Blobs::default() }).await;
        self.parts = if sent.is_ok() { before } else { Parts::Withheld };
        self.shown.window(if sent.is_ok() { bytes } else { 0 });
        sent
    }

    /// Says how whoever asks what is under way is told how far this is.
    pub fn show_progress(&self, progress: Progress) {
        *self.shown.seen.progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(progress);
    }

    /// For the body of this exchange's request, which passes while the record is open.
    pub fn upload_recorder(&self) -> UploadRecorder {
        UploadRecorder {
            id: self.id,
            session: self.session,
            keeps_bytes: self.recording.uploads == Retained::Rows,
            queue: self.queue.as_ref().expect("an open record has its queue").clone(),
            sealer: self.sealer.clone(),
            clock: self.clock.clone(),
            counted: self.upload.clone(),
            _passing: self.passing.0.clone().expect("no recorder is made once the upload is over"),
        }
    }

    /// Waits until the upload is over, as long as more of it comes within `idle`: an answer may come before its end.
    pub async fn upload_passed(&mut self, idle: std::time::Duration) {
        self.passing.0 = None;
        let bytes =
            |upload: &Mutex<Counted>| upload.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).bytes;
        loop {
            let before = bytes(&self.upload);
            match tokio::time::timeout(idle, self.passing.1.recv()).await {
                Ok(_) => return,
                Err(_) if bytes(&self.upload) == before => return,
                Err(_) => {}
            }
        }
    }

    /// Makes the outcome durable, with the last part of the reply. When this returns, that part and the end may
    /// be released.
    pub async fn close(mut self, closing: Closing, last: Payload) -> Result<ClosedRecord, LedgerError> {
        let left_out = self.left_out.take().filter(|_| closing.is_another);
        if let Some(left_out) = &left_out {
            self.recording.is_excluded = false;
            // What left before can't be kept any more.
            if self.result.windows == 0 {
                self.recording.results = left_out.results;
            }
        }
        let closing = self.kept(closing);
        let mut data = None;
        if !last.bytes.is_empty() {
            self.result.take(&last.bytes);
            self.parts = self.parts.max(Parts::UnderWay);
            if self.recording.results == Retained::Rows {
                data = Some(self.seal(BlobClass::Rows, last).await);
            }
        }
        let (facts, text) = match left_out {
            Some(left_out) => (Some(Box::new(left_out.facts)), left_out.text),
            None => (None, StatementText::default()),
        };
        let text =
            StatementText { message: closing.status.message.clone(), schema: closing.schema.clone(), ..text };
        let text = match text.is_empty() {
            true => None,
            false => Some(self.seal(BlobClass::Statements, Bytes::from(text.encode()).into()).await),
        };
        let (mut outcome, digests) = self.outcome(closing);
        outcome.left_out = facts;
        let now = self.clock.now();
        let body = Body::prepare(LeafBody::Outcome(Box::new(outcome)), &self.sealer, self.session, now).await;
        let queue = self.queue.take().expect("taken only here and in drop");
        let sent = send(&queue, self.session, body, Blobs { text, data, digests }).await;
        match sent {
            Ok(()) => Ok(ClosedRecord { id: self.id }),
            // The writer has what is left of it, and closes it with the record of the gap; a writer that is gone
            // leaves it to the recovery of the next start.
            Err(error) => Err(error),
        }
    }

    /// What is known of how it ended, without what a rule leaves out.
    fn kept(&self, closing: Closing) -> Closing {
        match self.recording.is_excluded {
            true => Closing {
                statement: Statement::default(),
                job: Job::default(),
                location: String::new(),
                schema: None,
                status: Status { message: String::new(), ..closing.status },
                ..closing
            },
            false => closing,
        }
    }

    fn outcome(&self, closing: Closing) -> (OutcomeLeaf, Digests) {
        let kept = self.recording.results;
        let mut upload = self.upload.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // From here on nothing more goes upstream: what the record says is all of it.
        upload.is_over = true;
        // A part of the last window that was recorded may never have left.
        let delivered = closing.released.unwrap_or(self.result.bytes).min(self.result.bytes);
        let is_all = delivered == self.result.bytes;
        let digests = Digests {
            result: (kept != Retained::None && self.result.bytes > 0 && is_all)
                .then(|| self.sealer.digest(BlobClass::Rows, self.result.digest())),
            upload: (upload.windows > 0 && !self.recording.is_excluded)
                .then(|| self.sealer.digest(BlobClass::Uploads, upload.digest())),
        };
        let outcome = OutcomeLeaf {
            id: self.id,
            outcome: closing.outcome,
            forwarded: closing.forwarded,
            first_byte: closing.first_byte,
            done: self.clock.now(),
            uploaded: (upload.windows > 0).then_some(Uploaded { bytes: upload.bytes, sha256: None }),
            statement: closing.statement,
            job: closing.job,
            location: closing.location,
            result: ResultFacts {
                rows: closing.rows,
                bytes: delivered,
                delivered_at_most: (!is_all).then_some(delivered),
                wire_bytes: closing.wire_bytes,
                pages: self.result.windows,
                retained: if self.result.bytes > 0 { kept } else { Retained::None },
                ..ResultFacts::default()
            },
            status: Status { message: String::new(), ..closing.status },
            left_out: None,
        };
        (outcome, digests)
    }

    async fn seal(&self, class: BlobClass, payload: Payload) -> Blob {
        seal(&self.sealer, class, self.session, self.clock.now(), payload).await
    }

    async fn send(&self, body: LeafBody, blobs: Blobs) -> Result<(), LedgerError> {
        let queue = self.queue.as_ref().ok_or(LedgerError::Stopped)?;
        let body = Body::prepare(body, &self.sealer, self.session, self.clock.now()).await;
        send(queue, self.session, body, blobs).await
    }
}

impl Drop for OpenRecord {
    /// Nobody closed it: its task was torn down. It is closed as aborted if the queue has a place, and by
    /// recovery if not.
    fn drop(&mut self) {
        let Some(queue) = self.queue.take() else { return };
        let reason = if self.parts == Parts::Withheld { "withheld" } else { "abandoned" };
        let status = Status { reason: reason.to_owned(), ..Status::default() };
        let (mut outcome, mut digests) = self.outcome(Closing::new(Outcome::Aborted, status));
        if self.parts == Parts::Withheld {
            outcome.result.retained = Retained::None;
        }
        if self.parts != Parts::Recorded {
            digests.result = None;
        }
        let now = self.clock.now();
        let body = Body::new(LeafBody::Outcome(Box::new(outcome)), &self.sealer, self.session, now);
        let _ = queue.try_send(Command::Append(Append::unwaited(self.session, body, digests)));
    }
}

/// Proof that a record is closed and durable.
#[derive(Debug)]
pub struct ClosedRecord {
    id: RecordId,
}

impl ClosedRecord {
    /// The record's id.
    pub fn id(&self) -> RecordId {
        self.id
    }
}

/// Why the ledger could not do it.
#[derive(Clone, Debug)]
pub enum LedgerError {
    Io {
        path: PathBuf,
        error: Arc<std::io::Error>,
    },
    Lock(Arc<LockError>),
    /// The log itself does not hold together.
    Damaged(String),
    /// What is kept of its result is not what its outcome says was delivered.
    Differs(RecordId),
    /// Retention destroyed what was asked for.
    Expired,
    Sealed(VaultError),
    Index(String),
    LeafTooLong(usize),
    /// The disk is nearly full: what is open may be closed, nothing new is admitted.
    DiskFloor,
    Stopped,
}

pub(crate) fn io(path: &Path, error: std::io::Error) -> LedgerError {
    LedgerError::Io { path: path.to_owned(), error: Arc::new(error) }
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Lock(error) => error.fmt(f),
            Self::Damaged(what) => write!(f, "the journal is damaged: {what}; run 'hansard verify'"),
            Self::Differs(record) => {
                write!(
                    f,
                    "what is kept of record {record} is not what was delivered, by its outcome's SHA-256"
                )
            }
            Self::Expired => f.write_str("retention has destroyed it"),
            Self::Sealed(error) => error.fmt(f),
            Self::Index(why) => write!(f, "index: {why}"),
            Self::LeafTooLong(bytes) => write!(f, "a leaf of {bytes} bytes is too long"),
            Self::DiskFloor => f.write_str("the disk is nearly full; free some space, or shorten retention"),
            Self::Stopped => f.write_str("the ledger has stopped"),
        }
    }
}

impl std::error::Error for LedgerError {}
