//! What is known of the tables and functions that texts name.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::Type;

/// Columns of tables, and what functions return; both by full name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Schemas {
    pub tables: BTreeMap<String, Vec<(String, Type)>>,
    /// Tables that are known not to be there.
    pub absent: BTreeSet<String>,
    pub functions: BTreeMap<String, Type>,
}

impl Schemas {
    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        const COLUMN_BYTES: usize = 96;
        COLUMN_BYTES * self.tables.values().map(|columns| 1 + columns.len()).sum::<usize>()
    }

    /// Every column of a table, by its full name; or why they are not known.
    pub fn whole(&self, table: &str) -> Result<Vec<String>, String> {
        match self.tables.get(table) {
            Some(columns) => Ok(columns.iter().map(|(column, _)| format!("{table}.{column}")).collect()),
            None if self.absent.contains(table) => Ok(Vec::new()),
            None => Err(format!("the columns of {table} are not known")),
        }
    }
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
