//! A lock between runs of this command: one of them installs, builds or tests at a time on a machine.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::steps::{Run, root};

/// A held lock; it ends with this value, and with the process, however that ends.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, and says for whom it waits.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn take(run: &Run, path: &Path, what: &str) -> Result<Self, String> {
        let cannot = |error: std::io::Error| format!("can't lock {}: {error}", path.display());
        let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open.map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(cannot)?;
                run.say(&format!("waiting: {} {what} on this machine", holder.trim()));
                file.lock().map_err(cannot)?;
            }
            Err(TryLockError::Error(error)) => return Err(cannot(error)),
        }
        let holder = format!("process {} (in {})", std::process::id(), root().display());
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(holder.as_bytes()));
        written.map_err(cannot)?;
        Ok(Self { _file: file })
    }
}
