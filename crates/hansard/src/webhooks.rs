//! `[[approvals.webhook]]`: from the configuration to what sends and reads, and the route that answers come to.

use approvals::{BadAnswer, Format, HookApprover, Webhook};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gateway::{Answered, Gateway, NotAnswered, Reply, Request, Sent};
use http::StatusCode;
use identity::Stranger;
use registry::{HmacKey, Secret};
use std::sync::Arc;
use toml::Spanned;

use crate::cli::Failure;
use crate::config::{self, Loaded, WebhookKind};
use crate::routes::{error, json as json_reply};
use crate::wiring::read_secret;

/// Checks what can be checked without reading a secret.
pub(crate) fn check(loaded: &Loaded) -> Result<(), config::ConfigError> {
    let all = &loaded.config.approvals.webhook;
    for (at, spanned) in all.iter().enumerate() {
        let webhook = spanned.get_ref();
        let wrong = |what: String| Err(loaded.error_at(&spanned.span(), what));
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if webhook.name.is_empty() || webhook.name.len() > 63 || !webhook.name.chars().all(is_name) {
            return wrong(format!(
                "a webhook's name is 1 to 63 small letters, digits and hyphens, not '{}'",
                webhook.name
            ));
        }
        if all[..at].iter().any(|other| other.get_ref().name == webhook.name) {
            return wrong(format!("two webhooks are named '{}'", webhook.name));
        }
        if webhook.url.is_none() && webhook.secret.is_none() {
            return wrong(format!(
                "webhook '{}' has neither url nor secret, so it does nothing",
                webhook.name
            ));
        }
        if webhook.secret.is_none() && !webhook.approver.is_empty() {
            return wrong(format!(
                "webhook '{}' has approvers and no secret, so nobody could answer there",
                webhook.name
            ));
        }
    }
    Ok(())
}

/// All of them, their secrets read.
pub(crate) fn webhooks(loaded: &Loaded) -> Result<Vec<Webhook>, Failure> {
    loaded.config.approvals.webhook.iter().map(|one| webhook(loaded, one)).collect()
}

fn webhook(loaded: &Loaded, spanned: &Spanned<config::Webhook>) -> Result<Webhook, Failure> {
    let webhook = spanned.get_ref();
    let wrong = |what: &str| {
        Failure::from(loaded.error_at(&spanned.span(), format!("webhook '{}': {what}", webhook.name)))
    };
    let url = webhook.url.as_ref().map(|url| read_secret(loaded, url)).transpose()?;
    if let Some(url) = &url {
        let text = std::str::from_utf8(url.reveal()).map_err(|_| wrong("its url is no text"))?;
        let uri: http::Uri = text.trim().parse().map_err(|_| wrong("its url is no address"))?;
        let is_loopback = uri.host().is_some_and(crate::wiring::is_loopback);
        if uri.scheme_str() != Some("https") && !is_loopback {
            return Err(wrong("its url is not https://"));
        }
    }
    let key = match &webhook.secret {
        None => None,
        Some(secret) => Some(key(webhook.kind, &read_secret(loaded, secret)?).map_err(wrong)?),
    };
    let approvers = webhook.approver.iter().map(|one| HookApprover {
        user: one.user.clone(),
        email: one.email.clone(),
        groups: one.groups.clone(),
    });
    Ok(Webhook {
        name: webhook.name.clone(),
        format: match webhook.kind {
            WebhookKind::Slack => Format::Slack,
            WebhookKind::Teams => Format::Teams,
            WebhookKind::Json => Format::Json,
        },
        url,
        key,
        approvers: approvers.collect(),
    })
}

/// Slack signs with the text of its secret; Teams and Standard Webhooks with the bytes that theirs is base64 of.
fn key(kind: WebhookKind, secret: &Secret) -> Result<HmacKey, &'static str> {
    const LEAST_BYTES: usize = 16;
    let text = secret.reveal().trim_ascii();
    let bytes = match kind {
        WebhookKind::Slack => Some(text.to_vec()),
        WebhookKind::Teams => STANDARD.decode(text).ok(),
        WebhookKind::Json => STANDARD.decode(text.strip_prefix(b"whsec_").unwrap_or(text)).ok(),
    };
    let bytes = Secret::new(bytes.ok_or("its secret is not base64")?);
    match bytes.reveal().len() < LEAST_BYTES {
        true => Err("its secret is shorter than 16 bytes"),
        false => Ok(HmacKey::new(&bytes)),
    }
}

/// An answer that came to `/api/v1/hooks/{name}`.
pub(crate) async fn answer(
    gateway: &Arc<Gateway<bigquery::BigQuery>>,
    name: &str,
    request: &Request,
    body: &[u8],
) -> Reply {
    let webhooks = gateway.rulebook().webhooks.clone();
    let Some(webhook) = webhooks.iter().find(|webhook| webhook.name == name) else {
        return error(StatusCode::NOT_FOUND, "there is no such webhook");
    };
    let answer = match gateway.read_hook(webhook, &request.head.headers, body) {
        Ok(answer) => answer,
        Err(why @ BadAnswer::Malformed(_)) => return error(StatusCode::BAD_REQUEST, &why.to_string()),
        Err(why) => {
            gateway.stranger_at_token(&Stranger::Signature, request);
            return error(StatusCode::UNAUTHORIZED, &why.to_string());
        }
    };
    if webhook.format == Format::Slack {
        // Slack wants its answer within three seconds; what came of it follows where it says.
        let (gateway, webhooks, name) = (gateway.clone(), webhooks.clone(), name.to_owned());
        tokio::spawn(async move {
            if let Some(webhook) = webhooks.iter().find(|webhook| webhook.name == name) {
                let answered = gateway.answer_by_hook(webhook, &answer).await;
                gateway.tell_by_hook(webhook, &answer, &said(&answer.id.to_string(), &answered)).await;
            }
        });
        return json_reply(StatusCode::OK, String::new());
    }
    let answered = gateway.answer_by_hook(webhook, &answer).await;
    let text = said(&answer.id.to_string(), &answered);
    match webhook.format {
        Format::Teams => json_reply(StatusCode::OK, approvals::teams_reply(&text).to_string()),
        Format::Json | Format::Slack => {
            let status = if answered.is_ok() { StatusCode::OK } else { StatusCode::CONFLICT };
            json_reply(status, serde_json::json!({"approval": answer.id, "said": text}).to_string())
        }
    }
}

fn said(id: &str, answered: &Result<Answered, NotAnswered>) -> String {
    match answered {
        Ok(answered) => {
            let what = match &answered.sent {
                Some(Sent::Released(record)) => format!("approved, and runs: record {record}"),
                Some(Sent::Failed(why)) => format!("approved, and could not run: {why}"),
                Some(Sent::AskedAgain { id, why }) => {
                    format!("it waits again as {id}, for what holds now is not what was agreed to: {why}")
                }
                Some(Sent::Later(why)) => format!("approved, and is tried again: {why}"),
                None => answered.held.stand.word().to_owned(),
            };
            format!("hansard {id}: {what}")
        }
        Err(why) => {
            let why = match why {
                NotAnswered::Unknown => "there is no such approval",
                NotAnswered::NotTheirs(why)
                | NotAnswered::Over(why)
                | NotAnswered::Invalid(why)
                | NotAnswered::Unrecorded(why) => why,
            };
            format!("hansard {id}: nothing was done: {why}")
        }
    }
}
