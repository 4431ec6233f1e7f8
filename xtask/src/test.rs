//! `cargo xtask test`: all checks, then all tests.

use std::process::{Command, Stdio};

use crate::{Step, cargo, docs, fuzz, root, step, tidy, tools};

/// The version of cargo-deny that the checks were written for.
const DENY: &str = "0.20.2";

pub(crate) fn run() -> Step {
    let tools = tools::install()?;
    step("format", cargo().args(["fmt", "--all", "--check"]))?;
    step(
        "clippy",
        cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
    )?;
    tidy::run()?;
    // Early: the targets themselves are built last.
    let mut lock = cargo();
    lock.args(["metadata", "--locked", "--format-version", "1"]).current_dir(root().join("fuzz"));
    step("lock file of the fuzz targets", lock.stdout(Stdio::null()))?;
    step("build", cargo().args(["build", "--workspace", "--locked"]))?;
    // The parser that rules read statements by: from PyPI by its hash, compiled once.
    let mut analyzer = Command::new(root().join("target/debug/hansard"));
    step("the analyzer", analyzer.args(["analyzer", "install"]))?;
    docs::run(true)?;
    let mut compose = Command::new(tools.join("clients/bin/python"));
    step(
        "compose file",
        compose.args(["tests/check_compose.py", "deploy/compose.yaml"]).current_dir(root()),
    )?;
    deny()?;
    step("tests", cargo().args(["test", "--workspace", "--locked", "--no-fail-fast"]))?;
    fuzz::run(fuzz::SECONDS).map(|_| ())
}

/// Licences, sources and duplicate crates. Advisories need a database that is not in a registry: `cargo deny
/// check advisories` is for machines that reach it.
fn deny() -> Step {
    if !tools::on_path("cargo-deny") {
        let mut install = cargo();
        install.args(["install", "cargo-deny", "--locked", "--version", DENY]);
        step("installing cargo-deny", &mut install)?;
    }
    let mut deny: Command = cargo();
    step("cargo deny", deny.args(["deny", "--log-level", "error", "check", "bans", "licenses", "sources"]))
}
