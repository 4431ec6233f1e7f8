//! `cargo xtask`: everything that is done to the project rather than by it.

mod bench;
mod docs;
mod fuzz;
mod many;
mod soak;
mod streams;
mod test;
mod tidy;
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HELP: &str = "cargo xtask COMMAND
  test    installs what the tests need and runs all checks and tests
  tools   only installs
  tidy    only the checks of structure
  docs    writes the documents that are made from the code (--check: only compares)
  bench   prints direct, nginx and hansard side by side; writes docs/performance.md
          (or a part of it, not written down: bench small|rules|pages|storage; --binary FILE: of another build)
  fuzz    lets hostile bytes at every parser, 30 seconds each (or: fuzz SECONDS)
  soak    the long versions of the tests (or: soak KILLS EXCHANGES); writes docs/soak.md";

/// What a step says when it fails.
pub(crate) type Step = Result<(), String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.first().map(String::as_str) {
        Some("test") => test::run(),
        Some("tools") => tools::install().map(|_| ()),
        Some("tidy") => tidy::run(),
        Some("docs") => docs::run(args.iter().any(|arg| arg == "--check")),
        Some("bench") => bench::run(&args[1..]),
        Some("fuzz") => {
            fuzz::run(args.get(1).and_then(|text| text.parse().ok()).unwrap_or(fuzz::SECONDS)).map(|_| ())
        }
        Some("soak") => soak::run(),
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

/// The project's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root").to_owned()
}

/// Runs a command, saying so; its output goes where ours goes.
pub(crate) fn step(name: &str, command: &mut Command) -> Step {
    println!("== {name}");
    let started = std::time::Instant::now();
    let status = command.status().map_err(|error| format!("{name}: {error}"))?;
    println!("== {name}: {:.1} s", started.elapsed().as_secs_f64());
    if status.success() { Ok(()) } else { Err(format!("{name} failed ({status})")) }
}

/// Runs a command and returns what it printed.
pub(crate) fn output(name: &str, command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "{name} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `cargo`, in the project's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}
