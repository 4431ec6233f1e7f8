//! Conditions that keep nothing out, and texts that are only cut into pieces.

use std::cmp::Ordering;

use crate::tree::{NodeId, Tree};

/// Deeper expressions are not folded: a condition counts as none, a text as unknown.
const DEPTH_MAX: usize = 200;

/// `ASTBinaryExpressionEnums.Op`
mod op {
    pub(super) const LIKE: u64 = 1;
    pub(super) const IS: u64 = 2;
    pub(super) const EQ: u64 = 3;
    pub(super) const NE: u64 = 4;
    pub(super) const NE2: u64 = 5;
    pub(super) const GT: u64 = 6;
    pub(super) const LT: u64 = 7;
    pub(super) const GE: u64 = 8;
    pub(super) const LE: u64 = 9;
    pub(super) const CONCAT: u64 = 17;
}
/// `ASTUnaryExpressionEnums.Op`
const NOT: u64 = 1;

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Bool(bool),
    Number(f64),
    Text(String),
    Null,
    Unknown,
}

/// Whether a condition keeps rows out, or may: it is not true whatever the row.
pub(crate) fn keeps_out(tree: &Tree, condition: Option<NodeId>) -> bool {
    condition.is_some_and(|condition| !is_always_true(tree, condition, 0))
}

fn is_always_true(tree: &Tree, node: NodeId, depth: usize) -> bool {
    if depth > DEPTH_MAX {
        return true;
    }
    match tree.kind(node) {
        "ASTOrExpr" => tree.all(node, "disjuncts").any(|one| is_always_true(tree, one, depth + 1)),
        "ASTAndExpr" => tree.all(node, "conjuncts").all(|one| is_always_true(tree, one, depth + 1)),
        _ => match value(tree, node, depth) {
            Value::Bool(truth) => truth,
            // NULL keeps everything out; a number or a text is no condition.
            Value::Null | Value::Number(_) | Value::Text(_) => false,
            // It says nothing of the row: all of them or none.
            Value::Unknown => !names_something(tree, node),
        },
    }
}

/// Whether a path stands anywhere in it that is not a function's name.
fn names_something(tree: &Tree, node: NodeId) -> bool {
    let mut rest = vec![node];
    while let Some(node) = rest.pop() {
        if tree.kind(node) == "ASTPathExpression" {
            return true;
        }
        rest.extend(tree.children(node).filter(|(field, _)| *field != "function").map(|(_, child)| child));
    }
    false
}

fn value(tree: &Tree, node: NodeId, depth: usize) -> Value {
    if depth > DEPTH_MAX {
        return Value::Unknown;
    }
    let side = |field: &str| tree.child(node, field);
    match tree.kind(node) {
        "ASTBooleanLiteral" => Value::Bool(tree.is(node, "value")),
        "ASTNullLiteral" => Value::Null,
        "ASTIntLiteral" | "ASTFloatLiteral" => number(tree.text(node, "image")),
        "ASTStringLiteral" => Value::Text(tree.text(node, "string_value").to_owned()),
        "ASTUnaryExpression" if tree.number(node, "op") == NOT => {
            match side("operand").map(|operand| value(tree, operand, depth + 1)) {
                Some(Value::Bool(truth)) => Value::Bool(!truth),
                _ => Value::Unknown,
            }
        }
        "ASTOrExpr" if is_always_true(tree, node, depth) => Value::Bool(true),
        "ASTBinaryExpression" => match (side("lhs"), side("rhs")) {
            (Some(left), Some(right)) => {
                let truth = compare(tree, (left, right), tree.number(node, "op"), depth);
                match (truth, tree.is(node, "is_not")) {
                    (Some(truth), is_not) => Value::Bool(truth != is_not),
                    (None, _) => Value::Unknown,
                }
            }
            _ => Value::Unknown,
        },
        _ => Value::Unknown,
    }
}

fn number(image: &str) -> Value {
    let parsed = match image.strip_prefix("0x").or(image.strip_prefix("0X")) {
        Some(hex) => i64::from_str_radix(hex, 16).map(|number| number as f64).ok(),
        None => image.parse().ok(),
    };
    parsed.map_or(Value::Unknown, Value::Number)
}

fn compare(tree: &Tree, (left, right): (NodeId, NodeId), op: u64, depth: usize) -> Option<bool> {
    if let (Some(left), Some(right)) = (path(tree, left), path(tree, right))
        && left == right
    {
        // Also where it is NULL: whoever writes so means every row.
        return match op {
            op::EQ | op::GE | op::LE | op::LIKE | op::IS => Some(true),
            op::NE | op::NE2 | op::GT | op::LT => Some(false),
            _ => None,
        };
    }
    let (left, right) = (value(tree, left, depth + 1), value(tree, right, depth + 1));
    let order = match (&left, &right) {
        (Value::Number(left), Value::Number(right)) => left.partial_cmp(right)?,
        (Value::Text(left), Value::Text(right)) if op != op::LIKE => left.cmp(right),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Null, Value::Null) if op == op::IS => Ordering::Equal,
        (_, Value::Text(pattern)) if op == op::LIKE => {
            let takes_all = !pattern.is_empty() && pattern.chars().all(|one| one == '%');
            return takes_all.then_some(true);
        }
        _ => return None,
    };
    match op {
        op::EQ | op::IS => Some(order == Ordering::Equal),
        op::NE | op::NE2 => Some(order != Ordering::Equal),
        op::GT => Some(order == Ordering::Greater),
        op::LT => Some(order == Ordering::Less),
        op::GE => Some(order != Ordering::Less),
        op::LE => Some(order != Ordering::Greater),
        _ => None,
    }
}

/// A column's path in lower case.
fn path(tree: &Tree, node: NodeId) -> Option<Vec<String>> {
    let is_path = tree.kind(node) == "ASTPathExpression";
    is_path.then(|| tree.all(node, "names").map(|name| tree.text(name, "id_string").to_lowercase()).collect())
}

/// A text that is written out, in one piece or in several.
pub(crate) fn text(tree: &Tree, node: NodeId) -> Option<String> {
    let mut rest = vec![node];
    let mut whole = String::new();
    while let Some(node) = rest.pop() {
        match tree.kind(node) {
            "ASTStringLiteral" => whole.push_str(tree.text(node, "string_value")),
            "ASTBinaryExpression" if tree.number(node, "op") == op::CONCAT => {
                rest.push(tree.child(node, "rhs")?);
                rest.push(tree.child(node, "lhs")?);
            }
            _ => return None,
        }
    }
    Some(whole)
}
