//! Named connections: an upstream, the projects that mean it, and the credential behind it.

use http::Uri;
use std::fmt;

use record::Principal;

use crate::{Credential, CredentialError, Impersonation, NoAccount, UpstreamToken};

/// A connection's name: 1 to 63 lower-case letters, digits and hyphens, starting with a letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionName(String);

impl ConnectionName {
    /// Parses it once; everybody else trusts it.
    pub fn parse(text: &str) -> Result<Self, NotAConnectionName> {
        let fits = (1..=63).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if fits { Ok(Self(text.to_owned())) } else { Err(NotAConnectionName(text.to_owned())) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConnectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is no connection name.
#[derive(Debug)]
pub struct NotAConnectionName(String);

impl fmt::Display for NotAConnectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is no connection name: 1 to 63 of a-z, 0-9 and '-', starting with a letter", self.0)
    }
}

impl std::error::Error for NotAConnectionName {}

/// One registered upstream with its secret.
pub struct Connection {
    pub name: ConnectionName,
    /// Billing projects that mean this connection.
    pub projects: Vec<String>,
    pub upstream: Uri,
    /// Where its Storage API is.
    pub upstream_storage: Uri,
    /// Where the APIs beside it are; `{api}` stands for the name of one.
    pub upstream_apis: String,
    /// Those that are let through, by name.
    pub apis: Vec<String>,
    /// Whether jobs carry `hansard_session` and `hansard_record`.
    pub label_jobs: bool,
    /// Whether principals may reach each other's jobs and results.
    pub shared_history: bool,
    pub credential: Credential,
    /// Google's Resource Manager API, or what stands in for it.
    pub resource_manager: String,
    /// Whom the credential acts as; absent: itself.
    pub impersonation: Option<Impersonation>,
}

impl Connection {
    /// The service account that a principal acts as here, if not the credential's own.
    pub fn account(&self, principal: &Principal) -> Result<Option<String>, NoAccount> {
        self.impersonation.as_ref().map(|impersonation| impersonation.account(principal)).transpose()
    }

    /// Which of these permissions the credential has on a project, by Resource Manager's own word.
    pub async fn granted(&self, project: &str, permissions: &[&str]) -> Result<Vec<String>, CredentialError> {
        self.credential.granted(&self.resource_manager, project, permissions).await
    }

    /// A token for a scope, of the credential itself or of an account that it acts as.
    pub async fn token(
        &self,
        account: Option<&str>,
        scope: &'static str,
    ) -> Result<UpstreamToken, CredentialError> {
        match (account, &self.impersonation) {
            (Some(account), Some(impersonation)) => {
                self.credential.token_as(account, &impersonation.endpoint, scope).await
            }
            (None, _) => self.credential.token(scope).await,
            // The configuration changed under it: nobody acts as anybody by accident.
            (Some(_), None) => Err(CredentialError::NoImpersonation),
        }
    }
}

/// All connections, in the order of the configuration.
pub struct Registry {
    pub connections: Vec<Connection>,
}

impl Registry {
    /// The connection of that name.
    pub fn named(&self, name: &str) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.name.as_str() == name)
    }
}
