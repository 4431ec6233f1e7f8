//! What an expression may ask about: the vocabulary, and its values for one question.

use record::{Deed, Footprint, Knowledge, Principal, PrincipalKind, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One field of the vocabulary.
#[derive(Debug)]
pub struct Field {
    /// `principal`, `statement` and so on.
    pub variable: &'static str,
    pub name: &'static str,
    /// Its type in CEL.
    pub kind: &'static str,
    pub doc: &'static str,
}

/// Every field, in the order of the documentation.
pub const VOCABULARY: &[Field] = &[
    f("principal", "id", "string", "The provider's `sub`, or a virtual key's `client_email`."),
    f("principal", "email", "string", "Empty where the provider gives none or has not verified it."),
    f("principal", "name", "string", "As the provider says it."),
    f("principal", "groups", "list(string)", "As the provider says them, or as a key was issued with."),
    f("principal", "kind", "string", "`person`, `service` or `agent`."),
    f("principal", "is_agent", "bool", "Whether the kind is `agent`."),
    f("principal", "agent", "string", "The agent's name; asserted, not proved."),
    f("principal", "on_behalf_of", "string", "The person that an agent works for."),
    f("principal", "idp", "string", "The provider's name in the configuration; `key` for a virtual key."),
    f("principal", "task", "string", "The task's id; asserted."),
    f("connection", "name", "string", "The connection that is used."),
    f("connection", "projects", "list(string)", "Its billing projects."),
    f(
        "request",
        "method",
        "string",
        "Google's method, such as `jobs.query` or `BigQueryRead.CreateReadSession`.",
    ),
    f(
        "request",
        "is_read",
        "bool",
        "The method only reads; or every statement is a SELECT (also in scripts of DECLARE, SET, IF and loops), \
         that is certain, and the result goes nowhere else.",
    ),
    f("request", "is_write", "bool", "Neither `is_read` nor `is_admin`."),
    f(
        "request",
        "is_admin",
        "bool",
        "It changes who may do what: IAM, row access policies, reservations, transfers.",
    ),
    f("request", "dry_run", "bool", "Nothing runs. Dry runs are decided as what they try."),
    f("request", "client_ip", "string", "Where it came from."),
    f("request", "user_agent", "string", "As the client says it."),
    f("statement", "sql", "string", "The whole text, as it was sent."),
    f(
        "statement",
        "kind",
        "string",
        "BigQuery's statement type: of the whole (`SCRIPT` if there are several), then of each statement in it; of a \
         method without SQL, that of the statement it equals.",
    ),
    f("statement", "kinds", "list(string)", "The kinds of all statements of the exchange."),
    f("statement", "tables", "list(string)", "`project.dataset.table` of everything read or written."),
    f(
        "statement",
        "tables_read",
        "list(string)",
        "Those that are read; the targets of UPDATE, DELETE and MERGE too.",
    ),
    f("statement", "tables_written", "list(string)", "Those that are written, made, changed or dropped."),
    f(
        "statement",
        "columns",
        "list(string)",
        "`project.dataset.table.column`: whose values it looks at, sets or takes away, a record standing for its fields. What takes a table whole touches all of its columns.",
    ),
    f(
        "statement",
        "has_where",
        "bool",
        "Of UPDATE, DELETE and MERGE: there is a condition, and it is not always true (`TRUE`, `1=1`, `x=x`, an OR with \
         one of those, or one that asks nothing of the row). A MERGE is asked about as each of its branches, too.",
    ),
    f(
        "statement",
        "overwrites",
        "bool",
        "It replaces what is there: OR REPLACE, OVERWRITE, `WRITE_TRUNCATE`.",
    ),
    f("statement", "is_temporary", "bool", "What it makes or drops lives only as long as its session."),
    f("statement", "is_script", "bool", "Several statements, or blocks, loops, variables."),
    f("statement", "is_dynamic", "bool", "Some of what it runs is made only as it runs."),
    f("statement", "certain", "bool", "Everything here is known, and nothing guessed."),
    f(
        "statement",
        "functions",
        "list(string)",
        "Functions that it calls: in upper case if built in (`ML.PREDICT`), else `project.dataset.name`.",
    ),
    f("statement", "models", "list(string)", "Models that it makes or applies: `project.dataset.model`."),
    f("statement", "connections", "list(string)", "Google connections that it reaches other systems by."),
    f("statement", "destinations", "list(string)", "Addresses outside BigQuery that data is written to."),
    f("statement", "sources", "list(string)", "Addresses outside BigQuery that data is read from."),
    f("statement", "labels", "map(string, string)", "The job's labels, as the client set them."),
    f(
        "statement",
        "fingerprint",
        "string",
        "Equal for texts that differ in literals, case and white space alone.",
    ),
    f("statement", "parameters", "map(string, string)", "Query parameters by name, or by place from 1."),
    f("estimate", "bytes", "int", "Bytes that a dry run says it would process; unknown without one."),
    f("estimate", "usd", "double", "The same at the on-demand list price of 6.25 USD a TiB."),
    f("estimate", "known", "bool", "Whether there is an estimate."),
    f("time", "now", "string", "RFC 3339 in UTC: `time.now > '2026-12-01T00:00:00Z'`."),
    f("time", "hour", "int", "0 to 23, UTC."),
    f("time", "weekday", "string", "`monday` to `sunday`, UTC."),
    f(
        "history",
        "statements_this_session",
        "int",
        "Exchanges of the session before this one, since the gateway was started.",
    ),
    f(
        "history",
        "bytes_today",
        "int",
        "Bytes that the principal was billed today (UTC): queries as BigQuery bills them, Storage reads as they were \
         estimated, load, copy and extract jobs by what they moved. Counted when they are over.",
    ),
    f(
        "history",
        "refusals_in_a_row",
        "int",
        "Refusals in the session since something was allowed; forgotten when none came for five minutes.",
    ),
    f(
        "history",
        "failures_same_fingerprint",
        "int",
        "How often such a statement of the session failed since one succeeded.",
    ),
    f(
        "history",
        "new_tables_last_minute",
        "int",
        "Tables that the session touched in the last minute and not before.",
    ),
    f("history", "bytes_last_minute", "int", "Bytes that the session was billed in the last minute."),
    f("history", "refusals_this_session", "int", "Refusals in the session before this one."),
    f(
        "history",
        "same_fingerprint_last_minute",
        "int",
        "How often the session sent such a statement in the last minute.",
    ),
    f(
        "approver",
        "id",
        "string",
        "In `approvers` only, as of `principal`; so are email, name, groups, kind and idp.",
    ),
    f("approver", "email", "string", ""),
    f("approver", "name", "string", ""),
    f("approver", "groups", "list(string)", ""),
    f("approver", "kind", "string", ""),
    f("approver", "idp", "string", ""),
];

const fn f(variable: &'static str, name: &'static str, kind: &'static str, doc: &'static str) -> Field {
    Field { variable, name, kind, doc }
}

/// Whether all tables are known by their own names.
fn knows_tables(deeds: &[Deed]) -> bool {
    let unknown = |what: Knowledge| deeds.iter().any(|deed| deed.unknown(what).is_some());
    !unknown(Knowledge::Tables) && !unknown(Knowledge::Target) && !unknown(Knowledge::Wildcards)
}

/// Whether a table is one that a wildcard stands for.
pub(crate) fn is_covered(wildcard: &str, table: &str) -> bool {
    let rest = wildcard.strip_suffix('*').and_then(|begin| table.strip_prefix(begin));
    rest.is_some_and(|rest| !rest.contains('.'))
}

/// Whether what it writes ends with its session.
fn is_temporary(deed: &Deed) -> bool {
    let in_session =
        !deed.written.is_empty() && deed.written.iter().all(|table| table.starts_with("_SESSION."));
    deed.is_temporary || in_session && !deed.unknown.contains_key(&Knowledge::Target)
}

/// Where an expression stands, and so which variables it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `allow`, `agents` and the roles: who, and through what.
    Access,
    /// `when` of a rule: all but the approver.
    Rule,
    /// `approvers` of a rule: everything.
    Approvers,
}

impl Place {
    /// The variables that may be used there.
    pub fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Access => &["principal", "connection"],
            Self::Rule => &["principal", "connection", "request", "statement", "estimate", "time", "history"],
            Self::Approvers => &[
                "principal",
                "connection",
                "request",
                "statement",
                "estimate",
                "time",
                "history",
                "approver",
            ],
        }
    }
}

/// `principal` and `connection`.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    pub principal: AskedPrincipal,
    pub connection: AskedConnection,
}

/// `principal`
#[derive(Clone, Debug, Serialize)]
pub struct AskedPrincipal {
    id: String,
    email: String,
    name: String,
    groups: Vec<String>,
    kind: &'static str,
    is_agent: bool,
    agent: String,
    on_behalf_of: String,
    idp: String,
    task: String,
}

/// `connection`
#[derive(Clone, Debug, Default, Serialize)]
pub struct AskedConnection {
    pub name: String,
    pub projects: Vec<String>,
}

impl Facts {
    /// About a principal, before any connection is chosen.
    pub fn about(principal: &Principal) -> Self {
        Self {
            principal: AskedPrincipal {
                id: principal.id.clone(),
                email: principal.email.clone(),
                name: principal.name.clone(),
                groups: principal.groups.clone(),
                kind: principal.kind.as_str(),
                is_agent: principal.kind == PrincipalKind::Agent,
                agent: principal.agent.clone(),
                on_behalf_of: principal.on_behalf_of.clone(),
                idp: principal.idp.clone(),
                task: principal.task.clone(),
            },
            connection: AskedConnection::default(),
        }
    }

    /// The same, on one connection.
    pub fn on(mut self, name: &str, projects: &[String]) -> Self {
        self.connection = AskedConnection { name: name.to_owned(), projects: projects.to_vec() };
        self
    }
}

/// `request`
#[derive(Clone, Debug, Default, Serialize)]
pub struct AskedRequest {
    pub method: String,
    pub is_read: bool,
    pub is_write: bool,
    pub is_admin: bool,
    pub dry_run: bool,
    pub client_ip: String,
    pub user_agent: String,
}

/// `estimate`; what is none is unknown.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Estimate<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usd: Option<f64>,
    known: bool,
    /// Why it is not known; what a refusal says.
    #[serde(skip)]
    why: &'a str,
}

impl<'a> Estimate<'a> {
    /// So many bytes, at BigQuery's on-demand list price (https://cloud.google.com/bigquery/pricing).
    pub fn of(bytes: u64) -> Self {
        const USD_PER_TIB: f64 = 6.25;
        let usd = bytes as f64 / (1u64 << 40) as f64 * USD_PER_TIB;
        Self { bytes: Some(bytes.min(i64::MAX as u64) as i64), usd: Some(usd), known: true, why: "" }
    }

    /// There is none, and why.
    pub fn unknown(why: &'a str) -> Self {
        Self { why, ..Self::default() }
    }

    /// What it costs.
    pub fn usd(&self) -> Option<f64> {
        self.usd
    }

    /// Why it is not known.
    pub(crate) fn why(&self) -> &'a str {
        if self.why.is_empty() { "there is no estimate of it" } else { self.why }
    }
}

/// `time`
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct AskedTime {
    now: String,
    hour: i64,
    weekday: &'static str,
}

impl AskedTime {
    /// A moment, in UTC.
    pub(crate) fn at(now: Timestamp) -> Self {
        const WEEKDAYS: [&str; 7] =
            ["thursday", "friday", "saturday", "sunday", "monday", "tuesday", "wednesday"];
        const DAY_SECS: i64 = 24 * 60 * 60;
        let secs = now.secs();
        let day = secs.div_euclid(DAY_SECS).rem_euclid(7) as usize;
        Self { now: now.to_string(), hour: secs.rem_euclid(DAY_SECS) / 3600, weekday: WEEKDAYS[day] }
    }
}

/// `history`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct History {
    pub statements_this_session: i64,
    pub refusals_this_session: i64,
    pub same_fingerprint_last_minute: i64,
    pub bytes_today: i64,
    pub refusals_in_a_row: i64,
    pub failures_same_fingerprint: i64,
    pub new_tables_last_minute: i64,
    pub bytes_last_minute: i64,
}

/// `statement`: the exchange as a whole, or one statement in it. What is none is unknown.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub(crate) struct View<'a> {
    /// The statement that it shows; none for the whole.
    #[serde(skip)]
    deed: Option<&'a Deed>,
    sql: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kinds: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tables: Option<BTreeSet<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tables_read: Option<BTreeSet<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tables_written: Option<BTreeSet<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<BTreeSet<&'a str>>,
    has_where: bool,
    overwrites: bool,
    is_temporary: bool,
    is_script: bool,
    is_dynamic: bool,
    certain: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    functions: Option<BTreeSet<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<BTreeSet<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<BTreeSet<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destinations: Option<BTreeSet<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sources: Option<BTreeSet<&'a str>>,
    labels: &'a BTreeMap<String, String>,
    fingerprint: &'a str,
    parameters: &'a BTreeMap<String, String>,
}

impl<'a> View<'a> {
    /// The exchange as a whole, then each of its statements that differs from those before; a MERGE as each of its
    /// branches too.
    pub(crate) fn all(
        footprint: &'a Footprint,
        sql: &'a str,
        labels: &'a BTreeMap<String, String>,
    ) -> Vec<Self> {
        let whole = Self::whole(footprint, sql, labels);
        let mut views = vec![whole];
        let distinct: BTreeSet<&Deed> = footprint.statements.iter().collect();
        for deed in distinct {
            let view = Self::deed(&views[0], deed);
            for (kind, has_where) in &deed.branches {
                let kinds = view.kinds.clone().map(|mut kinds| {
                    kinds.push(kind);
                    kinds
                });
                views.push(Self { kind: Some(kind), kinds, has_where: *has_where, ..view.clone() });
            }
            if (Self { deed: None, ..view.clone() }) != views[0] {
                views.push(view);
            }
        }
        views
    }

    fn whole(footprint: &'a Footprint, sql: &'a str, labels: &'a BTreeMap<String, String>) -> Self {
        let deeds = &footprint.statements;
        let knows_kind = footprint.unknown(Knowledge::Kind).is_none();
        let knows_tables = knows_kind && knows_tables(deeds);
        let all = |pick: fn(&Deed) -> &BTreeSet<String>| {
            knows_kind.then(|| deeds.iter().flat_map(|deed| pick(deed).iter().map(String::as_str)).collect())
        };
        let read: BTreeSet<&str> =
            deeds.iter().flat_map(|deed| deed.read.iter().map(String::as_str)).collect();
        let result = Some(footprint.result_table.as_str()).filter(|table| !table.is_empty());
        let written = deeds.iter().flat_map(|deed| deed.written.iter().map(String::as_str)).chain(result);
        let written: BTreeSet<&str> = written.collect();
        let columns: Option<BTreeSet<&str>> =
            deeds.iter().map(Deed::touched).try_fold(BTreeSet::new(), |mut all, one| {
                all.extend(one?);
                Some(all)
            });
        let kinds: BTreeSet<&str> =
            deeds.iter().map(|deed| deed.kind.as_str()).filter(|kind| !kind.is_empty()).collect();
        let is_alone = deeds.len() == 1;
        Self {
            deed: None,
            sql,
            kind: (knows_kind || footprint.is_script).then_some(footprint.kind.as_str()),
            kinds: knows_kind.then(|| kinds.into_iter().collect()),
            tables: knows_tables.then(|| read.union(&written).copied().collect()),
            tables_read: knows_tables.then_some(read),
            tables_written: knows_tables.then_some(written),
            columns: columns.filter(|_| knows_tables),
            has_where: is_alone && deeds[0].has_where,
            overwrites: deeds.iter().any(|deed| deed.overwrites),
            is_temporary: !deeds.is_empty() && deeds.iter().all(is_temporary),
            is_script: footprint.is_script,
            is_dynamic: footprint.is_dynamic(),
            certain: footprint.is_certain(),
            functions: all(|deed| &deed.functions),
            models: all(|deed| &deed.models),
            connections: all(|deed| &deed.connections),
            destinations: all(|deed| &deed.destinations),
            sources: all(|deed| &deed.sources),
            labels,
            fingerprint: &footprint.fingerprint,
            parameters: &footprint.parameters,
        }
    }

    fn deed(whole: &Self, deed: &'a Deed) -> Self {
        let knows_kind = !deed.unknown.contains_key(&Knowledge::Kind);
        let knows_tables = knows_kind && knows_tables(std::slice::from_ref(deed));
        let set = |of: &'a BTreeSet<String>| knows_kind.then(|| of.iter().map(String::as_str).collect());
        let tables = |of: &'a BTreeSet<String>| knows_tables.then(|| of.iter().map(String::as_str).collect());
        let both = || deed.read.iter().chain(&deed.written).map(String::as_str).collect();
        Self {
            deed: Some(deed),
            kind: knows_kind.then_some(deed.kind.as_str()),
            kinds: whole.kinds.clone(),
            tables: knows_tables.then(both),
            tables_read: tables(&deed.read),
            tables_written: tables(&deed.written),
            columns: deed.touched().filter(|_| knows_tables),
            has_where: deed.has_where,
            overwrites: deed.overwrites,
            is_temporary: is_temporary(deed),
            functions: set(&deed.functions),
            models: set(&deed.models),
            connections: set(&deed.connections),
            destinations: set(&deed.destinations),
            sources: set(&deed.sources),
            ..whole.clone()
        }
    }

    /// For a question that asks for tables by these names alone: which of them the wildcards cover is known then.
    pub(crate) fn asked_for(&self, footprint: &'a Footprint, names: &'a BTreeSet<String>) -> Option<Self> {
        let deeds: &[Deed] = self.deed.map_or(&footprint.statements[..], std::slice::from_ref);
        let is_known = |what: Knowledge| deeds.iter().all(|deed| deed.unknown(what).is_none());
        let is_named =
            is_known(Knowledge::Kind) && is_known(Knowledge::Tables) && is_known(Knowledge::Target);
        if self.tables.is_some() || !is_named {
            return None;
        }
        let covering = |all: &'a BTreeSet<String>| {
            let covered = names.iter().filter(|name| all.iter().any(|one| is_covered(one, name)));
            all.iter().chain(covered).map(String::as_str).collect::<BTreeSet<_>>()
        };
        let read: BTreeSet<&str> = deeds.iter().flat_map(|deed| covering(&deed.read)).collect();
        let result =
            Some(footprint.result_table.as_str()).filter(|table| self.deed.is_none() && !table.is_empty());
        let written = deeds.iter().flat_map(|deed| covering(&deed.written)).chain(result);
        let written: BTreeSet<&str> = written.collect();
        Some(Self {
            tables: Some(read.union(&written).copied().collect()),
            tables_read: Some(read),
            tables_written: Some(written),
            ..self.clone()
        })
    }

    /// What it does, in the words of a refusal: `DROP_TABLE on p.d.t`.
    pub(crate) fn said(&self, method: &str) -> String {
        const NAMED_MAX: usize = 3;
        let what = self.kind.filter(|kind| !kind.is_empty()).unwrap_or(method);
        let tables: Vec<&str> = self.tables.iter().flatten().copied().collect();
        match tables.len() {
            0 => what.to_owned(),
            some if some <= NAMED_MAX => format!("{what} on {}", tables.join(", ")),
            some => format!("{what} on {} and {} more", tables[..NAMED_MAX].join(", "), some - NAMED_MAX),
        }
    }

    /// Whether it says something of a table.
    pub(crate) fn tables(&self) -> Option<&BTreeSet<&'a str>> {
        self.tables.as_ref()
    }
}
