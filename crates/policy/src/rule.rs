//! One rule, compiled.

use std::collections::BTreeSet;
use std::fmt;

use crate::expression::Expression;

/// A rule.
pub struct Rule {
    pub name: String,
    pub when: Expression,
    pub action: RuleAction,
    /// What its refusal says besides.
    pub message: String,
    /// What would be allowed instead.
    pub instead: String,
    /// It only records what it would have done.
    pub observe: bool,
}

impl Rule {
    /// Tables and columns that it names in full: `project.dataset.table`, and the column, if any.
    pub fn names(&self) -> BTreeSet<(String, String)> {
        let split = |name: &str| match name.match_indices('.').nth(2) {
            Some((at, _)) => (name[..at].to_owned(), name[at + 1..].to_owned()),
            None => (name.to_owned(), String::new()),
        };
        let masked = match &self.action {
            RuleAction::Mask { columns } => &columns[..],
            _ => &[],
        };
        let masked = masked.iter().filter(|column| column.is_one()).map(ToString::to_string);
        self.when.names().map(str::to_owned).chain(masked).map(|name| split(&name)).collect()
    }
}

/// What a rule does.
pub enum RuleAction {
    Deny,
    /// Hold it until people who may have said yes.
    Approve(Approve),
    /// Deny what touches these columns, or might, until it can mask them.
    Mask {
        columns: Vec<ColumnPattern>,
    },
    /// How much of an exchange is recorded.
    Record(RecordAs),
    /// What it may cost.
    Limit(Limits),
    /// Says something to whoever reads the record, and in a header of the answer.
    Warn,
    /// Marks the record.
    Label,
    /// Keeps what is about to be changed.
    Snapshot(Snapshot),
}

/// Who must say yes, and how long that is waited for.
pub struct Approve {
    /// Who may answer.
    pub approvers: Expression,
    /// How many of them.
    pub needed: u32,
    pub expires_secs: i64,
}

/// Where tables are kept before they are changed, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// `project.dataset`
    pub dataset: String,
    pub expires_secs: i64,
}

/// What an exchange may cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub bytes_billed: Option<u64>,
    pub job_timeout_ms: Option<u64>,
    pub statements_per_minute: Option<u64>,
    pub bytes_billed_per_day: Option<u64>,
    pub bytes_billed_per_task: Option<u64>,
    pub rows: Option<u64>,
}

/// How much of an exchange is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordAs {
    Rows,
    Hash,
    Count,
    /// Nothing but that it was left out.
    Excluded,
}

impl RecordAs {
    /// What it keeps, in a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Hash => "hash",
            Self::Count => "count",
            Self::Excluded => "nothing",
        }
    }
}

impl RuleAction {
    /// The word of the configuration.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Approve(_) => "approve",
            Self::Mask { .. } => "mask",
            Self::Record(_) => "record",
            Self::Limit(_) => "limit",
            Self::Warn => "warn",
            Self::Label => "label",
            Self::Snapshot(_) => "snapshot",
        }
    }
}

/// `project.dataset.table.column`, each part a name or `*`; a column may be a path into a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnPattern {
    table: [String; 3],
    column: String,
}

impl ColumnPattern {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(4, '.').map(str::to_owned);
        let mut next = || parts.next().filter(|part| !part.is_empty());
        match (next(), next(), next(), next()) {
            (Some(project), Some(dataset), Some(table), Some(column)) => {
                Ok(Self { table: [project, dataset, table], column })
            }
            _ => Err(format!("'{text}' is not project.dataset.table.column")),
        }
    }

    /// Whether it names one column.
    fn is_one(&self) -> bool {
        self.table.iter().chain([&self.column]).all(|part| !part.contains('*'))
    }

    /// Whether a table may have the column.
    pub(crate) fn fits_table(&self, table: &str) -> bool {
        let mut parts = table.splitn(3, '.');
        self.table.iter().all(|wanted| {
            let part = parts.next().unwrap_or_default();
            // A wildcard table may be any that begins so.
            let begins = part.strip_suffix('*').is_some_and(|begin| wanted.starts_with(begin));
            wanted == "*" || wanted == part || begins
        })
    }

    /// Whether it is that column, or a part of it.
    pub(crate) fn fits(&self, column: &str) -> bool {
        let Some((at, _)) = column.match_indices('.').nth(2) else { return false };
        let (table, name) = (&column[..at], &column[at + 1..]);
        let (own, name) = (self.column.to_lowercase(), name.to_lowercase());
        let is_within = |inner: &str, outer: &str| inner == outer || inner.starts_with(&format!("{outer}."));
        self.fits_table(table) && (is_within(&own, &name) || is_within(&name, &own))
    }
}

impl fmt::Display for ColumnPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.table.join("."), self.column)
    }
}
