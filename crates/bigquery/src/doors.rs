//! What a method does in terms of statements: one rule closes SQL and API.

use record::{Access, Deed, Footprint, Knowledge};
use serde_json::Value;
use std::collections::BTreeSet;

use crate::methods::{Effect, Method};
use crate::route::Route;

/// One method that equals a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    pub method: &'static str,
    /// The kinds that it may equal; which one, its body says.
    pub kinds: &'static [&'static str],
    /// What it does to the table that it names.
    pub table: Named,
    /// It changes who may do what.
    pub is_admin: bool,
}

/// What a method does to the table that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    Read,
    Written,
    /// It names none.
    None,
}

impl Door {
    /// Puts the table that a request names where it belongs.
    pub(crate) fn place(&self, deed: &mut Deed, table: Option<String>) {
        match self.table {
            Named::Read => deed.read.extend(table),
            Named::Written => deed.written.extend(table),
            Named::None => {}
        }
    }
}

/// Methods without SQL, and the statements that they equal. `jobs.query` and query jobs carry their own.
pub const DOORS: &[Door] = &[
    d(
        "jobs.insert",
        &["LOAD_DATA", "EXPORT_DATA", "EXPORT_MODEL", "CREATE_TABLE", "CREATE_SNAPSHOT_TABLE"],
        Named::None,
    ),
    d(
        "tables.insert",
        &["CREATE_TABLE", "CREATE_VIEW", "CREATE_MATERIALIZED_VIEW", "CREATE_EXTERNAL_TABLE"],
        Named::Written,
    ),
    d("tables.patch", &["ALTER_TABLE", "ALTER_VIEW", "ALTER_MATERIALIZED_VIEW"], Named::Written),
    d("tables.update", &["ALTER_TABLE", "ALTER_VIEW", "ALTER_MATERIALIZED_VIEW"], Named::Written),
    d("tables.delete", &["DROP_TABLE"], Named::Written),
    d("tabledata.insertAll", &["INSERT"], Named::Written),
    d("tabledata.list", &["SELECT"], Named::Read),
    d("datasets.insert", &["CREATE_SCHEMA"], Named::None),
    d("datasets.patch", &["ALTER_SCHEMA"], Named::None),
    d("datasets.update", &["ALTER_SCHEMA"], Named::None),
    d("datasets.delete", &["DROP_SCHEMA"], Named::None),
    d("datasets.undelete", &["UNDROP_SCHEMA"], Named::None),
    d("routines.insert", &["CREATE_FUNCTION", "CREATE_PROCEDURE", "CREATE_TABLE_FUNCTION"], Named::None),
    d("routines.update", &["CREATE_FUNCTION", "CREATE_PROCEDURE", "CREATE_TABLE_FUNCTION"], Named::None),
    d("routines.delete", &["DROP_FUNCTION", "DROP_PROCEDURE", "DROP_TABLE_FUNCTION"], Named::None),
    d("models.patch", &["ALTER_MODEL"], Named::None),
    d("models.delete", &["DROP_MODEL"], Named::None),
    admin("rowAccessPolicies.insert", &["CREATE_ROW_ACCESS_POLICY"], Named::Written),
    admin("rowAccessPolicies.update", &["CREATE_ROW_ACCESS_POLICY"], Named::Written),
    admin("rowAccessPolicies.delete", &["DROP_ROW_ACCESS_POLICY"], Named::Written),
    admin("rowAccessPolicies.batchDelete", &["DROP_ROW_ACCESS_POLICY"], Named::Written),
    admin("tables.setIamPolicy", &["GRANT", "REVOKE"], Named::Written),
    admin("routines.setIamPolicy", &["GRANT", "REVOKE"], Named::None),
    d("BigQueryRead.CreateReadSession", &["SELECT"], Named::Read),
    d("BigQueryWrite.CreateWriteStream", &["INSERT"], Named::Written),
    d("BigQueryWrite.AppendRows", &["INSERT"], Named::Written),
    d("BigQueryWrite.FlushRows", &["INSERT"], Named::Written),
    d("BigQueryWrite.BatchCommitWriteStreams", &["INSERT"], Named::Written),
];

const fn d(method: &'static str, kinds: &'static [&'static str], table: Named) -> Door {
    Door { method, kinds, table, is_admin: false }
}

const fn admin(method: &'static str, kinds: &'static [&'static str], table: Named) -> Door {
    Door { method, kinds, table, is_admin: true }
}

pub(crate) fn door(method: &str) -> Option<&'static Door> {
    DOORS.iter().find(|door| door.method == method)
}

/// The footprint of a request whose body is not SQL.
pub(crate) fn footprint(route: &Route, method: &'static Method, body: Option<&Value>) -> Footprint {
    let access = match method.effect {
        Effect::Read => Access::Read,
        Effect::Write => Access::Write,
    };
    let Some(door) = door(method.name) else { return Footprint { access, ..Footprint::default() } };
    let param = |name: &str| route.params.get(name).map(String::as_str);
    let body = body.unwrap_or(&Value::Null);
    let named = param("table").or(body["tableReference"]["tableId"].as_str());
    let table = match (param("project"), param("dataset"), named) {
        (Some(project), Some(dataset), Some(table)) => Some(table_name(project, dataset, table)),
        _ => None,
    };
    let mut deeds = match method.name {
        "tables.insert" => vec![defined(door, body, "CREATE_EXTERNAL_TABLE")],
        "tables.patch" | "tables.update" => vec![defined(door, body, "ALTER_TABLE")],
        "datasets.insert" | "datasets.patch" | "datasets.update" => {
            let changes_access = !body["access"].is_null();
            vec![Deed { changes_access, ..schema(door, body) }]
        }
        "datasets.delete" => vec![dropped_dataset(route)],
        "routines.insert" | "routines.update" => vec![routine(body)],
        // Which sort of routine it is, is not said: it is as forbidden as the most forbidden of them.
        "routines.delete" => door.kinds.iter().map(|kind| Deed::of(kind)).collect(),
        "tabledata.list" => vec![listed(route, table.as_deref())],
        _ => door.kinds.iter().map(|kind| Deed::of(kind)).collect(),
    };
    let routine = param("routine").or(body["routineReference"]["routineId"].as_str());
    let routine = match (param("project"), param("dataset"), routine) {
        (Some(project), Some(dataset), Some(routine)) => Some(format!("{project}.{dataset}.{routine}")),
        _ => None,
    };
    for deed in &mut deeds {
        deed.defined.extend(routine.clone());
        deed.changes_access |= door.is_admin;
        door.place(deed, table.clone());
    }
    let access = if door.is_admin { Access::Admin } else { access };
    Footprint { kind: deeds[0].kind.clone(), statements: deeds, access, ..Footprint::default() }
}

/// The SQL inside what a method defines, and whether it is legacy: a view's query, a routine's body.
pub(crate) fn text(method: &str, body: &Value) -> Option<(String, bool)> {
    match method {
        "tables.insert" | "tables.patch" | "tables.update" => view_text(body),
        "routines.insert" | "routines.update" => routine_text(body).map(|text| (text, false)),
        _ => None,
    }
}

/// The query of a table's resource, and whether it is legacy; none if it is no view.
pub(crate) fn view_text(body: &Value) -> Option<(String, bool)> {
    let (view, materialized) = (&body["view"], &body["materializedView"]);
    let query = view["query"].as_str().or(materialized["query"].as_str())?;
    let is_legacy = view.is_object() && view["useLegacySql"].as_bool().unwrap_or(true);
    Some((query.to_owned(), is_legacy))
}

/// The body of a routine's resource as a statement; none if it is another language's.
pub(crate) fn routine_text(body: &Value) -> Option<String> {
    let is_sql = body["language"].as_str().is_none_or(|language| language == "SQL");
    let text = body["definitionBody"].as_str().filter(|_| is_sql)?;
    Some(match body["routineType"].as_str() {
        Some("PROCEDURE" | "TABLE_VALUED_FUNCTION") => text.to_owned(),
        // An expression.
        _ => format!("SELECT ({text}\n)"),
    })
}

/// A table's name, without a partition or a moment.
pub(crate) fn table_name(project: &str, dataset: &str, table: &str) -> String {
    let end = table.find(['$', '@']).filter(|at| *at > 0).unwrap_or(table.len());
    format!("{project}.{dataset}.{}", &table[..end])
}

/// A table, a view or an external table, by what its body defines.
fn defined(door: &Door, body: &Value, external: &str) -> Deed {
    let verb = door.kinds[0].split('_').next().unwrap_or_default();
    let kind = match body {
        body if !body["view"].is_null() => format!("{verb}_VIEW"),
        body if !body["materializedView"].is_null() => format!("{verb}_MATERIALIZED_VIEW"),
        body if !body["externalDataConfiguration"].is_null() => external.to_owned(),
        _ => door.kinds[0].to_owned(),
    };
    let mut deed = Deed::of(&kind);
    deed.sources.extend(addresses(&body["externalDataConfiguration"]["sourceUris"]));
    let connection = body["externalDataConfiguration"]["connectionId"].as_str();
    let connection = connection.or(body["biglakeConfiguration"]["connectionId"].as_str());
    deed.connections.extend(connection.map(str::to_owned));
    deed.sources.extend(body["biglakeConfiguration"]["storageUri"].as_str().map(str::to_owned));
    deed
}

/// A dataset, which may be linked to another's, or to another system.
fn schema(door: &Door, body: &Value) -> Deed {
    let mut deed = Deed::of(door.kinds[0]);
    deed.connections.extend(body["externalDatasetReference"]["connection"].as_str().map(str::to_owned));
    deed.sources.extend(body["externalDatasetReference"]["externalSource"].as_str().map(str::to_owned));
    if !body["linkedDatasetSource"].is_null() {
        deed.unknown.insert(Knowledge::Tables, "it shows every table of another dataset".to_owned());
    }
    deed
}

fn dropped_dataset(route: &Route) -> Deed {
    let mut deed = Deed::of("DROP_SCHEMA");
    if route.query_value("deleteContents").is_some_and(|value| value != "false") {
        deed.unknown.insert(Knowledge::Tables, "every table of the dataset is dropped with it".to_owned());
    }
    deed
}

fn routine(body: &Value) -> Deed {
    let kind = match body["routineType"].as_str() {
        Some("PROCEDURE") => "CREATE_PROCEDURE",
        Some("TABLE_VALUED_FUNCTION") => "CREATE_TABLE_FUNCTION",
        _ => "CREATE_FUNCTION",
    };
    let mut deed = Deed::of(kind);
    deed.is_remote = !body["remoteFunctionOptions"].is_null() || !body["sparkOptions"].is_null();
    let connections = [&body["remoteFunctionOptions"]["connection"], &body["sparkOptions"]["connection"]];
    deed.connections.extend(connections.into_iter().filter_map(Value::as_str).map(str::to_owned));
    deed
}

fn listed(route: &Route, table: Option<&str>) -> Deed {
    // What is no list of names may mean all of them.
    let is_name = |field: &str| {
        !field.is_empty() && field.chars().all(|one| one.is_alphanumeric() || matches!(one, '_' | '.'))
    };
    // Of several lists it is not said which one counts.
    let lists = route.query.iter().filter(|(name, _)| name == "selectedFields").count();
    let fields = route.query_value("selectedFields").filter(|_| lists == 1);
    let fields = fields.filter(|fields| fields.split(',').all(is_name));
    let columns = fields.zip(table).map(|(fields, table)| {
        fields.split(',').map(|field| format!("{table}.{field}")).collect::<BTreeSet<_>>()
    });
    Deed { columns, ..Deed::of("SELECT") }
}

/// Addresses in a list.
pub(crate) fn addresses(list: &Value) -> Vec<String> {
    let one = list.as_str().map(str::to_owned);
    let many = list.as_array().into_iter().flatten();
    // What is no text is an address that can't be told.
    let many = many.map(|one| one.as_str().unwrap_or("unknown:").to_owned());
    one.into_iter().chain(many).collect()
}

/// The footprint of a load, extract or copy job; none if it is none of them.
pub(crate) fn job(configuration: &Value, project: &str) -> Option<Footprint> {
    let table = |name: &Value| {
        let part = |field: &str| name[field].as_str();
        let (dataset, table) = (part("datasetId")?, part("tableId")?);
        Some(table_name(part("projectId").unwrap_or(project), dataset, table))
    };
    let (load, extract, copy) = (&configuration["load"], &configuration["extract"], &configuration["copy"]);
    let deed = if load.is_object() {
        let mut deed = Deed::of("LOAD_DATA");
        deed.written.extend(table(&load["destinationTable"]));
        deed.sources.extend(addresses(&load["sourceUris"]));
        deed.overwrites = overwrites(&load["writeDisposition"]);
        deed
    } else if extract.is_object() {
        let is_model = extract["sourceModel"].is_object();
        let mut deed = Deed::of(if is_model { "EXPORT_MODEL" } else { "EXPORT_DATA" });
        deed.read.extend(table(&extract["sourceTable"]));
        deed.destinations.extend(addresses(&extract["destinationUris"]));
        deed.destinations.extend(extract["destinationUri"].as_str().map(str::to_owned));
        if deed.destinations.is_empty() {
            deed.destinations.insert("unknown:".to_owned());
        }
        deed
    } else if copy.is_object() {
        let is_snapshot = copy["operationType"].as_str() == Some("SNAPSHOT");
        let mut deed = Deed::of(if is_snapshot { "CREATE_SNAPSHOT_TABLE" } else { "CREATE_TABLE" });
        let sources = copy["sourceTables"].as_array().into_iter().flatten();
        deed.read.extend(sources.chain(Some(&copy["sourceTable"])).filter_map(table));
        deed.written.extend(table(&copy["destinationTable"]));
        deed.overwrites = overwrites(&copy["writeDisposition"]);
        deed
    } else {
        return None;
    };
    let kind = deed.kind.clone();
    Some(Footprint { kind, statements: vec![deed], access: Access::Write, ..Footprint::default() })
}

/// Whether a write disposition replaces what is there.
pub(crate) fn overwrites(disposition: &Value) -> bool {
    !disposition.is_null() && !matches!(disposition.as_str(), Some("WRITE_EMPTY" | "WRITE_APPEND"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::{METHODS, named};

    #[test]
    fn every_method_that_writes_equals_a_statement_or_is_known_to_equal_none() {
        const NONE: &[&str] = &["jobs.cancel", "jobs.delete", "jobs.query"];
        let writes = METHODS.iter().filter(|method| method.effect == Effect::Write);
        let missing: Vec<_> = writes
            .map(|method| method.name)
            .filter(|name| door(name).is_none() && !NONE.contains(name))
            .collect();
        assert_eq!(missing, Vec::<&str>::new());
    }

    #[test]
    fn every_door_is_a_method() {
        for door in DOORS.iter().filter(|door| !door.method.starts_with("BigQuery")) {
            assert!(named(door.method).is_some(), "{}", door.method);
        }
    }
}
