//! `cargo xtask`: everything that is done to the project rather than by it.

mod docs;
mod junit;
mod suite;
mod test;
mod tidy;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use xtask::fuzz::{self, Effort};
use xtask::shared_build::{self, SharedBuild, built};
use xtask::steps::{Run, Step, root};
use xtask::tools;

const HELP: &str = "cargo xtask COMMAND
  test    installs what the tests need and runs all checks and tests
  demo    builds hansard and runs `hansard demo` (`cargo demo` is short for it)
  tools   only installs
  tidy    only the checks of structure
  docs    writes the documents that are made from the code (--check: only compares)
  bench   prints direct, nginx and hansard side by side; writes docs/performance.md
          (or a part of it, not written down: bench small|rules|pages|storage; --binary FILE: of another build)
  fuzz    lets hostile bytes at every parser, 30 seconds each (or: fuzz SECONDS)
  soak    the long versions of the tests (or: soak KILLS EXCHANGES); writes docs/soak.md

All clones of a machine share one build folder in the user's cache; HANSARD_BUILD names another.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let run = Run::default();
    let rest = args.get(1..).unwrap_or_default();
    let done = match args.first().map(String::as_str) {
        Some("test") => test::run(&run),
        Some("demo") => demo(&run, rest),
        Some("tools") => tools::install(&run).map(|_| ()),
        Some("tidy") => tidy::run(),
        Some("docs") => {
            let check = rest.iter().any(|arg| arg == "--check");
            shared_build::hansard(&run, false).and_then(|hansard| docs::run(&hansard, check))
        }
        Some("fuzz") => fuzz(&run, rest.first()),
        Some("bench" | "soak") => bench(&run, &args),
        _ => Err(HELP.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Becomes `hansard demo`.
fn demo(run: &Run, args: &[String]) -> Step {
    run.say("the demo: building hansard (some minutes the first time), then everything runs on loopback");
    let hansard = shared_build::hansard(run, false)?;
    Err(format!("can't run {}: {}", hansard.display(), Command::new(&hansard).arg("demo").args(args).exec()))
}

fn fuzz(run: &Run, seconds: Option<&String>) -> Step {
    let seconds = match seconds {
        None => fuzz::SECONDS,
        Some(text) => text.parse().map_err(|_| format!("'{text}' is no number of seconds"))?,
    };
    let targets = fuzz::build(run, &SharedBuild::open(run)?, Effort::Optimised)?;
    fuzz::attack(run, &targets, seconds).map(|_| ())
}

/// Builds the package `bench`, and becomes it.
fn bench(run: &Run, args: &[String]) -> Step {
    let build = SharedBuild::open(run)?;
    run.step("building the benchmark", build.cargo().args(["build", "--locked", "--package", "bench"]))?;
    build.link(["debug/bench"], &built())?;
    let bench = built().join("debug/bench");
    drop(build);
    let mut command = Command::new(&bench);
    command.args(args).env("CARGO_MANIFEST_DIR", root().join("xtask/bench"));
    Err(format!("can't run {}: {}", bench.display(), command.exec()))
}
