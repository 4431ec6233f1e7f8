//! Types of GoogleSQL, as far as columns have them.

use crate::tree::{NodeId, Tree};

/// A type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// One without parts, by its `TypeKind` (ZetaSQL's type.proto).
    Plain(u32),
    Array(Box<Type>),
    /// Fields by name; a name may be empty.
    Struct(Vec<(String, Type)>),
    Range(Box<Type>),
}

/// `TypeKind` of what has parts.
pub const ARRAY: u32 = 16;
pub const STRUCT: u32 = 17;
pub const RANGE: u32 = 29;

/// BigQuery's names for types without parts, in schemas too, and their `TypeKind`.
const PLAIN: &[(&str, u32)] = &[
    ("INT64", 2),
    ("INTEGER", 2),
    ("BOOL", 5),
    ("BOOLEAN", 5),
    ("FLOAT64", 7),
    ("FLOAT", 7),
    ("STRING", 8),
    ("BYTES", 9),
    ("DATE", 10),
    ("TIMESTAMP", 19),
    ("TIME", 20),
    ("DATETIME", 21),
    ("GEOGRAPHY", 22),
    ("NUMERIC", 23),
    ("BIGNUMERIC", 24),
    ("JSON", 26),
    ("INTERVAL", 27),
];
/// Structs in structs.
const DEPTH_MAX: usize = 64;

impl Type {
    /// The type without parts that BigQuery calls so.
    pub fn plain(name: &str) -> Option<Self> {
        let found = PLAIN.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, kind)| Self::Plain(*kind))
    }

    /// Adds the paths of a column of this type: itself, and every field in it.
    pub(crate) fn add_paths(&self, path: String, into: &mut Vec<String>) {
        match self {
            Self::Array(element) => return element.add_paths(path, into),
            Self::Struct(fields) => {
                for (name, kind) in fields.iter().filter(|(name, _)| !name.is_empty()) {
                    kind.add_paths(format!("{path}.{name}"), into);
                }
            }
            Self::Plain(_) | Self::Range(_) => {}
        }
        into.push(path);
    }

    /// A type in an answer; none for one that no column has.
    pub(crate) fn read(tree: &Tree, node: NodeId) -> Option<Self> {
        Self::read_within(tree, node, 0)
    }

    fn read_within(tree: &Tree, node: NodeId, depth: usize) -> Option<Self> {
        if depth > DEPTH_MAX {
            return None;
        }
        let within = |node| Self::read_within(tree, node, depth + 1);
        let element = |field| tree.child(node, field).and_then(|holder| tree.child(holder, "element_type"));
        match tree.number(node, "type_kind") as u32 {
            ARRAY => Some(Self::Array(Box::new(within(element("array_type")?)?))),
            RANGE => Some(Self::Range(Box::new(within(element("range_type")?)?))),
            STRUCT => {
                let fields = tree.child(node, "struct_type");
                let fields = fields.into_iter().flat_map(|fields| tree.all(fields, "field"));
                let field = |field| {
                    let name = tree.text(field, "field_name").to_owned();
                    Some((name, within(tree.child(field, "field_type")?)?))
                };
                fields.map(field).collect::<Option<_>>().map(Self::Struct)
            }
            plain => PLAIN.iter().any(|(_, kind)| *kind == plain).then_some(Self::Plain(plain)),
        }
    }
}
