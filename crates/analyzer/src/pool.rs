//! The threads that own the instances.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use wasmtime::{Engine, InstancePre, Linker};

use googlesql::{Busy, ParserJob, Parsers};

use crate::guest::Guest;
use crate::module;
use crate::wasi::{self, Host};

/// So many texts may wait.
const WAITING_MAX: usize = 256;
/// The guest uses at most 14 MiB of it.
const STACK_BYTES: usize = 32 << 20;
/// An instance is replaced after so many texts: nothing it may have leaked stays.
const TEXTS_MAX: u64 = 50_000;
/// The unit that calls are bounded in.
const TICK: Duration = Duration::from_millis(100);

/// A pool of instances.
pub struct Analyzer {
    jobs: SyncSender<ParserJob>,
}

impl Analyzer {
    /// Loads compiled code and starts `threads` instances; the first answers within about a tenth of a second.
    pub fn load(path: &Path, threads: usize) -> Result<Self, String> {
        let module = module::load(path).map_err(|error| error.to_string())?;
        let engine = module.engine().clone();
        let mut linker = Linker::new(&engine);
        let ready = wasi::link(&mut linker).and_then(|()| linker.instantiate_pre(&module));
        let ready = ready.map_err(|error| error.to_string())?;
        let (jobs, waiting) = sync_channel::<ParserJob>(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        let alive = Arc::new(());
        let is_alive = Arc::downgrade(&alive);
        for number in 0..threads.max(1) {
            let (ready, waiting, alive) = (ready.clone(), waiting.clone(), alive.clone());
            thread::Builder::new()
                .name(format!("analyzer-{number}"))
                .stack_size(STACK_BYTES)
                .spawn(move || {
                    let _alive = alive;
                    serve(&ready, &waiting);
                })
                .map_err(|error| format!("can't start a thread: {error}"))?;
        }
        drop(alive);
        thread::Builder::new()
            .name("analyzer-clock".to_owned())
            .spawn(move || tick(&engine, || is_alive.strong_count() > 0))
            .map_err(|error| format!("can't start a thread: {error}"))?;
        Ok(Self { jobs })
    }
}

impl Parsers for Analyzer {
    fn with_one(&self, job: ParserJob) -> Result<(), Busy> {
        self.jobs.try_send(job).map_err(|_| Busy)
    }
}

fn serve(module: &InstancePre<Host>, waiting: &Mutex<Receiver<ParserJob>>) {
    let mut guest = None;
    let mut texts = 0;
    loop {
        // One waits at the queue, the others behind it.
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if guest.as_ref().is_none_or(Guest::is_broken) || texts % TEXTS_MAX == 0 {
            guest = match Guest::new(module) {
                Ok(guest) => Some(guest),
                Err(error) => {
                    tracing::error!(%error, "the analyzer can't start an instance");
                    None
                }
            };
        }
        texts += 1;
        let done = panic::catch_unwind(AssertUnwindSafe(|| match &mut guest {
            Some(guest) => {
                guest.begin();
                job(guest);
            }
            None => job(&mut googlesql::NoParser),
        }));
        if done.is_err() {
            // Whoever waits learns that there is no answer; the thread goes on with a fresh instance.
            guest = None;
        }
    }
}

/// Lets calls know how long they last.
fn tick(engine: &Engine, goes_on: impl Fn() -> bool) {
    while goes_on() {
        thread::sleep(TICK);
        engine.increment_epoch();
    }
}
