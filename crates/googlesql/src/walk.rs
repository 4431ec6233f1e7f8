//! From the parse tree to what the text does: its statements here, what stands in them in `query`.

mod query;

use std::collections::BTreeSet;

use crate::columns::{Context, Resolver, Variable, VariableType};
use crate::constant::{Joins, keeps_out, text};
use crate::description::{Branch, Description, Knowledge, Statement};
use crate::kinds::{holds_statements, is_block, is_control, is_table_kind, kind_of};
use crate::name::{Defaults, is_wildcard, routine, tables};
use crate::outline;
use crate::schema::Schemas;
use crate::scope::{NOTHING, ScopeId, Scopes};
use crate::tree::{NodeId, Tree};
use crate::{ParseFailure, Parser, TEXT_BYTES_MAX};
use query::lower;

/// Blocks in blocks.
const BLOCKS_MAX: usize = 200;
/// Texts run from within texts.
const TEXTS_MAX: usize = 8;

/// `ASTMergeActionEnums.ActionType`
const MERGE_ACTIONS: [&str; 4] = ["", "INSERT", "UPDATE", "DELETE"];
/// `ASTMergeWhenClauseEnums.MatchType`
const NOT_MATCHED_BY_SOURCE: u64 = 2;
/// `ASTCreateStatementEnums.Scope`
const TEMPORARY: u64 = 3;
/// `ASTAuxLoadDataStatementEnums.InsertionMode`
const OVERWRITE: u64 = 2;
/// `ASTDropStatementEnums.DropMode`
const CASCADE: u64 = 2;
/// The system's own procedures, whose bodies are BigQuery's.
const SYSTEM_PROCEDURES: &str = "BQ";
/// Variables that change what names mean.
const DEFAULT_PROJECT: &str = "@@dataset_project_id";
const DEFAULT_DATASET: &str = "@@dataset_id";

/// Reads a text by the parser and, as the second opinion, by the lexer.
pub(crate) fn describe(
    sql: &str,
    defaults: &Defaults,
    schemas: Option<&mut Schemas>,
    parser: &mut dyn Parser,
) -> Description {
    describe_within(sql, defaults, schemas, parser, 0)
}

fn describe_within(
    sql: &str,
    defaults: &Defaults,
    mut schemas: Option<&mut Schemas>,
    parser: &mut dyn Parser,
    depth: usize,
) -> Description {
    if sql.len() > TEXT_BYTES_MAX {
        return Description::unknown("it is longer than BigQuery takes");
    }
    if depth > TEXTS_MAX {
        return Description::unknown("it runs texts within texts within texts");
    }
    let outline = outline::read(sql);
    let tree = match parser.parse(sql) {
        Ok(bytes) => Tree::parsed(&bytes),
        Err(ParseFailure::Absent) => return outline.into_description(&ParseFailure::Absent.to_string()),
        Err(failure) => return outline.guess(&failure.to_string()),
    };
    let tree = match tree {
        Ok(tree) => tree,
        Err(error) => return outline.guess(&format!("its parse tree can't be read: {error}")),
    };
    let mut walk = Walk::new(&tree, defaults);
    walk.script();
    if let Some(why) = outline.disagreement(&walk.statements) {
        return Description::unknown(&format!("two readings of it disagree ({why})"));
    }
    let (_, is_script) = walk.whole();
    if is_script || !walk.explained.is_empty() {
        match parser.table_names(sql) {
            Ok(names) => {
                walk.add_unexplained(&names);
                walk.find_unseen(&names);
            }
            Err(failure) => return Description::unknown(&failure.to_string()),
        }
    }
    let mut is_cut = false;
    if let Some(schemas) = &mut schemas {
        let is_positional = tree.of_kind("ASTParameterExpr").any(|node| tree.number(node, "position") > 0);
        let mut resolver =
            Resolver { sql, parser, schemas, temporary: &walk.temporary, is_positional, is_cut: false };
        resolver.resolve(&mut walk.statements, &walk.contexts, &walk.variables);
        is_cut = resolver.is_cut;
    }
    let (kind, is_script) = walk.whole();
    let Walk { mut statements, texts, mut unsure, mut is_dynamic, .. } = walk;
    for Text { sql, defaults, runner } in texts {
        let span = statements[runner].span.clone();
        let inner = describe_within(&sql, &defaults, schemas.as_deref_mut(), parser, depth + 1);
        is_dynamic |= inner.is_dynamic;
        is_cut |= inner.is_cut;
        unsure.extend(inner.unsure);
        statements.extend(inner.statements.into_iter().map(|one| Statement { span: span.clone(), ..one }));
    }
    Description { kind, statements, is_script, is_dynamic, unsure, is_cut, guessed: Vec::new() }
}

struct Walk<'a> {
    tree: &'a Tree,
    /// As they are at the statement that is read.
    defaults: Defaults,
    scopes: Scopes,
    statements: Vec<Statement>,
    /// One for each statement.
    contexts: Vec<Context>,
    variables: Vec<Variable>,
    /// Made in the text itself.
    temporary: BTreeSet<String>,
    /// Temporary functions that it makes, in lower case.
    functions: BTreeSet<String>,
    /// Names that a scope explained: the statement, and the path.
    explained: Vec<(usize, Vec<String>)>,
    /// Texts that it runs.
    texts: Vec<Text>,
    unsure: Vec<String>,
    is_dynamic: bool,
}

/// A text that is run by a statement.
struct Text {
    sql: String,
    defaults: Defaults,
    runner: usize,
}

/// What is yet to be looked at: a node, the names that are known there, and whose it is.
#[derive(Clone, Copy)]
struct Rest {
    node: NodeId,
    scope: ScopeId,
    of: Owner,
}

/// Whose a node is.
#[derive(Clone, Copy, PartialEq)]
enum Owner {
    Statement(usize),
    /// A condition of a block, or a value that is assigned: a query in it is a statement of its own.
    Control,
}

impl<'a> Walk<'a> {
    fn new(tree: &'a Tree, defaults: &Defaults) -> Self {
        Self {
            tree,
            defaults: defaults.clone(),
            scopes: Scopes::default(),
            statements: Vec::new(),
            contexts: Vec::new(),
            variables: Vec::new(),
            temporary: BTreeSet::new(),
            functions: BTreeSet::new(),
            explained: Vec::new(),
            texts: Vec::new(),
            unsure: Vec::new(),
            is_dynamic: false,
        }
    }

    /// The statements of the answer's script.
    fn top(&self) -> Vec<NodeId> {
        let root = self.tree.root();
        let list = self
            .tree
            .child(root, "parsed_script")
            .and_then(|script| self.tree.child(script, "statement_list_node"));
        match list {
            Some(list) => self.tree.all(list, "statement_list").collect(),
            None => self.tree.child(root, "parsed_statement").into_iter().collect(),
        }
    }

    fn script(&mut self) {
        for statement in self.top() {
            self.statement(statement, 0);
        }
    }

    /// The kind of the whole, and whether it is a script. Temporary functions before one query belong to it
    /// (Google's "Multi-statement queries").
    fn whole(&self) -> (String, bool) {
        let top = self.top();
        let is_prelude = |node: &NodeId| {
            matches!(self.tree.kind(*node), "ASTCreateFunctionStatement" | "ASTCreateTableFunctionStatement")
                && self.tree.number(*node, "scope") == TEMPORARY
        };
        let Some((last, before)) = top.split_last() else { return (String::new(), false) };
        let is_query = self.tree.kind(*last) == "ASTQueryStatement";
        let is_one = before.is_empty() || (is_query && before.iter().all(is_prelude));
        if !is_one || is_control(self.tree.kind(*last)) {
            return ("SCRIPT".to_owned(), true);
        }
        let span = self.tree.span(*last);
        let inner = self.tree.child(*last, "statement").map(|inner| self.tree.span(inner));
        let own = self.statements.iter().find(|one| one.span == span || Some(&one.span) == inner.as_ref());
        (own.map(|own| own.kind.clone()).unwrap_or_default(), false)
    }

    /// A statement, and what is nested in it.
    fn statement(&mut self, node: NodeId, depth: usize) {
        if depth > BLOCKS_MAX {
            let why = "its blocks are nested too deep".to_owned();
            self.push(Statement::unknown_kind(why, self.tree.span(node)));
            return;
        }
        match self.tree.kind(node) {
            "ASTHintedStatement" => {
                if let Some(inner) = self.tree.child(node, "statement") {
                    self.statement(inner, depth);
                }
            }
            kind if is_block(kind) => self.block(node, depth),
            "ASTBreakStatement" | "ASTContinueStatement" => {}
            _ => self.plain_statement(node, depth),
        }
    }

    /// A block, a loop or a branch: its statements, and the queries in its conditions.
    fn block(&mut self, node: NodeId, depth: usize) {
        let children: Vec<_> = self.tree.children(node).collect();
        for (_, child) in children {
            match self.tree.kind(child) {
                "ASTStatementList" => {
                    let list: Vec<_> = self.tree.all(child, "statement_list").collect();
                    for statement in list {
                        self.statement(statement, depth + 1);
                    }
                }
                // The query that a loop runs over.
                "ASTQuery" => {
                    let of = self.begin("SELECT", child);
                    self.look(child, NOTHING, Owner::Statement(of));
                    if let Some(row) = self.tree.child(node, "variable") {
                        self.variable_of(row, VariableType::Rows(of));
                    }
                }
                kind if holds_statements(kind) => self.block(child, depth + 1),
                _ => self.look(child, NOTHING, Owner::Control),
            }
        }
    }

    fn begin(&mut self, kind: &str, node: NodeId) -> usize {
        self.push(Statement { kind: kind.to_owned(), span: self.tree.span(node), ..Statement::default() })
    }

    fn push(&mut self, statement: Statement) -> usize {
        self.statements.push(statement);
        self.contexts.push(Context { defaults: self.defaults.clone(), ..Context::default() });
        self.statements.len() - 1
    }

    fn variable_of(&mut self, name: NodeId, of: VariableType) {
        let name = self.tree.text(name, "id_string").to_owned();
        let context = Context { defaults: self.defaults.clone(), ..Context::default() };
        self.variables.push(Variable { name, after: self.statements.len(), context, of });
    }

    /// `DECLARE a, b INT64 DEFAULT 1`
    fn declare(&mut self, node: NodeId) {
        let tree = self.tree;
        let written = tree.child(node, "type").map(|node| VariableType::Written(tree.span(node)));
        let value = tree.child(node, "default_value").map(|node| VariableType::Value(tree.span(node)));
        let Some(of) = written.or(value) else { return };
        let list = tree.child(node, "variable_list");
        for name in list.into_iter().flat_map(|list| tree.all(list, "identifier_list")).collect::<Vec<_>>() {
            self.variable_of(name, of.clone());
        }
    }

    fn plain_statement(&mut self, node: NodeId, depth: usize) {
        let tree = self.tree;
        let kind = kind_of(tree, node);
        let of = self.begin(&kind, node);
        self.statements[of].is_temporary = tree.number(node, "scope") == TEMPORARY;
        self.statements[of].overwrites =
            tree.is(node, "is_or_replace") || tree.number(node, "insertion_mode") == OVERWRITE;
        match tree.kind(node) {
            "ASTQueryStatement" => self.children(node, NOTHING, Owner::Statement(of)),
            "ASTVariableDeclaration" => {
                self.children(node, NOTHING, Owner::Control);
                self.declare(node);
            }
            "ASTSingleAssignment"
            | "ASTAssignmentFromStruct"
            | "ASTRaiseStatement"
            | "ASTParameterAssignment" => self.children(node, NOTHING, Owner::Control),
            "ASTSystemVariableAssignment" => self.assign(node, of, depth),
            "ASTExecuteImmediateStatement" => self.execute(node, of),
            "ASTCallStatement" => self.call(node, of),
            "ASTCreateProcedureStatement" => self.procedure(node, of, depth),
            "ASTInsertStatement" => self.insert(node, of, NOTHING),
            "ASTUpdateStatement" | "ASTDeleteStatement" => self.change(node, of),
            "ASTMergeStatement" => self.merge(node, of),
            "ASTTruncateStatement" => {
                self.target(node, "target_path", of);
                self.statements[of].has_where = keeps_out(tree, tree.child(node, "where"));
                self.children(node, NOTHING, Owner::Statement(of));
            }
            "ASTExportDataStatement" | "ASTExportModelStatement" | "ASTExportMetadataStatement" => {
                self.export(node, of);
            }
            "ASTAuxLoadDataStatement" | "ASTCreateExternalTableStatement" => {
                self.target(node, "name", of);
                self.external(node, of, "the table's");
                self.children(node, NOTHING, Owner::Statement(of));
            }
            _ => self.definition(node, of, &kind),
        }
    }

    /// CREATE, ALTER, DROP and the like: what is defined, and what it is made from.
    fn definition(&mut self, node: NodeId, of: usize, kind: &str) {
        let tree = self.tree;
        let (name, path) = (tree.child(node, "name"), tree.child(node, "path"));
        if is_table_kind(kind) {
            for field in ["name", "path", "target_path"] {
                self.target(node, field, of);
            }
        }
        // Indexes and row access policies name their table apart.
        for field in ["table_name", "target_path"] {
            self.target(node, field, of);
        }
        if tree.kind(node) == "ASTAlterRowAccessPolicyStatement"
            || tree.kind(node) == "ASTAlterAllRowAccessPoliciesStatement"
            || tree.kind(node) == "ASTAlterIndexStatement"
        {
            self.target(node, "path", of);
        }
        if kind == "GRANT" || kind == "REVOKE" {
            self.granted(node, of);
        }
        if kind == "DROP_SCHEMA" && tree.number(node, "drop_mode") == CASCADE {
            self.not_known(of, Knowledge::Tables, "every table of the dataset is dropped with it");
        }
        if ["FUNCTION", "PROCEDURE"].iter().any(|object| kind.ends_with(object)) {
            let declared = tree.child(node, "function_declaration").unwrap_or(node);
            if let Some(name) = tree.child(declared, "name").or(path) {
                let path = self.path(name);
                if let ([only], true) = (&path[..], self.statements[of].is_temporary) {
                    self.functions.insert(only.to_lowercase());
                } else {
                    let name = self.routine_name(name);
                    self.statements[of].defined.insert(name);
                }
            }
        }
        if let Some(name) = name.or(path).filter(|_| kind.ends_with("_MODEL")) {
            let model = self.routine_name(name);
            self.statements[of].models.insert(model);
        }
        self.statements[of].is_remote |= tree.is(node, "is_remote");
        if let Some(actions) = tree.child(node, "action_list").filter(|_| kind == "ALTER_TABLE") {
            self.contexts[of].altered = altered(tree, actions);
        }
        if let Some(source) = tree.child(node, "replica_source") {
            self.read(source, of);
        }
        if let Some(name) = name.or(path).filter(|_| kind.ends_with("_SCHEMA")) {
            let path = self.path(name);
            let schema = match &path.join(".").split('.').collect::<Vec<_>>()[..] {
                [schema] => format!("{}.{schema}", self.defaults.project),
                parts => parts.join("."),
            };
            self.statements[of].defined.insert(schema);
        }
        if let Some(like) = tree.child(node, "like_table_name") {
            self.read(like, of);
        }
        if kind == "CREATE_PROPERTY_GRAPH" {
            self.not_known(of, Knowledge::Tables, "the tables behind a property graph are not read");
        }
        let is_temporary = self.statements[of].is_temporary && is_table_kind(kind);
        if let Some(name) = name.filter(|_| is_temporary)
            && let [only] = &self.path(name)[..]
        {
            self.temporary.insert(only.clone());
        }
        self.children(node, NOTHING, Owner::Statement(of));
    }

    fn granted(&mut self, node: NodeId, of: usize) {
        let tree = self.tree;
        let on: Vec<String> = tree
            .all(node, "target_type_parts")
            .map(|part| tree.text(part, "id_string").to_ascii_uppercase())
            .collect();
        // `target_path` was taken as a table; of a schema it is none.
        if on.iter().any(|part| part == "SCHEMA") {
            self.statements[of].written.clear();
            self.not_known(of, Knowledge::Tables, "every table of the dataset is shared with it");
        }
    }

    /// `SET @@name = value`
    fn assign(&mut self, node: NodeId, of: usize, depth: usize) {
        let tree = self.tree;
        self.children(node, NOTHING, Owner::Statement(of));
        let name = tree.child(node, "system_variable").map(|variable| self.variable(variable));
        let value = tree.child(node, "expression").and_then(|value| self.text(value));
        if name.as_deref() == Some(DEFAULT_PROJECT) {
            if self.defaults.dataset_project.is_empty() {
                self.defaults.dataset_project.clone_from(&self.defaults.project);
            }
            self.defaults.is_moved = true;
        }
        let field = match name.as_deref() {
            Some(DEFAULT_DATASET) => &mut self.defaults.dataset,
            Some(DEFAULT_PROJECT) => &mut self.defaults.project,
            _ => return,
        };
        match value {
            Some(value) if depth == 0 && !value.is_empty() => *field = value,
            _ => self.defaults.lost = Some("the script changes its default dataset as it runs"),
        }
    }

    fn execute(&mut self, node: NodeId, of: usize) {
        let tree = self.tree;
        self.children(node, NOTHING, Owner::Control);
        match tree.child(node, "sql").and_then(|sql| self.text(sql)) {
            Some(sql) => {
                self.texts.push(Text { sql, defaults: self.defaults.clone(), runner: of });
            }
            None => {
                self.is_dynamic = true;
                let why = "it runs a text that is made as it runs (EXECUTE IMMEDIATE)".to_owned();
                self.push(Statement::unknown_kind(why, tree.span(node)));
            }
        }
    }

    fn call(&mut self, node: NodeId, of: usize) {
        let tree = self.tree;
        self.children(node, NOTHING, Owner::Statement(of));
        let Some(name) = tree.child(node, "procedure_name") else { return };
        let path = self.path(name);
        let name = self.routine_name(name);
        if path.len() > 1 && path[0].eq_ignore_ascii_case(SYSTEM_PROCEDURES) {
            let name = path.join(".").to_ascii_uppercase();
            let argument = tree.child(node, "arguments");
            let named =
                argument.and_then(|argument| self.text(tree.child(argument, "expr").unwrap_or(argument)));
            // Without an argument it is about the caller's own session; with one that is written out, whose it is can
            // be told.
            let is_told = argument.is_none() || (named.is_some() && name == "BQ.ABORT_SESSION");
            self.statements[of].sessions.extend(named.filter(|_| is_told));
            self.statements[of].functions.insert(if is_told { format!("{name}()") } else { name });
            return;
        }
        self.statements[of].functions.insert(name.clone());
        let why = format!("what the procedure {name} does is not known");
        let body = Statement::unknown_kind(why, tree.span(node));
        self.push(Statement { routines: BTreeSet::from([name]), ..body });
    }

    /// The body runs when it is called; what it does then is said now.
    fn procedure(&mut self, node: NodeId, of: usize, depth: usize) {
        let tree = self.tree;
        if tree.child(node, "code").is_some() || tree.child(node, "with_connection_clause").is_some() {
            self.statements[of].is_remote = true;
        }
        if let Some(name) = tree.child(node, "name") {
            let name = self.routine_name(name);
            self.statements[of].defined.insert(name);
        }
        let body = tree.child(node, "body");
        let others: Vec<_> =
            tree.children(node).filter(|(_, child)| Some(*child) != body).map(|(_, child)| child).collect();
        for child in others {
            self.look(child, NOTHING, Owner::Statement(of));
        }
        let parameters = tree.child(node, "parameters");
        for one in parameters.into_iter().flat_map(|list| tree.all(list, "parameter_entries")) {
            if let (Some(name), Some(kind)) = (tree.child(one, "name"), tree.child(one, "type")) {
                self.variable_of(name, VariableType::Written(tree.span(kind)));
            }
        }
        // The body begins with its caller's defaults, whatever those will be.
        let defaults = self.defaults.clone();
        let list = body.and_then(|body| tree.child(body, "statement_list_node"));
        let list: Vec<_> = list.into_iter().flat_map(|list| tree.all(list, "statement_list")).collect();
        for statement in list {
            self.statement(statement, depth + 1);
        }
        self.defaults = defaults;
    }

    fn insert(&mut self, node: NodeId, of: usize, scope: ScopeId) {
        self.target(node, "target_path", of);
        self.children(node, scope, Owner::Statement(of));
    }

    /// UPDATE and DELETE.
    fn change(&mut self, node: NodeId, of: usize) {
        let tree = self.tree;
        self.target_is_read(node, of);
        self.statements[of].has_where = keeps_out(tree, tree.child(node, "where"));
        // FROM does not see the target; the condition and the values see both.
        let from = tree.child(node, "from_clause").map_or(NOTHING, |from| self.from(from, NOTHING, of));
        let scope = self.named_target(node, from);
        for (field, child) in tree.children(node).collect::<Vec<_>>() {
            if field != "from_clause" && field != "target_path" {
                self.look(child, scope, Owner::Statement(of));
            }
        }
    }

    fn merge(&mut self, node: NodeId, of: usize) {
        let tree = self.tree;
        self.target_is_read(node, of);
        // The source does not see the target; the condition and the branches see both.
        let source = tree.child(node, "table_expression");
        let source = source.map_or(NOTHING, |source| self.table_expression(source, NOTHING, NOTHING, of));
        let scope = self.named_target(node, source);
        for (field, child) in tree.children(node).collect::<Vec<_>>() {
            if field != "table_expression" && field != "target_path" {
                self.look(child, scope, Owner::Statement(of));
            }
        }
        let on = keeps_out(tree, tree.child(node, "merge_condition"));
        let clauses = tree.child(node, "when_clauses");
        let clauses: Vec<_> = clauses
            .into_iter()
            .flat_map(|list| tree.children(list))
            .map(|(_, clause)| clause)
            .filter(|clause| tree.kind(*clause) == "ASTMergeWhenClause")
            .collect();
        for clause in clauses {
            let action = tree.child(clause, "action").map_or(0, |action| tree.number(action, "action_type"));
            let kind = MERGE_ACTIONS.get(action as usize).copied().unwrap_or_default();
            let is_own = keeps_out(tree, tree.child(clause, "search_condition"));
            let by_source = tree.number(clause, "match_type") == NOT_MATCHED_BY_SOURCE;
            let has_where = is_own || (!by_source && on);
            self.statements[of].branches.push(Branch { kind, has_where });
        }
        let branches = &self.statements[of].branches;
        self.statements[of].has_where =
            !branches.is_empty() && branches.iter().all(|branch| branch.has_where);
    }

    fn export(&mut self, node: NodeId, of: usize) {
        let tree = self.tree;
        if let Some(model) = tree.child(node, "model_name_path") {
            let model = self.routine_name(model);
            self.statements[of].models.insert(model);
        }
        let places = self.options(node, &["uri", "uris"]);
        if places.is_empty() {
            let why = "where it exports to is not written out".to_owned();
            self.statements[of].destinations.insert("unknown:".to_owned());
            self.unsure.push(why);
        }
        self.statements[of].destinations.extend(places);
        self.children(node, NOTHING, Owner::Statement(of));
    }

    /// LOAD DATA and external tables: where the data comes from.
    fn external(&mut self, node: NodeId, of: usize, whose: &str) {
        let mut places = self.options(node, &["uri", "uris"]);
        if let Some(files) = self.tree.child(node, "from_files") {
            places.extend(self.options(files, &["uri", "uris"]));
        }
        if places.is_empty() {
            self.unsure.push(format!("{whose} source is not written out"));
            places.push("unknown:".to_owned());
        }
        self.statements[of].sources.extend(places);
    }

    /// The texts in a node's options of these names.
    fn options(&self, node: NodeId, names: &[&str]) -> Vec<String> {
        let tree = self.tree;
        let Some(list) = tree.child(node, "options_list") else { return Vec::new() };
        let entries = tree.children(list).map(|(_, entry)| entry).filter(|entry| {
            let name = tree.child(*entry, "name").map(|name| tree.text(name, "id_string").to_lowercase());
            name.is_some_and(|name| names.contains(&name.as_str()))
        });
        let mut found = Vec::new();
        for value in entries.filter_map(|entry| tree.child(entry, "value")) {
            match self.text(value) {
                Some(one) => found.push(one),
                None => found.extend(tree.children(value).filter_map(|(_, child)| self.text(child))),
            }
        }
        found
    }

    /// A text that is written out, in one piece or in several.
    fn text(&self, node: NodeId) -> Option<String> {
        let is_own = self.functions.contains("concat");
        text(self.tree, node, if is_own { Joins::Operator } else { Joins::Concat })
    }

    // ---- names ----------------------------------------------------------------------------------

    fn path(&self, node: NodeId) -> Vec<String> {
        let names = self.tree.all(node, "names");
        names.map(|name| self.tree.text(name, "id_string").to_owned()).collect()
    }

    fn routine_name(&self, node: NodeId) -> String {
        let path = self.path(node);
        routine(&path.iter().map(String::as_str).collect::<Vec<_>>(), &self.defaults)
    }

    fn variable(&self, node: NodeId) -> String {
        let path = self.tree.child(node, "path").map(|path| self.path(path)).unwrap_or_default();
        format!("@@{}", path.join(".").to_lowercase())
    }

    fn table_names(&mut self, path: &[String], of: usize) -> Vec<String> {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let names = tables(&path, &self.defaults, &self.temporary);
        let owned: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        if let (Some(why), false) = (self.defaults.lost, is_complete(&owned)) {
            self.not_known(of, Knowledge::Tables, why);
        }
        for name in &names {
            if is_wildcard(name) {
                let why = format!("which tables {name} stands for is not known");
                self.not_known(of, Knowledge::Wildcards, &why);
            }
        }
        names
    }

    fn not_known(&mut self, of: usize, what: Knowledge, why: &str) {
        let unknown = &mut self.statements[of].unknown;
        if !unknown.iter().any(|(known, _)| *known == what) {
            unknown.push((what, why.to_owned()));
        }
    }

    fn read(&mut self, path: NodeId, of: usize) {
        let path = self.path(path);
        self.read_path(&path, of);
    }

    fn read_path(&mut self, path: &[String], of: usize) {
        let names = self.table_names(path, of);
        self.statements[of].read.extend(names);
    }

    /// The table that a statement writes, in that field.
    fn target(&mut self, node: NodeId, field: &str, of: usize) {
        let Some(path) = self.tree.child(node, field) else { return };
        if self.tree.kind(path) != "ASTPathExpression" {
            // A path into a nested array, of a statement within an UPDATE.
            return;
        }
        let path = self.path(path);
        let names = self.table_names(&path, of);
        let is_new = self.statements[of].is_temporary && path.len() == 1;
        if let (Some(why), false) = (self.defaults.lost, is_new || is_complete(&path)) {
            self.not_known(of, Knowledge::Target, why);
        }
        let written = &mut self.statements[of].written;
        match is_new {
            true => written.extend([format!("_SESSION.{}", path[0])]),
            false => written.extend(names),
        }
    }

    fn target_is_read(&mut self, node: NodeId, of: usize) {
        self.target(node, "target_path", of);
        let written: Vec<String> = self.statements[of].written.iter().cloned().collect();
        self.statements[of].read.extend(written);
    }

    /// The scope in which a DML statement's target goes by its alias, or by its last name.
    fn named_target(&mut self, node: NodeId, scope: ScopeId) -> ScopeId {
        let path = self.tree.child(node, "target_path");
        self.named(node, path, scope)
    }

    fn named(&mut self, node: NodeId, path: Option<NodeId>, scope: ScopeId) -> ScopeId {
        let tree = self.tree;
        let alias = tree
            .child(node, "alias")
            .and_then(|alias| tree.child(alias, "identifier"))
            .map(|name| tree.text(name, "id_string").to_owned());
        let implied = || {
            let path = self.path(path?);
            // What stands in quotes is split where it is used.
            path.last().and_then(|last| last.rsplit('.').next()).map(str::to_owned)
        };
        match alias.or_else(implied) {
            Some(alias) => self.scopes.with_range(scope, &alias),
            None => scope,
        }
    }

    /// A name in a FROM clause.
    fn named_in_from(&mut self, path: NodeId, scope: ScopeId, of: usize) {
        let path = self.path(path);
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        match self.scopes.explains(scope, &parts) {
            true => self.explained.push((of, path)),
            false => self.read_path(&path, of),
        }
    }

    /// Names that the scopes explained and the parser does not.
    fn add_unexplained(&mut self, names: &[Vec<String>]) {
        let names: BTreeSet<Vec<String>> = names.iter().map(|name| lower(name)).collect();
        for (of, path) in std::mem::take(&mut self.explained) {
            if names.contains(&lower(&path)) {
                self.read_path(&path, of);
            }
        }
    }

    /// The parser's own list of a script's tables is the net: one that no statement is known to touch makes the text
    /// uncertain. What the names mean may change as it runs, so their last parts are compared.
    fn find_unseen(&mut self, names: &[Vec<String>]) {
        let last = |name: &str| {
            let name = name.rsplit('.').next().unwrap_or_default();
            let end = name.find(['$', '@']).filter(|at| *at > 0).unwrap_or(name.len());
            name[..end].to_lowercase()
        };
        let touched = self.statements.iter().flat_map(|one| one.read.iter().chain(&one.written));
        let known: BTreeSet<String> = touched.map(|table| last(table)).collect();
        let is_known = |one: &Statement| one.unknown.iter().all(|(what, _)| *what != Knowledge::Tables);
        let unseen = names.iter().filter_map(|name| name.last()).find(|name| !known.contains(&last(name)));
        if let Some(name) = unseen.filter(|_| self.statements.iter().all(is_known)) {
            let why = format!("where it reads {name} is not known");
            self.push(Statement::unknown_kind(why, 0..0));
        }
    }
}

/// Whether no default bears on a name: it has its project, or is its session's own.
fn is_complete(path: &[String]) -> bool {
    let whole = path.join(".");
    whole.matches('.').count() > 1 || whole.to_ascii_uppercase().starts_with("_SESSION.")
}

/// Columns that the actions of an ALTER TABLE name; none if one of them is about the whole table.
fn altered(tree: &Tree, actions: NodeId) -> Option<Vec<String>> {
    let mut columns = Vec::new();
    for action in tree.all(actions, "actions") {
        let defined = tree.child(action, "column_definition").and_then(|column| tree.child(column, "name"));
        match tree.child(action, "column_name").or(defined) {
            Some(name) => columns.push(tree.text(name, "id_string").to_owned()),
            None if tree.kind(action) == "ASTSetOptionsAction" => {}
            None => return None,
        }
    }
    Some(columns)
}
