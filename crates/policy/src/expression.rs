//! One CEL expression that answers yes or no.

use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators};
use cel::{Context, Env, ExecutionError, IdedExpr, Program, Value};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock};

use crate::facts::{Facts, Place, VOCABULARY};

/// The longest expression text, in bytes: CEL's parser recurses.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// CEL's own functions, made once.
static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A compiled expression.
pub struct Expression {
    program: Program,
    text: String,
    reads: BTreeSet<(&'static str, &'static str)>,
    /// The tables that it asks about by name; none if it asks about them in any other way.
    tables: Option<BTreeSet<String>>,
    /// Texts in it.
    literals: BTreeSet<String>,
}

/// What an expression came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
    /// It asks about a field that is not known.
    Unknown(String),
    /// It can't be evaluated at all.
    Broken(String),
}

impl Expression {
    /// Compiles one over who asks and through what. Syntax errors and unknown names are errors here, not at the
    /// first request.
    pub fn compile(text: &str) -> Result<Self, ExpressionError> {
        let expression = Self::compile_for(text, Place::Access)?;
        expression.holds(&nobody())?;
        Ok(expression)
    }

    /// Compiles one for a place in the configuration.
    pub fn compile_for(text: &str, place: Place) -> Result<Self, ExpressionError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ExpressionError(format!("longer than {TEXT_BYTES_MAX} bytes")));
        }
        let program =
            Program::compile(text).map_err(|error| ExpressionError(one_line(&error.to_string())))?;
        let mut reader = Reader {
            place,
            own: Vec::new(),
            reads: BTreeSet::new(),
            tables: Some(BTreeSet::new()),
            literals: BTreeSet::new(),
        };
        reader.expression(program.expression())?;
        let known = program.references();
        let functions: BTreeSet<String> = known.functions().iter().map(|name| (*name).to_owned()).collect();
        for function in functions {
            if !is_function(&function) {
                return Err(ExpressionError(format!("unknown function '{function}'")));
            }
        }
        let Reader { reads, tables, literals, .. } = reader;
        Ok(Self { program, text: text.to_owned(), reads, tables, literals })
    }

    /// The text it was compiled from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it asks about any field of a variable.
    pub fn reads(&self, variable: &str) -> bool {
        self.reads.iter().any(|(read, _)| *read == variable)
    }

    /// Whether it asks about that field.
    pub fn reads_field(&self, variable: &str, field: &str) -> bool {
        self.reads.iter().any(|read| *read == (variable, field))
    }

    /// The tables that it asks about, each by its name; none if it asks about tables in any other way.
    pub(crate) fn named_tables(&self) -> Option<&BTreeSet<String>> {
        self.tables.as_ref()
    }

    /// Tables and columns that it names in full, where it asks about tables or columns.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let asks = VOCABULARY
            .iter()
            .filter(|known| is_list_of_tables(known.variable, known.name) || known.name == "columns")
            .any(|known| self.reads_field(known.variable, known.name));
        let is_name = |text: &&String| {
            let parts: Vec<&str> = text.split('.').collect();
            parts.len() >= 3 && parts.iter().all(|part| !part.is_empty() && !part.contains(['*', ' ', '/']))
        };
        self.literals.iter().filter(move |_| asks).filter(is_name).map(String::as_str)
    }

    /// The answer, or why there is none. Take an error as a no.
    pub fn holds(&self, facts: &Facts) -> Result<bool, ExpressionError> {
        let mut context = context();
        context
            .add_variable("principal", &facts.principal)
            .and_then(|()| context.add_variable("connection", &facts.connection))
            .map_err(|error| ExpressionError(error.to_string()))?;
        match self.answer(&context) {
            Answer::Yes => Ok(true),
            Answer::No => Ok(false),
            Answer::Unknown(what) => Err(ExpressionError(format!("{what} is not known"))),
            Answer::Broken(why) => Err(ExpressionError(why)),
        }
    }

    /// The answer in a context that holds its variables.
    pub(crate) fn answer(&self, context: &Context) -> Answer {
        match self.program.execute(context) {
            Ok(Value::Bool(true)) => Answer::Yes,
            Ok(Value::Bool(false)) => Answer::No,
            Ok(other) => Answer::Broken(format!("answers {}, not true or false", kind(&other))),
            // Every field that is written in it exists, so one that is not there is not known.
            Err(ExecutionError::NoSuchKey(field)) if self.has_field(&field) => {
                Answer::Unknown(field.to_string())
            }
            Err(error) => Answer::Broken(one_line(&error.to_string())),
        }
    }

    fn has_field(&self, field: &str) -> bool {
        self.reads.iter().any(|(_, read)| *read == field)
    }
}

/// A context with the functions that expressions have.
pub(crate) fn context<'a>() -> Context<'a, 'a> {
    let mut context = Context::with_env(STANDARD.clone());
    for (name, unit) in UNITS {
        let unit = *unit;
        let added = context.add_function(name, move |number: i64| number.saturating_mul(unit));
        added.expect("no function of CEL's has that name");
    }
    context
}

/// Bytes in a unit.
const UNITS: &[(&str, i64)] = &[("kib", 1 << 10), ("mib", 1 << 20), ("gib", 1 << 30), ("tib", 1 << 40)];

/// CEL's standard functions (https://github.com/google/cel-spec, "List of Standard Definitions"); its operators and
/// macros have names that no text can hold.
const FUNCTIONS: &[&str] = &[
    "bool",
    "bytes",
    "contains",
    "double",
    "endsWith",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];

fn is_function(name: &str) -> bool {
    let is_operator = !name.starts_with(|first: char| first.is_ascii_alphabetic());
    is_operator || FUNCTIONS.contains(&name) || UNITS.iter().any(|(unit, _)| *unit == name)
}

fn is_list_of_tables(variable: &str, field: &str) -> bool {
    variable == "statement" && matches!(field, "tables" | "tables_read" | "tables_written")
}

/// Checks the names in an expression, and says which fields it reads.
struct Reader {
    place: Place,
    /// Variables of its own, by which macros go through a list.
    own: Vec<String>,
    reads: BTreeSet<(&'static str, &'static str)>,
    tables: Option<BTreeSet<String>>,
    literals: BTreeSet<String>,
}

impl Reader {
    fn expression(&mut self, expression: &IdedExpr) -> Result<(), ExpressionError> {
        match &expression.expr {
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(variable) if !self.own.contains(variable) => self.field(variable, &select.field),
                _ => self.expression(&select.operand),
            },
            Expr::Ident(name) if self.own.contains(name) => Ok(()),
            Expr::Ident(name) => {
                self.variable(name)?;
                Err(ExpressionError(format!("'{name}' is asked as a whole; ask one of its fields")))
            }
            Expr::Call(call) if self.is_membership(call) => Ok(()),
            Expr::Call(call) => {
                let target = call.target.iter().map(|target| &**target);
                target.chain(&call.args).try_for_each(|part| self.expression(part))
            }
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.expression(element)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| self.entry(&entry.expr)),
            Expr::Struct(made) => made.entries.iter().try_for_each(|entry| self.entry(&entry.expr)),
            Expr::Comprehension(comprehension) => {
                self.expression(&comprehension.iter_range)?;
                self.expression(&comprehension.accu_init)?;
                let before = self.own.len();
                self.own.push(comprehension.iter_var.clone());
                self.own.extend(comprehension.iter_var2.clone());
                self.own.push(comprehension.accu_var.clone());
                self.expression(&comprehension.loop_cond)?;
                self.expression(&comprehension.loop_step)?;
                self.expression(&comprehension.result)?;
                self.own.truncate(before);
                Ok(())
            }
            Expr::Literal(literal) => {
                if let LiteralValue::String(text) = literal {
                    self.literals.insert(text.inner().to_owned());
                }
                Ok(())
            }
            Expr::Unspecified => Ok(()),
        }
    }

    /// `'p.d.t' in statement.tables`: the table is remembered.
    fn is_membership(&mut self, call: &CallExpr) -> bool {
        let [
            IdedExpr { expr: Expr::Literal(LiteralValue::String(table)), .. },
            IdedExpr { expr: Expr::Select(list), .. },
        ] = &call.args[..]
        else {
            return false;
        };
        let Expr::Ident(variable) = &list.operand.expr else { return false };
        let known = VOCABULARY.iter().find(|known| known.variable == variable && known.name == list.field);
        let Some(known) = known.filter(|known| is_list_of_tables(known.variable, known.name)) else {
            return false;
        };
        let fits = call.func_name == operators::IN && self.place.variables().contains(&known.variable);
        if fits && !self.own.contains(variable) {
            self.reads.insert((known.variable, known.name));
            self.literals.insert(table.inner().to_owned());
            if let Some(tables) = &mut self.tables {
                tables.insert(table.inner().to_owned());
            }
            return true;
        }
        false
    }

    fn entry(&mut self, entry: &EntryExpr) -> Result<(), ExpressionError> {
        match entry {
            EntryExpr::StructField(field) => self.expression(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.expression(&entry.key)?;
                self.expression(&entry.value)
            }
        }
    }

    fn variable(&self, name: &str) -> Result<(), ExpressionError> {
        let known = self.place.variables();
        match known.contains(&name) {
            true => Ok(()),
            false => Err(ExpressionError(format!("unknown name '{name}'; known here: {}", known.join(", ")))),
        }
    }

    fn field(&mut self, variable: &str, field: &str) -> Result<(), ExpressionError> {
        self.variable(variable)?;
        let mut fields = VOCABULARY.iter().filter(|known| known.variable == variable);
        match fields.clone().find(|known| known.name == field) {
            Some(known) => {
                if is_list_of_tables(known.variable, known.name) {
                    self.tables = None;
                }
                self.reads.insert((known.variable, known.name));
                Ok(())
            }
            None => {
                let known: Vec<&str> = fields.by_ref().map(|known| known.name).collect();
                Err(ExpressionError(format!(
                    "'{variable}' has no field '{field}'; it has: {}",
                    known.join(", ")
                )))
            }
        }
    }
}

fn nobody() -> Facts {
    Facts::about(&record::Principal::of(record::PrincipalKind::Person))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::List(_) => "a list",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number",
        Value::Null => "null",
        _ => "something else",
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Why an expression has no answer.
#[derive(Debug, PartialEq, Eq)]
pub struct ExpressionError(pub(crate) String);

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ExpressionError {}
#[cfg(test)]
mod tests {
    use super::*;
    use record::{Principal, PrincipalKind};

    #[test]
    fn group_membership_is_read() {
        check("'data' in principal.groups", true);
        check("'finance' in principal.groups", false);
    }

    #[test]
    fn the_connection_is_known() {
        check("connection.name == 'analytics' && principal.is_agent", true);
        check("'acme-prod' in connection.projects", true);
    }

    #[test]
    fn emails_are_matched_at_their_end() {
        check("principal.email.endsWith('@agents.example.com')", true);
        check("principal.email.endsWith('@example.org')", false);
    }

    #[test]
    fn a_constant_is_an_expression() {
        check("true", true);
    }

    #[test]
    fn mistakes_are_found_when_it_is_compiled() {
        refused("'data' in principal.gruops");
        refused("principle.email == ''");
        refused("principal.email");
        refused("'data' in");
        refused(&"(".repeat(20_000));
    }

    fn check(text: &str, expected: bool) {
        let principal = Principal {
            id: "00u1".into(),
            email: "devin@agents.example.com".into(),
            name: "Devin".into(),
            groups: vec!["data".into()],
            kind: PrincipalKind::Agent,
            agent: "devin".into(),
            on_behalf_of: String::new(),
            idp: "okta".into(),
            task: String::new(),
        };
        let facts = Facts::about(&principal).on("analytics", &["acme-prod".into()]);
        assert_eq!(Expression::compile(text).unwrap().holds(&facts), Ok(expected), "{text}");
    }

    fn refused(text: &str) {
        assert!(Expression::compile(text).is_err(), "{text}");
    }
}
