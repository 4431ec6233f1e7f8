//! Copies a tree of sources so that only what differs is written.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::steps::Step;

/// Makes `to` what `from` is, but for the folders in `made`. Links are followed; those that lead nowhere, as editors
/// leave them, are left out.
///
/// # Errors
/// Something can't be read or written.
pub(crate) fn copy(from: &Path, to: &Path, made: &[PathBuf]) -> Step {
    let cannot = |error: std::io::Error| {
        format!("can't copy {} to {}: {error}; is the disk full?", from.display(), to.display())
    };
    if from.is_file() != to.is_file() && to.exists() {
        remove(to).map_err(cannot)?;
    }
    if from.is_file() {
        return if is_same(from, to) { Ok(()) } else { write(from, to).map_err(cannot) };
    }
    fs::create_dir_all(to).map_err(cannot)?;
    let entries = |folder: &Path| -> Result<BTreeSet<OsString>, String> {
        let found = fs::read_dir(folder).map_err(cannot)?.flatten();
        let kept = found.filter(|entry| entry.path().exists() && !made.contains(&entry.path()));
        Ok(kept.map(|entry| entry.file_name()).collect())
    };
    let wanted = entries(from)?;
    for gone in entries(to)?.difference(&wanted) {
        remove(&to.join(gone)).map_err(cannot)?;
    }
    wanted.iter().try_for_each(|name| copy(&from.join(name), &to.join(name), made))
}

fn is_same(one: &Path, other: &Path) -> bool {
    let runs = |path: &Path| fs::metadata(path).map(|meta| meta.permissions().mode() & 0o111).ok();
    runs(one) == runs(other) && fs::read(one).is_ok_and(|one| fs::read(other).is_ok_and(|other| one == other))
}

fn write(from: &Path, to: &Path) -> std::io::Result<()> {
    let _ = fs::remove_file(to);
    fs::copy(from, to)?;
    // Of a read-only checkout too, the next one must be able to replace it.
    let mode = fs::metadata(from)?.permissions().mode() | 0o600;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))
}

fn remove(path: &Path) -> std::io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::copy;

    #[test]
    fn only_what_differs_is_written_and_what_is_gone_goes() {
        let folder = std::env::temp_dir().join(format!("hansard-copy-{}", std::process::id()));
        let (from, to) = (folder.join("from"), folder.join("to"));
        let made = [from.join("made")];
        let write = |path: &Path, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for name in ["same", "other", "gone", "below/gone", "turns/into/a/file", "made/there"] {
            write(&from.join(name), name);
        }
        copy(&from, &to, &made).unwrap();
        assert!(!to.join("made").exists(), "what is made by running is not copied");
        std::os::unix::fs::symlink("nowhere", from.join(".#same")).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let age =
            |name: &str| fs::File::options().write(true).open(to.join(name)).unwrap().set_modified(long_ago);
        age("same").and_then(|()| age("other")).unwrap();

        // A clone that was checked out earlier, with other contents.
        write(&from.join("other"), "another");
        fs::File::options().write(true).open(from.join("other")).unwrap().set_modified(long_ago).unwrap();
        fs::remove_file(from.join("gone")).unwrap();
        fs::remove_dir_all(from.join("below")).unwrap();
        fs::remove_dir_all(from.join("turns")).unwrap();
        write(&from.join("turns"), "a file");
        copy(&from, &to, &made).unwrap();

        let modified = |name: &str| fs::metadata(to.join(name)).unwrap().modified().unwrap();
        assert_eq!(modified("same"), long_ago, "cargo would build it anew");
        assert!(modified("other") > long_ago, "cargo would take it for what it was built from");
        assert_eq!(fs::read_to_string(to.join("other")).unwrap(), "another");
        assert_eq!(fs::read_to_string(to.join("turns")).unwrap(), "a file");
        assert!(!to.join("gone").exists() && !to.join("below").exists());
        assert!(fs::symlink_metadata(to.join(".#same")).is_err());

        fs::set_permissions(from.join("same"), fs::Permissions::from_mode(0o555)).unwrap();
        copy(&from, &to, &made).unwrap();
        let mode = fs::metadata(to.join("same")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o755, "it may be run, and replaced");
        fs::remove_dir_all(folder).unwrap();
    }
}
