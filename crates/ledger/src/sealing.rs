//! Blobs: salted, committed to, compressed, sealed with the key of their session, class and day.
//!
//! What a session writes in one round is sealed together: small answers compress well beside each other. A
//! group is `length (4) | entries, compressed`, an entry `tag (1) | salt (32) | bytes`; a reference says which group, and
//! where in it. A large payload has a group of its own, of length 0 for it is kept as it is: its one entry's bytes are
//! `length (4) | payload, compressed`, so that what is committed to, and hashed for it, is the short form.
//!
//! Destroying a day's folder destroys its blobs and the keys to them at once; the leaves' commitments stay
//! valid and, for want of the salt, say nothing about what they committed to.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use record::{BlobClass, BlobRef, Digest, SessionId, Timestamp};
use registry::{DataKey, SEAL_ROOM_BYTES, Vault, random_bytes};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::Cursor;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::layout::Layout;
use crate::recorder::LedgerError;
use crate::{frame, recorder};

const COMMIT_CONTEXT: &[u8] = b"hansard/blob/v1\0";
/// Of entries that are compressed by themselves: their tag is committed to as well.
const COMMIT_CONTEXT_TAGGED: &[u8] = b"hansard/blob/v2\0";
/// Commits to SHA-256 digests, whose tag is `DIGEST`.
const COMMIT_CONTEXT_DIGEST: &[u8] = b"hansard/digest/v1\0";
const SALT_BYTES: usize = 32;
const ENTRY_HEADER_BYTES: usize = 1 + SALT_BYTES;
/// Bits of an entry's tag: its payload was packed; its bytes are compressed by themselves.
const PACKED: u8 = 1;
const COMPRESSED: u8 = 2;
/// The tag of an entry that is a SHA-256 digest; goes with no other.
const DIGEST: u8 = 4;
/// The length of a group whose entries are not compressed together.
const AS_THEY_ARE: u32 = 0;
/// Up to here, a group of short payloads is short itself.
const SHORT_BYTES: usize = 64 * 1024;
/// Parsed key files that are kept.
const KEY_FILES_MAX: usize = 8;
/// A key frame is a session and a wrapped key.
const KEY_BYTES_MAX: usize = 256;
/// A group is sealed when it holds so many bytes.
pub(crate) const GROUP_BYTES: usize = 1024 * 1024;
/// A group is at most that and one more entry.
const GROUP_BYTES_MAX: usize = 40 * 1024 * 1024;
/// Tries of what the system fails to read, and the time between them.
const READS_MAX: u32 = 4;
const READ_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// Opened groups that are kept: whoever reads in order opens each once.
const OPENED_MAX: usize = 6;

/// Turns packed payloads back. The room that knows the payloads' language has it.
pub trait Unpacking: Send + Sync {
    /// The payload that was packed.
    fn unpack(&self, packed: &[u8]) -> Option<Vec<u8>>;
}

/// Where no payload is packed.
pub struct NoPacking;

impl Unpacking for NoPacking {
    fn unpack(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// What is to be kept.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    pub bytes: Bytes,
    /// A shorter form that `Unpacking` turns back into the same bytes, where there is one.
    pub packed: Option<Vec<u8>>,
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, packed: None }
    }
}

/// A payload on its way to the writer, committed to.
#[derive(Clone)]
pub(crate) struct Loose {
    pub(crate) class: BlobClass,
    tag: u8,
    salt: [u8; SALT_BYTES],
    payload: Bytes,
    pub(crate) commit: Digest,
}

/// A sealed group, as a frame's payload.
pub(crate) struct Group {
    pub(crate) class: BlobClass,
    pub(crate) day: String,
    /// Session and ciphertext.
    pub(crate) payload: Vec<u8>,
    /// The key of its session, class and day.
    pub(crate) key: Arc<SessionKey>,
}

/// A blob on its way to the writer: to be sealed with others, or sealed already because it is large.
pub(crate) enum Blob {
    Loose(Loose),
    Sealed { group: Group, size: u64, commit: Digest },
}

impl Blob {
    /// About how many bytes it brings.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Loose(loose) => loose.payload.len(),
            Self::Sealed { group, .. } => group.payload.len(),
        }
    }
}

/// Entries that will be sealed together.
#[derive(Default)]
pub(crate) struct Entries {
    plain: Vec<u8>,
}

impl Entries {
    /// Adds one; returns where it begins and how many bytes it has.
    pub(crate) fn push(&mut self, loose: &Loose) -> (u64, u64) {
        let at = self.plain.len() as u64;
        self.plain.reserve(ENTRY_HEADER_BYTES + loose.payload.len());
        self.plain.push(loose.tag);
        self.plain.extend_from_slice(&loose.salt);
        self.plain.extend_from_slice(&loose.payload);
        (at, loose.payload.len() as u64)
    }

    /// Whether another group should begin.
    pub(crate) fn is_full(&self) -> bool {
        self.plain.len() >= GROUP_BYTES
    }
}

/// A data key, and whether its wrapped form is already on the disk.
pub(crate) struct SessionKey {
    key: DataKey,
    pub(crate) wrapped: Vec<u8>,
    pub(crate) durable: AtomicBool,
}

/// Seals and opens blobs; keeps the day's keys.
pub(crate) struct Sealer {
    vault: Arc<Vault>,
    layout: Layout,
    keys: Mutex<KeyCache>,
    key_files: Mutex<HashMap<(BlobClass, String), KeyFile>>,
    unpacking: Arc<dyn Unpacking>,
    opened: Mutex<VecDeque<Opened>>,
}

/// A group that was opened.
struct Opened {
    class: BlobClass,
    segment: String,
    offset: u64,
    session: SessionId,
    plain: Arc<Vec<u8>>,
}

/// A day's key file, parsed.
struct KeyFile {
    len: u64,
    keys: HashMap<Vec<u8>, Vec<Vec<u8>>>,
}

#[derive(Default)]
struct KeyCache {
    day: String,
    keys: HashMap<(BlobClass, SessionId), Arc<SessionKey>>,
}

impl Sealer {
    pub(crate) fn new(vault: Arc<Vault>, layout: Layout, unpacking: Arc<dyn Unpacking>) -> Self {
        Self {
            vault,
            layout,
            keys: Mutex::default(),
            key_files: Mutex::default(),
            unpacking,
            opened: Mutex::default(),
        }
    }

    /// Commits to a payload; the writer seals it with its neighbours.
    pub(crate) fn loose(&self, class: BlobClass, payload: Bytes) -> Loose {
        let salt = random_bytes::<SALT_BYTES>();
        Loose { class, tag: 0, salt, commit: commit(0, &salt, &payload), payload }
    }

    /// Commits to a digest of what the class holds. Without the salt nobody can try what it may be of.
    pub(crate) fn digest(&self, class: BlobClass, digest: Digest) -> Loose {
        let salt = random_bytes::<SALT_BYTES>();
        let payload = Bytes::copy_from_slice(&digest.0);
        Loose { class, tag: DIGEST, salt, commit: commit(DIGEST, &salt, &payload), payload }
    }

    /// Seals a large payload by itself; takes some milliseconds for a MiB.
    pub(crate) fn seal(
        &self,
        class: BlobClass,
        session: SessionId,
        at: Timestamp,
        payload: &Payload,
    ) -> Blob {
        let (tag, stored, effort) = match &payload.packed {
            Some(packed) => (PACKED | COMPRESSED, packed.as_slice(), Effort::Usual),
            None if class == BlobClass::Rows => (COMPRESSED, &payload.bytes[..], Effort::Quick),
            None => (COMPRESSED, &payload.bytes[..], Effort::Usual),
        };
        let salt = random_bytes::<SALT_BYTES>();
        let (group, (size, commit)) = self.seal_with(class, session, &at.day(), |out| {
            out.extend_from_slice(&AS_THEY_ARE.to_le_bytes());
            out.push(tag);
            out.extend_from_slice(&salt);
            let from = out.len();
            compress(stored, effort, out);
            ((out.len() - from) as u64, commit(tag, &salt, &out[from..]))
        });
        Blob::Sealed { group, size, commit }
    }

    /// Compresses and seals what a session wrote.
    pub(crate) fn seal_group(
        &self,
        class: BlobClass,
        session: SessionId,
        day: &str,
        entries: &Entries,
    ) -> Group {
        let effort = if entries.plain.len() <= SHORT_BYTES { Effort::Quick } else { Effort::Usual };
        self.seal_with(class, session, day, |out| compress(&entries.plain, effort, out)).0
    }

    /// Seals what is written behind the session's name, where it will lie: a window of a long answer is not copied on the
    /// way. Also gives what the writing gave.
    fn seal_with<T>(
        &self,
        class: BlobClass,
        session: SessionId,
        day: &str,
        write: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> (Group, T) {
        let key = self.key_for(class, session, day);
        let mut payload = session.0.as_bytes().to_vec();
        let sealed_from = payload.len();
        payload.extend_from_slice(&[0; SEAL_ROOM_BYTES]);
        let written = write(&mut payload);
        key.key.seal_in_place(&context(class, session), &mut payload, sealed_from);
        (Group { class, day: day.to_owned(), payload, key }, written)
    }

    fn key_for(&self, class: BlobClass, session: SessionId, day: &str) -> Arc<SessionKey> {
        let mut cache = self.keys.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if cache.day != day {
            *cache = KeyCache { day: day.to_owned(), keys: HashMap::new() };
        }
        let key = cache.keys.entry((class, session)).or_insert_with(|| {
            let (key, wrapped) = self.vault.new_data_key(&context(class, session));
            Arc::new(SessionKey { key, wrapped, durable: AtomicBool::new(false) })
        });
        key.clone()
    }

    /// The payload behind a reference. `Expired` where retention dropped it.
    pub(crate) fn open(&self, session: SessionId, blob: &BlobRef) -> Result<Vec<u8>, LedgerError> {
        let damaged =
            || LedgerError::Damaged(format!("{}/{} at {}", blob.class.folder(), blob.segment, blob.offset));
        let group = self.group(session, blob)?;
        payload_of(&group, blob, &*self.unpacking).ok_or_else(damaged)
    }

    /// Opens it for the index, which is shown without what it could not read until it is built anew: what the system
    /// failed to read is read once more.
    pub(crate) fn open_patiently(&self, session: SessionId, blob: &BlobRef) -> Result<Vec<u8>, LedgerError> {
        for _ in 1..READS_MAX {
            match self.open(session, blob) {
                Err(LedgerError::Io { .. }) => std::thread::sleep(READ_AGAIN_AFTER),
                done => return done,
            }
        }
        self.open(session, blob)
    }

    /// Opens the digest behind a reference, for the index.
    pub(crate) fn open_digest(&self, session: SessionId, blob: &BlobRef) -> Result<Digest, LedgerError> {
        let bytes = self.open_patiently(session, blob)?;
        let digest =
            bytes.try_into().map_err(|_| LedgerError::Damaged("a digest that is none".to_owned()))?;
        Ok(Digest(digest))
    }

    /// The opened group of a reference; the ones opened last are kept.
    fn group(&self, session: SessionId, blob: &BlobRef) -> Result<Arc<Vec<u8>>, LedgerError> {
        let is_it = |opened: &Opened| {
            opened.offset == blob.offset
                && opened.class == blob.class
                && opened.segment == blob.segment
                && opened.session == session
        };
        let found = self.opened().iter().find(|opened| is_it(opened)).map(|opened| opened.plain.clone());
        // A day that retention has dropped is not read from memory either.
        if let Some(plain) = found
            && self.layout.blob_segment(blob.class, &blob.segment).exists()
        {
            return Ok(plain);
        }
        let plain = Arc::new(self.open_group(session, blob)?);
        let mut opened = self.opened();
        if opened.len() >= OPENED_MAX {
            opened.pop_front();
        }
        opened.push_back(Opened {
            class: blob.class,
            segment: blob.segment.clone(),
            offset: blob.offset,
            session,
            plain: plain.clone(),
        });
        Ok(plain)
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, VecDeque<Opened>> {
        self.opened.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn open_group(&self, session: SessionId, blob: &BlobRef) -> Result<Vec<u8>, LedgerError> {
        let path = self.layout.blob_segment(blob.class, &blob.segment);
        let framed = match read_frame(&path, blob) {
            Ok(framed) => framed,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(LedgerError::Expired),
            Err(error) => return Err(recorder::io(&path, error)),
        };
        let damaged = || LedgerError::Damaged(format!("{} at {}", path.display(), blob.offset));
        let (payload, _) = frame::first(&framed, frame::PAYLOAD_BYTES_MAX).ok_or_else(damaged)?;
        let sealed = payload.strip_prefix(session.0.as_bytes().as_slice()).ok_or_else(damaged)?;
        let clear = self.open_with_any_key(blob.class, session, blob.day(), sealed)?;
        entries_of(&clear).ok_or_else(damaged)
    }

    /// A session has one key a day, or several after restarts.
    fn open_with_any_key(
        &self,
        class: BlobClass,
        session: SessionId,
        day: &str,
        sealed: &[u8],
    ) -> Result<Vec<u8>, LedgerError> {
        if let Some(key) = self.key_in_use(class, session, day)
            && let Ok(clear) = key.key.open(&context(class, session), sealed)
        {
            return Ok(clear);
        }
        let wrapped_keys = self.wrapped_keys(class, session, day)?;
        for wrapped in &wrapped_keys {
            let key = self.vault.data_key(&context(class, session), wrapped).map_err(LedgerError::Sealed)?;
            if let Ok(clear) = key.open(&context(class, session), sealed) {
                return Ok(clear);
            }
        }
        match wrapped_keys.is_empty() {
            true => Err(LedgerError::Expired),
            false => Err(LedgerError::Damaged(self.layout.keys(class, day).display().to_string())),
        }
    }

    /// The key that this process seals with, if it is of that day.
    fn key_in_use(&self, class: BlobClass, session: SessionId, day: &str) -> Option<Arc<SessionKey>> {
        let cache = self.keys.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        (cache.day == day).then(|| cache.keys.get(&(class, session)).cloned()).flatten()
    }

    /// The session's keys of a day, from the day's file; the files read last are kept parsed.
    fn wrapped_keys(
        &self,
        class: BlobClass,
        session: SessionId,
        day: &str,
    ) -> Result<Vec<Vec<u8>>, LedgerError> {
        let path = self.layout.keys(class, day);
        // A file that can't be read for once is not one that retention took.
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => LedgerError::Expired,
            _ => recorder::io(&path, error),
        };
        let len = fs::metadata(&path).map_err(failed)?.len();
        let mut files = self.key_files.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let name = (class, day.to_owned());
        if files.get(&name).is_none_or(|file| file.len != len) {
            if files.len() >= KEY_FILES_MAX {
                files.clear();
            }
            let bytes = fs::read(&path).map_err(failed)?;
            let mut file = KeyFile { len: bytes.len() as u64, keys: HashMap::new() };
            for (_, payload) in frame::Frames::new(&bytes, 0, KEY_BYTES_MAX) {
                if let Some((session, wrapped)) = payload.split_at_checked(16) {
                    file.keys.entry(session.to_vec()).or_default().push(wrapped.to_vec());
                }
            }
            files.insert(name.clone(), file);
        }
        Ok(files[&name].keys.get(session.0.as_bytes().as_slice()).cloned().unwrap_or_default())
    }
}

/// A group's entries, of what was sealed.
fn entries_of(clear: &[u8]) -> Option<Vec<u8>> {
    match clear.split_first_chunk::<4>()? {
        (len, entries) if u32::from_le_bytes(*len) == AS_THEY_ARE => Some(entries.to_vec()),
        _ => decompress(clear, GROUP_BYTES_MAX),
    }
}

/// The tag, salt and bytes of an entry.
fn entry_of(group: &[u8], at: u64, size: u64) -> Option<(u8, &[u8], &[u8])> {
    let (at, size) = (usize::try_from(at).ok()?, usize::try_from(size).ok()?);
    let (header, rest) = group.get(at..)?.split_at_checked(ENTRY_HEADER_BYTES)?;
    Some((header[0], &header[1..], rest.get(..size)?))
}

/// The payload of an entry, if it is the one that was committed to.
fn payload_of(group: &[u8], blob: &BlobRef, unpacking: &dyn Unpacking) -> Option<Vec<u8>> {
    let (tag, salt, bytes) = entry_of(group, blob.at, blob.size)?;
    if commit(tag, salt, bytes) != blob.commit || (tag & !(PACKED | COMPRESSED) != 0 && tag != DIGEST) {
        return None;
    }
    let stored = match tag & COMPRESSED != 0 {
        true => decompress(bytes, GROUP_BYTES_MAX)?,
        false => bytes.to_vec(),
    };
    if tag & PACKED != 0 { unpacking.unpack(&stored) } else { Some(stored) }
}

/// Reads a group that may be anything, and an entry of it whose commitment holds.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn any_group(clear: &[u8], at: u64, size: u64) {
    let Some(group) = entries_of(clear) else { return };
    let entry = entry_of(&group, at, size);
    let commit = entry.map_or(Digest([0; 32]), |(tag, salt, bytes)| commit(tag, salt, bytes));
    let (class, segment) = (BlobClass::Rows, String::new());
    let blob = BlobRef { class, segment, offset: 0, len: 0, at, size, commit };
    let _ = payload_of(&group, &blob, &NoPacking);
}

/// How much work a payload is worth.
#[derive(Clone, Copy)]
pub(crate) enum Effort {
    /// Rows by column, uploads and long texts.
    Usual,
    /// Leaves; what a round brings of short ones, whose tables would cost more than they save; and rows in a form that is
    /// dense already (Arrow, Avro), which pass by the gigabyte.
    Quick,
}

/// Appends the payload's length and the payload, compressed. A compressor's tables are large, so each thread keeps its own.
pub(crate) fn compress(payload: &[u8], effort: Effort, out: &mut Vec<u8>) {
    type Compressor = RefCell<zstd::bulk::Compressor<'static>>;
    fn of_level(level: i32) -> Compressor {
        RefCell::new(zstd::bulk::Compressor::new(level).expect("the level is a valid one"))
    }
    thread_local! {
        static USUAL: Compressor = of_level(1);
        static QUICK: Compressor = of_level(-3);
    }
    let compressor = match effort {
        Effort::Usual => &USUAL,
        Effort::Quick => &QUICK,
    };
    out.extend_from_slice(&u32::try_from(payload.len()).expect("payloads are bounded").to_le_bytes());
    let start = out.len();
    out.reserve(zstd::zstd_safe::compress_bound(payload.len()));
    let mut behind = Cursor::new(std::mem::take(out));
    behind.set_position(start as u64);
    let packed = compressor.with_borrow_mut(|compressor| compressor.compress_to_buffer(payload, &mut behind));
    packed.expect("compressing into memory that has room does not fail");
    *out = behind.into_inner();
}

/// The payload that was compressed; none if it is not whole, or longer than `bytes_max`.
pub(crate) fn decompress(compressed: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    thread_local! {
        static DECOMPRESSOR: RefCell<zstd::bulk::Decompressor<'static>> =
            RefCell::new(zstd::bulk::Decompressor::new().expect("without a dictionary"));
    }
    let (len, packed) = compressed.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > bytes_max {
        return None;
    }
    let plain = DECOMPRESSOR.with_borrow_mut(|decompressor| decompressor.decompress(packed, len));
    plain.ok().filter(|plain| plain.len() == len)
}

fn read_frame(path: &std::path::Path, blob: &BlobRef) -> std::io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let file = fs::File::open(path)?;
    if blob.len > (frame::PAYLOAD_BYTES_MAX + frame::HEADER_BYTES) as u64 {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "a blob longer than any"));
    }
    let mut framed = vec![0; blob.len as usize];
    file.read_exact_at(&mut framed, blob.offset)?;
    Ok(framed)
}

fn context(class: BlobClass, session: SessionId) -> Vec<u8> {
    [COMMIT_CONTEXT, class.folder().as_bytes(), session.0.as_bytes()].concat()
}

fn commit(tag: u8, salt: &[u8], stored: &[u8]) -> Digest {
    let mut hash = Context::new(&SHA256);
    if tag == DIGEST {
        hash.update(COMMIT_CONTEXT_DIGEST);
    } else if tag & COMPRESSED != 0 {
        hash.update(COMMIT_CONTEXT_TAGGED);
        hash.update(&[tag]);
    } else {
        hash.update(COMMIT_CONTEXT);
    }
    hash.update(salt);
    hash.update(stored);
    Digest(hash.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// The SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> Digest {
    let hash = aws_lc_rs::digest::digest(&SHA256, bytes);
    Digest(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// The RFC 6962 leaf hash: `SHA-256(0x00 || leaf)`.
pub(crate) fn leaf_hash(leaf: &[u8]) -> Digest {
    let mut hash = Context::new(&SHA256);
    hash.update(&[0]);
    hash.update(leaf);
    Digest(hash.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_group_is_no_panic(clear in prop::collection::vec(any::<u8>(), 0..300), at: u64, size: u64) {
            any_group(&clear, at, size);
            any_group(&[AS_THEY_ARE.to_le_bytes().as_slice(), &clear].concat(), at % 300, size % 300);
        }
    }

    /// Of what is the same text twice, once is packed.
    struct Twice;

    impl Unpacking for Twice {
        fn unpack(&self, packed: &[u8]) -> Option<Vec<u8>> {
            Some(packed.repeat(2))
        }
    }

    struct Folder(Sealer, SessionId);

    impl Folder {
        fn new(test: &str) -> Self {
            let root = std::env::temp_dir().join(format!("hansard-sealing-{test}-{}", std::process::id()));
            let layout = Layout::new(&root);
            layout.create().unwrap();
            let vault = Vault::from_text(&Vault::new_key_text()).unwrap();
            Self(Sealer::new(Arc::new(vault), layout, Arc::new(Twice)), SessionId::new(now()))
        }

        /// Puts a group into its file, and reads an entry of it.
        fn read(&self, group: Group, size: u64, commit: Digest) -> Result<Vec<u8>, LedgerError> {
            static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
            let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let segment = format!("{}/{number:06}", group.day);
            let path = self.0.layout.blob_segment(group.class, &segment);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut framed = Vec::new();
            frame::push(&mut framed, &group.payload);
            fs::write(path, &framed).unwrap();
            let len = framed.len() as u64;
            let blob = BlobRef { class: group.class, segment, offset: 0, len, at: 0, size, commit };
            self.0.open(self.1, &blob)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.layout.root());
        }
    }

    fn now() -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000)
    }

    #[test]
    fn a_large_payload_comes_back_in_every_form() {
        let folder = Folder::new("large");
        for (class, payload, packed) in [
            (BlobClass::Rows, b"0123456789".repeat(30_000), Some(b"0123456789".repeat(15_000))),
            (BlobClass::Rows, b"0123456789".repeat(30_000), None),
            (BlobClass::Statements, b"SELECT 1;\n".repeat(20_000), None),
        ] {
            let payload = Payload { bytes: payload.into(), packed };
            let seal = || match folder.0.seal(class, folder.1, now(), &payload) {
                Blob::Sealed { group, size, commit } => (group, size, commit),
                Blob::Loose(_) => unreachable!("it is sealed by itself"),
            };
            let (group, size, commit) = seal();
            assert!(group.payload.len() < payload.bytes.len() / 10, "it is compressed");
            assert_eq!(folder.read(group, size, commit).unwrap(), payload.bytes);
            let (group, size, _) = seal();
            let other = folder.read(group, size, commit);
            assert!(matches!(other, Err(LedgerError::Damaged(_))), "each has a salt of its own");
        }
    }

    #[test]
    fn what_was_packed_and_compressed_with_its_group_is_still_read() {
        let folder = Folder::new("older");
        let salt = [7; SALT_BYTES];
        let entries = Entries { plain: [&[PACKED], salt.as_slice(), b"half"].concat() };
        let group = folder.0.seal_group(BlobClass::Rows, folder.1, &now().day(), &entries);
        assert_eq!(folder.read(group, 4, commit(PACKED, &salt, b"half")).unwrap(), b"halfhalf");
    }

    #[test]
    fn an_entry_of_an_unknown_form_is_damage() {
        let folder = Folder::new("unknown");
        let salt = [7; SALT_BYTES];
        for tag in [8, DIGEST | PACKED] {
            let entries = Entries { plain: [&[tag], salt.as_slice(), b"half"].concat() };
            let group = folder.0.seal_group(BlobClass::Rows, folder.1, &now().day(), &entries);
            let read = folder.read(group, 4, commit(tag, &salt, b"half"));
            assert!(matches!(read, Err(LedgerError::Damaged(_))), "tag {tag}");
        }
    }

    #[test]
    fn an_entry_that_is_given_another_form_is_damage() {
        let folder = Folder::new("form");
        let (payload, salt) = (b"0123456789".repeat(30_000), [7; SALT_BYTES]);
        let mut bytes = Vec::new();
        compress(&payload, Effort::Quick, &mut bytes);
        let group = |tag: u8| {
            let entry = [AS_THEY_ARE.to_le_bytes().as_slice(), &[tag], &salt, &bytes].concat();
            folder.0.seal_with(BlobClass::Rows, folder.1, &now().day(), |out| out.extend_from_slice(&entry)).0
        };
        let (size, said) = (bytes.len() as u64, commit(COMPRESSED, &salt, &bytes));
        assert_eq!(folder.read(group(COMPRESSED), size, said).unwrap(), payload);
        for tag in [0, PACKED, PACKED | COMPRESSED] {
            assert!(matches!(folder.read(group(tag), size, said), Err(LedgerError::Damaged(_))), "tag {tag}");
        }
        let beyond = folder.read(group(COMPRESSED), u64::MAX, said);
        assert!(matches!(beyond, Err(LedgerError::Damaged(_))));
    }
}
