//! SIGHUP: the configuration is read again, all or nothing; a new certificate is taken up by itself.

use gateway::Gateway;
use ledger::{EventDraft, Ledger};
use record::{Client, Outcome, RecordKind, Status};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::cli::{Failure, ServeArgs};
use crate::config;
use crate::serve::acceptor;
use crate::wiring::{Fixed, Rooms, Settings};

/// The certificate's files are looked at so often.
const CERTIFICATE_EVERY: Duration = Duration::from_secs(30);

/// What a running gateway needs to take up another version of its configuration.
pub(crate) struct Reloader {
    pub(crate) args: ServeArgs,
    pub(crate) gateway: Arc<Gateway<bigquery::BigQuery>>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) tls: Option<watch::Sender<TlsAcceptor>>,
    pub(crate) fixed: Fixed,
}

impl Reloader {
    /// Waits for SIGHUP, again and again.
    pub(crate) async fn run(self) {
        let mut hangups = signal(SignalKind::hangup()).expect("signals can be listened to");
        let mut looks = tokio::time::interval(CERTIFICATE_EVERY);
        let mut seen = self.certificate_changed();
        loop {
            tokio::select! {
                _ = hangups.recv() => self.reload().await,
                _ = looks.tick() => {
                    let now = self.certificate_changed();
                    if now != seen {
                        seen = now;
                        self.reload_certificate();
                    }
                }
            }
        }
    }

    async fn reload(&self) {
        let before = self.gateway.rulebook().policy.clone();
        let result = self.try_reload();
        let after = self.gateway.rulebook().policy.clone();
        match &result {
            Ok(()) => {
                for (provider, why) in self.gateway.rulebook().identity.warm().await {
                    tracing::warn!(provider, why, "identity provider can't be reached yet");
                }
                tracing::info!(policy = after, "configuration reloaded");
            }
            Err(failure) => {
                tracing::error!(why = failure.message, "configuration not reloaded; the old one rules on")
            }
        }
        let (outcome, reason, why) = match result {
            Ok(()) => (Outcome::Ok, "", String::new()),
            Err(failure) => (Outcome::Error, "invalid", failure.message),
        };
        let draft = EventDraft {
            id: None,
            session: self.rooms.ledger.node_session(),
            kind: RecordKind::Admin,
            actor: Ledger::gateway_actor(),
            client: Client::default(),
            status: Status { reason: reason.to_owned(), ..Status::default() },
            outcome,
            event: json!({"action": "reload", "before": before, "after": after, "why": why}),
        };
        if let Err(error) = self.rooms.ledger.event(draft).await {
            tracing::error!(%error, "the reload can't be recorded");
        }
    }

    /// Nothing changes until everything was read and checked.
    fn try_reload(&self) -> Result<(), Failure> {
        let loaded = config::load(&self.args.config)?;
        let settings = Settings::check(loaded, self.args.data.as_deref())?;
        if settings.fixed() != self.fixed {
            return Err(Failure::usage(
                "[server] listen, public_url, data_dir, whether there is TLS, [recording] mode and disk_floor and \
                 [evidence] key can't change while the gateway runs; restart it",
            ));
        }
        let tls = settings.loaded().config.server.tls.as_ref();
        let acceptor = tls.map(|tls| acceptor(settings.loaded(), tls)).transpose()?;
        let api = settings.api();
        let rulebook = settings.rulebook(&self.rooms)?;
        self.gateway.reload(rulebook);
        self.rooms.api.reload(api);
        if let (Some(tls), Some(acceptor)) = (&self.tls, acceptor) {
            tls.send_replace(acceptor);
        }
        Ok(())
    }

    /// Only the certificate: what else the file says waits for SIGHUP.
    fn reload_certificate(&self) {
        let read = || {
            let loaded = config::load(&self.args.config)?;
            let tls = loaded.config.server.tls.as_ref();
            tls.map(|tls| acceptor(&loaded, tls)).transpose()
        };
        match (read(), &self.tls) {
            (Ok(Some(acceptor)), Some(tls)) => {
                tls.send_replace(acceptor);
                tracing::info!("certificate reloaded");
            }
            (Ok(_), _) => {}
            (Err(failure), _) => {
                tracing::error!(why = failure.message, "certificate not reloaded; the old one serves on");
            }
        }
    }

    /// When the certificate's files were written.
    fn certificate_changed(&self) -> Vec<Option<SystemTime>> {
        let Ok(loaded) = config::load(&self.args.config) else { return Vec::new() };
        let Some(tls) = &loaded.config.server.tls else { return Vec::new() };
        let mut files: Vec<PathBuf> = vec![loaded.resolve(&tls.cert)];
        if let config::SecretRef::File(key) = &tls.key {
            files.push(loaded.resolve(key));
        }
        files.iter().map(|path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok()).collect()
    }
}
