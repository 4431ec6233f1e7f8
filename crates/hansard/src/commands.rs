//! The commands that read records and manage keys.

use record::{Record, RecordId, SessionId, Timestamp};
use serde_json::{Value, json};
use std::io::{BufWriter, Write};

use crate::cli::{
    Failure, FilterArgs, FolderArgs, KeyCommand, KeyIssueArgs, QueryArgs, RecordsArgs, SessionsArgs,
    TailArgs, VerifyArgs,
};
use crate::config::days_text;
use crate::local::{LineCutter, Question, ask, data_dir};
use crate::print;
use crate::wiring::write_private;

/// Rows that a table for people shows of a result.
const PREVIEW_ROWS: usize = 20;
/// A table for people is printed in pages of so many lines.
const PAGE_ROWS: usize = 500;

/// `hansard key ...`
pub(crate) fn keys(command: KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::Issue(args) => issue(&args),
        KeyCommand::List(folder) => list_keys(&folder),
        KeyCommand::Revoke { id, folder } => {
            let done = object(
                &folder,
                Question { method: "DELETE", path: format!("keys/{id}"), body: Default::default() },
            )?;
            if folder.json {
                say(&done.to_string())
            } else {
                say(&format!("revoked {id}; tokens made with it are refused from now on"))
            }
        }
    }
}

fn issue(args: &KeyIssueArgs) -> Result<(), Failure> {
    let wanted = json!({
        "principal": args.principal, "connection": args.connection, "task": args.task, "kind": args.kind,
        "agent": args.agent, "groups": args.groups, "ttl_secs": args.ttl,
    });
    let made = object(&args.folder, Question::post("keys", wanted.to_string()))?;
    let file = serde_json::to_string_pretty(&made["file"]).expect("JSON is JSON");
    let Some(path) = &args.out else { return say(&file) };
    let written = write_private(path, format!("{file}\n").as_bytes());
    written.map_err(|error| {
        Failure::other_side(format!(
            "can't write {}: {error}. The key {} was issued and nobody has it; revoke it.",
            path.display(),
            made["key"]["id"].as_str().unwrap_or_default()
        ))
    })?;
    if args.folder.json {
        return say(&made["key"].to_string());
    }
    say(&format!(
        "{}: key {} for {} on {}, until {}\nNext: GOOGLE_APPLICATION_CREDENTIALS={} and this gateway's address as the client's endpoint",
        path.display(),
        made["key"]["id"].as_str().unwrap_or_default(),
        args.principal,
        args.connection,
        made["key"]["expires_at"].as_str().unwrap_or_default(),
        path.display(),
    ))
}

fn list_keys(folder: &FolderArgs) -> Result<(), Failure> {
    let keys = objects(folder, Question::get("keys"))?;
    if folder.json {
        return keys.iter().try_for_each(|key| say(&key.to_string()));
    }
    let now = record::Clock::now(&record::SystemClock);
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|key| {
            let expires: Option<Timestamp> = key["expires_at"].as_str().and_then(|text| text.parse().ok());
            let left = expires.map_or(0, |at| at.secs() - now.secs());
            let life = if key["revoked_at"].is_null() { days_text(left) } else { "revoked".to_owned() };
            let text = |name: &str| key[name].as_str().unwrap_or_default().to_owned();
            vec![
                text("id"),
                text("principal"),
                text("kind"),
                text("agent"),
                text("connection"),
                life,
                text("issued_by"),
            ]
        })
        .collect();
    table(&["key", "principal", "kind", "agent", "connection", "left", "issued by"], &rows)
}

/// `hansard connection list`
pub(crate) fn connections(folder: &FolderArgs) -> Result<(), Failure> {
    let shown = match &folder.gateway {
        Some(_) => objects(folder, Question::get("connections"))?,
        // The configuration says it all; nothing needs to run.
        None => {
            let loaded = crate::config::load(&folder.config)?;
            crate::wiring::Settings::check(loaded, folder.data.as_deref())?.connections_shown()
        }
    };
    if folder.json {
        return shown.iter().try_for_each(|connection| say(&connection.to_string()));
    }
    let rows: Vec<Vec<String>> = shown
        .iter()
        .map(|connection| {
            let text = |name: &str| connection[name].as_str().unwrap_or_default().to_owned();
            let projects: Vec<_> =
                connection["projects"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            vec![text("name"), projects.join(", "), text("upstream"), text("credentials"), text("allow")]
        })
        .collect();
    table(&["connection", "projects", "upstream", "credentials", "allow"], &rows)
}

/// `hansard connection test NAME`
pub(crate) fn connection_test(name: &str, suggest_role: bool, folder: &FolderArgs) -> Result<(), Failure> {
    if suggest_role {
        return say(
            "on the billing project:  roles/bigquery.jobUser\non each dataset to read: roles/bigquery.dataViewer\n\
             on each dataset to write: roles/bigquery.dataEditor\nto impersonate, on each account: \
             roles/iam.serviceAccountTokenCreator",
        );
    }
    let tested = object(folder, Question::post(format!("connections/{name}/test"), ""))?;
    let works = tested["works"] == true;
    if folder.json {
        say(&tested.to_string())?;
        return if works { Ok(()) } else { Err(Failure::no("")) };
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    say(&format!("{} as {} in {}", name, text(&tested["credential"]), text(&tested["project"])))?;
    let rows: Vec<Vec<String>> = tested["checks"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|check| {
            let is_ok = if check["ok"] == true { "yes" } else { "no" };
            vec![text(&check["what"]), text(&check["permission"]), is_ok.to_owned(), text(&check["why"])]
        })
        .collect();
    table(&["what", "permission", "works", "why not"], &rows)?;
    match (tested["beyond"].as_array(), tested["beyond_unknown"].as_str()) {
        (Some(beyond), _) if beyond.is_empty() => say("nothing beyond what a gateway needs was found")?,
        (Some(beyond), _) => {
            let all: Vec<_> = beyond.iter().filter_map(Value::as_str).collect();
            say(&format!("more than needed, take it away: {}", all.join(", ")))?;
        }
        (None, why) => say(&format!(
            "what it may do beyond that is not known: {}",
            why.unwrap_or("Resource Manager did not say")
        ))?,
    }
    if works {
        Ok(())
    } else {
        Err(Failure::no("the credential can't do what it must; '--suggest-role' says what is enough"))
    }
}

/// `hansard sessions`
pub(crate) fn sessions(args: &SessionsArgs) -> Result<(), Failure> {
    let mut query = Query::default();
    query.add("since", args.since);
    query.add("limit", args.limit);
    let mut page = Page::new(
        args.folder.json,
        &["session", "started", "who", "agent", "task", "open", "records", "errors", "refused", "rows"],
    );
    lines(&args.folder, Question::get(query.path("sessions")), |line| {
        page.line(line, |session| {
            let text = |name: &str| session[name].as_str().unwrap_or_default().to_owned();
            let count = |name: &str| session[name].to_string();
            vec![
                text("id"),
                short_time(&text("started")),
                who(&text("principal"), &text("actor_kind")),
                text("agent"),
                text("task"),
                count("open"),
                count("records"),
                count("errors"),
                count("refused"),
                count("result_rows"),
            ]
        })
    })?;
    page.end()
}

/// Every session, as objects.
pub(crate) fn session_ids(folder: &FolderArgs) -> Result<Vec<Value>, Failure> {
    objects(folder, Question::get("sessions"))
}

fn who(principal: &str, kind: &str) -> String {
    if principal.is_empty() { format!("({kind})") } else { principal.to_owned() }
}

/// `hansard records`
pub(crate) fn records(args: &RecordsArgs) -> Result<(), Failure> {
    let mut query = filter_query(&args.filter);
    query.add("limit", args.limit);
    query.add("open", args.open.then_some(true));
    let mut page = Page::new(args.folder.json, RECORD_COLUMNS);
    lines(&args.folder, Question::get(query.path("records")), |line| page.line(line, record_row))?;
    page.end()
}

/// Every record that a filter finds, as it stands.
pub(crate) fn each_record(
    filter: &FilterArgs,
    limit: Option<u64>,
    folder: &FolderArgs,
    each: &mut dyn FnMut(Record) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut query = filter_query(filter);
    query.add("limit", limit);
    lines(folder, Question::get(query.path("records")), |line| {
        let record = serde_json::from_slice(line);
        each(record.map_err(|error| Failure::other_side(format!("a record can't be read: {error}")))?)
    })
}

/// `hansard tail`
pub(crate) fn tail(args: &TailArgs) -> Result<(), Failure> {
    let query = filter_query(&args.filter);
    lines(&args.folder, Question::get(query.path("tail")), |line| {
        if args.folder.json {
            return say(&String::from_utf8_lossy(line));
        }
        let record: Value = parse(line)?;
        say(&record_row(&record).join("  "))
    })
}

const RECORD_COLUMNS: &[&str] = &["record", "received", "who", "method", "outcome", "rows", "statement"];

fn record_row(record: &Value) -> Vec<String> {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let principal = text("/actor/email/value");
    let principal = if principal.is_empty() { text("/actor/id/value") } else { principal };
    let method = text("/target/method");
    let method = if method.is_empty() { text("/kind") } else { method };
    let statement = text("/statement/sql");
    let statement = if statement.is_empty() { record_subject(record) } else { statement };
    vec![
        text("/id"),
        short_time(&text("/time/received")),
        who(&principal, &text("/actor/kind")),
        method,
        text("/outcome"),
        record.pointer("/result/rows").map(Value::to_string).unwrap_or_default(),
        statement,
    ]
}

fn record_subject(record: &Value) -> String {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let table = record.pointer("/statement/tables/0").and_then(Value::as_str).unwrap_or_default();
    let subject = if table.is_empty() { text("/job/id") } else { table.to_owned() };
    let subject = if subject.is_empty() { text("/event/action") } else { subject };
    if subject.is_empty() { text("/request/path") } else { subject }
}

pub(crate) fn short_time(text: &str) -> String {
    text.get(..19).unwrap_or(text).replace('T', " ")
}

/// `hansard record show`
pub(crate) fn record_show(id: RecordId, rows: bool, folder: &FolderArgs) -> Result<(), Failure> {
    let path = format!("records/{id}{}", if rows { "?rows=true" } else { "" });
    if folder.json {
        // Streamed as it comes: a result may be larger than memory.
        let mut out = BufWriter::new(std::io::stdout().lock());
        ask(folder, Question::get(path), |part| out.write_all(part).map_err(cannot_print))?;
        return out.flush().map_err(cannot_print);
    }
    let record = object(folder, Question::get(path))?;
    let mut out = std::io::stdout().lock();
    show_record(&mut out, &record).map_err(cannot_print)
}

/// A record for people.
pub(crate) fn show_record(out: &mut impl Write, record: &Value) -> std::io::Result<()> {
    let parsed: Option<Record> = serde_json::from_value(record.clone()).ok();
    let Some(parsed) = parsed else { return writeln!(out, "{record:#}") };
    let row = record_row(record);
    writeln!(
        out,
        "record     {}  ({} {} of session {})",
        parsed.id,
        parsed.kind.as_str(),
        parsed.seq,
        parsed.session
    )?;
    let groups = parsed.actor.groups.as_ref().map(|groups| groups.value.join(", ")).unwrap_or_default();
    let idp = parsed.actor.idp.as_deref().map(|idp| format!(" by {idp}")).unwrap_or_default();
    writeln!(
        out,
        "who        {} ({}{idp}){}",
        row[2],
        parsed.actor.kind.as_str(),
        if groups.is_empty() { String::new() } else { format!(", groups {groups}") }
    )?;
    if let Some(agent) = &parsed.actor.agent {
        writeln!(out, "agent      {} (asserted)", agent.name)?;
    }
    if !parsed.task.id.is_empty() {
        writeln!(out, "task       {}", parsed.task.id)?;
    }
    writeln!(out, "when       {}{}", parsed.time.received, took(&parsed))?;
    if !parsed.client.ip.is_empty() {
        writeln!(
            out,
            "from       {}  {}",
            parsed.client.ip,
            print::one_line(&parsed.client.user_agent, 100)
        )?;
    }
    if !parsed.target.connection.is_empty() {
        writeln!(
            out,
            "what       {} on {} (project {}, as {})",
            row[3],
            parsed.target.connection,
            parsed.target.project,
            or_nobody(&parsed.target.upstream_principal)
        )?;
    }
    if let Some(sql) = &parsed.statement.sql {
        writeln!(out, "statement  {}", sql.replace('\n', "\n           "))?;
    }
    if let Some(params) = &parsed.statement.params {
        writeln!(out, "parameters {params}")?;
    }
    if let Some(event) = &parsed.event {
        writeln!(out, "event      {event}")?;
    }
    show_outcome(out, &parsed, record)
}

fn or_nobody(text: &str) -> &str {
    if text.is_empty() { "nobody" } else { text }
}

fn took(record: &Record) -> String {
    let Some(done) = record.time.done else { return String::new() };
    format!("  took {:.1} ms", (done.micros() - record.time.received.micros()) as f64 / 1000.0)
}

fn show_outcome(out: &mut impl Write, parsed: &Record, record: &Value) -> std::io::Result<()> {
    let http = parsed.status.http.map(|http| format!(" (HTTP {http})")).unwrap_or_default();
    writeln!(out, "outcome    {}{http}", parsed.outcome.as_str())?;
    if !parsed.status.reason.is_empty() {
        writeln!(out, "error      {}: {}", parsed.status.reason, parsed.status.message)?;
    }
    if !parsed.job.id.is_empty() {
        let billed = parsed
            .job
            .bytes_billed
            .as_deref()
            .map(|bytes| format!(", {bytes} bytes billed"))
            .unwrap_or_default();
        writeln!(out, "job        {} {}{billed}", parsed.job.id, parsed.job.state)?;
    }
    if parsed.result.bytes > 0 {
        let rows = parsed.result.rows.map(|rows| format!("{rows} rows, ")).unwrap_or_default();
        let hash = parsed.result.sha256.map(|hash| format!(", sha256 {hash}")).unwrap_or_default();
        writeln!(out, "result     {rows}{}{hash}", print::bytes(parsed.result.bytes))?;
    }
    if let Some(leaf) = parsed.integrity.leaf {
        writeln!(out, "leaf       {} {leaf}", parsed.integrity.leaf_seq)?;
    }
    let Some(data) = record.pointer("/result/data") else { return Ok(()) };
    if data.is_null() {
        return writeln!(out, "rows       not kept");
    }
    match bigquery::rows::table(data, record.pointer("/result/schema")) {
        Some((names, rows)) => {
            writeln!(out)?;
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            print::table(out, &names, &rows[..rows.len().min(PREVIEW_ROWS)])?;
            if rows.len() > PREVIEW_ROWS {
                writeln!(out, "… {} more; --json prints them all", rows.len() - PREVIEW_ROWS)?;
            }
            Ok(())
        }
        None => writeln!(out, "body       {}", print::one_line(&data.to_string(), 2000)),
    }
}

/// `hansard session show`
pub(crate) fn session_show(
    id: SessionId,
    rows: bool,
    markdown: bool,
    folder: &FolderArgs,
) -> Result<(), Failure> {
    let session = object(folder, Question::get(format!("sessions/{id}")))?;
    let mut ids = Vec::new();
    lines(folder, Question::get(format!("records?session={id}")), |line| {
        let record: Value = parse(line)?;
        ids.push(if rows { record["id"].clone() } else { record });
        Ok(())
    })?;
    // Records come newest first; a session is read from its beginning.
    ids.sort_by_key(|record| record["seq"].as_u64());
    if folder.json {
        say(&session.to_string())?;
    } else {
        session_head(&session, markdown)?;
    }
    if rows {
        ids.reverse();
    }
    for record in ids {
        let record = match record.as_str() {
            Some(id) => object(folder, Question::get(format!("records/{id}?rows=true")))?,
            None => record,
        };
        match (folder.json, markdown) {
            (true, _) => say(&record.to_string())?,
            (false, true) => markdown_record(&record)?,
            (false, false) => {
                let mut out = std::io::stdout().lock();
                show_record(&mut out, &record).and_then(|()| writeln!(out)).map_err(cannot_print)?;
            }
        }
    }
    Ok(())
}

fn session_head(session: &Value, markdown: bool) -> Result<(), Failure> {
    let text = |name: &str| session[name].as_str().unwrap_or_default().to_owned();
    let mark = if markdown { "# " } else { "" };
    let agent = if text("agent").is_empty() { String::new() } else { format!(", agent {}", text("agent")) };
    say(&format!(
        "{mark}Session {}\n\n{} ({}{agent}), from {} to {}: {} records, {} errors, {} refused, {} rows delivered\n",
        text("id"),
        who(&text("principal"), &text("actor_kind")),
        text("actor_kind"),
        short_time(&text("started")),
        short_time(&text("last")),
        session["records"],
        session["errors"],
        session["refused"],
        session["result_rows"],
    ))
}

fn markdown_record(record: &Value) -> Result<(), Failure> {
    let row = record_row(record);
    let mut text = format!(
        "## {} · {} · {}\n\n- record `{}`\n- received {}\n",
        record["seq"], row[3], row[4], row[0], row[1]
    );
    let message = record.pointer("/status/message").and_then(Value::as_str).unwrap_or_default();
    if !message.is_empty() {
        text.push_str(&format!("- error: {}\n", print::one_line(message, 500)));
    }
    if !row[5].is_empty() {
        text.push_str(&format!("- {} rows\n", row[5]));
    }
    if let Some(sql) = record.pointer("/statement/sql").and_then(Value::as_str) {
        // A fence that is longer than any in the statement.
        let fence = "`".repeat(longest_run(sql, '`').max(2) + 1);
        text.push_str(&format!("\n{fence}sql\n{sql}\n{fence}\n"));
    }
    if let Some((names, rows)) = record
        .pointer("/result/data")
        .and_then(|data| bigquery::rows::table(data, record.pointer("/result/schema")))
    {
        let cell = |text: &str| print::one_line(text, 80).replace('|', "\\|");
        text.push_str(&format!(
            "\n| {} |\n|{}\n",
            names.iter().map(|name| cell(name)).collect::<Vec<_>>().join(" | "),
            "---|".repeat(names.len())
        ));
        for row in rows.iter().take(PREVIEW_ROWS) {
            text.push_str(&format!(
                "| {} |\n",
                row.iter().map(|text| cell(text)).collect::<Vec<_>>().join(" | ")
            ));
        }
        if rows.len() > PREVIEW_ROWS {
            text.push_str(&format!("\n{} more rows\n", rows.len() - PREVIEW_ROWS));
        }
    }
    say(&text)
}

fn longest_run(text: &str, wanted: char) -> usize {
    let (mut longest, mut run) = (0, 0);
    for c in text.chars() {
        run = if c == wanted { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// `hansard session end ID`
pub(crate) fn session_end(id: SessionId, folder: &FolderArgs) -> Result<(), Failure> {
    let done = object(
        folder,
        Question { method: "DELETE", path: format!("sessions/{id}"), body: Default::default() },
    )?;
    if folder.json {
        return say(&done.to_string());
    }
    let cancelled = done["cancelled"].as_array().map_or(0, Vec::len);
    say(&format!(
        "ended {id}: its tokens are refused, its streams are closed, {cancelled} running jobs were cancelled"
    ))
}

/// `hansard query`
pub(crate) fn query(args: &QueryArgs) -> Result<(), Failure> {
    let format = if args.folder.json { "json" } else { args.format.as_str() };
    let mut names: Vec<String> = Vec::new();
    let mut rows: Vec<Vec<String>> = Vec::new();
    lines(&args.folder, Question::post("query", args.sql.clone()), |line| {
        if format == "json" {
            return say(&String::from_utf8_lossy(line));
        }
        let row: Value = parse(line)?;
        let members = row.as_object().cloned().unwrap_or_default();
        if names.is_empty() {
            names = members.keys().cloned().collect();
            if format == "csv" {
                say(&names.iter().map(|name| csv(name)).collect::<Vec<_>>().join(","))?;
            }
        }
        let cells: Vec<String> = members.values().map(plain).collect();
        if format == "csv" {
            return say(&cells.iter().map(|cell| csv(cell)).collect::<Vec<_>>().join(","));
        }
        rows.push(cells);
        if rows.len() >= PAGE_ROWS {
            let header: Vec<&str> = names.iter().map(String::as_str).collect();
            table(&header, &std::mem::take(&mut rows))?;
        }
        Ok(())
    })?;
    if format == "table" && !names.is_empty() && !rows.is_empty() {
        let header: Vec<&str> = names.iter().map(String::as_str).collect();
        table(&header, &rows)?;
    }
    Ok(())
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn csv(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// `hansard verify`
pub(crate) fn verify(args: &VerifyArgs) -> Result<(), Failure> {
    let unchecked = |failure: Failure| Failure { code: 2, message: failure.message };
    let verdict = match verified_by_gateway(&args.folder) {
        Some(verdict) => verdict?,
        None => {
            let data = data_dir(&args.folder).map_err(unchecked)?;
            let layout = ledger::Layout::new(&data);
            if !data.join("journal").is_dir() {
                return Err(Failure::usage(format!("{} is no data folder", data.display())));
            }
            let _lock = layout.lock().map_err(|error| Failure::usage(error.to_string()))?;
            serde_json::to_value(ledger::verify(&layout, |_| ())).expect("a verdict is JSON")
        }
    };
    if args.folder.json {
        say(&verdict.to_string())?;
    }
    let print = |text: String| if args.folder.json { Ok(()) } else { say(&text) };
    match verdict["verdict"].as_str() {
        Some("clean") => print(format!(
            "clean: {} leaves in {} segments, {} blobs present, {} dropped by retention",
            verdict["leaves"], verdict["segments"], verdict["blobs"], verdict["expired"]
        )),
        Some("damaged") => {
            let record = verdict["record"].as_str().unwrap_or("a record that can't be read");
            print(format!(
                "damaged: {} at byte {}: {} ({record})",
                verdict["segment"].as_str().unwrap_or_default(),
                verdict["offset"],
                verdict["why"].as_str().unwrap_or_default()
            ))?;
            Err(Failure::no(""))
        }
        _ => {
            Err(Failure::usage(verdict["why"].as_str().unwrap_or("the log could not be checked").to_owned()))
        }
    }
}

/// A running gateway checks its own log, as far as it is durable.
fn verified_by_gateway(folder: &FolderArgs) -> Option<Result<Value, Failure>> {
    if folder.gateway.is_none() {
        let data = data_dir(folder).ok()?;
        std::os::unix::net::UnixStream::connect(crate::serve::control_socket(&data)).ok()?;
    }
    Some(object(folder, Question::post("verify", "")))
}

/// `hansard retention run`
pub(crate) fn retention(dry_run: bool, folder: &FolderArgs) -> Result<(), Failure> {
    let path = if dry_run { "retention?dry_run=true" } else { "retention" };
    let done = object(folder, Question::post(path, ""))?;
    if folder.json {
        return say(&done.to_string());
    }
    let dropped = done["dropped"].as_array().cloned().unwrap_or_default();
    if dropped.is_empty() {
        return say("nothing is old enough");
    }
    let rows: Vec<Vec<String>> = dropped
        .iter()
        .map(|item| {
            let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
            vec![text("class"), text("what"), print::bytes(item["bytes"].as_u64().unwrap_or(0))]
        })
        .collect();
    table(&["class", if dry_run { "would be dropped" } else { "dropped" }, "size"], &rows)
}

fn filter_query(filter: &FilterArgs) -> Query {
    let mut query = Query::default();
    query.add("since", filter.since);
    query.add("until", filter.until);
    query.add("session", filter.session);
    query.add("principal", filter.principal.as_ref());
    query.add("agent", filter.agent.as_ref());
    query.add("task", filter.task.as_ref());
    query.add("connection", filter.connection.as_ref());
    query.add("kind", filter.kind.as_ref());
    query.add("table", filter.table.as_ref());
    query.add("contains", filter.contains.as_ref());
    query.add("outcome", filter.outcome.as_ref());
    query.add("effect", filter.effect.as_ref());
    query
}

/// A query string.
#[derive(Default)]
struct Query(Vec<String>);

impl Query {
    fn add<T: std::fmt::Display>(&mut self, name: &str, value: Option<T>) {
        if let Some(value) = value {
            let mut encoded = String::new();
            for byte in value.to_string().bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                        encoded.push(byte as char)
                    }
                    _ => encoded.push_str(&format!("%{byte:02X}")),
                }
            }
            self.0.push(format!("{name}={encoded}"));
        }
    }

    fn path(&self, route: &str) -> String {
        format!("{route}?{}", self.0.join("&"))
    }
}

/// A table that is printed page by page, or objects as they come.
struct Page {
    json: bool,
    header: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Page {
    fn new(json: bool, header: &'static [&'static str]) -> Self {
        Self { json, header, rows: Vec::new() }
    }

    fn line(&mut self, line: &[u8], row: impl Fn(&Value) -> Vec<String>) -> Result<(), Failure> {
        if self.json {
            return say(&String::from_utf8_lossy(line));
        }
        self.rows.push(row(&parse(line)?));
        if self.rows.len() >= PAGE_ROWS {
            table(self.header, &std::mem::take(&mut self.rows))?;
        }
        Ok(())
    }

    fn end(self) -> Result<(), Failure> {
        if self.json || self.rows.is_empty() {
            return Ok(());
        }
        table(self.header, &self.rows)
    }
}

/// Gives each line of the answer to `each`; an error that came late ends it.
fn lines(
    folder: &FolderArgs,
    question: Question,
    mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut cutter = LineCutter::default();
    ask(folder, question, |part| {
        cutter.push(part, |line| {
            if line.starts_with(b"{\"error\":\"") {
                let failed: Value = parse(line)?;
                return Err(Failure::no(failed["error"].as_str().unwrap_or_default()));
            }
            each(line)
        })
    })
}

pub(crate) fn objects(folder: &FolderArgs, question: Question) -> Result<Vec<Value>, Failure> {
    let mut all = Vec::new();
    lines(folder, question, |line| {
        all.push(parse(line)?);
        Ok(())
    })?;
    Ok(all)
}

pub(crate) fn object(folder: &FolderArgs, question: Question) -> Result<Value, Failure> {
    let mut whole = Vec::new();
    ask(folder, question, |part| {
        whole.extend_from_slice(part);
        Ok(())
    })?;
    parse(&whole)
}

fn parse(text: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(text)
        .map_err(|error| Failure::other_side(format!("the answer is no JSON: {error}")))
}

pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
    print::table(&mut std::io::stdout().lock(), header, rows).map_err(cannot_print)
}

/// One line, or more, to standard output.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout().lock(), "{text}").map_err(cannot_print)
}

fn cannot_print(error: std::io::Error) -> Failure {
    // A reader that had enough, such as `head`, is no failure.
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure { code: 0, message: String::new() },
        _ => Failure::other_side(format!("can't print: {error}")),
    }
}
