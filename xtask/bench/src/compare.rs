//! `cargo xtask bench`: the same requests directly, through nginx and through hansard, side by side in one run.
//! Prints ratios; judges nothing.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testkit::{Storage, World, free_port};

use xtask::shared_build::{self, SharedBuild};
use xtask::steps::{Run, Step, output, root};
use xtask::tools;

use crate::streams;

/// One measurement runs so long, and so often; the best is printed.
const SECONDS: u32 = 6;
pub(crate) const RUNS: u32 = 3;

/// Words on profiles of such runs (`perf record -F 1999 -g` on the gateway).
const NOTES: &str = "
## Where the time goes

Asked for, and not reached: 0.6 of nginx for small exchanges at 32 connections, 0.6 for the Storage API, less than 0.5 ms added at one
connection. Reached: 0.4 for pages.

A proxy that only forwards, on the same HTTP library and allocator, is as fast as nginx and spends as much (measured once beside this, not by this
command): what lies between nginx and hansard is the exchange itself, and it is spread thin. On two cores that client and upstream share, a
share of nginx's rate leaves a gateway what stands beneath the tables.

Of a small exchange, workers take two thirds: the sockets of both sides in the kernel, HTTP on both sides (together what nginx spends),
understanding the request and learning from the answer (an eighth of the whole), SHA-256 of what is delivered and of what is kept (a thirtieth),
then allocation, header maps, changes of task. The journal's thread takes a third: its sync in the kernel (an eighth of the whole), compressing
(a twentieth), serialising and linking leaves (a thirtieth). What may be known beforehand is not done per exchange: who may what is evaluated once per
principal, tokens are checked once in 30 s. Under load a round of the journal waits up to 200 µs for company, which halves the number of rounds (ADR
0008). The index stands aside while the gateway is busy and catches up within seconds.

With rules, a text that was not seen before is read by Google's parser, run as WebAssembly: some 1.5 ms of CPU, which bounds two cores at about 1,200
new statements a second; one that was seen costs nothing more, and one that no rule asks about is not read. The bench sends a new text every time.

At one connection each of the two syncs is four changes of thread: worker, journal, disk, worker. The log's files are written over (ADR 0014).
Writing them past the page cache (`O_DIRECT`) was measured beside it and gave a tenth of a sync.

Of a page, per byte: counting its rows and packing them by column, in one reading (three tenths, ADR 0018), SHA-256 of what is
delivered (a fifth), compressing (a sixth), the sockets (a seventh), copying. Of a stream of Arrow or Avro: compressing (a third), SHA-256 of what is
delivered (a sixth), the sockets (a sixth), the log and its files (a tenth), copying. What is kept of a window is hashed in its compressed form. The
next window is read while one is hashed, compressed and synced. All clients of the streams, nginx's too, allow frames of 256 KiB, as gRPC's C core
does on a connection that carries so much.

The canned answer names the same job every time, so a claim is written once: with a new job in every answer one more sync runs beside the
journal's. The allocator is jemalloc, for a third more small exchanges within the same memory (ADR 0011).
";

/// A way to the canned answers.
struct Target {
    name: &'static str,
    url: String,
    /// The process between client and upstream.
    pid: Option<u32>,
}

/// Figures of `wrk`.
#[derive(Clone, Copy, Default)]
pub(crate) struct Measured {
    requests_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// CPU that the process between spent on one of them.
    cpu_us: f64,
    pub(crate) failed: u64,
    pub(crate) answered: u64,
}

impl Measured {
    fn rate_and_cpu(&self) -> (f64, f64) {
        (self.requests_per_second, self.cpu_us)
    }
}

pub(crate) struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // It ends its worker itself, if it is told to end; killed, it would leave it behind.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Parts that a run measures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Small,
    Rules,
    Pages,
    Storage,
}

/// Measures the part that is named, or everything; only that is written down, and only of the build that is made here.
pub(crate) fn run(run: &Run, args: &[String]) -> Step {
    let (part, other) = match args {
        [] => (None, None),
        [flag, file] if flag == "--binary" => (None, Some(file)),
        [part] => (Some(part.as_str()), None),
        [part, flag, file] if flag == "--binary" => (Some(part.as_str()), Some(file)),
        _ => return Err("bench takes a part, and --binary FILE".to_owned()),
    };
    let parts: &[Part] = match part {
        None => &[Part::Small, Part::Rules, Part::Pages, Part::Storage],
        Some("small") => &[Part::Small],
        Some("rules") => &[Part::Rules],
        Some("pages") => &[Part::Pages],
        Some("storage") => &[Part::Storage],
        Some(other) => return Err(format!("there is no part '{other}': small, rules, pages, storage")),
    };
    programs(run)?;
    let binary = match other {
        Some(file) => std::path::absolute(file).map_err(|error| format!("{file}: {error}"))?,
        None => shared_build::hansard(run, true)?,
    };
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let report = runtime.block_on(measure(run, parts, &binary))?;
    println!("{report}");
    if part.is_some() || other.is_some() {
        return Ok(());
    }
    let commit =
        output("git", Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(root()))?;
    let date = output("date", Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let text = format!(
        "# Performance\n\nMade by `cargo xtask bench` at commit {} on {}, on 2 cores shared by client, gateway and upstream. Ratios within one run are what counts: the machine's disk and load change from day to day.\n\n{report}",
        commit.trim(),
        date.trim()
    );
    fs::write(root().join("docs/performance.md"), text).map_err(|error| error.to_string())
}

pub(crate) fn programs(run: &Run) -> Step {
    let missing: Vec<&str> = [("nginx", "nginx-light"), ("wrk", "wrk")]
        .iter()
        .filter(|(program, _)| !tools::on_path(program) && !Path::new("/usr/sbin").join(program).exists())
        .map(|(_, package)| *package)
        .collect();
    tools::apt_install(run, &missing)
}

async fn measure(run: &Run, parts: &[Part], program: &Path) -> Result<String, String> {
    let folder = root().join("target/bench");
    let (direct, _upstream) = upstream(&folder)?;
    let proxy = free_port();
    let between = nginx(&folder, "proxy", &proxy_conf(proxy, &direct))?;
    let storage = Storage::start(streams::ROWS).await;
    let binary = program.to_str().ok_or("the binary's path is no text")?;
    let world = World::with_storage(binary, &direct, Some(&storage.address), "").await;
    let gateway = world.gateway();
    let token = world.issuer.token("bench@example.com", &["data"]);
    let targets = [
        Target { name: "direct", url: direct, pid: None },
        Target { name: "nginx", url: format!("http://127.0.0.1:{proxy}"), pid: Some(worker_of(&between)?) },
        Target { name: "hansard", url: gateway.url.clone(), pid: Some(gateway.pid()) },
    ];
    let sync_ms = fdatasync_p50(&folder)?;
    let mut report = String::new();
    let families = world.folder.join("hansard-data/journal");
    if parts.contains(&Part::Small) {
        let small = script(&folder, "small.lua", &token, SMALL)?;
        let [_, nginx, hansard] =
            table(&mut report, "`jobs.query`, 20 rows (4 KB), 32 connections", &targets, &small, 32)?;
        let _ = writeln!(report, "{}", budget(0.6, nginx.rate_and_cpu(), hansard.cpu_us, "a request"));
        let kept = kept_since(&families, 0)? as f64 / recorded(&gateway).await;
        let _ = writeln!(report, "- kept of a small exchange: {:.2} KB\n", kept / 1000.0);
        let [direct, nginx, hansard] =
            table(&mut report, "`jobs.query`, 20 rows (4 KB), 1 connection", &targets, &small, 1)?;
        let _ = writeln!(
            report,
            "- hansard adds {:.2} ms to direct's p50; nginx, which records nothing, adds {:.2} ms, and two syncs of this disk take {:.2} ms\n",
            hansard.p50_ms - direct.p50_ms,
            nginx.p50_ms - direct.p50_ms,
            2.0 * sync_ms
        );
    }
    if parts.contains(&Part::Rules) {
        rules(run, &mut report, &folder, &targets, binary).await?;
    }
    if parts.contains(&Part::Pages) {
        start_job(&gateway, &token).await?;
        let (before, count) = (kept_since(&families, 0)?, recorded(&gateway).await);
        let page = script(&folder, "page.lua", &token, PAGE)?;
        let title = "`getQueryResults`, one page of 30,000 rows (6 MB), 4 connections";
        let [_, nginx, hansard] = table(&mut report, title, &targets, &page, 4)?;
        let _ = writeln!(report, "{}", budget(0.4, nginx.rate_and_cpu(), hansard.cpu_us, "a page"));
        let page_bytes =
            fs::metadata(folder.join("data/page.json")).map_err(|error| error.to_string())?.len() as f64;
        let kept = kept_since(&families, before)? as f64 / (recorded(&gateway).await - count);
        let _ = writeln!(
            report,
            "- kept of a page: {:.0} KB, 1/{:.1} of its JSON\n",
            kept / 1000.0,
            page_bytes / kept
        );
    }
    if parts.contains(&Part::Storage) {
        streams::table(&mut report, &folder, &storage, &gateway, &token).await?;
        let _ = writeln!(report, "{}", streams::slow_reader(program, &world, &gateway).await?);
    }
    let _ =
        writeln!(report, "- fdatasync of 4 KiB on this disk: p50 {:.2} ms\n{}", sync_ms, lag(&gateway).await);
    let verified = gateway.hansard(&["verify"]);
    let _ = writeln!(report, "- the log afterwards: {}", verified.stdout.trim());
    gateway.stop();
    let starting = Instant::now();
    let gateway = world.gateway();
    let _ = writeln!(report, "- start with that log: {:.1} s", starting.elapsed().as_secs_f64());
    if parts.contains(&Part::Pages) {
        let _ = writeln!(report, "{}", memory(&folder, &gateway, &token)?);
    }
    report.push_str(NOTES);
    Ok(report)
}

/// Rules that ask about every statement, on the same way: what they add.
async fn rules(run: &Run, report: &mut String, folder: &Path, targets: &[Target], binary: &str) -> Step {
    const RULES: &str = "[policy]\ninclude = [\"agents-default\", \"no-destructive\"]\n[[rule]]\nname = \"cap\"\nwhen = \"true\"\n\
         action = \"limit\"\nbytes_billed = \"1TiB\"\njob_timeout = \"1h\"\n[[rule]]\nname = \"hours\"\nwhen = \"time.hour > 23\"\naction = \
         \"deny\"\n";
    let direct = targets.iter().find(|target| target.name == "direct").expect("one is direct").url.clone();
    let world = World::with_storage(binary, &direct, None, RULES).await;
    let gateway = world.gateway();
    let token = world.issuer.token("bench@example.com", &["data"]);
    let ruled = script(folder, "ruled.lua", &token, SMALL)?;
    let named = |name: &str| {
        let target = targets.iter().find(|target| target.name == name).expect("it is there");
        Target { name: target.name, url: target.url.clone(), pid: target.pid }
    };
    let mine = Target { name: "hansard, 11 rules", url: gateway.url.clone(), pid: Some(gateway.pid()) };
    let ways = [named("direct"), named("nginx"), mine];
    table(report, "The same with rules, 32 connections", &ways, &ruled, 32)?;
    table(report, "The same with rules, 1 connection", &ways, &ruled, 1)?;
    let build = SharedBuild::open(run)?;
    let mut decide = build.cargo();
    decide.args(["run", "--release", "--quiet", "--locked", "--package", "policy", "--example", "decide"]);
    let _ = writeln!(report, "- a decision by itself: {}", output("decide", &mut decide)?.trim());
    Ok(())
}

/// The canned answers, as fast as they can be had, and how many there were (`/status`).
pub(crate) fn upstream(folder: &Path) -> Result<(String, Nginx), String> {
    fs::create_dir_all(folder.join("data")).map_err(|error| error.to_string())?;
    fs::write(folder.join("data/small.json"), answer(20)).map_err(|error| error.to_string())?;
    fs::write(folder.join("data/page.json"), answer(30_000)).map_err(|error| error.to_string())?;
    let port = free_port();
    let nginx = nginx(folder, "upstream", &upstream_conf(port))?;
    Ok((format!("http://127.0.0.1:{port}"), nginx))
}

/// Bytes of leaves and blobs, beyond those that were there before. The write-ahead log is no part of the record.
fn kept_since(journal: &Path, before: u64) -> Result<u64, String> {
    let mut all = 0;
    let mut folders: Vec<PathBuf> =
        ["leaves", "statements", "rows"].iter().map(|family| journal.join(family)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| error.to_string())?.flatten() {
            match entry.path().is_dir() {
                true => folders.push(entry.path()),
                false => all += entry.metadata().map_err(|error| error.to_string())?.len(),
            }
        }
    }
    Ok(all - before)
}

/// Exchanges so far.
async fn recorded(gateway: &testkit::Gateway) -> f64 {
    gateway.metric("hansard_exchanges_total{outcome=\"ok\"}").await
}

/// Starts the job whose pages are asked for: nobody is shown the results of a job that is not theirs.
async fn start_job(gateway: &testkit::Gateway, token: &str) -> Step {
    let url = format!("{}/bigquery/v2/projects/p/queries", gateway.url);
    let answer = testkit::ask("POST", &url, token, r#"{"query":"SELECT 1","useLegacySql":false}"#).await;
    match answer.status {
        200 => Ok(()),
        status => Err(format!("the job of the pages could not be started: {status}")),
    }
}

/// Measures the memory that a result of 1 GB takes while it passes.
fn memory(folder: &Path, gateway: &testkit::Gateway, token: &str) -> Result<String, String> {
    use std::io::Write;
    let path = folder.join("data/huge.json");
    let page = answer(30_000);
    let rows =
        &page[page.find("\"rows\":[").map_or(0, |at| at + 8)..page.rfind("],\"totalBytes").unwrap_or(0)];
    let write = || {
        let mut file = std::io::BufWriter::new(fs::File::create(&path)?);
        file.write_all(b"{\"rows\":[")?;
        let mut written = 0;
        while written < 1_000_000_000 {
            file.write_all(if written > 0 { b"," } else { b"" })?;
            file.write_all(rows.as_bytes())?;
            written += rows.len();
        }
        file.write_all(b"],\"totalRows\":\"1\"}")
    };
    write().map_err(|error: std::io::Error| error.to_string())?;
    let status = format!("/proc/{}/status", gateway.pid());
    let before = field(&status, "VmRSS:");
    // The peak is that of this result, not of what came before.
    fs::write(format!("/proc/{}/clear_refs", gateway.pid()), "5").map_err(|error| error.to_string())?;
    let started = Instant::now();
    let url = format!("{}/bigquery/v2/projects/p/datasets/d/tables/huge/data", gateway.url);
    let size = output(
        "curl",
        Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{size_download}", "-H"])
            .arg(format!("Authorization: Bearer {token}"))
            .arg(&url),
    )?;
    let took = started.elapsed().as_secs_f64();
    let peak = fs::read_to_string(status).map_err(|error| error.to_string())?;
    let peak =
        peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default().trim().to_owned();
    let _ = fs::remove_file(path);
    let size: f64 = size.trim().parse().unwrap_or(0.0);
    Ok(format!(
        "- a result of {:.2} GB passed in {took:.1} s ({:.0} MB/s, recorded); the gateway's memory: {before} before it, {peak} at its peak",
        size / 1e9,
        size / 1e6 / took
    ))
}

pub(crate) fn field(status: &str, name: &str) -> String {
    let text = fs::read_to_string(status).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
}

/// Measures every way, and writes the table; the best run of each way, in their order.
fn table(
    report: &mut String,
    title: &str,
    targets: &[Target; 3],
    script: &Path,
    connections: u32,
) -> Result<[Measured; 3], String> {
    let _ = writeln!(
        report,
        "## {title}\n\n| way | requests/s | p50 ms | p99 ms | its CPU per request | of direct | of nginx |\n|---|---|---|---|---|---|---|"
    );
    // One after the other, again and again: what disturbs the machine disturbs all of them.
    let mut all = [Measured::default(); 3];
    for _ in 0..RUNS {
        for (target, best) in targets.iter().zip(&mut all) {
            let before = cpu_ms(target.pid);
            let mut run = wrk(&target.url, script, connections)?;
            run.cpu_us = (cpu_ms(target.pid) - before) * 1000.0 / run.answered.max(1) as f64;
            if run.failed > 0 {
                return Err(format!("{}: {} answers were no 200", target.name, run.failed));
            }
            if run.requests_per_second > best.requests_per_second {
                *best = run;
            }
        }
    }
    for (target, best) in targets.iter().zip(&all) {
        let of = |other: usize| {
            all.get(other).map_or(1.0, |other| best.requests_per_second / other.requests_per_second)
        };
        let _ = writeln!(
            report,
            "| {} | {:.0} | {:.2} | {:.2} | {:.0} µs | {:.2} | {:.2} |",
            target.name,
            best.requests_per_second,
            best.p50_ms,
            best.p99_ms,
            best.cpu_us,
            of(0),
            of(1)
        );
    }
    report.push('\n');
    Ok(all)
}

/// Tells what a share of nginx's rate would leave for a gateway, in µs of CPU for `one` of what is counted, if no core ever
/// waited (client and upstream spend what they spend beside nginx), beside what hansard spends. nginx is its rate and its CPU.
pub(crate) fn budget(
    share: f64,
    (nginx_per_second, nginx_cpu_us): (f64, f64),
    spent_us: f64,
    one: &str,
) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let others = cores * 1e6 / nginx_per_second - nginx_cpu_us;
    let left = cores * 1e6 / (share * nginx_per_second) - others;
    format!(
        "- {share} of nginx would leave a gateway {left:.0} µs of CPU {one}, if no core ever waited; hansard spends {spent_us:.0} µs"
    )
}

pub(crate) fn wrk(url: &str, script: &Path, connections: u32) -> Result<Measured, String> {
    let mut command = Command::new("wrk");
    command
        .args(["-t1", "--latency", &format!("-c{connections}"), &format!("-d{SECONDS}s"), "-s"])
        .arg(script)
        .arg(url);
    let text = output("wrk", &mut command)?;
    let number = |name: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(name))?;
        line.split_whitespace().last().map(str::to_owned)
    };
    let ms = |name: &str| number(name).map_or(0.0, |value| milliseconds(&value));
    let failed = text
        .lines()
        .find(|line| line.contains("Non-2xx"))
        .and_then(|line| line.split_whitespace().last()?.parse().ok());
    Ok(Measured {
        requests_per_second: number("Requests/sec:").and_then(|value| value.parse().ok()).unwrap_or(0.0),
        p50_ms: ms("50%"),
        p99_ms: ms("99%"),
        cpu_us: 0.0,
        failed: failed.unwrap_or(0),
        answered: text
            .lines()
            .find(|line| line.contains(" requests in "))
            .and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap_or(0),
    })
}

/// Returns the CPU that a process has spent so far, all its threads together.
pub(crate) fn cpu_ms(pid: Option<u32>) -> f64 {
    let stat = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok()).unwrap_or_default();
    // utime and stime, in hundredths of a second (proc(5)); the name before may hold blanks.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10.0
}

/// nginx's one worker: the process that does the work.
pub(crate) fn worker_of(nginx: &Nginx) -> Result<u32, String> {
    let pid = nginx.0.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let worker = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
    worker.ok_or_else(|| "nginx has no worker".to_owned())
}

fn milliseconds(text: &str) -> f64 {
    let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0)];
    units
        .iter()
        .find_map(|(unit, scale)| text.strip_suffix(unit)?.parse::<f64>().ok().map(|value| value * scale))
        .unwrap_or(0.0)
}

async fn lag(gateway: &testkit::Gateway) -> String {
    let started = Instant::now();
    let page = testkit::ask("GET", &format!("{}/metrics", gateway.url), "", "").await;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    let value = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).unwrap_or(0.0)
    };
    let behind = value("hansard_index_lag_leaves ");
    let sync = value("hansard_journal_sync_seconds ") * 1000.0;
    while started.elapsed() < Duration::from_secs(120) {
        let page = testkit::ask("GET", &format!("{}/metrics", gateway.url), "", "").await;
        if String::from_utf8_lossy(&page.body).contains("hansard_index_lag_leaves 0\n") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    format!(
        "- last sync of the journal's leaves: {sync:.2} ms\n- index lag when the load stopped: {behind:.0} leaves, caught up after {:.1} s",
        started.elapsed().as_secs_f64()
    )
}

fn fdatasync_p50(folder: &Path) -> Result<f64, String> {
    use std::io::Write;
    let path = folder.join("fdatasync");
    let mut file = fs::File::create(&path).map_err(|error| error.to_string())?;
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..200 {
        let started = Instant::now();
        file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).map_err(|error| error.to_string())?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    let _ = fs::remove_file(path);
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// A `QueryResponse` with so many rows; the same bytes every time.
fn answer(rows: usize) -> String {
    let fields: Vec<String> = [
        "id:INTEGER",
        "name:STRING",
        "email:STRING",
        "phone:STRING",
        "city:STRING",
        "amount:FLOAT",
        "created:TIMESTAMP",
        "note:STRING",
    ]
    .iter()
    .filter_map(|field| field.split_once(':'))
    .map(|(name, kind)| format!(r#"{{"name":"{name}","type":"{kind}","mode":"NULLABLE"}}"#))
    .collect();
    let cities = ["Paris", "Zürich", "San José", "東京", "Lagos"];
    let row = |n: usize| {
        let cell = |text: String| format!(r#"{{"v":"{text}"}}"#);
        let note = if n.is_multiple_of(7) {
            r#"{"v":null}"#.to_owned()
        } else {
            cell(format!(r#"note \"{}\" \\ with escapes\n"#, n * 7919 % 1_000_000))
        };
        let cells = [
            cell(n.to_string()),
            cell(format!("customer number {}", n * 31 % 977)),
            cell(format!("customer{n}@example.com")),
            cell(format!("+1-415-555-{:04}", n * 37 % 10_000)),
            cell(cities[n % 5].to_owned()),
            cell(format!("{}.{:06}", n % 1000, n * 7 % 1_000_000)),
            cell(format!("{}.0", 1_700_000_000 + n)),
            note,
        ];
        format!(r#"{{"f":[{}]}}"#, cells.join(","))
    };
    let all: Vec<String> = (0..rows).map(row).collect();
    format!(
        r#"{{"kind":"bigquery#queryResponse","schema":{{"fields":[{}]}},"jobReference":{{"projectId":"p","jobId":"job_1","location":"US"}},"totalRows":"{rows}","rows":[{}],"totalBytesProcessed":"123456","jobComplete":true,"cacheHit":false,"queryId":"q"}}"#,
        fields.join(","),
        all.join(",")
    )
}

pub(crate) fn nginx(folder: &Path, name: &str, conf: &str) -> Result<Nginx, String> {
    let path = folder.join(format!("{name}.conf"));
    fs::write(&path, conf).map_err(|error| error.to_string())?;
    let child = Command::new(if tools::on_path("nginx") { "nginx" } else { "/usr/sbin/nginx" })
        .arg("-p")
        .arg(folder)
        .arg("-c")
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("nginx: {error}"))?;
    std::thread::sleep(Duration::from_millis(300));
    Ok(Nginx(child))
}

fn upstream_conf(port: u16) -> String {
    format!(
        "worker_processes 1; daemon off; pid upstream.pid; error_log upstream.err warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; sendfile on; tcp_nopush on; open_file_cache max=100;
  types {{ }} default_type \"application/json; charset=UTF-8\";
  server {{
    listen 127.0.0.1:{port} backlog=4096; client_body_buffer_size 1m; client_max_body_size 64m; root data;
    error_page 405 =200 $uri;
    location = /status {{ stub_status; }}
    location = /bigquery/v2/projects/p/queries {{ rewrite ^ /small.json last; }}
    location ~ ^/bigquery/v2/projects/p/queries/ {{ rewrite ^ /page.json last; }}
    location ~ /tables/huge/data$ {{ rewrite ^ /huge.json last; }}
  }}
}}
"
    )
}

fn proxy_conf(port: u16, upstream: &str) -> String {
    format!(
        "worker_processes 1; daemon off; pid proxy.pid; error_log proxy.err warn;
events {{ worker_connections 4096; }}
http {{
  log_format audit '$time_iso8601 $remote_addr \"$request\" $status $request_body';
  access_log proxy.access.log audit buffer=64k; keepalive_requests 100000000;
  upstream up {{ server {}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096; client_body_buffer_size 1m; client_max_body_size 64m;
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffers 64 64k; proxy_max_temp_file_size 0; }}
  }}
}}
",
        upstream.trim_start_matches("http://")
    )
}

pub(crate) const SMALL: &str = r#"
local n = 0
function request()
  n = n + 1
  local sql = "SELECT id, name, email FROM `p.crm.customers` WHERE city = 'Paris' AND amount > " .. n .. " ORDER BY created DESC LIMIT 20"
  local body = '{"query":"' .. sql .. '","useLegacySql":false,"maxResults":1000,"requestId":"' .. n .. '-' .. math.random(1e9) .. '"}'
  return wrk.format("POST", "/bigquery/v2/projects/p/queries?prettyPrint=false", nil, body)
end
"#;

const PAGE: &str = r#"
function request()
  return wrk.format("GET", "/bigquery/v2/projects/p/queries/job_1?location=US&maxResults=100000&prettyPrint=false")
end
"#;

pub(crate) fn script(folder: &Path, name: &str, token: &str, body: &str) -> Result<PathBuf, String> {
    let path = folder.join(name);
    let head = format!(
        "wrk.headers[\"Authorization\"] = \"Bearer {token}\"\nwrk.headers[\"Content-Type\"] = \"application/json\"\n"
    );
    fs::write(&path, head + body).map_err(|error| error.to_string())?;
    Ok(path)
}
