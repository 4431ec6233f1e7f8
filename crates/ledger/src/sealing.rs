//! Blobs: salted, committed to, compressed, sealed with the key of their session, class and day.
//!
//! What a session writes in one round is sealed together: small answers compress well beside each other. A
//! group holds entries of `tag (1) | salt (32) | bytes`; a reference says which group, and where in it.
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

use crate::layout::Layout;
use crate::recorder::LedgerError;
use crate::{frame, recorder};

const COMMIT_CONTEXT: &[u8] = b"hansard/blob/v1\0";
const SALT_BYTES: usize = 32;
const ENTRY_HEADER_BYTES: usize = 1 + SALT_BYTES;
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
/// Opened groups that are kept: whoever reads in order opens each once.
const OPENED_MAX: usize = 6;

/// Makes a payload smaller before it is compressed, and back. The room that knows the payload's language has it.
pub trait Packing: Send + Sync {
    /// A shorter form, if there is one that `unpack` turns back into the same bytes.
    fn pack(&self, payload: &[u8]) -> Option<Vec<u8>>;

    /// The payload that was packed.
    fn unpack(&self, packed: &[u8]) -> Option<Vec<u8>>;
}

/// Every payload as it is.
pub struct Unpacked;

impl Packing for Unpacked {
    fn pack(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn unpack(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// A payload on its way to the writer, committed to.
pub(crate) struct Loose {
    pub(crate) class: BlobClass,
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
        self.add(Tag::Plain, &loose.salt, &loose.payload)
    }

    fn add(&mut self, tag: Tag, salt: &[u8], bytes: &[u8]) -> (u64, u64) {
        let at = self.plain.len() as u64;
        self.plain.reserve(ENTRY_HEADER_BYTES + bytes.len());
        self.plain.push(tag as u8);
        self.plain.extend_from_slice(salt);
        self.plain.extend_from_slice(bytes);
        (at, bytes.len() as u64)
    }

    /// Whether another group should begin.
    pub(crate) fn is_full(&self) -> bool {
        self.plain.len() >= GROUP_BYTES
    }
}

/// How an entry's bytes are to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tag {
    Plain = 0,
    Packed = 1,
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
    packing: Arc<dyn Packing>,
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
    pub(crate) fn new(vault: Arc<Vault>, layout: Layout, packing: Arc<dyn Packing>) -> Self {
        Self {
            vault,
            layout,
            keys: Mutex::default(),
            key_files: Mutex::default(),
            packing,
            opened: Mutex::default(),
        }
    }

    /// Commits to a payload; the writer seals it with its neighbours.
    pub(crate) fn loose(&self, class: BlobClass, payload: Bytes) -> Loose {
        let salt = random_bytes::<SALT_BYTES>();
        Loose { class, salt, commit: commit(&salt, &payload), payload }
    }

    /// Packs and seals a large payload by itself; takes some milliseconds for a MiB.
    pub(crate) fn seal(&self, class: BlobClass, session: SessionId, at: Timestamp, payload: &[u8]) -> Blob {
        let packed = if class == BlobClass::Rows { self.packing.pack(payload) } else { None };
        let (tag, stored, effort) = match &packed {
            Some(packed) => (Tag::Packed, packed.as_slice(), Effort::Usual),
            None if class == BlobClass::Rows => (Tag::Plain, payload, Effort::Quick),
            None => (Tag::Plain, payload, Effort::Usual),
        };
        let salt = random_bytes::<SALT_BYTES>();
        let mut entries = Entries::default();
        let (_, size) = entries.add(tag, &salt, stored);
        let group = self.seal_group_with(effort, class, session, &at.day(), &entries);
        Blob::Sealed { group, size, commit: commit(&salt, stored) }
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
        self.seal_group_with(effort, class, session, day, entries)
    }

    fn seal_group_with(
        &self,
        effort: Effort,
        class: BlobClass,
        session: SessionId,
        day: &str,
        entries: &Entries,
    ) -> Group {
        let key = self.key_for(class, session, day);
        // It is compressed and encrypted where it will lie: a window of a long answer is not copied on the way.
        let mut payload = session.0.as_bytes().to_vec();
        let sealed_from = payload.len();
        payload.extend_from_slice(&[0; SEAL_ROOM_BYTES]);
        payload.extend_from_slice(&(entries.plain.len() as u32).to_le_bytes());
        compress(&entries.plain, effort, &mut payload);
        key.key.seal_in_place(&context(class, session), &mut payload, sealed_from);
        Group { class, day: day.to_owned(), payload, key }
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
            || LedgerError::Damaged(format!("{}/{} at {}", blob.class.as_str(), blob.segment, blob.offset));
        let group = self.group(session, blob)?;
        let start = usize::try_from(blob.at).map_err(|_| damaged())?;
        let entry = group.get(start..).and_then(|rest| rest.get(..ENTRY_HEADER_BYTES + blob.size as usize));
        let (header, bytes) = entry.ok_or_else(damaged)?.split_at(ENTRY_HEADER_BYTES);
        if commit(&header[1..], bytes) != blob.commit {
            return Err(damaged());
        }
        match header[0] {
            tag if tag == Tag::Plain as u8 => Ok(bytes.to_vec()),
            tag if tag == Tag::Packed as u8 => self.packing.unpack(bytes).ok_or_else(damaged),
            _ => Err(damaged()),
        }
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
        let day = blob.segment.split('/').next().unwrap_or_default();
        let clear = self.open_with_any_key(blob.class, session, day, sealed)?;
        let (len, packed) = clear.split_first_chunk::<4>().ok_or_else(damaged)?;
        let len = u32::from_le_bytes(*len) as usize;
        if len > GROUP_BYTES_MAX {
            return Err(damaged());
        }
        decompress(packed, len).ok_or_else(damaged)
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
        let len = fs::metadata(&path).map_err(|_| LedgerError::Expired)?.len();
        let mut files = self.key_files.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let name = (class, day.to_owned());
        if files.get(&name).is_none_or(|file| file.len != len) {
            if files.len() >= KEY_FILES_MAX {
                files.clear();
            }
            let bytes = fs::read(&path).map_err(|_| LedgerError::Expired)?;
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

/// How much work a payload is worth.
#[derive(Clone, Copy)]
pub(crate) enum Effort {
    /// Rows by column, uploads and long texts.
    Usual,
    /// Leaves; what a round brings of short ones, whose tables would cost more than they save; and rows in a form that is
    /// dense already (Arrow, Avro), which pass by the gigabyte.
    Quick,
}

/// Appends the compressed payload. A compressor's tables are large, so each thread keeps its own.
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
    let start = out.len();
    out.reserve(zstd::zstd_safe::compress_bound(payload.len()));
    let mut behind = Cursor::new(std::mem::take(out));
    behind.set_position(start as u64);
    let packed = compressor.with_borrow_mut(|compressor| compressor.compress_to_buffer(payload, &mut behind));
    packed.expect("compressing into memory that has room does not fail");
    *out = behind.into_inner();
}

/// The payload that was compressed, which has exactly `len` bytes.
pub(crate) fn decompress(packed: &[u8], len: usize) -> Option<Vec<u8>> {
    thread_local! {
        static DECOMPRESSOR: RefCell<zstd::bulk::Decompressor<'static>> =
            RefCell::new(zstd::bulk::Decompressor::new().expect("without a dictionary"));
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
    [COMMIT_CONTEXT, class.as_str().as_bytes(), session.0.as_bytes()].concat()
}

fn commit(salt: &[u8], stored: &[u8]) -> Digest {
    let mut hash = Context::new(&SHA256);
    hash.update(COMMIT_CONTEXT);
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
