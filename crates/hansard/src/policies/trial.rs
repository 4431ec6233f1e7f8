//! One request, decided by the rules of a configuration.

use bigquery::Reader;
use bytes::Bytes;
use gateway::Question;
use http::Uri;
use policy::{Policy, RecordAs, Rule, RuleAction, Ruling};
use record::{Clock, Footprint, Principal, PrincipalKind, SystemClock, Timestamp};
use serde_json::{Value, json};
use std::path::Path;
use tokio::runtime::Runtime;

use crate::cli::Failure;
use crate::config;
use crate::sql;
use crate::wiring::{Settings, TrialConnection};

/// The rules of a configuration, and what it takes to apply them.
pub(crate) struct Rules {
    settings: Settings,
    reader: Reader,
    runtime: Runtime,
}

/// Who asks for what.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) principal: Option<Principal>,
    pub(crate) connection: Option<String>,
    pub(crate) sql: Option<String>,
    pub(crate) dataset: Option<String>,
    pub(crate) method: String,
    pub(crate) path: Option<String>,
    pub(crate) body: String,
    /// Query parameters of a statement, as BigQuery's JSON has them.
    pub(crate) parameters: Option<Value>,
    pub(crate) dry_run: bool,
    pub(crate) now: Option<Timestamp>,
}

/// How it was decided.
pub(crate) struct Verdict {
    pub(crate) method: String,
    pub(crate) footprint: Footprint,
    pub(crate) ruling: Ruling,
    connection: String,
    policy: String,
}

/// Somebody, by what a command line says of them.
pub(crate) fn principal(who: &str, kind: PrincipalKind, groups: &[String]) -> Option<Principal> {
    let email = if who.contains('@') { who } else { "" };
    Some(Principal {
        id: who.to_owned(),
        email: email.to_owned(),
        name: who.to_owned(),
        groups: groups.to_vec(),
        ..Principal::of(kind)
    })
}

/// What a rule takes away from the record, in words; none if nothing.
pub(crate) fn consequence(rule: &Rule) -> Option<String> {
    match &rule.action {
        RuleAction::Record(RecordAs::Excluded) => Some(
            "leaves out of the record: the statement, its tables, parameters, labels, path and rows. What stays: that \
             this rule left something out, who, when, by which method, and how many bytes. It never applies to what \
             writes, goes to a destination or is not certain."
                .to_owned(),
        ),
        RuleAction::Record(RecordAs::Count) => {
            Some("keeps no rows and no hash of them: what was read can't be shown or proved later.".to_owned())
        }
        RuleAction::Record(RecordAs::Hash) => {
            Some("keeps no rows: what was read can be proved by its hash, not shown.".to_owned())
        }
        RuleAction::Mask { columns } => {
            let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
            Some(format!("refuses what reads {}, or might: this build does not mask yet.", columns.join(", ")))
        }
        RuleAction::Approve(approve) => Some(format!(
            "holds it for at most {}, until {} of those have said yes for whom: {}.",
            crate::config::days_text(approve.expires_secs),
            approve.needed,
            approve.approvers.text()
        )),
        RuleAction::Snapshot(snapshot) => Some(format!(
            "keeps a snapshot in {} for {} of every table that it may change; if that fails, it is refused.",
            snapshot.dataset,
            crate::config::days_text(snapshot.expires_secs)
        )),
        RuleAction::Record(RecordAs::Rows)
        | RuleAction::Deny
        | RuleAction::Limit(_)
        | RuleAction::Warn
        | RuleAction::Label => None,
    }
}

impl Rules {
    /// Reads and checks a configuration.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let settings = Settings::check(config::load(path)?, None)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| Failure::other_side(format!("the system gives no threads: {error}")))?;
        Ok(Self { settings, reader: sql::reader(), runtime })
    }

    /// The rules.
    pub(crate) fn policy(&self) -> &Policy {
        self.settings.rules()
    }

    /// Decides.
    pub(crate) fn decide(&self, asked: Asked) -> Result<Verdict, Failure> {
        let mut principal = asked.principal.clone().ok_or_else(|| Failure::usage("nobody asks"))?;
        let connection = self.settings.trial_connection(asked.connection.as_deref(), &mut principal)?;
        let question = question(&asked, &connection)?;
        let trial = self.runtime.block_on(bigquery::trial(question, &self.reader));
        let trial = trial.map_err(|refusal| {
            Failure::no(format!("refused before any rule is asked: {}", refusal.message))
        })?;
        let ruling = self.policy().decide(&policy::Question {
            principal: &principal,
            connection: (&connection.name, &connection.projects),
            allow_egress: &connection.allow_egress,
            reads_history: connection.reads_history,
            method: &trial.method,
            client_ip: "",
            user_agent: "",
            sql: &trial.sql,
            labels: &trial.labels,
            footprint: &trial.footprint,
            estimate: policy::Estimate::default(),
            now: asked.now.unwrap_or_else(|| SystemClock.now()),
            history: policy::History::default(),
        });
        Ok(Verdict {
            method: trial.method,
            footprint: trial.footprint,
            ruling,
            connection: connection.name,
            policy: self.settings.policy.clone(),
        })
    }
}

/// The request as it would come: a statement comes as `jobs.query`.
fn question(asked: &Asked, connection: &TrialConnection) -> Result<Question, Failure> {
    let project = connection.projects.first().map(String::as_str).unwrap_or_default();
    let (verb, path, body) = match (&asked.sql, &asked.path) {
        (Some(sql), _) => {
            let mut body = json!({"query": sql, "useLegacySql": false});
            if let Some(dataset) = &asked.dataset {
                let (project, dataset) = dataset.split_once('.').unwrap_or((project, dataset));
                body["defaultDataset"] = json!({"projectId": project, "datasetId": dataset});
            }
            if let Some(parameters) = &asked.parameters {
                body["queryParameters"] = parameters.clone();
            }
            if asked.dry_run {
                body["dryRun"] = true.into();
            }
            ("POST", format!("/bigquery/v2/projects/{project}/queries"), body.to_string())
        }
        (None, Some(path)) => (asked.method.as_str(), path.clone(), asked.body.clone()),
        (None, None) => return Err(Failure::usage("there is neither a statement nor a path")),
    };
    let verb = verb.to_ascii_uppercase().parse();
    let verb = verb.map_err(|_| Failure::usage(format!("'{}' is no HTTP method", asked.method)))?;
    let uri: Result<Uri, _> = path.parse();
    let uri = uri.map_err(|error| Failure::usage(format!("'{path}' is no path: {error}")))?;
    Ok(Question { verb, uri, body: Bytes::from(body) })
}

impl Verdict {
    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let footprint = &self.footprint;
        json!({
            "effect": super::effect(self),
            "rules": self.ruling.rules,
            "terms": self.ruling.terms,
            "observed": self.ruling.observed.iter().map(|one| json!({"rule": one.rule, "action": one.action})).collect::<Vec<_>>(),
            "warnings": self.ruling.warnings,
            "message": self.ruling.denial.as_ref().map(|denial| denial.text.clone()),
            "holds": self.ruling.demands.iter().map(|demand| json!({"rule": demand.rule, "needed": demand.needed,
                "expires_secs": demand.expires_secs, "text": demand.text})).collect::<Vec<_>>(),
            "missing": self.ruling.missing,
            "recording": self.ruling.recording.as_ref().map(|(keeps, rule)| json!({"keeps": keeps.word(), "rule": rule})),
            "method": self.method, "connection": self.connection, "policy": self.policy,
            "statement": {
                "kind": footprint.kind, "kinds": footprint.kinds(), "tables": footprint.tables(),
                "certain": footprint.is_certain(), "is_script": footprint.is_script,
                "is_dynamic": footprint.is_dynamic(), "unsure": footprint.unsure,
                "fingerprint": footprint.fingerprint,
            },
            "request": {"is_read": footprint.is_read(), "is_admin": footprint.is_admin()},
            "statements": footprint.statements.iter().map(statement).collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let footprint = &self.footprint;
        let mut lines = Vec::new();
        match &self.ruling.denial {
            Some(denial) => lines.push(format!("deny: {}", denial.text)),
            None if self.ruling.demands.is_empty() => lines.push("allow".to_owned()),
            None => {
                lines.extend(self.ruling.demands.iter().map(|demand| format!("approve: {}", demand.text)))
            }
        }
        let mut add = |name: &str, value: String| {
            if !value.is_empty() {
                lines.push(format!("  {name:<12} {value}"));
            }
        };
        add("rules", self.ruling.rules.join(", "));
        for one in &self.ruling.observed {
            add("observes", format!("{} would {}", one.rule, one.action));
        }
        for warning in &self.ruling.warnings {
            add("warns", warning.clone());
        }
        if let Some((keeps, rule)) = &self.ruling.recording {
            add("records", format!("{} (rule '{rule}')", keeps.word()));
        }
        add("method", self.method.clone());
        add("connection", self.connection.clone());
        add("kind", footprint.kind.clone());
        add("kinds", footprint.kinds().join(", "));
        add("tables", footprint.tables().join(", "));
        add("only reads", if footprint.is_read() { "yes" } else { "no" }.to_owned());
        add("certain", if footprint.is_certain() { "yes" } else { "no" }.to_owned());
        for why in &footprint.unsure {
            add("unsure", why.clone());
        }
        for deed in &footprint.statements {
            for why in deed.unknown.values() {
                add("unknown", why.clone());
            }
        }
        lines.dedup();
        lines
    }
}

fn statement(deed: &record::Deed) -> Value {
    json!({
        "kind": deed.kind, "tables_read": deed.read, "tables_written": deed.written, "has_where": deed.has_where,
        "overwrites": deed.overwrites, "functions": deed.functions, "models": deed.models,
        "connections": deed.connections, "destinations": deed.destinations, "sources": deed.sources,
        "unknown": deed.unknown.values().collect::<Vec<_>>(),
    })
}
