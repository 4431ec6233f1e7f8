//! Expressions over who asks, through what: `allow`, `agents` and the roles.
//!
//! CEL, the language of Google's IAM conditions. Compiled once, when the configuration is read. Pure: no IO,
//! no clock. An expression that can't be evaluated is an error, and every caller takes an error as a no.

mod expression;
mod facts;

pub use expression::{Expression, ExpressionError};
pub use facts::{AskedConnection, Facts};
