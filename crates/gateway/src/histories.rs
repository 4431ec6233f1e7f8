//! What a session did so far, as far as rules ask about it: kept in memory, and begun anew by a restart.

use policy::History;
use record::{Footprint, SessionId, Timestamp};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

const MINUTE_SECS: i64 = 60;
/// Refusals are in a row until something is allowed, or none came for so long.
const ROW_SECS: i64 = 5 * 60;
/// Sessions that are remembered; beyond that, those that were quiet for half an hour are forgotten.
const SESSIONS_MAX: usize = 10_000;
const QUIET_SECS: i64 = 30 * 60;
/// Statements, tables and sums of the last minute that are remembered of a session.
const RECENT_MAX: usize = 1_000;
/// Tables and failing statements that are remembered of a session.
const KNOWN_MAX: usize = 2_000;

/// All sessions.
#[derive(Default)]
pub(crate) struct Histories(Mutex<HashMap<SessionId, Past>>);

/// Things with their times, the last minute of them.
struct Recent<T>(VecDeque<(Timestamp, T)>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Recent<T> {
    fn push(&mut self, thing: T, now: Timestamp) {
        let since = now.plus_secs(-MINUTE_SECS);
        while self.0.front().is_some_and(|(at, _)| *at <= since) || self.0.len() >= RECENT_MAX {
            self.0.pop_front();
        }
        self.0.push_back((now, thing));
    }

    fn last_minute(&self, now: Timestamp) -> impl Iterator<Item = &T> {
        let since = now.plus_secs(-MINUTE_SECS);
        self.0.iter().filter(move |(at, _)| *at > since).map(|(_, thing)| thing)
    }
}

#[derive(Default)]
struct Past {
    statements: i64,
    refusals: i64,
    /// Since something was allowed, and when the last one was.
    refusals_in_a_row: (i64, Option<Timestamp>),
    fingerprints: Recent<String>,
    /// Failures of a statement since it last succeeded.
    failures: HashMap<String, i64>,
    tables: HashSet<String>,
    new_tables: Recent<()>,
    bytes: Recent<u64>,
    last: Option<Timestamp>,
}

impl Past {
    fn in_a_row(&self, now: Timestamp) -> i64 {
        let (count, last) = self.refusals_in_a_row;
        if last.is_some_and(|last| last.plus_secs(ROW_SECS) > now) { count } else { 0 }
    }
}

/// How a statement ended, for its session.
pub(crate) struct Ended<'a> {
    pub(crate) fingerprint: &'a str,
    /// None where that is not known yet.
    pub(crate) failed: Option<bool>,
    pub(crate) bytes: u64,
}

impl Histories {
    fn all(&self) -> MutexGuard<'_, HashMap<SessionId, Past>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a session did before, as far as a statement is concerned.
    pub(crate) fn of(&self, session: SessionId, fingerprint: &str, now: Timestamp) -> History {
        let sessions = self.all();
        let Some(past) = sessions.get(&session) else { return History::default() };
        let same = |known: &&String| !fingerprint.is_empty() && *known == fingerprint;
        let bytes: u64 = past.bytes.last_minute(now).copied().fold(0, u64::saturating_add);
        History {
            statements_this_session: past.statements,
            refusals_this_session: past.refusals,
            refusals_in_a_row: past.in_a_row(now),
            same_fingerprint_last_minute: past.fingerprints.last_minute(now).filter(same).count() as i64,
            failures_same_fingerprint: past.failures.get(fingerprint).copied().unwrap_or(0),
            new_tables_last_minute: past.new_tables.last_minute(now).count() as i64,
            bytes_last_minute: i64::try_from(bytes).unwrap_or(i64::MAX),
            ..History::default()
        }
    }

    /// One more exchange that was decided on.
    pub(crate) fn count(
        &self,
        session: SessionId,
        footprint: Option<&Footprint>,
        refused: bool,
        now: Timestamp,
    ) {
        let mut sessions = self.all();
        if sessions.len() >= SESSIONS_MAX {
            let since = now.plus_secs(-QUIET_SECS);
            sessions.retain(|_, past| past.last.is_some_and(|last| last > since));
            if sessions.len() >= SESSIONS_MAX {
                sessions.clear();
            }
        }
        let past = sessions.entry(session).or_default();
        past.last = Some(now);
        past.statements += 1;
        past.refusals += i64::from(refused);
        let Some(footprint) = footprint else { return };
        match refused {
            true => past.refusals_in_a_row = (past.in_a_row(now) + 1, Some(now)),
            // Asking how something stands, or for its rows, allows nothing new.
            false if footprint.statements.is_empty() => {}
            false => past.refusals_in_a_row = (0, None),
        }
        if !footprint.fingerprint.is_empty() {
            past.fingerprints.push(footprint.fingerprint.clone(), now);
        }
        for table in footprint.tables() {
            // Beyond that it is remembered anew: what was known counts as new once more.
            if past.tables.len() >= KNOWN_MAX {
                past.tables.clear();
            }
            if past.tables.insert(table) {
                past.new_tables.push((), now);
            }
        }
    }

    /// One that ended.
    pub(crate) fn ended(&self, session: SessionId, ended: &Ended<'_>, now: Timestamp) {
        let mut sessions = self.all();
        let Some(past) = sessions.get_mut(&session) else { return };
        if ended.bytes > 0 {
            past.bytes.push(ended.bytes, now);
        }
        match ended.failed {
            _ if ended.fingerprint.is_empty() => {}
            Some(true) => {
                // Beyond that it is remembered anew, those that failed once first.
                if past.failures.len() >= KNOWN_MAX && !past.failures.contains_key(ended.fingerprint) {
                    past.failures.retain(|_, count| *count > 1);
                    if past.failures.len() >= KNOWN_MAX {
                        past.failures.clear();
                    }
                }
                *past.failures.entry(ended.fingerprint.to_owned()).or_default() += 1;
            }
            Some(false) => drop(past.failures.remove(ended.fingerprint)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::Deed;

    fn reads(table: &str) -> Footprint {
        let mut deed = Deed::of("SELECT");
        deed.read.insert(table.to_owned());
        Footprint { fingerprint: "f".to_owned(), statements: vec![deed], ..Footprint::default() }
    }

    #[test]
    fn a_session_is_remembered_by_what_breakers_ask() {
        let histories = Histories::default();
        let start = Timestamp::from_secs(1_800_000_000);
        let session = SessionId::new(start);
        for table in ["p.d.a", "p.d.b", "p.d.b"] {
            histories.count(session, Some(&reads(table)), false, start);
        }
        histories.count(session, Some(&reads("p.d.c")), true, start);
        histories.count(session, Some(&Footprint::default()), false, start);
        histories.count(session, Some(&reads("p.d.c")), true, start);
        let end = |failed, bytes| Ended { fingerprint: "f", failed, bytes };
        histories.ended(session, &end(Some(true), 5), start);
        histories.ended(session, &end(Some(true), 6), start);
        let now = histories.of(session, "f", start);
        let expected = History {
            statements_this_session: 6,
            refusals_this_session: 2,
            refusals_in_a_row: 2,
            same_fingerprint_last_minute: 5,
            failures_same_fingerprint: 2,
            new_tables_last_minute: 3,
            bytes_last_minute: 11,
            ..History::default()
        };
        assert_eq!(now, expected);
        let later = histories.of(session, "f", start.plus_secs(ROW_SECS));
        assert_eq!(
            (later.refusals_in_a_row, later.bytes_last_minute, later.failures_same_fingerprint),
            (0, 0, 2)
        );
        histories.ended(session, &end(Some(false), 0), start);
        histories.count(session, Some(&reads("p.d.a")), false, start);
        let now = histories.of(session, "f", start);
        assert_eq!((now.refusals_in_a_row, now.failures_same_fingerprint), (0, 0));
    }
}
