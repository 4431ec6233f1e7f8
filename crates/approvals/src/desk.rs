//! Where held exchanges lie: in memory for whoever looks, in the state for whoever comes after a restart.
//!
//! What is begun is done to its end, also if whoever asked for it is gone: memory and state say the same.

use record::{Digest, RecordId, SessionId, Timestamp};
use registry::DataKey;
use state::{HeldRow, State, StateError};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::{Mutex, MutexGuard, watch};

use crate::held::{Held, Rest, Scope, Stand};

/// Exchanges that may wait at a time, and of one principal; and those of one principal that are remembered at all.
pub const HELD_MAX: usize = 1_000;
pub const HELD_OF_ONE_MAX: usize = 100;
const KNOWN_OF_ONE_MAX: usize = 2_000;
/// A request that is sent again with its mark within so long is the same one, in seconds.
const MARKED_SECS: i64 = 15 * 60;
/// What the key that seals them is for.
pub const KEY_CONTEXT: &[u8] = b"hansard/held/v1";

/// All held exchanges.
pub struct Desk {
    inner: Arc<Inner>,
    answering: Mutex<()>,
    holding: Mutex<()>,
}

struct Inner {
    state: Arc<State>,
    key: DataKey,
    known: RwLock<Known>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    by_id: HashMap<RecordId, Arc<Held>>,
    /// Jobs that are not sent, by project and name.
    by_job: HashMap<(String, String), RecordId>,
}

impl Known {
    fn insert(&mut self, held: Arc<Held>) {
        if let Some(job) = &held.job {
            let name = (job.project.clone(), job.job.clone());
            match held.stand {
                Stand::Released | Stand::Superseded => self.by_job.remove(&name),
                _ => self.by_job.insert(name, held.id),
            };
        }
        self.by_id.insert(held.id, held);
    }
}

/// A request that may have been granted before.
pub struct Wanted<'a> {
    pub owner: String,
    pub connection: &'a str,
    pub policy: &'a str,
    /// The rules that want a yes.
    pub rules: Vec<&'a str>,
    pub binding: Digest,
    pub does: Digest,
    pub alike: Option<Digest>,
    /// Bytes that it would process, if that is known.
    pub bytes: Option<u64>,
}

impl Desk {
    /// Reads them from the state. Blocks.
    pub fn load(state: Arc<State>, key: DataKey) -> Result<Self, StateError> {
        let mut known = Known::default();
        for row in &state.held()? {
            match serde_json::from_str::<Held>(&row.facts) {
                Ok(held) => known.insert(Arc::new(held)),
                Err(error) => {
                    tracing::error!(id = row.id, %error, "a held exchange can't be read, and stays as it is");
                }
            }
        }
        let inner = Inner { state, key, known: RwLock::new(known), changes: watch::channel(0).0 };
        Ok(Self { inner: Arc::new(inner), answering: Mutex::new(()), holding: Mutex::new(()) })
    }

    /// Adds one; durable when this returns. None if its job, its mark or itself waits already: somebody was faster.
    pub async fn hold(&self, held: Held, rest: &Rest) -> Result<Option<Arc<Held>>, DeskError> {
        let _alone = self.holding.lock().await;
        let is_known = match &held.job {
            Some(job) => {
                let is_marked = !held.mark.is_empty();
                self.job(&job.project, &job.job).is_some()
                    || is_marked && self.marked(&held.owner(), &held.mark, || held.text, held.at).is_some()
            }
            None => {
                let (owner, asked) = (held.owner(), &held.asked);
                self.find(|known| is_same(known, (&owner, &asked.connection), held.binding, &held.policy))
                    .is_some()
            }
        };
        if is_known {
            return Ok(None);
        }
        {
            let known = self.inner.known();
            let owner = held.owner();
            let pending = known.by_id.values().filter(|known| known.is_pending());
            let own = known.by_id.values().filter(|known| known.owner() == owner);
            let (all, waiting) = (own.clone().count(), own.filter(|known| known.is_pending()).count());
            if pending.count() >= HELD_MAX || waiting >= HELD_OF_ONE_MAX || all >= KNOWN_OF_ONE_MAX {
                return Err(DeskError::Full);
            }
        }
        let (inner, rest) = (self.inner.clone(), rest.clone());
        let insert = move || {
            let sealed = inner.sealed(&held, &rest);
            inner.state.insert_held(&row(&held), &sealed)?;
            Ok(Some(inner.remember(held)))
        };
        blocking(insert).await
    }

    /// Puts `next` in the place of what it was made from; nothing if somebody else changed that first.
    pub async fn change(&self, next: Held, rest: Option<&Rest>) -> Result<Arc<Held>, DeskError> {
        let (inner, rest) = (self.inner.clone(), rest.cloned());
        let change = move || {
            let next = Held { version: next.version + 1, ..next };
            let sealed = rest.map(|rest| inner.sealed(&next, &rest));
            match inner.state.change_held(&row(&next), sealed.as_deref())? {
                true => Ok(inner.remember(next)),
                false => Err(DeskError::Changed),
            }
        };
        blocking(change).await
    }

    /// Ends one because another takes its place: both, or neither.
    pub async fn replace(&self, old: (Held, Rest), new: (Held, Rest)) -> Result<Arc<Held>, DeskError> {
        let inner = self.inner.clone();
        let replace = move || {
            let ((old, old_rest), (new, new_rest)) = (old, new);
            let old = Held { version: old.version + 1, stand: Stand::Superseded, ..old };
            let sealed = (inner.sealed(&old, &old_rest), inner.sealed(&new, &new_rest));
            match inner.state.replace_held(&row(&old), &row(&new), (&sealed.0, &sealed.1))? {
                true => Ok(inner.remember_both(old, new)),
                false => Err(DeskError::Changed),
            }
        };
        blocking(replace).await
    }

    /// Those that fit, the oldest first.
    pub fn all(&self, fits: impl Fn(&Held) -> bool) -> Vec<Arc<Held>> {
        let mut all: Vec<_> = self.inner.known().by_id.values().filter(|held| fits(held)).cloned().collect();
        all.sort_by_key(|held| held.id);
        all
    }

    /// One of them.
    pub fn get(&self, id: RecordId) -> Option<Arc<Held>> {
        self.inner.known().by_id.get(&id).cloned()
    }

    fn find(&self, fits: impl Fn(&Held) -> bool) -> Option<Arc<Held>> {
        self.inner.known().by_id.values().find(|held| fits(held)).cloned()
    }

    /// The job of that name, if it waits or ended before it began.
    pub fn job(&self, project: &str, job: &str) -> Option<Arc<Held>> {
        let known = self.inner.known();
        let id = known.by_job.get(&(project.to_owned(), job.to_owned()))?;
        known.by_id.get(id).cloned()
    }

    /// What one principal's mark stood for lately, whatever became of it.
    pub fn marked(
        &self,
        owner: &str,
        mark: &str,
        text: impl Fn() -> Digest,
        now: Timestamp,
    ) -> Option<Arc<Held>> {
        let lately = |held: &Held| held.at.plus_secs(MARKED_SECS) > now || held.is_pending();
        self.find(|held| {
            held.mark == mark
                && held.stand != Stand::Superseded
                && held.job.is_some()
                && lately(held)
                && held.owner() == owner
                && held.text == text()
        })
    }

    /// The very same request that waits already, where it is no job.
    pub fn same(&self, wanted: &Wanted<'_>) -> Option<Arc<Held>> {
        let by = (wanted.owner.as_str(), wanted.connection);
        self.find(|held| is_same(held, by, wanted.binding, wanted.policy))
    }

    /// A yes that covers a request. It is used only when the request goes.
    pub fn covering(&self, wanted: &Wanted<'_>, now: Timestamp) -> Option<Arc<Held>> {
        self.find(|held| covers(held, wanted, now))
    }

    /// Uses a yes once more; durable when this returns. False if it is not good any more.
    pub async fn use_grant(&self, id: RecordId, now: Timestamp) -> Result<bool, DeskError> {
        const TRIES: usize = 8;
        for _ in 0..TRIES {
            let Some(held) = self.get(id) else { return Ok(false) };
            let mut next = (*held).clone();
            let Some(grant) = next.grant.as_mut().filter(|grant| grant.until > now) else { return Ok(false) };
            match &mut grant.uses_left {
                None => return Ok(true),
                Some(0) => return Ok(false),
                Some(left) => *left -= 1,
            }
            if next.job.is_none() && next.grant.as_ref().is_some_and(|grant| grant.uses_left == Some(0)) {
                next.stand = Stand::Released;
            }
            match self.change(next, None).await {
                Ok(_) => return Ok(true),
                Err(DeskError::Changed) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// What lies sealed of one.
    pub async fn rest(&self, id: RecordId) -> Result<Rest, DeskError> {
        let inner = self.inner.clone();
        let read = move || {
            let sealed = inner.state.held_rest(&id.to_string())?.ok_or(DeskError::Changed)?;
            let opened = inner.key.open(&context(id), &sealed);
            let opened = opened.map_err(|_| DeskError::State("it was sealed by another key".to_owned()))?;
            serde_json::from_slice(&opened).map_err(|error| DeskError::State(error.to_string()))
        };
        blocking(read).await
    }

    /// Told of every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Who answers does so alone, that the record and the state say the same.
    pub async fn answering(&self) -> MutexGuard<'_, ()> {
        self.answering.lock().await
    }

    /// How many wait.
    pub fn pending(&self) -> usize {
        self.inner.known().by_id.values().filter(|held| held.is_pending()).count()
    }

    /// What waits no longer at that time.
    pub fn overdue(&self, now: Timestamp) -> Vec<Arc<Held>> {
        self.all(|held| held.is_pending() && held.until <= now)
    }

    /// Jobs that were allowed and are not known to have been sent.
    pub fn unsent(&self) -> Vec<Arc<Held>> {
        self.all(|held| held.stand == Stand::Approved && held.job.is_some())
    }

    /// What waits in a session.
    pub fn of_session(&self, session: SessionId) -> Vec<Arc<Held>> {
        self.all(|held| held.is_pending() && held.asked.session == session)
    }

    /// Forgets what nobody asks for any more. Blocks.
    pub fn forget(&self, now: Timestamp) -> Result<usize, StateError> {
        let forgotten = self.inner.state.forget_held(now)?;
        let mut known = self.inner.known.write().unwrap_or_else(PoisonError::into_inner);
        let Known { by_id, by_job } = &mut *known;
        by_id.retain(|_, held| held.forget_at() > now);
        by_job.retain(|_, id| by_id.contains_key(id));
        Ok(forgotten)
    }
}

impl Inner {
    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn sealed(&self, held: &Held, rest: &Rest) -> Vec<u8> {
        let text = serde_json::to_vec(rest).expect("what was asked is JSON");
        self.key.seal(&context(held.id), &text)
    }

    /// One moment for whoever looks: the job is never away.
    fn remember_both(&self, old: Held, new: Held) -> Arc<Held> {
        let new = Arc::new(new);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(Arc::new(old));
        known.insert(new.clone());
        drop(known);
        self.changes.send_modify(|count| *count += 1);
        new
    }

    fn remember(&self, held: Held) -> Arc<Held> {
        let held = Arc::new(held);
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(held.clone());
        self.changes.send_modify(|count| *count += 1);
        held
    }
}

/// On a thread that may block; it goes on if nobody waits for it any more.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DeskError> + Send + 'static,
) -> Result<T, DeskError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| DeskError::State(error.to_string()))?
}

fn context(id: RecordId) -> Vec<u8> {
    [KEY_CONTEXT, b"/", id.to_string().as_bytes()].concat()
}

fn row(held: &Held) -> HeldRow {
    HeldRow {
        id: held.id.to_string(),
        stand: held.stand.word().to_owned(),
        version: held.version,
        forget_at: held.forget_at(),
        facts: serde_json::to_string(held).expect("facts are JSON"),
    }
}

/// Whether a yes is good for a request.
/// Whether it waits, is no job, and is that principal's very request under that configuration.
fn is_same(held: &Held, (owner, connection): (&str, &str), binding: Digest, policy: &str) -> bool {
    held.is_pending()
        && held.job.is_none()
        && held.owner() == owner
        && held.asked.connection == connection
        && held.binding == binding
        && held.policy == policy
}

fn covers(held: &Held, wanted: &Wanted<'_>, now: Timestamp) -> bool {
    let Some(grant) = &held.grant else { return false };
    let is_live = grant.until > now
        && grant.uses_left != Some(0)
        && matches!(held.stand, Stand::Approved | Stand::Released);
    let is_same = match grant.scope {
        // The job that was held takes its own way.
        Scope::Once if held.job.is_some() => false,
        Scope::Once | Scope::Time => held.binding == wanted.binding && held.does == wanted.does,
        Scope::Fingerprint => held.alike.is_some() && held.alike == wanted.alike,
    };
    is_live
        && is_same
        && held.owner() == wanted.owner
        && held.asked.connection == wanted.connection
        && held.policy == wanted.policy
        && wanted.rules.iter().all(|rule| held.demands.iter().any(|demand| demand.rule == **rule))
        && within(held.bytes_max, wanted.bytes)
}

/// Whether it processes no more than was allowed; what was not known then is not bounded now.
fn within(allowed: Option<u64>, bytes: Option<u64>) -> bool {
    allowed.is_none_or(|allowed| bytes.is_some_and(|bytes| bytes <= allowed))
}

/// It could not be held, or not be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeskError {
    /// Too much waits already.
    Full,
    /// Somebody else changed it first, or it is gone.
    Changed,
    State(String),
}

impl From<StateError> for DeskError {
    fn from(error: StateError) -> Self {
        Self::State(error.to_string())
    }
}

impl fmt::Display for DeskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("too much waits for approval already"),
            Self::Changed => f.write_str("it was answered or ended meanwhile"),
            Self::State(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for DeskError {}
