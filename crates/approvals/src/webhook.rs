//! Telling people elsewhere that something waits, and taking their answers: Slack, Microsoft Teams, and whatever
//! speaks Standard Webhooks. Every answer is signed; who answers must be one of those that the configuration names.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Full;
use outbound::Fetcher;
use record::{Actor, ActorKind, Asserted, Proof, RecordId, Timestamp};
use registry::{HmacKey, Secret};
use serde_json::Value;
use std::fmt;
use std::time::Duration;

use crate::{slack, standard, teams};

/// A message is sent in at most so long, and tried so often.
const SEND_MAX: Duration = Duration::from_secs(10);
const TRIES: u32 = 3;
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// A signed answer is good for so long, in seconds: what was overheard is not good later.
const FRESH_SECS: i64 = 300;

/// Whose format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Slack,
    Teams,
    /// Standard Webhooks (https://www.standardwebhooks.com), with JSON of ours.
    Json,
}

/// One place where people are told and answer.
pub struct Webhook {
    pub name: String,
    pub format: Format,
    /// Where messages go; knowing it is enough to post there, so it is a secret. None: it only takes answers.
    pub url: Option<Secret>,
    /// What answers are signed with, and messages of `Json`. None: it only sends.
    pub key: Option<HmacKey>,
    pub approvers: Vec<HookApprover>,
}

/// Somebody who may answer there.
#[derive(Clone, Debug)]
pub struct HookApprover {
    /// Their id there.
    pub user: String,
    pub email: String,
    pub groups: Vec<String>,
}

/// An answer that was signed.
#[derive(Clone, Debug, PartialEq)]
pub struct HookAnswer {
    pub id: RecordId,
    /// Their id there.
    pub user: String,
    pub yes: bool,
    pub reason: String,
    /// Where what came of it is told, if not in the reply.
    pub tell: Option<String>,
}

/// Why an answer is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadAnswer {
    /// It takes none.
    NoKey,
    /// Not signed by whoever knows the secret.
    Signature,
    /// Signed too long ago, or for later.
    Stale,
    /// Signed, and not understood.
    Malformed(&'static str),
}

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey => f.write_str("this webhook takes no answers"),
            Self::Signature => f.write_str("the signature is not this webhook's"),
            Self::Stale => f.write_str("it was signed more than five minutes ago, or for later"),
            Self::Malformed(what) => write!(f, "it has no usable {what}"),
        }
    }
}

impl std::error::Error for BadAnswer {}

impl Webhook {
    /// Tells of something that waits. `url` is where it is looked at.
    pub async fn announce(&self, fetcher: &Fetcher, card: &Value, url: &str, now: Timestamp) -> bool {
        let Some(to) = &self.url else { return true };
        let body = match self.format {
            Format::Slack => slack::message(card, url, self.key.is_some()),
            Format::Teams => teams::message(card, url),
            Format::Json => standard::message(card, url, now),
        };
        let body = body.to_string();
        for attempt in 0..TRIES {
            tokio::time::sleep(Duration::from_secs(u64::from(attempt))).await;
            match self.send(fetcher, to.reveal(), &body, now).await {
                Ok(()) => return true,
                Err(why) => tracing::warn!(webhook = self.name, why, "an approval could not be announced"),
            }
        }
        false
    }

    async fn send(&self, fetcher: &Fetcher, to: &[u8], body: &str, now: Timestamp) -> Result<(), String> {
        let uri = std::str::from_utf8(to).unwrap_or_default().trim();
        let mut request = Request::post(uri).header("content-type", "application/json");
        if let (Format::Json, Some(key)) = (self.format, &self.key) {
            let id = format!("msg_{}", RecordId::new(now));
            for (name, value) in standard::signed(key, &id, now, body) {
                request = request.header(name, value);
            }
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned())));
        let request = request.map_err(|_| "its address is none".to_owned())?;
        let answer = fetcher.send(request, ANSWER_BYTES_MAX, SEND_MAX).await;
        // What can't be reached is told without its address.
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("HTTP {}", answer.status())),
            Err(_) => Err("it can't be reached".to_owned()),
        }
    }

    /// Tells there what came of an answer, where its reply could not.
    pub async fn tell(&self, fetcher: &Fetcher, to: &str, text: &str) {
        if let Some(url) = self.own_address(to) {
            let body = slack::told(text).to_string();
            let request =
                Request::post(url).header("content-type", "application/json").body(Full::new(body.into()));
            if let Ok(request) = request
                && fetcher.send(request, ANSWER_BYTES_MAX, SEND_MAX).await.is_err()
            {
                tracing::warn!(webhook = self.name, "what came of an answer could not be told");
            }
        }
    }

    /// The address, if it is at the host that messages go to: nobody sends us elsewhere.
    fn own_address<'a>(&self, to: &'a str) -> Option<&'a str> {
        let host = |text: &str| text.parse::<http::Uri>().ok()?.authority().map(ToString::to_string);
        let own = self.url.as_ref().and_then(|url| host(std::str::from_utf8(url.reveal()).ok()?.trim()));
        (own.is_some() && host(to) == own).then_some(to)
    }

    /// An answer, once its signature was checked.
    pub fn read(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<HookAnswer, BadAnswer> {
        let key = self.key.as_ref().ok_or(BadAnswer::NoKey)?;
        match self.format {
            Format::Slack => slack::answer(key, headers, body, now),
            Format::Teams => teams::answer(key, headers, body, now),
            Format::Json => standard::answer(key, headers, body, now),
        }
    }

    /// Who answers, by the configuration's word; none if it names nobody of that id.
    pub fn approver(&self, user: &str) -> Option<Actor> {
        let known = self.approvers.iter().find(|known| known.user == user)?;
        let said = |value: &str| Some(Asserted { value: value.to_owned(), proof: Proof::Asserted });
        Some(Actor {
            kind: ActorKind::Person,
            id: said(user),
            email: said(&known.email),
            name: None,
            groups: Some(Asserted { value: known.groups.clone(), proof: Proof::Asserted }),
            idp: Some(format!("webhook/{}", self.name)),
            agent: None,
            act_chain: vec![known.email.clone()],
            credential: None,
        })
    }
}

/// Whether a time of signing is near.
pub(crate) fn fresh(secs: i64, now: Timestamp) -> Result<(), BadAnswer> {
    match (now.secs() - secs).abs() <= FRESH_SECS {
        true => Ok(()),
        false => Err(BadAnswer::Stale),
    }
}

pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// What a message says of something that waits, as names and values.
pub(crate) fn facts(card: &Value) -> Vec<(&'static str, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let who = &card["who"];
    let name = if text(&who["email"]).is_empty() { text(&who["id"]) } else { text(&who["email"]) };
    let agent = text(&who["agent"]);
    let tables: Vec<String> =
        card["statement"]["tables"].as_array().into_iter().flatten().map(text).collect();
    let bytes = card["estimate"]["bytes"].as_u64();
    let processes = match (bytes, card["estimate"]["usd"].as_f64()) {
        (Some(bytes), Some(usd)) => format!("{} MiB, about {usd:.2} USD", bytes.div_ceil(1 << 20)),
        _ => "unknown".to_owned(),
    };
    let facts = [
        ("Asked by", if agent.is_empty() { name } else { format!("{agent} ({name})") }),
        ("For", text(&who["on_behalf_of"])),
        ("Task", text(&who["task"])),
        ("Connection", text(&card["connection"])),
        ("Kind", text(&card["statement"]["kind"])),
        ("Tables", tables.join(", ")),
        ("Processes", processes),
        (
            "Rows at most",
            card["estimate"]["rows_at_most"].as_u64().map(|rows| rows.to_string()).unwrap_or_default(),
        ),
        ("Until", text(&card["until"])),
    ];
    facts.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// The statement, or the request where there is none, as far as a message holds it, and whether that is all.
pub(crate) fn what(card: &Value, chars: usize) -> (String, bool) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let request = &card["request"];
    let whole = match text(&card["statement"]["sql"]).as_str() {
        "" => format!("{} {} {}", text(&request["verb"]), text(&request["uri"]), text(&request["body"])),
        sql => sql.to_owned(),
    };
    let parameters = card["statement"]["parameters"].as_object().is_some_and(|all| !all.is_empty());
    let is_whole = !parameters && whole.chars().count() <= chars;
    (cut(&whole, chars), is_whole)
}

/// So many characters, and a word of what was cut off.
pub(crate) fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((at, _)) => format!("{} ... ({} characters more)", &text[..at], text[at..].chars().count()),
        None => text.to_owned(),
    }
}

pub(crate) fn id_of(text: &str) -> Result<RecordId, BadAnswer> {
    text.trim().parse().map_err(|_| BadAnswer::Malformed("approval id"))
}
