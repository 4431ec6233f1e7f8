//! Takes the module from PyPI, checks it and compiles it.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::module;

/// The package that carries the module; its hash is that of its one wheel.
pub const PACKAGE: &str =
    "zetasql==0.1.5 --hash=sha256:17fa5e5aa927fbb647c1812b08ee8ef8c5d36c8e2e83eaa4651d9bc4a8a462f8\n";
/// The module itself: GoogleSQL of 2025.11.2.
pub const MODULE_SHA256: &str = "00135b44fe391fa8d56f6804dca013bc681e45d607561a638b81c98a08744bcb";
const MODULE_PATH: &str = "zetasql/wasi/zetasql.wasm";

/// A compiled module in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    pub path: PathBuf,
}

/// Why there is none.
#[derive(Debug)]
pub struct InstallError(String);

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InstallError {}

/// Where the compiled module lies below a cache folder. Another engine makes another file.
fn place(cache: &Path) -> PathBuf {
    cache.join("analyzer").join(format!("{}-{}.cwasm", &MODULE_SHA256[..16], module::ENGINE))
}

/// The compiled module of a cache, if it is there and only its owner could have written it.
pub fn find(cache: &Path) -> Result<Option<Installed>, InstallError> {
    let path = place(cache);
    let meta = match fs::symlink_metadata(&path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(InstallError(format!("{}: {error}", path.display()))),
    };
    let folder = fs::symlink_metadata(path.parent().unwrap_or(cache))
        .map_err(|error| InstallError(format!("{}: {error}", path.display())))?;
    // Compiled code is trusted as it lies there: nobody else may have been able to change it.
    let ours = rustix_uid();
    let is_private =
        |meta: &fs::Metadata| (meta.uid() == ours || meta.uid() == 0) && meta.mode() & 0o022 == 0;
    if !meta.is_file() || !is_private(&meta) || !is_private(&folder) {
        return Err(InstallError(format!(
            "{} could have been written by somebody else; remove it and run 'hansard analyzer install'",
            path.display()
        )));
    }
    Ok(Some(Installed { path }))
}

fn rustix_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Installs it, if it is not there yet. `python` is a Python with `venv`; `say` is told each step.
pub fn install(cache: &Path, python: &str, say: &dyn Fn(&str)) -> Result<Installed, InstallError> {
    if let Some(installed) = find(cache)? {
        return Ok(installed);
    }
    let path = place(cache);
    let folder = path.parent().unwrap_or(cache);
    let cannot = |error: io::Error| InstallError(format!("can't write {}: {error}", folder.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(cannot)?;
    let work = folder.join(format!("work-{}", std::process::id()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&work).map_err(cannot)?;
    let made = make(&work, python, say).and_then(|code| {
        say("  keeping it");
        write_private(&work.join("module"), &code)
            .and_then(|()| fs::rename(work.join("module"), &path))
            .map_err(cannot)
    });
    let _ = fs::remove_dir_all(&work);
    made?;
    Ok(Installed { path })
}

fn make(work: &Path, python: &str, say: &dyn Fn(&str)) -> Result<Vec<u8>, InstallError> {
    let cannot = |error: io::Error| InstallError(format!("can't write {}: {error}", work.display()));
    say("  taking the module from PyPI (8 MB)");
    let wanted = work.join("requirements.txt");
    fs::write(&wanted, PACKAGE).map_err(cannot)?;
    run(Command::new(python).args(["-m", "venv"]).arg(work.join("venv")), python)?;
    let mut pip = Command::new(work.join("venv/bin/pip"));
    pip.args(["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "-r"]);
    run(pip.arg(&wanted).arg("-d").arg(work.join("wheel")), "pip")?;
    let wheel = fs::read_dir(work.join("wheel")).map_err(cannot)?.flatten().next();
    let wheel = wheel.ok_or_else(|| InstallError("pip left no wheel".to_owned()))?.path();
    run(Command::new(python).args(["-m", "zipfile", "-e"]).arg(&wheel).arg(work.join("files")), python)?;
    let wasm = fs::read(work.join("files").join(MODULE_PATH)).map_err(cannot)?;
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &wasm);
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    if hash != MODULE_SHA256 {
        return Err(InstallError(format!("the module's SHA-256 is {hash}, not {MODULE_SHA256}")));
    }
    say("  compiling it (once; half a minute)");
    module::compile(wasm).map_err(|error| InstallError(format!("the module can't be compiled: {error}")))
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()
}

fn run(command: &mut Command, what: &str) -> Result<(), InstallError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| InstallError(format!("can't run {what}: {error}; it needs python3 with venv")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(InstallError(format!("{what} failed: {}", said.trim().lines().last().unwrap_or("it said nothing"))))
}
