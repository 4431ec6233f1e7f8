//! The session's tokens: the one that is good now, and those that were handed to clients before.

use std::collections::VecDeque;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A client may hold a token for as long as it lives, an hour; a new one comes every few minutes at most.
const KNOWN_MAX: usize = 256;

/// What was handed out.
pub struct Handed {
    tokens: RwLock<Tokens>,
    unrecorded: AtomicU64,
}

struct Tokens {
    current: String,
    expires_at: i64,
    /// Fingerprints, the newest last.
    known: VecDeque<[u8; 32]>,
}

impl Handed {
    /// With the session's first token; `expires_at` in seconds since 1970.
    pub fn new(token: String, expires_at: i64) -> Self {
        let known = VecDeque::from([registry::fingerprint(&token)]);
        let tokens = RwLock::new(Tokens { current: token, expires_at, known });
        Self { tokens, unrecorded: AtomicU64::new(0) }
    }

    /// The next token.
    pub fn renew(&self, token: String, expires_at: i64) {
        let mut tokens = self.tokens.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if tokens.known.len() >= KNOWN_MAX {
            tokens.known.pop_front();
        }
        tokens.known.push_back(registry::fingerprint(&token));
        (tokens.current, tokens.expires_at) = (token, expires_at);
    }

    /// The token that is good now, and when it expires.
    pub fn current(&self) -> (String, i64) {
        let tokens = self.tokens.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        (tokens.current.clone(), tokens.expires_at)
    }

    /// Whether it is one of this session's.
    pub(crate) fn knows(&self, token: &str) -> bool {
        let fingerprint = registry::fingerprint(token);
        self.tokens.read().unwrap_or_else(|poisoned| poisoned.into_inner()).known.contains(&fingerprint)
    }

    /// Counts what was refused while the gateway was away.
    pub(crate) fn unrecorded(&self) {
        self.unrecorded.fetch_add(1, Ordering::Relaxed);
    }

    /// What was refused and could not be recorded.
    pub fn unrecorded_refusals(&self) -> u64 {
        self.unrecorded.load(Ordering::Relaxed)
    }
}
