//! Kinds of statements, by the names that the grammar has for them.

use crate::tree::{NodeId, Tree};

/// Statements that hold statements.
pub(crate) fn is_block(kind: &str) -> bool {
    matches!(
        kind,
        "ASTBeginEndBlock"
            | "ASTIfStatement"
            | "ASTCaseStatement"
            | "ASTLoopStatement"
            | "ASTWhileStatement"
            | "ASTRepeatStatement"
            | "ASTForInStatement"
    )
}

/// Parts of those that hold statements in turn.
pub(crate) fn holds_statements(kind: &str) -> bool {
    matches!(
        kind,
        "ASTElseifClauseList"
            | "ASTElseifClause"
            | "ASTWhenThenClauseList"
            | "ASTWhenThenClause"
            | "ASTExceptionHandlerList"
            | "ASTExceptionHandler"
            | "ASTUntilClause"
    )
}

/// Statements that only a script has.
pub(crate) fn is_control(kind: &str) -> bool {
    is_block(kind)
        || matches!(
            kind,
            "ASTVariableDeclaration"
                | "ASTSingleAssignment"
                | "ASTAssignmentFromStruct"
                | "ASTSystemVariableAssignment"
                | "ASTParameterAssignment"
                | "ASTExecuteImmediateStatement"
                | "ASTRaiseStatement"
                | "ASTReturnStatement"
                | "ASTBreakStatement"
                | "ASTContinueStatement"
        )
}

/// Kinds whose name is a table's.
pub(crate) fn is_table_kind(kind: &str) -> bool {
    let object = kind.split_once('_').map(|(_, object)| object).unwrap_or_default();
    matches!(
        object,
        "TABLE"
            | "TABLE_AS_SELECT"
            | "VIEW"
            | "MATERIALIZED_VIEW"
            | "EXTERNAL_TABLE"
            | "SNAPSHOT_TABLE"
            | "APPROX_VIEW"
    )
}

/// The kind of a statement, as BigQuery's `statementType` names it: the grammar's name, with its exceptions.
pub(crate) fn kind_of(tree: &Tree, node: NodeId) -> String {
    let named = |verb: &str, field: &str| {
        let entity = tree.child(node, field).map(|name| tree.text(name, "id_string").to_ascii_uppercase());
        format!("{verb}_{}", entity.unwrap_or_default())
    };
    let fixed = match tree.kind(node) {
        "ASTQueryStatement" => "SELECT",
        "ASTTruncateStatement" => "TRUNCATE_TABLE",
        "ASTAuxLoadDataStatement" => "LOAD_DATA",
        "ASTBeginStatement" => "BEGIN_TRANSACTION",
        "ASTCommitStatement" => "COMMIT_TRANSACTION",
        "ASTRollbackStatement" => "ROLLBACK_TRANSACTION",
        "ASTVariableDeclaration" => "DECLARE",
        "ASTSingleAssignment"
        | "ASTAssignmentFromStruct"
        | "ASTSystemVariableAssignment"
        | "ASTParameterAssignment" => "SET",
        "ASTCreateTableStatement" if tree.child(node, "query").is_some() => "CREATE_TABLE_AS_SELECT",
        "ASTCreateSnapshotStatement" => "CREATE_SNAPSHOT_TABLE",
        "ASTCreateIndexStatement" if tree.is(node, "is_search") => "CREATE_SEARCH_INDEX",
        "ASTCreateIndexStatement" if tree.is(node, "is_vector") => "CREATE_VECTOR_INDEX",
        "ASTDropAllRowAccessPoliciesStatement" => "DROP_ROW_ACCESS_POLICY",
        "ASTAlterAllRowAccessPoliciesStatement" => "ALTER_ROW_ACCESS_POLICY",
        "ASTDropStatement" => {
            return format!("DROP_{}", object_kind(tree.number(node, "schema_object_kind")));
        }
        "ASTUndropStatement" => {
            return format!("UNDROP_{}", object_kind(tree.number(node, "schema_object_kind")));
        }
        "ASTCreateEntityStatement" => return named("CREATE", "type"),
        "ASTAlterEntityStatement" => return named("ALTER", "type"),
        "ASTDropEntityStatement" => return named("DROP", "entity_type"),
        other => return snake(other.trim_start_matches("AST").trim_end_matches("Statement")),
    };
    fixed.to_owned()
}

/// `SchemaObjectKind` of ZetaSQL's ast_enums.proto.
fn object_kind(number: u64) -> &'static str {
    match number {
        2 | 6 => "FUNCTION",
        3 => "CONSTANT",
        4 => "DATABASE",
        5 => "EXTERNAL_TABLE",
        7 => "INDEX",
        8 => "MATERIALIZED_VIEW",
        9 => "MODEL",
        10 => "PROCEDURE",
        11 => "SCHEMA",
        12 => "TABLE",
        13 => "TABLE_FUNCTION",
        14 => "VIEW",
        15 => "SNAPSHOT_TABLE",
        16 => "PROPERTY_GRAPH",
        17 => "APPROX_VIEW",
        18 => "EXTERNAL_SCHEMA",
        19 => "CONNECTION",
        20 => "SEQUENCE",
        _ => "UNKNOWN",
    }
}

/// `CreateView` is CREATE_VIEW.
fn snake(camel: &str) -> String {
    let mut out = String::with_capacity(camel.len() + 4);
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_uppercase());
    }
    out
}
