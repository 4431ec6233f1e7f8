//! A team's own cases: a statement or a request, as whom, and what is expected.

use record::PrincipalKind;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use toml::Spanned;

use super::say;
use super::trial::{Asked, Rules, principal};
use crate::cli::Failure;

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    #[serde(default)]
    case: Vec<Spanned<Case>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default)]
    name: String,
    #[serde(rename = "as")]
    who: Who,
    connection: Option<String>,
    sql: Option<String>,
    dataset: Option<String>,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
    #[serde(default)]
    dry_run: bool,
    request: Option<RequestCase>,
    expect: Expect,
    /// A rule that must be among those that apply.
    rule: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Who {
    /// An e-mail address or an id.
    id: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default = "person")]
    kind: PrincipalKind,
}

fn person() -> PrincipalKind {
    PrincipalKind::Person
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestCase {
    method: String,
    path: String,
    #[serde(default)]
    body: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Allow,
    Deny,
    /// Held until a human agrees.
    Approve,
    /// Left out of the record.
    Exclude,
}

impl Expect {
    fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Approve => "approve",
            Self::Exclude => "exclude",
        }
    }
}

/// Runs all cases of a file.
pub(super) fn run(cases: &Path, config: &Path, as_json: bool) -> Result<(), Failure> {
    let text = fs::read_to_string(cases)
        .map_err(|error| Failure::usage(format!("can't read the cases {}: {error}", cases.display())))?;
    let line_of = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let parsed: Cases = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(0, |span| line_of(span.start));
        Failure::usage(format!("{}:{line}: {}", cases.display(), error.message()))
    })?;
    if parsed.case.is_empty() {
        return Err(Failure::usage(format!("{} has no [[case]]", cases.display())));
    }
    let rules = Rules::load(config)?;
    let total = parsed.case.len();
    let mut failed = 0;
    for case in parsed.case {
        let line = line_of(case.span().start);
        let (name, wrong) = judge(&rules, case.into_inner());
        failed += usize::from(wrong.is_some());
        if as_json {
            say(&json!({"case": name, "line": line, "ok": wrong.is_none(), "why": wrong}).to_string())?;
        } else if let Some(why) = wrong {
            say(&format!("{}:{line}: {name}: {why}", cases.display()))?;
        }
    }
    if !as_json {
        say(&format!("{} of {total} cases as expected", total - failed))?;
    }
    if failed == 0 { Ok(()) } else { Err(Failure::no("")) }
}

/// The case's name, and what is wrong with how it is decided.
fn judge(rules: &Rules, case: Case) -> (String, Option<String>) {
    let name = match case.name.as_str() {
        "" => case.sql.clone().or(case.request.as_ref().map(|one| one.path.clone())).unwrap_or_default(),
        name => name.to_owned(),
    };
    let parameters: Vec<Value> = case
        .parameters
        .iter()
        .map(|(name, value)| {
            json!({"name": name, "parameterType": {"type": "STRING"}, "parameterValue": {"value": value}})
        })
        .collect();
    let request = case.request.as_ref();
    let asked = Asked {
        principal: principal(&case.who.id, case.who.kind, &case.who.groups),
        connection: case.connection,
        sql: case.sql,
        dataset: case.dataset,
        method: request.map(|one| one.method.clone()).unwrap_or_default(),
        path: request.map(|one| one.path.clone()),
        body: request.map(|one| one.body.clone()).unwrap_or_default(),
        parameters: (!parameters.is_empty()).then(|| parameters.into()),
        dry_run: case.dry_run,
        now: None,
    };
    let verdict = match rules.decide(asked) {
        Ok(verdict) => verdict,
        // Refused for what it is: no rule could be stricter.
        Err(failure) if failure.code == 1 && case.expect == Expect::Deny && case.rule.is_none() => {
            return (name, None);
        }
        Err(failure) => return (name, Some(failure.message)),
    };
    let is_excluded =
        verdict.ruling.recording.as_ref().is_some_and(|(keeps, _)| *keeps == policy::RecordAs::Excluded);
    let found = match (super::effect(&verdict), is_excluded) {
        ("allow", true) => "exclude",
        (effect, _) => effect,
    };
    if found != case.expect.word() {
        let why = verdict.ruling.denial.map(|denial| format!(" ({})", denial.text)).unwrap_or_default();
        return (name, Some(format!("expected {}, decided {found}{why}", case.expect.word())));
    }
    let missing = case.rule.filter(|rule| !verdict.ruling.rules.contains(rule));
    let wrong = missing
        .map(|rule| format!("decided {found}, but by {:?}, not by rule '{rule}'", verdict.ruling.rules));
    (name, wrong)
}
