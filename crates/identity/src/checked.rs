//! Credentials that were checked a moment ago: a signature is not verified again for every request.

use record::Timestamp;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use crate::Identified;
use crate::virtual_keys::VirtualKeys;

/// A check is good for so long, in seconds: a key that its provider withdraws is noticed after that.
const GOOD_SECS: i64 = 30;
const CHECKED_MAX: usize = 10_000;

/// By the token's fingerprint; the token itself is not kept.
#[derive(Default)]
pub(crate) struct Checked {
    entries: Mutex<HashMap<[u8; 32], Entry>>,
}

struct Entry {
    who: Identified,
    until: i64,
}

impl Checked {
    /// Who it was, if that still holds: not expired, and the virtual key behind it lives.
    pub(crate) fn find(&self, token: &str, keys: &VirtualKeys, now: Timestamp) -> Option<Identified> {
        let entries = self.entries();
        let entry = entries.get(&registry::fingerprint(token))?;
        let lives =
            entry.who.key.as_ref().is_none_or(|id| keys.by_id(id).is_some_and(|key| key.is_live(now)));
        (entry.until > now.secs() && entry.who.expires > now && lives).then(|| entry.who.clone())
    }

    /// Keeps it for a while.
    pub(crate) fn remember(&self, token: &str, who: &Identified, now: Timestamp) {
        let mut entries = self.entries();
        if entries.len() >= CHECKED_MAX {
            entries.retain(|_, entry| entry.until > now.secs());
            if entries.len() >= CHECKED_MAX {
                entries.clear();
            }
        }
        let entry = Entry { who: who.clone(), until: now.secs() + GOOD_SECS };
        entries.insert(registry::fingerprint(token), entry);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<[u8; 32], Entry>> {
        self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
