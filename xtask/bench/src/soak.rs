//! `cargo xtask soak [KILLS [EXCHANGES [FUZZ SECONDS]]]`: kills under load, again and again; whatever was answered must
//! be in the record, whole. Then a million exchanges, and ten minutes of hostile bytes for every parser.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testkit::{Scripted, ScriptedReply, World};

use xtask::fuzz::{self, Effort};
use xtask::shared_build::{self, SharedBuild};
use xtask::steps::{Run, Step, output, root};

use crate::{compare, many};

const KILLS: u32 = 200;
const EXCHANGES: u32 = 1_000_000;
const FUZZ_SECS: u32 = 600;
const CLIENTS: usize = 8;

/// Answers: the record's id, and the hash of the body.
type Answered = Arc<Mutex<BTreeMap<String, String>>>;

pub(crate) fn run(run: &Run) -> Step {
    let binary = shared_build::hansard(run, true)?;
    let number =
        |at: usize, usual: u32| std::env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (kills, exchanges, fuzz_secs) = (number(2, KILLS), number(3, EXCHANGES), number(4, FUZZ_SECS));
    compare::programs(run)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let killed = runtime.block_on(soak(&binary, kills))?;
    let many = runtime.block_on(many::run(&binary, u64::from(exchanges)))?;
    let held = held(run)?;
    let failing = failing(run)?;
    let targets = fuzz::build(run, &SharedBuild::open(run)?, Effort::Optimised)?;
    let fuzzed = fuzz::attack(run, &targets, fuzz_secs)?;
    let commit =
        output("git", Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(root()))?;
    let date = output("date", Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let text = format!(
        "# Soak\n\nMade by `cargo xtask soak` at commit {} on {}.\n\n## Kills\n\n{killed}\n## Many\n\n{many}\n## Held\n\n{held}\n## Failing calls\n\n{failing}\n## Hostile bytes\n\n{fuzzed}",
        commit.trim(),
        date.trim()
    );
    println!("{text}");
    std::fs::write(root().join("docs/soak.md"), text).map_err(|error| error.to_string())
}

/// Every client's statement waits for ten minutes.
fn held(run: &Run) -> Result<String, String> {
    const HOLD_SECS: &str = "600";
    let build = SharedBuild::open(run)?;
    let mut test = build.cargo();
    // The clients are those of this clone.
    test.env("HANSARD_ROOT", root());
    test.args(["test", "--locked", "--test", "e2e", "held_clients"]);
    run.step("clients that wait", test.env("HANSARD_HOLD_SECS", HOLD_SECS))?;
    Ok(format!("- every client's statement waited {HOLD_SECS} s for approval, was sent once, and ran\n"))
}

/// Each call of the ledger to the kernel fails in turn; the suite tries a sample.
fn failing(run: &Run) -> Result<String, String> {
    let build = SharedBuild::open(run)?;
    let mut test = build.cargo();
    test.args(["test", "--locked", "--package", "ledger", "--test", "every_write"]);
    run.step("calls that fail", test.env("HANSARD_TEST_ALL", "1"))?;
    Ok("- every call of the ledger to the kernel failed once: a record, a gap or a refusal each time\n"
        .to_owned())
}

async fn soak(binary: &Path, kills: u32) -> Result<String, String> {
    let row = format!(r#"{{"f":[{{"v":"{}"}}]}}"#, "x".repeat(500));
    let long = format!(r#"{{"jobComplete":true,"rows":[{}],"totalRows":"6000"}}"#, vec![row; 6000].join(","));
    let short = r#"{"jobComplete":true,"rows":[{"f":[{"v":"1"}]}],"totalRows":"1"}"#;
    let script = move |line: &str, _: &_| {
        ScriptedReply::json(if line.contains("long") { long.clone() } else { short.to_owned() })
    };
    let upstream = Scripted::start(Arc::new(script)).await;
    let world = World::new(binary.to_str().unwrap_or_default(), &upstream.url, "").await;
    let answered: Answered = Arc::default();
    let started = Instant::now();
    let mut recovery = Duration::ZERO;
    for round in 0..kills {
        let starting = Instant::now();
        let gateway = world.gateway();
        recovery = recovery.max(starting.elapsed());
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                tokio::spawn(client_loop(
                    gateway.url.clone(),
                    world.issuer.token("soak@example.com", &["data"]),
                    client,
                    answered.clone(),
                ))
            })
            .collect();
        // Spread over the first second, without two rounds alike.
        tokio::time::sleep(Duration::from_millis(80 + u64::from(round * 7919 % 900))).await;
        gateway.kill();
        clients.iter().for_each(tokio::task::JoinHandle::abort);
        if round % 20 == 19 {
            println!("  {} kills, {} answers", round + 1, answered.lock().map(|all| all.len()).unwrap_or(0));
        }
    }
    check(binary, &world, &answered, kills, started.elapsed(), recovery)
}

async fn client_loop(url: String, token: String, client: usize, answered: Answered) {
    loop {
        let path = if client == 0 { "/datasets/d/tables/long/data" } else { "/queries" };
        let (method, body) = if client == 0 { ("GET", "") } else { ("POST", r#"{"query":"SELECT 1"}"#) };
        let request =
            http::Request::builder().method(method).uri(format!("{url}/bigquery/v2/projects/p{path}"));
        let request = request.header("authorization", format!("Bearer {token}")).body(body.into());
        let Some(answer) = testkit::try_send(request.expect("a request")).await else { return };
        if answer.whole && answer.status == 200 {
            let hash = format!("{}", testkit::sha256(&answer.body));
            if let Ok(mut all) = answered.lock() {
                all.insert(answer.record(), hash);
            }
        }
    }
}

fn check(
    binary: &Path,
    world: &World,
    answered: &Answered,
    kills: u32,
    took: Duration,
    recovery: Duration,
) -> Result<String, String> {
    let hansard = |args: &[&str]| testkit::run(Command::new(binary).args(args).current_dir(&world.folder));
    let records = hansard(&[
        "query",
        "SELECT id, outcome, json_extract(record, '$.result.sha256') AS hash FROM records WHERE kind = 'exchange'",
        "--format",
        "json",
    ]);
    let by_id: BTreeMap<String, (String, String)> = records
        .objects()
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            (text("id"), (text("outcome"), text("hash")))
        })
        .collect();
    let answered = answered.lock().map_err(|error| error.to_string())?;
    let missing = answered.keys().filter(|id| !by_id.contains_key(*id)).count();
    let other = answered
        .iter()
        .filter(|(id, hash)| by_id.get(*id).is_some_and(|(_, recorded)| recorded != *hash))
        .count();
    let interrupted = by_id.values().filter(|(outcome, _)| outcome == "interrupted").count();
    let verified = hansard(&["verify"]);
    let mut report = String::new();
    let _ = writeln!(
        report,
        "- {kills} kills (SIGKILL) under load of {CLIENTS} clients, in {:.0} s",
        took.as_secs_f64()
    );
    let _ = writeln!(
        report,
        "- {} answers reached a client whole: {missing} unrecorded, {other} recorded with another hash",
        answered.len()
    );
    let _ = writeln!(
        report,
        "- {} records, {interrupted} of them closed as interrupted at the next start",
        by_id.len()
    );
    let _ = writeln!(report, "- slowest start after a kill: {:.1} s", recovery.as_secs_f64());
    let _ = writeln!(report, "- {}", verified.stdout.trim());
    if missing + other > 0 || verified.code != 0 {
        return Err(format!("the soak failed:\n{report}"));
    }
    Ok(report)
}
