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
        "ASTOrExpr" => {
            let disjuncts: Vec<NodeId> = tree.all(node, "disjuncts").collect();
            disjuncts.iter().any(|one| is_always_true(tree, *one, depth + 1))
                || one_or_the_other(tree, &disjuncts)
        }
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

/// `x IS NULL OR x IS NOT NULL`, `x = 1 OR x != 1`: two of them leave nothing out.
fn one_or_the_other(tree: &Tree, disjuncts: &[NodeId]) -> bool {
    const COMPARED_MAX: usize = 32;
    let some = &disjuncts[..disjuncts.len().min(COMPARED_MAX)];
    let parts = |node: NodeId| {
        let sides = tree.child(node, "lhs").zip(tree.child(node, "rhs"));
        let is_comparison = tree.kind(node) == "ASTBinaryExpression";
        sides.filter(|_| is_comparison).map(|sides| (sides, tree.number(node, "op"), tree.is(node, "is_not")))
    };
    let opposite = |one: u64, other: u64| {
        let pair = |a: u64, b: u64| (one == a && other == b) || (one == b && other == a);
        pair(op::EQ, op::NE) || pair(op::EQ, op::NE2) || pair(op::GT, op::LE) || pair(op::LT, op::GE)
    };
    some.iter().enumerate().any(|(at, one)| {
        some[at + 1..].iter().any(|other| match (parts(*one), parts(*other)) {
            (Some(((left, right), op, is_not)), Some(((left2, right2), op2, is_not2))) => {
                let is_turned = (op == op2 && is_not != is_not2) || (opposite(op, op2) && is_not == is_not2);
                is_turned && same(tree, left, left2) && same(tree, right, right2)
            }
            _ => false,
        })
    })
}

/// Whether two paths are one column: `x` and `t.x`. Where both are in sight, `x` alone can mean no other `x`.
fn is_one_column(tree: &Tree, one: NodeId, other: NodeId) -> bool {
    match (path(tree, one).as_deref(), path(tree, other).as_deref()) {
        (Some([column]), Some([_, named])) | (Some([_, named]), Some([column])) => column == named,
        _ => false,
    }
}

/// Whether two expressions are written alike.
fn same(tree: &Tree, one: NodeId, other: NodeId) -> bool {
    let mut rest = vec![(one, other)];
    while let Some((one, other)) = rest.pop() {
        if is_one_column(tree, one, other) {
            continue;
        }
        if !tree.is_alike(one, other) {
            return false;
        }
        let children: Vec<_> = tree.children(one).map(|(_, child)| child).collect();
        let others: Vec<_> = tree.children(other).map(|(_, child)| child).collect();
        rest.extend(children.into_iter().zip(others));
    }
    true
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
        "ASTFunctionCall" => call(tree, node, depth),
        "ASTBetweenExpression" => {
            let bounds = [side("low"), side("high")];
            let is_itself = side("lhs").is_some_and(|lhs| {
                bounds.iter().all(|bound| bound.is_some_and(|bound| same(tree, lhs, bound)))
            });
            if is_itself { Value::Bool(!tree.is(node, "is_not")) } else { Value::Unknown }
        }
        "ASTInExpression" => {
            let listed = side("in_list").into_iter().flat_map(|list| tree.all(list, "list"));
            let is_listed = side("lhs").is_some_and(|lhs| listed.into_iter().any(|one| same(tree, lhs, one)));
            if is_listed { Value::Bool(!tree.is(node, "is_not")) } else { Value::Unknown }
        }
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

/// COALESCE, IFNULL and IF of what is known.
fn call(tree: &Tree, node: NodeId, depth: usize) -> Value {
    let name = tree.child(node, "function").and_then(|function| path(tree, function)).unwrap_or_default();
    let arguments: Vec<NodeId> = tree.all(node, "arguments").collect();
    let of =
        |at: usize| arguments.get(at).map_or(Value::Unknown, |argument| value(tree, *argument, depth + 1));
    match name.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["coalesce" | "ifnull"] => match of(0) {
            Value::Null => of(1),
            first => first,
        },
        ["if"] => match of(0) {
            Value::Bool(true) => of(1),
            Value::Bool(false) | Value::Null => of(2),
            Value::Number(_) | Value::Text(_) | Value::Unknown => Value::Unknown,
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
    let is_named = names_something(tree, left);
    if is_named && same(tree, left, right) {
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

/// What joins pieces of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joins {
    /// `||` alone: CONCAT may be a function of the text's own.
    Operator,
    /// CONCAT too.
    Concat,
}

/// A text that is written out, in one piece or in several.
pub(crate) fn text(tree: &Tree, node: NodeId, joins: Joins) -> Option<String> {
    let mut rest = vec![node];
    let mut whole = String::new();
    while let Some(node) = rest.pop() {
        match tree.kind(node) {
            "ASTStringLiteral" => whole.push_str(tree.text(node, "string_value")),
            "ASTBinaryExpression" if tree.number(node, "op") == op::CONCAT => {
                rest.push(tree.child(node, "rhs")?);
                rest.push(tree.child(node, "lhs")?);
            }
            "ASTFunctionCall" if joins == Joins::Concat => {
                let function = tree.child(node, "function").and_then(|function| path(tree, function))?;
                if function != ["concat"] {
                    return None;
                }
                let arguments: Vec<_> = tree.all(node, "arguments").collect();
                rest.extend(arguments.into_iter().rev());
            }
            _ => return None,
        }
    }
    Some(whole)
}
