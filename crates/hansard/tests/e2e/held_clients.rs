//! Unmodified clients whose statements wait for a human: each waits, none sends its statement again, and what was
//! allowed runs once. `HANSARD_HOLD_SECS` says for how long; the soak holds for ten minutes.

use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testkit::{Emulator, Gateway, Tap, World, ask};

use crate::clients::{EGRESS, node, script};
use crate::{binary, block_on};

const RULE: &str = "[[rule]]\nname = \"new-tables\"\nwhen = \"statement.kind == 'CREATE_TABLE_AS_SELECT'\"\naction = \"approve\"\n\
     approvers = \"approver.idp == 'local'\"\nexpires = \"2h\"\n";

fn hold_secs() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the soak says how long, and a test has no other way to be told"
    )]
    let said = std::env::var("HANSARD_HOLD_SECS");
    said.ok().and_then(|secs| secs.parse().ok()).unwrap_or(60)
}

/// A command of `hansard exec`, told nothing.
fn under_exec(world: &World, gateway: &Gateway, program: &Command) -> Child {
    let mut command = Command::new(binary());
    command.args(["exec", "--gateway", &gateway.url, "--key"]).arg(world.folder.join("key.json")).arg("--");
    command.arg(program.get_program()).args(program.get_args());
    command.env_remove("BIGQUERY_URL").env("BIGQUERY_DATASET", "held").env("BIGQUERY_PROJECT", "proj");
    command.env("HOME", &world.folder).env_remove("XDG_CONFIG_HOME").env_remove("XDG_RUNTIME_DIR");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

fn bq(world: &World, table: &str, flags: &[&str]) -> Command {
    std::fs::write(world.folder.join("bigqueryrc"), "").unwrap();
    let sql = format!("CREATE TABLE held.{table} AS SELECT 1 AS x");
    let mut bq = Command::new("env");
    bq.arg(format!("BIGQUERYRC={}", world.folder.join("bigqueryrc").display()));
    bq.arg(format!("CLOUDSDK_CONFIG={}", world.folder.join("gcloud").display()));
    bq.args(["bq", "--project_id=proj", "--format=json", "query", "--use_legacy_sql=false"])
        .args(flags)
        .arg(sql);
    bq
}

#[test]
fn every_client_waits_and_sends_its_statement_once() {
    block_on(async {
        let log = std::env::temp_dir().join(format!("hansard-emulator-held-{}.log", std::process::id()));
        let emulator = Emulator::start(&log);
        let datasets = format!("{}/bigquery/v2/projects/proj/datasets", emulator.url);
        let dataset = json!({"datasetReference": {"projectId": "proj", "datasetId": "held"}}).to_string();
        assert_eq!(ask("POST", &datasets, "", dataset).await.status, 200);
        let upstream = Tap::start(&emulator.url).await;
        let world =
            World::with_storage(binary(), &upstream.url, Some(&emulator.storage), &format!("{EGRESS}{RULE}"))
                .await;
        let gateway = world.gateway();
        gateway.issue_key("agent@example.com", "key.json");

        let mut tables = vec!["python_insert", "python_query", "node_query", "node_insert", "adbc"];
        let mut running = vec![
            (
                "python",
                under_exec(&world, &gateway, &script("clients/bin/python", "python/held_scenario.py")),
            ),
            ("node", under_exec(&world, &gateway, &node("held_scenario.mjs"))),
            (
                "adbc",
                under_exec(&world, &gateway, &script("storage/bin/python", "python/held_adbc_scenario.py")),
            ),
        ];
        if Path::new("/usr/bin/bq").exists() {
            running.push(("bq", under_exec(&world, &gateway, &bq(&world, "bq_insert", &[]))));
            running.push(("bq --rpc", under_exec(&world, &gateway, &bq(&world, "bq_rpc", &["--rpc=true"]))));
            tables.extend(["bq_insert", "bq_rpc"]);
        } else {
            println!("skipped: bq: it is not installed, and no registry has it");
        }

        // One more waits at first, until Python cancels it.
        let pending = || gateway.hansard(&["approvals", "list", "--json"]).objects();
        let until = Instant::now() + Duration::from_secs(60);
        let named = |held: &[Value], name: &str| {
            held.iter().any(|one| one["statement"]["sql"].as_str().unwrap_or_default().contains(name))
        };
        loop {
            let held = pending();
            if tables.iter().all(|table| named(&held, table)) && !named(&held, "cancelled") {
                assert_eq!(held.len(), tables.len(), "{held:#?}");
                break;
            }
            assert!(Instant::now() < until, "not everything waits: {held:#?}\n{}", gateway.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        tokio::time::sleep(Duration::from_secs(hold_secs())).await;
        assert_eq!(pending().len(), tables.len(), "nothing was sent again");
        for held in pending() {
            let approved = gateway.hansard(&["approvals", "approve", held["id"].as_str().expect("an id")]);
            assert_eq!(approved.code, 0, "{approved:?}");
        }
        for (name, child) in running {
            let output = child.wait_with_output().expect("it ends");
            let (out, err) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{name}: {out}\n{err}");
            for line in
                out.lines().filter(|line| line.starts_with("{\"step\"") || line.starts_with("{\"step\":"))
            {
                let step: Value = serde_json::from_str(line).expect("JSON");
                match step["step"].as_str() {
                    Some("cancelled") => {
                        assert_eq!(step["value"], json!(["PENDING", "DONE", "stopped"]), "{line}")
                    }
                    _ => assert!(
                        step["value"].as_u64().is_some_and(|secs| secs >= hold_secs()),
                        "{name}: {line}\n{err}"
                    ),
                }
            }
        }
        // Each statement came once, and ran once.
        let sent: Vec<String> = upstream
            .seen()
            .iter()
            .filter(|seen| seen.method == "POST")
            .map(|seen| String::from_utf8_lossy(&seen.body).into_owned())
            .filter(|body| !body.contains("\"dryRun\":true"))
            .collect();
        for table in &tables {
            assert_eq!(
                sent.iter().filter(|body| body.contains(&format!("held.{table} AS"))).count(),
                1,
                "{table}"
            );
        }
        assert!(!sent.iter().any(|body| body.contains("python_cancelled")), "what was cancelled never ran");
        let held = gateway.records(&["--outcome", "held"]);
        assert_eq!(held.len(), tables.len() + 1, "{held:#?}");
    });
}
