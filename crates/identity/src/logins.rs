//! People who stay signed in: short tokens, renewed by one that is good once.

use record::{Principal, Proof, RecordId, Timestamp};
use registry::{fingerprint, random_bytes};
use serde::{Deserialize, Serialize};
use state::{Login, State, StateError};
use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use crate::principal_of::credential;
use crate::{Identified, sign_in::encoded};

/// Somebody who signed in stays so for at most so long, in seconds: groups are those of the sign-in.
pub const LOGIN_SECS_MAX: i64 = 8 * 3600;
/// Marks a refresh token, for whoever scans for leaked secrets.
const REFRESH_PREFIX: &str = "hsr_";

/// Everybody who is signed in.
pub struct Logins {
    state: Arc<State>,
    live: RwLock<HashMap<String, Timestamp>>,
}

/// What of a principal is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    principal: Principal,
    credential: record::Credential,
    proof: Proof,
}

impl Logins {
    /// Reads them from the state. Blocks.
    pub fn load(state: Arc<State>, now: Timestamp) -> Result<Self, StateError> {
        let live = RwLock::new(state.live_logins(now)?.into_iter().collect());
        Ok(Self { state, live })
    }

    /// Somebody signed in. Returns who it is from now on, and the first refresh token. Blocks on the state.
    pub fn begin(&self, who: Identified, now: Timestamp) -> Result<(Identified, String), StateError> {
        let id = RecordId::new(now).to_string();
        let expires_at = now.plus_secs(LOGIN_SECS_MAX);
        let kept =
            Kept { principal: who.principal.clone(), credential: who.credential.clone(), proof: who.proof };
        let refresh = new_refresh();
        self.state.insert_login(&Login {
            id: id.clone(),
            refresh: fingerprint(&refresh),
            who: serde_json::to_string(&kept).expect("a principal is JSON"),
            expires_at,
        })?;
        self.live().insert(id.clone(), expires_at);
        Ok((signed_in(kept, id, expires_at), refresh))
    }

    /// The next tokens for a refresh token, which is good no more. Blocks on the state.
    pub fn renew(&self, refresh: &str, now: Timestamp) -> Result<Option<(Identified, String)>, StateError> {
        let next = new_refresh();
        let Some(login) = self.state.renew_login(fingerprint(refresh), fingerprint(&next), now)? else {
            return Ok(None);
        };
        let Ok(kept) = serde_json::from_str::<Kept>(&login.who) else { return Ok(None) };
        Ok(Some((signed_in(kept, login.id, login.expires_at), next)))
    }

    /// Ends a sign-in: its tokens are refused when this returns. False if there was none. Blocks on the state.
    pub fn end(&self, refresh: &str, now: Timestamp) -> Result<bool, StateError> {
        let ended = self.state.end_login(fingerprint(refresh), now)?;
        if let Some(id) = &ended {
            self.live().remove(id);
        }
        Ok(ended.is_some())
    }

    pub(crate) fn is_live(&self, id: &str, now: Timestamp) -> bool {
        let live = self.live.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        live.get(id).is_some_and(|expires| *expires > now)
    }

    fn live(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, Timestamp>> {
        self.live.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn new_refresh() -> String {
    format!("{REFRESH_PREFIX}{}", encoded(&random_bytes::<32>()))
}

fn signed_in(kept: Kept, id: String, expires: Timestamp) -> Identified {
    Identified {
        principal: kept.principal,
        credential: credential(kept.credential.kind, kept.credential.id),
        proof: kept.proof,
        key: None,
        session_key: format!("login:{id}"),
        own: None,
        login: Some(id),
        connection: None,
        session: None,
        expires,
    }
}
