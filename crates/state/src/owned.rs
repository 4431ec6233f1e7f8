//! Who started a job, and so may see what came of it; with its anonymous result table and its BigQuery session.
//!
//! Many exchanges claim at once, so claims are written in rounds: one transaction, one sync.

use record::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{mpsc, oneshot};

use crate::{Followed, Spent, State, StateError};

/// Claims that may wait; more callers wait for a place.
const QUEUE_MAX: usize = 1024;
/// Owners that are known without asking the database.
const KNOWN_MAX: usize = 100_000;

/// What somebody may own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OwnedKind {
    /// `project:job`
    Job,
    /// An anonymous result table, `project.dataset.table`
    Table,
    /// A BigQuery session's id.
    Session,
    /// A read session or a write stream of the Storage API, by its whole name.
    Stream,
}

impl OwnedKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Table => "table",
            Self::Session => "session",
            Self::Stream => "stream",
        }
    }
}

/// One thing that is owned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owned {
    pub kind: OwnedKind,
    pub name: String,
}

impl Owned {
    /// A job of a project.
    pub fn job(project: &str, job: &str) -> Self {
        Self { kind: OwnedKind::Job, name: format!("{project}:{job}") }
    }
}

/// Whose it is, and by which record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Provider and id.
    pub principal: String,
    pub record: String,
    /// Marks what belongs to an exchange that a rule leaves out of the record; empty for all else. What belongs to one
    /// exchange has one mark.
    pub excluded_by: String,
}

/// Somebody's claim to things that nobody owns yet.
#[derive(Clone, Debug)]
pub struct Claim {
    pub owned: Vec<Owned>,
    pub owner: Owner,
    pub at: Timestamp,
    /// A job to be followed from now on, known with the claim or not at all.
    pub follow: Option<Followed>,
    /// What was billed, counted with the claim or not at all.
    pub spent: Option<Spent>,
    /// Tells if it is by a statement of its own: where that is not left out of the record, nothing that it makes or names is.
    pub is_statement: bool,
}

impl Claim {
    /// Makes a plain claim: nothing is followed by it, and nothing was billed.
    pub fn new(owned: Vec<Owned>, owner: Owner, at: Timestamp) -> Self {
        Self { owned, owner, at, follow: None, spent: None, is_statement: false }
    }

    fn is_told(&self) -> bool {
        self.is_statement && self.owner.excluded_by.is_empty()
    }

    /// Tells if a thing of that owner is the claimant's already, with the mark that it is to have.
    fn changes_nothing_of(&self, owner: &Owner) -> bool {
        owner.principal == self.owner.principal && !self.takes_mark_of(owner)
    }

    fn takes_mark_of(&self, owner: &Owner) -> bool {
        self.is_told() && !owner.excluded_by.is_empty()
    }
}

/// What a claim came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// Everything is the claimant's; these only since now.
    Owned { new: Vec<Owned> },
    /// This one is somebody else's.
    Taken(Owned),
}

/// Owners, found in memory or in the state.
pub struct Owners {
    state: Arc<State>,
    queue: mpsc::Sender<Asked>,
    known: Arc<Known>,
}

struct Asked {
    what: Work,
    done: oneshot::Sender<Result<Claimed, ClaimError>>,
}

enum Work {
    Claim(Box<Claim>),
    /// Gives back what a claim was the first to own.
    Release(Vec<Owned>, Owner),
    /// Takes this mark from everything.
    Tell(String),
}

#[derive(Default)]
struct Known(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    owners: HashMap<Owned, Owner>,
    /// How often something was forgotten: what was read before that may be old.
    forgotten: u64,
}

/// The claim could not be made durable.
#[derive(Clone, Debug)]
pub struct ClaimError(String);

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "state: {}", self.0)
    }
}

impl std::error::Error for ClaimError {}

impl Owners {
    /// Starts the thread that writes claims; it ends with this.
    pub fn start(state: Arc<State>) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Asked>(QUEUE_MAX);
        let known = Arc::<Known>::default();
        let (own, remembered) = (state.clone(), known.clone());
        let run = move || {
            while let Some(first) = waiting.blocking_recv() {
                let mut round = vec![first];
                while let Ok(next) = waiting.try_recv() {
                    round.push(next);
                    if round.len() >= QUEUE_MAX {
                        break;
                    }
                }
                commit(&own, &remembered, round);
            }
        };
        std::thread::Builder::new()
            .name("owners".to_owned())
            .spawn(run)
            .expect("the system gives a thread at start");
        Self { state, queue, known }
    }

    /// Claims; durable when this returns.
    pub async fn claim(&self, claim: Claim) -> Result<Claimed, ClaimError> {
        let is_theirs = |owner: Option<Owner>| owner.is_some_and(|owner| claim.changes_nothing_of(&owner));
        let known = claim.owned.iter().all(|owned| is_theirs(self.known.find(owned)));
        if known && claim.follow.is_none() && claim.spent.is_none() {
            return Ok(Claimed::Owned { new: Vec::new() });
        }
        self.ask(Work::Claim(Box::new(claim))).await
    }

    /// Gives back what was claimed for something that did not come to be.
    pub async fn release(&self, owned: Vec<Owned>, owner: Owner) -> Result<(), ClaimError> {
        self.ask(Work::Release(owned, owner)).await.map(|_| ())
    }

    async fn ask(&self, what: Work) -> Result<Claimed, ClaimError> {
        let (done, result) = oneshot::channel();
        let stopped = || ClaimError("stopped".to_owned());
        self.queue.send(Asked { what, done }).await.map_err(|_| stopped())?;
        result.await.map_err(|_| stopped())?
    }

    /// Takes a mark from everything that has it: what belongs to that exchange is left out of the record no longer.
    pub async fn tell(&self, mark: String) -> Result<(), ClaimError> {
        self.ask(Work::Tell(mark)).await.map(|_| ())
    }

    /// Whose it is.
    pub async fn owner(&self, owned: &Owned) -> Result<Option<Owner>, ClaimError> {
        Ok(self.owners(vec![owned.clone()]).await?.pop().flatten())
    }

    /// The same for many, in their order.
    pub async fn owners(&self, wanted: Vec<Owned>) -> Result<Vec<Option<Owner>>, ClaimError> {
        let found: Vec<_> = wanted.iter().map(|owned| self.known.find(owned)).collect();
        if found.iter().all(Option::is_some) {
            return Ok(found);
        }
        let (state, known) = (self.state.clone(), self.known.clone());
        let read = move || {
            let forgotten = known.forgotten();
            let look = |(owned, found): (Owned, Option<Owner>)| match found {
                Some(owner) => Ok(Some(owner)),
                None => {
                    let owner = state.owner(&owned)?;
                    if let Some(owner) = &owner {
                        known.remember_read(owned, owner.clone(), forgotten);
                    }
                    Ok(owner)
                }
            };
            wanted.into_iter().zip(found).map(look).collect::<Result<Vec<_>, StateError>>()
        };
        let read = tokio::task::spawn_blocking(read).await.map_err(|error| ClaimError(error.to_string()))?;
        read.map_err(|error| ClaimError(error.to_string()))
    }
}

impl Known {
    fn find(&self, owned: &Owned) -> Option<Owner> {
        self.all().owners.get(owned).cloned()
    }

    fn forgotten(&self) -> u64 {
        self.all().forgotten
    }

    fn remember(&self, owned: Owned, owner: Owner) {
        self.all().remember(owned, owner);
    }

    /// Remembers what was read when so much had been forgotten, if nothing was since.
    fn remember_read(&self, owned: Owned, owner: Owner, forgotten: u64) {
        let mut all = self.all();
        if all.forgotten == forgotten {
            all.remember(owned, owner);
        }
    }

    fn forget<'a>(&self, names: impl Iterator<Item = &'a Owned>) {
        let mut all = self.all();
        for name in names {
            all.forgotten += 1;
            all.owners.remove(name);
        }
    }

    fn forget_marked(&self, mark: &str) {
        let mut all = self.all();
        all.forgotten += 1;
        all.owners.retain(|_, owner| owner.excluded_by != mark);
    }

    fn all(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Remembered {
    fn remember(&mut self, owned: Owned, owner: Owner) {
        if self.owners.len() >= KNOWN_MAX {
            self.owners.clear();
        }
        self.owners.insert(owned, owner);
    }
}

/// Writes a round. What one of them can't have does not touch the others.
fn commit(state: &State, known: &Known, round: Vec<Asked>) {
    let mut db = state.db();
    let written = db.transaction().and_then(|transaction| {
        let results =
            round.iter().map(|asked| apply(&transaction, &asked.what)).collect::<Result<Vec<_>, _>>()?;
        transaction.commit().map(|()| results)
    });
    drop(db);
    match written {
        Ok(results) => {
            for (asked, result) in round.into_iter().zip(results) {
                match (asked.what, &result) {
                    // What was theirs before stays under the record that was first.
                    (Work::Claim(claim), Claimed::Owned { new }) => {
                        if claim.is_told() {
                            known.forget(claim.owned.iter().filter(|owned| !new.contains(owned)));
                        }
                        new.iter().for_each(|owned| known.remember(owned.clone(), claim.owner.clone()));
                    }
                    (Work::Claim(_), Claimed::Taken(_)) => {}
                    (Work::Tell(mark), _) => known.forget_marked(&mark),
                    (Work::Release(owned, _), _) => known.forget(owned.iter()),
                }
                let _ = asked.done.send(Ok(result));
            }
        }
        Err(error) => {
            let error = ClaimError(error.to_string());
            round.into_iter().for_each(|asked| drop(asked.done.send(Err(error.clone()))));
        }
    }
}

fn apply(db: &Transaction<'_>, work: &Work) -> rusqlite::Result<Claimed> {
    match work {
        Work::Claim(claim) => claim_all(db, claim),
        Work::Tell(mark) => {
            for table in ["owned", "followed"] {
                db.execute(&format!("UPDATE {table} SET excluded_by = '' WHERE excluded_by = ?1"), [mark])?;
            }
            Ok(Claimed::Owned { new: Vec::new() })
        }
        Work::Release(all, owner) => {
            for owned in all {
                db.prepare_cached(
                    "DELETE FROM owned WHERE kind = ?1 AND name = ?2 AND principal = ?3 AND record = ?4",
                )?
                .execute(params![
                    owned.kind.as_str(),
                    owned.name,
                    owner.principal,
                    owner.record
                ])?;
                db.prepare_cached("DELETE FROM followed WHERE project || ':' || job = ?1 AND record = ?2")?
                    .execute(params![owned.name, owner.record])?;
            }
            Ok(Claimed::Owned { new: Vec::new() })
        }
    }
}

fn claim_all(db: &Transaction<'_>, claim: &Claim) -> rusqlite::Result<Claimed> {
    let mut new = Vec::new();
    for owned in &claim.owned {
        match find(db, owned)? {
            Some(owner) if owner.principal != claim.owner.principal => {
                return Ok(Claimed::Taken(owned.clone()));
            }
            Some(owner) if claim.takes_mark_of(&owner) => {
                db.prepare_cached("UPDATE owned SET excluded_by = '' WHERE kind = ?1 AND name = ?2")?
                    .execute(params![owned.kind.as_str(), owned.name])?;
            }
            Some(_) => {}
            None => new.push(owned.clone()),
        }
    }
    let mut insert = db.prepare_cached(
        "INSERT INTO owned (kind, name, principal, record, at, excluded_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for owned in &new {
        let Owner { principal, record, excluded_by } = &claim.owner;
        let at = claim.at.micros();
        insert.execute(params![owned.kind.as_str(), owned.name, principal, record, at, excluded_by])?;
    }
    if let Some(job) = &claim.follow {
        crate::followed::insert(db, job, claim.is_told())?;
    }
    if let Some(spent) = &claim.spent {
        crate::spent::add(db, spent)?;
    }
    Ok(Claimed::Owned { new })
}

fn find(db: &rusqlite::Connection, owned: &Owned) -> rusqlite::Result<Option<Owner>> {
    db.prepare_cached("SELECT principal, record, excluded_by FROM owned WHERE kind = ?1 AND name = ?2")?
        .query_row(params![owned.kind.as_str(), owned.name], |row| {
            Ok(Owner { principal: row.get(0)?, record: row.get(1)?, excluded_by: row.get(2)? })
        })
        .optional()
}

impl State {
    fn owner(&self, owned: &Owned) -> Result<Option<Owner>, StateError> {
        Ok(find(&self.db(), owned)?)
    }

    /// Forgets what was claimed before: BigQuery itself forgets a job after half a year.
    pub fn expire_owned(&self, before: Timestamp) -> Result<usize, StateError> {
        Ok(self.db().execute("DELETE FROM owned WHERE at < ?1", [before.micros()])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_is_whose_it_was_first() {
        let folder = std::env::temp_dir().join(format!("hansard-owned-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let state = Arc::new(State::open(&folder.join("state.db")).unwrap());
        let owners = Owners::start(state.clone());
        let claim = |principal: &str, record: &str, job: &str| {
            let owner = Owner {
                principal: principal.to_owned(),
                record: record.to_owned(),
                excluded_by: String::new(),
            };
            Claim::new(vec![Owned::job("p", job)], owner, Timestamp::from_secs(1))
        };
        let new = Claimed::Owned { new: vec![Owned::job("p", "j")] };
        assert_eq!(owners.claim(claim("okta/a", "1", "j")).await.unwrap(), new);
        let again = owners.claim(claim("okta/a", "2", "j")).await.unwrap();
        assert_eq!(again, Claimed::Owned { new: Vec::new() }, "a retry is the same job");
        let taken = Claimed::Taken(Owned::job("p", "j"));
        assert_eq!(owners.claim(claim("okta/b", "3", "j")).await.unwrap(), taken);
        // Another process, or this one after a restart, reads it from the state.
        let later = Owners::start(state);
        let owner = later.owner(&Owned::job("p", "j")).await.unwrap().unwrap();
        assert_eq!((owner.principal.as_str(), owner.record.as_str()), ("okta/a", "1"));
        assert_eq!(later.owner(&Owned::job("q", "j")).await.unwrap(), None);
        later.release(vec![Owned::job("p", "j")], owner).await.unwrap();
        assert_eq!(later.owner(&Owned::job("p", "j")).await.unwrap(), None);
        let _ = std::fs::remove_dir_all(&folder);
    }
}
