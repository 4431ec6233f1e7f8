//! Documents that are made from the code: `docs/configuration.md`, `docs/record.schema.json`, `docs/metrics.md`,
//! `docs/policy.md`.

use clap::Args;
use schemars::{Schema, schema_for};
use serde_json::Value;

use crate::cli::Failure;
use crate::config::Config;

#[derive(Args)]
pub(crate) struct DocsArgs {
    /// Which one.
    #[arg(value_parser = ["configuration", "record-schema", "metrics", "policy"])]
    document: String,
}

pub(crate) fn run(args: &DocsArgs) -> Result<(), Failure> {
    match args.document.as_str() {
        "configuration" => print!("{}", configuration()),
        "record-schema" => println!("{}", record_schema()),
        "policy" => print!("{}", policy_text()),
        _ => print!("{}", metrics()),
    }
    Ok(())
}

fn record_schema() -> String {
    let schema = schema_for!(record::Record);
    serde_json::to_string_pretty(&schema).expect("a schema is JSON")
}

const POLICY_INTRO: &str = include_str!("policies/intro.md");

/// What rules may ask about, what methods equal, and what holds without any rule.
fn policy_text() -> String {
    let mut text = format!("{POLICY_INTRO}\n## Vocabulary\n\n");
    let mut last = "";
    for field in policy::VOCABULARY {
        if field.variable != last {
            last = field.variable;
            text.push_str(&format!("\n### `{last}`\n\n| field | type | meaning |\n|---|---|---|\n"));
        }
        let doc = if field.doc.is_empty() { "As of `principal`." } else { field.doc };
        text.push_str(&format!("| `{}` | {} | {doc} |\n", field.name, field.kind));
    }
    text.push_str(
        "\nFunctions: CEL's own (`size`, `contains`, `startsWith`, `endsWith`, `matches`, `int`, `string` ...; macros \
         `exists`, `all`, `filter`, `map`, `has`), and `kib(n)`, `mib(n)`, `gib(n)`, `tib(n)` for bytes.\n\n\
         ## Methods and the statements that they equal\n\nOne rule closes SQL and API. `jobs.query` and query jobs carry \
         their own statements; methods that are not listed equal none (`statement.kind` is empty).\n\n\
         | method | equals | its table is |\n|---|---|---|\n",
    );
    for door in bigquery::DOORS {
        let table = match door.table {
            bigquery::Named::Read => "read",
            bigquery::Named::Written => "written",
            bigquery::Named::None => "in its body, or none",
        };
        let admin = if door.is_admin { " (`request.is_admin`)" } else { "" };
        text.push_str(&format!("| `{}` | {}{admin} | {table} |\n", door.method, door.kinds.join(", ")));
    }
    text.push_str(
        "\n## Defaults\n\nThese hold with no rule at all. A refusal names the line.\n\n\
         | name | whom it binds | what is refused | why | opened by |\n|---|---|---|---|---|\n",
    );
    for default in policy::DEFAULTS {
        let who = match default.who {
            policy::Who::Agents => "principals of kind agent",
            policy::Who::AllButAuditors => "everybody but auditors",
        };
        let opened = match default.who {
            policy::Who::Agents => format!("`allow_egress` with {}", default.opened_by),
            policy::Who::AllButAuditors => default.opened_by.to_owned(),
        };
        text.push_str(&format!(
            "| {} | {who} | {} | {} | {opened} |\n",
            default.name, default.what, default.why
        ));
    }
    text
}

fn metrics() -> String {
    let mut text = "# Metrics\n\n`/metrics` in Prometheus' text form. Made by `cargo xtask docs`; names stay.\n\n| name | type | meaning |\n|---|---|---|\n".to_owned();
    for (name, kind, meaning) in gateway::METRICS {
        text.push_str(&format!("| `{name}` | {kind} | {meaning} |\n"));
    }
    text
}

fn configuration() -> String {
    let schema: Schema = schema_for!(Config);
    let root = schema.as_value().clone();
    let mut text = "# Configuration: `hansard.toml`\n\nMade from the code by `cargo xtask docs`. Unknown keys are errors. `hansard serve --check` validates a file; \
a section that this build does not enforce is refused, by line.\n\n"
        .to_owned();
    text.push_str(&format!("{}\n", description(&root)));
    section(&root, &root, "", &mut text);
    text
}

fn section(root: &Value, schema: &Value, path: &str, text: &mut String) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut below = Vec::new();
    let mut rows = String::new();
    for (name, property) in properties {
        let (target, is_list) = resolve(root, property);
        if target["properties"].is_object() {
            below.push((name.clone(), target.clone(), is_list, description(property)));
            continue;
        }
        let need =
            if required.contains(&name.as_str()) { "required".to_owned() } else { default_of(property) };
        let said = description(property);
        let said = if said.is_empty() { description(target) } else { said };
        rows.push_str(&format!(
            "| `{name}` | {} | {need} | {} |\n",
            kind(target, is_list),
            said.replace('\n', " ")
        ));
    }
    if !rows.is_empty() {
        text.push_str(&format!("\n| key | value | default | meaning |\n|---|---|---|---|\n{rows}"));
    }
    for (name, target, is_list, said) in below {
        let full = if path.is_empty() { name } else { format!("{path}.{name}") };
        let title = if is_list { format!("[[{full}]]") } else { format!("[{full}]") };
        let said = if said.is_empty() { description(&target) } else { said };
        text.push_str(&format!("\n## `{title}`\n\n{said}\n"));
        section(root, &target, &full, text);
    }
}

fn resolve<'a>(root: &'a Value, property: &'a Value) -> (&'a Value, bool) {
    if let Some(items) = property.get("items") {
        return (resolve(root, items).0, true);
    }
    let some = property["anyOf"].as_array().and_then(|any| any.iter().find(|one| one["type"] != "null"));
    let reference = some.unwrap_or(property).get("$ref").and_then(Value::as_str);
    match reference.and_then(|reference| root.pointer(reference.trim_start_matches('#'))) {
        Some(target) => (target, false),
        None => (property, false),
    }
}

fn description(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().to_owned()
}

fn default_of(property: &Value) -> String {
    match property.get("default") {
        None | Some(Value::Null) => "none".to_owned(),
        Some(value) => format!("`{value}`"),
    }
}

fn kind(schema: &Value, is_list: bool) -> String {
    let one = if let Some(words) = schema["enum"].as_array() {
        words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
    } else if let Some(forms) = schema["oneOf"].as_array() {
        forms.iter().map(form_text).collect::<Vec<_>>().join(" or ")
    } else {
        match &schema["type"] {
            Value::String(text) => text.clone(),
            Value::Array(kinds) => kinds
                .iter()
                .filter_map(Value::as_str)
                .filter(|kind| *kind != "null")
                .collect::<Vec<_>>()
                .join(" or "),
            _ => "value".to_owned(),
        }
    };
    if is_list { format!("list of {one}") } else { one }
}

fn form_text(form: &Value) -> String {
    if let Some(word) = form["const"].as_str() {
        return format!("`\"{word}\"`");
    }
    let member = form["properties"].as_object().and_then(|members| members.keys().next().cloned());
    member.map_or_else(|| "value".to_owned(), |name| format!("`{{ {name} = ... }}`"))
}
