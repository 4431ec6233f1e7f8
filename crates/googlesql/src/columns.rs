//! Which columns a statement touches, as Google's analyzer resolves it.
//!
//! Each statement is resolved by itself, against a catalog of just the tables that it names, spelt as it spells them:
//! what the names mean is ours to say (`name.rs`). What an earlier statement of the text made is known to the later
//! ones. What can't be resolved is unknown, with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::description::{Columns, Knowledge, Statement, Touched};
use crate::information_schema;
use crate::name::{Defaults, tables};
use crate::schema::{Catalog, CatalogTable, Returned, Schemas, is_pseudo};
use crate::tree::{NodeId, Tree};
use crate::types::Type;
use crate::{ParseFailure, Parser};

/// Kinds whose columns can be told only by resolving them. The others take their tables whole, or not at all.
const RESOLVED: &[&str] = &[
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "MERGE",
    "CREATE_TABLE",
    "CREATE_TABLE_AS_SELECT",
    "CREATE_VIEW",
    "CREATE_MATERIALIZED_VIEW",
    "CREATE_FUNCTION",
    "CREATE_TABLE_FUNCTION",
    "EXPORT_DATA",
    "ASSERT",
    "CREATE_ROW_ACCESS_POLICY",
];
/// Functions of BigQuery that the module does not have, and what they return.
const MISSING: &[(&str, &str)] =
    &[("SEARCH", "BOOL"), ("CONTAINS_SUBSTR", "BOOL"), ("COLLATE", "STRING"), ("ST_ISVALID", "BOOL")];
/// Where temporary tables are.
const SESSION: &str = "_SESSION.";
/// `ResolvedStatementEnums.ObjectAccess`, a bit each.
const READS: u64 = 1;
const WRITES: u64 = 2;

/// What is known at a statement, beside its text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    pub(crate) defaults: Defaults,
    /// It is an expression, not a statement.
    pub(crate) is_expression: bool,
    /// Columns that it adds, changes or drops, where it is about no more than those.
    pub(crate) altered: Option<Vec<String>>,
    /// Functions that it calls and that are not built in: as it spells them, and their full names. A temporary one has
    /// none.
    pub(crate) called: Vec<(Vec<String>, Option<String>)>,
}

/// A variable of a script.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub(crate) name: String,
    /// Statements that stand before it.
    pub(crate) after: usize,
    /// Where it is declared.
    pub(crate) context: Context,
    pub(crate) of: VariableType,
}

/// What its type is made from.
#[derive(Clone, Debug)]
pub(crate) enum VariableType {
    /// Where the type is written.
    Written(Range<usize>),
    /// Where a value of it is written.
    Value(Range<usize>),
    /// The rows of a query: of that statement.
    Rows(usize),
}

/// Resolves the statements of one text.
pub(crate) struct Resolver<'a> {
    pub(crate) sql: &'a str,
    pub(crate) parser: &'a mut dyn Parser,
    /// What the statements before have made is added.
    pub(crate) schemas: &'a mut Schemas,
    /// Tables that the text makes for itself.
    pub(crate) temporary: &'a BTreeSet<String>,
    pub(crate) is_positional: bool,
    /// The parser stopped: another reading may know more.
    pub(crate) is_cut: bool,
}

impl Resolver<'_> {
    /// Says of each statement which columns it touches.
    pub(crate) fn resolve(
        &mut self,
        statements: &mut [Statement],
        contexts: &[Context],
        variables: &[Variable],
    ) {
        let mut constants: Vec<(String, Type)> = Vec::new();
        let mut rows: BTreeMap<usize, Type> = BTreeMap::new();
        let mut variables = variables.iter().peekable();
        for (at, (statement, context)) in statements.iter_mut().zip(contexts).enumerate() {
            while let Some(variable) = variables.next_if(|variable| variable.after <= at) {
                let kind = match &variable.of {
                    VariableType::Rows(of) => rows.get(of).cloned(),
                    VariableType::Written(span) => {
                        self.type_of(span, variable, &constants, |text| format!("CAST(NULL AS {text})"))
                    }
                    VariableType::Value(span) => {
                        self.type_of(span, variable, &constants, |text| format!("({text}\n)"))
                    }
                };
                constants.retain(|(name, _)| !name.eq_ignore_ascii_case(&variable.name));
                constants.extend(kind.map(|kind| (variable.name.clone(), kind)));
            }
            let makes_rows =
                variables.clone().any(|one| matches!(one.of, VariableType::Rows(of) if of == at));
            let found = self.touched(statement, context, &constants, makes_rows);
            match found {
                Ok((columns, made)) => {
                    statement.columns = Columns::Known(columns);
                    if let Some(row) = made {
                        self.keep(statement, context, row, at, &mut rows);
                    }
                }
                Err(why) => statement.columns = Columns::Unknown(why),
            }
        }
    }

    /// What a statement made: a table, a function, or rows that a loop takes.
    fn keep(
        &mut self,
        statement: &Statement,
        context: &Context,
        made: Made,
        at: usize,
        rows: &mut BTreeMap<usize, Type>,
    ) {
        match made {
            Made::Rows(columns) if statement.kind == "SELECT" && !context.is_expression => {
                rows.insert(at, Type::Struct(columns));
            }
            Made::Rows(columns) => {
                // What is there already may stay as it is: IF NOT EXISTS, a branch that is not taken, a session's table.
                let is_new = |table: &&String| match table.starts_with(SESSION) {
                    true => context.defaults.lost.is_none(),
                    false => self.schemas.absent.contains(*table),
                };
                let only = statement.written.first().filter(|_| statement.written.len() == 1);
                if let Some(table) = only.filter(is_new) {
                    self.schemas.tables.insert(table.clone(), columns);
                }
            }
            Made::Function(path, kind) => {
                let name = statement.defined.first().cloned().unwrap_or_else(|| own_name(&path));
                self.schemas.functions.insert(name, Returned::Type(kind));
            }
        }
    }

    /// The type of an expression made from a piece of the text.
    fn type_of(
        &mut self,
        span: &Range<usize>,
        variable: &Variable,
        constants: &[(String, Type)],
        expression: impl Fn(&str) -> String,
    ) -> Option<Type> {
        let text = format!("SELECT {}", expression(self.sql.get(span.clone())?));
        let catalog = self.catalog(&text, None, &variable.context, constants).ok()?;
        self.first_type(&text, &catalog)
    }

    /// The type of the first column of a query.
    fn first_type(&mut self, text: &str, catalog: &Catalog) -> Option<Type> {
        let tree = Tree::resolved(&self.parser.analyze(text, catalog).ok()?).ok()?;
        let first = tree.of_kind("ResolvedOutputColumn").next()?;
        let column = tree.child(first, "column")?;
        Type::read(&tree, tree.child(column, "type")?)
    }

    fn touched(
        &mut self,
        statement: &Statement,
        context: &Context,
        constants: &[(String, Type)],
        makes_rows: bool,
    ) -> Result<(Touched, Option<Made>), String> {
        let mut touched = Touched::default();
        let is_resolved = RESOLVED.contains(&statement.kind.as_str());
        if let Some((_, why)) = statement.unknown.iter().find(|(what, _)| *what != Knowledge::Target) {
            return Err(why.clone());
        }
        let is_about_tables = !statement.read.is_empty() || !statement.written.is_empty();
        if !is_about_tables && statement.kind != "CREATE_FUNCTION" && !makes_rows {
            return Ok((touched, None));
        }
        for table in statement.written.iter().filter(|_| changes_whole_rows(statement)) {
            match &context.altered {
                None if table.starts_with(SESSION) => {}
                None => touched.written.extend(self.schemas.whole_written(table)?),
                Some(altered) => {
                    touched.written.extend(altered.iter().map(|column| format!("{table}.{column}")));
                }
            }
        }
        if !is_resolved {
            // An index is made of its table's columns.
            let indexed = statement.written.iter().filter(|_| statement.kind.ends_with("_INDEX"));
            for table in statement.read.iter().chain(indexed) {
                self.take_whole(statement, table, &mut touched)?;
            }
            return Ok((touched, None));
        }
        let text = self.sql.get(statement.span.clone()).ok_or("its text is not where it should be")?;
        let text = if context.is_expression { format!("SELECT {text}") } else { text.to_owned() };
        let catalog = self.catalog(&text, Some(statement), context, constants)?;
        let answer = self.parser.analyze(&text, &catalog).map_err(|failure| self.said(&failure))?;
        let tree = Tree::resolved(&answer).map_err(|error| format!("its columns can't be told: {error}"))?;
        if tree.of_kind("ResolvedPipeIfScan").next().is_some() {
            return Err("a condition of its pipe is decided as it runs".to_owned());
        }
        let mut scanned = BTreeSet::new();
        self.add_scans(&tree, &mut touched, &mut scanned)?;
        // What is read and never scanned is taken whole by other means, or not at all: the former is assumed.
        let is_whole = copies(&tree);
        for table in statement.read.iter().filter(|table| is_whole || !scanned.contains(*table)) {
            self.take_whole(statement, table, &mut touched)?;
        }
        let made = made(&tree, &statement.kind);
        Ok((touched, made))
    }

    /// Every column of a table that a statement reads.
    fn take_whole(&self, statement: &Statement, table: &str, touched: &mut Touched) -> Result<(), String> {
        if let Some(columns) = information_schema::columns(table) {
            touched.read.extend(columns.into_iter().map(|(column, _)| format!("{table}.{column}")));
            return Ok(());
        }
        // A name that a temporary table has as well, and that nothing else has.
        let name = table.rsplit('.').next().unwrap_or_default();
        let in_session = format!("{SESSION}{name}");
        let is_other = statement.read.contains(&in_session) && self.schemas.tables.contains_key(&in_session);
        if !(is_other && self.schemas.absent.contains(table)) {
            touched.read.extend(self.schemas.whole(table)?);
        }
        Ok(())
    }

    /// The columns of every scan of a table; those that DML writes apart.
    fn add_scans(
        &self,
        tree: &Tree,
        touched: &mut Touched,
        scanned: &mut BTreeSet<String>,
    ) -> Result<(), String> {
        let mut changes: BTreeMap<NodeId, Vec<u64>> = BTreeMap::new();
        for kind in ["ResolvedInsertStmt", "ResolvedUpdateStmt", "ResolvedDeleteStmt", "ResolvedMergeStmt"] {
            for node in tree.of_kind(kind) {
                if let Some(scan) = tree.child(node, "table_scan") {
                    changes.insert(scan, tree.numbers(node, "column_access_list").collect());
                }
            }
        }
        for scan in tree.of_kind("ResolvedTableScan") {
            let table =
                tree.child(scan, "table").map(|table| tree.text(table, "full_name")).unwrap_or_default();
            scanned.insert(table.to_owned());
            let access = changes.get(&scan);
            for (at, column) in tree.all(scan, "column_list").enumerate() {
                let name = tree.text(column, "name");
                if is_pseudo(name) {
                    continue;
                }
                let access = access.map_or(READS, |access| access.get(at).copied().unwrap_or(READS | WRITES));
                let paths = match information_schema::columns(table) {
                    Some(_) => vec![format!("{table}.{name}")],
                    None => self.schemas.column(table, name)?,
                };
                if access & WRITES != 0 {
                    touched.written.extend(paths.iter().cloned());
                }
                if access & READS != 0 {
                    touched.read.extend(paths);
                }
            }
        }
        Ok(())
    }

    /// What a function returns; of one that does not say, what its body comes to.
    fn returned(&mut self, name: &str) -> Option<Type> {
        let (sql, arguments) = match self.schemas.functions.get(name)? {
            Returned::Type(kind) => return Some(kind.clone()),
            Returned::Body { sql, arguments } => (format!("SELECT ({sql}\n)"), arguments.clone()),
        };
        let catalog = Catalog { constants: arguments, ..Catalog::default() };
        let kind = self.first_type(&sql, &catalog)?;
        self.schemas.functions.insert(name.to_owned(), Returned::Type(kind.clone()));
        Some(kind)
    }

    fn said(&mut self, failure: &ParseFailure) -> String {
        self.is_cut |= !matches!(failure, ParseFailure::Refused(_));
        match failure {
            ParseFailure::Refused(said) => format!("its columns can't be told: {said}"),
            other => other.to_string(),
        }
    }

    /// The tables, variables and functions that a statement may name. Without one, any table that a name may mean will do.
    fn catalog(
        &mut self,
        text: &str,
        statement: Option<&Statement>,
        context: &Context,
        constants: &[(String, Type)],
    ) -> Result<Catalog, String> {
        let mut catalog = Catalog {
            constants: constants.to_vec(),
            is_positional: self.is_positional,
            ..Catalog::default()
        };
        let names = self.parser.table_names(text).map_err(|failure| self.said(&failure))?;
        for path in names {
            let parts: Vec<&str> = path.iter().map(String::as_str).collect();
            let mut meant = tables(&parts, &context.defaults, self.temporary);
            if let Some(statement) = statement {
                // A temporary table counts from where it was made on.
                meant.retain(|name| statement.read.contains(name) || statement.written.contains(name));
            }
            // What is not there hides nothing.
            meant
                .retain(|name| self.schemas.tables.contains_key(name) || !self.schemas.absent.contains(name));
            let name = match &meant[..] {
                [name] => name,
                [] => return Err(format!("the columns of {} are not known", path.join("."))),
                _ => return Err(format!("which table {} is can't be told", path.join("."))),
            };
            let known = self.schemas.tables.get(name).cloned();
            let columns = known.or_else(|| information_schema::columns(name));
            let columns = columns.ok_or_else(|| format!("the columns of {name} are not known"))?;
            let is_other = |other: &CatalogTable| {
                other.name != *name && other.path.join(".").eq_ignore_ascii_case(&path.join("."))
            };
            if catalog.tables.iter().any(is_other) {
                return Err("it names tables that differ only in case".to_owned());
            }
            catalog.tables.push(CatalogTable { path, name: name.clone(), columns });
        }
        for (path, name) in &context.called {
            let own = own_name(path);
            let returned = self.returned(name.as_ref().unwrap_or(&own));
            let returned = returned.ok_or_else(|| format!("what {} returns is not known", path.join(".")))?;
            add_function(&mut catalog, path.clone(), returned);
        }
        for (name, kind) in MISSING {
            let kind = Type::plain(kind).expect("a type of the table above");
            add_function(&mut catalog, vec![(*name).to_owned()], kind);
        }
        Ok(catalog)
    }
}

/// Whether it makes, takes away or replaces rows as a whole, and with them every column of what it writes; or changes
/// what columns there are. Not where only its session sees that, nor where it is about the table alone.
fn changes_whole_rows(statement: &Statement) -> bool {
    let kind = statement.kind.as_str();
    let deletes = kind == "DELETE" || statement.branches.iter().any(|branch| branch.kind == "DELETE");
    let is_other = !RESOLVED.contains(&kind);
    let is_beside = statement.is_temporary || kind.ends_with("_INDEX") || kind.ends_with("_POLICY");
    (deletes || is_other || statement.overwrites) && !is_beside
}

/// A function is declared once, however often it is called.
fn add_function(catalog: &mut Catalog, path: Vec<String>, returned: Type) {
    let name = own_name(&path);
    if catalog.functions.iter().all(|(known, _)| own_name(known) != name) {
        catalog.functions.push((path, returned));
    }
}

/// The name of a temporary function: it hides no other.
fn own_name(path: &[String]) -> String {
    path.join(".").to_lowercase()
}

/// What a statement made.
enum Made {
    Rows(Vec<(String, Type)>),
    Function(Vec<String>, Type),
}

/// Whether it takes a table as it is: its scan names no columns then.
fn copies(tree: &Tree) -> bool {
    let takes = |kind, field| tree.of_kind(kind).any(|node| tree.child(node, field).is_some());
    takes("ResolvedCreateTableStmt", "clone_from")
        || takes("ResolvedCreateTableStmt", "copy_from")
        || takes("ResolvedCreateMaterializedViewStmt", "replica_source")
}

/// The table, rows or function that a statement of that kind makes.
fn made(tree: &Tree, kind: &str) -> Option<Made> {
    let typed = |node| Type::read(tree, tree.child(node, "type")?);
    match kind {
        "SELECT" => {
            let node = tree.of_kind("ResolvedQueryStmt").next()?;
            let column = |output| {
                let kind = typed(tree.child(output, "column")?)?;
                Some((tree.text(output, "name").to_owned(), kind))
            };
            tree.all(node, "output_column_list").map(column).collect::<Option<_>>().map(Made::Rows)
        }
        "CREATE_TABLE" | "CREATE_TABLE_AS_SELECT" => {
            let node = ["ResolvedCreateTableStmt", "ResolvedCreateTableAsSelectStmt"]
                .iter()
                .find_map(|kind| tree.of_kind(kind).next())?;
            let column = |column| Some((tree.text(column, "name").to_owned(), typed(column)?));
            let columns: Option<Vec<_>> = tree.all(node, "column_definition_list").map(column).collect();
            // A copy's columns are not listed.
            columns.filter(|columns| !columns.is_empty()).map(Made::Rows)
        }
        "CREATE_FUNCTION" => {
            let node = tree.of_kind("ResolvedCreateFunctionStmt").next()?;
            let path = tree.texts(node, "name_path").map(str::to_owned).collect();
            Some(Made::Function(path, Type::read(tree, tree.child(node, "return_type")?)?))
        }
        _ => None,
    }
}
