//! Named places at which a debug build can be told to die, so that tests can look at what a kill there leaves.
//! In a release build there is nothing of it.

/// Every place, in the order in which one exchange passes them.
pub const FAILPOINTS: &[&str] = &[
    "accepted",
    "intent_written",
    "intent_synced",
    "sent",
    "first_byte",
    "mid_body",
    "last_byte",
    "outcome_written",
    "outcome_synced",
    "answered",
];

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, Ordering};

    static ARMED: OnceLock<(String, AtomicI64)> = OnceLock::new();

    /// Arms one place: the process is killed when it is passed for the `count`th time.
    pub fn arm_failpoint(name: &str, count: i64) {
        let _ = ARMED.set((name.to_owned(), AtomicI64::new(count)));
    }

    /// Dies here if this place is armed and its time has come.
    pub fn failpoint(name: &str) {
        if let Some((armed, left)) = ARMED.get()
            && armed == name
            && left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}

#[cfg(debug_assertions)]
pub use armed::{arm_failpoint, failpoint};

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub fn failpoint(_: &str) {}
