//! JWTs self-signed with a virtual service-account key.

use jsonwebtoken::{Algorithm, DecodingKey};
use record::{CredentialKind, Principal, Proof, Timestamp};
use serde_json::{Map, Value};
use state::{State, StateError, VirtualKey};
use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use crate::bearer::{self, Peeked};
use crate::principal_of::credential;
use crate::{Identified, Stranger};

/// A self-signed token may live for so long, in seconds.
const SELF_SIGNED_SECS_MAX: i64 = 3600;

/// All issued keys, in memory as in the state.
pub struct VirtualKeys {
    state: Arc<State>,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    by_email: HashMap<String, Arc<KnownKey>>,
    by_id: HashMap<String, Arc<KnownKey>>,
}

/// A key whose public half is parsed.
pub(crate) struct KnownKey {
    pub(crate) key: VirtualKey,
    public: DecodingKey,
}

impl VirtualKeys {
    /// Reads them from the state. Blocks.
    pub fn load(state: Arc<State>) -> Result<Self, StateError> {
        let mut all = Known::default();
        state.keys()?.into_iter().filter_map(known).for_each(|key| all.insert(key));
        Ok(Self { state, known: RwLock::new(all) })
    }

    /// Adds a key; it is good when this returns. Blocks on the state.
    pub fn insert(&self, key: VirtualKey) -> Result<(), StateError> {
        self.state.insert_key(&key)?;
        self.remember(key);
        Ok(())
    }

    /// Revokes a key; it is refused when this returns. Blocks on the state.
    pub fn revoke(&self, id: &str, now: Timestamp) -> Result<bool, StateError> {
        let changed = self.state.revoke_key(id, now)?;
        if let Some(key) = self.state.key(id)? {
            self.remember(key);
        }
        Ok(changed)
    }

    /// All keys, newest first. Blocks on the state.
    pub fn list(&self) -> Result<Vec<VirtualKey>, StateError> {
        self.state.keys()
    }

    pub(crate) fn by_email(&self, email: &str) -> Option<Arc<KnownKey>> {
        self.known.read().unwrap_or_else(|poisoned| poisoned.into_inner()).by_email.get(email).cloned()
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<Arc<KnownKey>> {
        self.known.read().unwrap_or_else(|poisoned| poisoned.into_inner()).by_id.get(id).cloned()
    }

    fn remember(&self, key: VirtualKey) {
        if let Some(key) = known(key) {
            self.known.write().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(key);
        }
    }
}

impl Known {
    fn insert(&mut self, key: Arc<KnownKey>) {
        self.by_id.insert(key.key.id.clone(), key.clone());
        self.by_email.insert(key.key.email.clone(), key);
    }
}

fn known(key: VirtualKey) -> Option<Arc<KnownKey>> {
    let public = DecodingKey::from_rsa_pem(key.public_pem.as_bytes()).ok()?;
    Some(Arc::new(KnownKey { key, public }))
}

impl KnownKey {
    /// Whether it is neither revoked nor expired.
    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        self.key.revoked_at.is_none() && self.key.expires_at > now
    }

    /// Checks a token that names this key. Found by `iss`; `kid` is optional, as Node sends none.
    pub(crate) fn identify(
        &self,
        token: &str,
        peeked: &Peeked,
        public_url: &str,
        now: Timestamp,
    ) -> Result<Identified, Stranger> {
        if peeked.algorithm != Algorithm::RS256 {
            return Err(Stranger::Algorithm);
        }
        if peeked.kid.as_ref().is_some_and(|id| *id != self.key.id) {
            return Err(Stranger::Signature);
        }
        let claims = bearer::verify(token, &self.public, Algorithm::RS256)?;
        let exp = bearer::check_times(&claims, now.secs())?;
        let iat = bearer::seconds(&claims, "iat").ok_or(Stranger::MissingClaim("iat"))?;
        if exp - iat > SELF_SIGNED_SECS_MAX {
            return Err(Stranger::TooLong);
        }
        let subject = bearer::text(&claims, "sub");
        if !subject.is_empty() && subject != self.key.email {
            return Err(Stranger::Signature);
        }
        check_audience(&claims, public_url)?;
        if !self.is_live(now) {
            return Err(Stranger::Revoked);
        }
        let credential = credential(CredentialKind::Key, self.key.id.clone());
        Ok(self.identified(credential, Timestamp::from_secs(exp).min(self.key.expires_at)))
    }

    pub(crate) fn identified(&self, credential: record::Credential, expires: Timestamp) -> Identified {
        Identified {
            principal: Principal {
                id: self.key.principal.clone(),
                email: if self.key.principal.contains('@') {
                    self.key.principal.clone()
                } else {
                    String::new()
                },
                name: String::new(),
                groups: self.key.groups.clone(),
                kind: self.key.kind,
                agent: self.key.agent.clone(),
                on_behalf_of: String::new(),
                idp: "key".to_owned(),
                task: self.key.task.clone(),
            },
            session_key: format!("key:{}", self.key.id),
            own: None,
            credential,
            proof: Proof::Asserted,
            key: Some(self.key.id.clone()),
            login: None,
            connection: Some(self.key.connection.clone()),
            session: None,
            expires,
        }
    }
}

/// Contract section 3 (c): Google's token endpoint, this gateway, or an API root; none only with a scope.
fn check_audience(claims: &Map<String, Value>, public_url: &str) -> Result<(), Stranger> {
    let audiences = bearer::audiences(claims);
    let named: Vec<_> = audiences.iter().filter(|audience| !audience.is_empty()).collect();
    if named.is_empty() {
        let scoped = !bearer::text(claims, "scope").is_empty();
        return if scoped { Ok(()) } else { Err(Stranger::Audience) };
    }
    if named.iter().all(|audience| is_our_audience(audience, public_url)) {
        Ok(())
    } else {
        Err(Stranger::Audience)
    }
}

fn is_our_audience(audience: &str, public_url: &str) -> bool {
    const TOKEN_ENDPOINTS: &[&str] = &[
        "https://oauth2.googleapis.com/token",
        "https://accounts.google.com/o/oauth2/token",
        "https://www.googleapis.com/oauth2/v4/token",
    ];
    if TOKEN_ENDPOINTS.contains(&audience) {
        return true;
    }
    let ours = public_url.trim_end_matches('/');
    if let Some(rest) = audience.strip_prefix(ours) {
        return matches!(rest, "" | "/" | "/token" | "/v1/token" | "/bigquery/v2" | "/bigquery/v2/");
    }
    let Some(rest) = audience.strip_prefix("https://") else { return false };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let root =
        matches!(host, "bigquery.googleapis.com" | "bigquerystorage.googleapis.com" | "www.googleapis.com");
    root && matches!(path, "" | "bigquery/v2" | "bigquery/v2/" | "auth/bigquery")
}
