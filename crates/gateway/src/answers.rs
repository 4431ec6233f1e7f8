//! Answering what is held: who may, what they see, and what their word does.

use approvals::{Held, Rest, Scope, Stand, Vote, is_own};
use policy::Question;
use record::{Actor, Principal, PrincipalKind, RecordId};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::exchange::Gateway;
use crate::hold::estimate;
use crate::later::{Place, Sent};
use crate::upstream::Upstream;

/// A yes is good for at most so long, in seconds.
const GRANT_SECS_MAX: i64 = 30 * 86_400;

/// Somebody's answer.
#[derive(Clone, Debug)]
pub struct Answering {
    pub id: RecordId,
    /// Who answers.
    pub actor: Actor,
    pub says: Says,
}

/// What they say.
#[derive(Clone, Debug)]
pub enum Says {
    Yes {
        scope: Scope,
        /// For how long, where that is a time, in seconds.
        secs: Option<i64>,
    },
    No {
        reason: String,
    },
}

/// What an answer did.
#[derive(Clone, Debug)]
pub struct Answered {
    pub held: Arc<Held>,
    /// Of a job that was allowed: what became of it.
    pub sent: Option<Sent>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    One(RecordId),
    Pending,
    All,
}

/// Why an answer does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAnswered {
    /// There is no such approval, or it is not theirs to see.
    Unknown,
    /// They may not answer it.
    NotTheirs(String),
    /// It does not wait any more, or not as it was.
    Over(String),
    /// The answer makes no sense.
    Invalid(String),
    /// It could not be recorded or kept.
    Unrecorded(String),
}

impl<U: Upstream> Gateway<U> {
    /// Takes one answer. Answers are taken one after the other, each recorded before it does anything.
    pub async fn answer_held_request(&self, answering: Answering) -> Result<Answered, NotAnswered> {
        let held = {
            let _alone = self.desk.answering().await;
            let held = self.desk.get(answering.id).ok_or(NotAnswered::Unknown)?;
            self.take_answer(&held, &answering).await?
        };
        // What is sent is not waited for by whoever answers something else.
        let Some(held) = held else { return Err(self.reconsider(answering.id).await) };
        let is_yes = matches!(answering.says, Says::Yes { .. });
        let is_to_send = is_yes && held.stand == Stand::Approved && held.job.is_some();
        let sent = if is_to_send { Some(self.send_held(&held).await) } else { None };
        let held = self.desk.get(held.id).unwrap_or(held);
        Ok(Answered { held, sent })
    }

    /// None: the configuration changed meanwhile, so it is to be decided anew.
    async fn take_answer(
        &self,
        held: &Arc<Held>,
        answering: &Answering,
    ) -> Result<Option<Arc<Held>>, NotAnswered> {
        let now = self.clock.now();
        if held.is_pending() && held.until <= now {
            self.expire(held).await.map_err(NotAnswered::Unrecorded)?;
            return Err(NotAnswered::Over("it has expired".to_owned()));
        }
        // One that is allowed and not sent yet is not sent any more, unless it may run already.
        let place = match (held.stand, &answering.says) {
            (Stand::Approved, Says::No { .. }) if held.job.is_some() => Some(self.not_sent(held).await?),
            _ => None,
        };
        let rest = self.desk.rest(held.id).await;
        let rest = rest.map_err(|error| NotAnswered::Unrecorded(error.to_string()))?;
        let is_live =
            held.grant.as_ref().is_some_and(|grant| grant.until > now && grant.uses_left != Some(0));
        let takes_back = (is_live || place.is_some()) && matches!(answering.says, Says::No { .. });
        if !held.is_pending() && !takes_back {
            let said = if rest.said.is_empty() { String::new() } else { format!(": {}", rest.said) };
            return Err(NotAnswered::Over(format!("it is {} already{said}", held.stand.word())));
        }
        let approver = Principal::from(&answering.actor);
        let rules = self.may_answer(held, &rest, &approver)?;
        let by = format!("{}/{}", approver.idp, approver.id);
        let (next, event, rest) = match &answering.says {
            Says::No { reason } if takes_back && held.stand == Stand::Released => {
                taken_back(held, &by, reason)
            }
            Says::No { reason } => denied(held, rest, (&by, &approver), reason),
            Says::Yes { scope, secs } => {
                let secs = checked(held, *scope, *secs)?;
                if held.policy != self.rulebook().policy {
                    return Ok(None);
                }
                // By whatever way they answer, one person has one voice.
                let is_theirs = |vote: &Vote| {
                    vote.by == by
                        || !approver.email.is_empty() && vote.name.eq_ignore_ascii_case(&approver.email)
                };
                if held.votes.iter().any(is_theirs) {
                    return Err(NotAnswered::Over("you have said yes to it already".to_owned()));
                }
                let name = shown(&approver);
                let vote = Vote { by, name, at: now, rules, scope: *scope, secs };
                let (next, event) = agreed(held, vote, now);
                (next, event, None)
            }
        };
        let recorded = self.step(held.asked.session, answering.actor.clone(), event).await;
        recorded.map_err(NotAnswered::Unrecorded)?;
        let changed = self.desk.change(next, rest.as_ref()).await;
        changed.map(Some).map_err(|error| NotAnswered::Over(error.to_string()))
    }

    /// Keeps an allowed job from being sent for as long as the place is kept; an error if it may run already.
    pub(crate) async fn not_sent(&self, held: &Held) -> Result<Place, NotAnswered> {
        let late = || NotAnswered::Over("it is being sent, or runs already; cancel the job".to_owned());
        let place = self.sending.begin(held.id, record::Timestamp::from_micros(i64::MAX)).ok_or_else(late)?;
        match self.runs_already(held).await {
            Some(false) => Ok(place),
            Some(true) | None => Err(late()),
        }
    }

    /// The rules for which somebody may answer; never their own request, and never as a program.
    fn may_answer(&self, held: &Held, rest: &Rest, approver: &Principal) -> Result<Vec<String>, NotAnswered> {
        let no = |why: String| Err(NotAnswered::NotTheirs(why));
        if approver.kind != PrincipalKind::Person {
            return no("a human answers, signed in as themselves; agents and services do not".to_owned());
        }
        if is_own(&held.asked.principal, approver) {
            return no("nobody answers what they asked for themselves".to_owned());
        }
        let rules = self.approvable(held, rest, approver);
        match rules.is_empty() {
            true => no(format!("the approvers of rule {} do not include you", held.rules())),
            false => Ok(rules),
        }
    }

    fn approvable(&self, held: &Held, rest: &Rest, approver: &Principal) -> Vec<String> {
        let rulebook = self.rulebook();
        let connection = rulebook.registry.named(&held.asked.connection);
        let projects = connection.map(|connection| connection.projects.clone()).unwrap_or_default();
        let question = Question {
            principal: &held.asked.principal,
            connection: (&held.asked.connection, &projects),
            allow_egress: &[],
            reads_history: false,
            method: &held.asked.method,
            client_ip: &rest.client_ip,
            user_agent: &rest.user_agent,
            sql: &rest.sql,
            labels: &rest.labels,
            footprint: &rest.footprint,
            estimate: estimate(rest),
            now: self.clock.now(),
            history: policy::History::default(),
        };
        let rules = held.demands.iter().map(|demand| demand.rule.clone());
        rules.filter(|rule| rulebook.rules.may_approve(rule, &question, approver)).collect()
    }

    /// The rules changed while it was held: it waits as they are now, or it is sent or ends by them.
    async fn reconsider(&self, id: RecordId) -> NotAnswered {
        let Some(held) = self.desk.get(id) else { return NotAnswered::Unknown };
        if held.job.is_none() {
            return NotAnswered::Over(
                "the configuration changed since it was held; whoever asked must ask again".to_owned(),
            );
        }
        let sent = self.send_held(&held).await;
        let what = match sent {
            Sent::AskedAgain { id, .. } => {
                format!("it was asked again under it as {id}: look at that, then answer")
            }
            Sent::Released(record) => format!("it needs no approval any more and runs, record {record}"),
            Sent::Failed(why) => format!("it is refused by it: {why}"),
            Sent::Later(why) => format!("it could not be decided anew yet: {why}"),
        };
        NotAnswered::Over(format!("the configuration changed since it was held; {what}"))
    }

    /// What is held or was, as far as somebody may see it, the oldest first: all for whoever reads everything, else
    /// their own and what they may answer.
    pub async fn held_requests(&self, which: Which, reader: &Principal, reads_all: bool) -> Vec<Value> {
        let all = match which {
            Which::One(id) => self.desk.get(id).into_iter().collect(),
            Which::Pending => self.desk.all(Held::is_pending),
            Which::All => self.desk.all(|_| true),
        };
        let mut shown = Vec::new();
        for held in all {
            shown.extend(self.held_request(&held, reader, reads_all).await);
        }
        shown
    }

    async fn held_request(&self, held: &Arc<Held>, reader: &Principal, reads_all: bool) -> Option<Value> {
        let rest = self.desk.rest(held.id).await.ok()?;
        let may_answer = self.may_answer(held, &rest, reader).is_ok();
        let is_own = is_own(&held.asked.principal, reader);
        (reads_all || may_answer || is_own).then(|| card(held, &rest, may_answer))
    }
}

fn shown(principal: &Principal) -> String {
    if principal.email.is_empty() { principal.id.clone() } else { principal.email.clone() }
}

fn checked(held: &Held, scope: Scope, secs: Option<i64>) -> Result<Option<i64>, NotAnswered> {
    let wrong = |why: &str| Err(NotAnswered::Invalid(why.to_owned()));
    match (scope, secs) {
        (Scope::Fingerprint, _) if held.alike.is_none() => {
            wrong("nothing is like it: it is no single statement that was read for certain; approve it once")
        }
        (Scope::Time, None) => wrong("say for how long"),
        (_, Some(secs)) if !(1..=GRANT_SECS_MAX).contains(&secs) => {
            wrong("a yes is good for a second at least and 30 days at most")
        }
        _ => Ok(secs),
    }
}

fn agreed(held: &Held, vote: Vote, now: record::Timestamp) -> (Held, Value) {
    let mut next = held.clone();
    let (scope, secs) = (vote.scope, vote.secs);
    next.votes.push(vote);
    let is_enough = next.is_satisfied();
    if is_enough {
        next.stand = Stand::Approved;
        next.grant = Some(next.granted(now));
    }
    let event = json!({
        "action": "approval.approve", "approval": held.id, "scope": scope, "secs": secs, "enough": is_enough,
        "bytes_max": held.bytes_max, "binding": held.binding, "grant": next.grant,
        "rules": next.demands.iter().map(|demand| json!({
            "rule": demand.rule, "needed": demand.needed, "said_yes": next.said_yes(&demand.rule),
        })).collect::<Vec<_>>(),
    });
    (next, event)
}

fn denied(
    held: &Held,
    rest: Rest,
    (by, approver): (&str, &Principal),
    reason: &str,
) -> (Held, Value, Option<Rest>) {
    let end = if reason.ends_with(['.', '!', '?']) { "" } else { "." };
    let said = format!(
        "Access Denied: hansard rule {} wants an approval, and {} denied it: {reason}{end} Record {}",
        held.rules(),
        shown(approver),
        held.record
    );
    let next = Held { stand: Stand::Denied, grant: None, reason: "accessDenied".to_owned(), ..held.clone() };
    let event = json!({"action": "approval.deny", "approval": held.id, "by": by, "reason": reason});
    (next, event, Some(Rest { said, ..rest }))
}

/// A yes that was good for more than once is good for nothing more.
fn taken_back(held: &Held, by: &str, reason: &str) -> (Held, Value, Option<Rest>) {
    let event = json!({"action": "approval.take_back", "approval": held.id, "by": by, "reason": reason});
    (Held { grant: None, ..held.clone() }, event, None)
}

/// What whoever answers is shown.
pub(crate) fn card(held: &Held, rest: &Rest, may_answer: bool) -> Value {
    let principal = &held.asked.principal;
    let footprint = &rest.footprint;
    let written: Vec<&String> = footprint.statements.iter().flat_map(|deed| &deed.written).collect();
    let all = |pick: fn(&record::Deed) -> &std::collections::BTreeSet<String>| -> Vec<&String> {
        footprint.statements.iter().flat_map(pick).collect()
    };
    let (destinations, sources) = (all(|deed| &deed.destinations), all(|deed| &deed.sources));
    let usd = rest.estimate.and_then(|bytes| policy::Estimate::of(bytes).usd());
    json!({
        "id": held.id, "stand": held.stand, "asked_at": held.at, "until": held.until, "may_answer": may_answer,
        "who": {
            "id": principal.id, "email": principal.email, "kind": principal.kind, "agent": principal.agent,
            "on_behalf_of": principal.on_behalf_of, "groups": principal.groups, "idp": principal.idp,
            "task": principal.task,
        },
        "connection": held.asked.connection, "session": held.asked.session, "method": held.asked.method,
        "statement": {
            "sql": rest.sql, "kind": footprint.kind, "kinds": footprint.kinds(), "tables": footprint.tables(),
            "tables_written": written, "destinations": destinations, "sources": sources, "columns": footprint.columns(), "certain": footprint.is_certain(),
            "parameters": footprint.parameters, "fingerprint": footprint.fingerprint,
        },
        "request": rest.sql.is_empty().then(|| json!({"verb": rest.verb, "uri": rest.uri, "body": rest.body})),
        "job": held.job.as_ref().map(|job| format!("{}:{}", job.project, job.job)),
        "estimate": {
            "bytes": rest.estimate, "usd": usd, "bytes_max": held.bytes_max, "unknown": rest.estimate_unknown,
            "rows_at_most": rest.rows_at_most,
        },
        "rules": held.demands.iter().zip(&rest.texts).map(|(demand, text)| json!({
            "rule": demand.rule, "text": text, "needed": demand.needed, "said_yes": held.said_yes(&demand.rule),
        })).collect::<Vec<_>>(),
        "votes": held.votes.iter().map(|vote| json!({"by": vote.by, "name": vote.name, "at": vote.at,
            "scope": vote.scope})).collect::<Vec<_>>(),
        "grant": held.grant, "said": rest.said, "record": held.record,
    })
}
