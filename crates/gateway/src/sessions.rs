//! Sessions: what one principal does by one credential until it is idle.

use record::{SessionId, Timestamp};
use std::collections::HashMap;
use std::sync::Mutex;
use tokio::sync::broadcast;

use crate::limits::{SESSION_IDLE_SECS, SESSIONS_MAX};

/// Ends that an exchange has not looked at yet; one that lags looks again from the newest.
const ENDS_MAX: usize = 256;

/// The sessions that are not idle.
pub(crate) struct Sessions {
    live: Mutex<HashMap<String, Live>>,
    ends: broadcast::Sender<SessionId>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { live: Mutex::default(), ends: broadcast::channel(ENDS_MAX).0 }
    }
}

/// Tells an exchange that its session was ended.
pub(crate) struct Ending {
    session: SessionId,
    ends: broadcast::Receiver<SessionId>,
}

impl Ending {
    /// Resolves when the session is ended.
    pub(crate) async fn ended(&mut self) {
        loop {
            match self.ends.recv().await {
                Ok(session) if session == self.session => return,
                // Too many ended at once to tell whether ours is among them: it is taken for ended.
                Err(broadcast::error::RecvError::Lagged(_)) => return,
                Ok(_) => {}
                Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
            }
        }
    }
}

struct Live {
    session: SessionId,
    last: Timestamp,
}

impl Sessions {
    /// The session of that credential, new if it has none or was idle. A session that the credential carries
    /// is taken up where this process does not know a newer one.
    pub(crate) fn touch(&self, key: &str, carried: Option<SessionId>, now: Timestamp) -> SessionId {
        let mut live = self.live.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if live.len() >= SESSIONS_MAX {
            live.retain(|_, session| !session.is_idle(now));
        }
        let known = live.get(key).filter(|known| !known.is_idle(now)).map(|known| known.session);
        let session =
            known.or(carried.filter(|_| !live.contains_key(key))).unwrap_or_else(|| SessionId::new(now));
        live.insert(key.to_owned(), Live { session, last: now });
        session
    }
}

impl Sessions {
    /// For an exchange of that session.
    pub(crate) fn ending(&self, session: SessionId) -> Ending {
        Ending { session, ends: self.ends.subscribe() }
    }

    /// Ends it: its exchanges are told, and whoever had it gets another.
    pub(crate) fn end(&self, session: SessionId) {
        let mut live = self.live.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        live.retain(|_, known| known.session != session);
        drop(live);
        let _ = self.ends.send(session);
    }
}

impl Live {
    fn is_idle(&self, now: Timestamp) -> bool {
        self.last.plus_secs(SESSION_IDLE_SECS) <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_keeps_its_session_until_it_is_idle() {
        let sessions = Sessions::default();
        let start = Timestamp::from_secs(1_800_000_000);
        let first = sessions.touch("key:1", None, start);
        assert_eq!(sessions.touch("key:1", None, start.plus_secs(1799)), first);
        assert_ne!(sessions.touch("key:2", None, start), first);
        assert_ne!(sessions.touch("key:1", None, start.plus_secs(1799 + 1800)), first);
    }

    #[test]
    fn a_carried_session_is_taken_up_after_a_restart() {
        let sessions = Sessions::default();
        let start = Timestamp::from_secs(1_800_000_000);
        let carried = SessionId::new(start);
        assert_eq!(sessions.touch("key:1", Some(carried), start), carried);
        assert_eq!(sessions.touch("key:1", None, start.plus_secs(60)), carried);
    }
}
