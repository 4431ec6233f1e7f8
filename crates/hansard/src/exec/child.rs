//! The command itself: started below us, signals passed to it, its exit code ours, nothing of it left behind.

use clap::Args;
use rustix::process::{Pid, Signal, WaitOptions, getpid, getppid, kill_process};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::environment::Environment;
use crate::cli::Failure;

/// What the command left running has so long to end.
const LEFT_BEHIND_MAX: Duration = Duration::from_secs(2);

/// Where a command's program lies, as a shell would find it.
pub(super) fn find(program: &OsStr) -> Result<PathBuf, Failure> {
    let name = program.to_string_lossy().into_owned();
    let not_found =
        || Failure { code: 127, message: format!("'{name}' was not found; is it installed, and in PATH?") };
    let candidates: Vec<PathBuf> = match Path::new(program).components().count() > 1 || name.starts_with('.')
    {
        true => vec![PathBuf::from(program)],
        false => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).map(|folder| folder.join(program)).collect()
        }
    };
    let mut existing = candidates.into_iter().filter(|path| path.exists());
    let is_executable = |path: &PathBuf| {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let Some(first) = existing.next() else { return Err(not_found()) };
    if is_executable(&first) {
        return Ok(first);
    }
    existing
        .find(is_executable)
        .ok_or_else(|| Failure { code: 126, message: format!("'{}' is not executable", first.display()) })
}

/// Runs it to its end. Must be polled on the main thread: the child is told when the thread that made it ends.
pub(super) async fn run(command: &[OsString], environment: &Environment) -> Result<u8, Failure> {
    rustix::process::set_child_subreaper(Some(getpid()))
        .map_err(|error| Failure::other_side(format!("can't watch over the command: {error}")))?;
    let mut signals = Signals::new()?;
    let mut child = Command::new("/proc/self/exe");
    child.arg("run-below").arg(getpid().as_raw_nonzero().to_string()).arg("--").args(command);
    for name in &environment.unset {
        child.env_remove(name);
    }
    child.envs(&environment.set);
    let child = child.spawn();
    let child = child.map_err(|error| Failure::other_side(format!("can't start the command: {error}")))?;
    let pid = Pid::from_raw(child.id() as i32).expect("a child has a pid");
    let mut ended = reap(pid);
    let code = loop {
        tokio::select! {
            code = ended.recv() => break code.unwrap_or(super::FAILED),
            signal = signals.next() => drop(kill_process(pid, signal)),
        }
    };
    end_rest(&mut ended).await;
    Ok(code)
}

/// Waits for whatever ends below us. Gives the child's code; ends when nothing is left.
fn reap(child: Pid) -> mpsc::UnboundedReceiver<u8> {
    let (send, receive) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        loop {
            match rustix::process::wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) if pid == child => {
                    let code = status
                        .exit_status()
                        .unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0));
                    let _ = send.send(code as u8);
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    });
    receive
}

/// Ends what the command left running: the session is over, and no process of it stays.
async fn end_rest(ended: &mut mpsc::UnboundedReceiver<u8>) {
    for signal in [Signal::TERM, Signal::KILL] {
        let left = sidecar::below(getpid());
        if left.is_empty() {
            return;
        }
        for pid in left {
            let _ = kill_process(pid, signal);
        }
        let nothing_left = async { while ended.recv().await.is_some() {} };
        if tokio::time::timeout(LEFT_BEHIND_MAX, nothing_left).await.is_ok() {
            return;
        }
    }
}

/// Signals that are passed on. A key on the terminal reaches the command by itself.
struct Signals(mpsc::UnboundedReceiver<Signal>);

impl Signals {
    fn new() -> Result<Self, Failure> {
        let (send, receive) = mpsc::unbounded_channel();
        let passed = [
            (SignalKind::terminate(), Signal::TERM),
            (SignalKind::hangup(), Signal::HUP),
            (SignalKind::user_defined1(), Signal::USR1),
            (SignalKind::user_defined2(), Signal::USR2),
            (SignalKind::interrupt(), Signal::INT),
            (SignalKind::quit(), Signal::QUIT),
        ];
        for (kind, passed) in passed {
            let mut signals = signal(kind).map_err(|error| Failure::other_side(error.to_string()))?;
            let send = send.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    let by_key = matches!(passed, Signal::INT | Signal::QUIT) && is_foreground();
                    if !by_key && send.send(passed).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self(receive))
    }

    async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}

/// Whether the terminal's keys reach our whole process group.
fn is_foreground() -> bool {
    let group = rustix::process::getpgrp();
    rustix::termios::tcgetpgrp(std::io::stdin()).is_ok_and(|foreground| foreground == group)
}

#[derive(Args)]
pub(crate) struct ChildArgs {
    /// Who started it.
    parent: i32,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Between us and the command, for a moment: ends with us, then becomes the command.
pub(crate) fn run_child(args: &ChildArgs) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Failure { code: super::FAILED, message: error.to_string() })?;
    // It may have ended before we asked to be told.
    if getppid().map(|parent| parent.as_raw_nonzero().get()) != Some(args.parent) {
        return Err(Failure {
            code: super::FAILED,
            message: "hansard ended before the command began".to_owned(),
        });
    }
    let error = Command::new(&args.command[0]).args(&args.command[1..]).exec();
    let name = args.command[0].to_string_lossy();
    Err(match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure { code: 127, message: format!("'{name}' was not found: {error}") }
        }
        _ => Failure { code: 126, message: format!("'{name}' can't be run: {error}") },
    })
}
