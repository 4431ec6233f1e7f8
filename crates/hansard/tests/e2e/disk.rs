//! A disk that errs, that is slow, that is full: by the tools that make real ones so.

use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};
use testkit::{Gateway, ask};

use crate::faults::{Answered, load, three_logs_agree, world};
use crate::{block_on, queries};

/// Set in the copy of this program that has a small file system of its own.
const INSIDE: &str = "HANSARD_TEST_SMALL_DISK";

async fn query(gateway: &Gateway, token: &str) -> testkit::Answer {
    ask("POST", &queries(&gateway.url), token, r#"{"query":"SELECT 1"}"#).await
}

/// Waits until a query is answered again.
async fn until_it_answers(gateway: &Gateway, token: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while query(gateway, token).await.status != 200 {
        assert!(Instant::now() < until, "it does not recover: {}", gateway.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a query is refused for want of space. Once is not enough to ask: whoever sees the disk low gives back
/// what the write-ahead log holds of it, and some queries more pass before that is full as well.
async fn until_it_refuses(gateway: &Gateway, token: &str) {
    let until = Instant::now() + Duration::from_secs(60);
    while query(gateway, token).await.status != 503 {
        assert!(Instant::now() < until, "it goes on with no space left: {}", gateway.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn gaps(gateway: &Gateway) -> Vec<Value> {
    gateway.records(&[]).into_iter().filter(|record| record["kind"] == "gap").collect()
}

/// Tells libfiu in the gateway what is to fail from here on.
fn fail(gateway: &Gateway, control: &str, command: &str) {
    let told = Command::new("fiu-ctrl")
        .args(["-f", control, "-c", command, &gateway.pid().to_string()])
        .status()
        .expect("libfiu is installed");
    assert!(told.success(), "{command}");
}

#[test]
fn a_disk_that_errs_loses_nothing_that_was_answered() {
    block_on(async {
        let (world, upstream) = world("").await;
        let token = world.issuer.token("alice@example.com", &["data"]);
        let control = world.folder.join("fiu").display().to_string();
        let answered = Answered::default();
        let gateway = world.gateway_with(&[
            ("LD_PRELOAD", "/usr/lib/fiu/fiu_run_preload.so /usr/lib/fiu/fiu_posix_preload.so"),
            ("FIU_CTRL_FIFO", &control),
        ]);
        let clients = load(&world, &gateway, &answered);
        for points in [&["fdatasync"][..], &["fdatasync", "ftruncate", "fsync"]] {
            let tell = |how: &str, more: &str| {
                for point in points {
                    let room = if *point == "ftruncate" { "oc" } else { "sync" };
                    fail(&gateway, &control, &format!("{how} name=posix/io/{room}/{point}{more}"));
                }
            };
            tokio::time::sleep(Duration::from_millis(300)).await;
            // EIO, at random: some rounds fail, some do not.
            tell("enable_random", ",probability=0.2,failinfo=5");
            tokio::time::sleep(Duration::from_millis(800)).await;
            tell("disable", "");
            until_it_answers(&gateway, &token).await;
        }
        assert!(gateway.log().contains("Input/output error"), "nothing failed: {}", gateway.log());
        clients.iter().for_each(tokio::task::JoinHandle::abort);
        gateway.kill();
        let gateway = world.gateway();
        assert!(three_logs_agree(&gateway, &upstream, &answered) > 20);
        let gaps = gaps(&gateway);
        assert!(!gaps.is_empty(), "rounds failed, and no record says so");
    });
}

#[test]
fn a_slow_disk_slows_and_loses_nothing() {
    block_on(async {
        let (world, upstream) = world("").await;
        let answered = Answered::default();
        let gateway = world.gateway();
        let mut strace = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"])
            .args(["-e", "inject=fdatasync:delay_enter=60000", "-p", &gateway.pid().to_string()])
            .spawn()
            .expect("strace is installed");
        let token = world.issuer.token("alice@example.com", &["data"]);
        let until = Instant::now() + Duration::from_secs(10);
        while gateway.metric("hansard_journal_sync_seconds").await < 0.06 {
            assert!(Instant::now() < until, "the disk did not get slow");
            assert_eq!(query(&gateway, &token).await.status, 200);
        }
        let clients = load(&world, &gateway, &answered);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let begun = Instant::now();
        assert_eq!(query(&gateway, &token).await.status, 200);
        assert!(begun.elapsed() > Duration::from_millis(120), "an answer came before two syncs");
        clients.iter().for_each(tokio::task::JoinHandle::abort);
        gateway.kill();
        let _ = strace.wait();
        assert!(three_logs_agree(&world.gateway(), &upstream, &answered) > 20);
    });
}

#[test]
fn a_disk_that_is_full_keeps_what_was_answered_and_takes_up_work_again() {
    if std::env::var_os(INSIDE).is_none() {
        return on_a_small_disk("disk::a_disk_that_is_full_keeps_what_was_answered_and_takes_up_work_again");
    }
    block_on(async {
        let (world, upstream) = world("").await;
        let token = world.issuer.token("alice@example.com", &["data"]);
        let answered = Answered::default();
        let gateway = world.gateway();
        let ballast = world.folder.join("ballast");
        let clients = load(&world, &gateway, &answered);
        tokio::time::sleep(Duration::from_millis(300)).await;
        // A twentieth of 64 MB is kept for closing what is open: 8 MB are soon written.
        fill(&ballast, 8);
        let until = Instant::now() + Duration::from_secs(60);
        while gateway.metric("hansard_disk_low").await < 1.0 {
            assert!(Instant::now() < until, "the floor was not seen: {}", gateway.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        until_it_refuses(&gateway, &token).await;
        // Now the floor itself is gone, while records are open.
        std::fs::remove_file(&ballast).unwrap();
        until_it_answers(&gateway, &token).await;
        fill(&ballast, 0);
        until_it_refuses(&gateway, &token).await;
        assert!(!upstream.asked().is_empty());
        std::fs::remove_file(&ballast).unwrap();
        until_it_answers(&gateway, &token).await;
        clients.iter().for_each(tokio::task::JoinHandle::abort);
        assert_eq!(gateway.stop(), 0);
        let gateway = world.gateway();
        assert!(three_logs_agree(&gateway, &upstream, &answered) > 20);
        assert!(!gaps(&gateway).is_empty(), "work was refused for want of space, and no record says so");
    });
}

/// Runs a test of this program again, with a file system of 64 MB as its folder for temporary files.
fn on_a_small_disk(test: &str) {
    let folder = std::env::temp_dir().join(format!("hansard-small-disk-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let ran = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=64m none \"$0\" && exec \"$@\"")
        .arg(&folder)
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .envs([(INSIDE, "1".as_ref()), ("TMPDIR", folder.as_os_str())])
        .output()
        .expect("unshare is part of every system");
    let _ = std::fs::remove_dir(&folder);
    assert!(
        ran.status.success(),
        "{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
}

/// Writes until only so many MB are free.
fn fill(ballast: &std::path::Path, free_mb: u64) {
    use std::io::Write;
    let mut file = std::fs::File::create(ballast).unwrap();
    let block = vec![0; 64 * 1024];
    let free = || {
        let out = Command::new("df").args(["--output=avail", "-k"]).arg(ballast).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.lines().nth(1).and_then(|line| line.trim().parse::<u64>().ok()).expect("df tells")
    };
    let mut left = free().saturating_sub(free_mb * 1024);
    while (left > 0 || free_mb == 0) && file.write_all(&block).is_ok() {
        left = left.saturating_sub(64);
    }
}
