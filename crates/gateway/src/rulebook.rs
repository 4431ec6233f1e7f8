//! What one version of the configuration says: who is known, through which connection they go, what they may.

use approvals::Webhook;
use identity::{Identified, Identity};
use ledger::Recording;
use policy::{Expression, Facts, Policy};
use record::{Principal, PrincipalKind};
use registry::{Connection, Registry};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::limits::STANDINGS_MAX;
use crate::ownership::Asker;
use crate::refusal::{Reason, Refusal};

/// What one version of the configuration says. An exchange keeps to the version that admitted it.
pub struct Rulebook {
    pub identity: Arc<Identity>,
    pub registry: Arc<Registry>,
    pub recording: Recording,
    /// `allow` of each connection, in the registry's order.
    pub connections: Vec<ConnectionRules>,
    /// What may run, and on what terms.
    pub rules: Policy,
    /// Who counts as an agent, besides those who say so.
    pub agents: Option<Expression>,
    /// Who may read everything.
    pub auditor: Option<Expression>,
    /// Who may change things by the API, and read everything there.
    pub admin: Option<Expression>,
    /// Cancels jobs that BigQuery runs as another kind of statement than was decided on.
    pub stops_mismatches: bool,
    /// Where people are told of what waits, and answer.
    pub webhooks: Arc<Vec<Webhook>>,
    /// Hash of the configuration.
    pub policy: String,
    /// What its expressions said so far.
    pub standings: Standings,
}

impl Rulebook {
    pub(crate) fn asker(&self, who: &Identified, connection: Option<&Connection>) -> Asker {
        let is_auditor = self.standing(who).is_auditor;
        let is_shared = connection.is_some_and(|connection| connection.shared_history);
        Asker {
            principal: format!("{}/{}", who.principal.idp, who.principal.id),
            actor: who.actor(),
            connection: connection.map(|connection| connection.name.to_string()).unwrap_or_default(),
            account: None,
            task: who.principal.task.clone(),
            reads_all: is_shared || is_auditor,
            changes_all: is_shared,
        }
    }

    /// Who counts as an agent.
    pub fn count_agents(&self, who: &mut Identified) {
        if self.standing(who).is_agent {
            who.principal.kind = PrincipalKind::Agent;
        }
    }

    /// The connection of that name, or else the only one that they may use.
    pub fn connection_for(&self, who: &Identified, name: Option<&str>) -> Result<&Connection, Refusal> {
        let connections = &self.registry.connections;
        let Some(name) = name.or(who.connection.as_deref()) else {
            return self.resolve(who, None, false).map(|at| &connections[at]);
        };
        if who.connection.as_ref().is_some_and(|bound| bound != name) {
            return Err(Refusal::not_allowed(name));
        }
        let found = connections.iter().position(|connection| connection.name.as_str() == name);
        let standing = self.standing(who);
        match found {
            Some(at) if standing.allowed[at] => Ok(&connections[at]),
            Some(_) => Err(Refusal::not_allowed(name)),
            None => {
                let names: Vec<_> = standing.connections().map(|at| connections[at].name.as_str()).collect();
                Err(Refusal::new(
                    Reason::UnknownConnection,
                    format!("Not found: there is no connection '{name}'. You may use: {}.", names.join(", ")),
                ))
            }
        }
    }

    /// The credential's connection, else the one allowed connection that the project means.
    pub(crate) fn resolve(
        &self,
        who: &Identified,
        project: Option<&str>,
        any: bool,
    ) -> Result<usize, Refusal> {
        let connections = &self.registry.connections;
        let standing = self.standing(who);
        if let Some(name) = &who.connection {
            let found = connections.iter().position(|connection| connection.name.as_str() == name);
            let at = found.ok_or_else(|| {
                Refusal::new(Reason::UnknownConnection, format!("Not found: hansard connection '{name}' of this credential. It was removed from the configuration; issue a new key."))
            })?;
            if project.is_some_and(|project| !connections[at].projects.iter().any(|known| known == project)) {
                return Err(unknown_project(project.unwrap_or_default(), &[&connections[at]]));
            }
            return if standing.allowed[at] { Ok(at) } else { Err(Refusal::not_allowed(name)) };
        }
        let fits = |at: &usize| {
            project.is_none_or(|project| connections[*at].projects.iter().any(|known| known == project))
        };
        let fitting: Vec<usize> = standing.connections().filter(fits).collect();
        match (fitting.as_slice(), project) {
            ([only], _) => Ok(*only),
            ([first, ..], None) if any => Ok(*first),
            ([_, ..], Some(project)) => {
                let names: Vec<_> = fitting.iter().map(|at| connections[*at].name.as_str()).collect();
                Err(Refusal::new(
                    Reason::UnknownConnection,
                    format!(
                        "Not found: project '{project}' is served by several connections ({}); use a key of one of them.",
                        names.join(", ")
                    ),
                ))
            }
            _ => {
                let candidates: Vec<_> = standing.connections().map(|at| &connections[at]).collect();
                Err(unknown_project(project.unwrap_or_default(), &candidates))
            }
        }
    }

    /// What the expressions say of them.
    pub fn standing(&self, who: &Identified) -> Arc<Standing> {
        self.standings.of(&who.principal, self)
    }
}

fn unknown_project(project: &str, candidates: &[&Connection]) -> Refusal {
    let known: Vec<_> = candidates
        .iter()
        .map(|connection| format!("{} ({})", connection.name, connection.projects.join(", ")))
        .collect();
    let asked = if project.is_empty() {
        "the request names no billing project".to_owned()
    } else {
        format!("no connection of yours serves project '{project}'")
    };
    let hint = match known.is_empty() {
        true => "No connection allows you; ask for access.".to_owned(),
        false => format!("Yours: {}.", known.join("; ")),
    };
    Refusal::new(Reason::UnknownConnection, format!("Not found: {asked}. {hint}"))
}

/// A connection's rules beside its registration.
pub struct ConnectionRules {
    pub allow: Expression,
    /// What agents may do beyond the defaults.
    pub allow_egress: Vec<String>,
}

/// What the expressions say of one principal.
pub struct Standing {
    pub is_agent: bool,
    pub is_auditor: bool,
    pub is_admin: bool,
    /// By connection, in the registry's order.
    allowed: Vec<bool>,
}

/// Standings by principal. The expressions ask about nothing else, so each is evaluated once.
#[derive(Default)]
pub struct Standings(Mutex<HashMap<Principal, Arc<Standing>>>);

impl Standings {
    /// Where a principal stands; `rulebook` is the one that these belong to.
    pub(crate) fn of(&self, principal: &Principal, rulebook: &Rulebook) -> Arc<Standing> {
        let known = self.known().get(principal).cloned();
        known.unwrap_or_else(|| {
            let standing = Arc::new(Standing::of(principal, rulebook));
            let mut known = self.known();
            if known.len() >= STANDINGS_MAX {
                known.clear();
            }
            known.insert(principal.clone(), standing.clone());
            standing
        })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Principal, Arc<Standing>>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Standing {
    /// The connections that they may use.
    fn connections(&self) -> impl Iterator<Item = usize> {
        (0..self.allowed.len()).filter(|at| self.allowed[*at])
    }

    fn of(principal: &Principal, rulebook: &Rulebook) -> Self {
        let is_one = |role: &Option<Expression>, unsure: bool| {
            role.as_ref().is_some_and(|role| role.holds(&Facts::about(principal)).unwrap_or(unsure))
        };
        let connections = rulebook.registry.connections.iter().zip(&rulebook.connections);
        let allowed = connections.map(|(connection, rules)| {
            let facts = Facts::about(principal).on(connection.name.as_str(), &connection.projects);
            rules.allow.holds(&facts).unwrap_or_else(|error| {
                let connection = connection.name.as_str();
                tracing::warn!(connection, %error, "allow can't be evaluated, which denies");
                false
            })
        });
        Self {
            // An expression that can't be evaluated makes an agent: the kind only makes stricter.
            is_agent: principal.kind == PrincipalKind::Agent || is_one(&rulebook.agents, true),
            is_auditor: is_one(&rulebook.auditor, false),
            is_admin: is_one(&rulebook.admin, false),
            allowed: allowed.collect(),
        }
    }
}
