//! The command line: what can be asked, and with which exit code it ends.

use clap::{Args, Parser, Subcommand};
use record::{PrincipalKind, RecordId, SessionId, Timestamp};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::analyzers::AnalyzerCommand;
use crate::approvals_command::ApprovalsCommand;
use crate::policies::PolicyCommand;
use crate::{analyzers, approvals_command, commands, demo, docs, exec, init, login, policies, serve};

/// The flight recorder and gatekeeper between AI agents (and people, and tools) and Google BigQuery.
#[derive(Parser)]
#[command(name = "hansard", version, disable_help_subcommand = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  hansard demo                          everything on loopback, nothing to configure
  hansard init --project acme-prod --credentials sa.json
  hansard serve                         runs the gateway by ./hansard.toml
  hansard login --gateway https://hansard.example.com
  hansard exec -- claude                everything that it starts is one recorded session
  hansard key issue --principal alice@example.com --connection analytics --out key.json
  hansard policy explain --as devin@agents.example.com --kind agent --sql 'DROP TABLE crm.orders'
  hansard approvals approve 0193f2a4-7a0e-7c5e-9d4f-3c1f0a6b2e11 --for 1h
  hansard records --contains orders --since 2026-11-01T00:00:00Z
  hansard query \"SELECT principal, count(*) FROM records GROUP BY 1\"";

#[derive(Subcommand)]
enum Command {
    /// Runs the gateway.
    Serve(ServeArgs),
    /// Writes a commented hansard.toml.
    Init(init::InitArgs),
    /// Signs you in at a gateway, with your browser or, with --device, another one.
    Login(LoginArgs),
    /// Signs you out; your tokens are refused from then on.
    Logout(LogoutArgs),
    /// Runs a command so that every Google client in it reaches BigQuery through the gateway, as one session.
    Exec(exec::ExecArgs),
    /// Prints the same environment for a shell, and serves it.
    Env(exec::EnvArgs),
    /// Tries each way in and each hole of a session, and says what is open. Exit 0: nothing is.
    Doctor(exec::DoctorArgs),
    #[command(hide = true)]
    RunBelow(exec::ChildArgs),
    #[command(hide = true)]
    TidyUp(exec::TidyArgs),
    /// Runs everything on loopback: gateway, sign-in, sandbox warehouse, an agent; then shows the record.
    Demo(demo::DemoArgs),
    /// Virtual service-account keys: issue, list, revoke.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Registered connections; never a secret.
    #[command(subcommand)]
    Connection(ConnectionCommand),
    /// Lists recorded sessions, the newest first.
    Sessions(SessionsArgs),
    /// One session.
    #[command(subcommand)]
    Session(SessionCommand),
    /// Lists records, the newest first.
    Records(RecordsArgs),
    /// One record.
    #[command(subcommand)]
    Record(RecordCommand),
    /// Prints records as they close.
    Tail(TailArgs),
    /// Runs read-only SQL over the views `records`, `sessions` and `statement_tables`.
    Query(QueryArgs),
    /// Checks framing, hashes, links and order of the whole local log. Exit 0 clean, 1 damaged, 2 unchecked.
    Verify(VerifyArgs),
    /// What waits for a human's yes: list, show, approve, deny. A gateway must run.
    #[command(subcommand)]
    Approvals(ApprovalsCommand),
    /// Rules: check, explain, test, backtest, presets.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// The GoogleSQL module that reads statements: install it, or see whether it is there.
    #[command(subcommand)]
    Analyzer(AnalyzerCommand),
    /// Applies retention.
    #[command(subcommand)]
    Retention(RetentionCommand),
    /// Prints generated documents: configuration, record schema, metrics.
    #[command(hide = true)]
    Docs(docs::DocsArgs),
}

#[derive(Args)]
pub(crate) struct LoginArgs {
    /// The gateway's address; else the configuration's public_url.
    #[arg(long, value_name = "URL")]
    pub(crate) gateway: Option<String>,
    /// For a machine without a browser: shows a code to enter on another one.
    #[arg(long)]
    pub(crate) device: bool,
    /// The configuration that may name the gateway.
    #[arg(long, default_value = "hansard.toml", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct LogoutArgs {
    /// The gateway's address; else the configuration's public_url.
    #[arg(long, value_name = "URL")]
    pub(crate) gateway: Option<String>,
    /// The configuration that may name the gateway.
    #[arg(long, default_value = "hansard.toml", value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Which folder, and how to print.
#[derive(Args, Clone)]
pub(crate) struct FolderArgs {
    /// A gateway to ask instead, where you are signed in and your role allows it.
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    pub(crate) gateway: Option<String>,
    /// The configuration, which says where data and keys lie.
    #[arg(long, default_value = "hansard.toml", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The data folder; wins over the configuration's.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Args)]
pub(crate) struct ServeArgs {
    /// The configuration.
    #[arg(long, default_value = "hansard.toml", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Moves everything that lies in `data_dir`.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Only validates the configuration.
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Issues a key: a JSON file in Google's shape that only this gateway honours.
    Issue(KeyIssueArgs),
    /// Lists keys.
    List(FolderArgs),
    /// Revokes a key at once.
    Revoke {
        /// The key's id.
        id: String,
        #[command(flatten)]
        folder: FolderArgs,
    },
}

#[derive(Args)]
pub(crate) struct KeyIssueArgs {
    /// Whom the key stands for, an e-mail address or name.
    #[arg(long)]
    pub(crate) principal: String,
    /// The only connection it may use.
    #[arg(long)]
    pub(crate) connection: String,
    /// The task that its sessions belong to.
    #[arg(long, default_value = "")]
    pub(crate) task: String,
    /// What kind of principal: agent, person or service.
    #[arg(long, default_value = "agent", value_parser = kind)]
    pub(crate) kind: PrincipalKind,
    /// The agent's name.
    #[arg(long, default_value = "")]
    pub(crate) agent: String,
    /// A group it carries; repeat for more.
    #[arg(long = "group")]
    pub(crate) groups: Vec<String>,
    /// How long it lives, such as 12h or 30d.
    #[arg(long, default_value = "12h", value_parser = ttl)]
    pub(crate) ttl: i64,
    /// Where to write it, readable by you alone; else to standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
}

#[derive(Subcommand)]
pub(crate) enum ConnectionCommand {
    /// Lists connections.
    List(FolderArgs),
    /// Proves that a connection's credential works, what it may do, and what is more than needed. A gateway must run.
    Test {
        name: String,
        /// Prints the roles that are enough, and asks nobody.
        #[arg(long)]
        suggest_role: bool,
        #[command(flatten)]
        folder: FolderArgs,
    },
}

#[derive(Args)]
pub(crate) struct SessionsArgs {
    /// Active at or after this time (RFC 3339).
    #[arg(long)]
    pub(crate) since: Option<Timestamp>,
    /// At most so many.
    #[arg(long)]
    pub(crate) limit: Option<u64>,
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
}

#[derive(Subcommand)]
pub(crate) enum SessionCommand {
    /// Shows a session and its records.
    Show {
        id: SessionId,
        /// With the rows that were delivered.
        #[arg(long)]
        rows: bool,
        /// As a Markdown document.
        #[arg(long)]
        markdown: bool,
        #[command(flatten)]
        folder: FolderArgs,
    },
    /// Ends a session: its tokens are refused, its streams closed, its running BigQuery jobs cancelled.
    End {
        id: SessionId,
        #[command(flatten)]
        folder: FolderArgs,
    },
}

#[derive(Subcommand)]
pub(crate) enum RecordCommand {
    /// Shows a record.
    Show {
        id: RecordId,
        /// With the rows that were delivered. Reading them is itself recorded.
        #[arg(long)]
        rows: bool,
        #[command(flatten)]
        folder: FolderArgs,
    },
}

/// Every filter narrows.
#[derive(Args, Clone, Default)]
pub(crate) struct FilterArgs {
    /// Received at or after this time (RFC 3339).
    #[arg(long)]
    pub(crate) since: Option<Timestamp>,
    /// Received before this time.
    #[arg(long)]
    pub(crate) until: Option<Timestamp>,
    #[arg(long)]
    pub(crate) session: Option<SessionId>,
    /// E-mail address or id.
    #[arg(long)]
    pub(crate) principal: Option<String>,
    #[arg(long)]
    pub(crate) agent: Option<String>,
    #[arg(long)]
    pub(crate) task: Option<String>,
    #[arg(long)]
    pub(crate) connection: Option<String>,
    /// BigQuery's statement type, such as SELECT or DROP_TABLE.
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// project.dataset.table, or its end.
    #[arg(long)]
    pub(crate) table: Option<String>,
    /// A part of the statement or of the error message.
    #[arg(long)]
    pub(crate) contains: Option<String>,
    /// ok, error, refused, held, aborted, interrupted or unknown.
    #[arg(long)]
    pub(crate) outcome: Option<String>,
    /// allow, deny or approve.
    #[arg(long)]
    pub(crate) effect: Option<String>,
}

#[derive(Args)]
pub(crate) struct RecordsArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Show what is under way, as far as it has come, instead of what has ended.
    #[arg(long)]
    pub(crate) open: bool,
    /// The newest so many.
    #[arg(long)]
    pub(crate) limit: Option<u64>,
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
}

#[derive(Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
}

#[derive(Args)]
pub(crate) struct QueryArgs {
    /// One SELECT statement, in SQLite's SQL.
    pub(crate) sql: String,
    #[arg(long, default_value = "table", value_parser = ["table", "json", "csv"])]
    pub(crate) format: String,
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
}

#[derive(Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
}

#[derive(Subcommand)]
pub(crate) enum RetentionCommand {
    /// Applies retention now.
    Run {
        /// Only says what would be dropped.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        folder: FolderArgs,
    },
}

pub(crate) fn kind(text: &str) -> Result<PrincipalKind, String> {
    match text {
        "agent" => Ok(PrincipalKind::Agent),
        "person" => Ok(PrincipalKind::Person),
        "service" => Ok(PrincipalKind::Service),
        other => Err(format!("'{other}' is not agent, person or service")),
    }
}

pub(crate) fn ttl(text: &str) -> Result<i64, String> {
    crate::config::duration_secs(text)
}

/// How a command ended badly.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    /// The answer is no.
    pub(crate) fn no(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// Usage or configuration.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }

    /// The other side failed.
    pub(crate) fn other_side(message: impl Into<String>) -> Self {
        Self { code: 3, message: message.into() }
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

/// Runs what the command line says.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // What `exec` itself fails at is told apart from what its command does.
            let is_exec = std::env::args_os().nth(1).is_some_and(|word| word == "exec");
            return ExitCode::from(if !error.use_stderr() {
                0
            } else if is_exec {
                125
            } else {
                2
            });
        }
    };
    if let Command::Exec(args) = &cli.command {
        return exec::exec(args);
    }
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("hansard: {}", failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => serve::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Key(command) => commands::keys(command),
        Command::Connection(ConnectionCommand::List(folder)) => commands::connections(&folder),
        Command::Connection(ConnectionCommand::Test { name, suggest_role, folder }) => {
            commands::connection_test(&name, suggest_role, &folder)
        }
        Command::Sessions(args) => commands::sessions(&args),
        Command::Session(SessionCommand::Show { id, rows, markdown, folder }) => {
            commands::session_show(id, rows, markdown, &folder)
        }
        Command::Login(args) => login::login(&args),
        Command::Logout(args) => login::logout(&args),
        Command::Session(SessionCommand::End { id, folder }) => commands::session_end(id, &folder),
        Command::Records(args) => commands::records(&args),
        Command::Record(RecordCommand::Show { id, rows, folder }) => commands::record_show(id, rows, &folder),
        Command::Tail(args) => commands::tail(&args),
        Command::Query(args) => commands::query(&args),
        Command::Verify(args) => commands::verify(&args),
        Command::Retention(RetentionCommand::Run { dry_run, folder }) => {
            commands::retention(dry_run, &folder)
        }
        Command::Approvals(command) => approvals_command::run(&command),
        Command::Policy(command) => policies::run(command),
        Command::Analyzer(command) => analyzers::run(&command),
        Command::Exec(_) => unreachable!("it has an exit code of its own"),
        Command::Env(args) => exec::env(&args),
        Command::Doctor(args) => exec::doctor(&args),
        Command::RunBelow(args) => exec::run_child(&args),
        Command::TidyUp(args) => exec::tidy(&args),
        Command::Docs(args) => docs::run(&args),
    }
}
