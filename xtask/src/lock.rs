//! A lock between runs of this command: one of them installs, builds or tests at a time on a machine.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::steps::{Run, root};

/// A held lock; it ends with this value, and with the process, however that ends.
#[must_use = "it is held as long as this value lives"]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, and says for whom it waits.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn take(run: &Run, path: &Path, what: &str) -> Result<Self, String> {
        loop {
            if let Some(lock) = Self::take_once(run, path, what).map_err(|error| {
                let whose = fs::metadata(path).map(|file| format!(" (it belongs to user {})", file.uid()));
                format!(
                    "can't lock {}{}: {error}; another HANSARD_CACHE, or its owner, helps",
                    path.display(),
                    whose.unwrap_or_default()
                )
            })? {
                return Ok(lock);
            }
        }
    }

    /// None if the file was moved away meanwhile: whoever has that one has another lock.
    fn take_once(run: &Run, path: &Path, what: &str) -> std::io::Result<Option<Self>> {
        fs::create_dir_all(path.parent().expect("a lock lies in a folder"))?;
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                run.say(&format!("waiting: {} {what} on this machine", holder.trim()));
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let is_there =
            fs::metadata(path).is_ok_and(|there| file.metadata().is_ok_and(|held| held.ino() == there.ino()));
        if !is_there {
            return Ok(None);
        }
        let holder = format!("process {} (in {})", std::process::id(), root().display());
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(holder.as_bytes())?;
        Ok(Some(Self { _file: file }))
    }
}
