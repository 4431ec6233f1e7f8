//! Holding an exchange for a human, and what its client sees meanwhile: what BigQuery shows of a job that has not
//! begun; or, of what is no job, where to ask.

use approvals::{Asked, Demand, DeskError, Held, Job, Rest, Stand, Wanted};
use identity::Identified;
use ledger::OpenRecord;
use policy::{Estimate, Ruling};
use record::{Digest, Footprint, Outcome, RecordId};
use state::{Claim, Claimed, Owned, Owner};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::admission::{Permit, header};
use crate::exchange::Gateway;
use crate::limits::{ASKED_MAX, HELD_JOB_BYTES_MAX, HELD_POLL_MAX, HELD_TEXT_BYTES_MAX};
use crate::ownership::Asker;
use crate::refusal::{Reason, Refusal};
use crate::release;
use crate::reply::Reply;
use crate::request::{Presence, Request};
use crate::upstream::{Action, Awaited, Awaiting, HeldJob, JobRef, LaterJob, Speaks, Upstream};

/// Headers that are part of what is asked.
const BOUND_HEADERS: &[&str] =
    &["content-type", "if-match", "x-upload-content-length", "x-upload-content-type"];
/// Headers that go with it once it is sent.
const KEPT_HEADERS: &[&str] = &["user-agent", "x-goog-api-client", "x-goog-request-reason", "traceparent"];

/// An exchange that waits, before its record closes as `held`.
pub(crate) struct Hold<P> {
    pub(crate) held: Arc<Held>,
    /// None: it waited before, and was asked again.
    pub(crate) rest: Option<Box<Rest>>,
    /// What the rules say of it.
    pub(crate) text: String,
    pub(crate) plan: P,
}

/// An exchange that a rule wants a human's yes to.
pub(crate) struct Demanded<'a, P> {
    pub(crate) who: &'a Identified,
    pub(crate) asker: &'a Asker,
    pub(crate) action: &'a Action<P>,
    pub(crate) request: &'a Request,
    pub(crate) method: &'a str,
    pub(crate) record: RecordId,
    pub(crate) session: record::SessionId,
    pub(crate) policy: &'a str,
    pub(crate) footprint: &'a Footprint,
    pub(crate) estimate: (Option<u64>, String),
    /// Where it would run; empty if that is not known.
    pub(crate) location: &'a str,
    pub(crate) ruling: &'a Ruling,
}

/// What a demand came to.
pub(crate) enum Met {
    /// Somebody said yes to it before.
    Granted(Arc<Held>),
    /// Nobody did.
    Waits { held: Arc<Held>, rest: Option<Box<Rest>> },
}

/// How a job that was held stands, for whoever asks for it.
pub(crate) struct Stands {
    pub(crate) held: Arc<Held>,
    how: Awaiting,
}

impl<U: Upstream> Gateway<U> {
    /// Whether somebody said yes to it; else what is to wait.
    pub(crate) async fn meet(
        &self,
        demanded: &Demanded<'_, U::Plan>,
        released: Option<&Held>,
    ) -> Result<Met, Refusal> {
        let Demanded { action, request, .. } = demanded;
        let now = self.clock.now();
        let named = format!("hsd_{}", demanded.record);
        let later = self.upstream.later(action, request, (&named, demanded.location));
        let wanted = demanded.wanted(later.as_ref());
        let mark = action.retry.clone().unwrap_or_default();
        if let Some(held) = released.filter(|held| is_same(held, &wanted)) {
            return Ok(Met::Granted(Arc::new(held.clone())));
        }
        if released.is_none() {
            if let Some(held) = self.desk.covering(&wanted, now) {
                return Ok(Met::Granted(held));
            }
            if let Some(held) = self.desk.same(&wanted) {
                return Ok(Met::Waits { held, rest: None });
            }
            if let Some(later) = &later {
                self.may_wait(later, demanded).await?;
            }
        }
        let rows_at_most = self.rows_at_most(demanded).await;
        let rest = demanded.rest(later.as_ref(), rows_at_most);
        let job = later.filter(|later| later.is_whole).map(|later| later.job);
        let held = demanded.held(&wanted, job, mark, now);
        Ok(Met::Waits { held: Arc::new(held), rest: Some(Box::new(rest)) })
    }

    /// Whether a job may be kept: it is not too long, and a name of its client's own is not another job's already.
    async fn may_wait(&self, later: &LaterJob, demanded: &Demanded<'_, U::Plan>) -> Result<(), Refusal> {
        if later.question.body.len() > HELD_JOB_BYTES_MAX {
            let message = format!("hansard holds jobs of at most {HELD_JOB_BYTES_MAX} bytes for approval.");
            return Err(Refusal::new(Reason::TooLarge, message));
        }
        if !later.is_named || !later.is_whole {
            return Ok(());
        }
        match self.is_there(demanded.asker.by(), &later.job, demanded.record).await {
            Some(false) => Ok(()),
            Some(true) => Err(duplicate(&later.job)),
            None => Err(Refusal::new(
                Reason::Upstream,
                "BigQuery did not say whether the job's name is free, so it was not held. Try again.",
            )),
        }
    }

    /// Whether a held job that was about to be sent before came through; none if nobody could say.
    pub(crate) async fn runs_already(&self, held: &Held) -> Option<bool> {
        match held.job.as_ref().filter(|_| held.tries > 0) {
            Some(job) => self.is_there(held.by(), &job_ref(job), held.record).await,
            None => Some(false),
        }
    }

    /// Whether BigQuery knows a job; none if nobody could say.
    pub(crate) async fn is_there(
        &self,
        by: (&str, Option<&str>),
        job: &JobRef,
        cause: RecordId,
    ) -> Option<bool> {
        let asked = Box::pin(self.probe(by, self.upstream.ask_job(job), Some(cause)));
        let answer = tokio::time::timeout(ASKED_MAX, asked).await.ok()??;
        match answer.status {
            status if status.is_success() => Some(true),
            http::StatusCode::NOT_FOUND => Some(false),
            _ => None,
        }
    }

    /// How many rows the tables have that it changes, where all of them say so.
    async fn rows_at_most(&self, demanded: &Demanded<'_, U::Plan>) -> Option<u64> {
        const CHANGES: &[&str] = &["DELETE", "UPDATE", "MERGE", "TRUNCATE_TABLE", "DROP_TABLE"];
        const TABLES_MAX: usize = 8;
        let deeds = demanded.footprint.statements.iter().filter(|deed| CHANGES.contains(&deed.kind.as_str()));
        let tables: std::collections::BTreeSet<&String> = deeds.flat_map(|deed| &deed.written).collect();
        if tables.is_empty() || tables.len() > TABLES_MAX || !demanded.footprint.is_certain() {
            return None;
        }
        let by = demanded.asker.by();
        let until = tokio::time::Instant::now() + ASKED_MAX;
        let mut rows = 0u64;
        for table in tables {
            let question = self.upstream.ask_rows(table)?;
            let asked = Box::pin(self.probe(by, question, Some(demanded.record)));
            let answer = tokio::time::timeout_at(until, asked).await.ok()??;
            rows = rows.saturating_add(self.upstream.read_rows(&answer.body)?);
        }
        Some(rows)
    }

    /// Keeps it until somebody answers, and says that it waits. A job is its starter's from here on.
    pub(crate) async fn hold(&self, speaks: Speaks, hold: Hold<U::Plan>, open: OpenRecord) -> Reply {
        let Hold { held, rest, text, plan } = hold;
        let is_new = rest.is_some();
        let held = match rest {
            None => held,
            Some(rest) => match self.keep(&held, &rest).await {
                Ok(Some(held)) => held,
                // Whoever was faster is answered; this one is asked again by its client.
                Ok(None) => {
                    let message = "The same request waits for approval since a moment ago. Send it again.";
                    return self.refuse(speaks, Refusal::new(Reason::Upstream, message), open).await;
                }
                Err(refusal) => return self.refuse(speaks, refusal, open).await,
            },
        };
        let (reply, is_recorded) = match &held.job {
            Some(job) => {
                let rest = match self.desk.rest(held.id).await {
                    Ok(rest) => rest,
                    Err(error) => return self.refuse(speaks, unheld(&error), open).await,
                };
                let job = job_ref(job);
                let waits = HeldJob { ended: None, ..seen(&held, &rest, &job) };
                let reply = self.upstream.answer_held(&plan, &waits);
                let said = ("held".to_owned(), text);
                release::own(self, speaks, open, (Outcome::Held, said), reply).await
            }
            None => {
                let refusal = ask_first(&held, &text).with_record(open.id());
                release::whole(self, speaks, open, (Outcome::Held, &refusal)).await
            }
        };
        if !is_recorded && is_new {
            // Whoever asked was told that nothing was done: so it stays.
            let never = Held { mark: String::new(), ..(*held).clone() };
            let said = "Its record could not be closed.";
            let _ = self.end(&never, Stand::Superseded, "stopped", said.to_owned()).await;
        } else if is_new {
            self.announce(&held).await;
        }
        reply
    }

    /// It ends without a beginning; `said` lies sealed, for it may speak of the statement.
    pub(crate) async fn end(
        &self,
        held: &Held,
        stand: Stand,
        reason: &str,
        said: String,
    ) -> Result<Arc<Held>, DeskError> {
        let rest = Rest { said, ..self.desk.rest(held.id).await? };
        let next = Held { stand, reason: reason.to_owned(), ..held.clone() };
        self.desk.change(next, Some(&rest)).await
    }

    async fn keep(&self, held: &Held, rest: &Rest) -> Result<Option<Arc<Held>>, Refusal> {
        let owner =
            Owner { principal: held.owner(), record: held.id.to_string(), excluded_by: String::new() };
        let owned: Vec<Owned> = held.job.iter().map(|job| Owned::job(&job.project, &job.job)).collect();
        if let Some(job) = &held.job {
            let claim = Claim::new(owned.clone(), owner.clone(), held.at);
            match self.owners.claim(claim).await {
                Ok(Claimed::Owned { .. }) => {}
                Ok(Claimed::Taken(_)) => return Err(duplicate(&job_ref(job))),
                Err(error) => {
                    tracing::error!(%error, "a held job can't be claimed");
                    return Err(Refusal::unrecorded());
                }
            }
        }
        let kept = self.desk.hold(held.clone(), rest).await;
        if !matches!(kept, Ok(Some(_)))
            && let Err(error) = self.owners.release(owned, owner).await
        {
            tracing::warn!(%error, "a claim can't be given back");
        }
        kept.map_err(|error| unheld(&error))
    }

    /// Waits for a held job as BigQuery waits for one that runs; none if it is sent, and BigQuery answers.
    pub(crate) async fn while_held(
        &self,
        permit: &Permit<U::Plan>,
        presence: &mut Presence,
    ) -> Option<Stands> {
        let Awaited { job, how } = permit.awaits()?;
        let mut changes = self.desk.changes();
        let at_most = match how {
            Awaiting::Results(at_most) => (*at_most).min(HELD_POLL_MAX),
            Awaiting::Stand | Awaiting::Cancel => Duration::ZERO,
        };
        let until = tokio::time::Instant::now() + at_most;
        let sent_until = tokio::time::Instant::now() + HELD_POLL_MAX;
        loop {
            let held = self.desk.job(&job.project, &job.job)?;
            let is_over = tokio::time::Instant::now() >= until;
            // One that is being sent is as good as sent.
            let is_sending = held.stand == Stand::Approved
                && *how == Awaiting::Stand
                && tokio::time::Instant::now() < sent_until;
            if !held.is_unsent() || is_over && !is_sending {
                return Some(Stands { held, how: *how });
            }
            let until = if is_sending { sent_until } else { until };
            tokio::select! {
                changed = changes.changed() => changed.ok()?,
                () = tokio::time::sleep_until(until) => if is_sending { return Some(Stands { held, how: *how }) },
                () = presence.left() => return Some(Stands { held, how: *how }),
            }
        }
    }

    /// Says how it stands.
    pub(crate) async fn say_held(
        &self,
        speaks: Speaks,
        permit: &Permit<U::Plan>,
        stands: Stands,
        open: OpenRecord,
    ) -> Reply {
        let Stands { mut held, how } = stands;
        if how == Awaiting::Cancel && held.is_unsent() {
            let by = permit.asker().actor.clone();
            match self.withdraw(&held, by, "Its client cancelled the job while it waited for approval.").await
            {
                Ok(cancelled) => held = cancelled,
                Err(refusal) => return self.refuse(speaks, refusal, open).await,
            }
        }
        let Some(job) = held.job.as_ref().map(job_ref) else {
            return self.refuse(speaks, Refusal::unrecorded(), open).await;
        };
        let rest = match self.desk.rest(held.id).await {
            Ok(rest) => rest,
            Err(error) => return self.refuse(speaks, unheld(&error), open).await,
        };
        if let (Awaiting::Results(_), false) = (how, waits(&held)) {
            return self.refuse(speaks, Refusal::new(reason(&held.reason), rest.said), open).await;
        }
        let reply = self.upstream.answer_held(permit.plan(), &seen(&held, &rest, &job));
        release::own(self, speaks, open, (Outcome::Ok, (String::new(), String::new())), reply).await.0
    }
}

impl<P> Demanded<'_, P> {
    fn wanted(&self, later: Option<&LaterJob>) -> Wanted<'_> {
        let does = does(self.footprint);
        let binding = match later {
            Some(later) if later.is_whole => later.binding.clone(),
            // Its data is still to come, so its configuration is what is bound.
            Some(later) => [self.request.head.uri.path().as_bytes(), &later.binding].concat(),
            None => self.request_itself(),
        };
        let is_like = self.footprint.is_about_rows() && !self.footprint.fingerprint.is_empty();
        let alike = later
            .filter(|later| is_like && later.is_whole)
            .map(|later| ledger::sha256(&[&does.0[..], later.frame.as_slice()].concat()));
        Wanted {
            owner: self.asker.principal.clone(),
            connection: &self.asker.connection,
            policy: self.policy,
            rules: self.ruling.demands.iter().map(|demand| demand.rule.as_str()).collect(),
            binding: ledger::sha256(&binding),
            does,
            alike,
            bytes: self.estimate.0,
        }
    }

    /// What a request is that makes no job: method, address, what its headers say, and its body.
    fn request_itself(&self) -> Vec<u8> {
        let head = &self.request.head;
        let mut said = format!("{} {}\n", head.method, head.uri).into_bytes();
        for name in BOUND_HEADERS {
            said.extend_from_slice(format!("{name}: {}\n", header(self.request, name)).as_bytes());
        }
        said.extend_from_slice(self.request.body.read());
        said
    }

    fn held(&self, wanted: &Wanted<'_>, job: Option<JobRef>, mark: String, now: record::Timestamp) -> Held {
        let demands: Vec<Demand> = self.ruling.demands.iter().map(kept).collect();
        let waits = demands.iter().map(|demand| demand.expires_secs).min().unwrap_or_default();
        Held {
            id: self.record,
            record: self.record,
            version: 0,
            stand: Stand::Pending,
            asked: Asked {
                principal: self.who.principal.clone(),
                connection: self.asker.connection.clone(),
                session: self.session,
                method: self.method.to_owned(),
                account: self.asker.account.clone(),
            },
            demands,
            policy: self.policy.to_owned(),
            job: job.map(|job| Job { project: job.project, job: job.job, location: job.location }),
            mark,
            text: text_of(self.action),
            binding: wanted.binding,
            does: wanted.does,
            alike: wanted.alike,
            bytes_max: self.estimate.0.map(|bytes| bound(bytes, self.footprint.tables().len())),
            at: now,
            until: now.plus_secs(waits),
            votes: Vec::new(),
            tries: 0,
            grant: None,
            reason: String::new(),
        }
    }

    fn rest(&self, later: Option<&LaterJob>, rows_at_most: Option<u64>) -> Rest {
        let mut who = self.who.clone();
        who.session = Some(self.session);
        let head = &self.request.head;
        let said = BOUND_HEADERS
            .iter()
            .chain(KEPT_HEADERS)
            .map(|name| ((*name).to_owned(), header(self.request, name)));
        let (verb, uri, body) = match later {
            Some(later) if later.is_whole => {
                let question = &later.question;
                (question.verb.to_string(), question.uri.to_string(), text(&question.body, usize::MAX))
            }
            _ => {
                let body = text(self.request.body.read(), HELD_TEXT_BYTES_MAX);
                (head.method.to_string(), head.uri.to_string(), body)
            }
        };
        Rest {
            who: serde_json::to_value(&who).expect("who asks is JSON"),
            actor: self.asker.actor.clone(),
            verb,
            uri,
            headers: said.filter(|(_, value)| !value.is_empty()).collect::<BTreeMap<_, _>>(),
            body,
            client_ip: self.request.client.ip.to_string(),
            user_agent: header(self.request, "user-agent"),
            sql: self.action.text.sql.clone().unwrap_or_default(),
            labels: self.action.labels.clone(),
            footprint: self.footprint.clone(),
            estimate: self.estimate.0,
            estimate_unknown: self.estimate.1.clone(),
            rows_at_most,
            texts: self.ruling.demands.iter().map(|demand| demand.text.clone()).collect(),
            said: String::new(),
        }
    }
}

fn kept(demand: &policy::Demand) -> Demand {
    Demand { rule: demand.rule.clone(), needed: demand.needed, expires_secs: demand.expires_secs }
}

/// Hash of a statement and its parameters.
pub(crate) fn text_of<P>(action: &Action<P>) -> Digest {
    let params = action.text.params.as_ref().map(ToString::to_string).unwrap_or_default();
    let sql = action.text.sql.as_deref().unwrap_or_default();
    ledger::sha256(format!("{sql}\0{params}").as_bytes())
}

/// What was estimated, and what it may come to: tables grow a little, and BigQuery bills 10 MiB a table at least.
fn bound(bytes: u64, tables: usize) -> u64 {
    const LEAST_OF_A_TABLE: u64 = 10 << 20;
    bytes.saturating_add(bytes / 10).saturating_add(LEAST_OF_A_TABLE * (tables as u64 + 1))
}

/// What it was found to do, but for its parameters.
fn does(footprint: &Footprint) -> Digest {
    let plain = Footprint { parameters: BTreeMap::new(), ..footprint.clone() };
    ledger::sha256(&serde_json::to_vec(&plain).expect("a footprint is JSON"))
}

/// Whether what is sent is what was agreed to.
fn is_same(held: &Held, wanted: &Wanted<'_>) -> bool {
    held.stand == Stand::Approved
        && held.policy == wanted.policy
        && held.binding == wanted.binding
        && held.does == wanted.does
        && held.asked.connection == wanted.connection
        && wanted.rules.iter().all(|rule| held.demands.iter().any(|demand| demand.rule == **rule))
        && held.bytes_max.is_none_or(|most| wanted.bytes.is_some_and(|bytes| bytes <= most))
}

fn text(bytes: &[u8], most: usize) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(most)]).into_owned()
}

fn job_ref(job: &Job) -> JobRef {
    JobRef { project: job.project.clone(), job: job.job.clone(), location: job.location.clone() }
}

pub(crate) fn duplicate(job: &JobRef) -> Refusal {
    let message = format!("Already Exists: Job {}:{}", job.project, job.job);
    Refusal::new(Reason::Duplicate, message)
}

fn waits(held: &Held) -> bool {
    held.is_unsent() || held.stand == Stand::Released
}

fn seen<'a>(held: &'a Held, rest: &'a Rest, job: &'a JobRef) -> HeldJob<'a> {
    HeldJob {
        job,
        ended: (!waits(held)).then_some((held.reason.as_str(), rest.said.as_str())),
        body: rest.body.as_bytes(),
        created: held.at,
        user: &held.asked.principal.email,
    }
}

/// What is no job can't wait: its client asks again once somebody said yes.
fn ask_first(held: &Held, text: &str) -> Refusal {
    let rule = held.demands.first().map(|demand| demand.rule.clone()).unwrap_or_default();
    let instead = format!(
        "Ask for 'hansard approvals approve {}', then send the same request again: it passes once",
        held.id
    );
    let message = format!("Access Denied: {text} {instead}.");
    Refusal { rule, instead, approval: Some(held.id), ..Refusal::new(Reason::Denied, message) }
}

pub(crate) fn unheld(error: &DeskError) -> Refusal {
    match error {
        DeskError::Full => Refusal::new(
            Reason::Denied,
            "Access Denied: too much waits for approval already, so this was not held. Wait for answers, or cancel what \
             is not needed.",
        ),
        DeskError::Changed | DeskError::State(_) => {
            tracing::error!(%error, "a held exchange can't be kept");
            Refusal::unrecorded()
        }
    }
}

/// What kind of no BigQuery's word is.
fn reason(word: &str) -> Reason {
    match word {
        "accessDenied" => Reason::Denied,
        "stopped" => Reason::Stopped,
        "notFound" => Reason::NotFound,
        "duplicate" => Reason::Duplicate,
        _ => Reason::Invalid,
    }
}

/// An estimate as rules ask about it.
pub(crate) fn estimate(rest: &Rest) -> Estimate<'_> {
    match rest.estimate {
        Some(bytes) => Estimate::of(bytes),
        None => Estimate::unknown(&rest.estimate_unknown),
    }
}
