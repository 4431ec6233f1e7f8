//! `hansard demo`: everything on loopback, nothing to configure.
//!
//! The gateway is the real one, run by a configuration that is written out; the sign-in is made for the demo;
//! the warehouse is an emulator of BigQuery; the agent is Google's own client library.

mod provider;
mod sandbox;
mod run;

use clap::Args;

use crate::cli::Failure;

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Stops after the run and prints the recorded session.
    #[arg(long)]
    once: bool,
    /// A BigQuery emulator that already runs, instead of the sandbox warehouse.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
}

/// Runs it.
pub(crate) fn run(args: &DemoArgs) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("the system gives threads");
    runtime.block_on(run::demo(args))
}
