//! What a text was found to do.

use std::collections::BTreeSet;
use std::ops::Range;

/// What a text does: each of its statements, nested ones too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// BigQuery's `statementType` for the whole text; empty if it can't be told.
    pub kind: String,
    pub statements: Vec<Statement>,
    /// More than one statement, or a block, a loop, a declaration.
    pub is_script: bool,
    /// Some of what it runs is made only as it runs.
    pub is_dynamic: bool,
    /// Why it is not known for certain; empty if it is.
    pub unsure: Vec<String>,
    /// Columns were not read for want of time or of an analyzer: another reading may know them.
    pub is_cut: bool,
    /// Where the parser refuses the text: what it seems to hold by its words.
    pub guessed: Vec<Statement>,
}

/// One statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// As BigQuery names it; empty if it can't be told.
    pub kind: String,
    /// Its bytes in the text; of a text that is run from within, the statement that runs it.
    pub span: Range<usize>,
    /// `project.dataset.table`
    pub read: BTreeSet<String>,
    pub written: BTreeSet<String>,
    /// Columns that it touches, where that was asked for.
    pub columns: Columns,
    /// False where a condition is absent or keeps nothing out.
    pub has_where: bool,
    /// Of a MERGE.
    pub branches: Vec<Branch>,
    /// Upper case if built in, else `project.dataset.name`.
    pub functions: BTreeSet<String>,
    /// Routines that it makes, changes or drops.
    pub defined: BTreeSet<String>,
    /// Functions and procedures of datasets that it calls: what they do is looked up, or not known.
    pub routines: BTreeSet<String>,
    /// Models that it applies or makes.
    pub models: BTreeSet<String>,
    /// Connections to other systems.
    pub connections: BTreeSet<String>,
    /// Where data is written to outside BigQuery.
    pub destinations: BTreeSet<String>,
    /// Where data is read from outside BigQuery.
    pub sources: BTreeSet<String>,
    /// `@@` variables, in lower case.
    pub system_variables: BTreeSet<String>,
    /// BigQuery's sessions that it ends, by their ids.
    pub sessions: BTreeSet<String>,
    /// It replaces what is there.
    pub overwrites: bool,
    /// It makes something that lives only as long as its session.
    pub is_temporary: bool,
    /// It runs somewhere else, later or with another's rights: a remote function or model.
    pub is_remote: bool,
    /// What is not known, and why.
    pub unknown: Vec<(Knowledge, String)>,
}

/// What is known of the columns that a statement touches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Columns {
    /// Nobody asked.
    #[default]
    NotRead,
    Known(Touched),
    /// And why.
    Unknown(String),
}

/// Columns that a statement touches, as `project.dataset.table.column`. A column of a record stands for its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Whose values it looks at: in what it gives back, in conditions, wherever.
    pub read: BTreeSet<String>,
    /// Whose values it sets.
    pub written: BTreeSet<String>,
}

/// A branch of a MERGE, taken as the statement that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// INSERT, UPDATE or DELETE.
    pub kind: &'static str,
    pub has_where: bool,
}

/// Something that may be unknown of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Knowledge {
    /// What it is and does at all.
    Kind,
    /// Which tables it touches.
    Tables,
    /// Which table it writes.
    Target,
    /// Which tables its wildcards stand for; they are named as they are written.
    Wildcards,
}

impl Statement {
    /// Everything about it is unknown.
    pub(crate) fn unknown_kind(why: String, span: Range<usize>) -> Self {
        Self {
            span,
            has_where: false,
            unknown: vec![(Knowledge::Kind, why.clone()), (Knowledge::Tables, why)],
            ..Self::default()
        }
    }
}

impl Description {
    /// Nothing is known of the text.
    pub fn unknown(why: &str) -> Self {
        Self {
            statements: vec![Statement::unknown_kind(why.to_owned(), 0..0)],
            unsure: vec![why.to_owned()],
            ..Self::default()
        }
    }

    /// Whether all of it is known.
    pub fn is_certain(&self) -> bool {
        self.unsure.is_empty() && self.statements.iter().all(|statement| statement.unknown.is_empty())
    }

    /// The kinds of all its statements, sorted; unknown ones are left out.
    pub fn kinds(&self) -> Vec<String> {
        let kinds = self.statements.iter().map(|statement| &statement.kind).filter(|kind| !kind.is_empty());
        kinds.collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }

    /// All tables, sorted.
    pub fn tables(&self) -> Vec<String> {
        let tables =
            self.statements.iter().flat_map(|statement| statement.read.iter().chain(&statement.written));
        tables.collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }
}
