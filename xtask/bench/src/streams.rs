//! The Storage API's part of the bench: streams of rows over gRPC, by the same three ways; and what a slow reader
//! costs the gateway and the sidecar.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;
use testkit::{Gateway, Rows, Sidecar, Storage, StorageClient, UPSTREAM_TOKEN, World, free_port};

use crate::compare::{RUNS, budget, cpu_ms, nginx, worker_of};

/// Streams at a time, each over a connection of its own.
const STREAMS: usize = 2;
const MIB: usize = 1024 * 1024;
/// Rows of each stream.
pub(crate) const ROWS: Rows = Rows { messages: 256, bytes: MIB, rows: 20_000, breaks_after: None };
/// A slow reader takes so much in a second.
const SLOW_BYTES: u64 = 100_000_000;
/// Bytes that it reads in all.
const SLOW_TOTAL: u64 = 1_000_000_000;

/// A way to the rows.
struct Way {
    name: &'static str,
    url: String,
    token: String,
    pid: Option<u32>,
}

/// Figures of one way, at its best.
#[derive(Clone, Copy, Default)]
struct Rate {
    mb_per_second: f64,
    cpu_us_per_mb: f64,
}

/// A table of all three ways.
pub(crate) async fn table(
    report: &mut String,
    folder: &Path,
    storage: &Storage,
    gateway: &Gateway,
    token: &str,
) -> Result<(), String> {
    let port = free_port();
    let between = nginx(folder, "grpc", &grpc_conf(port, &storage.address))?;
    let ways = [
        Way {
            name: "direct",
            url: format!("http://{}", storage.address),
            token: UPSTREAM_TOKEN.to_owned(),
            pid: None,
        },
        Way {
            name: "nginx",
            url: format!("http://127.0.0.1:{port}"),
            token: UPSTREAM_TOKEN.to_owned(),
            pid: Some(worker_of(&between)?),
        },
        Way { name: "hansard", url: gateway.url.clone(), token: token.to_owned(), pid: Some(gateway.pid()) },
    ];
    let mut best = [Rate::default(); 3];
    for _ in 0..RUNS {
        for (way, best) in ways.iter().zip(&mut best) {
            let rate = measure(way).await?;
            if rate.mb_per_second > best.mb_per_second {
                *best = rate;
            }
        }
    }
    let _ = writeln!(
        report,
        "## `ReadRows`, messages of 1 MiB, {STREAMS} streams of {} MB\n\n| way | MB/s | its CPU per MB | of direct | of nginx |\n|---|---|---|---|---|",
        ROWS.messages * ROWS.bytes as u64 / 1_000_000
    );
    for (way, rate) in ways.iter().zip(best) {
        let _ = writeln!(
            report,
            "| {} | {:.0} | {:.0} µs | {:.2} | {:.2} |",
            way.name,
            rate.mb_per_second,
            rate.cpu_us_per_mb,
            rate.mb_per_second / best[0].mb_per_second,
            rate.mb_per_second / best[1].mb_per_second
        );
    }
    let [_, nginx, hansard] = best;
    let of_nginx = (nginx.mb_per_second, nginx.cpu_us_per_mb);
    let _ = writeln!(report, "\n{}", budget(0.6, of_nginx, hansard.cpu_us_per_mb, "a MB"));
    Ok(())
}

async fn measure(way: &Way) -> Result<Rate, String> {
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let client = StorageClient::new(&way.url, &way.token);
        let stream = client.session().await;
        streams.push((client, stream));
    }
    let (started, before) = (Instant::now(), cpu_ms(way.pid));
    let reading = streams
        .into_iter()
        .map(|(client, stream)| tokio::spawn(async move { client.read(&stream, None, |_| ()).await }));
    let mut bytes = 0;
    for read in reading.collect::<Vec<_>>() {
        let got = read.await.map_err(|error| error.to_string())?;
        if got.status != Some(0) {
            return Err(format!("{}: a stream ended with {:?}", way.name, got.status));
        }
        bytes += got.bytes;
    }
    let mb = bytes as f64 / 1e6;
    Ok(Rate {
        mb_per_second: mb / started.elapsed().as_secs_f64(),
        cpu_us_per_mb: (cpu_ms(way.pid) - before) * 1000.0 / mb,
    })
}

/// Measures the memory that gateway and sidecar take while a slow client reads 1 GB of rows through both.
pub(crate) async fn slow_reader(binary: &Path, world: &World, gateway: &Gateway) -> Result<String, String> {
    let sidecar = Sidecar::start(binary, world, gateway);
    let client = StorageClient::new(&sidecar.url, "");
    let pids = [gateway.pid(), sidecar.pid()];
    for pid in pids {
        // The peak is that of these streams, not of what came before.
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5").map_err(|error| error.to_string())?;
    }
    let (started, mut bytes) = (Instant::now(), 0);
    while bytes < SLOW_TOTAL {
        let stream = client.session().await;
        let got = client.read(&stream, Some(SLOW_BYTES), |_| ()).await;
        if got.status != Some(0) {
            return Err(format!("the sidecar's stream ended with {:?}", got.status));
        }
        bytes += got.bytes;
    }
    let peak = |pid: u32| crate::compare::field(&format!("/proc/{pid}/status"), "VmHWM:");
    Ok(format!(
        "- a slow reader of {:.2} GB of rows ({:.0} MB/s) through sidecar and gateway: the gateway's memory at its peak {}, the sidecar's {}",
        bytes as f64 / 1e9,
        bytes as f64 / 1e6 / started.elapsed().as_secs_f64(),
        peak(pids[0]),
        peak(pids[1])
    ))
}

fn grpc_conf(port: u16, upstream: &str) -> String {
    format!(
        "worker_processes 1; daemon off; pid grpc.pid; error_log grpc.err warn;
events {{ worker_connections 4096; }}
http {{
  access_log grpc.access.log; http2_chunk_size 64k;
  upstream rows {{ server {upstream}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{port} http2; client_max_body_size 64m;
    location / {{ grpc_pass grpc://rows; grpc_buffer_size 64k; }}
  }}
}}
"
    )
}
