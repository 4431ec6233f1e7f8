//! The write-ahead log: what a round writes to any file of the journal stands here first, as one frame that is
//! made durable by one sync.
//!
//! ```text
//! t0  a round's bytes lie in the buffers of their files
//! t1  all of them are appended here as one frame, and synced   <- only now is anything true
//! t2  they are written to their files, unsynced
//! t3  when this file is long: the files are synced, then it is dropped
//! ```
//! After a crash, t2 is done again from what stands here; doing it twice changes nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::frame;
use crate::layout::Layout;
use crate::recorder::{LedgerError, io};
use crate::segment::{Segment, make_folder, sync_folder};

/// A frame is at most a round and what one command brings beyond it.
const FRAME_BYTES_MAX: usize = 128 * 1024 * 1024;

/// One file of the log, being appended to.
pub(crate) struct Wal {
    file: File,
    pub(crate) path: PathBuf,
    /// Bytes that are whole frames.
    len: u64,
    frame: Vec<u8>,
}

impl Wal {
    /// Makes the next file of the log, durably.
    pub(crate) fn create(layout: &Layout) -> Result<Self, LedgerError> {
        let folder = layout.wal();
        let last = files(layout)?.last().map_or(0, |path| number(path));
        let path = folder.join(format!("{:016}.wal", last + 1));
        let file = File::options().create_new(true).append(true).open(&path);
        let file = file.and_then(|file| sync_folder(&folder).map(|()| file));
        Ok(Self { file: file.map_err(|error| io(&path, error))?, path, len: 0, frame: Vec::new() })
    }

    /// Bytes in it.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Appends what the segments hold as one frame. On an error nothing of it stays.
    pub(crate) fn append<'a>(
        &mut self,
        segments: impl Iterator<Item = &'a Segment>,
        sync: bool,
        between: impl FnOnce(),
    ) -> Result<(), LedgerError> {
        let mut payload = std::mem::take(&mut self.frame);
        payload.clear();
        payload.resize(frame::HEADER_BYTES, 0);
        segments.for_each(|segment| push_entry(&mut payload, segment));
        frame::finish(&mut payload);
        let mut written = self.file.write_all(&payload);
        if written.is_ok() {
            between();
            written = if sync { self.sync() } else { Ok(()) };
        }
        match &written {
            Ok(()) => self.len += payload.len() as u64,
            // Pages that failed to sync may be dropped by the kernel and marked clean: the frame is cut off, and
            // this file is not written again.
            Err(_) => drop(self.file.set_len(self.len).and_then(|()| self.file.sync_all())),
        }
        self.frame = payload;
        written.map_err(|error| io(&self.path, error))
    }

    /// Makes what was appended durable.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.file.sync_data()
    }
}

fn push_entry(payload: &mut Vec<u8>, segment: &Segment) {
    let (name, bytes) = (segment.name.as_bytes(), segment.waiting());
    payload.extend_from_slice(&(name.len() as u16).to_le_bytes());
    payload.extend_from_slice(name);
    payload.extend_from_slice(&segment.written().to_le_bytes());
    payload.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    payload.extend_from_slice(bytes);
}

/// The files of the log, oldest first.
pub(crate) fn files(layout: &Layout) -> Result<Vec<PathBuf>, LedgerError> {
    let folder = layout.wal();
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|error| io(&folder, error))? {
        let path = entry.map_err(|error| io(&folder, error))?.path();
        if path.extension().is_some_and(|extension| extension == "wal") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn number(path: &Path) -> u64 {
    path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok()).unwrap_or(0)
}

/// Writes what a crash may have left unwritten, and drops the log.
pub(crate) fn replay(layout: &Layout) -> Result<(), LedgerError> {
    let files = files(layout)?;
    for path in &files {
        apply(layout, path)?;
    }
    remove(layout, &files)
}

/// Writes everything that one file of the log holds to where it belongs, durably.
pub(crate) fn apply(layout: &Layout, path: &Path) -> Result<(), LedgerError> {
    let bytes = fs::read(path).map_err(|error| io(path, error))?;
    let mut open: BTreeMap<String, File> = BTreeMap::new();
    for (_, payload) in frame::Frames::new(&bytes, 0, FRAME_BYTES_MAX) {
        for Entry { name, offset, bytes } in entries(payload) {
            let target = layout.journal().join(name);
            if !open.contains_key(name) {
                let folder = target.parent().expect("an entry lies in a folder");
                make_folder(folder).map_err(|error| io(folder, error))?;
                let file = File::options().create(true).truncate(false).write(true).open(&target);
                open.insert(name.to_owned(), file.map_err(|error| io(&target, error))?);
            }
            open[name].write_all_at(bytes, offset).map_err(|error| io(&target, error))?;
        }
    }
    for (name, file) in open {
        let target = layout.journal().join(name);
        let folder = target.parent().expect("an entry lies in a folder");
        file.sync_all().and_then(|()| sync_folder(folder)).map_err(|error| io(&target, error))?;
    }
    Ok(())
}

/// Drops files of the log whose bytes are durable where they belong.
pub(crate) fn remove(layout: &Layout, files: &[PathBuf]) -> Result<(), LedgerError> {
    for path in files {
        fs::remove_file(path).map_err(|error| io(path, error))?;
    }
    let folder = layout.wal();
    sync_folder(&folder).map_err(|error| io(&folder, error))
}

struct Entry<'a> {
    /// Below `journal/`.
    name: &'a str,
    offset: u64,
    bytes: &'a [u8],
}

fn entries(payload: &[u8]) -> Vec<Entry<'_>> {
    let mut found = Vec::new();
    let mut rest = payload;
    while let Some((entry, after)) = entry(rest) {
        found.push(entry);
        rest = after;
    }
    found
}

fn entry(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(u16::from_le_bytes(*len) as usize)?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    let name = std::str::from_utf8(name).ok()?;
    // The frame's checksum holds, so the name is ours; a path that leads elsewhere is still never followed.
    let plain = !name.split('/').any(|part| part.is_empty() || part == "..");
    plain.then_some((Entry { name, offset: u64::from_le_bytes(*offset), bytes }, rest))
}

/// What must hold for any payload, whoever wrote it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn no_entry_leads_elsewhere(payload: &[u8]) {
    for entry in entries(payload) {
        assert!(entry.name.split('/').all(|part| !part.is_empty() && part != ".."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_no_panic_and_lead_nowhere_else(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            no_entry_leads_elsewhere(&bytes);
        }
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_not_followed() {
        for name in ["../state.db", "/etc/passwd", "rows//x", "rows/../../x"] {
            let mut payload = (name.len() as u16).to_le_bytes().to_vec();
            payload.extend_from_slice(name.as_bytes());
            payload.extend_from_slice(&0u64.to_le_bytes());
            payload.extend_from_slice(&0u32.to_le_bytes());
            assert!(entries(&payload).is_empty(), "{name}");
        }
    }
}
