//! What lies on the disk: recovery after a kill, damage found, the index rebuilt, retention, secrets nowhere.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use testkit::{Gateway, Scripted, ScriptedReply, World, ask, root, run};

use crate::{binary, block_on, queries};

const ANSWER: &str = r#"{"jobComplete":true,"rows":[{"f":[{"v":"the only row"}]}],"totalRows":"1","schema":{"fields":[{"name":"c","type":"STRING"}]}}"#;

async fn world(extra: &str) -> (World, Scripted) {
    let upstream = Scripted::start(Arc::new(|line, _| {
        if line.contains("slow") {
            std::thread::sleep(Duration::from_secs(3));
        }
        ScriptedReply::json(ANSWER)
    }))
    .await;
    let world = World::new(binary(), &upstream.url, &format!("shared_history = true\n{extra}")).await;
    (world, upstream)
}

async fn ask_many(world: &World, gateway: &Gateway, count: usize) {
    let token = world.issuer.token("alice@example.com", &["data"]);
    for n in 0..count {
        let body = json!({"query": format!("SELECT {n} AS needle_{n} FROM `p.d.t`")}).to_string();
        assert_eq!(ask("POST", &queries(&gateway.url), &token, body).await.status, 200);
    }
}

#[test]
fn a_kill_leaves_every_answered_exchange_and_closes_the_open_one() {
    block_on(async {
        let (world, _upstream) = world("").await;
        let gateway = world.gateway();
        ask_many(&world, &gateway, 20).await;
        let token = world.issuer.token("alice@example.com", &["data"]);
        let url = format!("{}/slow", queries(&gateway.url));
        let open = tokio::spawn(async move {
            let _ = tokio::time::timeout(
                Duration::from_secs(2),
                tokio::spawn(async move { ask("GET", &url, &token, "").await }),
            )
            .await;
        });
        tokio::time::sleep(Duration::from_millis(1500)).await;
        gateway.kill();
        let _ = open.await;
        // A torn tail, as a power failure leaves it.
        let last = leaf_files(&world.folder).pop().unwrap();
        let whole = std::fs::read(&last).unwrap();
        std::fs::write(&last, [&whole[..], &[200, 0, 0, 0, 1, 2, 3]].concat()).unwrap();
        let gateway = world.gateway();
        assert!(gateway.log().contains("'interrupted'"), "{}", gateway.log());
        let records = gateway.records(&[]);
        let outcomes = |wanted: &str| {
            records
                .iter()
                .filter(|record| record["kind"] == "exchange" && record["outcome"] == wanted)
                .count()
        };
        assert_eq!((outcomes("ok"), outcomes("interrupted")), (20, 1));
        let seqs: Vec<u64> = records
            .iter()
            .filter(|record| record["kind"] == "exchange")
            .map(|record| record["seq"].as_u64().unwrap())
            .collect();
        assert_eq!(seqs, (0..21).collect::<Vec<_>>(), "gapless");
        assert_eq!(gateway.hansard(&["verify"]).code, 0);
        ask_many(&world, &gateway, 1).await;
        assert_eq!(gateway.stop(), 0);
        assert_eq!(offline(&world, &["verify"]).code, 0);
    });
}

#[test]
fn a_log_that_was_touched_anywhere_is_found_damaged() {
    block_on(async {
        let (world, _upstream) = world("").await;
        let gateway = world.gateway();
        ask_many(&world, &gateway, 4).await;
        assert_eq!(gateway.stop(), 0);
        let clean = offline(&world, &["verify", "--json"]);
        assert_eq!((clean.code, &clean.objects()[0]["verdict"]), (0, &json!("clean")));
        let journal = world.folder.join("hansard-data/journal");
        let mut touched = 0;
        for file in files(&journal).into_iter().filter(|file| !file.ends_with("keys")) {
            let whole = std::fs::read(&file).unwrap();
            for at in (0..whole.len()).step_by(whole.len().div_ceil(60).max(1)) {
                let mut other = whole.clone();
                other[at] ^= 0x20;
                std::fs::write(&file, &other).unwrap();
                let verdict = offline(&world, &["verify", "--json"]);
                assert_eq!(verdict.code, 1, "{} at {at}: {}", file.display(), verdict.stdout);
                touched += 1;
            }
            std::fs::write(&file, &whole).unwrap();
        }
        assert!(touched > 60);
        assert_eq!(offline(&world, &["verify"]).code, 0);
        let nothing =
            run(Command::new(binary()).args(["verify", "--data", "/nonexistent"]).current_dir(&world.folder));
        assert_eq!(nothing.code, 2);
    });
}

#[test]
fn damage_before_the_tail_is_never_cut_away() {
    block_on(async {
        let (world, _upstream) = world("").await;
        let gateway = world.gateway();
        ask_many(&world, &gateway, 5).await;
        assert_eq!(gateway.stop(), 0);
        let last = leaf_files(&world.folder).pop().unwrap();
        let mut bytes = std::fs::read(&last).unwrap();
        let len = bytes.len();
        bytes[len / 2] ^= 1;
        std::fs::write(&last, &bytes).unwrap();
        let refused = run(Command::new(binary()).arg("serve").current_dir(&world.folder));
        assert_eq!(refused.code, 3);
        assert!(refused.stderr.contains("damaged"), "{}", refused.stderr);
        assert_eq!(std::fs::read(&last).unwrap().len(), len);
    });
}

#[test]
fn the_index_may_be_deleted() {
    block_on(async {
        let (world, _upstream) = world("").await;
        let gateway = world.gateway();
        ask_many(&world, &gateway, 12).await;
        let issued = gateway.hansard(&[
            "key",
            "issue",
            "--principal",
            "a",
            "--connection",
            "main",
            "--json",
            "--out",
            world.folder.join("k").to_str().unwrap(),
        ]);
        let id = issued.objects()[0]["id"].as_str().unwrap().to_owned();
        assert_eq!(gateway.hansard(&["key", "revoke", &id]).code, 0);
        let before = gateway.records(&[]);
        assert_eq!(gateway.stop(), 0);
        for file in ["index.db", "index.db-wal", "index.db-shm"] {
            let _ = std::fs::remove_file(world.folder.join("hansard-data").join(file));
        }
        let rebuilt = offline(&world, &["records", "--json"]);
        let mut after = rebuilt.objects();
        after.reverse();
        assert_eq!(before, after, "nothing is lost");
        assert!(
            offline(&world, &["key", "list"]).stdout.contains("revoked"),
            "nothing is revoked or revived"
        );
        assert_eq!(offline(&world, &["records", "--contains", "needle_7", "--json"]).objects().len(), 1);
    });
}

#[test]
fn records_are_found_by_every_filter() {
    block_on(async {
        let (world, _upstream) = world("").await;
        let gateway = world.gateway();
        ask_many(&world, &gateway, 12).await;
        let bob = world.issuer.token("bob@example.com", &["data"]);
        ask("GET", &format!("{}/bigquery/v2/projects/p/datasets/d/tables/t/data", gateway.url), &bob, "")
            .await;
        ask("POST", &format!("{}/mcp", gateway.url), &bob, "").await;
        let all = gateway.records(&[]);
        let session = all[0]["session"].as_str().unwrap().to_owned();
        let middle = all[6]["time"]["received"].as_str().unwrap().to_owned();
        let count = |args: &[&str]| gateway.records(args).len();
        assert_eq!(count(&["--principal", "bob@example.com"]), 2);
        assert_eq!(count(&["--session", &session]), 12);
        assert_eq!((count(&["--since", &middle]), count(&["--until", &middle])), (8, 6));
        assert_eq!((count(&["--outcome", "refused"]), count(&["--effect", "deny"])), (1, 1));
        assert_eq!((count(&["--table", "p.d.t"]), count(&["--table", "t"])), (1, 1));
        assert_eq!((count(&["--connection", "main"]), count(&["--limit", "3"])), (13, 3));
        assert_eq!((count(&["--contains", "NEEDLE_1"]), count(&["--contains", "needle_11"])), (3, 1));
        assert_eq!((count(&["--contains", "_7"]), count(&["--contains", "%"])), (1, 0));
        assert_eq!(count(&["--task", "none"]), 0);
        let rows = gateway.hansard(&[
            "query",
            "SELECT method, count(*) AS n FROM records WHERE kind = 'exchange' GROUP BY 1 ORDER BY 2 DESC",
            "--format",
            "json",
        ]);
        assert_eq!(rows.objects()[0], json!({"method": "jobs.query", "n": 12}));
        let csv = gateway.hansard(&[
            "query",
            "SELECT sql FROM records WHERE sql LIKE '%needle_3%'",
            "--format",
            "csv",
        ]);
        assert_eq!(csv.stdout, "sql\nSELECT 3 AS needle_3 FROM `p.d.t`\n");
        for forbidden in [
            "DELETE FROM t_records",
            "ATTACH 'x' AS y",
            "PRAGMA writable_schema=1",
            "SELECT load_extension('x')",
            "VACUUM INTO 'x'",
        ] {
            let refused = gateway.hansard(&["query", forbidden]);
            assert_eq!(refused.code, 1, "{forbidden}: {}", refused.stdout);
        }
        let markdown = gateway.hansard(&["session", "show", &session, "--rows", "--markdown"]);
        assert!(
            markdown.stdout.starts_with("# Session ") && markdown.stdout.contains("the only row"),
            "{}",
            markdown.stdout
        );
    });
}

#[test]
fn every_record_fits_the_published_schema() {
    block_on(async {
        let (world, _upstream) = world("").await;
        let gateway = world.gateway();
        // Nobody waits for a stranger's record: it is asked first, so that it stands before one that was waited for.
        ask("POST", &format!("{}/mcp", gateway.url), "nobody", "").await;
        ask_many(&world, &gateway, 2).await;
        let bob = world.issuer.token("bob@example.com", &["data"]);
        ask("POST", &format!("{}/mcp", gateway.url), &bob, "").await;
        let schema = root().join("docs/record.schema.json");
        let records = world.folder.join("records.jsonl");
        std::fs::write(&records, gateway.hansard(&["records", "--json"]).stdout).unwrap();
        let script = "
import json, sys, fastjsonschema
fits = fastjsonschema.compile(json.load(open(sys.argv[1])))
records = [json.loads(line) for line in open(sys.argv[2])]
for record in records: fits(record)
try: fits({**records[0], 'outcome': 'fine'})
except fastjsonschema.JsonSchemaException: print(len(records))
";
        let python = testkit::tools().join("clients/bin/python");
        let checked = run(Command::new(python).args([
            "-c",
            script,
            schema.to_str().unwrap(),
            records.to_str().unwrap(),
        ]));
        assert_eq!(checked.code, 0, "{}", checked.stderr);
        assert!(checked.stdout.trim().parse::<u32>().unwrap() >= 4);
    });
}

#[test]
fn tail_prints_records_as_they_close() {
    block_on(async {
        let (world, _upstream) = world("").await;
        let gateway = world.gateway();
        let mut tail = Command::new(binary())
            .args(["tail", "--json", "--principal", "alice@example.com"])
            .current_dir(&world.folder)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        ask_many(&world, &gateway, 3).await;
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(tail.stdout.take().unwrap()));
        for n in 0..3 {
            let record: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            assert_eq!(record["statement"]["sql"], format!("SELECT {n} AS needle_{n} FROM `p.d.t`"));
        }
        let _ = tail.kill();
        let _ = tail.wait();
    });
}

#[test]
fn retention_drops_days_and_keys_and_never_the_log() {
    block_on(async {
        let (world, _upstream) = world("[recording.retention]\nrows = \"2d\"\nstatements = \"30d\"\n").await;
        let gateway = world.gateway();
        ask_many(&world, &gateway, 3).await;
        let id = gateway.records(&[])[0]["id"].as_str().unwrap().to_owned();
        assert_eq!(gateway.stop(), 0);
        // The day's folders become those of a day long ago, as if the clock had gone on.
        let journal = world.folder.join("hansard-data/journal");
        let today = std::fs::read_dir(journal.join("rows")).unwrap().flatten().next().unwrap().file_name();
        std::fs::create_dir(journal.join("rows/2020-01-01")).unwrap();
        std::fs::write(journal.join("rows/2020-01-01/000001.blobs"), b"old").unwrap();
        let dry = offline(&world, &["retention", "run", "--dry-run", "--json"]);
        assert_eq!(dry.objects()[0]["dropped"], json!([{"class": "rows", "what": "2020-01-01", "bytes": 3}]));
        assert!(journal.join("rows/2020-01-01").exists());
        let done = offline(&world, &["retention", "run"]);
        assert!(done.code == 0 && done.stdout.contains("2020-01-01"), "{done:?}");
        assert!(!journal.join("rows/2020-01-01").exists());
        let events = offline(
            &world,
            &["query", "SELECT record FROM records WHERE kind = 'admin'", "--format", "json"],
        )
        .stdout;
        assert!(events.contains("retention.delete"), "{events}");

        // What was dropped is gone; the record stays and says so.
        std::fs::remove_dir_all(journal.join("rows").join(&today)).unwrap();
        let record: Value =
            serde_json::from_str(&offline(&world, &["record", "show", &id, "--rows", "--json"]).stdout)
                .unwrap();
        assert_eq!((&record["result"]["rows"], &record["result"]["data"]), (&json!(1), &Value::Null));
        assert_eq!(record["result"]["sha256"], Value::Null, "a digest goes with what it is of");
        let verdict = offline(&world, &["verify", "--json"]);
        // Three results, and the digest of each.
        assert_eq!((verdict.code, &verdict.objects()[0]["expired"]), (0, &json!(6)));
    });
}

#[test]
fn no_secret_is_found_anywhere() {
    block_on(async {
        let (world, _upstream) = world("").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        ask("POST", &queries(&gateway.url), &token, r#"{"query":"SELECT 'a-statement-that-is-sealed'"}"#)
            .await;
        let file = world.folder.join("agent.json");
        gateway.hansard(&[
            "key",
            "issue",
            "--principal",
            "a",
            "--connection",
            "main",
            "--out",
            file.to_str().unwrap(),
        ]);
        let account: Value =
            serde_json::from_str(&std::fs::read_to_string(world.folder.join("sa.json")).unwrap()).unwrap();
        let agent: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let inner = |key: &Value| key["private_key"].as_str().unwrap().lines().nth(5).unwrap().to_owned();
        let evidence =
            std::fs::read_to_string(world.folder.join("hansard-data.key")).unwrap().trim().to_owned();
        let secrets = [
            inner(&account),
            inner(&agent),
            evidence,
            testkit::UPSTREAM_TOKEN.to_owned(),
            token.split('.').next_back().unwrap().to_owned(),
        ];

        let mut places: Vec<(String, Vec<u8>)> = files(&world.folder.join("hansard-data"))
            .into_iter()
            .map(|file| (file.display().to_string(), std::fs::read(&file).unwrap_or_default()))
            .collect();
        places.push(("log".into(), gateway.log().into_bytes()));
        let proc = format!("/proc/{}", gateway.pid());
        for name in ["cmdline", "environ"] {
            places.push((name.into(), std::fs::read(format!("{proc}/{name}")).unwrap_or_default()));
        }
        for args in [
            &["records", "--json"][..],
            &["connection", "list", "--json"],
            &["key", "list", "--json"],
            &["query", "SELECT * FROM records", "--format", "json"],
        ] {
            places.push((args.join(" "), gateway.hansard(args).stdout.into_bytes()));
        }
        for (place, bytes) in &places {
            for secret in &secrets {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "a secret stands in {place}");
            }
            // Sealed in the journal; in the clear only in the index, which the threat model says.
            if place.contains("/journal/") {
                assert!(
                    !bytes.windows(26).any(|window| window == b"a-statement-that-is-sealed"),
                    "{place} is not sealed"
                );
            }
        }
        let limits = std::fs::read_to_string(format!("{proc}/limits")).unwrap();
        assert!(
            limits.lines().any(|line| line.starts_with("Max core file size") && line.contains(" 0 ")),
            "{limits}"
        );
    });
}

fn offline(world: &World, args: &[&str]) -> testkit::Output {
    run(Command::new(binary()).args(args).current_dir(&world.folder))
}

fn leaf_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = files(&folder.join("hansard-data/journal/leaves"));
    found.retain(|file| std::fs::metadata(file).is_ok_and(|meta| meta.len() > 0));
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}
