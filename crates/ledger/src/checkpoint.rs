//! Makes durable what the write-ahead log no longer has to hold, beside the writer.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::layout::Layout;
use crate::recorder::{LedgerError, io};
use crate::segment::sync_folder;
use crate::wal::{self, Log};

/// After a failure it tries again so often.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Files that were written since the log began, by path.
pub(crate) type Written = BTreeMap<PathBuf, Arc<File>>;

/// What one checkpoint does.
pub(crate) struct Checkpoint {
    pub(crate) written: Written,
    /// The files of the log that it makes superfluous.
    pub(crate) logs: Vec<Log>,
    /// Whether nothing is kept to be written over.
    pub(crate) drops_spares: bool,
    /// The one before failed: what its syncs left in memory is written again from the log first.
    pub(crate) reapplies: bool,
}

/// The thread that does it, one checkpoint at a time.
pub(crate) struct Checkpointer {
    layout: Layout,
    jobs: Option<SyncSender<Checkpoint>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(crate) fn start(layout: Layout) -> Self {
        let (jobs, waiting) = sync_channel(1);
        let own = layout.clone();
        let thread = std::thread::Builder::new().name("checkpoint".to_owned());
        let thread = thread.spawn(move || run(&own, &waiting)).expect("the system gives a thread at start");
        Self { layout, jobs: Some(jobs), thread: Some(thread) }
    }

    /// Hands one over; gives it back if another one still waits.
    pub(crate) fn offer(&self, job: Checkpoint) -> Result<(), Checkpoint> {
        match self.jobs.as_ref().map(|jobs| jobs.try_send(job)) {
            Some(Err(TrySendError::Full(job) | TrySendError::Disconnected(job))) => Err(job),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Waits for those that were handed over, then does the last one here.
    pub(crate) fn finish(&mut self, last: &Checkpoint) -> Result<(), LedgerError> {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        make_durable(&self.layout, last)?;
        // The thread may have left a log that it could not work off: nothing writes one now, so whatever lies
        // there is one.
        wal::replay(&self.layout)
    }
}

fn run(layout: &Layout, jobs: &Receiver<Checkpoint>) {
    while let Ok(job) = jobs.recv() {
        let Err(error) = make_durable(layout, &job) else { continue };
        tracing::error!(%error, "checkpoint failed; the write-ahead log is kept");
        // What a failed sync left in memory may never reach the disk: it is written again from the log. A log
        // that can't be applied before the process ends is applied by the next start.
        for _ in 0..5 {
            std::thread::sleep(AGAIN_AFTER);
            let again = job.logs.iter().try_for_each(|log| wal::apply(layout, &log.path));
            match again.and_then(|()| wal::drop_all(layout, &job.logs)) {
                Ok(()) => break,
                Err(error) => tracing::error!(%error, "checkpoint failed again"),
            }
        }
    }
}

fn make_durable(layout: &Layout, job: &Checkpoint) -> Result<(), LedgerError> {
    if job.reapplies {
        job.logs.iter().try_for_each(|log| wal::apply(layout, &log.path))?;
    }
    let mut folders: Vec<&Path> = Vec::new();
    for (path, file) in &job.written {
        file.sync_all().map_err(|error| io(path, error))?;
        folders.extend(path.parent());
    }
    folders.dedup();
    for folder in folders {
        // Retention may have dropped a day meanwhile.
        if folder.exists() {
            sync_folder(folder).map_err(|error| io(folder, error))?;
        }
    }
    match job.drops_spares {
        true => wal::drop_all(layout, &job.logs),
        false => wal::keep(layout, &job.logs),
    }
}
