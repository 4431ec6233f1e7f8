//! Telling people that something waits, and taking the answers that come back signed. Nobody waits for a message: one
//! that can't be sent is logged, and what it tells of waits all the same.

use approvals::{BadAnswer, Held, HookAnswer, Scope, Webhook};
use http::HeaderMap;
use outbound::Fetcher;
use std::sync::Arc;
use tokio::sync::Semaphore;

use crate::answers::{Answered, Answering, NotAnswered, Says, card};
use crate::exchange::Gateway;
use crate::limits::ANNOUNCED_AT_A_TIME;
use crate::upstream::Upstream;

/// Sends the messages.
pub struct Announcer {
    fetcher: Fetcher,
    /// The gateway's own address, by which people look.
    public_url: String,
    places: Arc<Semaphore>,
}

impl Announcer {
    /// By this client.
    pub fn new(fetcher: Fetcher, public_url: String) -> Self {
        Self { fetcher, public_url, places: Arc::new(Semaphore::new(ANNOUNCED_AT_A_TIME)) }
    }
}

impl<U: Upstream> Gateway<U> {
    /// Tells everybody whom the configuration names.
    pub(crate) async fn announce(&self, held: &Arc<Held>) {
        let rulebook = self.rulebook();
        if rulebook.webhooks.is_empty() {
            return;
        }
        let rest = match self.desk.rest(held.id).await {
            Ok(rest) => rest,
            Err(error) => return tracing::error!(approval = %held.id, %error, "can't be announced"),
        };
        let card = Arc::new(card(held, &rest, true));
        let url = format!("{}/api/v1/approvals/{}", self.announcer.public_url.trim_end_matches('/'), held.id);
        for at in 0..rulebook.webhooks.len() {
            let Ok(place) = self.announcer.places.clone().try_acquire_owned() else {
                tracing::warn!(approval = %held.id, "too many messages are on their way, so one is not sent");
                continue;
            };
            let (webhooks, card, url) = (rulebook.webhooks.clone(), card.clone(), url.clone());
            let (fetcher, now) = (self.announcer.fetcher.clone(), self.clock.now());
            tokio::spawn(async move {
                webhooks[at].announce(&fetcher, &card, &url, now).await;
                drop(place);
            });
        }
    }

    /// Reads an answer that came by a webhook, signed by whoever knows its secret.
    pub fn read_hook(
        &self,
        webhook: &Webhook,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<HookAnswer, BadAnswer> {
        webhook.read(headers, body, self.clock.now())
    }

    /// Takes it, from somebody whom the configuration names there.
    pub async fn answer_by_hook(
        &self,
        webhook: &Webhook,
        answer: &HookAnswer,
    ) -> Result<Answered, NotAnswered> {
        let actor = webhook.approver(&answer.user).ok_or_else(|| {
            let why = format!("[[approvals.webhook]] '{}' names nobody '{}'", webhook.name, answer.user);
            NotAnswered::NotTheirs(why)
        })?;
        let says = match answer.yes {
            true => Says::Yes { scope: Scope::Once, secs: None },
            false => Says::No { reason: answer.reason.clone() },
        };
        self.answer_held_request(Answering { id: answer.id, actor, says }).await
    }

    /// Tells what came of it where its reply could not.
    pub async fn tell_by_hook(&self, webhook: &Webhook, answer: &HookAnswer, text: &str) {
        if let Some(to) = &answer.tell {
            webhook.tell(&self.announcer.fetcher, to, text).await;
        }
    }
}
