//! The path of one exchange.

use approvals::Desk;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt, Limited};
use ledger::{Ledger, OpenRecord};
use record::{Clock, Outcome};
use state::{Owners, State};
use std::sync::{Arc, RwLock};

use crate::admission::{Cause, Permit, Ruling};
use crate::announce::Announcer;
use crate::histories::Histories;
use crate::later::Sending;
use crate::limits::PROBE_BYTES_MAX;
use crate::lookups::Lookups;
use crate::metrics::Metrics;
use crate::ownership::{Claims, Retries};
use crate::paces::Paces;
use crate::refusal::Refusal;
use crate::release;
use crate::reply::Reply;
use crate::request::{Request, own_request};
use crate::rulebook::Rulebook;
use crate::sessions::Sessions;
use crate::strangers::Strangers;
use crate::upstream::{Question, Speaks, Upstream};

/// What rules of action `warn` say.
const WARNING_HEADER: HeaderName = HeaderName::from_static("x-hansard-warning");

/// What puts back what a statement changed.
const UNDO_HEADER: HeaderName = HeaderName::from_static("x-hansard-undo");

/// What a gateway is built from.
pub struct GatewayConfig<U> {
    pub ledger: Arc<Ledger>,
    pub state: Arc<State>,
    pub owners: Arc<Owners>,
    pub desk: Arc<Desk>,
    pub announcer: Announcer,
    pub upstream: U,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub rulebook: Rulebook,
}

/// The gateway.
pub struct Gateway<U> {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) state: Arc<State>,
    pub(crate) owners: Arc<Owners>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) announcer: Announcer,
    pub(crate) upstream: U,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sessions: Sessions,
    pub(crate) strangers: Strangers,
    pub(crate) retries: Retries,
    pub(crate) lookups: Lookups,
    pub(crate) paces: Paces,
    pub(crate) histories: Arc<Histories>,
    pub(crate) sending: Sending,
    rulebook: RwLock<Arc<Rulebook>>,
}

/// The answer to a question of the gateway's own.
pub(crate) struct Probed {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl<U: Upstream> Gateway<U> {
    /// Assembles it.
    pub fn new(config: GatewayConfig<U>) -> Self {
        config.ledger.set_policy(&config.rulebook.policy);
        Self {
            strangers: Strangers::new(config.ledger.clone(), config.clock.clone()),
            ledger: config.ledger,
            state: config.state,
            owners: config.owners,
            desk: config.desk,
            announcer: config.announcer,
            upstream: config.upstream,
            clock: config.clock,
            metrics: config.metrics,
            sessions: Sessions::default(),
            retries: Retries::default(),
            lookups: Lookups::default(),
            paces: Paces::default(),
            histories: Arc::default(),
            sending: Sending::default(),
            rulebook: RwLock::new(Arc::new(config.rulebook)),
        }
    }

    /// The version that rules now.
    pub fn rulebook(&self) -> Arc<Rulebook> {
        self.rulebook.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// What waits for a human.
    pub fn desk(&self) -> Arc<Desk> {
        self.desk.clone()
    }

    /// Another version rules from the next request on.
    pub fn reload(&self, rulebook: Rulebook) {
        self.ledger.set_policy(&rulebook.policy);
        *self.rulebook.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(rulebook);
    }

    /// Carries one exchange from request to reply. Every exchange opens one record and closes it.
    ///
    /// 1. Admit: identify, resolve, understand, decide.
    /// 2. Record the intent, or let nothing move.
    /// 3. Refuse, or hold for a human: either way the record closes with the reply.
    /// 4. Or claim what it starts and forward it, releasing bytes behind the record.
    ///
    /// Ways that are seldom taken are boxed: each exchange is moved into a task, with room for its longest way.
    pub async fn exchange(&self, mut request: Request) -> Reply {
        let speaks = Speaks::of(&request.head.headers);
        let admission = match self.admit(&mut request).await {
            Ok(admission) => admission,
            Err(stranger) => return self.turn_away(stranger, &request),
        };
        let Ok(open) = self.ledger.open_record_as(admission.id, admission.intent, admission.recording).await
        else {
            self.metrics.unrecorded();
            return self.upstream.refuse(speaks, &Refusal::unrecorded(), None);
        };
        match admission.ruling {
            Ruling::Permitted(permit) => {
                if let Some(waiting) = self.while_held(&permit, &mut request.presence).await {
                    return Box::pin(self.say_held(speaks, &permit, waiting, open)).await;
                }
                let claims = match self.claim(&permit, &open).await {
                    Ok(claims) => claims,
                    Err(refusal) => return Box::pin(self.refuse(speaks, refusal, open)).await,
                };
                said(self.carry(permit, request, claims, open).await, WARNING_HEADER, &admission.warnings)
            }
            Ruling::Held(hold) => Box::pin(self.hold(speaks, *hold, open)).await,
            Ruling::Refused(refusal) => Box::pin(self.refuse(speaks, refusal, open)).await,
        }
    }

    /// Forwards what may go, and releases what comes back behind the record. Nothing else forwards.
    pub(crate) async fn carry(
        &self,
        permit: Permit<U::Plan>,
        request: Request,
        claims: Claims,
        open: OpenRecord,
    ) -> Reply {
        let undo = claims.undo().to_vec();
        let forwarded = self.clock.now();
        let answer = self.upstream.forward(permit.clear(request, &open)).await;
        let reply = release::behind(self, open, claims, forwarded, answer).await;
        said(reply, UNDO_HEADER, &undo)
    }

    /// A question of the gateway's own, recorded as every exchange is; none if it could not be asked, answered
    /// or recorded.
    pub(crate) async fn probe(
        &self,
        by: (&str, Option<&str>),
        question: Question,
        cause: impl Into<Cause>,
    ) -> Option<Probed> {
        let (request, _present) = own_request(question, self.clock.now());
        let admission = self.admit_own(&request, by, cause.into())?;
        let open =
            self.ledger.open_record_as(admission.id, admission.intent, admission.recording).await.ok()?;
        let Ruling::Permitted(permit) = admission.ruling else { return None };
        let claims = Claims::of(self.owners.clone(), permit.asker(), &open);
        let (head, body) = self.carry(permit, request, claims, open).await.into_parts();
        let body = Limited::new(body, PROBE_BYTES_MAX).collect().await.ok()?.to_bytes();
        Some(Probed { status: head.status, body })
    }

    /// Refuses a request that could not even be routed; recorded as every other refusal.
    pub async fn refuse_request(&self, request: Request, refusal: Refusal) -> Reply {
        let speaks = Speaks::of(&request.head.headers);
        let admission = match self.admit_refused(&request).await {
            Ok(admission) => admission,
            Err(stranger) => return self.turn_away(stranger, &request),
        };
        match self.ledger.open_record_as(admission.id, admission.intent, admission.recording).await {
            Ok(open) => self.refuse(speaks, refusal, open).await,
            Err(_) => self.upstream.refuse(speaks, &Refusal::unrecorded(), None),
        }
    }

    /// Closes the record with a no, then says it.
    pub(crate) async fn refuse(&self, speaks: Speaks, refusal: Refusal, open: OpenRecord) -> Reply {
        let refusal = refusal.with_record(open.id());
        release::whole(self, speaks, open, (Outcome::Refused, &refusal)).await.0
    }
}

/// The reply with what rules say to whoever reads it.
fn said(mut reply: Reply, header: HeaderName, texts: &[String]) -> Reply {
    for text in texts {
        let text: String = text.chars().map(|one| if one.is_ascii_graphic() { one } else { ' ' }).collect();
        if let Ok(value) = HeaderValue::from_str(&text) {
            reply.headers_mut().append(header.clone(), value);
        }
    }
    reply
}
