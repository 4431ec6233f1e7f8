//! Jobs belong to whoever started them; and so do their results and BigQuery's sessions.
//!
//! A job's id is claimed before the job is sent where it is known by then, else before its answer leaves.

use ledger::OpenRecord;
use policy::RowsMost;
use record::{Actor, RecordId, SessionId, Statement, Timestamp};
use state::{Claim, Claimed, Followed, Owned, OwnedKind, Owner, Owners, Payer, Spent};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use crate::admission::Permit;
use crate::exchange::Gateway;
use crate::histories::Ended;
use crate::limits::{FIRST_ASKED_AFTER_SECS, RETRIES_MAX, RETRY_SECS};
use crate::refusal::{Reason, Refusal};
use crate::rulebook::Rulebook;
use crate::upstream::{Access, Action, AnswerBody, JobRef, Learnt, Touch, Upstream};

/// Who asks, as far as what comes of it belongs to somebody.
#[derive(Debug)]
pub(crate) struct Asker {
    /// Provider and id, as one string.
    pub(crate) principal: String,
    pub(crate) actor: Actor,
    pub(crate) connection: String,
    /// The account that it acts as upstream, if not the connection's own.
    pub(crate) account: Option<String>,
    /// Empty if none was named.
    pub(crate) task: String,
    /// May read what is another principal's: an auditor, or anybody on a connection with shared history.
    pub(crate) reads_all: bool,
    /// May change it too.
    pub(crate) changes_all: bool,
}

impl Asker {
    /// Through what it is sent: the connection, and the account if not its own.
    pub(crate) fn by(&self) -> (&str, Option<&str>) {
        (&self.connection, self.account.as_deref())
    }

    /// Whose budget it counts against.
    pub(crate) fn payer(&self) -> Payer {
        Payer { principal: self.principal.clone(), task: self.task.clone() }
    }
}

/// Marks what belongs to an exchange that a rule leaves out of the record: the exchange, its project, the rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark(pub(crate) String);

impl Mark {
    pub(crate) fn new(record: RecordId, project: &str, rule: &str) -> Self {
        Self(format!("{record} {project} {rule}"))
    }

    /// The rule; none if nothing is left out.
    pub(crate) fn rule(&self) -> Option<&str> {
        self.0.splitn(3, ' ').nth(2)
    }

    fn project(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

/// What one exchange claims for its asker.
pub(crate) struct Claims {
    owners: Arc<Owners>,
    asker: Arc<Asker>,
    record: RecordId,
    session: SessionId,
    /// What it starts: given back if the upstream refuses it, as far as it is this exchange's claim.
    started: Vec<Owned>,
    /// The kind of statement that was decided on; empty if it is not known for certain.
    decided: String,
    /// Of a script: the kinds of its statements.
    kinds: Vec<String>,
    fingerprint: String,
    /// What puts back the tables that it changes.
    undo: Vec<String>,
    /// How many rows the result may have.
    rows: Option<RowsMost>,
    excluded_by: Mark,
    /// Hashes of the tables that were decided on, of what is left out, where they are known for certain.
    tables: Option<HashSet<String>>,
    /// Tells if it has a text of its own.
    is_statement: bool,
}

impl Claims {
    /// Nothing yet.
    pub(crate) fn of(owners: Arc<Owners>, asker: Arc<Asker>, open: &OpenRecord) -> Self {
        Self {
            owners,
            asker,
            record: open.id(),
            session: open.session(),
            started: Vec::new(),
            decided: String::new(),
            kinds: Vec::new(),
            fingerprint: String::new(),
            undo: Vec::new(),
            rows: None,
            excluded_by: Mark::default(),
            tables: None,
            is_statement: false,
        }
    }

    /// With what was decided: the kind of statement, and how many rows its result may have.
    fn decided_as<P>(mut self, permit: &Permit<P>) -> Self {
        let judged = permit.judged();
        self.decided.clone_from(&judged.kind);
        self.kinds.clone_from(&judged.kinds);
        self.fingerprint.clone_from(&judged.fingerprint);
        self.rows.clone_from(&judged.rows);
        self.excluded_by.clone_from(&judged.excluded_by);
        self.tables = judged.tables.as_ref().map(|tables| {
            let record = self.record.to_string();
            tables.iter().map(|table| hash_of(&record, table)).collect()
        });
        self.is_statement = judged.is_statement;
        self
    }

    /// The no to a result of more rows than it may have: by its own word, else by what came so far.
    pub(crate) fn too_many(&self, body: &dyn AnswerBody) -> Option<Refusal> {
        let rows = self.rows.as_ref()?;
        let (seen, total) = body.rows();
        let count = total.unwrap_or(0).max(seen);
        (count > rows.most).then(|| Refusal::ruled(rows.denial(count, total == Some(count))))
    }

    /// Claims a job that is about to be sent, and follows it: whatever becomes of us, its end is recorded.
    async fn start(&mut self, job: &JobRef, now: Timestamp) -> Result<(), Refusal> {
        let owned = vec![Owned::job(&job.project, &job.job)];
        let claim = Claim { is_statement: true, ..self.claim(owned.clone(), Some(job), now) };
        match self.owners.claim(claim).await {
            Ok(Claimed::Owned { .. }) => {
                self.started = owned;
                Ok(())
            }
            Ok(Claimed::Taken(_)) => Err(Refusal::new(
                Reason::Duplicate,
                format!(
                    "Already Exists: Job {}:{} was started by somebody else. Use another job id.",
                    job.project, job.job
                ),
            )),
            Err(error) => {
                tracing::error!(%error, "a job can't be claimed");
                Err(Refusal::unrecorded())
            }
        }
    }

    /// How what it started ended, as far as its answer says.
    pub(crate) fn ended<'a>(&'a self, learnt: &Learnt, failed: bool) -> (SessionId, Ended<'a>) {
        // What is under way may still fail: its end says so.
        let failed = (failed || learnt.under_way.is_none()).then_some(failed);
        let bytes = learnt.spent.unwrap_or(0);
        (self.session, Ended { fingerprint: &self.fingerprint, failed, bytes })
    }

    /// The job that runs as another kind of statement than was decided on, if it can still be cancelled.
    pub(crate) fn mismatched(&self, learnt: &Learnt) -> Option<JobRef> {
        let ran = &learnt.statement.kind;
        let differs = !self.decided.is_empty() && !ran.is_empty() && *ran != self.decided;
        learnt.under_way.clone().filter(|_| differs)
    }

    /// Tells if what a rule leaves out ran as another kind of statement than was decided on, or on other tables.
    fn is_another(&self, ran: &Statement) -> bool {
        !self.excluded_by.is_none()
            && (!ran.decided_as.is_empty()
                || has_others(self.tables.as_ref(), &self.record.to_string(), &ran.tables))
    }

    /// The job of a statement that a rule leaves out and whose answer does not say which tables it read: its end does.
    fn to_be_seen(&self, learnt: &Learnt) -> Option<JobRef> {
        let is_untold = !self.excluded_by.is_none() && !self.decided.is_empty();
        if !is_untold || learnt.under_way.is_some() || !learnt.statement.tables.is_empty() {
            return None;
        }
        let job = learnt.owns.iter().find(|owned| owned.kind == OwnedKind::Job)?;
        let (project, job) = job.name.rsplit_once(':')?;
        Some(JobRef { project: project.to_owned(), job: job.to_owned(), location: learnt.location.clone() })
    }

    /// What puts back the tables that it changes.
    pub(crate) fn undo(&self) -> &[String] {
        &self.undo
    }

    /// Through what it was sent.
    pub(crate) fn by(&self) -> (&str, Option<&str>) {
        self.asker.by()
    }

    /// Claims what an answer taught. False if that can't be made durable: then the answer must not leave.
    pub(crate) async fn learn(&mut self, learnt: &mut Learnt, now: Timestamp) -> bool {
        let ran = &mut learnt.statement;
        ran.undo.clone_from(&self.undo);
        if !self.decided.is_empty() && !ran.kind.is_empty() && ran.kind != self.decided {
            tracing::error!(record = %self.record, decided = self.decided, ran = ran.kind, "BigQuery ran another statement");
            ran.decided_as.clone_from(&self.decided);
        }
        learnt.is_another = self.is_another(&learnt.statement);
        if learnt.is_another {
            tracing::error!(record = %self.record, "what a rule leaves out ran as something else: it is recorded");
            let mark = std::mem::take(&mut self.excluded_by);
            if let Err(error) = self.owners.tell(mark.0).await {
                tracing::error!(%error, "what an answer taught can't be claimed");
                return false;
            }
        }
        if let Some(job) = self.to_be_seen(learnt) {
            // What it was billed counts at its end.
            (learnt.under_way, learnt.spent) = (Some(job), None);
        }
        let owned = std::mem::take(&mut learnt.owns);
        let under_way = learnt.under_way.take();
        let spent = learnt.spent.take().filter(|bytes| *bytes > 0).map(|bytes| Spent {
            payer: self.asker.payer(),
            bytes,
            at: now,
        });
        if owned.is_empty() && under_way.is_none() && spent.is_none() {
            return true;
        }
        match self.owners.claim(Claim { spent, ..self.claim(owned, under_way.as_ref(), now) }).await {
            Ok(Claimed::Owned { .. }) => true,
            // It was let through to somebody else's, so it stays somebody else's.
            Ok(Claimed::Taken(_)) => true,
            Err(error) => {
                tracing::error!(%error, "what an answer taught can't be claimed");
                false
            }
        }
    }

    /// The upstream refused it: no such job came to be by this exchange.
    pub(crate) async fn give_back(&mut self) {
        let started = std::mem::take(&mut self.started);
        if !started.is_empty()
            && let Err(error) = self.owners.release(started, self.owner()).await
        {
            tracing::warn!(%error, "a claim can't be given back");
        }
    }

    fn owner(&self) -> Owner {
        Owner {
            principal: self.asker.principal.clone(),
            record: self.record.to_string(),
            excluded_by: self.excluded_by.0.clone(),
        }
    }

    fn claim(&self, owned: Vec<Owned>, follow: Option<&JobRef>, now: Timestamp) -> Claim {
        let follow = follow.map(|job| Followed {
            project: job.project.clone(),
            job: job.job.clone(),
            location: job.location.clone(),
            connection: self.asker.connection.clone(),
            principal: self.asker.principal.clone(),
            record: self.record.to_string(),
            session: self.session.to_string(),
            account: self.asker.account.clone(),
            task: self.asker.task.clone(),
            decided: self.decided.clone(),
            fingerprint: self.fingerprint.clone(),
            kinds: self.kinds.join(","),
            excluded_by: self.excluded_by.0.clone(),
            tables: self
                .tables
                .as_ref()
                .map(|hashes| serde_json::to_string(hashes).expect("hashes are JSON"))
                .unwrap_or_default(),
            actor: serde_json::to_string(&self.asker.actor).expect("an actor is JSON"),
            next_at: now.plus_secs(FIRST_ASKED_AFTER_SECS),
            asked: 0,
            since: now,
        });
        Claim { follow, is_statement: self.is_statement, ..Claim::new(owned, self.owner(), now) }
    }
}

impl<U: Upstream> Gateway<U> {
    /// Keeps what a permitted exchange may change, and claims what it starts, before it is sent.
    pub(crate) async fn claim(&self, permit: &Permit<U::Plan>, open: &OpenRecord) -> Result<Claims, Refusal> {
        let undo = self.keep_tables(permit, open.id()).await?;
        if let Some(grant) = permit.judged().grant {
            Box::pin(self.use_grant(grant)).await?;
        }
        let mut claims = Claims::of(self.owners.clone(), permit.asker(), open).decided_as(permit);
        claims.undo = undo;
        if let Some(job) = permit.starts() {
            claims.start(job, self.clock.now()).await?;
        }
        Ok(claims)
    }

    /// Whether everything that a request reaches for is the asker's own, or may be reached all the same.
    pub(crate) async fn check_touches(&self, asker: &Asker, touches: &[Touch]) -> Result<(), Refusal> {
        for touch in touches {
            let free = match touch.access {
                Access::Read => asker.reads_all,
                Access::Change => asker.changes_all,
            };
            if free {
                continue;
            }
            let owner = self.owners.owner(&touch.owned).await.map_err(|error| {
                tracing::error!(%error, "owners can't be read");
                Refusal::unrecorded()
            })?;
            match owner {
                Some(owner) if owner.principal == asker.principal => {}
                Some(_) => return Err(not_yours(&touch.owned)),
                None => return Err(not_known(&touch.owned)),
            }
        }
        Ok(())
    }

    /// The mark of an excluded exchange that a request belongs to: it asks for that exchange's job, rows or stream, reads
    /// nothing else and changes nothing, and whoever asks owns it. All else is judged by itself.
    pub(crate) async fn belongs_to_excluded(
        &self,
        rulebook: &Rulebook,
        asker: &Asker,
        action: &Action<U::Plan>,
    ) -> Result<Option<Mark>, Refusal> {
        if !rulebook.rules.excludes() || !only_reads(action) {
            return Ok(None);
        }
        let mut mark: Option<Mark> = None;
        let mut results = Vec::new();
        for touch in &action.touches {
            let owner = self.owners.owner(&touch.owned).await.map_err(|error| {
                tracing::error!(%error, "owners can't be read");
                Refusal::unrecorded()
            })?;
            let own = owner.filter(|owner| owner.principal == asker.principal);
            let Some(found) = own.map(|owner| Mark(owner.excluded_by)).filter(|found| !found.is_none())
            else {
                return Ok(None);
            };
            if mark.as_ref().is_some_and(|mark| *mark != found) {
                return Ok(None);
            }
            if touch.owned.kind == OwnedKind::Table {
                results.push(format!("{}.{}", found.project(), touch.owned.name));
            }
            mark = Some(found);
        }
        // Each table that it reads is a result of that exchange, in the project that the exchange ran in.
        let reads = action.footprint.statements.iter().flat_map(|deed| &deed.read);
        let is_all = reads.into_iter().all(|table| results.contains(table));
        let rules = &rulebook.rules;
        Ok(mark.filter(|mark| is_all && mark.rule().is_some_and(|rule| rules.excludes_by(rule))))
    }

    /// The record of the exchange that this one repeats: the same principal sent the same mark, or starts the
    /// job that it started before.
    pub(crate) async fn repeats(
        &self,
        asker: &Asker,
        starts: Option<&JobRef>,
        retry: Option<&str>,
        record: RecordId,
    ) -> Option<RecordId> {
        if let Some(job) = starts
            && let Ok(Some(owner)) = self.owners.owner(&Owned::job(&job.project, &job.job)).await
            && owner.principal == asker.principal
        {
            return owner.record.parse().ok();
        }
        self.retries.first(&format!("{}\0{}", asker.principal, retry?), record, self.clock.now())
    }
}

/// Tells if a request reads what it names and does nothing else, as far as that is known without a text.
fn only_reads<P>(action: &Action<P>) -> bool {
    let footprint = &action.footprint;
    action.text.sql.is_none()
        && action.starts.is_none()
        && footprint.access == record::Access::Read
        && action.touches.iter().all(|touch| touch.access == Access::Read)
        && footprint.statements.iter().all(|deed| deed.written.is_empty() && deed.destinations.is_empty())
}

/// A table of what is left out, as the state keeps it: its name is nobody's to read there.
fn hash_of(record: &str, table: &str) -> String {
    ledger::sha256(format!("{record}\0{table}").as_bytes()).to_string()
}

/// Hashes that a followed job keeps.
pub(crate) fn hashes_of(text: &str) -> Option<HashSet<String>> {
    serde_json::from_str(text).ok()
}

/// Tells if tables were reached that were not decided on, where those are known.
pub(crate) fn has_others(decided: Option<&HashSet<String>>, record: &str, ran: &[String]) -> bool {
    let Some(decided) = decided else { return false };
    ran.iter().any(|table| !decided.contains(&hash_of(record, table)))
}

/// Made by this gateway, for somebody else.
fn not_yours(owned: &Owned) -> Refusal {
    Refusal::new(
        Reason::Denied,
        format!(
            "Access Denied: {} is another principal's. Run the statement yourself, or ask for 'shared_history' on \
             the connection.",
            named(owned)
        ),
    )
}

/// Not made by this gateway: there is no such thing, or it is none of its principals'.
fn not_known(owned: &Owned) -> Refusal {
    Refusal::new(
        Reason::NotFound,
        format!("Not found: {}. hansard shows what was started through it.", named(owned)),
    )
}

fn named(owned: &Owned) -> String {
    let what = match owned.kind {
        OwnedKind::Job => "Job",
        OwnedKind::Table => "Anonymous result table",
        OwnedKind::Session => "BigQuery session",
        OwnedKind::Stream => "Stream",
    };
    let name: String = owned.name.chars().filter(|c| !c.is_control()).take(200).collect();
    format!("{what} {name}")
}

/// Marks of requests that clients may send again.
#[derive(Default)]
pub(crate) struct Retries {
    seen: Mutex<HashMap<String, (RecordId, Timestamp)>>,
}

impl Retries {
    /// The record that carried this mark first, if one did lately; else this one is the first.
    fn first(&self, mark: &str, record: RecordId, now: Timestamp) -> Option<RecordId> {
        let mut seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let lives = |at: Timestamp| at.plus_secs(RETRY_SECS) > now;
        if let Some((first, at)) = seen.get(mark)
            && lives(*at)
        {
            return Some(*first);
        }
        if seen.len() >= RETRIES_MAX {
            seen.retain(|_, (_, at)| lives(*at));
            if seen.len() >= RETRIES_MAX {
                seen.clear();
            }
        }
        seen.insert(mark.to_owned(), (record, now));
        None
    }
}
