//! The tests: built once, run by cargo-nextest, each in a process of its own (`.config/nextest.toml`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use xtask::shared_build::SharedBuild;
use xtask::steps::{Run, Step, in_ci, output, printed, root};

use crate::junit;

/// Parts that no registry has: where they are not there, their tests are skipped in CI too.
const NOT_TO_BE_HAD: &[&str] = &["advisories", "bq", "corpora", "gcloud", "root", "Wycheproof"];
/// Words by which a test says that it did not run; then the part that is missing, and why.
const SKIPPED: &str = "skipped: ";
/// Said of every run.
const ADVISORIES: &str = "advisories: `cargo deny check advisories` needs a database that no registry has";
/// Tests that the summary names.
const SLOWEST: usize = 5;

/// Tests that were built, in a folder of this run alone: it ends with this value.
pub(crate) struct Suite {
    folder: PathBuf,
    /// The binary under test.
    pub(crate) hansard: PathBuf,
    /// All that nextest has to know of them.
    binaries: PathBuf,
    packages: PathBuf,
}

impl Drop for Suite {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Builds all tests, and links them into this clone: they run from there, whoever builds next.
pub(crate) fn build(run: &Run, nextest: &Path, build: &SharedBuild) -> Result<Suite, String> {
    let list = ["nextest", "list", "--locked", "--list-type", "binaries-only", "--message-format", "json"];
    let mut command = Command::new(nextest);
    let listed =
        run.part("building the tests", || printed("cargo nextest list", build.here(command.args(list))))?;
    // Code that must not compile is compiled there too.
    run.step("misuse", build.cargo().args(["test", "--locked", "--test", "misuse"]))?;
    let files = files(&listed)
        .ok_or("cargo-nextest's list of binaries is not what version 0.9 prints: run `cargo xtask tools`")?;
    let suite = folder();
    build.link(files.iter().map(String::as_str), &suite.folder)?;
    let write = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|error| format!("can't write {}: {error}", path.display()))
    };
    write(&suite.binaries, &listed)?;
    let metadata = ["metadata", "--locked", "--format-version", "1"];
    write(&suite.packages, &output("cargo metadata", build.cargo().args(metadata))?)?;
    Ok(suite)
}

/// A folder for this process; those of processes that are gone are removed.
fn folder() -> Suite {
    let (target, prefix) = (root().join("target"), "suite-");
    for entry in fs::read_dir(&target).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let runs = |process: &str| Path::new("/proc").join(process).exists();
        if name.strip_prefix(prefix).is_some_and(|process| !runs(process)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let folder = target.join(format!("{prefix}{}", std::process::id()));
    Suite {
        hansard: folder.join("debug/hansard"),
        binaries: folder.join("binaries.json"),
        packages: folder.join("packages.json"),
        folder,
    }
}

/// The files in nextest's list, below cargo's folder: tests, and the binaries that they run.
fn files(listed: &str) -> Option<Vec<String>> {
    let listed: Value = serde_json::from_str(listed).ok()?;
    let target = listed["rust-build-meta"]["target-directory"].as_str()?;
    let tests = listed["rust-binaries"].as_object()?.values().map(|test| test["binary-path"].as_str());
    let below = tests.map(|path| Some(path?.strip_prefix(target)?.trim_start_matches('/').to_owned()));
    let others = listed["rust-build-meta"]["non-test-binaries"].as_object()?.values();
    let others = others.flat_map(|binaries| binaries.as_array().into_iter().flatten());
    below.chain(others.map(|binary| Some(binary["path"].as_str()?.to_owned()))).collect()
}

/// Runs all tests, and prints the slowest of them and those that were skipped.
pub(crate) fn run(run: &Run, nextest: &Path, suite: &Suite) -> Step {
    let report = root().join("target/nextest/default/junit.xml");
    let _ = fs::remove_file(&report);
    let mut command = Command::new(nextest);
    command.current_dir(root()).args(["nextest", "run", "--profile", "default", "--no-fail-fast"]);
    command.arg("--binaries-metadata").arg(&suite.binaries).arg("--cargo-metadata").arg(&suite.packages);
    // Python keeps what it compiles, whatever this machine prefers: else each start compiles everything again.
    command.env_remove("PYTHONDONTWRITEBYTECODE");
    command.arg("--workspace-remap").arg(root()).arg("--target-dir-remap").arg(&suite.folder);
    let done = run.step("tests", &mut command);
    let report = fs::read_to_string(&report)
        .map_err(|error| format!("the tests left no report ({}: {error})", report.display()));
    let mut tests = junit::tests(&report.or_else(|why| done.clone().and(Err(why)))?);
    tests.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
    let slowest: Vec<String> =
        tests.iter().take(SLOWEST).map(|test| format!("{} {:.1} s", test.name, test.seconds)).collect();
    run.say(&format!("slowest tests: {}", slowest.join(", ")));
    let skipped = tests.iter().flat_map(|test| {
        let lines = test.output.lines().filter_map(|line| line.split_once(SKIPPED));
        lines.map(|(_, why)| format!("{why} ({})", test.name)).collect::<Vec<_>>()
    });
    let skipped: Vec<String> = skipped.chain([ADVISORIES.to_owned()]).collect();
    for line in &skipped {
        run.say(&format!("{SKIPPED}{line}"));
    }
    done?;
    let missing = |line: &&String| !NOT_TO_BE_HAD.iter().any(|part| line.starts_with(part));
    match skipped.iter().find(missing) {
        Some(line) if in_ci() => Err(format!("in CI nothing is skipped that could be installed: {line}")),
        Some(_) | None => Ok(()),
    }
}
