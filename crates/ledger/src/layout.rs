//! Where everything lies in a data folder, and the lock that makes it one process's.

use record::BlobClass;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The paths of a data folder.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Nothing is touched yet.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes what is missing, readable by its owner alone.
    pub fn create(&self) -> std::io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(self.leaves())?;
        builder.create(self.wal())?;
        for class in BlobClass::ALL {
            builder.create(self.class(class))?;
        }
        Ok(())
    }

    /// The transactional state.
    pub fn state(&self) -> PathBuf {
        self.root.join("state.db")
    }

    /// The index; may be deleted.
    pub fn index(&self) -> PathBuf {
        self.root.join("index.db")
    }

    /// Where a running gateway listens for commands of its own machine.
    pub fn control_socket(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    pub(crate) fn wal(&self) -> PathBuf {
        self.root.join("journal/wal")
    }

    /// Says, as long as it is there, that not everything answered was durable.
    pub(crate) fn spool_mark(&self) -> PathBuf {
        self.root.join("journal/spool")
    }

    pub(crate) fn leaves(&self) -> PathBuf {
        self.root.join("journal/leaves")
    }

    pub(crate) fn class(&self, class: BlobClass) -> PathBuf {
        self.root.join("journal").join(class.folder())
    }

    pub(crate) fn blob_segment(&self, class: BlobClass, segment: &str) -> PathBuf {
        self.class(class).join(format!("{segment}.blobs"))
    }

    pub(crate) fn keys(&self, class: BlobClass, day: &str) -> PathBuf {
        self.class(class).join(day).join("keys")
    }

    /// The numbers of the leaves that refer to a day.
    pub(crate) fn named(&self, class: BlobClass, day: &str) -> PathBuf {
        self.class(class).join(day).join("named")
    }

    /// The leaf segments in order.
    pub(crate) fn leaf_segments(&self) -> std::io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.leaves())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "leaves") {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Takes the folder for this process until the file is dropped. A dead process holds nothing.
    pub fn lock(&self) -> Result<File, LockError> {
        let path = self.root.join("lock");
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| LockError::Io { path: path.clone(), error })?;
        match file.try_lock() {
            Ok(()) => {
                let written = file
                    .set_len(0)
                    .and_then(|()| file.seek(std::io::SeekFrom::Start(0)))
                    .and_then(|_| file.write_all(std::process::id().to_string().as_bytes()));
                written.map_err(|error| LockError::Io { path, error })?;
                Ok(file)
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                Err(LockError::Held { root: self.root.clone(), holder })
            }
            Err(TryLockError::Error(error)) => Err(LockError::Io { path, error }),
        }
    }
}

/// Why the folder is not ours.
#[derive(Debug)]
pub enum LockError {
    Held { root: PathBuf, holder: String },
    Io { path: PathBuf, error: std::io::Error },
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { root, holder } => {
                write!(f, "data folder {} is in use by process {holder}", root.display())
            }
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for LockError {}
