//! `cargo xtask test`: all checks, then all tests.
//!
//! ```text
//! this thread   format, tidy, deny | clippy, tests are built, documents | fuzz targets are built | tests | fuzz
//! beside it                        | clients, emulator, provider        | the analyzer
//! ```

use std::path::Path;
use std::process::Command;
use std::thread;

use xtask::fuzz::{self, Effort, Targets};
use xtask::lock::Lock;
use xtask::shared_build::SharedBuild;
use xtask::steps::{Run, Step, cargo, root};
use xtask::tools;

use crate::suite::{self, Suite};
use crate::{docs, tidy};

/// Seconds for each fuzz target here; `cargo xtask fuzz` and the soak run them for longer.
const FUZZ_SECS: u32 = 10;

/// Installs, checks, builds and tests everything.
pub(crate) fn run(run: &Run) -> Step {
    run.say("every check and every test; on two cores some 20 minutes the first time, 10 after that");
    let done = all(run);
    run.summary();
    done
}

fn all(run: &Run) -> Step {
    run.step("format", cargo().args(["fmt", "--all", "--check"]))?;
    run.part("tidy", tidy::run)?;
    let checks = tools::checks(run)?;
    deny(run, &checks)?;
    let nextest = checks.join("cargo-nextest");
    let (built, tools) = thread::scope(|scope| {
        let tools = scope.spawn(|| tools::install(run).inspect_err(|why| run.say(why)));
        let built = build(run, &nextest);
        (built, tools.join().expect("installing does not panic"))
    });
    let ((suite, targets), tools) = (built?, tools?);
    let mut compose = Command::new(tools.join("clients/bin/python"));
    compose.args(["tests/check_compose.py", "deploy/compose.yaml"]).current_dir(root());
    run.step("compose file", &mut compose)?;
    // Two suites at once would take each other's time.
    let _lock = Lock::take(run, &tools::cache()?.join("tests.lock"), "runs its tests")?;
    suite::run(run, &nextest, &suite)?;
    run.part("fuzz targets", || fuzz::attack(run, &targets, FUZZ_SECS)).map(|_| ())
}

fn build(run: &Run, nextest: &Path) -> Result<(Suite, Targets), String> {
    let build = SharedBuild::open(run)?;
    let clippy = ["clippy", "--all-targets", "--locked", "--", "-D", "warnings"];
    run.step("clippy", build.cargo().args(clippy))?;
    let suite = suite::build(run, nextest, &build)?;
    run.part("documents", || docs::run(&suite.hansard, true))?;
    let targets = thread::scope(|scope| {
        // The parser that rules read statements by: from PyPI by its hash, compiled once, on one core.
        let mut install = Command::new(&suite.hansard);
        let analyzer = scope.spawn(move || run.quiet("the analyzer", install.args(["analyzer", "install"])));
        let targets = fuzz::build(run, &build, Effort::Quick);
        analyzer.join().expect("installing does not panic").and(targets)
    })?;
    Ok((suite, targets))
}

/// Licences, sources and duplicate crates. Advisories need a database that is not in a registry: `cargo deny
/// check advisories` is for machines that reach it.
fn deny(run: &Run, checks: &Path) -> Step {
    let mut deny = Command::new(checks.join("cargo-deny"));
    deny.current_dir(root()).args(["--log-level", "error", "check", "bans", "licenses", "sources"]);
    run.step("cargo deny", &mut deny)
}
