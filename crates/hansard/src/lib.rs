//! The binary: configuration, command line, wiring. The only room that reads the environment and settings.

mod cli;
mod config;
mod cache;
mod sql;
mod wiring;
mod serve;
mod connection_test;
mod answering;
mod webhooks;
mod reload;
mod routes;
mod own_sessions;
mod sign_in;
mod login;
mod exec;
mod control;
mod local;
mod init;
mod commands;
mod approvals_command;
mod policies;
mod analyzers;
mod demo;
mod print;
mod docs;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;

pub use cli::run;
