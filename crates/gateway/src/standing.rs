//! What a principal is and may, by the expressions of one version of the configuration.

use policy::{Expression, Facts};
use record::{Principal, PrincipalKind};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::exchange::Rulebook;
use crate::limits::STANDINGS_MAX;

/// A connection's rules beside its registration.
pub struct ConnectionRules {
    pub allow: Expression,
}

/// What the expressions say of one principal.
pub(crate) struct Standing {
    pub(crate) is_agent: bool,
    pub(crate) is_auditor: bool,
    /// By connection, in the registry's order.
    pub(crate) allowed: Vec<bool>,
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
    fn of(principal: &Principal, rulebook: &Rulebook) -> Self {
        let is_one = |role: &Option<Expression>, unsure: bool| {
            role.as_ref().is_some_and(|role| role.holds(&Facts::about(principal)).unwrap_or(unsure))
        };
        let connections = rulebook.registry.connections.iter().zip(&rulebook.rules);
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
            allowed: allowed.collect(),
        }
    }
}
