//! Proves that a connection's credential does what it must, and that tables are as they are taken to be: by trying it, recorded
//! like everything else.

use crate::exchange::Gateway;
use crate::upstream::{Need, Object, ObjectKind, Upstream};

/// What trying one thing came to.
#[derive(Clone, Debug)]
pub struct Check {
    pub what: &'static str,
    pub permission: &'static str,
    /// The upstream's status; none if it could not be asked.
    pub status: Option<u16>,
    /// What it said, where it said no.
    pub why: String,
}

/// A table as its upstream has it.
#[derive(Clone, Debug)]
pub struct SeenTable {
    pub name: String,
    /// Its columns, or why they are not known.
    pub columns: Result<Vec<String>, String>,
}

impl<U: Upstream> Gateway<U> {
    /// Asks for tables by a connection; none if there is no such connection.
    pub async fn look_at_tables(&self, name: &str, tables: &[String]) -> Option<Vec<SeenTable>> {
        self.rulebook().registry.named(name)?;
        let mut seen = Vec::new();
        for table in tables {
            let object = Object { kind: ObjectKind::Table, name: table.clone() };
            let columns = match self.upstream.ask_object(&object) {
                Some(question) => {
                    let answer = self.probe((name, None), question, None).await;
                    self.upstream.read_columns(&answer.map(|answer| (answer.status, answer.body)))
                }
                None => Err("that is no table's name".to_owned()),
            };
            seen.push(SeenTable { name: table.clone(), columns });
        }
        Some(seen)
    }

    /// Tries what a connection must be able to do in its first project; none if there is no such connection.
    pub async fn check_connection(&self, name: &str) -> Option<Vec<Check>> {
        let rulebook = self.rulebook();
        let connection = rulebook.registry.named(name)?;
        let project = connection.projects.first()?;
        let mut checks = Vec::new();
        for Need { what, permission, question } in self.upstream.needs(project) {
            let answer = self.probe((name, None), question, None).await;
            let (status, why) = match &answer {
                None => (None, "it could not be asked, or not be recorded".to_owned()),
                Some(answer) if answer.status.is_success() => (Some(answer.status.as_u16()), String::new()),
                Some(answer) => {
                    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                    let why =
                        body["error"]["message"].as_str().unwrap_or_default().chars().take(300).collect();
                    (Some(answer.status.as_u16()), why)
                }
            };
            checks.push(Check { what, permission, status, why });
        }
        Some(checks)
    }
}
