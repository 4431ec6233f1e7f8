//! Ways around rules: a corpus of our own, and the shared one as its ratchet.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use testkit::{root, run};

use crate::binary;

/// The rules that the policies' English texts mean. The shared corpus has the same in a file.
const POLICIES: &[(&str, &str)] = &[
    (
        "mask email,ssn,phone,address.street of proj.crm.customers",
        "name = 'hide'\nwhen = 'true'\naction = 'mask'\ncolumns = ['proj.crm.customers.email', 'proj.crm.customers.ssn', \
         'proj.crm.customers.phone', 'proj.crm.customers.address.street']\nwith = 'redact'\n",
    ),
    (
        "block DROP, TRUNCATE, DELETE, UPDATE without WHERE",
        "name = 'destructive'\nwhen = \"statement.kind.startsWith('DROP_') || statement.kind == 'TRUNCATE_TABLE' || \
         statement.kind == 'DELETE' || (statement.kind == 'UPDATE' && !statement.has_where)\"\naction = 'deny'\n",
    ),
    ("read-only: allow SELECT only", "name = 'read-only'\nwhen = '!request.is_read'\naction = 'deny'\n"),
    (
        "deny table proj.crm.customers",
        "name = 'no-customers'\nwhen = \"'proj.crm.customers' in statement.tables\"\naction = 'deny'\n",
    ),
    (
        "block DROP,TRUNCATE,ALTER,EXPORT DATA,CREATE PROCEDURE,EXECUTE IMMEDIATE,GRANT,REVOKE",
        "name = 'hard'\nwhen = \"statement.kinds.exists(k, k.startsWith('DROP_') || k.startsWith('ALTER_') || k in \
         ['TRUNCATE_TABLE', 'EXPORT_DATA', 'CREATE_PROCEDURE', 'EXECUTE_IMMEDIATE', 'GRANT', 'REVOKE'])\"\naction = 'deny'\n",
    ),
    (
        "approval for DML and DDL",
        "name = 'writes-need-a-human'\nwhen = 'request.is_write'\naction = 'approve'\napprovers = \"'approvers' in \
         approver.groups\"\nexpires = '1h'\n",
    ),
    (
        "do not record: SELECT without FROM",
        "name = 'no-from'\nwhen = \"statement.kind == 'SELECT' && size(statement.tables) == 0\"\naction = \
         'record'\nexclude = true\n",
    ),
];

/// What a case may come to, and what it needs.
struct Case {
    id: String,
    request: String,
    path: &'static str,
    accepts: &'static [&'static str],
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("the corpus");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The request that a case means, where it is a statement.
fn case(line: &Value) -> Option<Case> {
    let job = &line["job"];
    if !job["api"].is_null() || !job["charset"].is_null() || !job["sessionFirst"].is_null() {
        return None;
    }
    let sql = line["sql"].as_str().filter(|sql| !sql.is_empty())?;
    let legacy = job["useLegacySql"].as_bool().unwrap_or(false);
    let mut query = json!({"query": sql, "useLegacySql": legacy});
    if job["defaultDataset"].is_object() {
        query["defaultDataset"] = job["defaultDataset"].clone();
    }
    if let Some(parameters) = job["parameters"].as_object() {
        let named = parameters.iter().map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            json!({"name": name, "parameterType": {"type": "STRING"}, "parameterValue": {"value": text}})
        });
        query["queryParameters"] = named.collect();
    }
    if let Some(table) = job["destinationTable"].as_str() {
        let parts: Vec<&str> = table.split('.').collect();
        query["destinationTable"] =
            json!({"projectId": parts[0], "datasetId": parts[1], "tableId": parts[2]});
        query["writeDisposition"] = job["writeDisposition"].clone();
    }
    let dry_run = job["dryRun"].as_bool().unwrap_or(false);
    let request = json!({"configuration": {"query": query, "dryRun": dry_run}}).to_string();
    let is_mask = line["policy"].as_str().is_some_and(|policy| policy.starts_with("mask"));
    let accepts: &[&str] = match (line["expected"].as_str()?, is_mask) {
        // Until masking is built, what would be masked is refused; and what could be told apart is, too.
        ("mask" | "mask_or_deny" | "deny_or_record", true) => &["deny"],
        ("allow", true) => &["allow", "deny"],
        ("deny", _) => &["deny"],
        ("approve", _) => &["approve"],
        ("deny_or_record", _) => &["deny", "allow"],
        ("allow" | "record", _) => &["allow"],
        _ => return None,
    };
    let id = line["id"].as_str().unwrap_or_default().to_owned();
    Some(Case { id, request, path: "/bigquery/v2/projects/proj/jobs", accepts })
}

/// Decides all cases of a corpus, policy by policy; how many, and what is wrong.
fn judge(name: &str, corpus: &[Value]) -> (usize, usize, Vec<String>) {
    let folder = std::env::temp_dir().join(format!("hansard-evasions-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut by_policy: BTreeMap<&str, Vec<(&Value, Case)>> = BTreeMap::new();
    let mut left = 0;
    for line in corpus {
        let policy = line["policy"].as_str().unwrap_or_default();
        let is_known = POLICIES.iter().any(|(known, _)| *known == policy);
        match case(line).filter(|_| is_known) {
            Some(case) => by_policy.entry(policy).or_default().push((line, case)),
            None => left += 1,
        }
    }
    let (mut judged, mut wrong) = (0, Vec::new());
    for (policy, cases) in by_policy {
        let (_, rule) = POLICIES.iter().find(|(known, _)| *known == policy).expect("known");
        let config = format!(
            "[[connection]]\nname = 'main'\nprojects = ['proj']\ncredentials = {{ adc = true }}\nallow = 'true'\n\
             shared_history = true\n[[rule]]\n{rule}"
        );
        std::fs::write(folder.join("hansard.toml"), config).expect("written");
        let mut text = String::new();
        for (_, case) in &cases {
            // The answer says how it was decided, whatever is expected here.
            let body = json!(case.request);
            writeln!(
                text,
                "[[case]]\nname = {}\nas = {{ id = 'p@example.com' }}\nexpect = 'allow'\n[case.request]\nmethod = \
                 'POST'\npath = '{}'\nbody = {}\n",
                json!(case.id), case.path, toml_text(body.as_str().expect("text"))
            )
            .expect("written");
        }
        std::fs::write(folder.join("cases.toml"), text).expect("written");
        let output =
            run(Command::new(binary()).args(["policy", "test", "cases.toml", "--json"]).current_dir(&folder));
        let answers = output.objects();
        assert_eq!(answers.len(), cases.len(), "{output:?}");
        for ((line, case), answer) in cases.iter().zip(answers) {
            let why = answer["why"].as_str().unwrap_or_default();
            let found = match answer["ok"].as_bool() {
                Some(true) => "allow",
                _ if why.contains("decided deny") || why.starts_with("refused") => "deny",
                _ if why.contains("decided approve") => "approve",
                _ if why.contains("decided exclude") => "exclude",
                _ => "broken",
            };
            judged += 1;
            if !case.accepts.contains(&found) {
                wrong.push(format!("{} {found}, not {:?}: {line}\n    {why}", case.id, case.accepts));
            }
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
    (judged, left, wrong)
}

/// A TOML string of any text.
fn toml_text(text: &str) -> String {
    let mut out = String::from("\"");
    for one in text.chars() {
        match one {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            one if one.is_control() || one == '\u{feff}' => {
                write!(out, "\\U{:08X}", u32::from(one)).expect("written");
            }
            one => out.push(one),
        }
    }
    out.push('"');
    out
}

#[test]
fn no_way_around_rules_that_we_know_of() {
    let path = root().join("crates/googlesql/tests/evasions.jsonl");
    let (judged, left, wrong) = judge("own", &lines(&path));
    println!("{judged} judged, {left} of an action that is not built");
    assert!(judged >= 60);
    assert!(wrong.is_empty(), "{} of {judged}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_way_around_rules_that_others_know_of() {
    let path = root().join("../shared/evasion-examples.jsonl");
    if !path.exists() {
        println!("skipped: corpora: {} is not here", path.display());
        return;
    }
    let (judged, left, wrong) = judge("shared", &lines(&path));
    println!("{judged} judged, {left} through other doors or of an action that is not built");
    assert!(wrong.is_empty(), "{} of {judged}:\n{}", wrong.len(), wrong.join("\n"));
}
