//! What of a request may be another principal's: jobs, anonymous result tables, BigQuery's sessions.

use gateway::{Access, Touch};
use serde::Deserialize;
use serde_json::Value;
use state::{Owned, OwnedKind};

use crate::methods::Method;
use crate::route::{Route, RouteKind};

/// BigQuery hides datasets whose name begins so; anonymous results lie there.
const HIDDEN_DATASET: char = '_';
/// The name of an anonymous result table begins so.
pub(crate) const ANONYMOUS_TABLE: &str = "anon";
/// Things that one request may reach for; more of them is no honest statement.
pub(crate) const TOUCHES_MAX: usize = 1_000;

/// A table as BigQuery's JSON names it.
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct TableName {
    dataset_id: String,
    table_id: String,
}

impl TableName {
    /// The table as something that is owned, if it is an anonymous result.
    pub(crate) fn anonymous(&self) -> Option<Owned> {
        anonymous(&self.dataset_id, &self.table_id)
    }
}

/// `connectionProperties`
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Property {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// What a body reaches for besides its text.
#[derive(Default)]
pub(crate) struct Reached<'a> {
    pub(crate) properties: Vec<&'a Property>,
    pub(crate) sources: Vec<&'a TableName>,
    pub(crate) sql: Option<&'a str>,
}

/// A BigQuery session by its id.
pub(crate) fn session(id: &str) -> Owned {
    Owned { kind: OwnedKind::Session, name: id.to_owned() }
}

/// An anonymous result. Its dataset's name is random and its own, so the project adds nothing.
pub(crate) fn anonymous(dataset: &str, table: &str) -> Option<Owned> {
    let table = table.split(['$', '@']).next().unwrap_or_default();
    dataset
        .starts_with(HIDDEN_DATASET)
        .then(|| Owned { kind: OwnedKind::Table, name: format!("{dataset}.{table}") })
}

/// Whether a table, `project.dataset.table`, is an earlier result that BigQuery itself made.
pub(crate) fn is_anonymous_result(table: &str) -> bool {
    let mut parts = table.rsplitn(3, '.');
    let (name, dataset) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    dataset.starts_with(HIDDEN_DATASET) && name.starts_with(ANONYMOUS_TABLE)
}

/// Everything that a request reaches for.
pub(crate) fn touches(route: &Route, method: Option<&'static Method>, reached: &Reached<'_>) -> Vec<Touch> {
    let mut touches = Vec::new();
    let param = |name: &str| route.params.get(name).map(String::as_str);
    let name = method.map_or("", |method| method.name);
    if let (Some(project), Some(job)) = (param("project"), param("job")) {
        let access = match name {
            "jobs.get" | "jobs.getQueryResults" => Access::Read,
            _ => Access::Change,
        };
        touches.push(Touch { owned: Owned::job(project, job), access });
    }
    if let (Some(project), Some(parent), "jobs.list") =
        (param("project"), route.query_value("parentJobId"), name)
    {
        touches.push(Touch { owned: Owned::job(project, parent), access: Access::Read });
    }
    if let (RouteKind::Plain(method), Some(dataset), Some(table)) =
        (route.kind, param("dataset"), param("table"))
        && let Some(owned) = anonymous(dataset, table)
    {
        let access = match method.effect {
            crate::methods::Effect::Read => Access::Read,
            crate::methods::Effect::Write => Access::Change,
        };
        touches.push(Touch { owned, access });
    }
    for property in reached.properties.iter().filter(|property| property.key == "session_id") {
        touches.push(Touch { owned: session(&property.value), access: Access::Change });
    }
    let sources = reached.sources.iter().filter_map(|table| table.anonymous());
    let named = reached.sql.map(named_in).unwrap_or_default();
    touches.extend(sources.chain(named).map(|owned| Touch { owned, access: Access::Read }));
    touches
}

/// Anonymous results that a statement names: `_dataset.anon...` in any quoting. A text that only looks like one
/// in a string literal is refused too: it costs nobody anything.
fn named_in(sql: &str) -> Vec<Owned> {
    let mut found = Vec::new();
    for (at, _) in sql.match_indices(ANONYMOUS_TABLE) {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let before = &sql[..at];
        if before.ends_with(word) {
            continue;
        }
        let table = &sql[at..];
        let table = &table[..table.find(|c| !word(c)).unwrap_or(table.len())];
        let skipped = before.trim_end_matches(|c: char| c == '`' || c.is_whitespace());
        let Some(path) = skipped.strip_suffix('.') else { continue };
        let path = path.trim_end_matches(|c: char| c == '`' || c.is_whitespace());
        let start =
            path.rfind(|c| !word(c)).map_or(0, |at| at + path[at..].chars().next().map_or(1, char::len_utf8));
        found.extend(anonymous(&path[start..], table));
        if found.len() >= TOUCHES_MAX {
            break;
        }
    }
    found
}

/// The session that an answer opened, in either of the places where BigQuery says it.
pub(crate) fn session_of(info: Option<&Value>) -> Option<Owned> {
    let id = info?.get("sessionId")?.as_str().filter(|id| !id.is_empty())?;
    Some(session(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_results_are_found_in_any_quoting() {
        let name = "_c0ffee.anon1234567890abcdef";
        for sql in [
            "SELECT * FROM `p`._c0ffee.anon1234567890abcdef",
            "SELECT * FROM `p._c0ffee.anon1234567890abcdef` t",
            "select 1 from p . `_c0ffee` .\n `anon1234567890abcdef`",
            "SELECT * FROM _c0ffee.anon1234567890abcdef",
        ] {
            let found: Vec<_> = named_in(sql).into_iter().map(|owned| owned.name).collect();
            assert_eq!(found, [name], "{sql}");
        }
        for sql in
            ["SELECT anonymous FROM d.anonymous", "SELECT 'canon' FROM _x.canon1", "SELECT 1", "é.anon"]
        {
            assert_eq!(named_in(sql), [], "{sql}");
        }
    }
}
