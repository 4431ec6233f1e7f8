//! What an expression may ask about. Every field always exists, with a typed empty value.

use record::Principal;
use serde::Serialize;

/// The vocabulary, filled for one question.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    pub principal: AskedPrincipal,
    pub connection: AskedConnection,
}

/// `principal`
#[derive(Clone, Debug, Serialize)]
pub struct AskedPrincipal {
    id: String,
    email: String,
    name: String,
    groups: Vec<String>,
    kind: &'static str,
    is_agent: bool,
    agent: String,
    on_behalf_of: String,
    idp: String,
    task: String,
}

/// `connection`
#[derive(Clone, Debug, Default, Serialize)]
pub struct AskedConnection {
    pub name: String,
    pub projects: Vec<String>,
}

/// The variables of the vocabulary and their fields; `Expression` refuses every other name.
pub(crate) const VOCABULARY: &[(&str, &[&str])] = &[
    (
        "principal",
        &["id", "email", "name", "groups", "kind", "is_agent", "agent", "on_behalf_of", "idp", "task"],
    ),
    ("connection", &["name", "projects"]),
];

impl Facts {
    /// About a principal, before any connection is chosen.
    pub fn about(principal: &Principal) -> Self {
        Self {
            principal: AskedPrincipal {
                id: principal.id.clone(),
                email: principal.email.clone(),
                name: principal.name.clone(),
                groups: principal.groups.clone(),
                kind: principal.kind.as_str(),
                is_agent: principal.kind == record::PrincipalKind::Agent,
                agent: principal.agent.clone(),
                on_behalf_of: principal.on_behalf_of.clone(),
                idp: principal.idp.clone(),
                task: principal.task.clone(),
            },
            connection: AskedConnection::default(),
        }
    }

    /// The same, on one connection.
    pub fn on(mut self, name: &str, projects: &[String]) -> Self {
        self.connection = AskedConnection { name: name.to_owned(), projects: projects.to_vec() };
        self
    }
}
