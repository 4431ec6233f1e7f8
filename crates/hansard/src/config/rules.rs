//! From the file's `[[rule]]` to rules that decide.

use policy::{Approve, ColumnPattern, Expression, Limits, Place, Policy, RecordAs, RuleAction, Snapshot};
use std::fs;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;

use super::load::{ConfigError, Loaded, parse_rules};
use super::shape::{Action, Results, Rule};
use super::units::{bytes, duration_secs};

/// Rules that come with hansard, each a file that can be read.
pub const PRESETS: &[(&str, &str)] = &[
    ("agents-default", include_str!("../../presets/agents-default.toml")),
    ("cost-guard", include_str!("../../presets/cost-guard.toml")),
    ("no-destructive", include_str!("../../presets/no-destructive.toml")),
    ("no-egress", include_str!("../../presets/no-egress.toml")),
    ("read-only", include_str!("../../presets/read-only.toml")),
];
const NAME_LEN_MAX: usize = 63;

/// All rules of a configuration: its own, then those of the files it includes. Also the texts of those files,
/// which the policy's hash covers.
pub fn policy(loaded: &Loaded) -> Result<(Policy, Vec<String>), ConfigError> {
    let mut rules = Vec::new();
    let mut texts = Vec::new();
    let own = loaded.config.rule.iter().map(|rule| compile(loaded, rule));
    rules.extend(own.collect::<Result<Vec<_>, _>>()?);
    for include in &loaded.config.policy.include {
        let (text, path) = included(loaded, include)?;
        let file = parse_rules(&text, &path)?;
        for rule in &file.rules {
            rules.push(compile(&file, rule)?);
        }
        texts.push(text);
    }
    for (at, rule) in rules.iter().enumerate() {
        if rules[..at].iter().any(|other| other.name == rule.name) {
            return Err(loaded.error(format!("two rules are named '{}'", rule.name)));
        }
    }
    Ok((Policy::new(rules), texts))
}

fn included(loaded: &Loaded, include: &Spanned<String>) -> Result<(String, std::path::PathBuf), ConfigError> {
    let name = include.get_ref();
    if let Some((name, text)) = PRESETS.iter().find(|(preset, _)| preset == name) {
        return Ok(((*text).to_owned(), format!("preset {name}").into()));
    }
    let path = loaded.resolve(name.as_ref());
    let text = read(&path).map_err(|error| {
        let presets: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
        let why = format!(
            "include '{name}' is neither a preset ({}) nor a file: {}: {error}",
            presets.join(", "),
            path.display()
        );
        loaded.error_at(&include.span(), why)
    })?;
    Ok((text, path))
}

/// A file of rules is no longer than this.
const FILE_BYTES_MAX: u64 = 1 << 20;

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    match text.len() as u64 > FILE_BYTES_MAX {
        true => Err(std::io::Error::other("it is longer than 1 MiB")),
        false => Ok(text),
    }
}

/// Where a rule stands: a configuration or a file of rules.
pub trait Stands {
    /// An error at a place in the file.
    fn error_at(&self, span: &Range<usize>, what: String) -> ConfigError;
}

impl Stands for Loaded {
    fn error_at(&self, span: &Range<usize>, what: String) -> ConfigError {
        Loaded::error_at(self, span, what)
    }
}

fn compile(file: &impl Stands, rule: &Spanned<Rule>) -> Result<policy::Rule, ConfigError> {
    let (span, rule) = (rule.span(), rule.get_ref());
    let name = rule.name.get_ref();
    let is_name = |name: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        (1..=NAME_LEN_MAX).contains(&name.len()) && name.chars().all(fits)
    };
    if !is_name(name) {
        let why =
            format!("a rule's name is 1 to {NAME_LEN_MAX} letters, digits, '-', '_' and '.', not '{name}'");
        return Err(file.error_at(&rule.name.span(), why));
    }
    let when = Expression::compile_for(rule.when.get_ref(), Place::Rule).map_err(|error| {
        file.error_at(&rule.when.span(), format!("rule '{name}': the expression can't be used: {error}"))
    })?;
    only_its_own(file, rule)?;
    let action = match rule.action.get_ref() {
        Action::Deny => RuleAction::Deny,
        Action::Approve => RuleAction::Approve(approve(file, rule, &span)?),
        Action::Mask => RuleAction::Mask { columns: columns(file, rule, &span)? },
        Action::Record => RuleAction::Record(record_as(file, rule, &span)?),
        Action::Warn => RuleAction::Warn,
        Action::Label => RuleAction::Label,
        Action::Limit => RuleAction::Limit(limits(file, rule, &span)?),
        Action::Snapshot => RuleAction::Snapshot(snapshot(file, rule, &span)?),
    };
    Ok(policy::Rule {
        name: name.clone(),
        when,
        action,
        message: rule.message.clone().unwrap_or_default(),
        instead: rule.instead.clone().unwrap_or_default(),
        observe: rule.observe,
    })
}

/// A key that means nothing for the rule's action is a mistake, not an ornament.
fn only_its_own(file: &impl Stands, rule: &Rule) -> Result<(), ConfigError> {
    let expires = rule.expires.as_ref().filter(|_| *rule.action.get_ref() != Action::Snapshot);
    let given = [
        ("approvers", rule.approvers.as_ref().map(Spanned::span), Action::Approve),
        ("approvals", rule.approvals.as_ref().map(Spanned::span), Action::Approve),
        ("expires", expires.map(Spanned::span), Action::Approve),
        ("dataset", rule.dataset.as_ref().map(Spanned::span), Action::Snapshot),
        ("columns", rule.columns.as_ref().map(Spanned::span), Action::Mask),
        ("with", rule.with.as_ref().map(Spanned::span), Action::Mask),
        ("sql", rule.sql.as_ref().map(Spanned::span), Action::Mask),
        ("bytes_billed", rule.bytes_billed.as_ref().map(Spanned::span), Action::Limit),
        ("bytes_billed_per_day", rule.bytes_billed_per_day.as_ref().map(Spanned::span), Action::Limit),
        ("bytes_billed_per_task", rule.bytes_billed_per_task.as_ref().map(Spanned::span), Action::Limit),
        ("statements_per_minute", rule.statements_per_minute.as_ref().map(Spanned::span), Action::Limit),
        ("rows", rule.rows.as_ref().map(Spanned::span), Action::Limit),
        ("job_timeout", rule.job_timeout.as_ref().map(Spanned::span), Action::Limit),
        ("exclude", rule.exclude.as_ref().map(Spanned::span), Action::Record),
        ("results", rule.results.as_ref().map(Spanned::span), Action::Record),
    ];
    let action = *rule.action.get_ref();
    for (key, span, owner) in given {
        if let Some(span) = span.filter(|_| owner != action) {
            let why = format!("'{key}' belongs to action \"{}\", not \"{}\"", owner.word(), action.word());
            return Err(file.error_at(&span, why));
        }
    }
    Ok(())
}

/// An answer is waited for so long where the rule does not say.
const EXPIRES_SECS: i64 = 3_600;
const EXPIRES_SECS_MAX: i64 = 30 * 86_400;
const APPROVALS_MAX: u32 = 100;

fn approve(file: &impl Stands, rule: &Rule, span: &Range<usize>) -> Result<Approve, ConfigError> {
    let Some(approvers) = &rule.approvers else {
        let why =
            "an approve rule says who may answer, such as approvers = \"'data-leads' in approver.groups\"";
        return Err(file.error_at(span, why.to_owned()));
    };
    let compiled = Expression::compile_for(approvers.get_ref(), Place::Approvers).map_err(|error| {
        file.error_at(&approvers.span(), format!("the expression of approvers can't be used: {error}"))
    })?;
    let needed = rule.approvals.as_ref().map_or(1, |count| *count.get_ref());
    if let Some(count) = rule.approvals.as_ref().filter(|_| !(1..=APPROVALS_MAX).contains(&needed)) {
        return Err(file.error_at(&count.span(), format!("approvals is 1 to {APPROVALS_MAX}, not {needed}")));
    }
    let expires_secs = expires(file, rule, EXPIRES_SECS)?;
    Ok(Approve { approvers: compiled, needed, expires_secs })
}

fn expires(file: &impl Stands, rule: &Rule, usual: i64) -> Result<i64, ConfigError> {
    let Some(text) = &rule.expires else { return Ok(usual) };
    let secs = duration_secs(text.get_ref()).map_err(|why| file.error_at(&text.span(), why))?;
    match (1..=EXPIRES_SECS_MAX).contains(&secs) {
        true => Ok(secs),
        false => Err(file.error_at(&text.span(), "expires is 1s to 30d".to_owned())),
    }
}

/// A snapshot is kept for so long where the rule does not say.
const KEPT_SECS: i64 = 7 * 86_400;

fn snapshot(file: &impl Stands, rule: &Rule, span: &Range<usize>) -> Result<Snapshot, ConfigError> {
    let Some(dataset) = &rule.dataset else {
        let why = "a snapshot rule says where snapshots are kept, such as dataset = \"acme-prod.hansard_snapshots\"";
        return Err(file.error_at(span, why.to_owned()));
    };
    let is_name = |part: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.');
        !part.is_empty() && part.chars().all(fits)
    };
    let named = dataset.get_ref().rsplit_once('.');
    if !named.is_some_and(|(project, name)| is_name(project) && is_name(name)) {
        return Err(file.error_at(&dataset.span(), "dataset is project.dataset".to_owned()));
    }
    Ok(Snapshot { dataset: dataset.get_ref().clone(), expires_secs: expires(file, rule, KEPT_SECS)? })
}

fn limits(file: &impl Stands, rule: &Rule, span: &Range<usize>) -> Result<Limits, ConfigError> {
    let size = |text: &Option<Spanned<String>>| {
        let size =
            text.as_ref().map(|text| bytes(text.get_ref()).map_err(|why| file.error_at(&text.span(), why)));
        size.transpose()
    };
    let job_timeout = rule
        .job_timeout
        .as_ref()
        .map(|text| duration_secs(text.get_ref()).map_err(|why| file.error_at(&text.span(), why)));
    let limits = Limits {
        bytes_billed: size(&rule.bytes_billed)?,
        bytes_billed_per_day: size(&rule.bytes_billed_per_day)?,
        bytes_billed_per_task: size(&rule.bytes_billed_per_task)?,
        rows: rule.rows.as_ref().map(|count| *count.get_ref()),
        job_timeout_ms: job_timeout.transpose()?.map(|secs| secs as u64 * 1_000),
        statements_per_minute: rule.statements_per_minute.as_ref().map(|count| *count.get_ref()),
    };
    match limits == Limits::default() {
        true => Err(file.error_at(
            span,
            "a limit rule limits something: bytes_billed, bytes_billed_per_day, bytes_billed_per_task, job_timeout, rows \
             or statements_per_minute"
                .to_owned(),
        )),
        false => Ok(limits),
    }
}

fn columns(file: &impl Stands, rule: &Rule, span: &Range<usize>) -> Result<Vec<ColumnPattern>, ConfigError> {
    let Some(columns) = rule.columns.as_ref().filter(|columns| !columns.get_ref().is_empty()) else {
        return Err(file.error_at(span, "a mask rule names its columns".to_owned()));
    };
    let parsed = columns.get_ref().iter().map(|column| ColumnPattern::parse(column));
    parsed.collect::<Result<_, _>>().map_err(|why| file.error_at(&columns.span(), why))
}

fn record_as(file: &impl Stands, rule: &Rule, span: &Range<usize>) -> Result<RecordAs, ConfigError> {
    match (&rule.exclude, &rule.results) {
        (Some(exclude), None) if *exclude.get_ref() => Ok(RecordAs::Excluded),
        (None, Some(results)) => Ok(match results.get_ref() {
            Results::Rows => RecordAs::Rows,
            Results::Hash => RecordAs::Hash,
            Results::None => RecordAs::Count,
        }),
        _ => {
            let why = "a record rule has either exclude = true or results = \"rows\", \"hash\" or \"none\"";
            Err(file.error_at(span, why.to_owned()))
        }
    }
}
