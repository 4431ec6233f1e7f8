//! One append-only file of the journal. What is pushed waits in memory until the write-ahead log holds it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::layout::Layout;

/// A file being appended to.
pub(crate) struct Segment {
    pub(crate) file: Arc<File>,
    pub(crate) path: PathBuf,
    /// Below `journal/`.
    pub(crate) name: String,
    /// Bytes in the file.
    written: u64,
    buffer: Vec<u8>,
    /// How much of the buffer the write-ahead log holds.
    logged: usize,
}

impl Segment {
    /// Opens it for appending, making it if need be.
    pub(crate) fn open(layout: &Layout, name: String) -> std::io::Result<Self> {
        let path = layout.journal().join(&name);
        let file = File::options().create(true).append(true).open(&path)?;
        let written = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), path, name, written, buffer: Vec::new(), logged: 0 })
    }

    /// Where the next pushed frame will begin.
    pub(crate) fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Where what waits for the write-ahead log begins.
    pub(crate) fn logged(&self) -> u64 {
        self.written + self.logged as u64
    }

    /// What waits for the write-ahead log.
    pub(crate) fn unlogged(&self) -> &[u8] {
        &self.buffer[self.logged..]
    }

    /// The write-ahead log holds all of it.
    pub(crate) fn set_logged(&mut self) {
        self.logged = self.buffer.len();
    }

    /// Bytes that wait for their file.
    pub(crate) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// Buffers a frame; returns its offset and length.
    pub(crate) fn push(&mut self, payload: &[u8]) -> (u64, u64) {
        let offset = self.end();
        crate::frame::push(&mut self.buffer, payload);
        (offset, self.end() - offset)
    }

    /// Whether something waits for its file.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Hands what waits to the file. The write-ahead log holds it, so a failure loses nothing: the file is cut
    /// back, and the same bytes are written there again.
    pub(crate) fn write(&mut self) -> std::io::Result<()> {
        let mut file = &*self.file;
        if let Err(error) = file.write_all(&self.buffer) {
            let _ = self.file.set_len(self.written);
            return Err(error);
        }
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.logged = 0;
        Ok(())
    }

    /// Forgets what was pushed and is not in the write-ahead log.
    pub(crate) fn discard(&mut self) {
        self.buffer.truncate(self.logged);
    }
}

/// Makes the entries of a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder in one that exists, durably.
pub(crate) fn make_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().mode(0o700).create(folder)?;
    sync_folder(folder.parent().expect("a folder of the journal lies in it"))
}
