//! Google's own SQL parser, as WebAssembly inside the gateway: installed once by its hash, compiled into the
//! user's cache, and run by a few threads that each own one instance of it.
//!
//! What it says is bytes; `googlesql` reads them. A call is bounded in time and memory, an instance that
//! trapped is thrown away, and a caller that finds every thread busy is told so.

mod install;
mod module;
mod wasi;
mod catalog;
mod guest;
mod pool;

pub use install::{InstallError, Installed, MODULE_SHA256, PACKAGE, find, install};
pub use pool::Analyzer;
