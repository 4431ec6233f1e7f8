//! What a query's configuration brings beside its text: destination, defaults, dialect, parameters.

use record::{Access, Deed, Footprint, Knowledge};
use serde_json::Value;
use std::collections::BTreeMap;

use crate::asked::{Asked, AskedQuery};
use crate::doors;
use crate::reading::{Dialect, Reading};
use crate::touches::Property;

/// A query's configuration: where its result goes, what its names mean, what it brings from outside.
pub(crate) fn query_footprint(sql: &str, project: &str, asked: &Asked) -> (Footprint, Option<Reading>) {
    let none = AskedQuery::default();
    let query = asked.configuration.as_ref().and_then(|configuration| configuration.query.as_ref());
    let query = query.unwrap_or(&none);
    let name = |value: &Value, part: &str| value[part].as_str().unwrap_or_default().to_owned();
    let mut brought = Deed { overwrites: doors::overwrites(&query.write_disposition), ..Deed::default() };
    for definition in query.table_definitions.iter().filter_map(Value::as_object).flat_map(|all| all.values())
    {
        brought.sources.extend(doors::addresses(&definition["sourceUris"]));
        brought.connections.extend(definition["connectionId"].as_str().map(str::to_owned));
    }
    if query.user_defined_function_resources.as_ref().is_some_and(|resources| !resources.is_null()) {
        brought.unknown.insert(Knowledge::Tables, "it brings functions of its own".to_owned());
    }
    let result = query.destination_table.as_ref().filter(|table| table.is_object()).map(|table| {
        let own = name(table, "projectId");
        let own = if own.is_empty() { project } else { own.as_str() };
        doors::table_name(own, &name(table, "datasetId"), &name(table, "tableId"))
    });
    let properties: Vec<&Property> =
        asked.connection_properties.iter().chain(&query.connection_properties).flatten().collect();
    let property =
        |wanted: &str| properties.iter().find(|property| property.key == wanted).map(|one| &one.value);
    if let Some(account) = property("service_account") {
        brought.connections.insert(format!("of the service account {account}"));
    }
    let defaults =
        asked.default_dataset.as_ref().or(query.default_dataset.as_ref()).filter(|one| one.is_object());
    let dataset_project = defaults
        .map(|defaults| name(defaults, "projectId"))
        .filter(|own| !own.is_empty() && own != project)
        .unwrap_or_default();
    // It changes what a dataset without a project means, not where the default dataset is.
    let moved = property("dataset_project_id").cloned();
    let is_moved = moved.is_some();
    let dataset_project =
        if is_moved && dataset_project.is_empty() { project.to_owned() } else { dataset_project };
    let default_project = moved.unwrap_or_else(|| project.to_owned());
    let reading = Reading {
        sql: sql.to_owned(),
        project: default_project,
        dataset_project,
        is_moved,
        dataset: defaults.map(|defaults| name(defaults, "datasetId")).unwrap_or_default(),
        dialect: dialect(sql, asked.use_legacy_sql.as_ref().or(query.use_legacy_sql.as_ref())),
        in_session: property("session_id").is_some() || property("dataset_id").is_some(),
    };
    let parameters = asked.query_parameters.as_ref().or(query.query_parameters.as_ref());
    let footprint = Footprint {
        statements: vec![brought],
        access: Access::Write,
        result_table: result.unwrap_or_default(),
        parameters: parameters.map(named_parameters).unwrap_or_default(),
        ..Footprint::default()
    };
    (footprint, Some(reading))
}

/// The text's own first line wins; BigQuery's default is legacy SQL.
fn dialect(sql: &str, use_legacy: Option<&Value>) -> Dialect {
    let begins =
        |mark: &str| sql.trim_start().get(..mark.len()).is_some_and(|start| start.eq_ignore_ascii_case(mark));
    let is_legacy = match use_legacy {
        _ if begins("#standardsql") => false,
        _ if begins("#legacysql") => true,
        Some(value) => value.as_bool() != Some(false) && value.as_str() != Some("false"),
        None => true,
    };
    if is_legacy { Dialect::Legacy } else { Dialect::GoogleSql }
}

/// Parameters by name, or by place from 1; what is no scalar, as JSON.
fn named_parameters(parameters: &Value) -> BTreeMap<String, String> {
    let list = parameters.as_array().into_iter().flatten().enumerate();
    list.map(|(at, parameter)| {
        let name = parameter["name"].as_str().map_or_else(|| (at + 1).to_string(), str::to_owned);
        let value = &parameter["parameterValue"];
        let text = value["value"].as_str().map_or_else(|| value.to_string(), str::to_owned);
        (name, text)
    })
    .collect()
}
