//! The write-ahead log: what a round writes to any file of the journal stands here first, as one frame that is
//! made durable by one sync.
//!
//! ```text
//! t0  a round's bytes lie in the buffers of their files
//! t1  all of them are written here as one frame, and synced   <- only now is anything true
//! t2  they are written to their files, unsynced
//! t3  when this file is long: the files are synced, then it is a spare, and will be written over
//! ```
//! After a crash, t2 is done again from what stands here; doing it twice changes nothing.
//!
//! A sync is quickest where it changes nothing but bytes that the file has already: a file is used again where
//! there is a spare, and else lengthened ahead of its frames. Each frame names the file it was written for, so
//! that one of an earlier use is not taken for its successor.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::frame;
use crate::layout::Layout;
use crate::recorder::{LedgerError, io};
use crate::segment::{Segment, make_folder, sync_folder};

/// A frame is at most a round and what one command brings beyond it.
const FRAME_BYTES_MAX: usize = 128 * 1024 * 1024;
/// A file is lengthened by so many zeros at once.
const AHEAD: &[u8] = &[0; 1024 * 1024];
/// Ahead of longer frames it is not: what they bring outweighs what the file system has to note.
const AHEAD_OF_BYTES_MAX: usize = 64 * 1024;
/// Files that are kept to be written over.
const SPARES_MAX: usize = 2;

/// One file of the log, being written.
pub(crate) struct Wal {
    file: File,
    path: PathBuf,
    number: u64,
    /// Bytes that are whole frames of this use.
    len: u64,
    /// Bytes that the file has.
    allocated: u64,
    is_sound: bool,
    frame: Vec<u8>,
}

/// A file of the log that is not written any more.
pub(crate) struct Log {
    pub(crate) path: PathBuf,
    /// Whatever was written to it came to the disk: it may be used again.
    is_sound: bool,
}

impl Wal {
    /// Makes the next file of the log, durably; of a spare if there is one.
    pub(crate) fn create(layout: &Layout) -> Result<Self, LedgerError> {
        let folder = layout.wal();
        let spares = files(layout, SPARE)?;
        let last = files(layout, LOG)?.last().into_iter().chain(spares.last()).map(|path| number(path)).max();
        let number = last.unwrap_or(0) + 1;
        let path = folder.join(format!("{number:016}.{LOG}"));
        // A spare that a checkpoint drops meanwhile is none.
        let reused = spares.first().is_some_and(|spare| fs::rename(spare, &path).is_ok());
        let opened = File::options().create_new(!reused).write(true).open(&path).and_then(|file| {
            sync_folder(&folder)?;
            let allocated = file.metadata()?.len();
            Ok((file, allocated))
        });
        let (file, allocated) = opened.map_err(|error| {
            // Nobody would know of it, and it may hold frames of an earlier use.
            let _ = fs::remove_file(&path);
            io(&path, error)
        })?;
        Ok(Self { file, path, number, len: 0, allocated, is_sound: true, frame: Vec::new() })
    }

    /// Bytes in it.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Writes what of the segments is not in the log yet as one frame. On an error nothing of it stays, and the file is
    /// to be retired.
    pub(crate) fn append<'a>(
        &mut self,
        segments: impl Iterator<Item = &'a Segment>,
        sync: bool,
        between: impl FnOnce(),
    ) -> Result<(), LedgerError> {
        let mut payload = std::mem::take(&mut self.frame);
        payload.clear();
        payload.resize(frame::HEADER_BYTES, 0);
        payload.extend_from_slice(&self.number.to_le_bytes());
        segments.for_each(|segment| push_entry(&mut payload, segment));
        frame::finish(&mut payload);
        if sync && payload.len() <= AHEAD_OF_BYTES_MAX {
            self.lengthen(payload.len() as u64);
        }
        let mut written = self.file.write_all_at(&payload, self.len);
        if written.is_ok() {
            between();
            written = if sync { self.sync() } else { Ok(()) };
        }
        match &written {
            Ok(()) => {
                self.len += payload.len() as u64;
                self.allocated = self.allocated.max(self.len);
            }
            // Pages that failed to sync may be dropped by the kernel and marked clean: the frame is cut off, and
            // this file is not written again.
            Err(_) => {
                self.is_sound = false;
                drop(self.file.set_len(self.len).and_then(|()| self.file.sync_all()));
            }
        }
        self.frame = payload;
        written.map_err(|error| io(&self.path, error))
    }

    /// Gives the file the bytes that the next frames will be written over.
    fn lengthen(&mut self, needed: u64) {
        // Where it can't be, the frame itself lengthens the file, or fails.
        if self.len + needed > self.allocated && self.file.write_all_at(AHEAD, self.allocated).is_ok() {
            self.allocated += AHEAD.len() as u64;
        }
    }

    /// Makes what was written durable. On an error the file is to be retired.
    pub(crate) fn sync(&mut self) -> std::io::Result<()> {
        let synced = self.file.sync_data();
        self.is_sound &= synced.is_ok();
        synced
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// It is written no more.
    pub(crate) fn retire(self) -> Log {
        Log { path: self.path, is_sound: self.is_sound }
    }
}

fn push_entry(payload: &mut Vec<u8>, segment: &Segment) {
    let (name, bytes) = (segment.name.as_bytes(), segment.unlogged());
    payload.extend_from_slice(&(name.len() as u16).to_le_bytes());
    payload.extend_from_slice(name);
    payload.extend_from_slice(&segment.logged().to_le_bytes());
    payload.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    payload.extend_from_slice(bytes);
}

/// What a file of the log that counts is called.
const LOG: &str = "wal";
/// What one is called whose frames do not count any more.
const SPARE: &str = "spare";

/// The files of a kind, oldest first.
fn files(layout: &Layout, kind: &str) -> Result<Vec<PathBuf>, LedgerError> {
    let folder = layout.wal();
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|error| io(&folder, error))? {
        let path = entry.map_err(|error| io(&folder, error))?.path();
        if path.extension().is_some_and(|extension| extension == kind) {
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
    let logs: Vec<Log> = files(layout, LOG)?.into_iter().map(|path| Log { path, is_sound: false }).collect();
    for log in &logs {
        apply(layout, &log.path)?;
    }
    drop_all(layout, &logs)
}

/// Writes everything that one file of the log holds to where it belongs, durably.
pub(crate) fn apply(layout: &Layout, path: &Path) -> Result<(), LedgerError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        // A checkpoint that was cut short had come that far.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(path, error)),
    };
    let mut open: BTreeMap<String, File> = BTreeMap::new();
    for (_, payload) in frame::Frames::new(&bytes, 0, FRAME_BYTES_MAX) {
        let Some(payload) = of_this_use(payload, path)? else { break };
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

/// A frame's entries, if it was written for this file; none if it is left of an earlier use, whose number is lower.
fn of_this_use<'a>(payload: &'a [u8], path: &Path) -> Result<Option<&'a [u8]>, LedgerError> {
    let Some((written_for, entries)) = payload.split_first_chunk::<8>() else { return Ok(None) };
    match u64::from_le_bytes(*written_for).cmp(&number(path)) {
        Ordering::Less => Ok(None),
        Ordering::Equal => Ok(Some(entries)),
        Ordering::Greater => Err(LedgerError::Damaged(format!(
            "{} was written in another format; start the version of hansard that wrote it once, and stop it",
            path.display()
        ))),
    }
}

/// Keeps files of the log whose bytes are durable where they belong, to be written over.
pub(crate) fn keep(layout: &Layout, logs: &[Log]) -> Result<(), LedgerError> {
    let mut spares = files(layout, SPARE)?.len();
    for log in logs {
        let kept = if log.is_sound && spares < SPARES_MAX {
            spares += 1;
            fs::rename(&log.path, log.path.with_extension(SPARE))
        } else {
            fs::remove_file(&log.path)
        };
        unless_gone(&log.path, kept)?;
    }
    let folder = layout.wal();
    sync_folder(&folder).map_err(|error| io(&folder, error))
}

/// A file that is gone is done with: a checkpoint that was cut short had come that far, or the writer has taken
/// the spare.
fn unless_gone(path: &Path, done: std::io::Result<()>) -> Result<(), LedgerError> {
    match done {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(|error| io(path, error)),
    }
}

/// Whether a file is kept to be written over.
pub(crate) fn has_spares(layout: &Layout) -> bool {
    files(layout, SPARE).is_ok_and(|spares| !spares.is_empty())
}

/// Drops files of the log whose bytes are durable where they belong, and all spares: nothing that retention
/// destroys may be left in them, and a disk that is nearly full needs the room.
pub(crate) fn drop_all(layout: &Layout, logs: &[Log]) -> Result<(), LedgerError> {
    let spares = files(layout, SPARE)?;
    for path in logs.iter().map(|log| &log.path).chain(&spares) {
        unless_gone(path, fs::remove_file(path))?;
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

    fn layout(test: &str) -> Layout {
        let layout =
            Layout::new(&std::env::temp_dir().join(format!("hansard-wal-{test}-{}", std::process::id())));
        layout.create().unwrap();
        layout
    }

    /// A log with one frame for each text, for the file `leaves/x.leaves`.
    fn written(layout: &Layout, texts: &[&str]) -> Wal {
        let mut wal = Wal::create(layout).unwrap();
        let mut segment = Segment::open(layout, "leaves/x.leaves".to_owned()).unwrap();
        for text in texts {
            segment.push(text.as_bytes());
            wal.append(std::iter::once(&segment), true, || ()).unwrap();
            segment.discard();
        }
        wal
    }

    /// The frames that stand in that file.
    fn leaves_of(layout: &Layout) -> Vec<Vec<u8>> {
        let bytes = fs::read(layout.journal().join("leaves/x.leaves")).unwrap();
        frame::Frames::new(&bytes, 0, 1000).map(|(_, payload)| payload.to_vec()).collect()
    }

    #[test]
    fn what_is_left_of_an_earlier_use_is_not_written_again() {
        let layout = layout("left");
        keep(&layout, &[written(&layout, &["first", "stale"]).retire()]).unwrap();
        assert_eq!((files(&layout, LOG).unwrap().len(), files(&layout, SPARE).unwrap().len()), (0, 1));
        // As long as the one it is written over: the stale frame stands right behind it.
        drop(written(&layout, &["later"]));
        assert!(!has_spares(&layout), "it is used again");
        replay(&layout).unwrap();
        assert_eq!(leaves_of(&layout), [b"later".to_vec()]);
        assert_eq!(fs::read_dir(layout.wal()).unwrap().count(), 0);
        fs::remove_dir_all(layout.root()).unwrap();
    }

    #[test]
    fn what_waits_for_its_file_is_logged_once_and_a_failed_round_takes_nothing_with_it() {
        let layout = layout("waits");
        let mut wal = Wal::create(&layout).unwrap();
        let mut segment = Segment::open(&layout, "leaves/x.leaves".to_owned()).unwrap();
        for text in ["first", "second", "failed", "third"] {
            segment.push(text.as_bytes());
            if text == "failed" {
                segment.discard();
                continue;
            }
            wal.append(std::iter::once(&segment), true, || ()).unwrap();
            segment.set_logged();
        }
        let expected = [b"first".to_vec(), b"second".to_vec(), b"third".to_vec()];
        // Killed now, the log brings all of it to its file.
        drop(wal);
        replay(&layout).unwrap();
        assert_eq!(leaves_of(&layout), expected);
        fs::write(&segment.path, "").unwrap();
        segment.write().unwrap();
        assert_eq!(leaves_of(&layout), expected);
        fs::remove_dir_all(layout.root()).unwrap();
    }

    #[test]
    fn nothing_is_left_where_nothing_may_be() {
        let layout = layout("nothing");
        keep(&layout, &[written(&layout, &["a"]).retire()]).unwrap();
        assert!(has_spares(&layout));
        let failed = Log { is_sound: false, ..written(&layout, &["b"]).retire() };
        keep(&layout, &[failed]).unwrap();
        assert!(!has_spares(&layout), "one whose sync failed is no spare");
        keep(&layout, &[written(&layout, &["c"]).retire()]).unwrap();
        drop_all(&layout, &[]).unwrap();
        assert!(!has_spares(&layout));
        fs::remove_dir_all(layout.root()).unwrap();
    }

    #[test]
    fn a_log_of_another_format_is_not_dropped_unread() {
        let layout = layout("format");
        let path = written(&layout, &["a"]).retire().path;
        fs::rename(&path, path.with_file_name(format!("{:016}.{LOG}", 0))).unwrap();
        assert!(matches!(replay(&layout), Err(LedgerError::Damaged(_))));
        assert_eq!(files(&layout, LOG).unwrap().len(), 1);
        fs::remove_dir_all(layout.root()).unwrap();
    }
}
