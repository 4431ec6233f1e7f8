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

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::lock::Lock;
use crate::steps::{Run, Step, cargo, output, root};
use crate::{tools, tree};

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
const MADE: &[&str] = &["fuzz/artifacts", "fuzz/corpus", "tests/clients/node/node_modules"];
/// Free space that a first build takes, and a later one.
const FIRST_GIB: u64 = 8;
const LATER_GIB: u64 = 2;
/// A folder of another toolchain that nobody used for so long is removed.
const UNUSED_MAX: Duration = Duration::from_secs(14 * 24 * 3600);

/// The folder, held by this run until this value ends.
#[must_use = "it is held as long as this value lives"]
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
        let folder = place(run)?;
        let lock = Lock::take(run, &folder.join("lock"), "builds")?;
        enough_room(&folder)?;
        let made: Vec<PathBuf> = MADE.iter().map(|made| root().join(made)).collect();
        for name in SOURCES {
            tree::copy(&root().join(name), &folder.join("source").join(name), &made)?;
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
        command.current_dir(self.folder.join("source")).env("CARGO_TARGET_DIR", self.target())
    }

    /// Cargo's folder.
    pub fn target(&self) -> PathBuf {
        self.folder.join("target")
    }

    /// A program that cargo calls in place of rustc, at a path that says what is in it: cargo compiles anew for another
    /// path, and does not look into the file.
    ///
    /// # Errors
    /// The program can't be copied.
    pub fn wrapper(&self, file: &str) -> Result<PathBuf, String> {
        let from = root().join(file);
        let cannot =
            |error: std::io::Error| format!("can't copy {}: {error}; is the disk full?", from.display());
        let mut hasher = DefaultHasher::new();
        fs::read(&from).map_err(cannot)?.hash(&mut hasher);
        let to = tools::cache()?.join("build").join(format!("wrapper-{:016x}", hasher.finish()));
        if !to.exists() {
            let making = to.with_extension("making");
            fs::copy(&from, &making).map_err(cannot)?;
            fs::set_permissions(&making, fs::Permissions::from_mode(0o755)).map_err(cannot)?;
            fs::rename(&making, &to).map_err(cannot)?;
        }
        Ok(to)
    }

    /// Links files that were built, by their paths in cargo's folder, to the same paths below a folder of this clone.
    /// Whoever builds next replaces its files, and leaves these.
    ///
    /// # Errors
    /// A file can't be linked nor copied.
    pub fn link<'a>(&self, files: impl IntoIterator<Item = &'a str>, folder: &Path) -> Step {
        for file in files {
            let (from, to) = (self.target().join(file), folder.join(file));
            let making = to.with_extension(format!("making-{}", std::process::id()));
            let linked = fs::create_dir_all(to.parent().expect("a file in a folder"))
                .and_then(|()| {
                    fs::hard_link(&from, &making).or_else(|_| fs::copy(&from, &making).map(|_| ()))
                })
                .and_then(|()| fs::rename(&making, &to));
            // Of two names of one file neither is renamed.
            let _ = fs::remove_file(&making);
            linked.map_err(|error| {
                format!("can't link {} to {}: {error}; is the disk full?", from.display(), to.display())
            })?;
        }
        Ok(())
    }
}

/// This clone's programs, but for those of its tests.
pub fn built() -> PathBuf {
    root().join("target/built")
}

/// Builds the binary by itself, as a user gets it; returns where it is.
///
/// # Errors
/// Cargo can't build it.
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
    build.link([file.as_str()], &built())?;
    Ok(built().join(file))
}

/// The folder for this toolchain, lock file and profiles. One that another lock file left is taken over: cargo keeps
/// what is the same.
fn place(run: &Run) -> Result<PathBuf, String> {
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
        take_over(run, &builds, &toolchain, &folder);
    }
    Ok(folder)
}

/// Renames the folder of the same toolchain that nobody holds, if there is one; removes those of other toolchains that
/// nobody used for long.
fn take_over(run: &Run, builds: &Path, toolchain: &str, folder: &Path) {
    for entry in fs::read_dir(builds).into_iter().flatten().flatten() {
        let Ok(lock) = fs::File::open(entry.path().join("lock")) else { continue };
        if lock.try_lock().is_err() {
            continue;
        }
        let used = lock.metadata().and_then(|meta| meta.modified()).ok();
        let is_unused = used.and_then(|used| used.elapsed().ok()).is_some_and(|unused| unused > UNUSED_MAX);
        if entry.file_name().to_string_lossy().starts_with(&format!("{toolchain}-")) {
            if !folder.exists() {
                let _ = fs::rename(entry.path(), folder);
            }
        } else if is_unused {
            run.say(&format!("removing {}: nobody used it for two weeks", entry.path().display()));
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Says beforehand that a build would fill the disk.
fn enough_room(folder: &Path) -> Step {
    let needed = if folder.join("target").exists() { LATER_GIB } else { FIRST_GIB };
    let text = output("df", Command::new("df").arg("-Pk").arg(folder)).unwrap_or_default();
    let free = text.lines().nth(1).and_then(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok());
    match free.map(|kib| kib / 1024 / 1024) {
        Some(free) if free < needed => Err(format!(
            "{free} GiB are free below {}, and a build may take {needed}: make room, or name another folder in HANSARD_BUILD",
            folder.display()
        )),
        Some(_) | None => Ok(()),
    }
}
