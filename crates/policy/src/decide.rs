//! Decides whether an exchange may run, and on what terms.
//!
//! All rules are read; the strictest effect rules. A rule that can't be evaluated, or asks about what is not
//! known, applies.

use cel::Context;
use record::{DecisionTerm, Deed, Footprint, Knowledge, Principal, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

use crate::egress::{self, Forbidden};
use crate::expression::{Answer, context};
use crate::facts::{AskedConnection, AskedRequest, AskedTime, Estimate, Facts, History, View};
use crate::rule::{Approve, Limits, RecordAs, Rule, RuleAction, Snapshot};

/// Different statements in one exchange that rules look at.
const VIEWS_MAX: usize = 1_000;
/// Bytes of text that they are shown in all: each is shown the whole.
const VIEWED_BYTES_MAX: usize = 32 << 20;

/// All that rules ask about, for one exchange.
pub struct Question<'a> {
    pub principal: &'a Principal,
    pub connection: (&'a str, &'a [String]),
    pub allow_egress: &'a [String],
    /// An auditor, or anybody where history is shared.
    pub reads_history: bool,
    pub method: &'a str,
    pub client_ip: &'a str,
    pub user_agent: &'a str,
    pub sql: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    pub footprint: &'a Footprint,
    pub estimate: Estimate<'a>,
    pub now: Timestamp,
    pub history: History,
}

/// What the rules say of an exchange.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ruling {
    /// None: it may run.
    pub denial: Option<Denial>,
    /// Who must say yes before it runs, if nothing denies it.
    pub demands: Vec<Demand>,
    /// Rules that apply, by name, in the file's order; the built-in ones first.
    pub rules: Vec<String>,
    pub terms: BTreeSet<DecisionTerm>,
    /// The least that any rule keeps of it; none leaves it to `[recording]`.
    pub recording: Option<(RecordAs, String)>,
    pub warnings: Vec<String>,
    /// The tightest of each that any rule sets.
    pub limits: Limits,
    /// How many statements a minute.
    pub paces: Vec<Pace>,
    /// Tables that are kept before they are changed.
    pub snapshots: Vec<Keep>,
    /// What may be billed in all.
    pub budgets: Vec<Budget>,
    /// The least number of rows that any rule lets a result have.
    pub rows: Option<RowsMost>,
    /// What rules would have done that only observe.
    pub observed: Vec<Observed>,
    /// Fields that a rule asked about and that were not known.
    pub missing: BTreeSet<String>,
}

impl Ruling {
    /// Whether no rule wants anything of it, and none asked about what is not known.
    pub fn is_plain(&self) -> bool {
        self.denial.is_none() && self.demands.is_empty() && self.missing.is_empty()
    }

    /// Whether a rule asked what it would cost, and that was not known.
    pub fn wants_estimate(&self) -> bool {
        ["bytes", "usd"].iter().any(|field| self.missing.contains(*field))
    }
}

/// A no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub rule: String,
    /// For the caller: which rule, what about the exchange, what to do.
    pub text: String,
    pub instead: String,
}

/// A rule that wants a human's yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    pub rule: String,
    /// For the caller and whoever answers: which rule, what about the exchange.
    pub text: String,
    /// How many must say yes.
    pub needed: u32,
    pub expires_secs: i64,
}

/// How many statements a rule allows a minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    pub rule: String,
    pub per_minute: u64,
    message: String,
}

/// Tables to keep, by one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    pub rule: String,
    pub snapshot: Snapshot,
    /// `project.dataset.table`
    pub tables: BTreeSet<String>,
}

/// How much may be billed in all, by one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub rule: String,
    pub per: Per,
    pub bytes: u64,
    message: String,
}

/// What a budget is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// A principal's day, in UTC.
    Day,
    Task,
}

impl Budget {
    /// The no to more, when so much was billed; a day's budget is there again in so many seconds.
    pub fn denial(&self, spent: u64, secs: i64) -> Denial {
        let Self { rule, per, bytes, message } = self;
        let (what, instead) = match per {
            Per::Day => {
                ("a day", format!("Wait until midnight UTC, in {} h {} min", secs / 3600, secs % 3600 / 60))
            }
            Per::Task => ("a task", "Finish with what you have, or ask for a larger budget".to_owned()),
        };
        let mut text = format!(
            "Access Denied: hansard rule '{rule}' allows {bytes} bytes billed {what}, and {spent} were."
        );
        add(&mut text, message);
        add(&mut text, &instead);
        Denial { rule: rule.clone(), text, instead }
    }
}

/// How many rows a result may have, by one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowsMost {
    pub rule: String,
    pub most: u64,
    message: String,
}

impl RowsMost {
    /// The no to a result of so many rows, or of more than were counted.
    pub fn denial(&self, rows: u64, is_whole: bool) -> Denial {
        let Self { rule, most, message } = self;
        let rows = if is_whole { format!("{rows}") } else { format!("at least {rows}") };
        let mut text = format!(
            "Access Denied: hansard rule '{rule}' allows results of {most} rows, and this one has {rows}."
        );
        let instead = "Aggregate, or add a LIMIT or a narrower WHERE".to_owned();
        add(&mut text, message);
        add(&mut text, &instead);
        Denial { rule: rule.clone(), text, instead }
    }
}

impl Pace {
    /// The no to one more, when there is room again in so many seconds.
    pub fn denial(&self, secs: i64) -> Denial {
        let Self { rule, per_minute, message } = self;
        let mut text = format!(
            "Access Denied: hansard rule '{rule}' allows {per_minute} statements a minute, and they are used up."
        );
        let instead = format!("Wait {secs} s before the next one");
        add(&mut text, message);
        add(&mut text, &instead);
        Denial { rule: rule.clone(), text, instead }
    }
}

/// What a rule would have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub rule: String,
    pub action: &'static str,
}

/// What rules say of an exchange, read once for all exchanges.
#[derive(Default)]
pub struct Policy {
    rules: Vec<Rule>,
    reads_statement: bool,
    reads_tables: bool,
    reads_columns: bool,
    reads_spending: bool,
}

impl Policy {
    /// These rules, in the file's order.
    pub fn new(rules: Vec<Rule>) -> Self {
        let reads = |rule: &Rule| {
            rule.when.reads("statement")
                || ["is_read", "is_write", "is_admin"]
                    .iter()
                    .any(|field| rule.when.reads_field("request", field))
                || matches!(
                    rule.action,
                    RuleAction::Mask { .. }
                        | RuleAction::Limit(_)
                        | RuleAction::Approve(_)
                        | RuleAction::Snapshot(_)
                )
        };
        let reads_statement = rules.iter().any(reads);
        const TABLES: &[&str] =
            &["tables", "tables_read", "columns", "certain", "functions", "connections", "sources"];
        let asks = |rule: &Rule| {
            TABLES.iter().any(|field| rule.when.reads_field("statement", field))
                || matches!(rule.action, RuleAction::Mask { .. } | RuleAction::Record(RecordAs::Excluded))
        };
        let reads_tables = rules.iter().any(asks);
        let reads_columns = rules.iter().any(|rule| {
            rule.when.reads_field("statement", "columns") || matches!(rule.action, RuleAction::Mask { .. })
        });
        let reads_spending = rules.iter().any(|rule| {
            let limits = match rule.action {
                RuleAction::Limit(limits) => limits,
                _ => Limits::default(),
            };
            rule.when.reads_field("history", "bytes_today")
                || limits.bytes_billed_per_day.is_some()
                || limits.bytes_billed_per_task.is_some()
        });
        Self { rules, reads_statement, reads_tables, reads_columns, reads_spending }
    }

    /// Whether the text must be read before it can be decided on.
    pub fn reads_statement(&self) -> bool {
        self.reads_statement
    }

    /// Whether what stands behind names must be known: views, functions.
    pub fn reads_tables(&self) -> bool {
        self.reads_tables
    }

    /// Whether it must be known which columns are touched.
    pub fn reads_columns(&self) -> bool {
        self.reads_columns
    }

    /// Whether what was billed so far must be known.
    pub fn reads_spending(&self) -> bool {
        self.reads_spending
    }

    /// Tells if some rule leaves exchanges out of the record.
    pub fn excludes(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.action, RuleAction::Record(RecordAs::Excluded)))
    }

    /// Tells if the rule of that name leaves exchanges out of the record.
    pub fn excludes_by(&self, name: &str) -> bool {
        let leaves_out = |rule: &&Rule| matches!(rule.action, RuleAction::Record(RecordAs::Excluded));
        self.rules.iter().filter(leaves_out).any(|rule| rule.name == name)
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether somebody may say yes where that rule wants it. A rule that is gone or can't be evaluated says no.
    pub fn may_approve(&self, rule: &str, question: &Question<'_>, approver: &Principal) -> bool {
        let found = self.rules.iter().find(|known| known.name == rule);
        let Some(RuleAction::Approve(Approve { approvers, .. })) = found.map(|rule| &rule.action) else {
            return false;
        };
        let views = View::all(question.footprint, question.sql, question.labels);
        let outer = outer_context(question);
        let mut context = inner_context(&outer, &views[0]);
        context.add_variable("approver", &Facts::about(approver).principal).expect("facts are plain values");
        // A user of the gateway's machine and a key are no sign-in: the rule says so where they count.
        let is_named = approvers.reads_field("approver", "idp");
        let is_signed_in = !matches!(approver.idp.as_str(), "local" | "key");
        (is_signed_in || is_named) && approvers.answer(&context) == Answer::Yes
    }

    /// Decides.
    pub fn decide(&self, question: &Question<'_>) -> Ruling {
        let mut ruling = Ruling::default();
        let asked = egress::Asked {
            is_agent: question.principal.kind == record::PrincipalKind::Agent,
            reads_history: question.reads_history,
            projects: question.connection.1,
            allow_egress: question.allow_egress,
        };
        if let Some(forbidden) = egress::forbidden(question.footprint, &asked) {
            ruling.rules.push(forbidden.default.name.to_owned());
            ruling.denial = Some(default_denial(&forbidden, question));
        }
        if self.rules.is_empty() {
            return ruling;
        }
        let views = View::all(question.footprint, question.sql, question.labels);
        if views.len() > VIEWS_MAX || views.len().saturating_mul(question.sql.len()) > VIEWED_BYTES_MAX {
            let denial = too_many();
            ruling.rules.push(denial.rule.clone());
            ruling.denial.get_or_insert(denial);
            return ruling;
        }
        let outer = outer_context(question);
        let mut hits: Vec<Option<Hit>> = self.rules.iter().map(|_| None).collect();
        // One view at a time: each holds the text.
        for (at, view) in views.iter().enumerate() {
            let context = inner_context(&outer, view);
            for (rule, known) in self.rules.iter().zip(&mut hits) {
                let is_settled = known.as_ref().is_some_and(Hit::is_certain);
                let asks_again = at == 0 || rule.when.reads("statement") && needs_statements(&rule.action);
                if !is_settled && asks_again {
                    let found = hit(rule, view, &context, (&outer, question.footprint));
                    // What is certain goes before what is not.
                    *known = match (found, known.take()) {
                        (Some(found), before) if found.is_certain() || before.is_none() => Some(found),
                        (_, before) => before,
                    };
                }
            }
        }
        for (rule, hit) in self.rules.iter().zip(hits) {
            if let Some(hit) = hit {
                apply(rule, &hit, question, &mut ruling);
            }
        }
        ruling
    }
}

fn too_many() -> Denial {
    let text = format!(
        "Access Denied: hansard decides on at most {VIEWS_MAX} different statements at once; send them in smaller \
         scripts."
    );
    Denial { rule: "too-many-statements".to_owned(), text, instead: String::new() }
}

/// How a rule applies.
struct Hit<'a> {
    /// What it applies to.
    view: &'a View<'a>,
    /// The field that it asked about and that is not known.
    missing: Option<String>,
    /// Why it could not be evaluated.
    broken: Option<String>,
}

impl Hit<'_> {
    fn is_certain(&self) -> bool {
        self.missing.is_none() && self.broken.is_none()
    }
}

fn outer_context<'a>(question: &Question<'_>) -> Context<'a, 'a> {
    let facts = Facts::about(question.principal);
    let (name, projects) = question.connection;
    let connection = AskedConnection { name: name.to_owned(), projects: projects.to_vec() };
    let mut outer = context();
    let added = outer
        .add_variable("principal", &facts.principal)
        .and_then(|()| outer.add_variable("connection", &connection))
        .and_then(|()| outer.add_variable("request", request(question)))
        .and_then(|()| outer.add_variable("estimate", question.estimate))
        .and_then(|()| outer.add_variable("time", AskedTime::at(question.now)))
        .and_then(|()| outer.add_variable("history", question.history));
    added.expect("facts are plain values");
    outer
}

fn inner_context<'p>(outer: &'p Context<'_, 'p>, view: &View<'_>) -> Context<'p, 'p> {
    let mut inner = outer.new_inner_scope();
    inner.add_variable("statement", view).expect("facts are plain values");
    inner
}

fn request(question: &Question<'_>) -> AskedRequest {
    let footprint = question.footprint;
    let (is_read, is_admin) = (footprint.is_read(), footprint.is_admin());
    AskedRequest {
        method: question.method.to_owned(),
        is_read,
        is_write: !is_read && !is_admin,
        is_admin,
        dry_run: footprint.is_dry_run,
        client_ip: question.client_ip.to_owned(),
        user_agent: question.user_agent.to_owned(),
    }
}

/// Whether a rule applies to the whole, or to one statement.
fn hit<'a>(
    rule: &Rule,
    view: &'a View<'a>,
    context: &Context,
    (outer, footprint): (&Context, &Footprint),
) -> Option<Hit<'a>> {
    let mut answer = rule.when.answer(context);
    if let (Answer::Unknown(_), Some(names)) = (&answer, rule.when.named_tables())
        && let Some(known) = view.asked_for(footprint, names)
    {
        answer = rule.when.answer(&inner_context(outer, &known));
    }
    match answer {
        Answer::No => None,
        Answer::Yes => Some(Hit { view, missing: None, broken: None }),
        Answer::Unknown(field) => Some(Hit { view, missing: Some(field), broken: None }),
        Answer::Broken(why) => Some(Hit { view, missing: None, broken: Some(why) }),
    }
}

/// Leaving out of the record asks about the whole alone: one harmless statement does not excuse the others.
fn needs_statements(action: &RuleAction) -> bool {
    !matches!(action, RuleAction::Record(_))
}

fn apply(rule: &Rule, hit: &Hit<'_>, question: &Question<'_>, ruling: &mut Ruling) {
    let denial = match &rule.action {
        RuleAction::Deny => Some(denial(rule, hit, question)),
        RuleAction::Mask { columns } => match masked(columns, question) {
            Some(column) => Some(mask_denial(rule, &column)),
            None => return,
        },
        RuleAction::Record(RecordAs::Excluded) if !may_be_excluded(hit, question) => return,
        // What can't be told is recorded as usual.
        RuleAction::Record(_) if hit.missing.is_some() || hit.broken.is_some() => return,
        RuleAction::Snapshot(_) if question.footprint.is_dry_run => return,
        RuleAction::Snapshot(_) => match question.footprint.endangers() {
            Ok(tables) if tables.is_empty() => return,
            Ok(_) => None,
            Err(why) => Some(snapshot_denial(rule, &why)),
        },
        // A dry run does nothing, so nobody needs to agree to it.
        RuleAction::Approve(_) if question.footprint.is_dry_run => return,
        RuleAction::Approve(_)
        | RuleAction::Record(_)
        | RuleAction::Warn
        | RuleAction::Label
        | RuleAction::Limit(_) => None,
    };
    ruling.missing.extend(hit.missing.clone());
    if rule.observe {
        ruling.observed.push(Observed { rule: rule.name.clone(), action: rule.action.word() });
        return;
    }
    ruling.rules.push(rule.name.clone());
    match &rule.action {
        RuleAction::Deny => {}
        RuleAction::Approve(approve) => ruling.demands.push(Demand {
            rule: rule.name.clone(),
            text: demand(rule, hit, question),
            needed: approve.needed,
            expires_secs: approve.expires_secs,
        }),
        RuleAction::Mask { .. } => {
            ruling.terms.insert(DecisionTerm::Mask);
        }
        RuleAction::Record(keeps) => {
            ruling.terms.insert(DecisionTerm::Record);
            // The most that any rule wants kept.
            let least = ruling.recording.as_ref().is_none_or(|(other, _)| keeps < other);
            if least {
                ruling.recording = Some((*keeps, rule.name.clone()));
            }
        }
        RuleAction::Limit(limits) => {
            ruling.terms.insert(DecisionTerm::Limit);
            let least = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
            let known = &mut ruling.limits;
            known.bytes_billed = least(known.bytes_billed, limits.bytes_billed);
            known.job_timeout_ms = least(known.job_timeout_ms, limits.job_timeout_ms);
            let message = || rule.message.clone();
            let budget = |per, bytes| Budget { rule: rule.name.clone(), per, bytes, message: message() };
            ruling.budgets.extend(limits.bytes_billed_per_day.map(|bytes| budget(Per::Day, bytes)));
            ruling.budgets.extend(limits.bytes_billed_per_task.map(|bytes| budget(Per::Task, bytes)));
            if let Some(most) = limits.rows
                && ruling.rows.as_ref().is_none_or(|known| most < known.most)
            {
                ruling.rows = Some(RowsMost { rule: rule.name.clone(), most, message: message() });
            }
            ruling.paces.extend(limits.statements_per_minute.map(|per_minute| Pace {
                rule: rule.name.clone(),
                per_minute,
                message: rule.message.clone(),
            }));
        }
        RuleAction::Warn => {
            ruling.terms.insert(DecisionTerm::Warn);
            ruling.warnings.push(match rule.message.as_str() {
                "" => format!("hansard rule '{}' warns of {}", rule.name, hit.view.said(question.method)),
                message => format!("{message} (hansard rule '{}')", rule.name),
            });
        }
        RuleAction::Label => {
            ruling.terms.insert(DecisionTerm::Label);
        }
        RuleAction::Snapshot(snapshot) => {
            ruling.terms.insert(DecisionTerm::Snapshot);
            ruling.snapshots.push(Keep {
                rule: rule.name.clone(),
                snapshot: snapshot.clone(),
                tables: question.footprint.endangers().unwrap_or_default(),
            });
        }
    }
    ruling.denial = ruling.denial.take().or(denial);
}

fn denial(rule: &Rule, hit: &Hit<'_>, question: &Question<'_>) -> Denial {
    let name = &rule.name;
    let mut text = match (&hit.missing, &hit.broken) {
        (Some(field), _) => {
            format!(
                "Access Denied: hansard rule '{name}' asks about {field}, which is not known: {}.",
                why(field, question)
            )
        }
        (None, Some(broken)) => {
            format!("Access Denied: hansard rule '{name}' could not be evaluated, which denies ({broken}).")
        }
        (None, None) => {
            format!("Access Denied: hansard rule '{name}' does not allow {}.", hit.view.said(question.method))
        }
    };
    add(&mut text, &rule.message);
    add(&mut text, &rule.instead);
    Denial { rule: name.clone(), text, instead: rule.instead.clone() }
}

fn demand(rule: &Rule, hit: &Hit<'_>, question: &Question<'_>) -> String {
    let name = &rule.name;
    let said = hit.view.said(question.method);
    let mut text = match (&hit.missing, &hit.broken) {
        (Some(field), _) => format!(
            "hansard rule '{name}' holds {said} for approval: it asks about {field}, which is not known: {}.",
            why(field, question)
        ),
        (None, Some(broken)) => {
            format!("hansard rule '{name}' holds {said} for approval: it could not be evaluated ({broken}).")
        }
        (None, None) => format!("hansard rule '{name}' holds {said} for approval."),
    };
    add(&mut text, &rule.message);
    text
}

/// Why a field is not known.
fn why(field: &str, question: &Question<'_>) -> String {
    let footprint = question.footprint;
    let reason = match field {
        "bytes" | "usd" => Some(question.estimate.why().to_owned()),
        "columns" => Some(
            footprint
                .statements
                .iter()
                .find(|deed| deed.touched().is_none())
                .map(|deed| deed.columns_unsure.clone())
                .filter(|why| !why.is_empty())
                .unwrap_or_else(|| "which columns it touches was not read".to_owned()),
        ),
        _ => [Knowledge::Kind, Knowledge::Tables, Knowledge::Target, Knowledge::Wildcards]
            .into_iter()
            .find_map(|what| footprint.unknown(what)),
    };
    reason.or(footprint.unsure.first().cloned()).unwrap_or_else(|| "nothing says it".to_owned())
}

fn add(text: &mut String, more: &str) {
    if !more.is_empty() {
        text.push(' ');
        text.push_str(more);
        if !more.ends_with(['.', '!', '?']) {
            text.push('.');
        }
    }
}

/// The column that the exchange touches, or might.
fn masked(columns: &[crate::rule::ColumnPattern], question: &Question<'_>) -> Option<String> {
    let footprint = question.footprint;
    // What is written is not seen; what is read may be, wherever it goes.
    for deed in &footprint.statements {
        if let Some(why) = deed.unknown(Knowledge::Kind).or(deed.unknown(Knowledge::Tables)) {
            return Some(format!("which columns it touches is not known ({why})"));
        }
        let fits = |table: &&String| columns.iter().find(|column| column.fits_table(table));
        if deed.kind == "ALTER_TABLE" && may_rename(deed, columns) {
            return Some("a table or column by another name would not be known again".to_owned());
        }
        match &deed.columns {
            Some(known) => {
                let hit = known.iter().find(|name| columns.iter().any(|column| column.fits(name)));
                if let Some(hit) = hit {
                    return Some(format!("it reads {hit}"));
                }
            }
            None => {
                if let Some(result) = deed.read.iter().find(|table| is_anonymous(table)) {
                    return Some(format!("which columns the result {result} holds is not known"));
                }
                if let Some(column) = deed.read.iter().find_map(|table| fits(&table)) {
                    let why = Some(&deed.columns_unsure).filter(|why| !why.is_empty());
                    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
                    return Some(format!("it reads a table with the column {column}{why}"));
                }
            }
        }
    }
    None
}

/// Whether it changes one of the columns, or its table, in a way that may give it another name.
fn may_rename(deed: &Deed, columns: &[crate::rule::ColumnPattern]) -> bool {
    match &deed.columns {
        Some(_) => deed.columns_written.iter().any(|name| columns.iter().any(|column| column.fits(name))),
        None => deed.written.iter().any(|table| columns.iter().any(|column| column.fits_table(table))),
    }
}

/// An earlier result, or what a session keeps: the columns came from somewhere.
fn is_anonymous(table: &str) -> bool {
    table.split('.').any(|part| part.starts_with('_'))
}

fn mask_denial(rule: &Rule, what: &str) -> Denial {
    let mut text = format!(
        "Access Denied: hansard rule '{}' masks columns, and {what}. Until masking is built, that is refused.",
        rule.name
    );
    add(&mut text, &rule.message);
    add(&mut text, &rule.instead);
    Denial { rule: rule.name.clone(), text, instead: rule.instead.clone() }
}

fn snapshot_denial(rule: &Rule, why: &str) -> Denial {
    let mut text = format!(
        "Access Denied: hansard rule '{}' keeps what a statement changes, and what this one changes is not known: {why}.",
        rule.name
    );
    add(&mut text, &rule.message);
    add(&mut text, &rule.instead);
    Denial { rule: rule.name.clone(), text, instead: rule.instead.clone() }
}

/// Only what is certain, reads and goes nowhere else is left out of the record.
fn may_be_excluded(hit: &Hit<'_>, question: &Question<'_>) -> bool {
    let footprint = question.footprint;
    let is_plain = footprint.is_certain() && footprint.is_read();
    is_plain && hit.missing.is_none() && hit.broken.is_none() && hit.view.tables().is_some()
}

fn default_denial(forbidden: &Forbidden, question: &Question<'_>) -> Denial {
    let default = forbidden.default;
    let who = match default.who {
        egress::Who::Agents => "agents",
        egress::Who::AllButAuditors => "anybody but auditors",
    };
    let connection = question.connection.0;
    let instead = match default.who {
        egress::Who::Agents => format!(
            "Whoever runs the gateway can open it for connection '{connection}' by allow_egress = [{}]",
            default.opened_by
        ),
        egress::Who::AllButAuditors => {
            format!(
                "Whoever runs the gateway can open it for connection '{connection}' by {}",
                default.opened_by
            )
        }
    };
    let text = format!(
        "Access Denied: hansard does not allow this to {who} by default ('{}'): {}. {instead}.",
        default.name, forbidden.found
    );
    Denial { rule: default.name.to_owned(), text, instead }
}
