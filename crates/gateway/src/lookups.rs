//! What stands behind the names in a statement: views, routines, models. Asked of the upstream, as exchanges of the
//! gateway's own, and remembered for a moment.

use bytes::Bytes;
use http::StatusCode;
use record::{Footprint, Timestamp};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::admission::Cause;
use crate::exchange::Gateway;
use crate::request::Request;
use crate::upstream::{Action, DryRun, Estimating, Needs, Object, Question, Upstream};

/// A definition is remembered so long; one that this gateway saw change is asked for again at once.
const KNOWN_SECS: i64 = 60;
/// Definitions that are remembered, and the bytes of one.
const KNOWN_MAX: usize = 2_000;
const DEFINITION_BYTES_MAX: usize = 32 * 1024;
/// Views behind views.
const ROUNDS_MAX: usize = 6;
/// Objects that are looked up for one exchange.
const OBJECTS_MAX: usize = 64;
/// All that is looked up for one exchange.
const LOOK_UP_MAX: Duration = Duration::from_secs(15);

/// Whose definitions: the connection, and the account that acts.
type Whose = (String, Option<String>);

/// An answer: its status and body, or none.
pub type Definition = Option<(StatusCode, Bytes)>;

/// Definitions that one exchange asked for.
pub type Definitions = HashMap<Object, Arc<Definition>>;

/// A definition, until when it is remembered.
type Known = HashMap<Key, (Timestamp, Arc<Definition>)>;

/// What was asked: of an object, or of a statement by its hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Asked {
    Object(Object),
    DryRun(String),
}

impl Asked {
    fn name(&self) -> &str {
        match self {
            Self::Object(object) => &object.name,
            Self::DryRun(hash) => hash,
        }
    }
}

type Key = (Whose, Asked);

/// Definitions that were asked for.
#[derive(Default)]
pub(crate) struct Lookups {
    known: Mutex<Known>,
    /// Names that are being changed, until when nothing of them is remembered.
    unstable: Mutex<HashMap<String, Timestamp>>,
}

impl Lookups {
    fn get(&self, key: &Key, now: Timestamp) -> Option<Arc<Definition>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, definition) = known.get(key)?;
        (*until > now && !self.is_unstable(key.1.name(), now)).then(|| definition.clone())
    }

    fn keep(&self, key: Key, definition: Arc<Definition>, now: Timestamp) {
        let is_lasting = definition.as_ref().as_ref().is_some_and(|(status, body)| {
            matches!(*status, StatusCode::OK | StatusCode::NOT_FOUND) && body.len() <= DEFINITION_BYTES_MAX
        });
        if !is_lasting || self.is_unstable(key.1.name(), now) {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(key, (now.plus_secs(KNOWN_SECS), definition));
    }

    fn is_unstable(&self, name: &str, now: Timestamp) -> bool {
        let unstable = self.unstable.lock().unwrap_or_else(PoisonError::into_inner);
        unstable.get(name).is_some_and(|until| *until > now)
    }

    /// An exchange may change these: what is remembered of them is forgotten, and not remembered again for a while.
    pub(crate) fn changed(&self, names: impl Iterator<Item = String>, now: Timestamp) {
        let mut names = names.peekable();
        if names.peek().is_none() {
            return;
        }
        let mut unstable = self.unstable.lock().unwrap_or_else(PoisonError::into_inner);
        if unstable.len() >= KNOWN_MAX {
            unstable.retain(|_, until| *until > now);
        }
        unstable.extend(names.map(|name| (name, now.plus_secs(KNOWN_SECS))));
        drop(unstable);
        // Which tables a wildcard stands for, and what they hold, may be others now.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, asked), _| !matches!(asked, Asked::DryRun(_)));
    }
}

impl<U: Upstream> Gateway<U> {
    /// The footprint with what stands behind its names, and which columns they have if `columns`. What can't be had stays
    /// unknown; what was had is added to `known`.
    pub(crate) async fn look_up(
        &self,
        footprint: Footprint,
        (needs, known, columns): (Needs, &mut Definitions, bool),
        by: (&str, Option<&str>),
        cause: Cause,
    ) -> Footprint {
        let mut seen = HashSet::new();
        let mut asked = 0;
        let mut footprint = footprint;
        let until = tokio::time::Instant::now() + LOOK_UP_MAX;
        for _ in 0..ROUNDS_MAX {
            let mut objects = self.upstream.objects(&footprint, needs);
            objects.retain(|object| seen.insert(object.clone()));
            if objects.is_empty() {
                return footprint;
            }
            for object in objects {
                asked += 1;
                // What is read behind names takes time too: the rest is not known then.
                let is_late = tokio::time::Instant::now() > until;
                let definition = match (known.get(&object), asked <= OBJECTS_MAX && !is_late) {
                    (Some(known), _) if !is_late => known.clone(),
                    (None, true) => {
                        let asked = self.definition(&object, by, cause.clone());
                        tokio::time::timeout_at(until, asked).await.unwrap_or_default()
                    }
                    (Some(_), _) | (None, false) => Arc::default(),
                };
                known.insert(object.clone(), definition.clone());
                let known = columns.then_some(&*known);
                footprint = self.upstream.define(footprint, &object, &definition, known).await;
            }
        }
        // Views behind views without end: the rest is not known.
        for object in self.upstream.objects(&footprint, needs) {
            if !seen.contains(&object) {
                footprint = self.upstream.define(footprint, &object, &None, None).await;
            }
        }
        footprint
    }

    async fn definition(&self, object: &Object, by: (&str, Option<&str>), cause: Cause) -> Arc<Definition> {
        match self.upstream.ask_object(object) {
            Some(question) => self.asked(Asked::Object(object.clone()), question, by, cause).await,
            None => Arc::default(),
        }
    }

    /// The upstream's own word on a statement, without running it.
    pub(crate) async fn dry_run(
        &self,
        action: &Action<U::Plan>,
        request: &Request,
        known: &Definitions,
        by: (&str, Option<&str>),
        cause: Cause,
    ) -> DryRun {
        let question = match self.upstream.ask_dry_run(action, request) {
            Estimating::Ask(question) => question,
            Estimating::Free => return DryRun { bytes: Some(0), ..DryRun::default() },
            Estimating::Unknown(why) => return DryRun { failed: why.to_owned(), ..DryRun::default() },
        };
        // The same text over tables that have changed is another question.
        let asked = [&question.body[..], self.upstream.versions(known).as_bytes()].concat();
        let hash = ledger::sha256(&asked).to_string();
        let asked = self.asked(Asked::DryRun(hash), question, by, cause);
        let answer = tokio::time::timeout(LOOK_UP_MAX, asked).await.unwrap_or_default();
        self.upstream.read_dry_run(&answer)
    }

    async fn asked(
        &self,
        asked: Asked,
        question: Question,
        by: (&str, Option<&str>),
        cause: Cause,
    ) -> Arc<Definition> {
        let now = self.clock.now();
        let key = ((by.0.to_owned(), by.1.map(str::to_owned)), asked);
        if let Some(known) = self.lookups.get(&key, now) {
            return known;
        }
        // A question of the gateway's own is an exchange, which asks nothing in turn.
        let probed = Box::pin(self.probe(by, question, cause)).await;
        let definition = Arc::new(probed.map(|probed| (probed.status, probed.body)));
        self.lookups.keep(key, definition.clone(), now);
        definition
    }
}
