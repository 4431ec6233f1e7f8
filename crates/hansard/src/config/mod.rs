//! `hansard.toml`: its shape, its errors with line numbers, and what this build enforces of it.

mod shape;
mod load;
mod enforced;
mod rules;
mod units;

pub(crate) use load::{ConfigError, Loaded, load, parse};
pub(crate) use rules::{PRESETS, policy};
pub(crate) use shape::*;
pub(crate) use units::{bytes, days_text, duration_secs};
