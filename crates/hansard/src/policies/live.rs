//! Whether the tables and columns that rules name are there.

use policy::Policy;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

use super::say;
use crate::cli::{Failure, FolderArgs};
use crate::commands::object;
use crate::local::Question;

/// A table's columns, in lower case, or why they are not known.
type Seen = Result<BTreeSet<String>, String>;

/// Asks the gateway that runs for every table that a rule names in full, and says what is not there.
pub(super) fn check(policy: &Policy, connection: &str, folder: &FolderArgs) -> Result<(), Failure> {
    let named: Vec<(&str, BTreeSet<(String, String)>)> =
        policy.rules().iter().map(|rule| (rule.name.as_str(), rule.names())).collect();
    let tables: BTreeSet<&String> =
        named.iter().flat_map(|(_, names)| names).map(|(table, _)| table).collect();
    let seen = match tables.is_empty() {
        true => BTreeMap::new(),
        false => look(connection, &tables, folder)?,
    };
    let (mut checked, mut missing) = (0, 0);
    for (rule, names) in &named {
        for (table, column) in names {
            let wrong = wrong(&seen, table, column);
            checked += 1;
            missing += usize::from(wrong.is_some());
            if folder.json {
                let line = json!({"rule": rule, "table": table, "column": column, "ok": wrong.is_none(), "why": wrong});
                say(&line.to_string())?;
            } else if let Some(why) = wrong {
                say(&format!("{rule}: {why}"))?;
            }
        }
    }
    if !folder.json {
        say(&format!(
            "{} of {checked} tables and columns that rules name in full are there in '{connection}'",
            checked - missing
        ))?;
    }
    match missing {
        0 => Ok(()),
        _ => Err(Failure::no("")),
    }
}

fn look(
    connection: &str,
    tables: &BTreeSet<&String>,
    folder: &FolderArgs,
) -> Result<BTreeMap<String, Seen>, Failure> {
    let asked = json!({"tables": tables}).to_string();
    let answer = object(folder, Question::post(format!("connections/{connection}/tables"), asked))?;
    let seen = answer["tables"].as_array().into_iter().flatten().map(|table| {
        let name = table["table"].as_str().unwrap_or_default().to_owned();
        let columns = table["columns"].as_array().map(|columns| {
            columns.iter().filter_map(Value::as_str).map(str::to_lowercase).collect::<BTreeSet<_>>()
        });
        (name, columns.ok_or_else(|| table["why"].as_str().unwrap_or_default().to_owned()))
    });
    Ok(seen.collect())
}

/// What is wrong with a name.
fn wrong(seen: &BTreeMap<String, Seen>, table: &str, column: &str) -> Option<String> {
    match seen.get(table) {
        None => Some(format!("{table} was not looked at")),
        Some(Err(why)) => Some(format!("{table} is not there, or can't be seen ({why})")),
        Some(Ok(_)) if column.is_empty() => None,
        Some(Ok(columns)) if columns.contains(&column.to_lowercase()) => None,
        Some(Ok(columns)) => {
            let known: Vec<&str> = columns.iter().map(String::as_str).collect();
            Some(format!("{table} has no column {column}; it has {}", known.join(", ")))
        }
    }
}
