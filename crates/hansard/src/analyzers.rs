//! `hansard analyzer`: the GoogleSQL module, installed once for the user.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::Failure;

#[derive(Subcommand)]
pub(crate) enum AnalyzerCommand {
    /// Takes the module from PyPI by its hash and compiles it into the cache; does nothing if it is there.
    Install(AnalyzerArgs),
    /// Says whether it is installed, and tries it. Exit 0: it is, 1: it is not.
    Status(AnalyzerArgs),
}

#[derive(Args)]
pub(crate) struct AnalyzerArgs {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Runs one of them.
#[cfg(feature = "analyzer")]
pub(crate) fn run(command: &AnalyzerCommand) -> Result<(), Failure> {
    let cache = crate::cache::cache()?;
    match command {
        AnalyzerCommand::Install(args) => {
            let step = |step: &str| eprintln!("{step}");
            let installed = install(&cache, &step)?;
            say(
                args.json,
                &json!({"installed": true, "path": installed.path, "sha256": analyzer::MODULE_SHA256}),
                &format!("installed: {}", installed.path.display()),
            );
            Ok(())
        }
        AnalyzerCommand::Status(args) => {
            let found = analyzer::find(&cache).map_err(|error| Failure::other_side(error.to_string()))?;
            let Some(installed) = found else {
                say(args.json, &json!({"installed": false}), "not installed; run 'hansard analyzer install'");
                return Err(Failure::no(""));
            };
            crate::sql::analyzer().map_err(|why| {
                Failure::other_side(format!(
                    "{} can't be loaded: {why}. Remove it and run 'hansard analyzer install'.",
                    installed.path.display()
                ))
            })?;
            say(
                args.json,
                &json!({"installed": true, "path": installed.path, "sha256": analyzer::MODULE_SHA256}),
                &format!(
                    "installed: {} (GoogleSQL of 2025.11.2, SHA-256 {})",
                    installed.path.display(),
                    analyzer::MODULE_SHA256
                ),
            );
            Ok(())
        }
    }
}

/// Installs it, if it is not there yet.
#[cfg(feature = "analyzer")]
pub(crate) fn install(cache: &std::path::Path, say: &dyn Fn(&str)) -> Result<analyzer::Installed, Failure> {
    let python = crate::wiring::env_var("HANSARD_PYTHON").unwrap_or_else(|| "python3".to_owned());
    analyzer::install(cache, &python, say)
        .map_err(|error| Failure::other_side(format!("the analyzer can't be installed: {error}")))
}

#[cfg(feature = "analyzer")]
fn say(as_json: bool, object: &serde_json::Value, text: &str) {
    if as_json { println!("{object}") } else { println!("{text}") }
}

/// A build without it.
#[cfg(not(feature = "analyzer"))]
pub(crate) fn run(command: &AnalyzerCommand) -> Result<(), Failure> {
    let (AnalyzerCommand::Install(args) | AnalyzerCommand::Status(args)) = command;
    if args.json {
        println!("{}", json!({"installed": false, "built": false}));
    }
    Err(Failure::no("this build has no analyzer; build with the feature 'analyzer', which is the default"))
}
