//! Names of tables, completed by the job's defaults.

use std::collections::BTreeSet;

/// What a job completes names by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Defaults {
    /// Of `dataset.table`.
    pub project: String,
    /// Of `table`: where the default dataset is. Empty: in `project`.
    pub dataset_project: String,
    /// Empty where there is none.
    pub dataset: String,
    /// `project` was changed apart: whether that moves the default dataset is not said anywhere.
    pub is_moved: bool,
    /// Why they may be others; none if they are these.
    pub lost: Option<&'static str>,
}

/// Where temporary tables are.
const SESSION: &str = "_SESSION";
const INFORMATION_SCHEMA: &str = "INFORMATION_SCHEMA";

/// What a path may mean: one table, but for a name that a temporary table may have as well.
pub(crate) fn tables(path: &[&str], defaults: &Defaults, temporary: &BTreeSet<String>) -> Vec<String> {
    let parts = parts(path);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    if let Some(at) = parts.iter().position(|part| part.eq_ignore_ascii_case(INFORMATION_SCHEMA)) {
        return vec![information_schema(&parts, at, defaults)];
    }
    match parts[..] {
        [table] => {
            let in_session = format!("{SESSION}.{table}");
            if defaults.dataset.is_empty() {
                return vec![in_session];
            }
            let mut found: Vec<String> =
                Some(in_session).filter(|_| temporary.contains(table)).into_iter().collect();
            let own = Some(&defaults.dataset_project).filter(|project| !project.is_empty());
            let other = Some(&defaults.project).filter(|_| own.is_none() || defaults.is_moved);
            for project in own.into_iter().chain(other) {
                let name = format!("{project}.{}.{table}", defaults.dataset);
                if !found.contains(&name) {
                    found.push(name);
                }
            }
            found
        }
        [dataset, table] if dataset.eq_ignore_ascii_case(SESSION) => vec![format!("{SESSION}.{table}")],
        [dataset, table] => vec![format!("{}.{dataset}.{table}", defaults.project)],
        [project, dataset, table] => vec![format!("{project}.{dataset}.{table}")],
        _ => vec![parts.join(".")],
    }
}

/// A routine's or a model's name, completed the same way.
pub(crate) fn routine(path: &[&str], defaults: &Defaults) -> String {
    let parts = parts(path);
    match &parts[..] {
        [name] if !defaults.dataset.is_empty() => {
            format!("{}.{}.{name}", defaults.project, defaults.dataset)
        }
        [dataset, name] => format!("{}.{dataset}.{name}", defaults.project),
        _ => parts.join("."),
    }
}

/// A view of the catalogue: `project.dataset.INFORMATION_SCHEMA.VIEW`, a region in the dataset's place, or
/// neither.
fn information_schema(parts: &[&str], at: usize, defaults: &Defaults) -> String {
    let view = parts[at + 1..].join(".").to_ascii_uppercase();
    let before = match parts[..at] {
        [] => defaults.project.clone(),
        [place] => format!("{}.{place}", defaults.project),
        _ => parts[..at].join("."),
    };
    format!("{before}.{INFORMATION_SCHEMA}.{view}")
}

/// The parts of a path. Quotes may hold several (`` `p.d.t` ``); a project may hold a dot before its colon
/// (`example.com:p`). A partition (`$20260101`) or a moment (`@-3600`) is not part of the name.
fn parts(path: &[&str]) -> Vec<String> {
    let whole = path.join(".");
    let (domain, rest) = match whole.split_once(':') {
        Some((domain, rest)) => (Some(domain), rest),
        None => (None, whole.as_str()),
    };
    let mut parts: Vec<String> = rest.split('.').map(str::to_owned).collect();
    if let (Some(domain), Some(first)) = (domain, parts.first_mut()) {
        *first = format!("{domain}:{first}");
    }
    if let Some(last) = parts.last_mut() {
        let end = last.find(['$', '@']).filter(|at| *at > 0).unwrap_or(last.len());
        last.truncate(end);
    }
    parts
}

/// Whether a name stands for every table that begins so.
pub(crate) fn is_wildcard(table: &str) -> bool {
    table.ends_with('*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_complete_a_name() {
        check(&["orders"], &["proj.crm.orders"]);
        check(&["web", "hits"], &["proj.web.hits"]);
        check(&["other", "web", "hits"], &["other.web.hits"]);
    }

    #[test]
    fn quotes_may_hold_several_parts() {
        check(&["proj.crm.orders"], &["proj.crm.orders"]);
        check(&["proj", "crm.orders"], &["proj.crm.orders"]);
        check(&["example.com:legacy", "crm", "orders"], &["example.com:legacy.crm.orders"]);
    }

    #[test]
    fn a_partition_is_not_part_of_the_name() {
        check(&["crm", "orders$20260101"], &["proj.crm.orders"]);
        check(&["crm", "orders@-3600000"], &["proj.crm.orders"]);
    }

    #[test]
    fn the_catalogue_is_named_by_dataset_or_region() {
        check(&["INFORMATION_SCHEMA", "SCHEMATA"], &["proj.INFORMATION_SCHEMA.SCHEMATA"]);
        check(&["crm", "information_schema", "tables"], &["proj.crm.INFORMATION_SCHEMA.TABLES"]);
        check(&["region-us", "INFORMATION_SCHEMA.JOBS"], &["proj.region-us.INFORMATION_SCHEMA.JOBS"]);
    }

    #[test]
    fn a_temporary_table_may_hide_another() {
        check(&["scratch"], &["_SESSION.scratch", "proj.crm.scratch"]);
        check(&["_session", "other"], &["_SESSION.other"]);
    }

    fn check(path: &[&str], expected: &[&str]) {
        let defaults = Defaults { project: "proj".into(), dataset: "crm".into(), ..Defaults::default() };
        assert_eq!(tables(path, &defaults, &BTreeSet::from(["scratch".to_owned()])), expected);
    }
}
