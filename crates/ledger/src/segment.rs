//! One append-only file that is written by one thread and made durable in rounds.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A file being appended to. What is buffered is not yet in it; what is in it is not yet durable.
pub(crate) struct Segment {
    file: File,
    pub(crate) path: PathBuf,
    /// Durable bytes.
    synced: u64,
    buffer: Vec<u8>,
    /// Its folder's entry is durable too.
    entered: bool,
}

impl Segment {
    /// Opens it for appending, making it if need be.
    pub(crate) fn open(path: PathBuf) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(&path)?;
        let synced = file.metadata()?.len();
        Ok(Self { file, path, synced, buffer: Vec::new(), entered: false })
    }

    /// Where the next pushed frame will begin.
    pub(crate) fn end(&self) -> u64 {
        self.synced + self.buffer.len() as u64
    }

    /// Buffers a frame; returns its offset and length.
    pub(crate) fn push(&mut self, payload: &[u8]) -> (u64, u64) {
        let offset = self.end();
        crate::frame::push(&mut self.buffer, payload);
        (offset, self.end() - offset)
    }

    /// Whether something waits to be made durable.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Writes and syncs what was pushed. On an error the file is cut back to what was durable before.
    pub(crate) fn commit(&mut self) -> std::io::Result<()> {
        if !self.is_dirty() {
            return Ok(());
        }
        let result = self.try_commit();
        match &result {
            Ok(()) => self.synced += self.buffer.len() as u64,
            // Pages that failed to sync may be dropped by the kernel and marked clean: they are cut off and
            // never synced again as if they were whole.
            Err(_) => self.file.set_len(self.synced)?,
        }
        self.buffer.clear();
        result
    }

    /// Forgets what was pushed.
    pub(crate) fn discard(&mut self) {
        self.buffer.clear();
    }

    fn try_commit(&mut self) -> std::io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.file.sync_data()?;
        if !self.entered {
            sync_folder(self.path.parent().expect("a segment lies in a folder"))?;
            self.entered = true;
        }
        Ok(())
    }
}

/// Makes the entries of a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a day's folder, durably.
pub(crate) fn make_day(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().mode(0o700).create(folder)?;
    sync_folder(folder.parent().expect("a day lies in its class's folder"))
}
