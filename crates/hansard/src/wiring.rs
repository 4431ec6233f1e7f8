//! From a configuration to running rooms.

use approvals::Desk;
use console::{Api, ApiSettings};
use gateway::{Announcer, ConnectionRules, Gateway, GatewayConfig, Metrics, Rulebook, Standings};
use http::Uri;
use identity::{EndedSessions, Identity, IdentityConfig, Logins, OidcConfig, OidcProvider, VirtualKeys};
use ledger::{Durability, Layout, Ledger, LedgerConfig, LedgerError, Recording, Retention};
use outbound::Fetcher;
use policy::{Expression, Facts};
use record::{Clock, Principal, PrincipalKind, Retained, SystemClock};
use registry::{
    AdcSources, Connection, ConnectionName, Credential, IAM_CREDENTIALS, Impersonation, Registry, Secret,
    TokenKey, Vault,
};
use serde_json::json;
use state::{Owners, State};
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::Spanned;

use crate::cli::Failure;
use crate::config::{
    ConfigError, Credentials, Loaded, OnMismatch, RecordingMode, Results, SecretRef, Uploads, bytes,
    duration_secs,
};

/// What a configuration says, checked.
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) public_url: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) recording: Recording,
    pub(crate) retention: Retention,
    pub(crate) policy: String,
    durability: Durability,
    disk_floor: Option<u64>,
    auditor: Option<Expression>,
    admin: Option<Expression>,
    agents: Option<Expression>,
    allows: Vec<Expression>,
    rules: policy::Policy,
    loaded: Loaded,
}

/// What can't change while the gateway runs.
#[derive(PartialEq, Eq)]
pub(crate) struct Fixed {
    listen: SocketAddr,
    public_url: String,
    data_dir: PathBuf,
    has_tls: bool,
    durability: Durability,
    disk_floor: Option<u64>,
    evidence_key: Option<SecretRef>,
}

/// A connection as rules see it.
pub(crate) struct TrialConnection {
    pub(crate) name: String,
    pub(crate) projects: Vec<String>,
    pub(crate) allow_egress: Vec<String>,
    pub(crate) reads_history: bool,
}

/// The rooms of a data folder.
pub(crate) struct Rooms {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) state: Arc<State>,
    pub(crate) keys: Arc<VirtualKeys>,
    ended: Arc<EndedSessions>,
    logins: Arc<Logins>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) api: Arc<Api>,
    vault: Arc<Vault>,
}

impl Settings {
    /// Checks everything that can be checked without touching data or network.
    pub(crate) fn check(loaded: Loaded, data: Option<&Path>) -> Result<Self, ConfigError> {
        loaded.check_enforced()?;
        let config = &loaded.config;
        let listen_text = config.server.listen.get_ref();
        let listen: SocketAddr = listen_text.parse().map_err(|_| {
            loaded.error_at(
                &config.server.listen.span(),
                format!("listen = \"{listen_text}\" is no address and port, such as \"127.0.0.1:8484\""),
            )
        })?;
        if !listen.ip().is_loopback() && config.server.tls.is_none() && !config.server.insecure_listen {
            return Err(loaded.error_at(
                &config.server.listen.span(),
                "listen is not on loopback and there is no [server.tls]; add a certificate, or insecure_listen = true behind a TLS terminator",
            ));
        }
        let public_url = public_url(&loaded, listen)?;
        if config.connection.is_empty() {
            return Err(loaded.error("there is no [[connection]]; at least one is required"));
        }
        check_names(&loaded)?;
        for connection in &config.connection {
            impersonation(&loaded, connection)?;
        }
        check_issuers(&loaded)?;
        crate::webhooks::check(&loaded)?;
        let (rules, included) = crate::config::policy(&loaded)?;
        let kept = &config.recording.retention;
        let secs = |text: &Spanned<String>| {
            duration_secs(text.get_ref()).map(Some).map_err(|why| loaded.error_at(&text.span(), why))
        };
        Ok(Self {
            listen,
            public_url,
            data_dir: data.map_or_else(|| loaded.resolve(&config.server.data_dir), Path::to_owned),
            recording: Recording {
                results: match config.recording.results {
                    Results::Rows => Retained::Rows,
                    Results::Hash => Retained::Hash,
                    Results::None => Retained::None,
                },
                uploads: match config.recording.uploads {
                    Uploads::Bytes => Retained::Rows,
                    Uploads::Hash => Retained::Hash,
                    Uploads::None => Retained::None,
                },
                is_excluded: false,
            },
            retention: Retention {
                rows: secs(&kept.rows)?,
                statements: secs(&kept.statements)?,
                records: secs(&kept.records)?,
            },
            durability: match config.recording.mode {
                RecordingMode::Strict => Durability::Strict,
                RecordingMode::Spool => Durability::Spool,
            },
            disk_floor: match &config.recording.disk_floor {
                None => None,
                Some(floor) => {
                    Some(bytes(floor.get_ref()).map_err(|why| loaded.error_at(&floor.span(), why))?)
                }
            },
            auditor: expression(&loaded, config.roles.auditor.as_ref())?,
            admin: expression(&loaded, config.roles.admin.as_ref())?,
            policy: policy_hash(&loaded, &included),
            rules,
            agents: expression(&loaded, config.identity.agents.as_ref())?,
            allows: config
                .connection
                .iter()
                .map(|connection| {
                    expression(&loaded, Some(&connection.allow)).map(|allow| allow.expect("given"))
                })
                .collect::<Result<_, _>>()?,
            loaded,
        })
    }

    /// The file it came from.
    pub(crate) fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// What may run, and on what terms.
    pub(crate) fn rules(&self) -> &policy::Policy {
        &self.rules
    }

    /// The connection that somebody would use, by its name or the only one that they may; and what they are on it.
    pub(crate) fn trial_connection(
        &self,
        name: Option<&str>,
        principal: &mut Principal,
    ) -> Result<TrialConnection, Failure> {
        let facts = Facts::about(principal);
        if self.agents.as_ref().is_some_and(|agents| agents.holds(&facts).unwrap_or(true)) {
            principal.kind = PrincipalKind::Agent;
        }
        let facts = Facts::about(principal);
        let all = self.loaded.config.connection.iter().zip(&self.allows);
        let allowed: Vec<_> = all
            .filter(|(connection, allow)| {
                let facts = facts.clone().on(connection.name.get_ref(), &connection.projects);
                allow.holds(&facts).unwrap_or(false)
            })
            .map(|(connection, _)| connection)
            .collect();
        let named =
            allowed.iter().filter(|connection| name.is_none_or(|name| connection.name.get_ref() == name));
        let found: Vec<_> = named.collect();
        let names = || allowed.iter().map(|one| one.name.get_ref().as_str()).collect::<Vec<_>>().join(", ");
        match found[..] {
            [connection] => Ok(TrialConnection {
                name: connection.name.get_ref().clone(),
                projects: connection.projects.clone(),
                allow_egress: connection.allow_egress.get_ref().clone(),
                reads_history: connection.shared_history
                    || self.auditor.as_ref().is_some_and(|role| role.holds(&facts).unwrap_or(false)),
            }),
            [] => Err(Failure::no(format!(
                "refused before any rule is asked: no such connection allows {}; allowed: {}",
                principal.id,
                names()
            ))),
            _ => Err(Failure::usage(format!("name one with --connection: {}", names()))),
        }
    }

    /// What a running gateway can't take over from another version.
    pub(crate) fn fixed(&self) -> Fixed {
        let config = &self.loaded.config;
        Fixed {
            listen: self.listen,
            public_url: self.public_url.clone(),
            data_dir: self.data_dir.clone(),
            has_tls: config.server.tls.is_some(),
            durability: self.durability,
            disk_floor: self.disk_floor,
            evidence_key: config.evidence.key.clone(),
        }
    }

    /// What the API needs.
    pub(crate) fn api(&self) -> ApiSettings {
        ApiSettings {
            retention: self.retention,
            public_url: self.public_url.clone(),
            connections: self.connections_shown(),
        }
    }

    /// Connections as they may be shown.
    pub(crate) fn connections_shown(&self) -> Vec<serde_json::Value> {
        let shown = self.loaded.config.connection.iter().map(|connection| {
            let credentials = match connection.credentials.get_ref() {
                Credentials::File(path) => format!("file {}", path.display()),
                Credentials::Env(name) => format!("environment variable {name}"),
                Credentials::Adc(_) => "application-default credentials".to_owned(),
            };
            json!({
                "name": connection.name.get_ref(), "projects": connection.projects,
                "upstream": connection.upstream.get_ref(), "credentials": credentials,
                "allow": connection.allow.get_ref(), "label_jobs": connection.label_jobs,
                "shared_history": connection.shared_history,
            })
        });
        shown.collect()
    }

    /// The evidence key. Where none is named, one is made beside the data folder, once.
    pub(crate) fn vault(&self) -> Result<Arc<Vault>, Failure> {
        let text = match &self.loaded.config.evidence.key {
            Some(secret) => read_secret(&self.loaded, secret)?,
            None => {
                let name = self
                    .data_dir
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned())
                    .unwrap_or_default();
                own_key(&self.data_dir.with_file_name(format!("{name}.key")))?
            }
        };
        Vault::from_text(&text)
            .map(Arc::new)
            .map_err(|error| Failure::usage(format!("{error}. Its file was cut or is another file.")))
    }

    /// Opens the data folder and everything in it.
    pub(crate) fn open(&self) -> Result<Rooms, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let layout = Layout::new(&self.data_dir);
        layout.create().map_err(|error| {
            Failure::other_side(format!(
                "can't make the data folder {}: {error}. Check the disk and its rights.",
                self.data_dir.display()
            ))
        })?;
        let vault = self.vault()?;
        let ledger = Ledger::open(LedgerConfig {
            layout: layout.clone(),
            vault: vault.clone(),
            clock: clock.clone(),
            durability: self.durability,
            disk_floor: self.disk_floor,
            unpacking: Arc::new(bigquery::RowColumns),
        })
        .map_err(|error| ledger_failure(&error))?;
        let state = State::open(&layout.state()).map_err(|error| Failure::other_side(error.to_string()))?;
        let state = Arc::new(state);
        let keys =
            VirtualKeys::load(state.clone()).map_err(|error| Failure::other_side(error.to_string()))?;
        let ended = EndedSessions::load(state.clone(), clock.now())
            .map_err(|error| Failure::other_side(error.to_string()))?;
        let logins = Logins::load(state.clone(), clock.now())
            .map_err(|error| Failure::other_side(error.to_string()))?;
        let logins = Arc::new(logins);
        let (ledger, keys, ended) = (Arc::new(ledger), Arc::new(keys), Arc::new(ended));
        let api = Api::new(ledger.clone(), keys.clone(), ended.clone(), clock.clone(), self.api(), row_text);
        let rooms = Rooms { ledger, state, keys, ended, logins, clock, api: Arc::new(api), vault };
        self.token_key(&rooms)?;
        Ok(rooms)
    }

    /// The key of the gateway's own tokens; that it opens proves the evidence key.
    fn token_key(&self, rooms: &Rooms) -> Result<TokenKey, Failure> {
        let wrapped = rooms
            .state
            .meta_or("token_key", || rooms.vault.new_token_key())
            .map_err(|error| Failure::other_side(error.to_string()))?;
        rooms.vault.token_key(&wrapped).map_err(|_| {
            Failure::usage("the evidence key is not the one this data folder was made with; name the right one under [evidence]")
        })
    }

    fn identity(&self, rooms: &Rooms) -> Result<Identity, Failure> {
        let other = |error: String| Failure::other_side(error);
        let token_key = self.token_key(rooms)?;
        let fetcher = Fetcher::new().map_err(|error| other(error.to_string()))?;
        let mut providers = Vec::new();
        for oidc in &self.loaded.config.identity.oidc {
            let audiences =
                if oidc.audiences.is_empty() { vec![oidc.client_id.clone()] } else { oidc.audiences.clone() };
            let config = OidcConfig {
                name: oidc.name.clone(),
                issuer: oidc.issuer.get_ref().clone(),
                client_id: oidc.client_id.clone(),
                client_secret: oidc
                    .client_secret
                    .as_ref()
                    .map(|secret| read_secret(&self.loaded, secret))
                    .transpose()?,
                audiences,
                groups_claim: oidc.groups_claim.clone(),
            };
            providers.push(OidcProvider::new(config, fetcher.clone()));
        }
        let config = IdentityConfig {
            public_url: self.public_url.clone(),
            providers,
            token_key,
            keys: rooms.keys.clone(),
            ended: rooms.ended.clone(),
            logins: rooms.logins.clone(),
            clock: rooms.clock.clone(),
        };
        Ok(Identity::new(config))
    }

    /// Reads the credentials, and says what rules.
    pub(crate) fn rulebook(self, rooms: &Rooms) -> Result<Rulebook, Failure> {
        Ok(Rulebook {
            identity: Arc::new(self.identity(rooms)?),
            registry: Arc::new(self.registry(rooms.clock.clone())?),
            recording: self.recording,
            connections: self
                .allows
                .into_iter()
                .zip(&self.loaded.config.connection)
                .map(|(allow, connection)| ConnectionRules {
                    allow,
                    allow_egress: connection.allow_egress.get_ref().clone(),
                })
                .collect(),
            rules: self.rules,
            agents: self.agents,
            auditor: self.auditor,
            admin: self.admin,
            stops_mismatches: self.loaded.config.policy.on_mismatch == OnMismatch::Stop,
            webhooks: Arc::new(crate::webhooks::webhooks(&self.loaded)?),
            policy: self.policy,
            standings: Standings::default(),
        })
    }

    /// Assembles the gateway.
    pub(crate) fn gateway(
        self,
        rooms: &Rooms,
        metrics: Arc<Metrics>,
    ) -> Result<Gateway<bigquery::BigQuery>, Failure> {
        let public_url: Uri = self.public_url.parse().expect("checked with the settings");
        let discovery = self.loaded.config.server.discovery.as_ref().map(|path| self.loaded.resolve(path));
        let (state, clock) = (rooms.state.clone(), rooms.clock.clone());
        let owners = Arc::new(Owners::start(state.clone()));
        let reader = Arc::new(crate::sql::reader());
        let upstream = bigquery::BigQuery::new(
            state.clone(),
            owners.clone(),
            clock.clone(),
            public_url,
            discovery,
            reader,
        )
        .map_err(|error| Failure::other_side(error.to_string()))?;
        let desk = Arc::new(desk(rooms)?);
        let fetcher = Fetcher::new().map_err(|error| Failure::other_side(error.to_string()))?;
        let announcer = Announcer::new(fetcher, self.public_url.clone());
        let (ledger, rulebook) = (rooms.ledger.clone(), self.rulebook(rooms)?);
        Ok(Gateway::new(GatewayConfig {
            ledger,
            state,
            owners,
            desk,
            announcer,
            upstream,
            clock,
            metrics,
            rulebook,
        }))
    }

    fn registry(&self, clock: Arc<dyn Clock>) -> Result<Registry, Failure> {
        let fetcher = Fetcher::new().map_err(|error| Failure::other_side(error.to_string()))?;
        let mut connections = Vec::new();
        for connection in &self.loaded.config.connection {
            let span = connection.credentials.span();
            let credential = match connection.credentials.get_ref() {
                Credentials::Adc(_) => Credential::adc(&adc_sources(), fetcher.clone(), clock.clone()),
                Credentials::File(path) => {
                    let file = read_secret(&self.loaded, &SecretRef::File(path.clone()))?;
                    Credential::service_account(&file, fetcher.clone(), clock.clone())
                }
                Credentials::Env(name) => {
                    let file = read_secret(&self.loaded, &SecretRef::Env(name.clone()))?;
                    Credential::service_account(&file, fetcher.clone(), clock.clone())
                }
            };
            let credential = credential.map_err(|error| self.loaded.error_at(&span, error.to_string()))?;
            connections.push(Connection {
                name: ConnectionName::parse(connection.name.get_ref()).expect("checked with the settings"),
                projects: connection.projects.clone(),
                upstream: connection.upstream.get_ref().parse().expect("checked with the settings"),
                upstream_storage: storage_uri(&self.loaded, connection)?,
                upstream_apis: apis_address(&self.loaded, connection)?,
                apis: connection.apis.get_ref().clone(),
                label_jobs: connection.label_jobs,
                shared_history: connection.shared_history,
                credential,
                resource_manager: connection
                    .resource_manager
                    .clone()
                    .unwrap_or_else(|| "https://cloudresourcemanager.googleapis.com".to_owned()),
                impersonation: impersonation(&self.loaded, connection)?,
            });
        }
        Ok(Registry { connections })
    }
}

/// What records call this version: a hash over the file and those that it includes.
fn policy_hash(loaded: &Loaded, included: &[String]) -> String {
    match included {
        [] => loaded.hash.clone(),
        texts => {
            let whole = format!("{}\0{}", loaded.hash, texts.join("\0"));
            format!("sha256:{}", ledger::sha256(whole.as_bytes()))
        }
    }
}

pub(crate) fn ledger_failure(error: &LedgerError) -> Failure {
    match error {
        LedgerError::Lock(lock) => {
            Failure::other_side(format!("{lock}. Stop that process, or use another data folder."))
        }
        LedgerError::Io { .. } => {
            Failure::other_side(format!("{error}. Check the disk and the rights of the data folder."))
        }
        other => Failure::other_side(other.to_string()),
    }
}

fn public_url(loaded: &Loaded, listen: SocketAddr) -> Result<String, ConfigError> {
    let Some(given) = &loaded.config.server.public_url else {
        let scheme = if loaded.config.server.tls.is_some() { "https" } else { "http" };
        return Ok(format!("{scheme}://{listen}"));
    };
    let text = given.get_ref().trim_end_matches('/');
    let parsed: Result<Uri, _> = text.parse();
    let fits = parsed.as_ref().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some()
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
    });
    if !fits {
        return Err(loaded.error_at(
            &given.span(),
            format!("public_url = \"{text}\" is no root URL, such as \"https://hansard.example.com\""),
        ));
    }
    Ok(text.to_owned())
}

/// How a kept body becomes rows, for whoever shows it.
fn row_text(method: &str, schema: Option<&serde_json::Value>) -> Option<Box<dyn console::RowText>> {
    struct Rows(bigquery::rows::RowReader);
    impl console::RowText for Rows {
        fn part(&mut self, bytes: &[u8]) -> Vec<u8> {
            self.0.part(bytes)
        }
        fn end(&mut self) -> Vec<u8> {
            self.0.end()
        }
    }
    let rows = bigquery::rows::reader(method, schema)?;
    Some(Box::new(Rows(rows)))
}

/// Where a connection's Storage API is: Google's, unless the connection has another upstream and names none.
fn storage_uri(loaded: &Loaded, connection: &crate::config::Connection) -> Result<Uri, ConfigError> {
    let Some(given) = &connection.upstream_storage else {
        let storage = connection.upstream.get_ref().replace("bigquery.", "bigquerystorage.");
        return Ok(storage.parse().expect("as good as the upstream"));
    };
    let uri: Result<Uri, _> = given.get_ref().parse();
    uri.ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https"))).ok_or_else(|| {
        loaded.error_at(
            &given.span(),
            format!(
                "upstream_storage = \"{}\" is no address, such as \"https://bigquerystorage.googleapis.com\"",
                given.get_ref()
            ),
        )
    })
}

/// Where a connection's other APIs are. Their names are checked too.
fn apis_address(loaded: &Loaded, connection: &crate::config::Connection) -> Result<String, ConfigError> {
    if let Some(unknown) =
        connection.apis.get_ref().iter().find(|api| !registry::SISTERS.contains(&api.as_str()))
    {
        let known = registry::SISTERS.join(", ");
        let why = format!("apis names '{unknown}', which hansard does not carry; known: {known}");
        return Err(loaded.error_at(&connection.apis.span(), why));
    }
    let given = connection.upstream_apis.get_ref();
    let uri: Result<Uri, _> = given.replace("{api}", "api").parse();
    match uri.is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none()) {
        true => Ok(given.clone()),
        false => Err(loaded.error_at(
            &connection.upstream_apis.span(),
            format!("upstream_apis = \"{given}\" is no address, such as \"https://{{api}}.googleapis.com\""),
        )),
    }
}

fn check_names(loaded: &Loaded) -> Result<(), ConfigError> {
    let mut seen: Vec<&str> = Vec::new();
    for connection in &loaded.config.connection {
        let span = connection.name.span();
        ConnectionName::parse(connection.name.get_ref())
            .map_err(|error| loaded.error_at(&span, error.to_string()))?;
        if seen.contains(&connection.name.get_ref().as_str()) {
            return Err(
                loaded.error_at(&span, format!("connection '{}' stands twice", connection.name.get_ref()))
            );
        }
        seen.push(connection.name.get_ref());
        if connection.projects.is_empty() {
            return Err(loaded.error_at(
                &span,
                format!(
                    "connection '{}' has no projects, so nothing could use it",
                    connection.name.get_ref()
                ),
            ));
        }
        let upstream: Result<Uri, _> = connection.upstream.get_ref().parse();
        let fits = upstream
            .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some());
        if !fits {
            return Err(loaded.error_at(
                &connection.upstream.span(),
                format!("upstream = \"{}\" is no URL", connection.upstream.get_ref()),
            ));
        }
        if matches!(connection.credentials.get_ref(), Credentials::Adc(false)) {
            return Err(loaded.error_at(
                &connection.credentials.span(),
                "credentials = { adc = false } names no credential",
            ));
        }
    }
    Ok(())
}

fn check_issuers(loaded: &Loaded) -> Result<(), ConfigError> {
    for oidc in &loaded.config.identity.oidc {
        let issuer = oidc.issuer.get_ref();
        let uri: Option<Uri> = issuer.parse().ok();
        let fits = uri.is_some_and(|uri| match uri.scheme_str() {
            Some("https") => uri.host().is_some(),
            Some("http") => uri.host().is_some_and(is_loopback),
            _ => false,
        });
        if !fits {
            return Err(loaded.error_at(
                &oidc.issuer.span(),
                format!("issuer = \"{issuer}\" is no https URL (http is allowed on loopback only)"),
            ));
        }
    }
    Ok(())
}

fn impersonation(
    loaded: &Loaded,
    connection: &crate::config::Connection,
) -> Result<Option<Impersonation>, ConfigError> {
    let Some(template) = &connection.impersonate else { return Ok(None) };
    let endpoint = connection.iam_credentials.as_deref().unwrap_or(IAM_CREDENTIALS);
    Impersonation::parse(template.get_ref(), endpoint)
        .map(Some)
        .map_err(|why| loaded.error_at(&template.span(), format!("impersonate: {why}")))
}

/// What waits for a human, and the key that it lies sealed with.
fn desk(rooms: &Rooms) -> Result<Desk, Failure> {
    let other = |error: String| Failure::other_side(error);
    let wrapped = rooms
        .state
        .meta_or("held_key", || rooms.vault.new_data_key(approvals::KEY_CONTEXT).1)
        .map_err(|error| other(error.to_string()))?;
    let key = rooms
        .vault
        .data_key(approvals::KEY_CONTEXT, &wrapped)
        .map_err(|error| other(format!("the key of what is held can't be unwrapped: {error}")))?;
    Desk::load(rooms.state.clone(), key).map_err(|error| other(error.to_string()))
}

pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn expression(loaded: &Loaded, text: Option<&Spanned<String>>) -> Result<Option<Expression>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    let compiled = Expression::compile(text.get_ref());
    compiled
        .map(Some)
        .map_err(|error| loaded.error_at(&text.span(), format!("the expression can't be used: {error}")))
}

/// Reads a secret from where it stands.
pub(crate) fn read_secret(loaded: &Loaded, secret: &SecretRef) -> Result<Secret, Failure> {
    match secret {
        SecretRef::File(path) => {
            let path = loaded.resolve(path);
            let bytes = fs::read(&path).map_err(|error| {
                Failure::usage(format!(
                    "{}: can't read the secret file {}: {error}",
                    loaded.path.display(),
                    path.display()
                ))
            })?;
            Ok(Secret::new(bytes))
        }
        SecretRef::Env(name) => {
            let value = env_var(name).ok_or_else(|| {
                Failure::usage(format!(
                    "{}: the environment variable {name} is not set",
                    loaded.path.display()
                ))
            })?;
            Ok(Secret::new(value.into_bytes()))
        }
    }
}

/// The one place that reads an environment variable.
#[expect(clippy::disallowed_methods, reason = "the binary's one place that reads the environment")]
pub(crate) fn env_var(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn own_key(path: &Path) -> Result<Secret, Failure> {
    if let Ok(bytes) = fs::read(path) {
        return Ok(Secret::new(bytes));
    }
    let text = Vault::new_key_text();
    write_private(path, text.reveal()).map_err(|error| {
        Failure::other_side(format!("can't write the evidence key {}: {error}", path.display()))
    })?;
    eprintln!(
        "hansard: no [evidence] key is configured: made {}. Back it up apart from the data: without it, statements and rows can't be read.",
        path.display()
    );
    Ok(text)
}

/// A new file that its owner alone can read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn adc_sources() -> AdcSources {
    let config = env_var("CLOUDSDK_CONFIG")
        .map(PathBuf::from)
        .or_else(|| env_var("HOME").map(|home| Path::new(&home).join(".config/gcloud")));
    AdcSources {
        file: env_var("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from),
        well_known: config.map(|folder| folder.join("application_default_credentials.json")),
        metadata_host: env_var("GCE_METADATA_HOST").unwrap_or_else(|| "169.254.169.254".to_owned()),
    }
}
