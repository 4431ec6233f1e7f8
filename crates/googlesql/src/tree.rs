//! What Google's module answers, read from the wire: a parse tree, or a resolved one.
//!
//! The answer is a protobuf whose messages nest one in another as the grammar does, deeper than ordinary decoders
//! follow. It is walked here without recursion, by a table of its shapes, into one flat list of nodes. A wrapper
//! that stands for one of its fields, and the chain of `parent` messages that carries what base classes say, are
//! folded into the node they belong to.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

/// So many nodes make a tree; a statement of BigQuery's longest text has fewer.
const NODES_MAX: usize = 2_000_000;

/// Where a node stands in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(u32);

/// One node.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// Its message's name, such as `ASTSelect` or `ResolvedTableScan`.
    pub(crate) kind: &'static str,
    /// Bytes of the text.
    pub(crate) start: u32,
    pub(crate) end: u32,
    fields: Vec<(&'static str, Item)>,
}

#[derive(Debug)]
enum Item {
    Node(NodeId),
    Text(Box<str>),
    Number(u64),
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

/// The answer is not what the table says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TreeError(pub(crate) &'static str);

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

struct Message {
    name: &'static str,
    /// It only stands for one of its fields.
    is_wrapper: bool,
    fields: Vec<Field>,
}

struct Field {
    number: u64,
    name: &'static str,
    kind: FieldKind,
}

#[derive(Clone, Copy)]
enum FieldKind {
    Text,
    Number,
    Message(usize),
    /// Nobody asks about it.
    Skipped,
}

struct Shapes {
    messages: Vec<Message>,
    answer: usize,
}

/// The shapes of the parse tree, and of the resolved one; `shapes.py` prints them.
static PARSED: LazyLock<Shapes> = LazyLock::new(|| Shapes::read(include_str!("ast.txt"), "ParseResponse"));
static RESOLVED: LazyLock<Shapes> =
    LazyLock::new(|| Shapes::read(include_str!("resolved.txt"), "AnalyzeResponse"));

impl Shapes {
    fn read(text: &'static str, answer: &str) -> Self {
        let names: HashMap<&str, usize> =
            text.lines().enumerate().filter_map(|(at, line)| Some((line.split(' ').next()?, at))).collect();
        let messages: Vec<Message> = text.lines().map(|line| message(line, &names)).collect();
        let answer = names[answer];
        Self { messages, answer }
    }
}

fn message(line: &'static str, names: &HashMap<&str, usize>) -> Message {
    let mut words = line.split(' ');
    let name = words.next().expect("every line has a name");
    let fields = words.map(|word| {
        let (name, rest) = word.split_once('=').expect("a field has a number");
        let (number, kind) = rest.split_once(':').expect("a field has a kind");
        let kind = match kind {
            "s" => FieldKind::Text,
            "b" | "i" => FieldKind::Number,
            "x" => FieldKind::Skipped,
            message => FieldKind::Message(names[message]),
        };
        Field { number: number.parse().expect("a number"), name, kind }
    });
    Message {
        name: name.trim_start_matches('?'),
        is_wrapper: name.starts_with('?'),
        fields: fields.collect(),
    }
}

/// A message that is yet to be read into a node.
struct Rest<'a> {
    message: usize,
    bytes: &'a [u8],
    into: NodeId,
    /// The node takes this message's name.
    names: bool,
}

impl Tree {
    /// Reads a `ParseResponse`.
    pub(crate) fn parsed(bytes: &[u8]) -> Result<Self, TreeError> {
        Self::read(&PARSED, bytes)
    }

    /// Reads an `AnalyzeResponse`.
    pub(crate) fn resolved(bytes: &[u8]) -> Result<Self, TreeError> {
        Self::read(&RESOLVED, bytes)
    }

    fn read(shapes: &'static Shapes, bytes: &[u8]) -> Result<Self, TreeError> {
        let mut tree = Self { nodes: vec![Node::default()] };
        let root = NodeId(0);
        let mut rest = vec![Rest { message: shapes.answer, bytes, into: root, names: true }];
        while let Some(one) = rest.pop() {
            tree.message(shapes, one, &mut rest)?;
        }
        Ok(tree)
    }

    fn message<'a>(
        &mut self,
        shapes: &'static Shapes,
        one: Rest<'a>,
        rest: &mut Vec<Rest<'a>>,
    ) -> Result<(), TreeError> {
        let shape = &shapes.messages[one.message];
        if one.names {
            self.nodes[one.into.0 as usize].kind = shape.name;
        }
        let mut wire = Wire(one.bytes);
        while let Some((number, value)) = wire.next_field()? {
            let field = shape.fields.iter().find(|field| field.number == number);
            let field = field.ok_or(TreeError("a field that the table does not know"))?;
            match (field.kind, value) {
                (FieldKind::Number, Value::Number(value)) => {
                    self.add(one.into, field.name, Item::Number(value))
                }
                (FieldKind::Skipped, _) => {}
                // Several numbers in one field.
                (FieldKind::Number, Value::Bytes(value)) => {
                    let mut packed = Wire(value);
                    while !packed.0.is_empty() {
                        self.add(one.into, field.name, Item::Number(packed.varint()?));
                    }
                }
                (FieldKind::Text, Value::Bytes(value)) => {
                    let text = String::from_utf8_lossy(value).into_owned().into_boxed_str();
                    self.add(one.into, field.name, Item::Text(text));
                }
                (FieldKind::Message(message), Value::Bytes(bytes)) => {
                    if shapes.messages[message].name == "ParseLocationRange" {
                        self.place(one.into, bytes)?;
                    } else if shape.is_wrapper {
                        rest.push(Rest { message, bytes, into: one.into, names: true });
                    } else if field.name == "parent" {
                        rest.push(Rest { message, bytes, into: one.into, names: false });
                    } else {
                        let child = self.new_node()?;
                        self.add(one.into, field.name, Item::Node(child));
                        rest.push(Rest { message, bytes, into: child, names: true });
                    }
                }
                _ => return Err(TreeError("a field of another kind than the table says")),
            }
        }
        Ok(())
    }

    fn place(&mut self, node: NodeId, bytes: &[u8]) -> Result<(), TreeError> {
        let mut wire = Wire(bytes);
        while let Some((number, value)) = wire.next_field()? {
            let node = &mut self.nodes[node.0 as usize];
            match (number, value) {
                (2, Value::Number(at)) => node.start = at as u32,
                (3, Value::Number(at)) => node.end = at as u32,
                _ => {}
            }
        }
        Ok(())
    }

    fn new_node(&mut self) -> Result<NodeId, TreeError> {
        if self.nodes.len() >= NODES_MAX {
            return Err(TreeError("too many nodes"));
        }
        self.nodes.push(Node::default());
        Ok(NodeId((self.nodes.len() - 1) as u32))
    }

    fn add(&mut self, node: NodeId, name: &'static str, item: Item) {
        self.nodes[node.0 as usize].fields.push((name, item));
    }

    /// The answer itself.
    pub(crate) fn root(&self) -> NodeId {
        NodeId(0)
    }

    /// Every node of that kind.
    pub(crate) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = NodeId> + 'a {
        let is_one = move |(_, node): &(usize, &Node)| node.kind == kind;
        self.nodes.iter().enumerate().filter(is_one).map(|(at, _)| NodeId(at as u32))
    }

    /// Its message's name.
    pub(crate) fn kind(&self, node: NodeId) -> &'static str {
        self.nodes[node.0 as usize].kind
    }

    /// The bytes of the text that it spans.
    pub(crate) fn span(&self, node: NodeId) -> std::ops::Range<usize> {
        let node = &self.nodes[node.0 as usize];
        node.start as usize..node.end as usize
    }

    /// Its children, in order, each with the field it stands in.
    pub(crate) fn children(&self, node: NodeId) -> impl Iterator<Item = (&'static str, NodeId)> + '_ {
        self.nodes[node.0 as usize].fields.iter().filter_map(|(name, item)| match item {
            Item::Node(child) => Some((*name, *child)),
            Item::Text(_) | Item::Number(_) => None,
        })
    }

    /// The first child in that field.
    pub(crate) fn child(&self, node: NodeId, field: &str) -> Option<NodeId> {
        self.all(node, field).next()
    }

    /// Every child in that field.
    pub(crate) fn all<'a>(&'a self, node: NodeId, field: &'a str) -> impl Iterator<Item = NodeId> + 'a {
        self.children(node).filter(move |(name, _)| *name == field).map(|(_, child)| child)
    }

    /// The text in that field; empty if there is none.
    pub(crate) fn text<'a>(&'a self, node: NodeId, field: &'a str) -> &'a str {
        self.texts(node, field).next().unwrap_or_default()
    }

    /// Every text in that field.
    pub(crate) fn texts<'a>(&'a self, node: NodeId, field: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.nodes[node.0 as usize].fields.iter().filter_map(move |(name, item)| match item {
            Item::Text(text) if *name == field => Some(&**text),
            _ => None,
        })
    }

    /// The number in that field; zero if there is none.
    pub(crate) fn number(&self, node: NodeId, field: &str) -> u64 {
        self.numbers(node, field).next().unwrap_or_default()
    }

    /// Every number in that field.
    pub(crate) fn numbers<'a>(&'a self, node: NodeId, field: &'a str) -> impl Iterator<Item = u64> + 'a {
        self.nodes[node.0 as usize].fields.iter().filter_map(move |(name, item)| match item {
            Item::Number(number) if *name == field => Some(*number),
            _ => None,
        })
    }

    /// Whether two nodes are of one kind and say the same, but for their children. Names are told apart by more than
    /// case.
    pub(crate) fn is_alike<'a>(&'a self, one: NodeId, other: NodeId) -> bool {
        let (one, other) = (&self.nodes[one.0 as usize], &self.nodes[other.0 as usize]);
        let alike = |(left, right): (&(&str, Item), &(&str, Item))| match (left, right) {
            ((name, Item::Text(left)), (name2, Item::Text(right))) => {
                name == name2 && (left == right || *name == "id_string" && left.eq_ignore_ascii_case(right))
            }
            ((name, Item::Number(left)), (name2, Item::Number(right))) => name == name2 && left == right,
            ((name, Item::Node(_)), (name2, Item::Node(_))) => name == name2,
            _ => false,
        };
        // Quotes do not make another name.
        let fields = |node: &'a Node| node.fields.iter().filter(|(name, _)| *name != "is_quoted");
        let is_as_long = fields(one).count() == fields(other).count();
        one.kind == other.kind && is_as_long && fields(one).zip(fields(other)).all(alike)
    }

    /// Whether that field says yes.
    pub(crate) fn is(&self, node: NodeId, field: &str) -> bool {
        self.number(node, field) != 0
    }
}

/// Protobuf's wire format (https://protobuf.dev/programming-guides/encoding).
struct Wire<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    fn next_field(&mut self) -> Result<Option<(u64, Value<'a>)>, TreeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            2 => {
                let len = self.varint()?;
                let len = usize::try_from(len).map_err(|_| TreeError("a length beyond its message"))?;
                Value::Bytes(self.take(len)?)
            }
            1 => Value::Bytes(self.take(8)?),
            5 => Value::Bytes(self.take(4)?),
            _ => return Err(TreeError("a wire type that is not used")),
        };
        Ok(Some((key >> 3, value)))
    }

    fn varint(&mut self) -> Result<u64, TreeError> {
        let mut value = 0;
        for at in 0..10 {
            let (byte, rest) = self.0.split_first().ok_or(TreeError("a number that is cut off"))?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(TreeError("a number that is too long"))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], TreeError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(TreeError("a length beyond its message"))?;
        self.0 = rest;
        Ok(taken)
    }
}
