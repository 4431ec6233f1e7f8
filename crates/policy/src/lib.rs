//! Decides: who may use what, what may run, and on what terms.
//!
//! Expressions are CEL, the language of Google's IAM conditions, compiled once when the configuration is read.
//! Pure: no IO, no clock but the time it is given. What can't be evaluated or is not known makes stricter.

mod facts;
mod expression;
mod rule;
mod egress;
mod decide;

pub use decide::{Budget, Demand, Denial, Keep, Observed, Pace, Per, Policy, Question, RowsMost, Ruling};
pub use egress::{DEFAULTS, Default as DefaultRule, Who};
pub use expression::{Expression, ExpressionError};
pub use facts::{AskedConnection, Estimate, Facts, Field, History, Place, VOCABULARY};
pub use rule::{Approve, ColumnPattern, Limits, RecordAs, Rule, RuleAction, Snapshot};
