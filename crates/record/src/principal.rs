//! Who asks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Actor, ActorKind, Asserted};

/// The human, agent or service that asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Principal {
    /// The provider's `sub`, or a virtual key's `client_email`: unique within `idp`.
    pub id: String,
    /// Empty where the provider says none, or says that it is not verified.
    pub email: String,
    pub name: String,
    pub groups: Vec<String>,
    pub kind: PrincipalKind,
    /// The agent's name, asserted; empty where none was given.
    pub agent: String,
    /// For an agent: the person it works for; else empty.
    pub on_behalf_of: String,
    /// The provider's name in the configuration, or `key` for a virtual key.
    pub idp: String,
    /// The task's id, asserted; empty where none was given.
    pub task: String,
}

impl Principal {
    /// One of whom only the kind is known.
    pub fn of(kind: PrincipalKind) -> Self {
        Self {
            id: String::new(),
            email: String::new(),
            name: String::new(),
            groups: Vec::new(),
            kind,
            agent: String::new(),
            on_behalf_of: String::new(),
            idp: String::new(),
            task: String::new(),
        }
    }
}

impl From<&Actor> for Principal {
    /// Whom a record speaks of, without the task. A user of the gateway's own machine is a person of the provider
    /// `local`; nobody in particular is a service.
    fn from(actor: &Actor) -> Self {
        let text = |said: &Option<Asserted<String>>| {
            said.as_ref().map(|said| said.value.clone()).unwrap_or_default()
        };
        let kind = match actor.kind {
            ActorKind::Person | ActorKind::Local => PrincipalKind::Person,
            ActorKind::Agent => PrincipalKind::Agent,
            ActorKind::Service | ActorKind::Gateway | ActorKind::Unknown => PrincipalKind::Service,
        };
        let local = (actor.kind == ActorKind::Local).then(|| "local".to_owned());
        Self {
            id: text(&actor.id),
            email: text(&actor.email),
            name: text(&actor.name),
            groups: actor.groups.as_ref().map(|groups| groups.value.clone()).unwrap_or_default(),
            agent: actor.agent.as_ref().map(|agent| agent.name.clone()).unwrap_or_default(),
            on_behalf_of: actor.act_chain.first().cloned().unwrap_or_default(),
            idp: local.or(actor.idp.clone()).unwrap_or_default(),
            ..Self::of(kind)
        }
    }
}

/// What kind of principal asks. The kind only ever makes rules stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PrincipalKind {
    Person,
    Service,
    Agent,
}

impl PrincipalKind {
    /// The word of the configuration and the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Service => "service",
            Self::Agent => "agent",
        }
    }
}
