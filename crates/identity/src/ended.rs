//! Sessions that somebody ended, in memory as in the state: looked at for every token that carries one.

use record::{SessionId, Timestamp};
use state::{State, StateError};
use std::collections::HashSet;
use std::sync::{Arc, RwLock};

use crate::tokens::TOKEN_SECS_MAX;

/// Ended sessions whose tokens may still live.
pub struct EndedSessions {
    state: Arc<State>,
    ended: RwLock<HashSet<SessionId>>,
}

impl EndedSessions {
    /// Reads them from the state. Blocks.
    pub fn load(state: Arc<State>, now: Timestamp) -> Result<Self, StateError> {
        // No token outlives this; a day more costs nothing.
        let ended = state.ended_sessions(now.plus_secs(-TOKEN_SECS_MAX - 86_400))?;
        Ok(Self { state, ended: RwLock::new(ended.into_iter().collect()) })
    }

    /// Ends one; its tokens are refused when this returns. False if it had ended before. Blocks on the state.
    pub fn end(&self, session: SessionId, now: Timestamp) -> Result<bool, StateError> {
        let is_new = self.state.end_session(session, now)?;
        self.ended.write().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(session);
        Ok(is_new)
    }

    pub(crate) fn contains(&self, session: SessionId) -> bool {
        self.ended.read().unwrap_or_else(|poisoned| poisoned.into_inner()).contains(&session)
    }
}
