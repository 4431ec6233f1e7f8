//! Follows jobs to their end, also when nobody asks: the final state of every job is a record.
//!
//! Each question is an exchange of the gateway's own. What is followed survives restarts, so a job that a crash
//! left open is asked for by the next start.

use http::StatusCode;
use ledger::{Closing, IntentDraft, StatementText};
use record::{
    Actor, Decision, Effect, Outcome, RecordId, RecordKind, SessionId, Status, Target, Task, Timestamp,
};
use state::{Claim, ClaimError, Followed, Owned, Owner, Payer, Spent};
use std::sync::Arc;
use std::time::Duration;

use crate::admission::{Cause, Told, exclude};
use crate::exchange::Gateway;
use crate::histories::Ended;
use crate::limits::{
    ASKED_EVERY_MAX_SECS, CHILD_PAGES_MAX, FOLLOWED_AT_A_TIME, FOLLOWED_SECS_MAX, MISSED_SECS_MAX,
};
use crate::ownership::{Mark, has_others, hashes_of};
use crate::upstream::{JobRef, JobSeen, Upstream};

/// How a followed job stands.
enum Stand {
    Done(Box<JobSeen>),
    /// As another statement than was decided on, if that is so.
    UnderWay {
        is_mismatched: bool,
    },
    /// BigQuery knows no such job.
    Missing,
    /// Nobody could say this time.
    Unknown,
}

impl<U: Upstream> Gateway<U> {
    /// Follows until the task is ended.
    pub async fn follow_jobs(self: Arc<Self>) {
        let mut asking = tokio::task::JoinSet::new();
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        loop {
            ticks.tick().await;
            while asking.try_join_next().is_some() {}
            let free = FOLLOWED_AT_A_TIME.saturating_sub(asking.len());
            if free == 0 {
                continue;
            }
            for job in self.due(free).await {
                let gateway = self.clone();
                asking.spawn(async move { gateway.follow(job).await });
            }
        }
    }

    /// What is due; each is put off before it is asked, so that it is not asked twice at once.
    async fn due(&self, limit: usize) -> Vec<Followed> {
        let (state, now) = (self.state.clone(), self.clock.now());
        let read = move || {
            let due = state.followed_due(now, limit)?;
            for job in &due {
                state.follow_later(job, again_at(job, now))?;
            }
            Ok::<_, state::StateError>(due)
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(due)) => due,
            Ok(Err(error)) => {
                tracing::error!(%error, "followed jobs can't be read");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    async fn follow(&self, followed: Followed) {
        let job = JobRef {
            project: followed.project.clone(),
            job: followed.job.clone(),
            location: followed.location.clone(),
        };
        let is_missed = followed.since.plus_secs(MISSED_SECS_MAX) <= self.clock.now();
        let is_late = followed.since.plus_secs(FOLLOWED_SECS_MAX) <= self.clock.now();
        let mut children = Vec::new();
        let end = match self.stand(&followed, &job).await {
            Stand::Done(seen) => {
                if seen.has_children {
                    let Some(all) = self.children(&followed, &job).await else { return };
                    children = all;
                }
                *seen
            }
            Stand::Missing if is_missed => lost(job.clone(), "notFound"),
            Stand::UnderWay { is_mismatched: true } if !is_late => {
                let by = (followed.connection.as_str(), followed.account.as_deref());
                if let Some(cause) = record_of(&followed) {
                    self.stop_mismatch(by, &job, cause).await;
                }
                return;
            }
            Stand::UnderWay { .. } | Stand::Missing | Stand::Unknown if is_late => {
                lost(job.clone(), "followedTooLong")
            }
            Stand::UnderWay { .. } | Stand::Missing | Stand::Unknown => return,
        };
        let spent = end.spent.filter(|bytes| *bytes > 0);
        let has_failed = !end.status.reason.is_empty();
        let Ok(excluded_by) = self.left_out_by(&followed, &end, &children).await else { return };
        for child in children {
            if !self.record_job(&followed, child, (Some(&job), &excluded_by)).await {
                return;
            }
        }
        if self.record_job(&followed, end, (None, &excluded_by)).await {
            self.remember_end(&followed, has_failed, spent.unwrap_or(0));
            let state = self.state.clone();
            let at = self.clock.now();
            let payer = Payer { principal: followed.principal.clone(), task: followed.task.clone() };
            let spent = spent.map(|bytes| Spent { payer, bytes, at });
            let forget = move || state.unfollow(&followed.project, &followed.job, spent.as_ref());
            if let Ok(Err(error)) = tokio::task::spawn_blocking(forget).await {
                tracing::error!(%error, "a job is followed further though it has ended");
            }
        }
    }

    async fn stand(&self, followed: &Followed, job: &JobRef) -> Stand {
        let Some(answer) = self
            .probe(
                (&followed.connection, followed.account.as_deref()),
                self.upstream.ask_job(job),
                cause(followed),
            )
            .await
        else {
            return Stand::Unknown;
        };
        match answer.status {
            StatusCode::OK => {
                match self.upstream.read_jobs(&answer.body).and_then(|mut seen| seen.jobs.pop()) {
                    Some(seen) if seen.is_done => Stand::Done(Box::new(seen)),
                    Some(seen) => {
                        let is_mismatched = is_mismatched(followed, &seen)
                            || self.has_another_child(followed, job, &seen).await;
                        Stand::UnderWay { is_mismatched }
                    }
                    None => Stand::Unknown,
                }
            }
            StatusCode::NOT_FOUND => Stand::Missing,
            _ => Stand::Unknown,
        }
    }

    /// Every child of a script, in the order in which they ran; none if it must be tried again.
    async fn children(&self, followed: &Followed, parent: &JobRef) -> Option<Vec<JobSeen>> {
        let mut page: Option<String> = None;
        let mut children = Vec::new();
        for _ in 0..CHILD_PAGES_MAX {
            let question = self.upstream.ask_children(parent, page.as_deref());
            let answer = self
                .probe((&followed.connection, followed.account.as_deref()), question, cause(followed))
                .await;
            let answer = answer.filter(|answer| answer.status == StatusCode::OK)?;
            let seen = self.upstream.read_jobs(&answer.body)?;
            children.extend(seen.jobs);
            page = seen.next_page;
            if page.is_none() {
                break;
            }
        }
        // BigQuery lists the newest first.
        children.reverse();
        Some(children)
    }

    /// The rule that leaves out what is followed; empty if none does, or if any of it ran as something else than was decided
    /// on: then all that belongs to it is told from now on. An error if that can't be made durable.
    async fn left_out_by(
        &self,
        followed: &Followed,
        end: &JobSeen,
        children: &[JobSeen],
    ) -> Result<String, ClaimError> {
        let decided = hashes_of(&followed.tables);
        let is_other =
            |seen: &JobSeen| has_others(decided.as_ref(), &followed.record, &seen.statement.tables);
        // An end that nobody saw may be that of anything.
        let is_told = !end.is_done
            || is_mismatched(followed, end)
            || is_other(end)
            || children.iter().any(|child| is_another(followed, child) || is_other(child));
        if followed.excluded_by.is_empty() || !is_told {
            return Ok(followed.excluded_by.clone());
        }
        tracing::error!(
            job = followed.job,
            "what a rule leaves out may have run as something else: it is recorded"
        );
        self.owners.tell(followed.excluded_by.clone()).await.map(|()| String::new())
    }

    /// Whether a script that runs has a child of a kind that was not decided on. Asked only where that stops it.
    async fn has_another_child(&self, followed: &Followed, job: &JobRef, seen: &JobSeen) -> bool {
        if followed.kinds.is_empty() || !seen.has_children || !self.rulebook().stops_mismatches {
            return false;
        }
        let question = self.upstream.ask_children(job, None);
        let by = (followed.connection.as_str(), followed.account.as_deref());
        let answer = self.probe(by, question, cause(followed)).await;
        let seen = answer.and_then(|answer| self.upstream.read_jobs(&answer.body));
        seen.is_some_and(|seen| seen.jobs.iter().any(|child| is_another(followed, child)))
    }

    /// What rules ask about a session's past.
    fn remember_end(&self, followed: &Followed, has_failed: bool, bytes: u64) {
        if let Ok(session) = followed.session.parse() {
            let ended = Ended { fingerprint: &followed.fingerprint, failed: Some(has_failed), bytes };
            self.histories.ended(session, &ended, self.clock.now());
        }
    }

    /// A job runs as another kind of statement than was decided on: where the configuration says so, it is cancelled.
    pub(crate) async fn stop_mismatch(&self, by: (&str, Option<&str>), job: &JobRef, cause: RecordId) {
        if !self.rulebook().stops_mismatches {
            return;
        }
        // A question of the gateway's own is an exchange, whose answer starts no job.
        let asked = Box::pin(self.probe(by, self.upstream.cancel_job(job), Some(cause))).await;
        let is_cancelled = asked.is_some_and(|answer| answer.status.is_success());
        tracing::error!(job = job.job, is_cancelled, "BigQuery runs another statement than was decided on");
    }

    /// Ends a session: its streams are closed, what waits in it is withdrawn, and what it started is cancelled. Returns the jobs that BigQuery
    /// was asked to cancel.
    pub async fn end_session(&self, session: SessionId, cause: RecordId) -> Result<Vec<String>, String> {
        self.sessions.end(session);
        self.withdraw_session(session).await;
        let state = self.state.clone();
        let jobs = tokio::task::spawn_blocking(move || state.followed_of(session)).await;
        let jobs = jobs.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let mut cancelled = Vec::new();
        for job in jobs {
            let named = JobRef { project: job.project, job: job.job, location: job.location };
            let answer = self
                .probe(
                    (&job.connection, job.account.as_deref()),
                    self.upstream.cancel_job(&named),
                    Some(cause),
                )
                .await;
            if answer.is_some_and(|answer| answer.status.is_success()) {
                cancelled.push(format!("{}:{}", named.project, named.job));
            }
        }
        Ok(cancelled)
    }

    /// One record of a job's end, with the actor of the exchange that started it.
    async fn record_job(
        &self,
        followed: &Followed,
        seen: JobSeen,
        (parent, excluded_by): (Option<&JobRef>, &str),
    ) -> bool {
        let Ok(session) = followed.session.parse::<SessionId>() else { return true };
        let actor: Actor =
            serde_json::from_str(&followed.actor).unwrap_or_else(|_| ledger::Ledger::gateway_actor());
        let now = self.clock.now();
        let mut owned = seen.owns.clone();
        owned.push(Owned::job(&seen.job.project, &seen.job.job));
        let owner = Owner {
            principal: followed.principal.clone(),
            record: followed.record.clone(),
            excluded_by: excluded_by.to_owned(),
        };
        let claim = Claim { is_statement: excluded_by.is_empty(), ..Claim::new(owned, owner, now) };
        if self.owners.claim(claim).await.is_err() {
            return false;
        }
        let mut statement = seen.statement.clone();
        let decided = match parent {
            None => is_mismatched(followed, &seen).then_some(&followed.decided),
            Some(_) => is_another(followed, &seen).then_some(&followed.kinds),
        };
        if let Some(decided) = decided {
            statement.decided_as.clone_from(decided);
            self.metrics.mismatch();
        }
        let mut facts = seen.facts;
        if let Some(parent) = parent
            && facts.parent.is_empty()
        {
            facts.parent = parent.job.clone();
        }
        let outcome = match (seen.is_done, seen.status.reason.is_empty()) {
            (true, true) => Outcome::Ok,
            (true, false) => Outcome::Error,
            (false, _) => Outcome::Unknown,
        };
        let rulebook = self.rulebook();
        let mut draft = IntentDraft {
            task: Task { labels: seen.labels, ..Task::default() },
            target: Target {
                connection: followed.connection.clone(),
                project: seen.job.project,
                location: seen.job.location.clone(),
                ..Target::default()
            },
            statement: statement.clone(),
            job: facts.clone(),
            decision: Decision {
                effect: Effect::Allow,
                policy: rulebook.policy.clone(),
                ..Decision::default()
            },
            text: StatementText { sql: seen.sql, ..StatementText::default() },
            caused_by: record_of(followed),
            ..IntentDraft::new(session, RecordKind::Job, now, actor)
        };
        let recording = match Mark(excluded_by.to_owned()).rule() {
            None => rulebook.recording,
            Some(rule) => exclude(&mut draft, rule, rulebook.recording),
        };
        let Ok(open) = self.ledger.open_record(draft, recording).await else { return false };
        let closing = Closing {
            statement,
            job: facts,
            location: seen.job.location,
            ..Closing::new(outcome, seen.status)
        };
        open.close(closing, ledger::Payload::default()).await.is_ok()
    }
}

/// Whether it runs as another kind of statement than was decided on.
fn is_mismatched(followed: &Followed, seen: &JobSeen) -> bool {
    let ran = &seen.statement.kind;
    !followed.decided.is_empty() && !ran.is_empty() && *ran != followed.decided
}

/// Whether a script's child is of a kind that the script was not found to have. What is evaluated on the way is a
/// SELECT.
fn is_another(followed: &Followed, child: &JobSeen) -> bool {
    let ran = &child.statement.kind;
    !followed.kinds.is_empty()
        && !matches!(ran.as_str(), "" | "SELECT" | "SCRIPT")
        && !followed.kinds.split(',').any(|kind| kind == ran)
}

fn cause(followed: &Followed) -> Cause {
    let told = match Mark(followed.excluded_by.clone()).rule() {
        None => Told::All,
        Some(rule) => Told::Excluded(rule.to_owned()),
    };
    Cause { record: record_of(followed), told }
}

fn record_of(followed: &Followed) -> Option<RecordId> {
    followed.record.parse().ok()
}

/// 1, 2, 4 ... seconds.
fn again_at(job: &Followed, now: Timestamp) -> Timestamp {
    now.plus_secs((1i64 << job.asked.min(30)).min(ASKED_EVERY_MAX_SECS))
}

/// Nobody can say how it ended.
fn lost(job: JobRef, reason: &str) -> JobSeen {
    let facts = record::Job { id: job.job.clone(), ..record::Job::default() };
    let status = Status { reason: reason.to_owned(), ..Status::default() };
    JobSeen { job, facts, status, ..JobSeen::default() }
}
