//! Installs what the tests need, once: real clients, the emulator, a real identity provider. All pinned, with
//! hashes, by the registries' own clients; kept in the user's cache and linked as `target/tools`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Step, root, step};

/// Installs everything that is missing; returns where.
pub(crate) fn install() -> Result<PathBuf, String> {
    let cache = cache()?.join("test-tools");
    fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    programs()?;
    let clients = root().join("tests/clients");
    let python_clients = clients.join("python");
    venv(&cache, "clients", &python_clients.join("requirements.txt"))?;
    venv(&cache, "storage", &python_clients.join("storage-requirements.txt"))?;
    // dbt, ibis and bigframes.
    venv(&cache, "analytics", &python_clients.join("analytics-requirements.txt"))?;
    compose_schema(&cache, &python_clients.join("compose-requirements.txt"))?;
    if venv(&cache, "emulator", &clients.join("python/emulator-requirements.txt"))? {
        let home = cache.join("emulator-home");
        fs::create_dir_all(&home).map_err(|error| error.to_string())?;
        let extensions = "from duckdb_extensions import import_extension as i; i('spatial'); i('avro')";
        let python = cache.join("emulator/bin/python");
        step("the emulator's extensions", Command::new(python).env("HOME", home).args(["-c", extensions]))?;
    }
    node(&cache, "node", &clients.join("node"))?;
    node(&cache, "idp", &root().join("tests/idp"))?;
    link(&cache)?;
    Ok(cache)
}

fn cache() -> Result<PathBuf, String> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    set("HANSARD_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("hansard")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/hansard")))
        .ok_or_else(|| "neither HANSARD_CACHE nor HOME is set".to_owned())
}

/// Programs that come from Debian's packages.
fn programs() -> Step {
    let wanted = [
        ("curl", "curl"),
        ("node", "nodejs"),
        ("npm", "npm"),
        ("python3", "python3"),
        ("openssl", "openssl"),
        ("fiu-ctrl", "fiu-utils"),
        ("strace", "strace"),
    ];
    let missing: Vec<&str> =
        wanted.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect();
    apt_install(&missing)
}

/// Installs Debian's packages, if there are any to install.
pub(crate) fn apt_install(missing: &[&str]) -> Step {
    if missing.is_empty() {
        return Ok(());
    }
    step("apt-get update", apt_get().args(["update", "-q"]))?;
    let install = ["install", "-qy", "--no-install-recommends"];
    step("apt-get install", apt_get().args(install).args(missing))
}

/// A fresh machine may be updating itself: it is waited for.
fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-o", "DPkg::Lock::Timeout=300"]);
    command
}

pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// A virtual environment by a requirements file with hashes. True if it was made now.
fn venv(cache: &Path, name: &str, requirements: &Path) -> Result<bool, String> {
    let folder = cache.join(name);
    if is_current(&folder, requirements)? {
        return Ok(false);
    }
    let _ = fs::remove_dir_all(&folder);
    step(&format!("python environment '{name}'"), Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let mut pip = Command::new(folder.join("bin/pip"));
    // The lists are complete; what they leave out is not used here.
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "-r"])
        .arg(requirements);
    step(&format!("pip install for '{name}'"), &mut pip)?;
    mark(&folder, requirements)?;
    Ok(true)
}

/// The Compose schema comes in an old package whose dependencies nobody needs.
fn compose_schema(cache: &Path, requirements: &Path) -> Step {
    let folder = cache.join("clients");
    let mark = folder.join("compose-made-from");
    let wanted = fs::read(requirements).map_err(|error| format!("{}: {error}", requirements.display()))?;
    if fs::read(&mark).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    let mut pip = Command::new(folder.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "-r"])
        .arg(requirements);
    step("pip install of the Compose schema", &mut pip)?;
    fs::write(mark, wanted).map_err(|error| error.to_string())
}

/// Node's modules by a lock file.
fn node(cache: &Path, name: &str, package: &Path) -> Step {
    let folder = cache.join(name);
    let lock = package.join("package-lock.json");
    if is_current(&folder, &lock)? {
        return Ok(());
    }
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(package.join(file), folder.join(file)).map_err(|error| format!("{file}: {error}"))?;
    }
    let mut npm = Command::new("npm");
    step(&format!("npm ci for '{name}'"), npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder))?;
    mark(&folder, &lock)
}

/// Whether the folder was made from this very file.
fn is_current(folder: &Path, source: &Path) -> Result<bool, String> {
    let wanted = fs::read(source).map_err(|error| format!("{}: {error}", source.display()))?;
    Ok(fs::read(folder.join("made-from")).is_ok_and(|made| made == wanted))
}

fn mark(folder: &Path, source: &Path) -> Step {
    fs::copy(source, folder.join("made-from")).map(|_| ()).map_err(|error| error.to_string())
}

fn link(cache: &Path) -> Step {
    let target = root().join("target");
    fs::create_dir_all(&target).map_err(|error| error.to_string())?;
    let link = target.join("tools");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(cache, &link).map_err(|error| format!("{}: {error}", link.display()))
}
