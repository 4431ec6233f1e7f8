//! One held exchange: what was asked, how it stands, who answered.

use record::{Actor, Digest, Footprint, Principal, RecordId, SessionId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// One held exchange, by what is looked for; nothing of its statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// By which people name it: that of the record that was held, until it is asked again.
    pub id: RecordId,
    /// The record that was held.
    pub record: RecordId,
    pub version: u64,
    pub stand: Stand,
    pub asked: Asked,
    /// The rules that want a yes, and of how many.
    pub demands: Vec<Demand>,
    /// The configuration that ruled: under another one it is asked again.
    pub policy: String,
    /// The job that it becomes; none if it is no job, and the client must ask again.
    pub job: Option<Job>,
    /// The client's own mark of the request; empty if it gave none.
    pub mark: String,
    /// Hash of its statement and parameters.
    pub text: Digest,
    /// Hash of everything that it says.
    pub binding: Digest,
    /// Hash of what it was found to do: where that changes, it is asked again.
    pub does: Digest,
    /// Hash of what its like have in common: literals and parameters may differ. None if nothing is alike.
    pub alike: Option<Digest>,
    /// What it may process at most, where that is known.
    pub bytes_max: Option<u64>,
    pub at: Timestamp,
    /// An answer is waited for until then.
    pub until: Timestamp,
    pub votes: Vec<Vote>,
    /// How often it was about to be sent.
    pub tries: u32,
    /// What the answer is good for, once it is yes.
    pub grant: Option<Grant>,
    /// BigQuery's word for how it ended, where it did not run.
    pub reason: String,
}

/// Who asked, and through what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub principal: Principal,
    pub connection: String,
    pub session: SessionId,
    pub method: String,
    /// The account that it acts as, if not the connection's own.
    pub account: Option<String>,
}

/// One rule's demand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    pub rule: String,
    /// How many must say yes.
    pub needed: u32,
    pub expires_secs: i64,
}

/// A job by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub project: String,
    pub job: String,
    pub location: String,
}

/// One person's yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Provider and id.
    pub by: String,
    /// For people.
    pub name: String,
    pub at: Timestamp,
    /// The rules for which they may say it.
    pub rules: Vec<String>,
    /// How far theirs reaches, and for how long where that is a time, in seconds.
    pub scope: Scope,
    pub secs: Option<i64>,
}

/// What a yes is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub scope: Scope,
    pub until: Timestamp,
    /// None: as often as wanted.
    pub uses_left: Option<u32>,
}

/// How far a yes reaches, the narrowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// This exchange, once.
    Once,
    /// The very same again, for a time.
    Time,
    /// Its like, for a time: literals and parameters may differ.
    Fingerprint,
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stand {
    /// It waits.
    Pending,
    /// Yes, and the job is about to be sent; or, of what is no job, the client may ask again.
    Approved,
    /// It was sent.
    Released,
    Denied,
    Expired,
    /// By the client itself, or with its session.
    Cancelled,
    /// Yes, and then it could not be sent: refused by what holds now, or by BigQuery.
    Failed,
    /// What holds is not what was asked then: it is asked again, by another name.
    Superseded,
}

impl Stand {
    /// The word in the state and the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Released => "released",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }
}

/// What lies sealed: the request, whoever sent it, and what it was found to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rest {
    /// Whoever was identified, to be checked again.
    pub who: Value,
    pub actor: Actor,
    /// The request that is sent once it is allowed; of what is no job, its beginning, for people.
    pub verb: String,
    pub uri: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    pub client_ip: String,
    pub user_agent: String,
    pub sql: String,
    pub labels: BTreeMap<String, String>,
    pub footprint: Footprint,
    /// Bytes that it would process; none if that is not known, and then why.
    pub estimate: Option<u64>,
    pub estimate_unknown: String,
    /// Rows of the tables that it changes.
    pub rows_at_most: Option<u64>,
    /// What each rule says of it.
    pub texts: Vec<String>,
    /// Why it ended, where it did not run.
    pub said: String,
}

impl Held {
    /// Whether it still waits for an answer.
    pub fn is_pending(&self) -> bool {
        self.stand == Stand::Pending
    }

    /// Whether it is not sent yet, and may be.
    pub fn is_unsent(&self) -> bool {
        matches!(self.stand, Stand::Pending | Stand::Approved)
    }

    /// The rules that want a yes: `'one', 'other'`.
    pub fn rules(&self) -> String {
        let rules: Vec<String> = self.demands.iter().map(|demand| format!("'{}'", demand.rule)).collect();
        rules.join(", ")
    }

    /// Through what it was asked: the connection, and the account if not its own.
    pub fn by(&self) -> (&str, Option<&str>) {
        (&self.asked.connection, self.asked.account.as_deref())
    }

    /// Whose it is: provider and id.
    pub fn owner(&self) -> String {
        let Principal { idp, id, .. } = &self.asked.principal;
        format!("{idp}/{id}")
    }

    /// How many have said yes to a rule.
    pub fn said_yes(&self, rule: &str) -> u32 {
        self.votes.iter().filter(|vote| vote.rules.iter().any(|known| known == rule)).count() as u32
    }

    /// Whether every rule has enough of them.
    pub fn is_satisfied(&self) -> bool {
        self.demands.iter().all(|demand| self.said_yes(&demand.rule) >= demand.needed)
    }

    /// What the yeses of all who said it are good for: the narrowest of them.
    pub fn granted(&self, now: Timestamp) -> Grant {
        let scope = self.votes.iter().map(|vote| vote.scope).min().unwrap_or(Scope::Once);
        let waits = self.demands.iter().map(|demand| demand.expires_secs).min().unwrap_or_default();
        let secs = match scope {
            Scope::Once => waits,
            Scope::Time | Scope::Fingerprint => {
                self.votes.iter().filter_map(|vote| vote.secs).min().unwrap_or(waits)
            }
        };
        let uses_left = match scope {
            // A job that was held takes its own way, and takes it once.
            Scope::Once => Some(u32::from(self.job.is_none())),
            Scope::Time | Scope::Fingerprint => None,
        };
        Grant { scope, until: now.plus_secs(secs), uses_left }
    }

    /// When it may be forgotten: a while after its end, that clients may ask how it ended.
    pub(crate) fn forget_at(&self) -> Timestamp {
        const KEPT_SECS: i64 = 86_400;
        let until = self.grant.as_ref().map_or(self.until, |grant| grant.until.max(self.until));
        match self.job {
            Some(_) if self.is_unsent() => Timestamp::from_micros(i64::MAX),
            _ => until.plus_secs(KEPT_SECS),
        }
    }
}

/// Whether an answer would be somebody's own: the same principal, the same e-mail address, or the person that the
/// agent works for.
pub fn is_own(asked: &Principal, approver: &Principal) -> bool {
    let is_same = |one: &str, other: &str| !one.is_empty() && one.eq_ignore_ascii_case(other);
    let same_id = asked.idp == approver.idp && asked.id == approver.id;
    let theirs = [&asked.email, &asked.on_behalf_of, &asked.id];
    same_id
        || theirs.iter().any(|own| is_same(own, &approver.email))
        || is_same(&asked.on_behalf_of, &approver.id)
}
