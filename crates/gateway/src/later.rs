//! Sending what was held, once somebody said yes: everything that holds now is checked again, and the job runs under
//! the name that its client knows. BigQuery takes a job's name once, so it runs at most once, whatever breaks.

use approvals::{DeskError, Held, Rest, Stand};
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use http_body_util::{BodyExt, Limited};
use ledger::EventDraft;
use record::{Actor, Client, Outcome, RecordId, RecordKind, SessionId, Status, Timestamp};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::admission::Ruling;
use crate::exchange::Gateway;
use crate::hold::unheld;
use crate::limits::{PROBE_BYTES_MAX, UNSENT_SECS_MAX};
use crate::refusal::{Reason, Refusal};
use crate::request::{Request, own_request};
use crate::upstream::{Question, Speaks, Upstream};

/// A job that could not be sent is tried again after so long, in seconds.
const TRY_AGAIN_SECS: i64 = 5;

/// Jobs that are being sent, and when those that could not be are tried again.
#[derive(Default)]
pub(crate) struct Sending(Mutex<HashMap<RecordId, Option<Timestamp>>>);

impl Sending {
    /// Whether the caller is to send it now.
    fn begin(&self, id: RecordId, now: Timestamp) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&id) {
            Some(None) => false,
            Some(Some(again)) if *again > now => false,
            _ => known.insert(id, None).is_none_or(|before| before.is_some()),
        }
    }

    fn end(&self, id: RecordId, again: Option<Timestamp>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match again {
            Some(_) => drop(known.insert(id, again)),
            None => drop(known.remove(&id)),
        }
    }
}

/// What sending came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It runs; the record of that.
    Released(RecordId),
    /// It can't, and why.
    Failed(String),
    /// What holds now is not what was agreed to: it waits for another answer.
    AskedAgain(String),
    /// Nobody could say; it is tried again.
    Later(String),
}

impl<U: Upstream> Gateway<U> {
    /// Sends a job that was allowed. It is sent by one caller at a time.
    pub(crate) async fn send_held(&self, held: &Arc<Held>) -> Sent {
        let now = self.clock.now();
        if !self.sending.begin(held.id, now) {
            return Sent::Later("it is being sent".to_owned());
        }
        let sent = match self.try_to_send(held).await {
            Ok(sent) => sent,
            Err(error) => Sent::Later(error.to_string()),
        };
        let again = matches!(sent, Sent::Later(_)).then(|| now.plus_secs(TRY_AGAIN_SECS));
        self.sending.end(held.id, again);
        sent
    }

    async fn try_to_send(&self, held: &Arc<Held>) -> Result<Sent, DeskError> {
        let rest = self.desk.rest(held.id).await?;
        let rulebook = self.rulebook();
        let who: identity::Identified = serde_json::from_value(rest.who.clone())
            .map_err(|error| DeskError::State(format!("who asked can't be read: {error}")))?;
        if let Err(stranger) = rulebook.identity.still(&who) {
            let said = format!("Access Denied: it was allowed, and then {stranger}.");
            return self.fail(held, ("accessDenied", &said)).await;
        }
        let (mut request, _present) = own_request(question(&rest)?, self.clock.now());
        put_headers(&mut request, &rest);
        let admission =
            self.admit_known(&rulebook, (who, held.asked.session), &mut request, Some(held)).await;
        if let Ruling::Held(hold) = admission.ruling {
            return self.ask_again(held, &hold.held, hold.rest.as_deref(), &hold.text).await;
        }
        let open = self.ledger.open_record_as(admission.id, admission.intent, admission.recording).await;
        let open = open.map_err(|error| DeskError::State(error.to_string()))?;
        let record = open.id();
        let permit = match admission.ruling {
            Ruling::Permitted(permit) => permit,
            Ruling::Refused(refusal) => {
                let said = refusal.clone().with_record(record).message;
                self.refuse(Speaks::Json, refusal, open).await;
                return self.fail(held, ("accessDenied", &said)).await;
            }
            Ruling::Held(_) => unreachable!("it was asked again above"),
        };
        let claims = match self.claim(&permit, &open).await {
            Ok(claims) => claims,
            Err(refusal) => {
                let said = refusal.message.clone();
                self.refuse(Speaks::Json, refusal, open).await;
                return Ok(Sent::Later(said));
            }
        };
        let mut next = (**held).clone();
        next.tries += 1;
        let held = &self.desk.change(next, None).await?;
        ledger::failpoint("releasing");
        let (head, body) = self.carry(permit, request, claims, open).await.into_parts();
        let body = Limited::new(body, PROBE_BYTES_MAX).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        let status = head.status;
        // A name that is taken is this job's own, where a try before this one was cut off.
        let is_there = status == http::StatusCode::CONFLICT && held.tries > 1;
        if status.is_success() || is_there {
            let mut next = (**held).clone();
            next.stand = Stand::Released;
            self.desk.change(next, None).await?;
            return Ok(Sent::Released(record));
        }
        let (reason, said) = said_no(&body);
        let is_over = held.until.plus_secs(UNSENT_SECS_MAX) <= self.clock.now();
        match status.is_client_error() || is_over {
            true => self.fail(held, (&reason, &said)).await,
            false => Ok(Sent::Later(said)),
        }
    }

    /// It ends without a beginning.
    async fn fail(&self, held: &Held, (reason, said): (&str, &str)) -> Result<Sent, DeskError> {
        let mut next = held.clone();
        next.stand = Stand::Failed;
        reason.clone_into(&mut next.reason);
        said.clone_into(&mut next.said);
        self.desk.change(next, None).await?;
        Ok(Sent::Failed(said.to_owned()))
    }

    /// It waits again, as it is now.
    async fn ask_again(
        &self,
        held: &Held,
        now: &Held,
        rest: Option<&Rest>,
        text: &str,
    ) -> Result<Sent, DeskError> {
        let event = json!({
            "action": "approval.asked_again", "approval": held.id, "why": "what holds now is not what was agreed to",
            "rules": now.demands.iter().map(|demand| &demand.rule).collect::<Vec<_>>(), "bytes_max": now.bytes_max,
        });
        let actor = ledger::Ledger::gateway_actor();
        self.step(held.asked.session, actor, event).await.map_err(DeskError::State)?;
        let mut next = now.clone();
        (next.id, next.version, next.at) = (held.id, held.version, held.at);
        (next.job, next.mark) = (held.job.clone(), held.mark.clone());
        let held = self.desk.change(next, rest).await?;
        self.announce(&held).await;
        Ok(Sent::AskedAgain(text.to_owned()))
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
        if !matches!(current.stand, Stand::Pending | Stand::Approved) {
            return Ok(current);
        }
        // One that is being sent is BigQuery's to cancel.
        if !self.sending.begin(current.id, Timestamp::from_micros(i64::MAX)) {
            return Err(Refusal::new(Reason::Upstream, "The job is being sent; cancel it again."));
        }
        let done = self.withdraw_alone(&current, by, why).await;
        self.sending.end(current.id, None);
        done
    }

    async fn withdraw_alone(&self, held: &Held, by: Actor, why: &str) -> Result<Arc<Held>, Refusal> {
        let event = json!({"action": "approval.cancel", "approval": held.id, "why": why});
        self.step(held.asked.session, by, event).await.map_err(|_| Refusal::unrecorded())?;
        let mut next = held.clone();
        next.stand = Stand::Cancelled;
        "stopped".clone_into(&mut next.reason);
        why.clone_into(&mut next.said);
        self.desk.change(next, None).await.map_err(|error| unheld(&error))
    }

    /// What time does: whatever waited too long expires, and what was allowed before a restart is sent. To be called
    /// every second.
    pub async fn tend_held(&self) {
        for held in self.desk.overdue(self.clock.now()) {
            let _alone = self.desk.answering().await;
            let still = self.desk.get(held.id).filter(|held| held.is_pending());
            if let Some(held) = still
                && let Err(why) = self.expire(&held).await
            {
                tracing::error!(approval = %held.id, why, "can't expire");
            }
        }
        for held in self.desk.unsent() {
            let sent = self.send_held(&held).await;
            tracing::info!(approval = %held.id, ?sent, "an allowed job was sent later");
        }
    }

    /// Nobody answered in time.
    pub(crate) async fn expire(&self, held: &Held) -> Result<(), String> {
        let event = json!({"action": "approval.expire", "approval": held.id, "until": held.until});
        self.step(held.asked.session, ledger::Ledger::gateway_actor(), event).await?;
        let rules: Vec<&str> = held.demands.iter().map(|demand| demand.rule.as_str()).collect();
        let mut next = held.clone();
        next.stand = Stand::Expired;
        "accessDenied".clone_into(&mut next.reason);
        next.said = format!(
            "Access Denied: hansard rule '{}' wants an approval, and nobody answered until {}. Ask again, and tell \
             whoever answers. Record {}",
            rules.join("', '"),
            held.until,
            held.id
        );
        self.desk.change(next, None).await.map(|_| ()).map_err(|error| error.to_string())
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
