//! One build folder for all clones on this machine, so that a fresh clone compiles only what it changed.
//! See docs/adr/0019-shared-build.md.
//!
//! ```text
//! <cache>/build/<toolchain>-<lock file and profiles>/
//!   lock      one build at a time
//!   source/   a copy of the sources of the clone that builds; only files that differ are written
//!   target/   cargo's own folder
//! ```
//! Cargo tells what changed by times of files. It sees one working tree here, which is edited: so its times are right
//! whichever clone builds. What was built is linked into the clone, and runs from there while others build.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lock::Lock;
use crate::steps::{Run, Step, cargo, output, root};
use crate::tools;

/// Everything that a build reads.
const SOURCES: &[&str] = &[
    ".cargo",
    "Cargo.lock",
    "Cargo.toml",
    "clippy.toml",
    "crates",
    "docs",
    "fuzz",
    "rust-toolchain.toml",
    "tests",
    "xtask",
];
/// Folders in them that are made by running, not by writing.
const MADE: &[&str] = &["artifacts", "corpus", "node_modules", "target"];
/// Less free space than a whole build takes.
const FREE_GIB_MIN: u64 = 6;

/// The folder, held by this run until this value ends.
pub struct SharedBuild {
    folder: PathBuf,
    _lock: Lock,
}

impl SharedBuild {
    /// Takes the folder and brings this clone's sources there.
    ///
    /// # Errors
    /// There is no room, or the folder can't be written.
    pub fn open(run: &Run) -> Result<Self, String> {
        let folder = place()?;
        fs::create_dir_all(&folder).map_err(|error| format!("can't make {}: {error}", folder.display()))?;
        enough_room(&folder)?;
        let lock = Lock::take(run, &folder.join("lock"), "builds")?;
        let source = folder.join("source");
        for name in SOURCES {
            copy(&root().join(name), &source.join(name))?;
        }
        run.say(&format!("building in {} (HANSARD_BUILD names another folder)", folder.display()));
        Ok(Self { folder, _lock: lock })
    }

    /// `cargo`, on the sources there.
    pub fn cargo(&self) -> Command {
        let mut command = cargo();
        self.here(&mut command);
        command
    }

    /// Makes a command that runs cargo do so on the sources there.
    pub fn here<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        // Those two name this clone.
        command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
        command.current_dir(self.source()).env("CARGO_TARGET_DIR", self.target())
    }

    /// The copy of the sources.
    pub fn source(&self) -> PathBuf {
        self.folder.join("source")
    }

    /// Cargo's folder.
    pub fn target(&self) -> PathBuf {
        self.folder.join("target")
    }

    /// Links files that were built, by their paths in cargo's folder, to the same paths below this clone's
    /// `target/built`; returns that folder. Whoever builds next replaces its files, and leaves these.
    ///
    /// # Errors
    /// A file can't be linked nor copied.
    pub fn link<'a>(&self, files: impl IntoIterator<Item = &'a str>) -> Result<PathBuf, String> {
        let built = root().join("target/built");
        for file in files {
            let (from, to) = (self.target().join(file), built.join(file));
            let linked = fs::create_dir_all(to.parent().expect("a file in a folder")).and_then(|()| {
                let _ = fs::remove_file(&to);
                fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(|_| ()))
            });
            linked.map_err(|error| format!("can't link {} to {}: {error}", from.display(), to.display()))?;
        }
        Ok(built)
    }
}

/// Builds the binary by itself, as a user gets it; returns where it is.
///
/// # Errors
/// It does not build.
pub fn hansard(run: &Run, release: bool) -> Result<PathBuf, String> {
    let build = SharedBuild::open(run)?;
    let mut command = build.cargo();
    command.args(["build", "--locked", "--package", "hansard", "--bin", "hansard"]);
    let profile = if release { "release" } else { "debug" };
    if release {
        command.arg("--release");
    }
    run.step(&format!("building hansard ({profile})"), &mut command)?;
    let file = format!("{profile}/hansard");
    Ok(build.link([file.as_str()])?.join(file))
}

/// The folder for this toolchain, lock file and profiles. One that another lock file left is taken over: cargo keeps
/// what is the same.
fn place() -> Result<PathBuf, String> {
    if let Some(own) = std::env::var_os("HANSARD_BUILD") {
        return std::path::absolute(&own).map_err(|error| format!("HANSARD_BUILD: {error}"));
    }
    let version = output("rustc --version", Command::new("rustc").arg("--version").current_dir(root()))?;
    let toolchain = version.split_whitespace().nth(1).unwrap_or("unknown").to_owned();
    let mut hasher = DefaultHasher::new();
    for name in ["Cargo.lock", "Cargo.toml"] {
        fs::read(root().join(name)).map_err(|error| format!("{name}: {error}"))?.hash(&mut hasher);
    }
    let builds = tools::cache()?.join("build");
    let folder = builds.join(format!("{toolchain}-{:016x}", hasher.finish()));
    if !folder.exists() {
        take_over(&builds, &toolchain, &folder);
    }
    Ok(folder)
}

/// Renames the folder of the same toolchain that nobody holds, if there is one; removes those of other toolchains.
fn take_over(builds: &Path, toolchain: &str, folder: &Path) {
    for entry in fs::read_dir(builds).into_iter().flatten().flatten() {
        let Ok(lock) = fs::File::open(entry.path().join("lock")) else { continue };
        if lock.try_lock().is_err() {
            continue;
        }
        if !entry.file_name().to_string_lossy().starts_with(&format!("{toolchain}-")) {
            let _ = fs::remove_dir_all(entry.path());
        } else if !folder.exists() {
            let _ = fs::rename(entry.path(), folder);
        }
    }
}

/// Says beforehand that a build would fill the disk.
fn enough_room(folder: &Path) -> Step {
    let text = output("df", Command::new("df").args(["--output=avail", "-BG"]).arg(folder))?;
    let free: u64 = text
        .lines()
        .nth(1)
        .and_then(|line| line.trim().trim_end_matches('G').parse().ok())
        .unwrap_or(u64::MAX);
    if free < FREE_GIB_MIN && !folder.join("target").exists() {
        return Err(format!(
            "{free} GiB are free below {}, and a first build takes {FREE_GIB_MIN}: make room, or name another folder in HANSARD_BUILD",
            folder.display()
        ));
    }
    Ok(())
}

/// Makes `to` what `from` is, and writes only what differs.
fn copy(from: &Path, to: &Path) -> Step {
    let cannot =
        |error: std::io::Error| format!("can't copy {} to {}: {error}", from.display(), to.display());
    if from.is_file() != to.is_file() && to.exists() {
        remove(to).map_err(cannot)?;
    }
    if from.is_file() {
        let same = fs::read(to).is_ok_and(|there| fs::read(from).is_ok_and(|here| here == there));
        return if same { Ok(()) } else { fs::copy(from, to).map(|_| ()).map_err(cannot) };
    }
    fs::create_dir_all(to).map_err(cannot)?;
    let names = |folder: &Path| -> Result<BTreeSet<std::ffi::OsString>, String> {
        let entries = fs::read_dir(folder).map_err(cannot)?;
        Ok(entries
            .flatten()
            .map(|entry| entry.file_name())
            .filter(|name| !MADE.iter().any(|made| name == made))
            .collect())
    };
    let wanted = names(from)?;
    for gone in names(to)?.difference(&wanted) {
        remove(&to.join(gone)).map_err(cannot)?;
    }
    wanted.iter().try_for_each(|name| copy(&from.join(name), &to.join(name)))
}

fn remove(path: &Path) -> std::io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::copy;

    #[test]
    fn only_what_differs_is_written_and_what_is_gone_goes() {
        let folder = std::env::temp_dir().join(format!("hansard-copy-{}", std::process::id()));
        let (from, to) = (folder.join("from"), folder.join("to"));
        let write = |path: &Path, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for name in ["same", "other", "gone", "below/gone", "turns/into/a/file", "target/made"] {
            write(&from.join(name), name);
        }
        copy(&from, &to).unwrap();
        assert!(!to.join("target").exists(), "what is made by running is not copied");
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
        write(&to.join("target/made"), "by cargo");
        copy(&from, &to).unwrap();

        let modified = |name: &str| fs::metadata(to.join(name)).unwrap().modified().unwrap();
        assert_eq!(modified("same"), long_ago, "cargo would build it anew");
        assert!(modified("other") > long_ago, "cargo would take it for what it was built from");
        assert_eq!(fs::read_to_string(to.join("other")).unwrap(), "another");
        assert_eq!(fs::read_to_string(to.join("turns")).unwrap(), "a file");
        assert!(!to.join("gone").exists() && !to.join("below").exists());
        assert!(to.join("target/made").exists());
        fs::remove_dir_all(folder).unwrap();
    }
}
