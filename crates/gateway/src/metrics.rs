//! Counters in Prometheus' text form. Names are documented in `docs/metrics.md` and stay.

use record::Outcome;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// How an exchange may end while the gateway runs: each is counted from 0, so that a rate of it is known from the start.
const OUTCOMES: [Outcome; 5] =
    [Outcome::Ok, Outcome::Error, Outcome::Refused, Outcome::Held, Outcome::Aborted];

/// What the gateway counts.
pub struct Metrics {
    exchanges: Mutex<BTreeMap<&'static str, u64>>,
    strangers: Mutex<BTreeMap<&'static str, u64>>,
    unrecorded: AtomicU64,
    mismatches: AtomicU64,
    connections: AtomicU64,
}

/// Name, type and meaning of every metric; `docs/metrics.md` is made from it.
pub const METRICS: &[(&str, &str, &str)] = &[
    ("hansard_exchanges_total", "counter", "Exchanges closed, by outcome"),
    ("hansard_strangers_total", "counter", "Requests refused before a principal was known, by reason"),
    ("hansard_unrecorded_total", "counter", "Answers withheld because they could not be recorded"),
    (
        "hansard_mismatches_total",
        "counter",
        "Statements that BigQuery ran as another kind than they were decided on; their records say `decided_as`",
    ),
    ("hansard_open_connections", "gauge", "Client connections open now"),
    (
        "hansard_journal_sync_seconds",
        "gauge",
        "How long the last round of the journal took to become durable",
    ),
    ("hansard_index_lag_leaves", "gauge", "Durable leaves that the index has not read yet"),
    ("hansard_followed_jobs", "gauge", "Jobs whose end is still to be recorded"),
    ("hansard_held_exchanges", "gauge", "Exchanges that wait for somebody's approval"),
    ("hansard_disk_low", "gauge", "1 while the disk is below its floor and nothing new is admitted"),
];

impl Default for Metrics {
    fn default() -> Self {
        Self {
            exchanges: Mutex::new(OUTCOMES.map(|outcome| (outcome.as_str(), 0)).into()),
            strangers: Mutex::default(),
            unrecorded: AtomicU64::new(0),
            mismatches: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    pub(crate) fn exchange(&self, outcome: Outcome) {
        *lock(&self.exchanges).entry(outcome.as_str()).or_default() += 1;
    }

    pub(crate) fn stranger(&self, reason: &'static str) {
        *lock(&self.strangers).entry(reason).or_default() += 1;
    }

    pub(crate) fn unrecorded(&self) {
        self.unrecorded.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn mismatch(&self) {
        self.mismatches.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connected(&self, by: i64) {
        self.connections.fetch_add(by as u64, Ordering::Relaxed);
    }

    /// The page at `/metrics`.
    pub fn page(&self, ledger: &ledger::Ledger, followed: u64, held: usize) -> String {
        let mut page = String::new();
        for (name, kind, meaning) in METRICS {
            let _ = writeln!(page, "# HELP {name} {meaning}\n# TYPE {name} {kind}");
            match *name {
                "hansard_exchanges_total" => labelled(&mut page, name, "outcome", &lock(&self.exchanges)),
                "hansard_strangers_total" => labelled(&mut page, name, "reason", &lock(&self.strangers)),
                "hansard_mismatches_total" => {
                    let _ = writeln!(page, "{name} {}", self.mismatches.load(Ordering::Relaxed));
                }
                "hansard_unrecorded_total" => {
                    let _ = writeln!(page, "{name} {}", self.unrecorded.load(Ordering::Relaxed));
                }
                "hansard_open_connections" => {
                    let _ = writeln!(page, "{name} {}", self.connections.load(Ordering::Relaxed));
                }
                "hansard_journal_sync_seconds" => {
                    let _ = writeln!(page, "{name} {}", ledger.last_sync().as_secs_f64());
                }
                "hansard_index_lag_leaves" => {
                    let _ = writeln!(page, "{name} {}", ledger.index_lag());
                }
                "hansard_followed_jobs" => {
                    let _ = writeln!(page, "{name} {followed}");
                }
                "hansard_held_exchanges" => {
                    let _ = writeln!(page, "{name} {held}");
                }
                "hansard_disk_low" => {
                    let _ = writeln!(page, "{name} {}", u8::from(ledger.is_disk_low()));
                }
                other => unreachable!("metric {other} has no value"),
            }
        }
        page
    }
}

fn labelled(page: &mut String, name: &str, label: &str, counts: &BTreeMap<&'static str, u64>) {
    for (value, count) in counts {
        let _ = writeln!(page, "{name}{{{label}=\"{value}\"}} {count}");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
