//! The door of the fuzz target `journal` in `fuzz/`.

use record::Leaf;

use crate::frame;
use crate::leaves::{self, Leaves};
use crate::{sealing, wal};

/// Reads a segment of leaves and a write-ahead log: as they are, and with checksums that hold.
pub fn journal(bytes: &[u8]) {
    segment(bytes);
    let mut framed = Vec::new();
    if !bytes.is_empty() {
        frame::push(&mut framed, bytes);
    }
    segment(&framed);
    framed.truncate(framed.len().saturating_sub(1));
    segment(&framed);
    let mut packed = Vec::new();
    frame::push(&mut packed, &leaves::pack(&[bytes.to_vec()]));
    assert_eq!(segment(&packed), 1, "a leaf comes back");
    wal::no_entry_leads_elsewhere(bytes);
    if let Some((size, group)) = bytes.split_first_chunk::<2>() {
        let size = u64::from(u16::from_le_bytes(*size));
        sealing::any_group(group, 0, size);
        sealing::any_group(&[&[0; 4], group].concat(), 0, size);
        sealing::any_group(&[&[0; 4], group].concat(), size, u64::MAX);
    }
}

/// How many leaves a reader finds.
fn segment(bytes: &[u8]) -> usize {
    let mut frames = leaves::frames(bytes, 0);
    let mut found = 0;
    for (_, payload) in frames.by_ref() {
        wal::no_entry_leads_elsewhere(payload);
        for leaf in Leaves::unpack(payload).iter().flat_map(Leaves::iter) {
            found += 1;
            if let Ok(leaf) = Leaf::read(leaf) {
                let again = serde_json::to_vec(&leaf).expect("a leaf is JSON");
                Leaf::read(&again).expect("a leaf that was read can be read again");
            }
        }
    }
    let _ = leaves::stand_in(&bytes[frames.offset..]);
    found
}
