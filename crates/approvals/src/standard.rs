//! Standard Webhooks, for whatever else a team has: signed both ways with one secret.
//!
//! Source: the specification at https://www.standardwebhooks.com: `webhook-id`, `webhook-timestamp` and
//! `webhook-signature: v1,<base64 of HMAC-SHA256 over "id.timestamp.body">`.

use http::HeaderMap;
use record::Timestamp;
use registry::HmacKey;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::webhook::{BadAnswer, HookAnswer, base64, fresh, header, id_of};
use ::base64::Engine;
use ::base64::engine::general_purpose::STANDARD;

/// The message.
pub(crate) fn message(card: &Value, url: &str, now: Timestamp) -> Value {
    json!({"type": "approval.requested", "timestamp": now, "data": {"approval": card, "url": url}})
}

/// Its headers.
pub(crate) fn signed(key: &HmacKey, id: &str, now: Timestamp, body: &str) -> [(&'static str, String); 3] {
    let stamp = now.secs().to_string();
    let tag = STANDARD.encode(key.sign(format!("{id}.{stamp}.{body}").as_bytes()));
    [("webhook-id", id.to_owned()), ("webhook-timestamp", stamp), ("webhook-signature", format!("v1,{tag}"))]
}

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "type")]
    kind: String,
    data: Answer,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    approval: String,
    answer: Word,
    by: String,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Word {
    Approve,
    Deny,
}

/// Checks the signature and reads the answer.
pub(crate) fn answer(
    key: &HmacKey,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<HookAnswer, BadAnswer> {
    let (id, stamp) = (header(headers, "webhook-id"), header(headers, "webhook-timestamp"));
    let signed = [id.as_bytes(), b".", stamp.as_bytes(), b".", body].concat();
    // Several signatures stand there while a secret is changed.
    let tags =
        header(headers, "webhook-signature").split(' ').filter_map(|one| base64(one.strip_prefix("v1,")?));
    if !tags.into_iter().any(|tag| key.is_signed(&signed, &tag)) {
        return Err(BadAnswer::Signature);
    }
    fresh(stamp.parse().map_err(|_| BadAnswer::Stale)?, now)?;
    let message: Message = serde_json::from_slice(body).map_err(|_| BadAnswer::Malformed("answer"))?;
    if message.kind != "approval.answered" {
        return Err(BadAnswer::Malformed("type: it is 'approval.answered'"));
    }
    let Answer { approval, answer, by, reason } = message.data;
    let reason = if reason.is_empty() { "no reason was given".to_owned() } else { reason };
    Ok(HookAnswer { id: id_of(&approval)?, user: by, yes: answer == Word::Approve, reason, tell: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry::Secret;

    /// The test vector of the specification's reference libraries.
    #[test]
    fn the_standards_own_example_has_its_signature() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let key = HmacKey::new(&Secret::new(secret));
        let (id, now) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", Timestamp::from_secs(1_614_265_330));
        let body = r#"{"test": 2432232314}"#;
        let [_, _, (_, tag)] = signed(&key, id, now, body);
        assert_eq!(tag, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let mut headers = HeaderMap::new();
        for (name, value) in signed(&key, id, now, body) {
            headers.insert(name, value.parse().unwrap());
        }
        let read = |body: &str, now| answer(&key, &headers, body.as_bytes(), now);
        assert_eq!(read(body, now), Err(BadAnswer::Malformed("answer")), "signed, and no answer");
        assert_eq!(read("{}", now), Err(BadAnswer::Signature));
        assert_eq!(read(body, now.plus_secs(-400)), Err(BadAnswer::Stale));
    }
}
