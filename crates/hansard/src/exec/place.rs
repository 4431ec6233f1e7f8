//! A session's files: in a folder of their own that nobody else can read, gone when the session is, also after
//! a crash.

use clap::Args;
use rustix::process::getuid;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};

use crate::cli::Failure;
use crate::wiring::{env_var, write_private};

/// The folder of one session.
pub(super) struct Place {
    path: PathBuf,
    /// Held as long as the session lives; who can take it may remove the folder.
    _lock: File,
    /// Its other end is read by a process that removes the folder when this one is gone.
    _janitor: ChildStdin,
}

impl Place {
    /// Makes it, and removes those that a crash of the whole machine left.
    pub(super) fn make() -> Result<Self, Failure> {
        let base = base()?;
        sweep(&base);
        let name = format!("{}-{}", std::process::id(), registry_name());
        let path = base.join(name);
        let failed =
            |error: std::io::Error| Failure::other_side(format!("can't make {}: {error}", path.display()));
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let mut options = OpenOptions::new();
        let lock =
            options.write(true).create_new(true).mode(0o600).open(path.join("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let janitor = janitor(&path).map_err(failed)?;
        Ok(Self { path, _lock: lock, _janitor: janitor })
    }

    /// Writes a file of the session's.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.path.join(name);
        write_private(&path, text.as_bytes())
            .map_err(|error| Failure::other_side(format!("can't write {}: {error}", path.display())))?;
        Ok(path)
    }

    /// Makes an empty folder.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.path.join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| Failure::other_side(format!("can't make {}: {error}", path.display())))?;
        Ok(path)
    }

    pub(super) fn remove(self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Where sessions' folders lie: one folder a user, that is nobody else's.
fn base() -> Result<PathBuf, Failure> {
    let uid = getuid().as_raw();
    let base = match env_var("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_dir()) {
        Some(folder) => folder.join("hansard"),
        None => std::env::temp_dir().join(format!("hansard-{uid}")),
    };
    match fs::DirBuilder::new().mode(0o700).create(&base) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Failure::other_side(format!("can't make {}: {error}", base.display())));
        }
        _ => {}
    }
    let is_ours = fs::symlink_metadata(&base)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == uid && meta.mode() & 0o077 == 0);
    match is_ours {
        true => Ok(base),
        false => Err(Failure::other_side(format!(
            "{} is not a folder that only you can read; remove it",
            base.display()
        ))),
    }
}

fn registry_name() -> String {
    registry::random_bytes::<4>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Removes folders whose session is gone.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let Ok(lock) = File::open(entry.path().join("lock")) else { continue };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A process of its own group, so that no key on the terminal reaches it.
fn janitor(path: &Path) -> std::io::Result<ChildStdin> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("tidy-up").arg(path).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.env_clear().process_group(0).spawn()?;
    child.stdin.take().ok_or_else(|| std::io::ErrorKind::BrokenPipe.into())
}

#[derive(Args)]
pub(crate) struct TidyArgs {
    path: PathBuf,
}

/// The janitor: waits until its parent is gone, then removes the folder.
pub(crate) fn tidy(args: &TidyArgs) -> Result<(), Failure> {
    let mut rest = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut rest);
    let _ = fs::remove_dir_all(&args.path);
    Ok(())
}
