//! Blobs: compressed, salted, committed to, sealed with the key of their session, class and day.
//!
//! Destroying a day's folder destroys its blobs and the keys to them at once; the leaves' commitments stay
//! valid and, for want of the salt, say nothing about what they committed to.

use aws_lc_rs::digest::{Context, SHA256};
use record::{BlobClass, BlobRef, Digest, SessionId, Timestamp};
use registry::{DataKey, Vault, random_bytes};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use crate::layout::Layout;
use crate::recorder::LedgerError;
use crate::{frame, recorder};

const COMMIT_CONTEXT: &[u8] = b"hansard/blob/v1\0";
const SALT_BYTES: usize = 32;
const ZSTD_LEVEL: i32 = 1;
/// Parsed key files that are kept.
const KEY_FILES_MAX: usize = 8;
/// A key frame is a session and a wrapped key.
const KEY_BYTES_MAX: usize = 256;

/// A blob on its way to the writer.
pub(crate) struct Sealed {
    pub(crate) class: BlobClass,
    pub(crate) day: String,
    pub(crate) commit: Digest,
    /// The frame's payload: session and ciphertext.
    pub(crate) payload: Vec<u8>,
    /// The key of its session, class and day.
    pub(crate) key: Arc<SessionKey>,
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
    pub(crate) fn new(vault: Arc<Vault>, layout: Layout) -> Self {
        Self { vault, layout, keys: Mutex::default(), key_files: Mutex::default() }
    }

    /// Compresses and seals; takes about a millisecond for a MiB.
    pub(crate) fn seal(&self, class: BlobClass, session: SessionId, at: Timestamp, payload: &[u8]) -> Sealed {
        let day = at.day();
        let key = self.key_for(class, session, &day);
        let salt = random_bytes::<SALT_BYTES>();
        let mut clear = Vec::with_capacity(SALT_BYTES + payload.len() / 2);
        clear.extend_from_slice(&salt);
        compress(payload, &mut clear);
        let mut framed = session.0.as_bytes().to_vec();
        framed.extend_from_slice(&key.key.seal(&context(class, session), &clear));
        Sealed { class, day, commit: commit(&salt, payload), payload: framed, key }
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
        let (salt, compressed) = clear.split_at_checked(SALT_BYTES).ok_or_else(damaged)?;
        let payload = zstd::stream::decode_all(compressed).map_err(|_| damaged())?;
        if commit(salt, &payload) != blob.commit {
            return Err(damaged());
        }
        Ok(payload)
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

/// Appends the compressed payload. A compressor's tables are large, so each thread keeps its own.
fn compress(payload: &[u8], out: &mut Vec<u8>) {
    thread_local! {
        static COMPRESSOR: RefCell<zstd::bulk::Compressor<'static>> =
            RefCell::new(zstd::bulk::Compressor::new(ZSTD_LEVEL).expect("the level is a valid one"));
    }
    let packed = COMPRESSOR.with_borrow_mut(|compressor| compressor.compress(payload));
    out.extend_from_slice(&packed.expect("compressing into memory does not fail"));
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

fn commit(salt: &[u8], payload: &[u8]) -> Digest {
    let mut hash = Context::new(&SHA256);
    hash.update(COMMIT_CONTEXT);
    hash.update(salt);
    hash.update(payload);
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
