//! Parts of `cargo xtask` that the benchmark uses too: steps, tools, builds.

pub mod steps;
pub mod lock;
pub mod tools;
mod tree;
pub mod shared_build;
pub mod fuzz;
