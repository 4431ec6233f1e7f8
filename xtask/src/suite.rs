//! The tests: built once, run by cargo-nextest, each in a process of its own (`.config/nextest.toml`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use xtask::shared_build::SharedBuild;
use xtask::steps::{Run, Step, in_ci, output, printed, root};

use crate::junit;

/// Parts that no registry has: where they are not installed, their tests are skipped in CI too.
const NOT_TO_BE_HAD: &[&str] = &["bq", "gcloud", "root", "Wycheproof"];
/// How a test says that it did not run; then the part that is missing, and why.
const SKIPPED: &str = "skipped: ";
/// Tests that the summary names.
const SLOWEST: usize = 5;

/// Tests that were built.
pub(crate) struct Suite {
    /// The binary under test.
    pub(crate) hansard: PathBuf,
    /// The folder that all of it was linked to, and what nextest has to know of it.
    built: PathBuf,
    binaries: PathBuf,
    packages: PathBuf,
}

/// Builds all tests, and links them into this clone: they run from there, whoever builds next.
pub(crate) fn build(run: &Run, nextest: &Path, build: &SharedBuild) -> Result<Suite, String> {
    let list = ["nextest", "list", "--locked", "--list-type", "binaries-only", "--message-format", "json"];
    let mut command = Command::new(nextest);
    let listed =
        run.part("building the tests", || printed("cargo nextest list", build.here(command.args(list))))?;
    // What must not compile is compiled there too.
    run.step("misuse", build.cargo().args(["test", "--locked", "--test", "misuse"]))?;
    let files = files(&listed).ok_or("cargo-nextest's list of binaries is not what 0.9 prints")?;
    let built = build.link(files.iter().map(String::as_str))?;
    let write = |name: &str, text: &str| {
        let path = built.join(name);
        fs::write(&path, text)
            .map_err(|error| format!("can't write {}: {error}", path.display()))
            .map(|()| path)
    };
    let packages =
        output("cargo metadata", build.cargo().args(["metadata", "--locked", "--format-version", "1"]))?;
    Ok(Suite {
        hansard: built.join("debug/hansard"),
        binaries: write("binaries.json", &listed)?,
        packages: write("packages.json", &packages)?,
        built,
    })
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

/// Runs all tests; returns what was skipped, a line each.
pub(crate) fn run(run: &Run, nextest: &Path, suite: &Suite) -> Result<Vec<String>, String> {
    let mut command = Command::new(nextest);
    command.current_dir(root()).args(["nextest", "run", "--no-fail-fast"]);
    command.arg("--binaries-metadata").arg(&suite.binaries).arg("--cargo-metadata").arg(&suite.packages);
    // Python keeps what it compiles, whatever this machine prefers: else each start compiles everything again.
    command.env_remove("PYTHONDONTWRITEBYTECODE");
    command.arg("--workspace-remap").arg(root()).arg("--target-dir-remap").arg(&suite.built);
    let done = run.step("tests", &mut command);
    let report = fs::read_to_string(root().join("target/nextest/default/junit.xml")).unwrap_or_default();
    let mut tests = junit::tests(&report);
    tests.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
    let slowest: Vec<String> =
        tests.iter().take(SLOWEST).map(|test| format!("{} {:.1} s", test.name, test.seconds)).collect();
    run.say(&format!("slowest tests: {}", slowest.join(", ")));
    let skipped = tests.iter().flat_map(|test| {
        let lines = test.output.lines().filter_map(|line| line.strip_prefix(SKIPPED));
        lines.map(|why| format!("{why} ({})", test.name)).collect::<Vec<_>>()
    });
    let skipped = skipped.collect();
    done.map(|()| skipped)
}

/// Prints what was skipped. In CI a part that could be there and is not is an error.
pub(crate) fn tell(skipped: &[String]) -> Step {
    for line in skipped {
        println!("skipped: {line}");
    }
    let missing = |line: &&String| !NOT_TO_BE_HAD.iter().any(|part| line.starts_with(part));
    match skipped.iter().find(missing) {
        Some(line) if in_ci() => Err(format!("in CI nothing is skipped that could be installed: {line}")),
        Some(_) | None => Ok(()),
    }
}
