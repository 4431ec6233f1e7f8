//! End to end: the real binary, real clients, a real provider, the emulator, and scripted answers where the
//! emulator can't give them.

mod approvals;
mod breakers;
mod budgets;
mod clients;
mod columns;
mod commands;
mod disk;
mod evasions;
mod excluded;
mod exec;
mod faults;
mod held_clients;
mod hostile;
mod identity;
mod ledger_files;
mod long;
mod ownership;
mod rules;
mod scripted;
mod sessions;
mod sign_in;
mod snapshots;
mod storage;
mod streams;
mod uploads;
mod upstream_word;
mod ways;
mod webhooks;

use std::sync::OnceLock;

/// The binary under test: beside the test, where nextest runs it, else where cargo built it.
pub(crate) fn binary() -> &'static str {
    static BINARY: OnceLock<String> = OnceLock::new();
    let beside = || std::env::var_os("NEXTEST_BIN_EXE_hansard").and_then(|path| path.into_string().ok());
    BINARY.get_or_init(|| beside().unwrap_or_else(|| env!("CARGO_BIN_EXE_hansard").to_owned()))
}

/// Runs an async test.
pub(crate) fn block_on<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test)
}

/// A query's path at a gateway.
pub(crate) fn queries(url: &str) -> String {
    format!("{url}/bigquery/v2/projects/p/queries")
}

/// The whole index follows within moments; a record that must be there is waited for by the command itself.
pub(crate) fn record_of(gateway: &testkit::Gateway, answer: &testkit::Answer) -> serde_json::Value {
    let id = answer.record();
    assert!(!id.is_empty(), "the answer names no record: {answer:?}");
    gateway.record(&id)
}
