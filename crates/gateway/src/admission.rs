//! Admission: who asks, through what, doing what, and whether it may.

use approvals::Held;
use identity::{Identified, Stranger};
use ledger::{IntentDraft, LeftOutDraft, OpenRecord, Recording, StatementText, failpoint};
use policy::{Keep, RecordAs, RowsMost};
use record::{
    Actor, ApprovalRef, Client, Decision, Effect, Footprint, Job, LeftOut, RecordId, RecordKind,
    RequestFacts, Retained, SessionId, Statement, Target, Task,
};
use registry::Connection;
use std::cell::LazyCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::exchange::Gateway;
use crate::hold::{Hold, Met, duplicate, text_of};
use crate::ownership::{Asker, Mark};
use crate::refusal::{Reason, Refusal};
use crate::request::{BodyError, Presence, Request, RequestBody};
use crate::rulebook::Rulebook;
use crate::upstream::{Action, Awaited, JobRef, Marks, Upstream};

/// The principal of the gateway's own questions.
const OWN_PRINCIPAL: &str = "hansard/gateway";

/// What admission came to. The intent is complete, whatever the ruling.
pub(crate) struct Admission<P> {
    pub(crate) id: RecordId,
    pub(crate) intent: Box<IntentDraft>,
    pub(crate) recording: Recording,
    /// What rules say to the client.
    pub(crate) warnings: Vec<String>,
    pub(crate) ruling: Ruling<P>,
}

/// What admission came to where nothing could be ruled.
pub(crate) struct Refused {
    pub(crate) id: RecordId,
    pub(crate) intent: Box<IntentDraft>,
    pub(crate) recording: Recording,
}

/// The ruling.
pub(crate) enum Ruling<P> {
    Permitted(Permit<P>),
    /// It waits for a human.
    Held(Box<Hold<P>>),
    Refused(Refusal),
}

/// Leave to forward one request, given by admission only.
pub struct Permit<P> {
    registry: Arc<registry::Registry>,
    connection: usize,
    asker: Arc<Asker>,
    starts: Option<JobRef>,
    awaits: Option<Awaited>,
    judged: Box<Judged>,
    plan: P,
}

/// What was decided besides that it may go.
pub(crate) struct Judged {
    /// The kind of statement, where that is certain; else empty.
    pub(crate) kind: String,
    /// Of a script of which all is certain: the kinds of its statements.
    pub(crate) kinds: Vec<String>,
    /// Of the statement; empty where it was not read.
    pub(crate) fingerprint: String,
    /// How many rows its result may have.
    pub(crate) rows: Option<RowsMost>,
    /// Tables to keep before it is forwarded.
    pub(crate) keeps: Vec<Keep>,
    /// The record that their snapshots are named by: that of the first try.
    pub(crate) kept_as: RecordId,
    /// The yes that it uses.
    pub(crate) grant: Option<RecordId>,
    /// The billing project, and where it runs; empty if that is not said.
    pub(crate) place: (String, String),
    pub(crate) excluded_by: Mark,
    /// Tables that were decided on, of what is left out, where they are known for certain.
    pub(crate) tables: Option<Vec<String>>,
    /// Tells if it has a text of its own.
    pub(crate) is_statement: bool,
}

impl Judged {
    /// Of a question of the gateway's own.
    fn nothing(id: RecordId) -> Self {
        Self {
            kind: String::new(),
            kinds: Vec::new(),
            fingerprint: String::new(),
            rows: None,
            keeps: Vec::new(),
            kept_as: id,
            grant: None,
            place: (String::new(), String::new()),
            excluded_by: Mark::default(),
            tables: None,
            is_statement: false,
        }
    }
}

/// A request that may go upstream: permitted, and its intent durable. Made by `Permit::clear` only.
pub struct Cleared<P> {
    registry: Arc<registry::Registry>,
    connection: usize,
    asker: Arc<Asker>,
    plan: P,
    request: Request,
    record: RecordId,
    session: SessionId,
    keeps_rows: bool,
    excluded_by: String,
    upload: ledger::UploadRecorder,
}

impl<P> Permit<P> {
    /// Who has it.
    pub(crate) fn asker(&self) -> Arc<Asker> {
        self.asker.clone()
    }

    /// The job that the request starts, where its id is known.
    pub(crate) fn starts(&self) -> Option<&JobRef> {
        self.starts.as_ref()
    }

    /// The job that the request asks for.
    pub(crate) fn awaits(&self) -> Option<&Awaited> {
        self.awaits.as_ref()
    }

    /// What was decided besides.
    pub(crate) fn judged(&self) -> &Judged {
        &self.judged
    }

    /// How it would be forwarded.
    pub(crate) fn plan(&self) -> &P {
        &self.plan
    }

    /// The only way to a `Cleared`: with the record open.
    pub fn clear(self, request: Request, open: &OpenRecord) -> Cleared<P> {
        Cleared {
            registry: self.registry,
            connection: self.connection,
            asker: self.asker,
            plan: self.plan,
            request,
            record: open.id(),
            session: open.session(),
            keeps_rows: open.keeps_rows(),
            excluded_by: self.judged.excluded_by.0,
            upload: open.upload_recorder(),
        }
    }
}

/// A cleared request, taken apart by whoever forwards it.
pub struct Forwardable<P> {
    pub plan: P,
    pub head: http::request::Parts,
    pub body: RequestBody,
    pub client: crate::ClientAddress,
    pub presence: Presence,
    pub record: RecordId,
    pub session: SessionId,
    /// Whose request it is: provider and id, as one string.
    pub principal: String,
    /// Whether it may see what is others'.
    pub reads_all: bool,
    /// The account that it acts as, if not the connection's own.
    pub account: Option<String>,
    /// Whether the record keeps what is delivered.
    pub keeps_rows: bool,
    /// The mark of what a rule leaves out of the record, as in `state::Owner`.
    pub excluded_by: String,
    /// Everything of the body that was not inspected passes through it.
    pub upload: ledger::UploadRecorder,
    registry: Arc<registry::Registry>,
    connection: usize,
}

impl<P> Forwardable<P> {
    /// The connection to forward by.
    pub fn connection(&self) -> &Connection {
        &self.registry.connections[self.connection]
    }
}

impl<P> Forwardable<P> {
    /// The same with another plan, and the plan that it had.
    pub fn replace_plan<Q>(self, plan: Q) -> (P, Forwardable<Q>) {
        let parts = Forwardable {
            plan,
            head: self.head,
            body: self.body,
            client: self.client,
            presence: self.presence,
            record: self.record,
            session: self.session,
            principal: self.principal,
            reads_all: self.reads_all,
            account: self.account,
            keeps_rows: self.keeps_rows,
            excluded_by: self.excluded_by,
            upload: self.upload,
            registry: self.registry,
            connection: self.connection,
        };
        (self.plan, parts)
    }
}

impl<P> Cleared<P> {
    /// Takes it apart.
    pub fn into_parts(self) -> Forwardable<P> {
        Forwardable {
            plan: self.plan,
            head: self.request.head,
            body: self.request.body,
            client: self.request.client,
            presence: self.request.presence,
            record: self.record,
            session: self.session,
            principal: self.asker.principal.clone(),
            reads_all: self.asker.reads_all,
            account: self.asker.account.clone(),
            keeps_rows: self.keeps_rows,
            excluded_by: self.excluded_by,
            upload: self.upload,
            registry: self.registry,
            connection: self.connection,
        }
    }
}

/// What is known by the time a ruling falls; a refusal knows less.
pub(crate) struct Known<P> {
    pub(crate) connection: Option<usize>,
    pub(crate) action: Option<Action<P>>,
    pub(crate) method: String,
    pub(crate) project: String,
    pub(crate) asker: Option<Arc<Asker>>,
    pub(crate) repeats: Option<RecordId>,
    /// What it was found to do, where its text was read.
    pub(crate) footprint: Option<Footprint>,
    /// Bytes that it would process, where that was asked.
    pub(crate) estimate: Option<u64>,
    pub(crate) ruling: policy::Ruling,
    /// What a rule's demand for a yes came to.
    pub(crate) met: Option<Met>,
    /// The excluded exchange that it asks for, where it asks for nothing else.
    pub(crate) belongs_to_excluded: Option<Mark>,
}

impl<P> Default for Known<P> {
    fn default() -> Self {
        Self {
            connection: None,
            action: None,
            method: String::new(),
            project: String::new(),
            asker: None,
            repeats: None,
            footprint: None,
            estimate: None,
            ruling: policy::Ruling::default(),
            met: None,
            belongs_to_excluded: None,
        }
    }
}

impl<P> Known<P> {
    /// Settles what leaves it out of the record: what it belongs to, unless a rule says how it is recorded itself; but
    /// nothing leaves out what somebody had to agree to. Returns the mark of what is left out.
    fn leave_out(&mut self, id: RecordId) -> Mark {
        if self.met.is_some() {
            self.ruling.recording.take_if(|(keeps, _)| *keeps == RecordAs::Excluded);
            return Mark::default();
        }
        match (&self.ruling.recording, self.belongs_to_excluded.take()) {
            (None, Some(mark)) => {
                let rule = mark.rule().unwrap_or_default().to_owned();
                self.ruling.recording = Some((RecordAs::Excluded, rule));
                mark
            }
            (Some((RecordAs::Excluded, rule)), _) => Mark::new(id, &self.project, rule),
            _ => Mark::default(),
        }
    }
}

impl<U: Upstream> Gateway<U> {
    /// Identify, route, resolve, read what must be read, understand, decide. Only a stranger gets no record of
    /// its own; every other no is a ruling.
    pub(crate) async fn admit(&self, request: &mut Request) -> Result<Admission<U::Plan>, Stranger> {
        failpoint("accepted");
        let rulebook = self.rulebook();
        let who = rulebook.identity.identify(&request.head.headers).await?;
        let session = self.session_of(&who);
        Ok(self.admit_known(&rulebook, (who, session), request, None).await)
    }

    /// The same for somebody who is known; `released` is what was held, where that is sent now.
    pub(crate) async fn admit_known(
        &self,
        rulebook: &Rulebook,
        (mut who, session): (Identified, SessionId),
        request: &mut Request,
        released: Option<&Held>,
    ) -> Admission<U::Plan> {
        rulebook.count_agents(&mut who);
        request.presence.within(self.sessions.ending(session));
        let id = RecordId::new(request.received);
        let mut known = Known::default();
        let marks = Marks::new(id, session, "");
        let ruled = self.rule(rulebook, (&who, released), request, &mut known, marks).await;
        let by = By {
            actor: who.actor(),
            account: known.asker.as_ref().and_then(|asker| asker.account.clone()),
            task: who.principal.task.clone(),
            session,
            caused_by: released.map(|held| held.record).or(known.repeats),
        };
        let goes_on = ruled.is_ok() && !matches!(known.met, Some(Met::Waits { .. }));
        let mut intent = intent(rulebook, by, request, &mut known, goes_on);
        if ruled.is_ok()
            && let Some(Met::Granted(held) | Met::Waits { held, .. }) = &known.met
        {
            intent.decision.effect = Effect::Approve;
            intent.decision.approval = Some(ApprovalRef { id: held.id.to_string() });
        }
        let belongs = known.belongs_to_excluded.is_some();
        let is_statement = intent.text.sql.is_some();
        let mark = known.leave_out(id);
        let recording = terms(&mut intent, &known.ruling, goes_on, rulebook.recording);
        let warnings = std::mem::take(&mut known.ruling.warnings);
        let certain = known.footprint.as_ref().filter(|footprint| footprint.is_certain());
        let judged = Judged {
            kind: certain.map(|footprint| footprint.kind.clone()).unwrap_or_default(),
            kinds: certain.filter(|footprint| footprint.is_script).map(Footprint::kinds).unwrap_or_default(),
            fingerprint: known
                .footprint
                .as_ref()
                .map(|footprint| footprint.fingerprint.clone())
                .unwrap_or_default(),
            rows: known.ruling.rows.take(),
            keeps: std::mem::take(&mut known.ruling.snapshots),
            kept_as: released.map(|held| held.record).or(known.repeats).unwrap_or(id),
            grant: match &known.met {
                Some(Met::Granted(held)) if released.is_none() => Some(held.id),
                _ => None,
            },
            place: (known.project.clone(), intent.target.location.clone()),
            excluded_by: if recording.is_excluded { mark } else { Mark::default() },
            tables: certain.filter(|_| recording.is_excluded && !belongs).map(Footprint::tables),
            is_statement,
        };
        let text = known.ruling.demands.first().map(|demand| demand.text.clone()).unwrap_or_default();
        let ruling = match (ruled, known) {
            (Ok(()), Known { met: Some(Met::Waits { held, rest }), action: Some(action), .. }) => {
                Ruling::Held(Box::new(Hold { held, rest, text, plan: action.plan }))
            }
            (
                Ok(()),
                Known { connection: Some(connection), action: Some(action), asker: Some(asker), .. },
            ) => {
                let registry = rulebook.registry.clone();
                Ruling::Permitted(Permit {
                    registry,
                    connection,
                    asker,
                    starts: action.starts,
                    awaits: action.awaits,
                    judged: Box::new(judged),
                    plan: action.plan,
                })
            }
            (Err(refusal), _) => Ruling::Refused(refusal),
            (Ok(()), _) => Ruling::Refused(Refusal::new(Reason::Invalid, "the request was not understood")),
        };
        Admission { id, intent, recording, warnings, ruling }
    }

    /// Somebody is known, and what is asked is not: all that is left is a no.
    pub(crate) async fn admit_refused(&self, request: &Request) -> Result<Refused, Stranger> {
        let rulebook = self.rulebook();
        let who = rulebook.identity.identify(&request.head.headers).await?;
        let session = self.session_of(&who);
        let by = By {
            actor: who.actor(),
            account: None,
            task: who.principal.task.clone(),
            session,
            caused_by: None,
        };
        let intent = intent::<U::Plan>(&rulebook, by, request, &mut Known::default(), false);
        Ok(Refused { id: RecordId::new(request.received), intent, recording: rulebook.recording })
    }

    /// The same for a question of the gateway's own, which nobody has to allow; none if the connection is gone.
    pub(crate) fn admit_own(
        &self,
        request: &Request,
        (connection, account): (&str, Option<&str>),
        cause: Cause,
    ) -> Option<Admission<U::Plan>> {
        let rulebook = self.rulebook();
        let at = rulebook.registry.connections.iter().position(|known| known.name.as_str() == connection)?;
        let session = self.ledger.node_session();
        let id = RecordId::new(request.received);
        let route = self.upstream.route(request).ok()?;
        let project = self.upstream.project(&route, request.body.read()).unwrap_or_default();
        let method = self.upstream.method(&route);
        let marks = Marks::new(id, session, OWN_PRINCIPAL);
        let action = self.upstream.understand(route, request, &marks).ok()?;
        let mut known =
            Known { connection: Some(at), action: Some(action), method, project, ..Known::default() };
        let actor = ledger::Ledger::gateway_actor();
        let by = By {
            actor: actor.clone(),
            account: account.map(str::to_owned),
            task: String::new(),
            session,
            caused_by: cause.record,
        };
        let mut intent = intent(&rulebook, by, request, &mut known, true);
        let recording = match cause.told {
            Told::All => rulebook.recording,
            Told::Undecided => leave_out(&mut intent, rulebook.recording),
            Told::Excluded(rule) => exclude(&mut intent, &rule, rulebook.recording),
        };
        let asker = Asker {
            principal: OWN_PRINCIPAL.to_owned(),
            actor,
            connection: connection.to_owned(),
            account: account.map(str::to_owned),
            task: String::new(),
            reads_all: true,
            changes_all: false,
        };
        let registry = rulebook.registry.clone();
        let plan = known.action?.plan;
        let (starts, awaits) = (None, None);
        let judged = Box::new(Judged::nothing(id));
        let permit =
            Permit { registry, connection: at, asker: Arc::new(asker), starts, awaits, judged, plan };
        let ruling = Ruling::Permitted(permit);
        Some(Admission { id, intent, recording, warnings: Vec::new(), ruling })
    }

    async fn rule(
        &self,
        rulebook: &Rulebook,
        (who, released): (&Identified, Option<&Held>),
        request: &mut Request,
        known: &mut Known<U::Plan>,
        mut marks: Marks,
    ) -> Result<(), Refusal> {
        let route = self.upstream.route(request)?;
        known.method = self.upstream.method(&route);
        // What is refused is read and understood too: the record says what was tried.
        let inspected = request.body.inspect(|read| self.upstream.inspect(&route, read)).await;
        let project = self.upstream.project(&route, request.body.read());
        known.project = project.clone().unwrap_or_default();
        let connection = rulebook.resolve(who, project.as_deref(), self.upstream.serves_any(&route));
        known.connection = connection.as_ref().ok().copied();
        let registered = known.connection.map(|at| &rulebook.registry.connections[at]);
        let mut asker = rulebook.asker(who, registered);
        let account = registered.map_or(Ok(None), |registered| registered.account(&who.principal));
        if let Ok(account) = &account {
            asker.account.clone_from(account);
        }
        let asker = Arc::new(asker);
        inspected.map_err(body_refusal)?;
        if let Some(registered) = registered {
            marks.label_jobs = registered.label_jobs;
            marks.apis.clone_from(&registered.apis);
        }
        marks.principal.clone_from(&asker.principal);
        let understood =
            self.upstream.understand(route, request, &marks).map(|action| known.action = Some(action));
        connection.and(understood)?;
        account.map_err(|why| {
            Refusal::new(
                Reason::Denied,
                format!("Access Denied: hansard can't say which service account you act as: {why}."),
            )
        })?;
        if let Some(action) = &known.action {
            self.check_touches(&asker, &action.touches).await?;
            known.belongs_to_excluded = self.belongs_to_excluded(rulebook, &asker, action).await?;
            known.repeats =
                self.repeats(&asker, action.starts.as_ref(), action.retry.as_deref(), marks.record).await;
            let starts = action.starts.as_ref().filter(|_| released.is_none());
            if let Some(job) = starts.filter(|job| self.desk.job(&job.project, &job.job).is_some()) {
                return Err(duplicate(job));
            }
            // What was sent before with this mark is this statement, whatever became of it and whatever holds now.
            let mark = action.retry.as_ref().filter(|_| released.is_none());
            // Hashed once, and only if something with this mark is held.
            let text = LazyCell::new(|| text_of(action));
            let marked =
                mark.and_then(|mark| self.desk.marked(&asker.principal, mark, || *text, self.clock.now()));
            if let Some(held) = marked {
                known.asker = Some(asker);
                known.met = Some(Met::Waits { held, rest: None });
                return Ok(());
            }
        }
        known.asker = Some(asker);
        let session = marks.session;
        let decided = self.decide(rulebook, (who, &marks, released), request, known).await;
        if released.is_some() {
            return decided;
        }
        self.histories.count(session, known.footprint.as_ref(), decided.is_err(), self.clock.now());
        decided
    }
}

/// What the ruling says of how the exchange is recorded.
fn terms(intent: &mut IntentDraft, ruling: &policy::Ruling, allowed: bool, usual: Recording) -> Recording {
    intent.decision.rules.clone_from(&ruling.rules);
    intent.decision.terms = ruling.terms.iter().copied().collect();
    intent.decision.warnings.clone_from(&ruling.warnings);
    intent.decision.observed = ruling
        .observed
        .iter()
        .map(|one| record::ObservedRule { rule: one.rule.clone(), action: one.action.to_owned() })
        .collect();
    let Some((keeps, rule)) = ruling.recording.as_ref().filter(|_| allowed) else { return usual };
    match keeps {
        RecordAs::Rows => Recording { results: Retained::Rows, ..usual },
        RecordAs::Hash => Recording { results: Retained::Hash, ..usual },
        RecordAs::Count => Recording { results: Retained::None, ..usual },
        RecordAs::Excluded => exclude(intent, rule, usual),
    }
}

/// What is left of an exchange that a rule leaves out: the rule, who, by what method, when and how much.
pub(crate) fn exclude(intent: &mut IntentDraft, rule: &str, usual: Recording) -> Recording {
    let recording = leave_out(intent, usual);
    intent.kind = RecordKind::Excluded;
    intent.decision.rules = vec![rule.to_owned()];
    recording
}

/// Leaves out of a record all that is said in the request.
fn leave_out(intent: &mut IntentDraft, usual: Recording) -> Recording {
    let request = RequestFacts {
        method: intent.request.method.clone(),
        bytes: intent.request.bytes,
        ..RequestFacts::default()
    };
    let facts = LeftOut {
        kind: intent.kind,
        request: std::mem::replace(&mut intent.request, request),
        statement: std::mem::take(&mut intent.statement),
        job: std::mem::take(&mut intent.job),
        task: intent.task.clone(),
        rules: intent.decision.rules.clone(),
    };
    intent.task = Task { id: std::mem::take(&mut intent.task.id), ..Task::default() };
    let text = std::mem::take(&mut intent.text);
    intent.left_out = Some(Box::new(LeftOutDraft { facts, text, results: usual.results }));
    Recording { results: Retained::None, uploads: Retained::None, is_excluded: true }
}

/// Cause of a question of the gateway's own, and how much of that its record tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cause {
    pub(crate) record: Option<RecordId>,
    pub(crate) told: Told,
}

/// Says how much the record of a question of the gateway's own tells.
#[derive(Clone, Debug, Default)]
pub(crate) enum Told {
    #[default]
    All,
    /// Nothing of the request that it is asked for: a rule may leave that out, which is not known yet.
    Undecided,
    /// Nothing but this rule, which leaves out what it is asked for.
    Excluded(String),
}

impl From<Option<RecordId>> for Cause {
    fn from(record: Option<RecordId>) -> Self {
        Self { record, told: Told::All }
    }
}

impl From<RecordId> for Cause {
    fn from(record: RecordId) -> Self {
        Some(record).into()
    }
}

/// By whom, for the record.
struct By {
    actor: Actor,
    /// The account that acts upstream, if not the connection's own.
    account: Option<String>,
    task: String,
    session: SessionId,
    caused_by: Option<RecordId>,
}

fn intent<P>(
    rulebook: &Rulebook,
    by: By,
    request: &Request,
    known: &mut Known<P>,
    allowed: bool,
) -> Box<IntentDraft> {
    let line = line_facts(request);
    let (facts, statement, job, location, labels, text) = match &mut known.action {
        Some(action) => (
            std::mem::take(&mut action.request),
            std::mem::take(&mut action.statement),
            std::mem::take(&mut action.job),
            std::mem::take(&mut action.location),
            std::mem::take(&mut action.labels),
            std::mem::take(&mut action.text),
        ),
        None => (
            RequestFacts::default(),
            Statement::default(),
            Job::default(),
            String::new(),
            BTreeMap::new(),
            // Not understood: the body stands as it came.
            StatementText { body: body_as_it_came(request), ..StatementText::default() },
        ),
    };
    let connection = known.connection.map(|at| &rulebook.registry.connections[at]);
    let estimate_bytes = known.estimate.map(|bytes| bytes.to_string());
    let job = Job { estimate_bytes: estimate_bytes.or(job.estimate_bytes.clone()), ..job };
    let statement = match &known.footprint {
        Some(footprint) => described(statement, footprint),
        // A text that was not read says nothing; what a method itself names is known.
        None => match &known.action {
            Some(action) if statement.sql.is_none() => named(statement, &action.footprint),
            _ => statement,
        },
    };
    Box::new(IntentDraft {
        session: by.session,
        kind: RecordKind::Exchange,
        received: request.received,
        actor: by.actor,
        client: client_facts(request),
        task: Task { labels, ..task_facts(request, &by.task) },
        target: Target {
            connection: connection.map(|connection| connection.name.to_string()).unwrap_or_default(),
            project: known.project.clone(),
            location,
            method: known.method.clone(),
            upstream_principal: connection
                .filter(|_| allowed)
                .map(|connection| by.account.unwrap_or_else(|| connection.credential.principal().to_owned()))
                .unwrap_or_default(),
        },
        request: RequestFacts { bytes: facts.bytes, headers: facts.headers, ..line },
        statement,
        job,
        decision: Decision {
            effect: if allowed { Effect::Allow } else { Effect::Deny },
            policy: rulebook.policy.clone(),
            ..Decision::default()
        },
        text,
        caused_by: by.caused_by,
        left_out: None,
    })
}

/// Adds every table that the request itself names.
fn named(statement: Statement, footprint: &Footprint) -> Statement {
    let mut tables = footprint.tables();
    let known: HashSet<&String> = tables.iter().collect();
    let more: Vec<String> = statement.tables.iter().filter(|table| !known.contains(table)).cloned().collect();
    tables.extend(more);
    Statement { tables, ..statement }
}

/// What reading the text said. BigQuery's own word, where it comes, takes its place.
fn described(statement: Statement, footprint: &Footprint) -> Statement {
    let (tables, columns) = (footprint.tables(), footprint.columns());
    Statement {
        kind: footprint.kind.clone(),
        kinds: footprint.kinds(),
        fingerprint: footprint.fingerprint.clone(),
        tables: if tables.is_empty() { statement.tables.clone() } else { tables },
        columns: if columns.is_empty() || !statement.columns.is_empty() {
            statement.columns
        } else {
            columns
        },
        certain: footprint.is_certain(),
        ..statement
    }
}

/// What was inspected of a body that was not understood; never data that is uploaded.
fn body_as_it_came(request: &Request) -> Vec<u8> {
    let is_upload = header(request, "content-type").starts_with("multipart/");
    if is_upload { Vec::new() } else { request.body.read().to_vec() }
}

fn body_refusal(error: BodyError) -> Refusal {
    let reason = if error == BodyError::TooLong { Reason::TooLarge } else { Reason::Invalid };
    Refusal::new(reason, format!("{error}."))
}

fn line_facts(request: &Request) -> RequestFacts {
    RequestFacts {
        method: request.head.method.as_str().to_owned(),
        path: request.head.uri.path().to_owned(),
        query: request.head.uri.query().unwrap_or_default().to_owned(),
        ..RequestFacts::default()
    }
}

pub(crate) fn client_facts(request: &Request) -> Client {
    Client { ip: request.client.ip.to_string(), user_agent: header(request, "user-agent") }
}

fn task_facts(request: &Request, task: &str) -> Task {
    Task {
        id: task.to_owned(),
        traceparent: header(request, "traceparent"),
        reason: header(request, "x-goog-request-reason"),
        labels: BTreeMap::new(),
    }
}

pub(crate) fn header(request: &Request, name: &str) -> String {
    request.head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}
