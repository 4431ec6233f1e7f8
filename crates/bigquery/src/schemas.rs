//! Which columns tables have, and what functions return, as their definitions say it.

use gateway::{Definition, Definitions, ObjectKind};
use googlesql::{Returned, Schemas, Type};
use http::StatusCode;
use record::{Deed, Footprint};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Records in records; BigQuery allows 15.
const DEPTH_MAX: usize = 32;

/// What these definitions say of columns.
pub(crate) fn schemas(known: &Definitions) -> Arc<Schemas> {
    let mut schemas = Schemas::default();
    for (object, definition) in known {
        let name = || object.name.clone();
        let body: Value = match definition.as_ref() {
            Some((StatusCode::OK, body)) => serde_json::from_slice(body).unwrap_or_default(),
            Some((StatusCode::NOT_FOUND, _)) if object.kind == ObjectKind::Table => {
                schemas.absent.insert(name());
                continue;
            }
            _ => continue,
        };
        match object.kind {
            ObjectKind::Table => {
                let columns = columns(&body["schema"]["fields"], 0);
                schemas.tables.extend(columns.map(|columns| (name(), columns)));
            }
            ObjectKind::Routine => {
                schemas.functions.extend(function(&body).map(|returned| (name(), returned)));
            }
            ObjectKind::Model => {}
        }
    }
    Arc::new(schemas)
}

/// `TableFieldSchema`s; none if one of them is of a type that is not known.
fn columns(fields: &Value, depth: usize) -> Option<Vec<(String, Type)>> {
    let fields = fields.as_array().filter(|_| depth < DEPTH_MAX)?;
    let column = |field: &Value| {
        let kind = match field["type"].as_str()? {
            "RECORD" | "STRUCT" => Type::Struct(columns(&field["fields"], depth + 1)?),
            "RANGE" => Type::Range(Box::new(Type::plain(field["rangeElementType"]["type"].as_str()?)?)),
            plain => Type::plain(plain)?,
        };
        let kind = if field["mode"] == "REPEATED" { Type::Array(Box::new(kind)) } else { kind };
        Some((field["name"].as_str()?.to_owned(), kind))
    };
    fields.iter().map(column).collect()
}

/// A scalar function of SQL need not say what it returns.
fn function(body: &Value) -> Option<Returned> {
    if let Some(kind) = returned(&body["returnType"], 0) {
        return Some(Returned::Type(kind));
    }
    let is_sql = body["language"].as_str().is_none_or(|language| language == "SQL");
    let is_scalar = body["routineType"].as_str().is_none_or(|kind| kind == "SCALAR_FUNCTION");
    let sql = body["definitionBody"].as_str().filter(|_| is_sql && is_scalar)?;
    let argument =
        |argument: &Value| Some((argument["name"].as_str()?.to_owned(), returned(&argument["dataType"], 0)?));
    let arguments = body["arguments"].as_array().map(Vec::as_slice).unwrap_or_default();
    let arguments = arguments.iter().map(argument).collect::<Option<_>>()?;
    Some(Returned::Body { sql: sql.to_owned(), arguments })
}

/// `StandardSqlDataType`
fn returned(kind: &Value, depth: usize) -> Option<Type> {
    match kind["typeKind"].as_str().filter(|_| depth < DEPTH_MAX)? {
        "ARRAY" => Some(Type::Array(Box::new(returned(&kind["arrayElementType"], depth + 1)?))),
        "RANGE" => Some(Type::Range(Box::new(returned(&kind["rangeElementType"], depth + 1)?))),
        "STRUCT" => {
            let fields = kind["structType"]["fields"].as_array()?;
            let field = |field: &Value| {
                Some((
                    field["name"].as_str().unwrap_or_default().to_owned(),
                    returned(&field["type"], depth + 1)?,
                ))
            };
            fields.iter().map(field).collect::<Option<_>>().map(Type::Struct)
        }
        plain => Type::plain(plain),
    }
}

/// What a method without SQL touches: the columns that it selects, as the table spells them, or every column of what it
/// reads and writes.
pub(crate) fn take(footprint: &mut Footprint, schemas: &Schemas) {
    for deed in &mut footprint.statements {
        if !deed.columns_unsure.is_empty() {
            continue;
        }
        match touched(deed, schemas) {
            Ok((read, written)) => {
                deed.columns = Some(read);
                deed.columns_written = written;
            }
            Err(why) => {
                deed.columns = None;
                deed.columns_unsure = why;
            }
        }
    }
}

type Columns = BTreeSet<String>;

fn touched(deed: &Deed, schemas: &Schemas) -> Result<(Columns, Columns), String> {
    let (mut read, mut written) = (Columns::new(), Columns::new());
    for table in &deed.read {
        match &deed.columns {
            None => read.extend(schemas.whole(table)?),
            Some(selected) => {
                let begin = format!("{table}.");
                for name in selected.iter().filter_map(|column| column.strip_prefix(&begin)) {
                    read.extend(schemas.column(table, name)?);
                }
            }
        }
    }
    for table in &deed.written {
        written.extend(schemas.whole_written(table)?);
    }
    Ok((read, written))
}

/// The columns of a table, and the fields in them, by their paths; or why they are not known.
pub(crate) fn paths(definition: &Definition) -> Result<Vec<String>, String> {
    let (status, body) = definition.as_ref().ok_or("it could not be asked, or not be recorded")?;
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    if !status.is_success() {
        let said = body["error"]["message"].as_str().unwrap_or_default();
        return Err(format!("HTTP {}: {said}", status.as_u16()));
    }
    let mut found = Vec::new();
    let mut rest = vec![(String::new(), &body["schema"]["fields"], 0)];
    while let Some((before, fields, depth)) = rest.pop() {
        for field in fields.as_array().into_iter().flatten().filter(|_| depth < DEPTH_MAX) {
            let path = format!("{before}{}", field["name"].as_str().unwrap_or_default());
            rest.push((format!("{path}."), &field["fields"], depth + 1));
            found.push(path);
        }
    }
    Ok(found)
}
