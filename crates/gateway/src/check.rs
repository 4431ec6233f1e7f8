//! Proves that a connection's credential does what it must: by trying it, recorded like everything else.

use crate::exchange::Gateway;
use crate::upstream::{Need, Upstream};

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

impl<U: Upstream> Gateway<U> {
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
