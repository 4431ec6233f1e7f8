//! What an exchange does, as far as it is known before it runs: the facts that rules ask about.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What an exchange does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footprint {
    /// BigQuery's `statementType` of the whole; empty where there is none or it can't be told.
    pub kind: String,
    /// Each statement of a script, or the one that a method without SQL equals. Empty for a method that equals none.
    pub statements: Vec<Deed>,
    pub access: Access,
    pub is_script: bool,
    /// Some of what it runs is made only as it runs.
    pub makes_text: bool,
    pub is_dry_run: bool,
    /// Where its result is put, if somewhere else than in an anonymous table: `project.dataset.table`.
    pub result_table: String,
    /// Parameters by name, or by place from 1; as text.
    pub parameters: BTreeMap<String, String>,
    /// SHA-256 of the statement's normal form; empty where there is none.
    pub fingerprint: String,
    /// Why it is not known for certain; empty if it is.
    pub unsure: Vec<String>,
    /// Where the text can't be read: what it seems to hold by its words. Rules do not ask about it; the defaults do.
    pub guessed: Vec<Deed>,
}

/// What a method does to what it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// It only reads. Of a statement: it is known to.
    #[default]
    Read,
    Write,
    /// Who may do what: IAM, row access policies, reservations.
    Admin,
}

/// One statement, or what equals one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Deed {
    /// As BigQuery names it; empty if it is none, or can't be told.
    pub kind: String,
    /// `project.dataset.table`
    pub read: BTreeSet<String>,
    pub written: BTreeSet<String>,
    /// Columns whose values it looks at, as `project.dataset.table.column`; none where that is not known.
    pub columns: Option<BTreeSet<String>>,
    /// Columns whose values it sets or takes away; known where `columns` is.
    pub columns_written: BTreeSet<String>,
    /// Why its columns are not known, where that was asked; empty else.
    pub columns_unsure: String,
    /// False where a condition is absent or keeps nothing out.
    pub has_where: bool,
    /// Branches of a MERGE: the kind, and whether it has a condition.
    pub branches: Vec<(String, bool)>,
    /// Upper case if built in, else `project.dataset.name`.
    pub functions: BTreeSet<String>,
    /// Routines that it makes, changes or drops.
    pub defined: BTreeSet<String>,
    /// Functions and procedures of datasets that it calls and that were not looked up.
    pub routines: BTreeSet<String>,
    pub models: BTreeSet<String>,
    /// Connections to other systems.
    pub connections: BTreeSet<String>,
    /// Addresses outside BigQuery that data is written to.
    pub destinations: BTreeSet<String>,
    /// Addresses outside BigQuery that data is read from.
    pub sources: BTreeSet<String>,
    /// `@@` variables, in lower case.
    pub system_variables: BTreeSet<String>,
    /// BigQuery's sessions that it ends, by their ids.
    pub sessions: BTreeSet<String>,
    /// It replaces what is there.
    pub overwrites: bool,
    /// It makes something that lives only as long as its session.
    pub is_temporary: bool,
    /// It makes or calls what runs elsewhere.
    pub is_remote: bool,
    /// It changes who may do what.
    pub changes_access: bool,
    /// What is not known, and why.
    pub unknown: BTreeMap<Knowledge, String>,
}

/// Something that may be unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Knowledge {
    /// What a statement is and does at all.
    Kind,
    /// Which tables it touches.
    Tables,
    /// Which table it writes.
    Target,
    /// Which tables its wildcards stand for; they are named as they are written.
    Wildcards,
}

impl Footprint {
    /// Whether all of it is known.
    pub fn is_certain(&self) -> bool {
        self.unsure.is_empty() && self.statements.iter().all(Deed::is_certain)
    }

    /// Whether it only reads, and that is known.
    pub fn is_read(&self) -> bool {
        self.access == Access::Read && self.statements_only_read()
    }

    /// Whether its text only reads, whatever its method may do, and that is known: statements that read and those
    /// that scripts consist of, without a result table of their own.
    pub fn statements_only_read(&self) -> bool {
        const READING: &[&str] = &["SELECT", "DECLARE", "SET", "ASSERT", "RAISE", "RETURN"];
        // A function that lives as long as its query, and runs in it.
        let is_own = |deed: &Deed| {
            deed.is_temporary
                && !deed.is_remote
                && matches!(deed.kind.as_str(), "CREATE_FUNCTION" | "CREATE_TABLE_FUNCTION")
        };
        let reads = |deed: &Deed| {
            (deed.kind.is_empty() || READING.contains(&deed.kind.as_str()) || is_own(deed))
                && deed.written.is_empty()
                && deed.destinations.is_empty()
                && !deed.unknown.contains_key(&Knowledge::Kind)
        };
        let is_sure = self.unsure.is_empty() && !self.is_dynamic();
        self.result_table.is_empty() && is_sure && self.statements.iter().all(reads)
    }

    /// Whether it changes who may do what.
    pub fn is_admin(&self) -> bool {
        self.access == Access::Admin || self.statements.iter().any(Deed::is_about_access)
    }

    /// Whether some of what it runs is made only as it runs, or stands in a procedure that was not looked up.
    pub fn is_dynamic(&self) -> bool {
        self.makes_text || self.calls_unseen()
    }

    /// Whether it calls a procedure that was not looked up.
    pub fn calls_unseen(&self) -> bool {
        self.statements
            .iter()
            .any(|deed| !deed.routines.is_empty() && deed.unknown.contains_key(&Knowledge::Kind))
    }

    /// Tables whose rows it may change or take away, or why that can't be told.
    pub fn endangers(&self) -> Result<BTreeSet<String>, String> {
        const CHANGING: &[&str] =
            &["DELETE", "UPDATE", "MERGE", "TRUNCATE_TABLE", "DROP_TABLE", "ALTER_TABLE"];
        let mut tables = BTreeSet::new();
        for deed in &self.statements {
            if let Some(why) = deed.unknown(Knowledge::Kind).or(deed.unknown(Knowledge::Target)) {
                return Err(why);
            }
            if deed.kind == "DROP_SCHEMA" {
                return Err("which tables are in the dataset was not read".to_owned());
            }
            if deed.kind.ends_with("_VIEW") {
                continue;
            }
            if deed.overwrites || CHANGING.contains(&deed.kind.as_str()) {
                tables.extend(deed.written.iter().filter(|table| !table.starts_with("_SESSION.")).cloned());
            }
            if deed.overwrites && !self.result_table.is_empty() {
                tables.insert(self.result_table.clone());
            }
        }
        match tables.iter().find(|table| table.contains(['*', '`', '\\'])) {
            Some(table) => Err(format!("'{table}' is no single table")),
            None => Ok(tables),
        }
    }

    /// Whether its like differs in nothing but the rows: no statement of it makes, drops or shares something, or sends
    /// data elsewhere, where a literal may be the deed itself.
    pub fn is_about_rows(&self) -> bool {
        const ROWS: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"];
        let is_plain = |deed: &Deed| {
            ROWS.contains(&deed.kind.as_str())
                && deed.connections.is_empty()
                && deed.destinations.is_empty()
                && deed.sources.is_empty()
                && !deed.is_remote
        };
        self.is_certain() && !self.makes_text && self.statements.iter().all(is_plain)
    }

    /// Names that it makes, changes or drops.
    pub fn changed(&self) -> impl Iterator<Item = String> + '_ {
        let changes =
            |deed: &&Deed| !matches!(deed.kind.as_str(), "SELECT" | "INSERT" | "UPDATE" | "DELETE" | "MERGE");
        let deeds = self.statements.iter().filter(changes);
        deeds.flat_map(|deed| deed.written.iter().chain(&deed.defined).chain(&deed.models).cloned())
    }

    /// The kinds of all its statements, sorted.
    pub fn kinds(&self) -> Vec<String> {
        let kinds = self.statements.iter().map(|deed| &deed.kind).filter(|kind| !kind.is_empty());
        kinds.collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }

    /// All columns that are known to be touched, sorted.
    pub fn columns(&self) -> Vec<String> {
        let deeds = self.statements.iter();
        let columns = deeds.flat_map(|deed| deed.columns.iter().flatten().chain(&deed.columns_written));
        columns.collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }

    /// All tables, sorted.
    pub fn tables(&self) -> Vec<String> {
        let tables = self.statements.iter().flat_map(|deed| deed.read.iter().chain(&deed.written));
        tables
            .chain(Some(&self.result_table).filter(|table| !table.is_empty()))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .cloned()
            .collect()
    }

    /// Why something is unknown of any of its statements.
    pub fn unknown(&self, what: Knowledge) -> Option<String> {
        self.statements.iter().find_map(|deed| deed.unknown(what))
    }
}

impl Deed {
    /// Whether it changes who may do what.
    pub fn is_about_access(&self) -> bool {
        const ENDS: &[&str] = &[
            "_ROW_ACCESS_POLICY",
            "_CONNECTION",
            "_RESERVATION",
            "_CAPACITY",
            "_ASSIGNMENT",
            "_PRIVILEGE_RESTRICTION",
            "_DATA_POLICY",
        ];
        self.changes_access
            || matches!(self.kind.as_str(), "GRANT" | "REVOKE")
            || ENDS.iter().any(|end| self.kind.ends_with(end))
    }

    /// Which columns it touches; none where that is not known. What touches no table touches none.
    pub fn touched(&self) -> Option<BTreeSet<&str>> {
        match &self.columns {
            Some(columns) => Some(columns.iter().chain(&self.columns_written).map(String::as_str).collect()),
            None => (self.read.is_empty() && self.written.is_empty()).then(BTreeSet::new),
        }
    }

    /// Whether all of it is known.
    pub fn is_certain(&self) -> bool {
        self.unknown.is_empty() && self.routines.is_empty()
    }

    /// Why something is unknown.
    pub fn unknown(&self, what: Knowledge) -> Option<String> {
        let routine = (what == Knowledge::Tables).then(|| self.routines.first()).flatten();
        let said = self.unknown.get(&what).cloned();
        said.or_else(|| routine.map(|name| format!("what {name} reads is not known")))
    }

    /// One of that kind.
    pub fn of(kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..Self::default() }
    }
}
