//! `hansard exec` and `hansard env`: every Google client in a command reaches BigQuery through the gateway.

mod identity;
mod session;
mod place;
mod environment;
mod child;
mod detached;
mod doctor;

use clap::Args;
use record::{Clock, SystemClock};
use sidecar::{Admits, Authority, Sidecar, SidecarConfig};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;

pub(crate) use child::{ChildArgs, run_child};
pub(crate) use detached::{EnvArgs, env};
pub(crate) use doctor::{DoctorArgs, doctor};
pub(crate) use place::{TidyArgs, tidy};

use crate::cli::Failure;
use crate::login;
use crate::wiring::env_var;
use environment::Environment;
use identity::Who;
use place::Place;
use session::{Opened, Session};

/// What hansard itself failed at.
const FAILED: u8 = 125;

#[derive(Args, Clone)]
pub(crate) struct SessionArgs {
    /// The gateway; else the configuration's public_url, else the one gateway that you are signed in at.
    #[arg(long, value_name = "URL")]
    pub(crate) gateway: Option<String>,
    /// The connection; needed where you may use more than one.
    #[arg(long)]
    pub(crate) connection: Option<String>,
    /// Who runs in it, such as claude; else the command's name.
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// The task's id, such as a ticket's.
    #[arg(long, default_value = "")]
    pub(crate) task: String,
    /// How long the session may last.
    #[arg(long, value_name = "N")]
    pub(crate) for_minutes: Option<u32>,
    /// Refuses every host that is not BigQuery's.
    #[arg(long)]
    pub(crate) only_bigquery: bool,
    /// A virtual key to act by, instead of your sign-in.
    #[arg(long, value_name = "FILE", conflicts_with = "token_file")]
    pub(crate) key: Option<PathBuf>,
    /// A file with a token of an identity provider to act by, read again for each renewal.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The configuration that may name the gateway.
    #[arg(long, default_value = "hansard.toml", value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Args)]
#[command(after_help = "Examples:
  hansard exec -- claude
  hansard exec --agent nightly --task JIRA-123 --key key.json -- dbt run
  hansard exec --only-bigquery -- bq query --nouse_legacy_sql 'SELECT 1'

Exit code: the command's. 125: hansard failed. 126: the command is not executable. 127: it was not found.")]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    pub(crate) session: SessionArgs,
    /// What to run.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// A session, its place on the disk, and the sidecar that serves it.
struct Running {
    session: Session,
    place: Place,
    environment: Environment,
    address: SocketAddr,
    serving: tokio::task::JoinHandle<()>,
    renewing: tokio::task::JoinHandle<()>,
}

/// `hansard exec`
pub(crate) fn exec(args: &ExecArgs) -> ExitCode {
    match run(args) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("hansard: {}", failure.message);
            // A command that can't be run keeps its code; everything else is ours.
            ExitCode::from(if matches!(failure.code, 126 | 127) { failure.code } else { FAILED })
        }
    }
}

fn run(args: &ExecArgs) -> Result<u8, Failure> {
    exec_words(&args.session, &args.command)
}

/// Runs a command in a session of its own, to its end; its exit code.
fn exec_words(session: &SessionArgs, words: &[OsString]) -> Result<u8, Failure> {
    let program = child::find(&words[0])?;
    runtime()?.block_on(async {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let command: Vec<_> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let running = start(session, &name, &command.join(" "), listen, Admits::Descendants).await?;
        let ended = child::run(words, &running.environment).await;
        let exit_code = ended.as_ref().ok().copied();
        let session = running.stop(exit_code).await;
        if let Some(said) = session {
            eprintln!("hansard: {said}");
        }
        ended
    })
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| Failure::other_side(format!("the system gives no threads: {error}")))
}

/// Opens the session and serves it on a port of this machine.
async fn start(
    args: &SessionArgs,
    agent: &str,
    command: &str,
    listen: SocketAddr,
    admits: Admits,
) -> Result<Running, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let gateway = gateway(args)?;
    let who = Who::new(args, &gateway);
    let listener = TcpListener::bind(listen).await;
    let listener =
        listener.map_err(|error| Failure::other_side(format!("can't listen on {listen}: {error}")))?;
    let address = listener.local_addr().map_err(|error| Failure::other_side(error.to_string()))?;
    let authority = Authority::of_user(&config_folder()?, clock.clone())
        .map_err(|error| Failure::other_side(format!("can't make the private CA: {error}")))?;
    let opening = Opened {
        connection: args.connection.clone(),
        agent: args.agent.clone().unwrap_or_else(|| agent.to_owned()),
        task: args.task.clone(),
        for_minutes: args.for_minutes,
        command: command.to_owned(),
    };
    let session = Session::open(&gateway, who, &opening, clock.clone()).await?;
    let place = Place::make()?;
    let environment = Environment::new(&session, &place, address, authority.pem())?;
    let sidecar = Sidecar::new(SidecarConfig {
        gateway: gateway.clone(),
        handed: session.handed(),
        authority: Arc::new(authority),
        admits,
        only_bigquery: args.only_bigquery,
        proxy: environment::proxy(),
        email: session.email(),
        project: environment.project().to_owned(),
        clock,
    })
    .map_err(Failure::other_side)?;
    let serving = tokio::spawn(sidecar.serve(listener));
    let renewing = session.renew();
    Ok(Running { session, place, environment, address, serving, renewing })
}

impl Running {
    /// Closes the session and leaves nothing behind; what its user should know, if anything.
    async fn stop(self, exit_code: Option<u8>) -> Option<String> {
        self.serving.abort();
        self.renewing.abort();
        let said = self.session.close(exit_code).await;
        self.place.remove();
        said
    }
}

/// The gateway that is meant.
fn gateway(args: &SessionArgs) -> Result<String, Failure> {
    if args.gateway.is_none() && !args.config.exists() {
        if let Some(only) = login::only_gateway()? {
            return Ok(only);
        }
        return Err(Failure::usage(
            "which gateway? Name it (--gateway https://hansard.example.com), or sign in at one with 'hansard login'",
        ));
    }
    login::gateway_url(args.gateway.as_deref(), &args.config)
}

/// Where the user's own files lie.
fn config_folder() -> Result<PathBuf, Failure> {
    let folder = env_var("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| env_var("HOME").map(|home| PathBuf::from(home).join(".config")));
    folder.map(|folder| folder.join("hansard")).ok_or_else(|| {
        Failure::usage("neither XDG_CONFIG_HOME nor HOME is set, so there is no place for the private CA")
    })
}
