//! Microsoft Teams: an Adaptive Card by a workflow's webhook, and the signed message of an outgoing webhook: whoever
//! is to answer writes `@hansard approve ID` or `@hansard deny ID why`.
//!
//! Sources: Microsoft's "Create incoming webhooks with Workflows", "Adaptive Cards" 1.4, and "Create an Outgoing
//! Webhook" (HMAC).

use http::HeaderMap;
use record::Timestamp;
use registry::HmacKey;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::webhook::{BadAnswer, HookAnswer, base64, cut, facts, fresh, header, id_of, what};

const STATEMENT_CHARS: usize = 2_000;
const FACT_CHARS: usize = 300;

/// The message.
pub(crate) fn message(card: &Value, url: &str) -> Value {
    let id = card["id"].as_str().unwrap_or_default();
    let facts: Vec<Value> = facts(card)
        .into_iter()
        .map(|(name, value)| json!({"title": name, "value": plain_text(&cut(&value, FACT_CHARS))}))
        .collect();
    let content = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
        "body": [
            {"type": "TextBlock", "text": "hansard: approval wanted", "weight": "Bolder", "size": "Medium", "wrap": true},
            {"type": "TextBlock", "text": plain_text(&what(card, STATEMENT_CHARS).0), "fontType": "Monospace", "wrap": true},
            {"type": "FactSet", "facts": facts},
            {"type": "TextBlock", "isSubtle": true, "wrap": true,
             "text": format!("Answer here: @hansard approve {id}, or @hansard deny {id} and why")},
        ],
        "actions": [{"type": "Action.OpenUrl", "title": "Open", "url": url}],
    });
    let attachment = json!({"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": content});
    json!({"type": "message", "attachments": [attachment]})
}

/// Without Adaptive Cards' markup: emphasis, links and lists.
fn plain_text(text: &str) -> String {
    let escaped = text.chars().flat_map(|one| match one {
        '*' | '_' | '[' | ']' | '\\' | '`' | '#' => vec!['\\', one],
        other => vec![other],
    });
    escaped.collect()
}

/// What the channel is answered.
pub fn reply(text: &str) -> Value {
    json!({"type": "message", "text": text})
}

#[derive(Deserialize)]
struct Activity {
    #[serde(rename = "type")]
    kind: String,
    timestamp: String,
    #[serde(default)]
    text: String,
    from: From,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct From {
    aad_object_id: String,
}

/// Checks `Authorization: HMAC ...` and reads what was written by whom.
pub(crate) fn answer(
    key: &HmacKey,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<HookAnswer, BadAnswer> {
    let tag = header(headers, "authorization").strip_prefix("HMAC ").and_then(base64);
    if !key.is_signed(body, &tag.ok_or(BadAnswer::Signature)?) {
        return Err(BadAnswer::Signature);
    }
    let activity: Activity = serde_json::from_slice(body).map_err(|_| BadAnswer::Malformed("message"))?;
    let written: Timestamp = activity.timestamp.parse().map_err(|_| BadAnswer::Malformed("timestamp"))?;
    fresh(written.secs(), now)?;
    if activity.kind != "message" {
        return Err(BadAnswer::Malformed("message"));
    }
    let text = plain(&activity.text);
    let mut words = text.split_whitespace();
    let (verb, id) = (words.next().unwrap_or_default().to_lowercase(), words.next().unwrap_or_default());
    let said = words.collect::<Vec<_>>().join(" ");
    let yes = match verb.as_str() {
        "approve" => true,
        "deny" => false,
        _ => return Err(BadAnswer::Malformed("answer: write 'approve ID' or 'deny ID why'")),
    };
    let reason = if said.is_empty() { "denied in Teams".to_owned() } else { said };
    Ok(HookAnswer { id: id_of(id)?, user: activity.from.aad_object_id, yes, reason, tell: None })
}

/// The words without the mention and without markup.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(begin) = rest.find('<') {
        out.push_str(&rest[..begin]);
        let tag = &rest[begin..];
        rest = match tag.strip_prefix("<at>").and_then(|_| tag.find("</at>")) {
            Some(end) => &tag[end + "</at>".len()..],
            None => tag.find('>').map_or("", |end| &tag[end + 1..]),
        };
        out.push(' ');
    }
    out.push_str(rest);
    out.replace("&nbsp;", " ")
}
