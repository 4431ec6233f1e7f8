//! Long streams of rows, through sidecar and gateway: what a slow reader costs, and what is recorded when any of
//! the four ends is killed in the middle.

use serde_json::Value;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use testkit::{Gateway, Got, Rows, Sidecar, Storage, StorageClient, World};

use crate::{binary, block_on};

const MIB: u64 = 1024 * 1024;
/// What may have left the record's window and not reached the client's hands: the buffers of two hops.
const ON_THE_WAY_BYTES: u64 = 8 * MIB;
const ENDLESS: Rows = Rows { messages: 10_000, bytes: MIB as usize, rows: 100, breaks_after: None };

/// A gateway before a Storage API, with a sidecar before it.
struct Set {
    world: World,
    storage: Storage,
    gateway: Gateway,
    sidecar: Sidecar,
    client: StorageClient,
}

impl Set {
    async fn new(rows: Rows) -> Self {
        let storage = Storage::start(rows).await;
        let nobody = format!("http://{}", storage.address);
        let world = World::with_storage(binary(), &nobody, Some(&storage.address), "").await;
        let gateway = world.gateway();
        let sidecar = Sidecar::start(binary().as_ref(), &world, &gateway);
        let client = StorageClient::new(&sidecar.url, "");
        Self { world, storage, gateway, sidecar, client }
    }

    /// Reads an endless stream, and does something once some of it has come.
    async fn read_until(&self, bytes: u64, then: impl FnOnce()) -> Got {
        let (stream, mut then) = (self.client.session().await, Some(then));
        let read = self.client.read(&stream, None, |so_far| {
            if so_far >= bytes
                && let Some(then) = then.take()
            {
                then();
            }
        });
        tokio::time::timeout(Duration::from_secs(30), read).await.expect("nothing hangs")
    }

    /// The record of a stream, once it is closed.
    async fn record(gateway: &Gateway, id: &str) -> Value {
        for _ in 0..300 {
            if let Some(record) = gateway.records(&[]).into_iter().find(|record| record["id"] == id) {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{id} stays open");
    }

    fn end(self) {
        drop(self.sidecar);
        drop(self.gateway);
        drop(self.world);
        assert_eq!(self.storage.unauthenticated(), 0, "only the gateway's credential came");
    }
}

fn kill(pid: u32) {
    assert!(Command::new("kill").arg("-KILL").arg(pid.to_string()).status().unwrap().success());
}

fn peak_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The record is never behind what the client got, and ahead by what was on its way at most.
fn is_just_ahead(recorded: u64, got: &Got) {
    assert!(recorded >= got.bytes, "{} came, {recorded} are recorded", got.bytes);
    assert!(recorded <= got.bytes + ON_THE_WAY_BYTES, "{} came, {recorded} are recorded", got.bytes);
}

/// 64 MB here; `cargo xtask bench storage` reads 1 GB.
#[test]
fn a_slow_reader_slows_the_upstream_and_costs_no_memory() {
    block_on(async {
        let set = Set::new(Rows { messages: 64, ..ENDLESS }).await;
        let stream = set.client.session().await;
        let got = set.client.read(&stream, Some(12 * MIB), |_| ()).await;
        assert_eq!(got.status, Some(0));
        assert!(got.bytes > 64 * MIB);
        for pid in [set.gateway.pid(), set.sidecar.pid()] {
            assert!(peak_kb(pid) < 100_000, "{} kB", peak_kb(pid));
        }
        let record = Set::record(&set.gateway, &got.record).await;
        assert_eq!(record["result"]["rows"], 6400);
        assert_eq!(record["result"]["bytes"], got.bytes);
        set.end();
    });
}

#[test]
fn a_gateway_that_is_killed_has_recorded_what_it_released() {
    block_on(async {
        let mut set = Set::new(ENDLESS).await;
        let pid = set.gateway.pid();
        let got = set.read_until(20 * MIB, || kill(pid)).await;
        assert_eq!(got.status, None, "it is no clean end");
        set.gateway = set.world.gateway();
        let record = Set::record(&set.gateway, &got.record).await;
        assert_eq!(record["outcome"], "interrupted");
        is_just_ahead(record["result"]["delivered_at_most"].as_u64().unwrap(), &got);
        assert_eq!(set.gateway.hansard(&["verify"]).code, 0);
        set.end();
    });
}

#[test]
fn a_sidecar_that_is_killed_ends_the_stream_and_its_record() {
    block_on(async {
        let set = Set::new(ENDLESS).await;
        let pid = set.sidecar.pid();
        let got = set.read_until(20 * MIB, || kill(pid)).await;
        assert_eq!(got.status, None, "it is no clean end");
        let record = Set::record(&set.gateway, &got.record).await;
        assert_eq!(record["outcome"], "aborted");
        is_just_ahead(record["result"]["bytes"].as_u64().unwrap(), &got);
        set.end();
    });
}

#[test]
fn a_client_that_is_gone_ends_the_stream_and_its_record() {
    block_on(async {
        let mut set = Set::new(ENDLESS).await;
        let (stream, came) = (set.client.session().await, Arc::new(AtomicU64::new(0)));
        let client = std::mem::replace(&mut set.client, StorageClient::new("http://127.0.0.1:9", ""));
        let (seen, taken) = (came.clone(), stream.clone());
        let reading = tokio::spawn(async move {
            client.read(&taken, None, |so_far| seen.store(so_far, Ordering::Relaxed)).await
        });
        while came.load(Ordering::Relaxed) < 20 * MIB {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // With its task, its connection is dropped.
        reading.abort();
        assert!(reading.await.is_err());
        let bytes = came.load(Ordering::Relaxed);
        let open = |record: &Value| record["target"]["method"] == "BigQueryRead.ReadRows";
        let mut found = None;
        for _ in 0..300 {
            found = set.gateway.records(&[]).into_iter().find(open);
            if found.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let record = found.expect("it is closed");
        assert_eq!(record["outcome"], "aborted");
        is_just_ahead(record["result"]["bytes"].as_u64().unwrap(), &Got { bytes, ..Got::default() });
        set.end();
    });
}

#[test]
fn an_upstream_that_breaks_off_is_no_clean_end_of_a_stream() {
    block_on(async {
        let set = Set::new(Rows { breaks_after: Some(20), ..ENDLESS }).await;
        let got = set.read_until(u64::MAX, || ()).await;
        assert_eq!(got.status, None, "it is no clean end");
        let record = Set::record(&set.gateway, &got.record).await;
        assert_eq!(record["outcome"], "aborted");
        is_just_ahead(record["result"]["bytes"].as_u64().unwrap(), &got);
        set.end();
    });
}
