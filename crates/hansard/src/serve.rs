//! `hansard serve`: takes the port and the folder, serves until told to stop, drains, ends.

use gateway::{Gateway, Listener, Metrics, serve};
use http::StatusCode;
use serde_json::json;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::cli::{Failure, ServeArgs};
use crate::config::{self, Loaded, Tls};
use crate::control;
use crate::reload::Reloader;
use crate::routes::AllRoutes;
use crate::wiring::{Fixed, Rooms, Settings, read_secret};

/// Retention is applied so often.
const RETENTION_EVERY: Duration = Duration::from_secs(3600);

/// Threads for what blocks: reading, and packing large windows. Each keeps a compressor of some megabytes.
const BLOCKING_THREADS_MAX: usize = 12;
/// BigQuery forgets a job after 180 days; so do we, in seconds.
const OWNED_SECS: i64 = 190 * 86_400;

/// Runs the gateway, or only checks its configuration.
pub(crate) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let loaded = config::load(&args.config)?;
    let settings = Settings::check(loaded, args.data.as_deref())?;
    if args.check {
        println!("{}: valid", args.config.display());
        return Ok(());
    }
    log_to_stderr();
    harden();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build();
    let runtime = runtime.expect("the system gives threads");
    runtime.block_on(async {
        let mut running = start(settings).await?;
        running.reloads = Some(args.clone());
        arm_failpoint();
        say(&format!("listening on {} ({})", running.address, running.public_url));
        let (mut term, mut int) = signals();
        let stop = async move {
            tokio::select! { _ = term.recv() => (), _ = int.recv() => () }
            say("stopping; open exchanges are being closed");
        };
        running.until(stop).await
    })
}

fn signals() -> (tokio::signal::unix::Signal, tokio::signal::unix::Signal) {
    let listen = |kind| signal(kind).expect("signals can be listened to");
    (listen(SignalKind::terminate()), listen(SignalKind::interrupt()))
}

/// A gateway that serves.
pub(crate) struct Running {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) public_url: String,
    pub(crate) rooms: Rooms,
    listener: Listener,
    routes: Arc<AllRoutes>,
    gateway: Arc<Gateway<bigquery::BigQuery>>,
    control: control::Control,
    tls: Option<watch::Sender<TlsAcceptor>>,
    fixed: Fixed,
    /// Where SIGHUP reads the configuration again; absent in the demo.
    reloads: Option<ServeArgs>,
}

/// Takes the port, opens the folder, assembles everything.
pub(crate) async fn start(settings: Settings) -> Result<Running, Failure> {
    let address = settings.listen;
    let tcp = TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::other_side(format!(
            "{address} is in use by another program. Stop it, or set another [server] listen."
        )),
        _ => Failure::other_side(format!("can't listen on {address}: {error}. Set another [server] listen.")),
    })?;
    let bound = tcp.local_addr().map_err(|error| Failure::other_side(error.to_string()))?;
    let tls = settings
        .loaded()
        .config
        .server
        .tls
        .as_ref()
        .map(|tls| acceptor(settings.loaded(), tls))
        .transpose()?;
    let rooms = settings.open()?;
    if rooms.ledger.interrupted > 0 {
        let count = rooms.ledger.interrupted;
        say(&format!("closed {count} records that an earlier run left open as 'interrupted'"));
    }
    let metrics = Arc::new(Metrics::default());
    let public_url = settings.public_url.clone();
    let control = control::Control::open(&settings.data_dir, rooms.api.clone()).await?;
    let fixed = settings.fixed();
    let gateway = Arc::new(settings.gateway(&rooms, metrics.clone())?);
    for (provider, why) in gateway.rulebook().identity.warm().await {
        say(&format!("identity provider '{provider}' can't be reached yet: {why}"));
    }
    rooms.api.run_by(Arc::new(ByGateway(Arc::downgrade(&gateway))));
    let routes = Arc::new(AllRoutes::new(gateway.clone(), &rooms, metrics.clone()));
    let (tls, acceptors) = tls.map(watch::channel).unzip();
    let listener = Listener { tcp, tls: acceptors, clock: rooms.clock.clone(), metrics };
    Ok(Running {
        address: bound,
        public_url,
        rooms,
        listener,
        routes,
        gateway,
        control,
        tls,
        fixed,
        reloads: None,
    })
}

/// What the API asks of the gateway that runs.
struct ByGateway(Weak<Gateway<bigquery::BigQuery>>);

impl console::Running for ByGateway {
    fn end_session(&self, session: record::SessionId, cause: record::RecordId) -> console::Ending<'_> {
        Box::pin(async move {
            match self.0.upgrade() {
                Some(gateway) => gateway.end_session(session, cause).await,
                None => Err("the gateway is stopping".to_owned()),
            }
        })
    }

    fn test_connection<'a>(&'a self, name: &'a str) -> console::Tested<'a> {
        Box::pin(async move { crate::connection_test::test(&*self.0.upgrade()?, name).await })
    }

    fn look_at_tables<'a>(&'a self, connection: &'a str, tables: &'a [String]) -> console::Tested<'a> {
        Box::pin(async move {
            let seen = self.0.upgrade()?.look_at_tables(connection, tables).await?;
            let seen = seen.into_iter().map(|table| match table.columns {
                Ok(columns) => json!({"table": table.name, "columns": columns}),
                Err(why) => json!({"table": table.name, "why": why}),
            });
            Some(json!({"connection": connection, "tables": seen.collect::<Vec<_>>()}))
        })
    }

    fn approvals<'a>(
        &'a self,
        which: console::Which,
        reader: &'a record::Actor,
        reads_all: bool,
    ) -> console::Later<'a, Vec<serde_json::Value>> {
        Box::pin(async move {
            let Some(gateway) = self.0.upgrade() else { return Vec::new() };
            let which = match which {
                console::Which::One(id) => gateway::Which::One(id),
                console::Which::Pending => gateway::Which::Pending,
                console::Which::All => gateway::Which::All,
            };
            gateway.held_requests(which, &reader.into(), reads_all).await
        })
    }

    fn answer(
        &self,
        id: record::RecordId,
        actor: record::Actor,
        answer: console::Answer,
    ) -> console::Later<'_, console::Answered> {
        Box::pin(async move {
            let gateway = self.0.upgrade();
            let stopping = || (StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping".to_owned());
            let gateway = gateway.ok_or_else(stopping)?;
            // An answer is taken to its end, also if whoever gave it is gone.
            let answering =
                tokio::spawn(async move { crate::answering::answer(&gateway, id, actor, answer).await });
            answering.await.map_err(|_| stopping())?
        })
    }
}

impl Running {
    /// Serves until `stop` resolves, then drains and closes everything.
    pub(crate) async fn until(self, stop: impl Future<Output = ()>) -> Result<(), Failure> {
        let mut background = tokio::task::JoinSet::new();
        background.spawn(every_second(
            self.gateway.clone(),
            self.rooms.api.clone(),
            self.rooms.state.clone(),
        ));
        background.spawn(self.gateway.clone().follow_jobs());
        background.spawn(tend_held(self.gateway.clone()));
        let rooms = Arc::new(self.rooms);
        if let Some(args) = self.reloads {
            let (gateway, rooms) = (self.gateway.clone(), rooms.clone());
            background.spawn(Reloader { args, gateway, rooms, tls: self.tls, fixed: self.fixed }.run());
        }
        let drained = serve(self.listener, self.routes.clone(), stop).await;
        background.shutdown().await;
        self.control.close().await;
        self.gateway.tick();
        drop((self.routes, self.gateway));
        let Some(Rooms { ledger, api, .. }) = Arc::into_inner(rooms) else {
            return Err(Failure::other_side(
                "the data folder is still in use; its records are closed at the next start",
            ));
        };
        drop(api);
        // The last holder writes what is queued and ends the journal's threads.
        let closed = tokio::task::spawn_blocking(move || match Arc::try_unwrap(ledger) {
            Ok(ledger) => {
                ledger.stop();
                true
            }
            Err(_) => false,
        });
        match (drained, closed.await) {
            (true, Ok(_)) => Ok(()),
            _ => Err(Failure::other_side(
                "some exchanges did not end in time; their records are closed as interrupted at the next start",
            )),
        }
    }
}

/// What waits for a human expires, and what was allowed is sent.
async fn tend_held(gateway: Arc<Gateway<bigquery::BigQuery>>) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        gateway.clone().tend_held().await;
    }
}

async fn every_second(
    gateway: Arc<Gateway<bigquery::BigQuery>>,
    api: Arc<console::Api>,
    state: Arc<state::State>,
) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let mut since_retention = RETENTION_EVERY;
    loop {
        seconds.tick().await;
        gateway.tick();
        since_retention += Duration::from_secs(1);
        if since_retention >= RETENTION_EVERY {
            since_retention = Duration::ZERO;
            let (api, state) = (api.clone(), state.clone());
            let desk = gateway.desk();
            let run = move || {
                if let Err(error) = desk.forget(api.clock.now()) {
                    tracing::error!(%error, "old approvals can't be forgotten");
                }
                if let Err(error) = state.expire_uploads(api.clock.now()) {
                    tracing::error!(%error, "expired uploads can't be forgotten");
                }
                if let Err(error) = state.expire_spent(api.clock.now()) {
                    tracing::error!(%error, "what was billed on earlier days can't be forgotten");
                }
                if let Err(error) = state.expire_owned(api.clock.now().plus_secs(-OWNED_SECS)) {
                    tracing::error!(%error, "old jobs can't be forgotten");
                }
                api.ledger.retention_run(&api.settings().retention, ledger::Ledger::gateway_actor())
            };
            if let Ok(Err(error)) = tokio::task::spawn_blocking(run).await {
                tracing::error!(%error, "retention failed");
            }
        }
    }
}

/// What speaks TLS with the configured certificate.
pub(crate) fn acceptor(loaded: &Loaded, tls: &Tls) -> Result<TlsAcceptor, Failure> {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let path = loaded.resolve(&tls.cert);
    let wrong = |what: String| Failure::usage(format!("{}: [server.tls]: {what}", loaded.path.display()));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&path)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(format!("can't read certificates from {}: {error}", path.display())))?;
    let key = read_secret(loaded, &tls.key)?;
    let key = PrivateKeyDer::from_pem_slice(key.reveal())
        .map_err(|_| wrong("the key is no private key in PEM".to_owned()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| wrong(error.to_string()))?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

/// Lets a test of a debug build name the place where this process dies: `HANSARD_FAILPOINT=name:count`.
fn arm_failpoint() {
    #[cfg(debug_assertions)]
    if let Some(text) = crate::wiring::env_var("HANSARD_FAILPOINT") {
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        ledger::arm_failpoint(name, count.parse().unwrap_or(1));
    }
}

/// No core dump, no ptrace by others of the same user: key material stays in this process.
fn harden() {
    let limit = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let core = rustix::process::setrlimit(rustix::process::Resource::Core, limit);
    let dumpable = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    // One connection is one descriptor.
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let files = rustix::process::Rlimit { current: files.maximum, maximum: files.maximum };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, files);
    if core.is_err() || dumpable.is_err() {
        say("this process could not be made non-dumpable");
    }
}

/// Tells whoever started it. A standard error that can't be written is no reason to stop.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "hansard: {text}");
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HANSARD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // A log that can't be written must not end a thread: what reports it would panic.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = log.log_internal_errors(false).try_init();
}

/// Whether a folder's own process answers.
pub(crate) fn control_socket(data: &Path) -> std::path::PathBuf {
    ledger::Layout::new(data).control_socket()
}
