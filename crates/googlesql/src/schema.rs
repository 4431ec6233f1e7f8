//! What is known of the tables and functions that texts name.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::Type;

/// Columns of tables, and what functions return; both by full name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Schemas {
    pub tables: BTreeMap<String, Vec<(String, Type)>>,
    /// Tables that are known not to be there.
    pub absent: BTreeSet<String>,
    pub functions: BTreeMap<String, Returned>,
}

/// What a function returns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Returned {
    Type(Type),
    /// What its body comes to, an expression over its arguments.
    Body {
        sql: String,
        arguments: Vec<(String, Type)>,
    },
}

impl Schemas {
    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        const COLUMN_BYTES: usize = 96;
        COLUMN_BYTES * self.tables.values().map(|columns| 1 + columns.len()).sum::<usize>()
    }

    /// Every column of a table that is read, by its full name, and every field in it; or why they are not known. One that
    /// is not there may be read as it was.
    pub fn whole(&self, table: &str) -> Result<Vec<String>, String> {
        let columns = self.tables.get(table).ok_or_else(|| not_known(table))?;
        let mut paths = Vec::new();
        for (column, kind) in columns {
            kind.add_paths(format!("{table}.{column}"), &mut paths);
        }
        Ok(paths)
    }

    /// The same of one that is written: what is not there yet has none.
    pub fn whole_written(&self, table: &str) -> Result<Vec<String>, String> {
        match self.absent.contains(table) && !self.tables.contains_key(table) {
            true => Ok(Vec::new()),
            false => self.whole(table),
        }
    }

    /// A column that is named, however its name is spelt, and every field in it; the whole table if it has no such column.
    pub fn column(&self, table: &str, name: &str) -> Result<Vec<String>, String> {
        let first = name.split('.').next().unwrap_or_default();
        let columns = self.tables.get(table).ok_or_else(|| not_known(table))?;
        let Some((own, kind)) = columns.iter().find(|(own, _)| own.eq_ignore_ascii_case(first)) else {
            return self.whole(table);
        };
        let mut paths = Vec::new();
        kind.add_paths(format!("{table}.{own}"), &mut paths);
        Ok(paths)
    }
}

fn not_known(table: &str) -> String {
    format!("the columns of {table} are not known")
}

/// The catalog that one statement is resolved against: everything as the statement spells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    pub tables: Vec<CatalogTable>,
    /// Variables of its script.
    pub constants: Vec<(String, Type)>,
    /// Functions that are not built in, by path, and what they return.
    pub functions: Vec<(Vec<String>, Type)>,
    /// Its parameters have no names.
    pub is_positional: bool,
}

/// A table as a statement names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogTable {
    pub path: Vec<String>,
    /// `project.dataset.table`
    pub name: String,
    pub columns: Vec<(String, Type)>,
}

/// Columns that BigQuery adds where it can: when a row came in, and from which file.
pub const PSEUDO_COLUMNS: &[(&str, &str)] =
    &[("_PARTITIONTIME", "TIMESTAMP"), ("_PARTITIONDATE", "DATE"), ("_FILE_NAME", "STRING")];

/// Whether a column is none of the table's own.
pub(crate) fn is_pseudo(column: &str) -> bool {
    PSEUDO_COLUMNS.iter().any(|(name, _)| name.eq_ignore_ascii_case(column))
}
