//! Slack: a message with buttons by an incoming webhook, and the signed request that a button sends.
//!
//! Sources: Slack's "Sending messages using incoming webhooks", "Block Kit", "Verifying requests from Slack", and
//! "Handling user interaction" (block_actions).

use http::HeaderMap;
use record::Timestamp;
use registry::HmacKey;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::webhook::{BadAnswer, HookAnswer, cut, facts, fresh, header, id_of, what};

/// A section's text holds 3,000 characters; a field 2,000.
const STATEMENT_CHARS: usize = 2_500;
const FIELD_CHARS: usize = 300;

/// The message. Without a secret nobody could press a button, so there are none.
pub(crate) fn message(card: &Value, url: &str, takes_answers: bool) -> Value {
    let id = card["id"].as_str().unwrap_or_default();
    let fields: Vec<Value> = facts(card)
        .into_iter()
        .map(|(name, value)| {
            let value = cut(&value, FIELD_CHARS);
            json!({"type": "plain_text", "text": format!("{name}\n{value}")})
        })
        .collect();
    let rules: Vec<&str> =
        card["rules"].as_array().into_iter().flatten().filter_map(|rule| rule["rule"].as_str()).collect();
    let (statement, is_whole) = what(card, STATEMENT_CHARS);
    let mut blocks = vec![
        json!({"type": "header", "text": {"type": "plain_text", "text": "hansard: approval wanted"}}),
        json!({"type": "section", "text": {"type": "plain_text", "text": statement}}),
        json!({"type": "section", "fields": fields}),
        json!({"type": "context", "elements": [{"type": "mrkdwn", "text": format!(
            "Rule {} · `hansard approvals show {id}` · <{url}|record {id}>", escaped(&rules.join(", ")))}]}),
    ];
    if takes_answers {
        let button = |action: &str, style: &str, text: &str| {
            json!({"type": "button", "action_id": action, "value": id, "style": style,
                "text": {"type": "plain_text", "text": text}})
        };
        let deny = button("deny", "danger", "Deny");
        // Nobody agrees by a button to what is not shown whole.
        let elements = match is_whole {
            true => vec![button("approve", "primary", "Approve once"), deny],
            false => vec![deny],
        };
        blocks.push(json!({"type": "actions", "block_id": "hansard", "elements": elements}));
    }
    json!({"text": format!("hansard: approval wanted ({id})"), "blocks": blocks})
}

/// What came of an answer, in the message's place.
pub(crate) fn told(text: &str) -> Value {
    json!({"replace_original": false, "response_type": "in_channel", "text": escaped(text)})
}

/// Slack's three characters.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    user: User,
    #[serde(default)]
    actions: Vec<Action>,
    response_url: Option<String>,
}

#[derive(Deserialize)]
struct User {
    id: String,
}

#[derive(Deserialize)]
struct Action {
    action_id: String,
    #[serde(default)]
    value: String,
}

/// Checks `X-Slack-Signature` and reads which button was pressed by whom.
pub(crate) fn answer(
    key: &HmacKey,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<HookAnswer, BadAnswer> {
    let stamp = header(headers, "x-slack-request-timestamp");
    let tag = header(headers, "x-slack-signature").strip_prefix("v0=").and_then(unhex);
    let tag = tag.ok_or(BadAnswer::Signature)?;
    let signed = [b"v0:", stamp.as_bytes(), b":", body].concat();
    if !key.is_signed(&signed, &tag) {
        return Err(BadAnswer::Signature);
    }
    fresh(stamp.parse().map_err(|_| BadAnswer::Stale)?, now)?;
    let payload = form_urlencoded::parse(body).find(|(name, _)| name == "payload");
    let (_, text) = payload.ok_or(BadAnswer::Malformed("payload"))?;
    let payload: Payload = serde_json::from_str(&text).map_err(|_| BadAnswer::Malformed("payload"))?;
    let [action] = &payload.actions[..] else { return Err(BadAnswer::Malformed("action")) };
    let yes = match (payload.kind.as_str(), action.action_id.as_str()) {
        ("block_actions", "approve") => true,
        ("block_actions", "deny") => false,
        _ => return Err(BadAnswer::Malformed("action")),
    };
    Ok(HookAnswer {
        id: id_of(&action.value)?,
        user: payload.user.id,
        yes,
        reason: "denied in Slack".to_owned(),
        tell: payload.response_url,
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.is_ascii() && text.len().is_multiple_of(2);
    let pairs = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok());
    is_hex.then(|| pairs.collect()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry::Secret;

    /// The example of "Verifying requests from Slack".
    #[test]
    fn slacks_own_example_is_signed_and_a_changed_one_is_not() {
        let key = HmacKey::new(&Secret::new(b"8f742231b10e8888abcd99yyyzzz85a5".to_vec()));
        let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
             channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&\
             response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F\
             96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let mut headers = HeaderMap::new();
        headers.insert("x-slack-request-timestamp", "1531420618".parse().unwrap());
        let tag = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
        headers.insert("x-slack-signature", tag.parse().unwrap());
        let now = Timestamp::from_secs(1_531_420_620);
        let read = |body: &str, now| answer(&key, &headers, body.as_bytes(), now);
        assert_eq!(read(body, now), Err(BadAnswer::Malformed("payload")), "signed, and no button");
        assert_eq!(read(body, now.plus_secs(400)), Err(BadAnswer::Stale));
        assert_eq!(read(&format!("{body}x"), now), Err(BadAnswer::Signature));
    }
}
