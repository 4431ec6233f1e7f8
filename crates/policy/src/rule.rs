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
        let split = |name: &str| match split(name) {
            Some((table, column)) => (table.join("."), column.unwrap_or_default().to_owned()),
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

/// `project.dataset.table.column`, each part a name, `*`, or the beginning of names (`events_*`). A column is meant wherever
/// it stands in a record, and may be a path into one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnPattern {
    table: [String; 3],
    column: String,
}

/// Temporary tables are made of what was read before.
const SESSION: &str = "_SESSION.";

/// A table's project, dataset and name, and what stands behind them. A project may hold a dot before its colon.
fn split(name: &str) -> Option<([&str; 3], Option<&str>)> {
    let after = name.find(':').unwrap_or_default();
    let (project, rest) = name.split_at(after + name[after..].find('.')?);
    let mut parts = rest[1..].splitn(3, '.');
    Some(([project, parts.next()?, parts.next()?], parts.next()))
}

/// Whether a part of a pattern is that name.
fn part_fits(wanted: &str, name: &str) -> bool {
    wanted.strip_suffix('*').map_or(wanted == name, |begin| name.starts_with(begin))
}

impl ColumnPattern {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_pattern = |part: &str| {
            !part.is_empty() && !part.trim_end_matches('*').contains('*') && !part.ends_with("**")
        };
        match split(text) {
            Some((table, Some(column)))
                if table.iter().all(|part| is_pattern(part)) && is_pattern(column) =>
            {
                Ok(Self { table: table.map(str::to_owned), column: column.to_lowercase() })
            }
            _ => Err(format!(
                "'{text}' is not project.dataset.table.column, each a name, * or the beginning of names such as events_*"
            )),
        }
    }

    /// Whether it names one column.
    fn is_one(&self) -> bool {
        self.table.iter().chain([&self.column]).all(|part| !part.contains('*'))
    }

    /// Whether a table may have the column.
    pub(crate) fn fits_table(&self, table: &str) -> bool {
        if table.starts_with(SESSION) {
            return false;
        }
        let Some((parts, _)) = split(table) else { return true };
        self.table.iter().zip(parts).all(|(wanted, part)| {
            // A wildcard table may be any that begins so.
            let may_be = part.strip_suffix('*').is_some_and(|begin| {
                wanted.starts_with(begin)
                    || wanted.strip_suffix('*').is_some_and(|wanted| begin.starts_with(wanted))
            });
            may_be || part_fits(wanted, part)
        })
    }

    /// Whether it is that column, one in it, or one that it is in.
    pub(crate) fn fits(&self, column: &str) -> bool {
        if !self.fits_table(column) {
            return false;
        }
        let Some((_, Some(name))) = split(column) else { return true };
        let name = name.to_lowercase();
        let own = self.column.as_str();
        let holds = own.starts_with(&format!("{name}."));
        // Wherever the column begins in the path, and however far it goes on.
        let mut inner = Some(name.as_str());
        while let Some(path) = inner {
            let end = own.matches('.').count() + 1;
            let as_long = path.match_indices('.').nth(end - 1).map_or(path, |(at, _)| &path[..at]);
            if part_fits(own, as_long) {
                return true;
            }
            inner = path.split_once('.').map(|(_, rest)| rest);
        }
        holds
    }
}

impl fmt::Display for ColumnPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.table.join("."), self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_its_columns_wherever_they_stand() {
        for (pattern, column, expected) in [
            ("p.hr.people.ssn", "p.hr.people.ssn", true),
            ("p.hr.people.SSN", "p.hr.people.ssn", true),
            ("p.hr.people.ssn", "p.hr.people.ssn_hash", false),
            ("p.hr.people.*", "p.hr.people.ssn", true),
            ("p.hr.people.ss*", "p.hr.people.ssn", true),
            ("p.web.events_*.email", "p.web.events_2026.email", true),
            ("p.web.events_*.email", "p.web.other.email", false),
            ("*.*.*.ssn", "p.hr.people.person.ssn", true),
            ("*.*.*.ssn", "p.hr.people.person.ssn.part", true),
            ("*.*.*.person.ssn", "p.hr.people.person", true),
            ("*.*.*.person.ssn", "p.hr.people.person.name", false),
            ("*.*.*.ssn", "example.com:p.crm.customers.ssn", true),
            ("example.com:p.crm.customers.email", "example.com:p.crm.customers.email", true),
            ("example.com:p.crm.customers.email", "p.crm.customers.email", false),
        ] {
            let parsed = ColumnPattern::parse(pattern).expect(pattern);
            assert_eq!(parsed.fits(column), expected, "{pattern} {column}");
        }
        assert!(!ColumnPattern::parse("*.*.*.ssn").expect("a pattern").fits("_SESSION.t.ssn"));
        let events = ColumnPattern::parse("p.web.events_*.email").expect("a pattern");
        assert!(events.fits_table("p.web.ev*") && events.fits_table("p.web.events_2*"));
        assert!(!events.fits_table("p.web.other*"));
        for wrong in ["p.d.t", "p.d..c", "p.d.t.*c", "p.**.t.c", "p.d.t."] {
            assert!(ColumnPattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
