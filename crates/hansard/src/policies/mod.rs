//! `hansard policy`: rules looked at without a gateway.

mod cases;
mod live;
mod trial;
mod backtest;

use clap::{Args, Subcommand};
use record::PrincipalKind;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

use crate::cli::{Failure, FilterArgs, FolderArgs, kind};
use crate::config;
use trial::{Asked, Rules, Verdict};

#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Validates the rules, with line numbers, and says in words what they take away from the record.
    Check(CheckArgs),
    /// Says which rules apply to a statement or a request, and why, without running anything.
    Explain(ExplainArgs),
    /// Runs the team's own cases. Exit 0: all as expected, 1: not.
    Test(TestArgs),
    /// Decides recorded exchanges again by the rules of a configuration, and prints what would change.
    Backtest(BacktestArgs),
    /// Prints a preset: rules that can be included by name, or copied.
    Preset {
        /// Its name; none lists them.
        name: Option<String>,
    },
}

#[derive(Args)]
pub(crate) struct ConfigArgs {
    /// The configuration.
    #[arg(long, default_value = "hansard.toml", value_name = "FILE")]
    config: PathBuf,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[command(after_help = "Examples:
  hansard policy check
  hansard policy check --connection analytics     # also: are the tables and columns there that the rules name?")]
pub(crate) struct CheckArgs {
    /// Looks for the tables and columns that rules name in this connection's warehouse, by the gateway that runs.
    #[arg(long, value_name = "NAME")]
    connection: Option<String>,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Args)]
#[command(after_help = "Examples:
  hansard policy explain --as devin@agents.example.com --kind agent --sql 'DROP TABLE crm.orders'
  hansard policy explain --as alice@example.com --group data --method DELETE \\
      --path /bigquery/v2/projects/acme-prod/datasets/crm/tables/orders")]
pub(crate) struct ExplainArgs {
    /// Who asks: an e-mail address or an id.
    #[arg(long = "as", value_name = "PRINCIPAL")]
    principal: String,
    /// What kind of principal: agent, person or service. `[identity] agents` may make an agent of anybody.
    #[arg(long, default_value = "person", value_parser = kind)]
    kind: PrincipalKind,
    /// A group that they are in; repeat for more.
    #[arg(long = "group")]
    groups: Vec<String>,
    /// The connection; the only one if there is one.
    #[arg(long)]
    connection: Option<String>,
    /// The statement; `-` reads it from standard input.
    #[arg(long, required_unless_present = "path", conflicts_with = "path")]
    sql: Option<String>,
    /// The dataset that names without one mean.
    #[arg(long)]
    dataset: Option<String>,
    /// Instead of a statement: the path of a request.
    #[arg(long)]
    path: Option<String>,
    /// Its HTTP method.
    #[arg(long, default_value = "GET")]
    method: String,
    /// Its body, JSON.
    #[arg(long, default_value = "")]
    body: String,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Args)]
pub(crate) struct TestArgs {
    /// Cases: a TOML file of [[case]].
    #[arg(default_value = "policy-tests.toml", value_name = "FILE")]
    cases: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Args)]
pub(crate) struct BacktestArgs {
    /// The configuration with the new rules.
    #[arg(long, value_name = "FILE")]
    rules: PathBuf,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    folder: FolderArgs,
}

/// Runs one of them.
pub(crate) fn run(command: PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Check(args) => check(&args),
        PolicyCommand::Explain(args) => explain(&args),
        PolicyCommand::Test(args) => cases::run(&args.cases, &args.config.config, args.config.json),
        PolicyCommand::Backtest(args) => backtest::run(&args.rules, &args.filter, &args.folder),
        PolicyCommand::Preset { name } => preset(name.as_deref()),
    }
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").map_err(|_| Failure::other_side(""))
}

fn check(args: &CheckArgs) -> Result<(), Failure> {
    let CheckArgs { connection, folder } = args;
    let rules = Rules::load(&folder.config)?;
    for rule in rules.policy().rules() {
        let says = trial::consequence(rule);
        if folder.json {
            say(&json!({"rule": rule.name, "action": rule.action.word(), "when": rule.when.text(),
                "observe": rule.observe, "says": says})
            .to_string())?;
        } else {
            let observe = if rule.observe { " (observes only)" } else { "" };
            say(&format!("{}: {}{observe} when {}", rule.name, rule.action.word(), rule.when.text()))?;
            if let Some(says) = says {
                say(&format!("    {says}"))?;
            }
        }
    }
    if !folder.json {
        say(&format!("{}: {} rules, all compile", folder.config.display(), rules.policy().rules().len()))?;
    }
    match connection {
        Some(connection) => live::check(rules.policy(), connection, folder),
        None => Ok(()),
    }
}

fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    let rules = Rules::load(&args.config.config)?;
    let sql = match args.sql.as_deref() {
        Some("-") => {
            let text = std::io::read_to_string(std::io::stdin());
            Some(text.map_err(|error| Failure::usage(format!("can't read the statement: {error}")))?)
        }
        other => other.map(str::to_owned),
    };
    let asked = Asked {
        principal: trial::principal(&args.principal, args.kind, &args.groups),
        connection: args.connection.clone(),
        sql,
        dataset: args.dataset.clone(),
        method: args.method.clone(),
        path: args.path.clone(),
        body: args.body.clone(),
        ..Asked::default()
    };
    let verdict = rules.decide(asked)?;
    if args.config.json {
        return say(&verdict.json().to_string());
    }
    verdict.lines().iter().try_for_each(|line| say(line))
}

fn preset(name: Option<&str>) -> Result<(), Failure> {
    let Some(name) = name else {
        return config::PRESETS.iter().try_for_each(|(name, _)| say(name));
    };
    match config::PRESETS.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => say(text.trim_end()),
        None => {
            Err(Failure::usage(format!("there is no preset '{name}'; 'hansard policy preset' lists them")))
        }
    }
}

/// One word for how it was decided.
fn effect(verdict: &Verdict) -> &'static str {
    match verdict.ruling.denial {
        Some(_) => "deny",
        None if !verdict.ruling.demands.is_empty() => "approve",
        None => "allow",
    }
}
