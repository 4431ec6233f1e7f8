//! Below a statement: queries, their FROM clauses, functions; and what names mean there.

use super::{Owner, Rest, Walk};
use crate::built_in::{Origin, origin};
use crate::description::Knowledge;
use crate::kinds::kind_of;
use crate::scope::ScopeId;
use crate::tree::{NodeId, Tree};

impl Walk<'_> {
    pub(super) fn children(&mut self, node: NodeId, scope: ScopeId, of: Owner) {
        let children: Vec<_> = self.tree.children(node).map(|(_, child)| child).collect();
        for child in children {
            self.look(child, scope, of);
        }
    }

    /// Everything below a node. Without recursion: expressions nest as deep as their author likes.
    pub(super) fn look(&mut self, node: NodeId, scope: ScopeId, of: Owner) {
        self.finish(vec![Rest { node, scope, of }]);
    }

    fn look_at(&mut self, one: Rest, rest: &mut Vec<Rest>) {
        let tree = self.tree;
        let Rest { node, mut scope, mut of } = one;
        let kind = tree.kind(node);
        if of == Owner::Control {
            // `x IN (SELECT ...)` holds a query as it is.
            let is_query = kind == "ASTQuery";
            if is_query || kind == "ASTExpressionSubquery" || self.is_foreign_call(node) {
                let at = self.begin("SELECT", node);
                self.contexts[at].is_expression = !is_query;
                of = Owner::Statement(at);
            } else if kind != "ASTSystemVariableExpr" {
                push_children(tree, node, Rest { scope, of, node }, rest, &[]);
                return;
            }
        }
        let Owner::Statement(at) = of else { return };
        match kind {
            "ASTQuery" => {
                scope = self.with_clause(node, scope, at, rest);
                push_children(tree, node, Rest { scope, of, node }, rest, &["with_clause"]);
            }
            "ASTSelect" | "ASTFromQuery" => {
                if let Some(from) = tree.child(node, "from_clause") {
                    scope = self.look_at_from(from, scope, at, rest);
                }
                push_children(tree, node, Rest { scope, of, node }, rest, &["from_clause"]);
            }
            "ASTFromClause" => {
                self.look_at_from(node, scope, at, rest);
            }
            "ASTPipeJoin" => {
                if let Some(join) = tree.child(node, "join") {
                    self.table_expression_later(join, scope, scope, at, rest);
                }
            }
            "ASTTablePathExpression" | "ASTTableSubquery" | "ASTTVF" | "ASTJoin" | "ASTParenthesizedJoin" => {
                self.table_expression_later(node, scope, scope, at, rest);
            }
            "ASTTableClause" => {
                if let Some(path) = tree.child(node, "table_path") {
                    self.named_in_from(path, scope, at);
                }
                push_children(tree, node, one, rest, &["table_path"]);
            }
            "ASTCloneDataSource" | "ASTCopyDataSource" | "ASTTableDataSource" => {
                if let Some(path) = tree.child(node, "path_expr") {
                    self.read(path, at);
                }
                push_children(tree, node, Rest { node, scope, of }, rest, &["path_expr"]);
            }
            "ASTOptionsEntry" => {
                self.option(node, at);
                push_children(tree, node, Rest { node, scope, of }, rest, &[]);
            }
            "ASTRenameToClause" => self.target(node, "new_name", at),
            "ASTForeignKeyReference" => {
                if let Some(path) = tree.child(node, "table_name") {
                    self.read(path, at);
                }
            }
            "ASTFunctionCall" => {
                if let Some(function) = tree.child(node, "function") {
                    self.function(function, at);
                }
                push_children(tree, node, Rest { node, scope, of }, rest, &["function"]);
                self.external_query(node, "arguments", at);
            }
            "ASTModelClause" => {
                if let Some(model) = tree.child(node, "model_path") {
                    let model = self.routine_name(model);
                    self.statements[at].models.insert(model);
                }
            }
            "ASTConnectionClause" => self.connection(node, at),
            "ASTSystemVariableExpr" => {
                let name = self.variable(node);
                self.statements[at].system_variables.insert(name);
            }
            "ASTGraphTableQuery"
            | "ASTGqlGraphPatternQuery"
            | "ASTGqlLinearOpsQuery"
            | "ASTGqlQuery"
            | "ASTGraphPattern" => {
                self.not_known(at, Knowledge::Tables, "the tables behind a property graph are not read");
                push_children(tree, node, Rest { node, scope, of }, rest, &[]);
            }
            "ASTPipeInsert" | "ASTPipeExportData" | "ASTPipeCreateTable" => self.pipe_write(node, at, scope),
            _ => push_children(tree, node, Rest { node, scope, of }, rest, &[]),
        }
    }

    /// Queries of a WITH clause, each seeing those before it; all of them if it is recursive.
    fn with_clause(&mut self, query: NodeId, scope: ScopeId, of: usize, rest: &mut Vec<Rest>) -> ScopeId {
        let tree = self.tree;
        let Some(with) = tree.child(query, "with_clause") else { return scope };
        let entries: Vec<(String, NodeId)> = tree
            .all(with, "with")
            .map(|entry| {
                let alias = tree.child(entry, "alias").map(|alias| tree.text(alias, "id_string"));
                (alias.unwrap_or_default().to_owned(), entry)
            })
            .collect();
        let is_recursive = tree.is(with, "recursive");
        let mut seen = scope;
        for (alias, _) in entries.iter().filter(|_| is_recursive) {
            seen = self.scopes.with_query(seen, alias);
        }
        for (alias, entry) in &entries {
            let walled = self.scopes.with_wall(seen);
            let below = Rest { node: *entry, scope: walled, of: Owner::Statement(of) };
            push_children(tree, *entry, below, rest, &["alias"]);
            if !is_recursive {
                seen = self.scopes.with_query(seen, alias);
            }
        }
        seen
    }

    pub(super) fn from(&mut self, from: NodeId, scope: ScopeId, of: usize) -> ScopeId {
        let mut rest = Vec::new();
        let seen = self.look_at_from(from, scope, of, &mut rest);
        self.finish(rest);
        seen
    }

    pub(super) fn table_expression(
        &mut self,
        node: NodeId,
        outer: ScopeId,
        seen: ScopeId,
        of: usize,
    ) -> ScopeId {
        let mut rest = Vec::new();
        let seen = self.table_expression_later(node, outer, seen, of, &mut rest);
        self.finish(rest);
        seen
    }

    fn finish(&mut self, mut rest: Vec<Rest>) {
        while let Some(one) = rest.pop() {
            self.look_at(one, &mut rest);
        }
    }

    /// A FROM clause; the scope after it holds its aliases.
    fn look_at_from(&mut self, from: NodeId, scope: ScopeId, of: usize, rest: &mut Vec<Rest>) -> ScopeId {
        match self.tree.child(from, "table_expression") {
            Some(expression) => self.table_expression_later(expression, scope, scope, of, rest),
            None => scope,
        }
    }

    /// The tables of a join from left to right, each seeing the aliases before it. A subquery sees them only if it
    /// is lateral.
    fn table_expression_later(
        &mut self,
        node: NodeId,
        outer: ScopeId,
        mut seen: ScopeId,
        of: usize,
        rest: &mut Vec<Rest>,
    ) -> ScopeId {
        enum Next {
            Table(NodeId),
            /// What is said of a join once both its sides are named.
            Said(NodeId),
        }
        let tree = self.tree;
        let mut next = vec![Next::Table(node)];
        while let Some(one) = next.pop() {
            let node = match one {
                Next::Said(node) => {
                    let below = Rest { node, scope: seen, of: Owner::Statement(of) };
                    push_children(tree, node, below, rest, &["lhs", "rhs"]);
                    continue;
                }
                Next::Table(node) => node,
            };
            match tree.kind(node) {
                "ASTJoin" => {
                    next.push(Next::Said(node));
                    next.extend(tree.child(node, "rhs").map(Next::Table));
                    next.extend(tree.child(node, "lhs").map(Next::Table));
                }
                "ASTParenthesizedJoin" => next.extend(tree.child(node, "join").map(Next::Table)),
                "ASTTablePathExpression" => {
                    let path = tree.child(node, "path_expr");
                    if let Some(path) = path {
                        self.named_in_from(path, seen, of);
                    }
                    let below = Rest { node, scope: seen, of: Owner::Statement(of) };
                    push_children(tree, node, below, rest, &["path_expr", "alias"]);
                    seen = self.named_after(node, path, seen);
                }
                _ => {
                    if let Some(name) = tree.child(node, "name").filter(|_| tree.kind(node) == "ASTTVF") {
                        self.table_function(node, name, of);
                    }
                    let sees = if tree.is(node, "is_lateral") { seen } else { outer };
                    let below = Rest { node, scope: sees, of: Owner::Statement(of) };
                    if tree.kind(node) == "ASTGraphTableQuery" {
                        let why = "the tables behind a property graph are not read";
                        self.not_known(of, Knowledge::Tables, why);
                    }
                    push_children(tree, node, below, rest, &["alias", "name"]);
                    seen = self.named_after(node, None, seen);
                }
            }
        }
        seen
    }

    /// The scope after a table: a PIVOT or the like ends its name, and gives one of its own or none.
    fn named_after(&mut self, node: NodeId, path: Option<NodeId>, seen: ScopeId) -> ScopeId {
        let tree = self.tree;
        let reshapes =
            |kind: &str| matches!(kind, "ASTPivotClause" | "ASTUnpivotClause" | "ASTMatchRecognizeClause");
        let last = tree.all(node, "postfix_operators").filter(|one| reshapes(tree.kind(*one))).last();
        let Some(last) = last else { return self.named(node, path, seen) };
        let alias = tree.child(last, "output_alias").and_then(|alias| tree.child(alias, "identifier"));
        let alias = alias.map(|name| tree.text(name, "id_string").to_owned());
        alias.map_or(seen, |alias| self.scopes.with_range(seen, &alias))
    }

    /// A query that ends in INSERT, EXPORT DATA or CREATE TABLE is that.
    fn pipe_write(&mut self, node: NodeId, of: usize, scope: ScopeId) {
        let tree = self.tree;
        let inner = tree.children(node).find(|(field, _)| field.ends_with("_statement"));
        let Some((_, inner)) = inner else { return };
        let kind = match tree.kind(node) {
            "ASTPipeCreateTable" => "CREATE_TABLE_AS_SELECT".to_owned(),
            _ => kind_of(tree, inner),
        };
        // A query may fork and write twice.
        let of = match self.statements[of].kind.as_str() {
            "SELECT" => of,
            _ => self.begin(&kind, node),
        };
        self.statements[of].kind = kind;
        self.statements[of].overwrites |= tree.is(inner, "is_or_replace");
        match tree.kind(inner) {
            "ASTInsertStatement" => self.insert(inner, of, scope),
            "ASTExportDataStatement" => self.export(inner, of),
            _ => {
                self.target(inner, "name", of);
                self.children(inner, scope, Owner::Statement(of));
            }
        }
    }

    fn function(&mut self, name: NodeId, of: usize) {
        let path = self.path(name);
        let origin = self.origin(&path);
        let full = self.routine_name(name);
        let built_in = path.join(".").to_ascii_uppercase();
        let is_own = self.is_own(&path);
        self.statements[of].functions.insert(if origin == Origin::Dataset { full.clone() } else { built_in });
        if is_own || origin != Origin::BuiltIn {
            self.contexts[of].called.push((path, (!is_own).then(|| full.clone())));
        }
        if origin != Origin::BuiltIn {
            self.statements[of].routines.insert(full);
        }
    }

    /// Whether it is a temporary function of the text.
    fn is_own(&self, path: &[String]) -> bool {
        matches!(path, [only] if self.functions.contains(&only.to_lowercase()))
    }

    /// Whose a function is: a name alone may be, by the default dataset, a routine there.
    fn origin(&self, path: &[String]) -> Origin {
        let may_be_routine = path.len() > 1 || !self.defaults.dataset.is_empty();
        if self.is_own(path) || !may_be_routine { Origin::BuiltIn } else { origin(path) }
    }

    /// A call that leaves BigQuery's own functions: it counts even where no query stands.
    fn is_foreign_call(&self, node: NodeId) -> bool {
        let tree = self.tree;
        let function = (tree.kind(node) == "ASTFunctionCall").then(|| tree.child(node, "function")).flatten();
        function.is_some_and(|function| {
            let path = self.path(function);
            path.len() > 1 || self.origin(&path) != Origin::BuiltIn
        })
    }

    fn table_function(&mut self, node: NodeId, name: NodeId, of: usize) {
        self.function(name, of);
        self.external_query(node, "argument_entries", of);
    }

    /// `EXTERNAL_QUERY('connection', 'sql')`: the connection, and that its tables are not BigQuery's.
    fn external_query(&mut self, node: NodeId, field: &str, of: usize) {
        let tree = self.tree;
        let name = tree.child(node, "name").or_else(|| tree.child(node, "function"));
        let is_external = name.is_some_and(
            |name| matches!(&self.path(name)[..], [one] if one.eq_ignore_ascii_case("EXTERNAL_QUERY")),
        );
        if !is_external {
            return;
        }
        let first = tree.child(node, field).map(|first| tree.child(first, "expr").unwrap_or(first));
        let connection = first.and_then(|first| self.text(first)).unwrap_or_else(|| "unknown:".to_owned());
        self.statements[of].connections.insert(connection);
    }

    /// An address in an option, whatever the option is called: a model's path, a function's library, a table's files.
    fn option(&mut self, node: NodeId, of: usize) {
        const ADDRESSES: &[&str] = &["gs://", "s3://", "azure://", "https://drive.google.com"];
        let tree = self.tree;
        let Some(value) = tree.child(node, "value") else { return };
        let own = self.text(value).into_iter();
        let listed = tree.children(value).filter_map(|(_, child)| self.text(child));
        let is_address =
            |text: &String| ADDRESSES.iter().any(|begin| text.to_ascii_lowercase().starts_with(begin));
        let found: Vec<String> = own.chain(listed).filter(is_address).collect();
        // Where an export goes is no source.
        if self.statements[of].destinations.is_empty() {
            self.statements[of].sources.extend(found);
        }
    }

    fn connection(&mut self, node: NodeId, of: usize) {
        let tree = self.tree;
        let name = tree.child(node, "connection_path").map(|path| match tree.kind(path) {
            "ASTPathExpression" => self.path(path).join("."),
            _ => "DEFAULT".to_owned(),
        });
        self.statements[of].connections.extend(name);
    }
}

pub(super) fn lower(path: &[String]) -> Vec<String> {
    path.iter().map(|part| part.to_lowercase()).collect()
}

fn push_children(tree: &Tree, node: NodeId, one: Rest, rest: &mut Vec<Rest>, but: &[&str]) {
    let children = tree.children(node).filter(|(field, _)| !but.contains(field));
    rest.extend(children.map(|(_, child)| Rest { node: child, ..one }));
}
