//! Sending what was held, once somebody said yes: everything that holds now is checked again, and the job runs under
//! the name that its client knows. BigQuery takes a job's name once, so it runs at most once, whatever breaks.

use approvals::{DeskError, Held, Rest, Stand};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt, Limited};
use ledger::{EventDraft, OpenRecord};
use record::{Actor, Client, Outcome, RecordId, RecordKind, SessionId, Status, Timestamp};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::admission::Ruling;
use crate::exchange::Gateway;
use crate::hold::{Hold, unheld};
use crate::limits::{PROBE_BYTES_MAX, SEND_HELD_MAX, UNSENT_SECS_MAX};
use crate::refusal::{Reason, Refusal};
use crate::request::{Request, own_request};
use crate::upstream::{Question, Speaks, Upstream};

/// BigQuery's words for what passes ("Error messages" in its documentation), and ours for an answer that could not be
/// recorded: then it ran, and the next try finds it.
const PASSING: &[&str] = &[
    "backendError",
    "internalError",
    "jobBackendError",
    "jobInternalError",
    "jobRateLimitExceeded",
    "quotaExceeded",
    "rateLimitExceeded",
    "stopped",
];
/// A job that could not be sent is tried again after so long, in seconds.
const TRY_AGAIN_SECS: i64 = 5;

/// Jobs that are being sent, and when those that could not be are tried again.
#[derive(Default)]
pub(crate) struct Sending(Arc<Mutex<HashMap<RecordId, Option<Timestamp>>>>);

/// One job's place among them, given back whatever happens to whoever sends it.
pub(crate) struct Place {
    sending: Sending,
    id: RecordId,
    again: Option<Timestamp>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = self.sending.0.lock().unwrap_or_else(PoisonError::into_inner);
        match self.again {
            Some(_) => drop(known.insert(self.id, self.again)),
            None => drop(known.remove(&self.id)),
        }
    }
}

impl Sending {
    /// A place for whoever sends it now; none if somebody does, or it is not to be tried yet.
    pub(crate) fn begin(&self, id: RecordId, now: Timestamp) -> Option<Place> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&id) {
            Some(None) => return None,
            Some(Some(again)) if *again > now => return None,
            _ => drop(known.insert(id, None)),
        }
        Some(Place { sending: Self(self.0.clone()), id, again: None })
    }
}

/// What sending came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It runs; the record of that.
    Released(RecordId),
    /// It can't, and why.
    Failed(String),
    /// What holds now is not what was agreed to: it waits for another answer, by another name.
    AskedAgain { id: RecordId, why: String },
    /// Nobody could say; it is tried again.
    Later(String),
}

impl<U: Upstream> Gateway<U> {
    /// Uses a yes for a request that is about to go.
    pub(crate) async fn use_grant(&self, id: RecordId) -> Result<(), Refusal> {
        match self.desk.use_grant(id, self.clock.now()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::new(
                Reason::Denied,
                format!("Access Denied: the approval {id} is used up or taken back. Ask again."),
            )),
            Err(error) => Err(unheld(&error)),
        }
    }

    /// Sends a job that was allowed. It is sent by one caller at a time.
    pub(crate) async fn send_held(&self, held: &Arc<Held>) -> Sent {
        let now = self.clock.now();
        let Some(mut place) = self.sending.begin(held.id, now) else {
            return Sent::Later("it is being sent".to_owned());
        };
        // Whoever had the place before may have sent it.
        let current = self.desk.get(held.id).filter(|held| held.is_unsent());
        let Some(held) = current else { return Sent::Later("it is over".to_owned()) };
        let sent = match tokio::time::timeout(SEND_HELD_MAX, self.try_to_send(&held)).await {
            Ok(Ok(sent)) => sent,
            Ok(Err(DeskError::Changed)) => Sent::Later(DeskError::Changed.to_string()),
            Ok(Err(error)) => self.broken(&held, error.to_string()).await,
            Err(_) => Sent::Later("BigQuery did not answer in time".to_owned()),
        };
        if matches!(sent, Sent::Later(_)) {
            place.again = Some(now.plus_secs(TRY_AGAIN_SECS));
        }
        sent
    }

    async fn try_to_send(&self, held: &Arc<Held>) -> Result<Sent, DeskError> {
        // A try before this one may have come through: then it runs, whatever holds now.
        match self.runs_already(held).await {
            Some(true) => return self.released(held, held.record).await,
            Some(false) => {}
            None => return self.later(held, "BigQuery did not say whether it runs".to_owned()).await,
        }
        let rest = self.desk.rest(held.id).await?;
        let rulebook = self.rulebook();
        let who: identity::Identified = serde_json::from_value(rest.who.clone())
            .map_err(|error| DeskError::State(format!("who asked can't be read: {error}")))?;
        if let Err(stranger) = rulebook.identity.still(&who) {
            let said = format!("Access Denied: it was allowed, and then {stranger}.");
            return self.fail(held, "accessDenied", said).await;
        }
        let (mut request, _present) = own_request(question(&rest)?, self.clock.now());
        put_headers(&mut request, &rest);
        let admission =
            self.admit_known(&rulebook, (who, held.asked.session), &mut request, Some(held)).await;
        if let Ruling::Held(hold) = admission.ruling {
            return self.ask_again((held, rest), *hold).await;
        }
        let open = self.ledger.open_record_as(admission.id, admission.intent, admission.recording).await;
        let open = open.map_err(|error| DeskError::State(error.to_string()))?;
        let record = open.id();
        let permit = match admission.ruling {
            Ruling::Permitted(permit) => permit,
            Ruling::Refused(refusal) => return self.refused(held, refusal, open).await,
            Ruling::Held(_) => unreachable!("it was asked again above"),
        };
        // From here on it may run, whatever breaks: the next try asks first.
        let next = Held { stand: Stand::Approved, tries: held.tries + 1, ..(**held).clone() };
        let held = &self.desk.change(next, None).await?;
        let claims = match self.claim(&permit, &open).await {
            Ok(claims) => claims,
            Err(refusal) => return self.refused(held, refusal, open).await,
        };
        ledger::failpoint("releasing");
        let (head, body) = self.carry(permit, request, claims, open).await.into_parts();
        let body = Limited::new(body, PROBE_BYTES_MAX).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        if head.status.is_success() {
            return self.released(held, record).await;
        }
        let (reason, said) = said_no(&body);
        match head.status {
            // A name that is taken is this job's own, where a try before this one was cut off.
            StatusCode::CONFLICT if held.tries > 1 => self.released(held, record).await,
            _ if PASSING.contains(&reason.as_str()) => self.later(held, said).await,
            StatusCode::UNAUTHORIZED | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                self.later(held, said).await
            }
            status if status.is_client_error() => self.fail(held, &reason, said).await,
            _ => self.later(held, said).await,
        }
    }

    async fn released(&self, held: &Held, record: RecordId) -> Result<Sent, DeskError> {
        self.desk.change(Held { stand: Stand::Released, ..held.clone() }, None).await?;
        Ok(Sent::Released(record))
    }

    /// Something said no to it: for good, or for now.
    async fn refused(&self, held: &Held, refusal: Refusal, open: OpenRecord) -> Result<Sent, DeskError> {
        let is_passing = matches!(refusal.reason, Reason::Unrecorded | Reason::Upstream);
        let said = refusal.clone().with_record(open.id()).message;
        self.refuse(Speaks::Json, refusal, open).await;
        match is_passing {
            true => self.later(held, said).await,
            false => self.fail(held, "accessDenied", said).await,
        }
    }

    /// It can't even be read. After a while nobody waits for it any more.
    async fn broken(&self, held: &Held, why: String) -> Sent {
        if held.until.plus_secs(UNSENT_SECS_MAX) <= self.clock.now() {
            let failed = Held { stand: Stand::Failed, reason: "backendError".to_owned(), ..held.clone() };
            let _ = self.desk.change(failed, None).await;
        }
        Sent::Later(why)
    }

    /// It is tried again, but not for ever; one that may run already is, until BigQuery says whether it does.
    async fn later(&self, held: &Held, why: String) -> Result<Sent, DeskError> {
        match held.tries == 0 && held.until.plus_secs(UNSENT_SECS_MAX) <= self.clock.now() {
            true => self.fail(held, "backendError", why).await,
            false => Ok(Sent::Later(why)),
        }
    }

    /// It ends without a beginning.
    async fn fail(&self, held: &Held, reason: &str, said: String) -> Result<Sent, DeskError> {
        self.end(held, Stand::Failed, reason, said.clone()).await?;
        Ok(Sent::Failed(said))
    }

    /// It waits again, as it is now and by another name: an answer to what it was says nothing of what it is.
    async fn ask_again(&self, old: (&Held, Rest), hold: Hold<U::Plan>) -> Result<Sent, DeskError> {
        let Hold { held: now, rest: Some(rest), text, .. } = hold else {
            return Err(DeskError::State("it can't be asked again".to_owned()));
        };
        let (held, old_rest) = old;
        let event = json!({
            "action": "approval.asked_again", "approval": now.id, "instead_of": held.id,
            "why": "what holds now is not what was agreed to", "bytes_max": now.bytes_max,
            "rules": now.demands.iter().map(|demand| &demand.rule).collect::<Vec<_>>(),
        });
        let actor = ledger::Ledger::gateway_actor();
        self.step(held.asked.session, actor, event).await.map_err(DeskError::State)?;
        let (job, mark) = (held.job.clone(), held.mark.clone());
        let next = Held { record: held.record, tries: held.tries, job, mark, ..(*now).clone() };
        let said = format!("It was asked again as {}.", next.id);
        let held = self.desk.replace((held.clone(), Rest { said, ..old_rest }), (next, *rest)).await?;
        self.announce(&held).await;
        Ok(Sent::AskedAgain { id: held.id, why: text })
    }

    /// Takes a request back before it was answered or sent.
    pub(crate) async fn withdraw(
        &self,
        held: &Arc<Held>,
        by: Actor,
        why: &str,
    ) -> Result<Arc<Held>, Refusal> {
        let _alone = self.desk.answering().await;
        let current = self.desk.get(held.id).unwrap_or_else(|| held.clone());
        if !current.is_unsent() {
            return Ok(current);
        }
        // One that is being sent, or may run, is BigQuery's to cancel: whether it does is known in a moment.
        let Ok(_place) = self.not_sent(&current).await else {
            return Err(Refusal::new(
                Reason::Upstream,
                "The job is being sent, or may run; cancel it again.",
            ));
        };
        self.withdraw_alone(&current, by, why).await
    }

    async fn withdraw_alone(&self, held: &Held, by: Actor, why: &str) -> Result<Arc<Held>, Refusal> {
        let event = json!({"action": "approval.cancel", "approval": held.id, "why": why});
        self.step(held.asked.session, by, event).await.map_err(|_| Refusal::unrecorded())?;
        let ended = self.end(held, Stand::Cancelled, "stopped", why.to_owned()).await;
        ended.map_err(|error| unheld(&error))
    }

    /// What time does: whatever waited too long expires, and what was allowed before a restart is sent. To be called
    /// every second.
    pub async fn tend_held(self: Arc<Self>) {
        for held in self.desk.overdue(self.clock.now()) {
            let _alone = self.desk.answering().await;
            let still = self.desk.get(held.id).filter(|held| held.is_pending());
            if let Some(held) = still
                && let Err(why) = self.expire(&held).await
            {
                tracing::error!(approval = %held.id, why, "can't expire");
            }
        }
        // They end with whoever tends them.
        let mut sending = tokio::task::JoinSet::new();
        for held in self.desk.unsent() {
            let gateway = self.clone();
            sending.spawn(async move {
                if matches!(gateway.send_held(&held).await, Sent::Released(_)) {
                    tracing::info!(approval = %held.id, "an allowed job was sent later");
                }
            });
        }
        while sending.join_next().await.is_some() {}
    }

    /// Nobody answered in time.
    pub(crate) async fn expire(&self, held: &Held) -> Result<(), String> {
        let event = json!({"action": "approval.expire", "approval": held.id, "until": held.until});
        self.step(held.asked.session, ledger::Ledger::gateway_actor(), event).await?;
        let said = format!(
            "Access Denied: hansard rule {} wants an approval, and nobody answered until {}. Ask again, and tell \
             whoever answers. Record {}",
            held.rules(),
            held.until,
            held.record
        );
        let ended = self.end(held, Stand::Expired, "accessDenied", said).await;
        ended.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Cancels what waits in a session.
    pub(crate) async fn withdraw_session(&self, session: SessionId) {
        for held in self.desk.of_session(session) {
            let by = ledger::Ledger::gateway_actor();
            if let Err(refusal) = self.withdraw(&held, by, "Its session was ended.").await {
                tracing::error!(approval = %held.id, why = refusal.message, "can't be cancelled");
            }
        }
    }

    /// One step of an approval, in the record of the session that asked. Durable when this returns.
    pub(crate) async fn step(&self, session: SessionId, actor: Actor, event: Value) -> Result<(), String> {
        let draft = EventDraft {
            id: None,
            session,
            kind: RecordKind::Approval,
            actor,
            client: Client::default(),
            status: Status::default(),
            outcome: Outcome::Ok,
            event,
        };
        self.ledger.event(draft).await.map(|_| ()).map_err(|error| error.to_string())
    }
}

fn question(rest: &Rest) -> Result<Question, DeskError> {
    let broken = |what: &str| DeskError::State(format!("the held request's {what} can't be read"));
    Ok(Question {
        verb: rest.verb.parse().map_err(|_| broken("method"))?,
        uri: rest.uri.parse().map_err(|_| broken("address"))?,
        body: Bytes::from(rest.body.clone()),
    })
}

/// What the client said of itself goes with its job.
fn put_headers(request: &mut Request, rest: &Rest) {
    for (name, value) in &rest.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value))
            && name != http::header::CONTENT_TYPE
        {
            request.head.headers.insert(name, value);
        }
    }
    if let Ok(ip) = rest.client_ip.parse() {
        request.client.ip = ip;
    }
}

/// Reason and message of an error in the upstream's answer.
pub(crate) fn said_no(body: &[u8]) -> (String, String) {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().chars().take(2_000).collect::<String>();
    let reason = text(&body["error"]["errors"][0]["reason"]);
    let reason = if reason.is_empty() { "invalid".to_owned() } else { reason };
    (reason, text(&body["error"]["message"]))
}
