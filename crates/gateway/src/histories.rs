//! What a session did so far, as far as rules ask about it: kept in memory, and begun anew by a restart.

use policy::History;
use record::{SessionId, Timestamp};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

const MINUTE_SECS: i64 = 60;
/// Sessions that are remembered; beyond that, those that were quiet for half an hour are forgotten.
const SESSIONS_MAX: usize = 10_000;
const QUIET_SECS: i64 = 30 * 60;
/// Statements of the last minute that are remembered.
const RECENT_MAX: usize = 1_000;

/// All sessions.
#[derive(Default)]
pub(crate) struct Histories(Mutex<HashMap<SessionId, Past>>);

struct Past {
    statements: i64,
    refusals: i64,
    recent: VecDeque<(Timestamp, String)>,
    last: Timestamp,
}

impl Histories {
    /// What a session did before, and how often it sent such a statement in the last minute.
    pub(crate) fn of(&self, session: SessionId, fingerprint: &str, now: Timestamp) -> History {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(past) = sessions.get(&session) else { return History::default() };
        let since = now.plus_secs(-MINUTE_SECS);
        let same = |(at, known): &&(Timestamp, String)| *at > since && known == fingerprint;
        let same = if fingerprint.is_empty() { 0 } else { past.recent.iter().filter(same).count() };
        History {
            statements_this_session: past.statements,
            refusals_this_session: past.refusals,
            same_fingerprint_last_minute: same as i64,
            ..History::default()
        }
    }

    /// One more exchange that was decided on.
    pub(crate) fn count(&self, session: SessionId, fingerprint: &str, refused: bool, now: Timestamp) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= SESSIONS_MAX {
            let since = now.plus_secs(-QUIET_SECS);
            sessions.retain(|_, past| past.last > since);
        }
        let past = sessions.entry(session).or_insert_with(|| Past {
            statements: 0,
            refusals: 0,
            recent: VecDeque::new(),
            last: now,
        });
        past.last = now;
        past.statements += 1;
        past.refusals += i64::from(refused);
        if !fingerprint.is_empty() {
            let since = now.plus_secs(-MINUTE_SECS);
            while past.recent.front().is_some_and(|(at, _)| *at <= since) || past.recent.len() >= RECENT_MAX {
                past.recent.pop_front();
            }
            past.recent.push_back((now, fingerprint.to_owned()));
        }
    }
}
