//! The path of one exchange.

use identity::Identity;
use ledger::{Ledger, OpenRecord, Recording};
use policy::Expression;
use record::Clock;
use registry::Registry;
use std::sync::Arc;

use crate::admission::{ConnectionRules, Ruling};
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::release;
use crate::reply::Reply;
use crate::request::Request;
use crate::sessions::Sessions;
use crate::strangers::Strangers;
use crate::upstream::Upstream;

/// What a gateway is built from.
pub struct GatewayConfig<U> {
    pub identity: Arc<Identity>,
    pub registry: Arc<Registry>,
    pub ledger: Arc<Ledger>,
    pub upstream: U,
    pub clock: Arc<dyn Clock>,
    pub recording: Recording,
    /// `allow` of each connection, in the registry's order.
    pub rules: Vec<ConnectionRules>,
    /// Who counts as an agent, besides those who say so.
    pub agents: Option<Expression>,
    /// Hash of the configuration.
    pub policy: String,
    pub metrics: Arc<Metrics>,
}

/// The gateway.
pub struct Gateway<U> {
    pub(crate) identity: Arc<Identity>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) upstream: U,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) recording: Recording,
    pub(crate) rules: Vec<ConnectionRules>,
    pub(crate) agents: Option<Expression>,
    pub(crate) policy: String,
    pub(crate) sessions: Sessions,
    pub(crate) strangers: Strangers,
    pub(crate) metrics: Arc<Metrics>,
}

impl<U: Upstream> Gateway<U> {
    /// Assembles it.
    pub fn new(config: GatewayConfig<U>) -> Self {
        Self {
            strangers: Strangers::new(config.ledger.clone(), config.clock.clone()),
            identity: config.identity,
            registry: config.registry,
            ledger: config.ledger,
            upstream: config.upstream,
            clock: config.clock,
            recording: config.recording,
            rules: config.rules,
            agents: config.agents,
            policy: config.policy,
            sessions: Sessions::default(),
            metrics: config.metrics,
        }
    }

    /// Carries one exchange from request to reply. Every exchange opens one record and closes it.
    ///
    /// 1. Admit: identify, resolve, understand, decide.
    /// 2. Record the intent, or let nothing move.
    /// 3. Refuse: the record closes with the reply.
    /// 4. Or forward, releasing bytes behind the record.
    pub async fn exchange(&self, mut request: Request) -> Reply {
        let admission = match self.admit(&mut request).await {
            Ok(admission) => admission,
            Err(stranger) => return self.turn_away(stranger, &request),
        };
        let Ok(open) = self.ledger.open_record_as(admission.id, admission.intent, self.recording).await
        else {
            self.metrics.unrecorded();
            return self.upstream.refuse(&Refusal::unrecorded(), None);
        };
        match admission.ruling {
            Ruling::Permitted(permit) => {
                let cleared = permit.clear(request, &open);
                let forwarded = self.clock.now();
                let answer = self.upstream.forward(cleared).await;
                release::behind(self, open, forwarded, answer).await
            }
            Ruling::Refused(refusal) => self.refuse(refusal, open).await,
        }
    }

    /// Closes the record with a no, then says it.
    async fn refuse(&self, refusal: Refusal, open: OpenRecord) -> Reply {
        let refusal = refusal.with_record(open.id());
        let reply = self.upstream.refuse(&refusal, Some(open.id()));
        release::whole(self, open, &refusal, reply).await
    }
}
