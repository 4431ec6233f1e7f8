//! Rows as people read them: cells of a delivered body, by its schema.

use serde_json::Value;

pub use crate::storage::RowReader;

/// What turns a kept body into BigQuery's JSON row form, where the wire had another: by the record's method and
/// the schema that was kept with it.
pub fn reader(method: &str, schema: Option<&Value>) -> Option<RowReader> {
    if method == "BigQueryRead.ReadRows" { crate::storage::row_reader(schema?) } else { None }
}

/// The names of the columns and the cells of each row; none if the body has no rows.
pub fn table(body: &Value, schema: Option<&Value>) -> Option<(Vec<String>, Vec<Vec<String>>)> {
    let rows = body.get("rows")?.as_array()?;
    let fields =
        body.get("schema").or(schema).and_then(|schema| schema.get("fields")).and_then(Value::as_array);
    let names = match fields {
        Some(fields) => fields.iter().map(|field| field["name"].as_str().unwrap_or("?").to_owned()).collect(),
        None => {
            let width = rows.first().and_then(|row| row["f"].as_array()).map_or(0, Vec::len);
            (0..width).map(|at| format!("f{at}")).collect()
        }
    };
    let cells = rows
        .iter()
        .map(|row| row["f"].as_array().into_iter().flatten().map(|cell| text(&cell["v"])).collect());
    Some((names, cells.collect()))
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| text(&item["v"])).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(members) => match members.get("f").and_then(Value::as_array) {
            Some(cells) => {
                let cells: Vec<_> = cells.iter().map(|cell| text(&cell["v"])).collect();
                format!("{{{}}}", cells.join(", "))
            }
            None => value.to_string(),
        },
        other => other.to_string(),
    }
}
