//! What the rules say of an exchange, and what must be known for that: what its text does, what stands behind its
//! names, what it would cost, what was billed and asked before.

use approvals::Held;
use identity::Identified;
use policy::{Estimate, History, Question, RecordAs};
use record::{Deed, Footprint, Knowledge, PrincipalKind, Timestamp};
use state::Spending;
use std::collections::BTreeSet;

use crate::admission::{Cause, Known, Told, header};
use crate::exchange::Gateway;
use crate::hold::{Demanded, Met};
use crate::lookups::Definitions;
use crate::ownership::Asker;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::rulebook::Rulebook;
use crate::upstream::{Action, Bounds, DryRun, Marks, Needs, Upstream};

/// One exchange, as far as it is decided on.
struct Case<'a, P> {
    rulebook: &'a Rulebook,
    /// The connection, by its place in the registry.
    at: usize,
    who: &'a Identified,
    asker: &'a Asker,
    marks: &'a Marks,
    action: &'a Action<P>,
    request: &'a Request,
    method: &'a str,
    now: Timestamp,
    /// Whether what the text does must be known.
    is_read: bool,
}

impl<P> Case<'_, P> {
    fn sql(&self) -> &str {
        self.action.text.sql.as_deref().unwrap_or_default()
    }

    fn is_agent(&self) -> bool {
        self.who.principal.kind == PrincipalKind::Agent
    }

    /// For the record of a question that is asked before all is decided: it tells nothing of what a rule leaves out, or
    /// may yet.
    fn cause(&self, so_far: &policy::Ruling) -> Cause {
        let told = match &so_far.recording {
            Some((RecordAs::Excluded, rule)) => Told::Excluded(rule.clone()),
            _ if self.rulebook.rules.excludes() => Told::Undecided,
            _ => Told::All,
        };
        Cause { record: Some(self.marks.record), told }
    }

    fn decide(&self, footprint: &Footprint, estimate: Estimate<'_>, history: History) -> policy::Ruling {
        let connection = &self.rulebook.registry.connections[self.at];
        self.rulebook.rules.decide(&Question {
            principal: &self.who.principal,
            connection: (connection.name.as_str(), &connection.projects),
            allow_egress: &self.rulebook.connections[self.at].allow_egress,
            reads_history: self.asker.reads_all,
            method: self.method,
            client_ip: &self.request.client.ip.to_string(),
            user_agent: &header(self.request, "user-agent"),
            sql: self.sql(),
            labels: &self.action.labels,
            footprint,
            estimate,
            now: self.now,
            history,
        })
    }
}

impl<U: Upstream> Gateway<U> {
    /// What the rules say: a refusal, or the terms on which it may go. The text is read only where one of them asks about
    /// it. `released` is what was held, where that is sent now.
    pub(crate) async fn decide(
        &self,
        rulebook: &Rulebook,
        (who, marks, released): (&Identified, &Marks, Option<&Held>),
        request: &Request,
        known: &mut Known<U::Plan>,
    ) -> Result<(), Refusal> {
        let (Some(action), Some(at), Some(asker)) = (&known.action, known.connection, &known.asker) else {
            return Ok(());
        };
        let (now, method) = (self.clock.now(), known.method.as_str());
        let is_agent = who.principal.kind == PrincipalKind::Agent;
        let is_read = rulebook.rules.reads_statement()
            || is_agent
            || !asker.reads_all && may_read_history(action.text.sql.as_deref().unwrap_or_default());
        let case = Case { rulebook, at, who, asker, marks, action, request, method, now, is_read };
        let mut definitions = Definitions::default();
        let mut footprint = self.footprint(&case, &mut definitions).await?;
        let spending = match rulebook.rules.reads_spending() {
            true => self.spending(asker, now).await?,
            false => Spending::default(),
        };
        let history = History {
            bytes_today: i64::try_from(spending.today).unwrap_or(i64::MAX),
            ..self.histories.of(marks.session, &footprint.fingerprint, now)
        };
        known.ruling = case.decide(&footprint, Estimate::default(), history);
        let mut dry_run = DryRun { location: action.location.clone(), ..DryRun::default() };
        if is_to_be_asked(&known.ruling, &footprint) {
            let answer =
                self.dry_run(action, request, &definitions, case.asker.by(), case.cause(&known.ruling)).await;
            check_against(&mut footprint, &answer);
            let estimate = match answer.bytes {
                Some(bytes) => Estimate::of(bytes),
                None => Estimate::unknown(&answer.failed),
            };
            known.ruling = case.decide(&footprint, estimate, history);
            known.estimate = answer.bytes;
            let said = std::mem::take(&mut dry_run.location);
            dry_run = DryRun { location: if said.is_empty() { answer.location } else { said }, ..answer };
        }
        if let Some(denial) = known.ruling.denial.take() {
            known.footprint = is_read.then_some(footprint);
            return Err(Refusal::ruled(denial));
        }
        let terms = self.terms(&case, &known.ruling, (&footprint, spending), dry_run, released).await;
        // What was tried stands in the record, and counts, whatever becomes of it.
        known.footprint = is_read.then_some(footprint);
        let (met, left) = terms?;
        known.met = met;
        self.put_bounds(known, request, left);
        Ok(())
    }

    /// What was agreed to, if somebody must agree, and what is left of budgets.
    async fn terms(
        &self,
        case: &Case<'_, U::Plan>,
        ruling: &policy::Ruling,
        (footprint, spending): (&Footprint, Spending),
        dry_run: DryRun,
        released: Option<&Held>,
    ) -> Result<(Option<Met>, Option<u64>), Refusal> {
        let Case { who, asker, marks, action, request, now, .. } = *case;
        let left = self.within_budgets(ruling, spending, (action, request, footprint), now)?;
        let mut met = None;
        if !ruling.demands.is_empty() {
            let demanded = Demanded {
                who,
                asker,
                action,
                request,
                method: case.method,
                record: marks.record,
                session: marks.session,
                policy: &case.rulebook.policy,
                footprint,
                estimate: (dry_run.bytes, dry_run.failed),
                location: &dry_run.location,
                ruling,
            };
            met = Some(self.meet(&demanded, released).await?);
        }
        // What was held was counted when it was asked.
        if case.is_read && !footprint.statements.is_empty() && released.is_none() {
            self.keep_pace(ruling, asker, now)?;
        }
        Ok((met, left))
    }

    /// What it does, as far as rules and defaults ask; what reaches for others' work is refused.
    async fn footprint(
        &self,
        case: &Case<'_, U::Plan>,
        known: &mut Definitions,
    ) -> Result<Footprint, Refusal> {
        let mut footprint = match case.is_read {
            true => self.upstream.describe(case.action, None).await,
            false => case.action.footprint.clone(),
        };
        self.check_touches(case.asker, &self.upstream.touches(&footprint)).await?;
        let (tables, is_agent) = (case.rulebook.rules.reads_tables(), case.is_agent());
        let unseen = !case.asker.reads_all && footprint.calls_unseen();
        let columns = case.rulebook.rules.reads_columns();
        let needs = Needs { tables, routines: tables || is_agent || unseen, models: is_agent, columns };
        if needs != Needs::default() {
            let found = (needs, &mut *known, false);
            footprint =
                self.look_up(footprint, found, case.asker.by(), case.cause(&policy::Ruling::default())).await;
        }
        // Which columns it touches can be told once it is known which ones there are.
        let is_about_tables = |deed: &Deed| !deed.read.is_empty() || !deed.written.is_empty();
        if columns && footprint.statements.iter().any(is_about_tables) {
            let again = self.upstream.describe(case.action, Some(known)).await;
            footprint = self
                .look_up(again, (needs, known, true), case.asker.by(), case.cause(&policy::Ruling::default()))
                .await;
        }
        self.lookups.changed(footprint.changed(), case.now);
        Ok(footprint)
    }

    fn keep_pace(&self, ruling: &policy::Ruling, asker: &Asker, now: Timestamp) -> Result<(), Refusal> {
        for pace in &ruling.paces {
            let counted = self.paces.count(&pace.rule, &asker.principal, pace.per_minute, now);
            counted.map_err(|secs| Refusal::ruled(pace.denial(secs)))?;
        }
        Ok(())
    }

    /// The tightest bounds of the rules, of what was agreed to, and of what is left of budgets.
    fn put_bounds(&self, known: &mut Known<U::Plan>, request: &Request, left: Option<u64>) {
        let agreed = match &known.met {
            Some(Met::Granted(held)) => held.bytes_max,
            _ => None,
        };
        let limits = known.ruling.limits;
        let bounds = Bounds {
            bytes_billed: limits.bytes_billed.into_iter().chain(agreed).chain(left).min(),
            job_timeout_ms: limits.job_timeout_ms,
        };
        if let Some(action) = known.action.as_mut().filter(|_| bounds != Bounds::default()) {
            self.upstream.bound(action, request, &bounds);
        }
    }
}

/// Whether the upstream is asked what it would be: a rule wants to know what it costs, somebody is to say yes to it, or
/// all that is not known is the upstream's to say.
fn is_to_be_asked(ruling: &policy::Ruling, footprint: &Footprint) -> bool {
    let wants_a_yes = ruling.denial.is_none() && !ruling.demands.is_empty();
    ruling.wants_estimate() || wants_a_yes || !ruling.is_plain() && is_for_the_upstream_to_say(footprint)
}

/// Whether all that is not known of it is which tables it reads, and that is the upstream's to say: one SELECT.
fn is_for_the_upstream_to_say(footprint: &Footprint) -> bool {
    let [deed] = &footprint.statements[..] else { return false };
    let is_tables = |what: &Knowledge| matches!(what, Knowledge::Tables | Knowledge::Wildcards);
    deed.kind == "SELECT"
        && footprint.kind == deed.kind
        && !footprint.is_script
        && !deed.unknown.is_empty()
        && deed.unknown.keys().all(is_tables)
        && deed.routines.is_empty()
}

/// The upstream's own word beside ours: what it names is read too, and where it sees another kind nothing is certain.
fn check_against(footprint: &mut Footprint, dry_run: &DryRun) {
    let names_some = dry_run.tables.as_ref().is_some_and(|tables| !tables.is_empty());
    let is_known = dry_run.names_all_tables && names_some && dry_run.kind == footprint.kind;
    if is_known && is_for_the_upstream_to_say(footprint) {
        let deed = &mut footprint.statements[0];
        deed.unknown.clear();
        (deed.columns, deed.columns_unsure) =
            (None, "only BigQuery's word says which tables it reads".to_owned());
        deed.read.retain(|table| !table.ends_with('*'));
        footprint.unsure.clear();
    }
    let known = footprint.statements.iter().flat_map(|deed| deed.read.iter().chain(&deed.written));
    let known: BTreeSet<&String> = known.collect();
    let unseen = dry_run.tables.iter().flatten().filter(|table| !known.contains(table));
    let unseen: Vec<String> = unseen.cloned().collect();
    if let Some(first) = footprint.statements.first_mut().filter(|_| !unseen.is_empty()) {
        first.columns = None;
        first.columns_unsure = format!("BigQuery says that it reads {} too", unseen.join(", "));
        first.read.extend(unseen);
    }
    if !dry_run.kind.is_empty() && !footprint.kind.is_empty() && dry_run.kind != footprint.kind {
        let why = format!("BigQuery reads it as {}, hansard as {}", dry_run.kind, footprint.kind);
        let mut deed = Deed::of(&dry_run.kind);
        deed.unknown.insert(Knowledge::Kind, why);
        footprint.statements.push(deed);
    }
}

/// Whether a text may ask about what others did, or for their results: the words for it, or a way to hide them.
fn may_read_history(sql: &str) -> bool {
    const WORDS: &[&str] = &["information_schema", "@@", "execute", "call", "\\", "._", "`_"];
    let lower = sql.to_ascii_lowercase();
    WORDS.iter().any(|word| lower.contains(word))
}
