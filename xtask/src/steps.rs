//! Runs commands, one line when each begins and one when it ends, and adds up where the time went.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Result of a step; the error is for people: one sentence of what failed, one of what to do.
pub type Step = Result<(), String>;

/// Parts that the summary names.
const SLOWEST: usize = 5;
/// Lines of a quiet command's output that an error repeats.
const TAIL_LINES: usize = 20;

/// A run of this command: its steps and how long each took.
pub struct Run {
    begun: Instant,
    took: Mutex<Vec<(String, Duration)>>,
}

impl Default for Run {
    fn default() -> Self {
        Self { begun: Instant::now(), took: Mutex::new(Vec::new()) }
    }
}

impl Run {
    /// Does some work as a named step.
    pub fn part<T>(&self, name: &str, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        self.say(&format!("{name} ..."));
        let begun = Instant::now();
        let done = work();
        let took = begun.elapsed();
        self.say(&format!(
            "{name}: {} after {:.1} s",
            if done.is_ok() { "done" } else { "FAILED" },
            took.as_secs_f64()
        ));
        self.took.lock().expect("no step panics").push((name.to_owned(), took));
        done
    }

    /// Runs a command as a step; its output goes where ours goes.
    pub fn step(&self, name: &str, command: &mut Command) -> Step {
        self.part(name, || {
            let status = command.status().map_err(|error| format!("{name}: {error}"))?;
            if status.success() { Ok(()) } else { Err(format!("{name} failed ({status}); why stands above")) }
        })
    }

    /// Runs a command as a step beside others: its output is shown only if it fails.
    pub fn quiet(&self, name: &str, command: &mut Command) -> Step {
        self.part(name, || output(name, command).map(|_| ()))
    }

    /// Prints a line with the time since the run began.
    pub fn say(&self, line: &str) {
        println!("[{}] {line}", clock(self.begun.elapsed()));
    }

    /// Prints the slowest steps and the time of all.
    pub fn summary(&self) {
        let mut took = self.took.lock().expect("no step panics").clone();
        took.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        let slowest: Vec<String> = took
            .iter()
            .take(SLOWEST)
            .map(|(name, time)| format!("{name} {:.1} s", time.as_secs_f64()))
            .collect();
        println!("slowest steps: {}", slowest.join(", "));
        println!("all of it: {}", clock(self.begun.elapsed()));
    }
}

/// Minutes and seconds.
fn clock(time: Duration) -> String {
    format!("{:2}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

/// Runs a command and returns what it printed.
///
/// # Errors
/// The command can't be started or fails; the end of what it said is in the error.
pub fn output(name: &str, command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let lines: Vec<&str> = said.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    Err(format!("{tail}\n{name} failed ({})", output.status))
}

/// Runs a command and returns what it printed; what it says on stderr goes where ours goes.
///
/// # Errors
/// The command can't be started or fails.
pub fn printed(name: &str, command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name} failed ({}); why stands above", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The project's root: of the folder that cargo runs us for, not of the one that we were compiled in.
///
/// # Panics
/// Outside the project.
pub fn root() -> PathBuf {
    let start =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(std::env::current_dir, |set| Ok(set.into()));
    let start = start.expect("the current folder exists");
    let root = start.ancestors().find(|folder| folder.join("xtask/Cargo.toml").exists());
    root.expect("run it in the project: `cargo xtask`").to_owned()
}

/// `cargo`, in the project's root.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Tells if a continuous integration runs us: what is missing is then an error.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|set| !set.is_empty() && set != "false")
}
