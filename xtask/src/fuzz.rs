//! `cargo xtask fuzz [SECONDS]`: libFuzzer at every parser, by the toolchain that builds everything else. There is
//! no unsafe code to watch, so coverage is all that the compiler adds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{cargo, root, step};

/// How long each target runs where nobody says.
pub(crate) const SECONDS: u32 = 30;
/// Targets at a time.
const AT_ONCE: usize = 3;
/// What libFuzzer wants to see of the code (clang's documentation of SanitizerCoverage).
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebuginfo=line-tables-only";
/// One input longer than this says nothing new.
const INPUT_BYTES_MAX: u32 = 16 * 1024;
const MEMORY_MB_MAX: u32 = 2048;
/// An input that takes longer is a finding.
const INPUT_SECS_MAX: u32 = 5;

/// Runs every target; returns what each did, a line each.
pub(crate) fn run(seconds: u32) -> Result<String, String> {
    let folder = root().join("fuzz");
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--target", HOST]).current_dir(&folder);
    step("fuzz targets", build.env("RUSTFLAGS", COVERAGE))?;
    let targets = targets(&folder)?;
    let mut report = String::new();
    for group in targets.chunks(AT_ONCE) {
        let running: Vec<(&String, Child)> = group
            .iter()
            .map(|name| Ok((name, start(&folder, name, seconds)?)))
            .collect::<Result<_, String>>()?;
        for (name, child) in running {
            let output = child.wait_with_output().map_err(|error| format!("{name}: {error}"))?;
            let said = String::from_utf8_lossy(&output.stderr);
            if !output.status.success() {
                return Err(format!("{said}\nfuzz target {name} found an input: see fuzz/artifacts/{name}"));
            }
            let done = said.lines().rev().find(|line| line.starts_with("Done ")).unwrap_or_default();
            println!("fuzz {name}: {done}");
            report.push_str(&format!("- `{name}`: {done}\n"));
        }
    }
    Ok(report)
}

/// A target of its own name keeps coverage out of build scripts and macros.
const HOST: &str = "x86_64-unknown-linux-gnu";

fn targets(folder: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(folder.join("fuzz_targets")).map_err(|error| error.to_string())?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

fn start(folder: &Path, name: &str, seconds: u32) -> Result<Child, String> {
    let made = |kind: &str| -> Result<PathBuf, String> {
        let path = folder.join(kind).join(name);
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    };
    let (corpus, artifacts) = (made("corpus")?, made("artifacts")?);
    Command::new(folder.join("target").join(HOST).join("release").join(name))
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
