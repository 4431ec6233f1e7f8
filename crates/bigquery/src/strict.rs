//! Bodies that would be read in another way by BigQuery than here are refused.
//!
//! Google's JSON also takes a field by its name in the protocol buffer (`destination_table`), and what is of another
//! type than expected is for each reader to guess.

use gateway::{Reason, Refusal};
use serde_json::Value;

/// Members whose own members are names that people choose, or rows.
const FREE: &[&str] = &[
    "access",
    "customAttributes",
    "fields",
    "formatOptions",
    "labels",
    "options",
    "parameters",
    "queryParameters",
    "resourceTags",
    "rows",
    "schema",
    "tableConstraints",
    "tableDefinitions",
    "userDefinedContext",
];
/// Members that name a table, a dataset, a routine.
const REFERENCES: &[&str] = &[
    "baseTable",
    "defaultDataset",
    "datasetReference",
    "destinationTable",
    "routineReference",
    "sourceModel",
    "sourceTable",
    "tableReference",
];
/// Members that are objects or are not there.
const OBJECTS: &[&str] = &[
    "configuration",
    "copy",
    "externalDataConfiguration",
    "extract",
    "load",
    "materializedView",
    "query",
    "view",
];

/// Checks a job's, a table's, a dataset's or a routine's body.
pub(crate) fn check(body: &Value) -> Result<(), Refusal> {
    let mut rest = vec![body];
    while let Some(value) = rest.pop() {
        let Some(object) = value.as_object() else {
            rest.extend(value.as_array().into_iter().flatten());
            continue;
        };
        for (name, value) in object {
            if name.contains('_') {
                return Err(invalid(format!(
                    "'{name}' is not BigQuery's name for a member; write it in camelCase"
                )));
            }
            let is_text = name == "query" && value.is_string();
            if OBJECTS.contains(&name.as_str()) && !is_text && !value.is_object() && !value.is_null() {
                return Err(invalid(format!("'{name}' is no object")));
            }
            if REFERENCES.contains(&name.as_str()) {
                reference(name, value)?;
            }
            if name == "sourceTables" {
                value.as_array().into_iter().flatten().try_for_each(|one| reference(name, one))?;
            }
            if !FREE.contains(&name.as_str()) {
                rest.push(value);
            }
        }
    }
    one_kind(&body["configuration"])
}

/// A reference is an object of texts.
fn reference(name: &str, value: &Value) -> Result<(), Refusal> {
    let is_texts =
        |value: &Value| value.as_object().is_some_and(|object| object.values().all(Value::is_string));
    match value.is_null() || is_texts(value) {
        true => Ok(()),
        false => Err(invalid(format!("'{name}' is no object of texts"))),
    }
}

/// A job does one thing.
fn one_kind(configuration: &Value) -> Result<(), Refusal> {
    let kinds = ["query", "load", "copy", "extract"].iter().filter(|kind| !configuration[**kind].is_null());
    match kinds.count() {
        0 | 1 => Ok(()),
        _ => Err(invalid(
            "a job's configuration is a query, a load, a copy or an extract, and no two of them".to_owned(),
        )),
    }
}

/// What a body names must be what the path names.
pub(crate) fn same(named: &Value, path: &[(&str, Option<&str>)]) -> Result<(), Refusal> {
    for (part, expected) in path {
        if let (Some(named), Some(expected)) = (named[*part].as_str(), expected)
            && named != *expected
        {
            return Err(invalid(format!("the body names {part} '{named}', but the path names '{expected}'")));
        }
    }
    Ok(())
}

fn invalid(why: String) -> Refusal {
    Refusal::new(Reason::Invalid, format!("The request's body could be read in two ways: {why}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for body in [
            json!({"configuration": {"copy": {"source_tables": []}}}),
            json!({"configuration": {"query": {"query": "q"}, "copy": {}}}),
            json!({"configuration": {"query": {"destinationTable": {"projectId": 1}}}}),
            json!({"configuration": {"query": {"destinationTable": ["p"]}}}),
            json!({"configuration": {"copy": {"sourceTables": [["p", "d", "t"]]}}}),
            json!({"view": [{"query": "q"}]}),
            json!({"configuration": []}),
        ] {
            assert!(check(&body).is_err(), "{body}");
        }
        for body in [
            json!({"configuration": {"query": {"query": "q", "queryParameters": [{"name": "a_b"}]}, "labels": {"a_b": "c"}}}),
            json!({"tableReference": {"projectId": "p", "datasetId": "d", "tableId": "a_b"}, "schema": {"fields": [{"name": "x_y"}]}}),
            json!({"configuration": {"query": {"tableDefinitions": {"my_table": {}}, "destinationTable": null}}}),
        ] {
            assert!(check(&body).is_ok(), "{body}");
        }
    }
}
