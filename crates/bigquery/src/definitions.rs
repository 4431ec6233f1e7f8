//! What stands behind names: a view's query, a routine's body, where a model runs.

use gateway::{Access, Definition, Definitions, Needs, Object, ObjectKind, Question, Touch};
use http::StatusCode;
use record::{Deed, Footprint, Knowledge};
use serde_json::Value;
use std::collections::BTreeSet;

use crate::doors;
use crate::reading::{Dialect, Reader, Reading};
use crate::route::percent_encode;
use crate::schemas::schemas;
use crate::touches::{ANONYMOUS_TABLE, anonymous, session};

/// What is to be looked up for a footprint.
pub(crate) fn objects(footprint: &Footprint, needs: Needs) -> Vec<Object> {
    let mut found = BTreeSet::new();
    let mut add = |kind, names: &BTreeSet<String>| {
        found.extend(
            names.iter().filter(|name| is_object(name)).map(|name| Object { kind, name: name.clone() }),
        );
    };
    for deed in &footprint.statements {
        if needs.tables || needs.columns {
            add(ObjectKind::Table, &deed.read);
        }
        if needs.columns {
            add(ObjectKind::Table, &deed.written);
        }
        if needs.routines {
            add(ObjectKind::Routine, &deed.routines);
        }
        // A model that is made is not there yet.
        if needs.models && !deed.kind.ends_with("_MODEL") {
            add(ObjectKind::Model, &deed.models);
        }
    }
    found.into_iter().collect()
}

/// `project.dataset.name` of something that has a definition.
fn is_object(name: &str) -> bool {
    let is_plain = !name.contains('*') && !name.contains(".INFORMATION_SCHEMA.");
    is_plain && split(name).is_some_and(|[_, dataset, _]| !dataset.starts_with('_'))
}

/// Project, dataset and name. A project may hold a dot before its colon.
fn split(name: &str) -> Option<[&str; 3]> {
    let mut parts = name.rsplitn(3, '.');
    let (last, dataset, project) = (parts.next()?, parts.next()?, parts.next()?);
    Some([project, dataset, last])
}

/// How many rows a table's definition says that it has.
pub(crate) fn rows(definition: &[u8]) -> Option<u64> {
    let table: Value = serde_json::from_slice(definition).ok()?;
    table["numRows"].as_str()?.parse().ok()
}

/// Anonymous results that statements name, however they are spelt; sessions that they end.
pub(crate) fn touches(footprint: &Footprint) -> Vec<Touch> {
    let named = footprint.statements.iter().flat_map(|deed| deed.read.iter().chain(&deed.written));
    let owned = named.filter_map(|name| {
        let [_, dataset, table] = split(name)?;
        // A client may keep tables of its own beside the results.
        let begin = table.strip_suffix('*').unwrap_or(table);
        let may_be_one =
            begin.starts_with(ANONYMOUS_TABLE) || table.ends_with('*') && ANONYMOUS_TABLE.starts_with(begin);
        may_be_one.then(|| anonymous(dataset, table)).flatten()
    });
    let read = owned.map(|owned| Touch { owned, access: Access::Read });
    let ended = footprint.statements.iter().flat_map(|deed| &deed.sessions);
    read.chain(ended.map(|id| Touch { owned: session(id), access: Access::Change })).collect()
}

/// How to ask for a definition.
pub(crate) fn question(object: &Object) -> Option<Question> {
    let [project, dataset, name] = split(&object.name)?;
    let resource = match object.kind {
        ObjectKind::Table => "tables",
        ObjectKind::Routine => "routines",
        ObjectKind::Model => "models",
    };
    let path = format!(
        "/bigquery/v2/projects/{}/datasets/{}/{resource}/{}",
        percent_encode(project),
        percent_encode(dataset),
        percent_encode(name)
    );
    Some(crate::get(crate::own_uri(&path)))
}

/// What tells one state of tables from another: their etags.
pub(crate) fn versions(known: &Definitions) -> String {
    let mut versions: Vec<String> = Vec::new();
    for (object, definition) in known {
        let Some((StatusCode::OK, body)) = definition.as_ref() else { continue };
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        versions.push(format!("{} {}", object.name, body["etag"].as_str().unwrap_or_default()));
    }
    versions.sort();
    versions.join("\n")
}

/// Reads texts, and knows which columns there are where it is asked which ones are touched.
type Knowing<'a> = (&'a Reader, Option<&'a Definitions>);

/// The footprint with what a definition says.
pub(crate) async fn define(
    reader: Knowing<'_>,
    mut footprint: Footprint,
    object: &Object,
    definition: &Definition,
) -> Footprint {
    let body: Option<Value> = match definition {
        Some((StatusCode::OK, body)) => serde_json::from_slice(body).ok(),
        // There is no such thing, which BigQuery will say.
        Some((StatusCode::NOT_FOUND, _)) => Some(Value::Null),
        _ => None,
    };
    let Some(body) = body else {
        not_known(&mut footprint, object);
        return footprint;
    };
    match object.kind {
        ObjectKind::Table => view(reader, footprint, &object.name, &body).await,
        ObjectKind::Routine => routine(reader, footprint, &object.name, &body).await,
        ObjectKind::Model => {
            let info = &body["remoteModelInfo"];
            if info.is_object() {
                let by = info["connection"].as_str().or(info["endpoint"].as_str()).unwrap_or(&object.name);
                for deed in footprint.statements.iter_mut().filter(|deed| deed.models.contains(&object.name))
                {
                    deed.connections.insert(by.to_owned());
                }
            }
            footprint
        }
    }
}

/// It could not be looked up. A routine stays unknown by itself; a model may run elsewhere.
fn not_known(footprint: &mut Footprint, object: &Object) {
    let name = &object.name;
    for deed in &mut footprint.statements {
        match object.kind {
            ObjectKind::Table if deed.read.contains(name) => {
                let why = format!("what {name} is could not be looked up");
                deed.unknown.insert(Knowledge::Tables, why);
            }
            ObjectKind::Model if deed.models.contains(name) => {
                deed.connections.insert(format!("of the model {name}, which could not be looked up"));
            }
            ObjectKind::Table | ObjectKind::Routine | ObjectKind::Model => {}
        }
    }
}

async fn view(reader: Knowing<'_>, mut footprint: Footprint, name: &str, body: &Value) -> Footprint {
    let Some((query, is_legacy)) = doors::view_text(body) else {
        if body["type"].as_str().is_some_and(|kind| kind.ends_with("VIEW")) {
            not_known(&mut footprint, &Object { kind: ObjectKind::Table, name: name.to_owned() });
        }
        return footprint;
    };
    let behind = read(reader, query, name, is_legacy).await;
    for deed in footprint.statements.iter_mut().filter(|deed| deed.read.contains(name)) {
        for other in &behind.statements {
            add(deed, other);
        }
    }
    footprint
}

async fn routine(reader: Knowing<'_>, mut footprint: Footprint, name: &str, body: &Value) -> Footprint {
    let behind = match doors::routine_text(body) {
        None => Footprint::default(),
        Some(text) => read(reader, text, name, false).await,
    };
    let options =
        ["remoteFunctionOptions", "sparkOptions", "externalRuntimeOptions"].map(|field| &body[field]);
    let connection = options.iter().find(|options| options.is_object()).map(|options| {
        options["connection"].as_str().or(options["runtimeConnection"].as_str()).unwrap_or(name).to_owned()
    });
    let mut called = Vec::new();
    for deed in footprint.statements.iter_mut().filter(|deed| deed.routines.contains(name)) {
        deed.routines.remove(name);
        deed.connections.extend(connection.clone());
        if deed.unknown.contains_key(&Knowledge::Kind) && body.is_null() {
            // No such procedure, it is said; its call stays what it was.
            deed.routines.insert(name.to_owned());
            continue;
        }
        if deed.unknown.contains_key(&Knowledge::Kind) {
            // A procedure: what it does are statements of their own.
            deed.unknown.clear();
            called.extend(behind.statements.iter().cloned());
            continue;
        }
        for other in &behind.statements {
            add(deed, other);
        }
    }
    footprint.statements.extend(called);
    footprint.makes_text |= behind.makes_text;
    footprint.unsure.extend(behind.unsure);
    footprint
}

/// What a definition's text does. Its names are completed by where it stands.
async fn read((reader, known): Knowing<'_>, sql: String, name: &str, is_legacy: bool) -> Footprint {
    let [project, dataset, _] = split(name).unwrap_or_default();
    let reading = Reading {
        sql,
        project: project.to_owned(),
        dataset: dataset.to_owned(),
        dataset_project: String::new(),
        is_moved: false,
        dialect: if is_legacy { Dialect::Legacy } else { Dialect::GoogleSql },
        in_session: false,
    };
    reader.read(&reading, known.map(schemas), Footprint::default()).await
}

/// What stands behind a name is done by the statement that names it.
fn add(deed: &mut Deed, behind: &Deed) {
    deed.read.extend(behind.read.iter().cloned());
    deed.functions.extend(behind.functions.iter().cloned());
    deed.routines.extend(behind.routines.iter().cloned());
    deed.models.extend(behind.models.iter().cloned());
    deed.connections.extend(behind.connections.iter().cloned());
    deed.sources.extend(behind.sources.iter().cloned());
    deed.system_variables.extend(behind.system_variables.iter().cloned());
    match &behind.columns {
        _ if deed.columns.is_none() => {}
        Some(columns) => deed.columns.iter_mut().for_each(|own| own.extend(columns.iter().cloned())),
        None if behind.touched().is_some() => {}
        None => {
            deed.columns = None;
            deed.columns_unsure.clone_from(&behind.columns_unsure);
        }
    }
    for (what, why) in &behind.unknown {
        let what = if *what == Knowledge::Kind { Knowledge::Tables } else { *what };
        deed.unknown.entry(what).or_insert_with(|| why.clone());
    }
}
