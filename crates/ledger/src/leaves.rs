//! How leaves lie in their segments: a round's leaves are one frame, compressed together. What is hashed and
//! linked is each leaf's own bytes.

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use crate::frame;
use crate::recorder::{self, LedgerError};
use crate::sealing::{Effort, compress, decompress};

/// Begins a frame of leaves, and tells one from a blob's.
const MAGIC: &[u8] = b"HSL1";
/// Leaves of one frame, unpacked.
const UNPACKED_BYTES_MAX: usize = 40 * 1024 * 1024;

/// Packs a round's leaves into a frame's payload.
pub(crate) fn pack(leaves: &[Vec<u8>]) -> Vec<u8> {
    let whole: usize = leaves.iter().map(|leaf| 4 + leaf.len()).sum();
    let mut plain = Vec::with_capacity(whole);
    for leaf in leaves {
        plain.extend_from_slice(&(leaf.len() as u32).to_le_bytes());
        plain.extend_from_slice(leaf);
    }
    let mut packed = MAGIC.to_vec();
    compress(&plain, Effort::Quick, &mut packed);
    packed
}

/// The leaves of one frame.
pub(crate) struct Leaves {
    plain: Vec<u8>,
    spans: Vec<Range<usize>>,
}

impl Leaves {
    /// None for what is no frame of leaves.
    pub(crate) fn unpack(payload: &[u8]) -> Option<Self> {
        let plain = decompress(payload.strip_prefix(MAGIC)?, UNPACKED_BYTES_MAX)?;
        let mut spans = Vec::new();
        let mut at = 0;
        while at < plain.len() {
            let (len, rest) = plain[at..].split_first_chunk::<4>()?;
            let len = u32::from_le_bytes(*len) as usize;
            if len > record::LEAF_BYTES_READ_MAX || len > rest.len() {
                return None;
            }
            spans.push(at + 4..at + 4 + len);
            at += 4 + len;
        }
        Some(Self { plain, spans })
    }

    /// Each leaf's own bytes, in order.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        self.spans.iter().map(|span| &self.plain[span.clone()])
    }
}

/// The frames of a segment of leaves, from `offset` on.
pub(crate) fn frames(bytes: &[u8], offset: usize) -> frame::Frames<'_> {
    frame::Frames::new(bytes, offset, frame::PAYLOAD_BYTES_MAX)
}

/// Whether a whole frame of leaves stands somewhere behind the first byte: then these bytes are no torn tail.
pub(crate) fn stand_in(bytes: &[u8]) -> bool {
    bytes.windows(MAGIC.len()).enumerate().skip(frame::HEADER_BYTES).any(|(at, window)| {
        window == MAGIC
            && frame::first(&bytes[at - frame::HEADER_BYTES..], frame::PAYLOAD_BYTES_MAX).is_some()
    })
}

/// Reads a part of a segment; more of it where a single frame is longer.
pub(crate) fn read_from(path: &Path, offset: u64) -> Result<Vec<u8>, LedgerError> {
    const READ_BYTES: u64 = 1024 * 1024;
    let bytes = read_at_most(path, offset, READ_BYTES)?;
    match frame::first(&bytes, frame::PAYLOAD_BYTES_MAX) {
        None if bytes.len() as u64 == READ_BYTES => {
            read_at_most(path, offset, (frame::PAYLOAD_BYTES_MAX + frame::HEADER_BYTES) as u64)
        }
        _ => Ok(bytes),
    }
}

fn read_at_most(path: &Path, offset: u64, bytes_max: u64) -> Result<Vec<u8>, LedgerError> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset))?;
        file.take(bytes_max).read_to_end(&mut bytes)
    });
    read.map_err(|error| recorder::io(path, error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn leaves_come_back_as_they_were(leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20)) {
            let unpacked = Leaves::unpack(&pack(&leaves)).unwrap();
            prop_assert!(unpacked.iter().eq(leaves.iter().map(Vec::as_slice)));
        }

        #[test]
        fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), changed in any::<(prop::sample::Index, u8)>()) {
            let _ = Leaves::unpack(&bytes);
            let _ = Leaves::unpack(&[MAGIC, &bytes].concat());
            let _ = stand_in(&bytes);
            let mut packed = pack(&[bytes]);
            let at = changed.0.index(packed.len());
            packed[at] = changed.1;
            let _ = Leaves::unpack(&packed);
        }
    }
}
