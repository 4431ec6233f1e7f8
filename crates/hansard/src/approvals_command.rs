//! `hansard approvals ...`: what waits for a human's yes, and the answers to it.

use clap::{Args, Subcommand};
use record::RecordId;
use serde_json::{Value, json};

use crate::cli::{Failure, FolderArgs, ttl};
use crate::commands::{object, objects, say, short_time, table};
use crate::local::Question;
use crate::print::one_line;

/// Width of a statement in the list.
const STATEMENT_WIDTH: usize = 60;

#[derive(Subcommand)]
pub(crate) enum ApprovalsCommand {
    /// Lists what waits, the oldest first.
    List {
        /// With what was answered, too.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        folder: FolderArgs,
    },
    /// Shows one: the statement, who and for whom, tables, bytes and cost, and what the session did before.
    Show {
        id: RecordId,
        #[command(flatten)]
        folder: FolderArgs,
    },
    /// Says yes: once, or for longer.
    Approve(ApproveArgs),
    /// Says no.
    Deny {
        id: RecordId,
        /// Why; whoever asked reads it.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        folder: FolderArgs,
    },
}

#[derive(Args)]
pub(crate) struct ApproveArgs {
    id: RecordId,
    /// The very same may run again for so long, such as 30m or 1h.
    #[arg(long = "for", value_parser = ttl, value_name = "TIME", conflicts_with = "fingerprint")]
    secs: Option<i64>,
    /// Statements that differ in literals and parameters alone may run too, for as long as the rule waits.
    #[arg(long)]
    fingerprint: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

/// Runs one of them.
pub(crate) fn run(command: &ApprovalsCommand) -> Result<(), Failure> {
    match command {
        ApprovalsCommand::List { all, folder } => list(*all, folder),
        ApprovalsCommand::Show { id, folder } => show(id, folder),
        ApprovalsCommand::Approve(args) => approve(args),
        ApprovalsCommand::Deny { id, reason, folder } => {
            let body = json!({"reason": reason}).to_string();
            let done = object(folder, Question::post(format!("approvals/{id}/deny"), body))?;
            match folder.json {
                true => say(&done.to_string()),
                false => say(&format!("denied {id}")),
            }
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A size as people say it.
fn size(bytes: &Value) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let Some(mut bytes) = bytes.as_f64() else { return "unknown".to_owned() };
    let mut unit = 0;
    while bytes >= 1024.0 && unit + 1 < UNITS.len() {
        bytes /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{bytes:.1} {}", UNITS[unit]) }
}

fn who(card: &Value) -> String {
    let who = &card["who"];
    let name = if text(&who["email"]).is_empty() { text(&who["id"]) } else { text(&who["email"]) };
    match text(&who["agent"]).as_str() {
        "" => name,
        agent => format!("{agent} ({name})"),
    }
}

/// The statement, or the request where there is none.
fn what(card: &Value) -> String {
    match text(&card["statement"]["sql"]).as_str() {
        "" => {
            let request = &card["request"];
            format!("{} {} {}", text(&request["verb"]), text(&request["uri"]), text(&request["body"]))
        }
        sql => sql.to_owned(),
    }
}

fn list(all: bool, folder: &FolderArgs) -> Result<(), Failure> {
    let path = if all { "approvals?all=true" } else { "approvals" };
    let cards = objects(folder, Question::get(path))?;
    if folder.json {
        return cards.iter().try_for_each(|card| say(&card.to_string()));
    }
    let rows: Vec<Vec<String>> = cards
        .iter()
        .map(|card| {
            let rules = card["rules"].as_array().into_iter().flatten();
            let rules: Vec<String> = rules
                .map(|rule| {
                    format!("{} {}/{}", text(&rule["rule"]), text(&rule["said_yes"]), text(&rule["needed"]))
                })
                .collect();
            vec![
                text(&card["id"]),
                text(&card["stand"]),
                short_time(&text(&card["until"])),
                who(card),
                rules.join(", "),
                size(&card["estimate"]["bytes"]),
                one_line(&what(card), STATEMENT_WIDTH),
            ]
        })
        .collect();
    table(&["approval", "stands", "until", "who", "rules", "bytes", "statement"], &rows)
}

fn show(id: &RecordId, folder: &FolderArgs) -> Result<(), Failure> {
    let card = object(folder, Question::get(format!("approvals/{id}")))?;
    if folder.json {
        return say(&card.to_string());
    }
    say(&format!("{} {}, until {}", text(&card["id"]), text(&card["stand"]), text(&card["until"])))?;
    say(&format!("\n{}\n", what(&card)))?;
    let list =
        |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ");
    let estimate = &card["estimate"];
    let cost = match (estimate["bytes"].as_u64(), estimate["usd"].as_f64()) {
        (Some(_), Some(usd)) => format!("{} (about {usd:.2} USD on demand)", size(&estimate["bytes"])),
        _ => format!("unknown: {}", text(&estimate["unknown"])),
    };
    let lines = [
        ("asked by", who(&card)),
        ("for", text(&card["who"]["on_behalf_of"])),
        ("groups", list(&card["who"]["groups"])),
        ("task", text(&card["who"]["task"])),
        ("connection", text(&card["connection"])),
        ("method", text(&card["method"])),
        ("kind", text(&card["statement"]["kind"])),
        ("tables", list(&card["statement"]["tables"])),
        ("writes", list(&card["statement"]["tables_written"])),
        ("sends to", list(&card["statement"]["destinations"])),
        ("takes from", list(&card["statement"]["sources"])),
        ("columns", list(&card["statement"]["columns"])),
        ("parameters", parameters(&card["statement"]["parameters"])),
        ("processes", cost),
        ("rows at most", text(&estimate["rows_at_most"])),
        ("said", text(&card["said"])),
    ];
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        say(&format!("{name:<12} {value}"))?;
    }
    for rule in card["rules"].as_array().into_iter().flatten() {
        say(&format!(
            "rule         {} ({} of {})",
            text(&rule["text"]),
            text(&rule["said_yes"]),
            text(&rule["needed"])
        ))?;
    }
    for vote in card["votes"].as_array().into_iter().flatten() {
        say(&format!("yes          {} at {}", text(&vote["name"]), text(&vote["at"])))?;
    }
    let recent: Vec<&Value> = card["recent"].as_array().into_iter().flatten().collect();
    if !recent.is_empty() {
        say("\nbefore it, in the same session, the newest first:")?;
    }
    for record in recent {
        let sql = text(&record["sql"]);
        let what = if sql.is_empty() { text(&record["method"]) } else { sql };
        say(&format!(
            "  {}  {:<8} {}",
            short_time(&text(&record["received"])),
            text(&record["outcome"]),
            one_line(&what, 100)
        ))?;
    }
    if card["stand"] == "pending" && card["may_answer"] == true {
        say(&format!(
            "\nNext: hansard approvals approve {id}, or hansard approvals deny {id} --reason '...'"
        ))?;
    }
    Ok(())
}

fn parameters(parameters: &Value) -> String {
    let named = parameters.as_object().into_iter().flatten();
    named.map(|(name, value)| format!("{name} = {}", text(value))).collect::<Vec<_>>().join(", ")
}

fn approve(args: &ApproveArgs) -> Result<(), Failure> {
    let ApproveArgs { id, secs, fingerprint, folder } = args;
    let mut body = json!({});
    if let Some(secs) = secs {
        body["for_secs"] = (*secs).into();
    }
    if *fingerprint {
        body["fingerprint"] = true.into();
    }
    let done = object(folder, Question::post(format!("approvals/{id}/approve"), body.to_string()))?;
    if folder.json {
        return say(&done.to_string());
    }
    let said = text(&done["said"]);
    match text(&done["stand"]).as_str() {
        "pending" if done["needs_more"].as_u64().unwrap_or(0) > 0 => {
            say(&format!("your yes is kept; {} more must say it", text(&done["needs_more"])))
        }
        "superseded" => Err(Failure::no(format!(
            "it waits again, for what holds now is not what you agreed to: {said} Look at it: hansard approvals show {}",
            text(&done["asked_again"])
        ))),
        "released" => {
            say(&format!("approved: job {} runs, record {}", text(&done["job"]), text(&done["record"])))
        }
        "approved" if done["job"].is_null() => {
            say("approved: the same request passes now, sent again by whoever asked")
        }
        "approved" => say(&format!("approved; it could not be sent yet and is tried again: {said}")),
        _ => Err(Failure::no(format!("it could not run: {said}"))),
    }
}
