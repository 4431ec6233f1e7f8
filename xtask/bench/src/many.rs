//! A million exchanges in one go (`cargo xtask soak`): none unrecorded, and what people then ask is answered at once.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};
use testkit::{Gateway, World};
use xtask::steps::root;

use crate::compare::{self, Nginx, SMALL};

/// The index may take this long to catch up.
const DRAIN_MAX: Duration = Duration::from_secs(1200);
const CONNECTIONS: u32 = 64;
/// Times that each question is asked; the median is told.
const ASKED: usize = 5;

pub(crate) async fn run(binary: &Path, exchanges: u64) -> Result<String, String> {
    let folder = root().join("target/bench");
    let (upstream, _nginx): (String, Nginx) = compare::upstream(&folder)?;
    let world = World::new(binary.to_str().unwrap_or_default(), &upstream, "").await;
    let gateway = world.gateway();
    let token = world.issuer.token("bench@example.com", &["data"]);
    let small = compare::script(&folder, "many.lua", &token, SMALL)?;
    let started = Instant::now();
    let mut answered = 0;
    while answered < exchanges {
        let run = compare::wrk(&gateway.url, &small, CONNECTIONS)?;
        if run.failed > 0 {
            return Err(format!("{} answers were no 200", run.failed));
        }
        answered += run.answered;
        println!("  {answered} exchanges");
    }
    let took = started.elapsed().as_secs_f64();
    let mut report = String::new();
    let _ = writeln!(report, "- {answered} answers to {CONNECTIONS} connections in {took:.0} s, and:");
    let lag = gateway.metric("hansard_index_lag_leaves").await;
    let draining = Instant::now();
    while gateway.metric("hansard_index_lag_leaves").await > 0.0 {
        if draining.elapsed() > DRAIN_MAX {
            return Err("the index did not catch up".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let _ = writeln!(
        report,
        "- the index was {lag} leaves behind, and caught up in {:.0} s",
        draining.elapsed().as_secs_f64()
    );
    let seen = seen(&upstream).await?;
    let count = "SELECT count(*) AS n FROM records WHERE kind = 'exchange'";
    let rows = gateway.hansard(&["query", count, "--format", "json"]).objects();
    let records = rows.first().and_then(|row| row["n"].as_u64()).unwrap_or(0);
    let _ = writeln!(report, "- the upstream saw {seen}, the record holds {records}");
    ask(&gateway, &mut report)?;
    let verified = gateway.hansard(&["verify"]);
    let _ = writeln!(report, "- {}", verified.stdout.trim());
    gateway.stop();
    let starting = Instant::now();
    let gateway = world.gateway();
    let _ = writeln!(report, "- start with all that: {:.1} s", starting.elapsed().as_secs_f64());
    gateway.stop();
    if records < seen || records < answered || verified.code != 0 {
        return Err(format!("something was not recorded:\n{report}"));
    }
    Ok(report)
}

/// Measures how long the pages take that people look at first; whole commands, with their start.
fn ask(gateway: &Gateway, report: &mut String) -> Result<(), String> {
    let newest = gateway.hansard(&["records", "--limit", "1", "--json"]).objects();
    let id = newest.first().and_then(|record| record["id"].as_str()).unwrap_or_default().to_owned();
    let questions: [(&str, &[&str]); 5] = [
        ("`sessions --limit 50`", &["sessions", "--limit", "50"]),
        ("`records --limit 50`", &["records", "--limit", "50"]),
        ("the same, `--contains 4711`", &["records", "--limit", "50", "--contains", "4711"]),
        (
            "the same, `--principal bench@...`",
            &["records", "--limit", "50", "--principal", "bench@example.com"],
        ),
        ("`record show ID`", &["record", "show", &id]),
    ];
    for (name, args) in questions {
        let mut took = Vec::new();
        for _ in 0..ASKED {
            let asked = Instant::now();
            let output = gateway.hansard(args);
            took.push(asked.elapsed().as_secs_f64() * 1000.0);
            if output.code != 0 {
                return Err(format!("{name}: {}", output.stderr));
            }
        }
        took.sort_by(f64::total_cmp);
        let _ = writeln!(report, "- {name}: {:.0} ms", took[ASKED / 2]);
    }
    Ok(())
}

/// Requests that the upstream counted, but for the one that asks.
async fn seen(upstream: &str) -> Result<u64, String> {
    let page = testkit::ask("GET", &format!("{upstream}/status"), "", "").await;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    let counts = text.lines().nth(2).unwrap_or_default();
    let requests: u64 = counts
        .split_whitespace()
        .nth(2)
        .and_then(|count| count.parse().ok())
        .ok_or_else(|| format!("nginx's status: {text}"))?;
    Ok(requests - 1)
}
