//! Recorded exchanges, decided again.

use record::{Principal, Record, RecordKind};
use serde_json::json;
use std::path::Path;

use super::trial::{Asked, Rules};
use super::{effect, say};
use crate::cli::{Failure, FilterArgs, FolderArgs};
use crate::commands;

/// Decides what the filter finds by the rules of `config`, and prints what would change.
pub(super) fn run(config: &Path, filter: &FilterArgs, folder: &FolderArgs) -> Result<(), Failure> {
    let rules = Rules::load(config)?;
    let (mut same, mut changed, mut unread) = (0u64, 0u64, 0u64);
    commands::each_record(filter, None, folder, &mut |record| {
        if record.kind != RecordKind::Exchange || record.target.method.is_empty() {
            return Ok(());
        }
        let Some(asked) = asked(&record) else {
            unread += 1;
            return Ok(());
        };
        let before = record.decision.effect.as_str();
        let (after, why) = match rules.decide(asked) {
            Ok(verdict) => (effect(&verdict), verdict.ruling.rules.join(", ")),
            Err(failure) if failure.code == 1 => ("deny", failure.message),
            Err(failure) => return Err(failure),
        };
        if before == after {
            same += 1;
            return Ok(());
        }
        changed += 1;
        let sql = record.statement.sql.as_deref().unwrap_or(&record.target.method);
        if folder.json {
            return say(
                &json!({"record": record.id, "before": before, "after": after, "rules": why, "what": sql})
                    .to_string(),
            );
        }
        let short = crate::print::one_line(sql, 100);
        say(&format!("{} {before} -> {after} ({why}): {short}", record.id))
    })?;
    let summary = format!(
        "{changed} would change, {same} would not, {unread} can't be decided again (their text is not kept)"
    );
    if folder.json {
        return say(&json!({"changed": changed, "same": same, "unread": unread}).to_string());
    }
    say(&summary)
}

/// The exchange as it came, if all of it that matters is kept.
fn asked(record: &Record) -> Option<Asked> {
    let request = &record.request;
    // What was sent as a body must still be there; data that was uploaded never is.
    let body = match (&request.body, request.bytes) {
        (Some(body), _) => body.clone(),
        (None, 0) => String::new(),
        (None, _) => return None,
    };
    let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
    (!request.path.is_empty() && !request.path.starts_with("/google.")).then(|| Asked {
        principal: Some(principal(record)),
        connection: Some(record.target.connection.clone()).filter(|name| !name.is_empty()),
        method: request.method.clone(),
        path: Some(format!("{}{query}", request.path)),
        body,
        now: Some(record.time.received),
        ..Asked::default()
    })
}

fn principal(record: &Record) -> Principal {
    Principal { task: record.task.id.clone(), ..Principal::from(&record.actor) }
}
