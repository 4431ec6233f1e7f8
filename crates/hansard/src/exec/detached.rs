//! `hansard env`: the same session for programs that are started elsewhere.

use clap::Args;
use sidecar::Admits;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use tokio::signal::unix::{SignalKind, signal};

use super::{SessionArgs, runtime, start};
use crate::cli::Failure;

#[derive(Args)]
#[command(after_help = "Examples:
  eval \"$(hansard env --detach)\"         then every Google client of this shell
  hansard env --shell fish | source
  kill $HANSARD_SIDECAR_PID               ends a detached session

Every process of your user may use its port: 'exec' serves only what it started.")]
pub(crate) struct EnvArgs {
    #[command(flatten)]
    pub(crate) session: SessionArgs,
    /// How to print the variables.
    #[arg(long, default_value = "sh", value_parser = ["sh", "fish", "json"])]
    pub(crate) shell: String,
    /// The sidecar's address; loopback only.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    pub(crate) listen: SocketAddr,
    /// Goes on in the background.
    #[arg(long)]
    pub(crate) detach: bool,
    /// Set by --detach for the process in the background.
    #[arg(long, hide = true)]
    background: bool,
}

/// `hansard env`
pub(crate) fn env(args: &EnvArgs) -> Result<(), Failure> {
    if !args.listen.ip().is_loopback() || !args.listen.is_ipv4() {
        return Err(Failure::usage(format!(
            "{} is not on 127.0.0.1; the sidecar gives its user's identity to whoever may ask",
            args.listen
        )));
    }
    if args.detach && !args.background {
        return detach();
    }
    if args.background {
        // No terminal's end ends it.
        let _ = rustix::process::setsid();
    }
    runtime()?.block_on(async {
        let running = start(&args.session, "env", "hansard env", args.listen, Admits::SameUser).await?;
        let mut ends = Ends::new()?;
        let mut environment = running.environment.print(&args.shell);
        let pid = std::process::id().to_string();
        match args.shell.as_str() {
            "json" => {}
            "fish" => environment.push_str(&format!("set -gx HANSARD_SIDECAR_PID {pid};\n")),
            _ => environment.push_str(&format!("export HANSARD_SIDECAR_PID={pid};\n")),
        }
        print_and_close(&environment)?;
        eprintln!(
            "hansard: session {} at {}; every process of your user may use it until this one ends (pid {pid})",
            running.session.id, running.address
        );
        if args.background {
            let _ = std::fs::File::open("/dev/null").map(rustix::stdio::dup2_stderr);
        }
        ends.come().await;
        if let Some(said) = running.stop(None).await {
            eprintln!("hansard: {said}");
        }
        Ok(())
    })
}

/// What tells it to end.
struct Ends([tokio::signal::unix::Signal; 3]);

impl Ends {
    fn new() -> Result<Self, Failure> {
        let one = |kind| signal(kind).map_err(|error| Failure::other_side(error.to_string()));
        Ok(Self([one(SignalKind::terminate())?, one(SignalKind::interrupt())?, one(SignalKind::hangup())?]))
    }

    async fn come(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
            _ = hangup.recv() => (),
        }
    }
}

/// Whoever reads it to its end, such as `eval`, goes on.
fn print_and_close(text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::other_side(format!("can't print: {error}"));
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(failed)?;
    let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null").map_err(failed)?;
    rustix::stdio::dup2_stdout(nowhere).map_err(|error| failed(error.into()))
}

/// Starts itself again in the background, and prints what that prints.
fn detach() -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::other_side(format!("can't go to the background: {error}"));
    let mut again = Command::new("/proc/self/exe");
    again.args(std::env::args_os().skip(1)).arg("--background");
    again.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut child = again.spawn().map_err(failed)?;
    let mut printed = String::new();
    child.stdout.take().expect("it is piped").read_to_string(&mut printed).map_err(failed)?;
    if printed.is_empty() {
        let code = child.wait().map_err(failed)?.code().unwrap_or(3);
        return Err(Failure { code: code as u8, message: String::new() });
    }
    std::io::stdout().write_all(printed.as_bytes()).map_err(failed)
}
