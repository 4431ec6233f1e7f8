//! One CEL expression that answers yes or no.

use cel::{Context, Env, Program, Value};
use std::fmt;
use std::sync::{Arc, LazyLock};

use crate::Facts;
use crate::facts::VOCABULARY;

/// The longest expression text, in bytes: CEL's parser recurses.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// CEL's own functions, made once.
static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A compiled expression.
pub struct Expression {
    program: Program,
    text: String,
}

impl Expression {
    /// Compiles it. Syntax errors and unknown names are errors here, not at the first request.
    pub fn compile(text: &str) -> Result<Self, ExpressionError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ExpressionError(format!("longer than {TEXT_BYTES_MAX} bytes")));
        }
        let program =
            Program::compile(text).map_err(|error| ExpressionError(one_line(&error.to_string())))?;
        for name in program.references().variables() {
            if !VOCABULARY.iter().any(|(known, _)| known == &name) {
                let known: Vec<_> = VOCABULARY.iter().map(|(known, _)| *known).collect();
                return Err(ExpressionError(format!("unknown name '{name}'; known: {}", known.join(", "))));
            }
        }
        let expression = Self { program, text: text.to_owned() };
        expression.try_on_empty_facts()?;
        Ok(expression)
    }

    /// The text it was compiled from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The answer, or why there is none. Take an error as a no.
    pub fn holds(&self, facts: &Facts) -> Result<bool, ExpressionError> {
        let mut context = Context::with_env(STANDARD.clone());
        context
            .add_variable("principal", &facts.principal)
            .and_then(|()| context.add_variable("connection", &facts.connection))
            .map_err(|error| ExpressionError(error.to_string()))?;
        match self.program.execute(&context) {
            Ok(Value::Bool(answer)) => Ok(answer),
            Ok(other) => Err(ExpressionError(format!("answers {}, not true or false", kind(&other)))),
            Err(error) => Err(ExpressionError(one_line(&error.to_string()))),
        }
    }

    /// Finds a misspelt field or a wrong type before a request does.
    fn try_on_empty_facts(&self) -> Result<(), ExpressionError> {
        let nobody = record::Principal {
            id: String::new(),
            email: String::new(),
            name: String::new(),
            groups: Vec::new(),
            kind: record::PrincipalKind::Person,
            agent: String::new(),
            on_behalf_of: String::new(),
            idp: String::new(),
            task: String::new(),
        };
        self.holds(&Facts::about(&nobody)).map(|_| ())
    }
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
pub struct ExpressionError(String);

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
