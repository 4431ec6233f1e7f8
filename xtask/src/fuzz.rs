//! `cargo xtask fuzz [SECONDS]`: libFuzzer at every parser, by the toolchain that builds everything else. There is
//! no unsafe code to watch, so coverage is all that the compiler adds, and only to the project's own crates
//! (`fuzz/coverage.sh`): libraries are shared with the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::shared_build::{SharedBuild, built};
use crate::steps::{Run, root};

/// Seconds for each target where nobody says.
pub const SECONDS: u32 = 30;
/// Targets at a time.
const AT_ONCE: usize = 2;
/// One input longer than this says nothing new.
const INPUT_BYTES_MAX: u32 = 16 * 1024;
const MEMORY_MB_MAX: u32 = 2048;
/// An input that takes longer is a finding.
const INPUT_SECS_MAX: u32 = 5;

/// Targets that were built: where they are, and their names.
pub struct Targets {
    folder: PathBuf,
    names: Vec<String>,
}

/// Effort of compiling the targets.
#[derive(Clone, Copy)]
pub enum Effort {
    /// As the tests are: soon there.
    Quick,
    /// Optimised: more inputs a second.
    Optimised,
}

/// Builds all targets.
///
/// # Errors
/// They do not build.
pub fn build(run: &Run, build: &SharedBuild, effort: Effort) -> Result<Targets, String> {
    let (profile, folder) = match effort {
        Effort::Quick => ("dev", "debug"),
        Effort::Optimised => ("fuzz", "fuzz"),
    };
    let mut command = build.cargo();
    command.args(["build", "--locked", "--package", "fuzz", "--profile", profile]);
    command.env("RUSTC_WORKSPACE_WRAPPER", build.wrapper("fuzz/coverage.sh")?);
    run.step("building the fuzz targets", &mut command)?;
    let names = names()?;
    let files: Vec<String> = names.iter().map(|name| format!("{folder}/{name}")).collect();
    build.link(files.iter().map(String::as_str), &built())?;
    Ok(Targets { folder: built().join(folder), names })
}

/// Runs every target; returns what each did, a line each.
///
/// # Errors
/// A target found an input.
pub fn attack(run: &Run, targets: &Targets, seconds: u32) -> Result<String, String> {
    let mut report = String::new();
    for group in targets.names.chunks(AT_ONCE) {
        let running: Vec<(&String, Child)> = group
            .iter()
            .map(|name| Ok((name, start(&targets.folder, name, seconds)?)))
            .collect::<Result<_, String>>()?;
        for (name, child) in running {
            let output = child.wait_with_output().map_err(|error| format!("{name}: {error}"))?;
            let said = String::from_utf8_lossy(&output.stderr);
            if !output.status.success() {
                return Err(format!("{said}\nfuzz target {name} found an input: see fuzz/artifacts/{name}"));
            }
            let done = said.lines().rev().find(|line| line.starts_with("Done ")).unwrap_or_default();
            run.say(&format!("fuzz {name}: {done}"));
            report.push_str(&format!("- `{name}`: {done}\n"));
        }
    }
    Ok(report)
}

fn names() -> Result<Vec<String>, String> {
    let entries = fs::read_dir(root().join("fuzz/fuzz_targets")).map_err(|error| error.to_string())?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

fn start(targets: &Path, name: &str, seconds: u32) -> Result<Child, String> {
    let folder = root().join("fuzz");
    let made = |kind: &str| -> Result<PathBuf, String> {
        let path = folder.join(kind).join(name);
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    };
    let (corpus, artifacts) = (made("corpus")?, made("artifacts")?);
    Command::new(targets.join(name))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MB_MAX}"))
        .arg(format!("-timeout={INPUT_SECS_MAX}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args([&corpus, &folder.join("seeds").join(name)])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("fuzz target {name}: {error}"))
}
