//! Reads GoogleSQL: which statements a text holds, of which kind, what they read and write, and what about
//! them is not certain.
//!
//! Pure: no IO, no clock. The parse tree is Google's own, asked of a [`Parser`] that the caller brings; the
//! lexer here is the second opinion, which must agree. Never fails: what can't be known is said to be unknown.

mod lex;
mod outline;
mod tree;
mod built_in;
mod constant;
mod name;
mod scope;
mod description;
mod kinds;
mod types;
mod schema;
mod information_schema;
mod columns;
mod walk;
mod fingerprint;

pub use description::{Branch, Columns, Description, Knowledge, Statement, Touched};
pub use fingerprint::{normal_form, spans};
pub use name::Defaults;
pub use schema::{Catalog, CatalogTable, PSEUDO_COLUMNS, Returned, Schemas};
pub use types::{ARRAY, RANGE, STRUCT, Type};

use std::fmt;

/// The longest text that is read, in bytes: BigQuery's own limit for a statement before it is resolved.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Google's parser.
pub trait Parser {
    /// The parse tree of a script: a `ParseResponse` of ZetaSQL's local_service.proto.
    fn parse(&mut self, sql: &str) -> Result<Vec<u8>, ParseFailure>;

    /// The table names in a script, each as its path's segments; names that a WITH clause or a correlated path
    /// explains are left out.
    fn table_names(&mut self, sql: &str) -> Result<Vec<Vec<String>>, ParseFailure>;

    /// One statement, resolved against a catalog: an `AnalyzeResponse`. Columns that it does not need are pruned.
    fn analyze(&mut self, sql: &str, catalog: &Catalog) -> Result<Vec<u8>, ParseFailure>;
}

/// Why there is no tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseFailure {
    /// Not GoogleSQL; what the parser says of it.
    Refused(String),
    /// It took too long, too much memory or too deep a stack.
    Stopped(String),
    /// There is no parser here.
    Absent,
}

impl fmt::Display for ParseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(said) => write!(f, "it is not GoogleSQL that hansard reads ({said})"),
            Self::Stopped(why) => write!(f, "reading it was stopped ({why})"),
            Self::Absent => f.write_str("the analyzer is not installed ('hansard analyzer install')"),
        }
    }
}

/// No parser at all: the lexer's opinion is all there is.
pub struct NoParser;

impl Parser for NoParser {
    fn parse(&mut self, _: &str) -> Result<Vec<u8>, ParseFailure> {
        Err(ParseFailure::Absent)
    }

    fn table_names(&mut self, _: &str) -> Result<Vec<Vec<String>>, ParseFailure> {
        Err(ParseFailure::Absent)
    }

    fn analyze(&mut self, _: &str, _: &Catalog) -> Result<Vec<u8>, ParseFailure> {
        Err(ParseFailure::Absent)
    }
}

/// Parsers that work on threads of their own.
pub trait Parsers: Send + Sync {
    /// Has one of them do something. It is done soon, on another thread, or never.
    fn with_one(&self, job: ParserJob) -> Result<(), Busy>;
}

/// What a parser is to do.
pub type ParserJob = Box<dyn FnOnce(&mut dyn Parser) + Send>;

/// Every parser is busy and too many wait already.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many statements wait to be read")
    }
}

/// Describes a text. `defaults` are the job's; with `schemas`, the columns that its statements touch are told too.
pub fn describe(
    sql: &str,
    defaults: &Defaults,
    schemas: Option<&Schemas>,
    parser: &mut dyn Parser,
) -> Description {
    walk::describe(sql, defaults, schemas.cloned().as_mut(), parser)
}
