//! Every key of `hansard.toml`. The doc comments are `docs/configuration.md`.

use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;
use toml::Spanned;

/// The whole file. Paths are relative to the folder it stands in. Secrets never stand in it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    pub server: Server,
    #[serde(default)]
    pub store: Store,
    #[serde(default)]
    pub evidence: Evidence,
    #[serde(default)]
    pub recording: Recording,
    #[serde(default)]
    pub identity: Identity,
    #[serde(default)]
    pub roles: Roles,
    /// Registered upstreams. At least one is required.
    #[serde(default)]
    pub connection: Vec<Connection>,
    #[serde(default)]
    pub policy: PolicySection,
    #[serde(default)]
    pub approvals: Approvals,
    /// Rules over what may run and how it is recorded.
    #[serde(default)]
    #[schemars(with = "Vec<Rule>")]
    pub rule: Vec<Spanned<Rule>>,
}

/// Where the gateway listens, and where its data lies.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Address and port of everything: REST, sign-in, console, API.
    #[schemars(with = "String")]
    pub listen: Spanned<String>,
    /// How clients reach the gateway. Default: `http://` and the listening address.
    #[schemars(with = "Option<String>")]
    pub public_url: Option<Spanned<String>>,
    /// State, journal, evidence and index. Default: `hansard-data`.
    pub data_dir: PathBuf,
    /// Allows plain HTTP on an address that is not loopback, for a gateway behind a TLS terminator.
    pub insecure_listen: bool,
    /// A discovery document to serve, for gateways that can't fetch the upstream's.
    pub discovery: Option<PathBuf>,
    /// TLS on the port. Absent: plain HTTP, on loopback only.
    pub tls: Option<Tls>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: Spanned::new(0..0, "127.0.0.1:8484".to_owned()),
            public_url: None,
            data_dir: "hansard-data".into(),
            insecure_listen: false,
            discovery: None,
            tls: None,
        }
    }
}

/// A certificate and its key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate chain in PEM.
    pub cert: PathBuf,
    /// Its private key in PEM.
    pub key: SecretRef,
}

/// Where state and index lie.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// `sqlite`, inside `data_dir`. A shared store comes later.
    #[schemars(with = "String")]
    pub url: Spanned<String>,
}

impl Default for Store {
    fn default() -> Self {
        Self { url: Spanned::new(0..0, "sqlite".to_owned()) }
    }
}

/// Sealed blobs: statements, rows, uploads.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Evidence {
    /// `local`, inside `data_dir`. Object stores come later.
    #[schemars(with = "String")]
    pub url: Spanned<String>,
    /// Wraps the per-session keys. Absent: made at the first start as `<data_dir>.key`, with a warning.
    pub key: Option<SecretRef>,
}

impl Default for Evidence {
    fn default() -> Self {
        Self { url: Spanned::new(0..0, "local".to_owned()), key: None }
    }
}

/// A secret that stands elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum SecretRef {
    /// The name of an environment variable.
    Env(String),
    /// A file's path.
    File(PathBuf),
}

/// How much is recorded, and for how long.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Recording {
    /// `strict`: no record, no query; no record, no result. `spool`: records are written and not waited for; a
    /// power failure may cost at most 1 s or 64 MiB of them, which a gap record says.
    pub mode: RecordingMode,
    /// While less of the disk is free, what is open is closed and nothing new is admitted. Default: 256 MiB, or a
    /// twentieth of a smaller disk.
    #[schemars(with = "Option<String>")]
    pub disk_floor: Option<Spanned<String>>,
    /// What is kept of results: `rows` (every byte as delivered), `hash` (count and hash), `none` (count).
    pub results: Results,
    /// What is kept of uploads: `bytes`, `hash` or `none`.
    pub uploads: Uploads,
    pub retention: Retention,
}

impl Default for Recording {
    fn default() -> Self {
        Self {
            mode: RecordingMode::Strict,
            disk_floor: None,
            results: Results::Rows,
            uploads: Uploads::Hash,
            retention: Retention::default(),
        }
    }
}

/// What happens when the disk is slow or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordingMode {
    Strict,
    Spool,
}

/// What is kept of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Results {
    Rows,
    Hash,
    None,
}

/// What is kept of uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Uploads {
    Bytes,
    Hash,
    None,
}

/// How long each class is kept: a number and `s`, `m`, `h`, `d` or `y`; whole UTC days are dropped, of records whole segments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Result rows and uploaded bytes, and the SHA-256 of either, also where only hashes are kept.
    #[schemars(with = "String")]
    pub rows: Spanned<String>,
    /// Statements, parameters, error texts, request bodies.
    #[schemars(with = "String")]
    pub statements: Spanned<String>,
    /// Everything else of a record.
    #[schemars(with = "String")]
    pub records: Spanned<String>,
}

impl Default for Retention {
    fn default() -> Self {
        let kept = |text: &str| Spanned::new(0..0, text.to_owned());
        Self { rows: kept("30d"), statements: kept("400d"), records: kept("7y") }
    }
}

/// Who may ask. At least one provider, or virtual keys (`hansard key issue`).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// CEL: who counts as an agent, besides those whose credential says so.
    #[schemars(with = "Option<String>")]
    pub agents: Option<Spanned<String>>,
    /// OpenID Connect providers.
    pub oidc: Vec<Oidc>,
    /// SAML 2.0 providers. They come later.
    #[schemars(with = "Vec<Saml>")]
    pub saml: Vec<Spanned<Saml>>,
}

/// One OpenID Connect provider.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// What records call it.
    pub name: String,
    /// The issuer, compared as a string with a token's `iss`. `http://` only on loopback.
    #[schemars(with = "String")]
    pub issuer: Spanned<String>,
    /// This gateway's client id at the provider.
    pub client_id: String,
    /// Absent: a public client.
    pub client_secret: Option<SecretRef>,
    /// Audiences that a token may be for; one must match. Default: the client id.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// The claim that lists groups.
    #[serde(default = "groups")]
    pub groups_claim: String,
}

fn groups() -> String {
    "groups".to_owned()
}

/// One SAML provider.
#[expect(dead_code, reason = "parsed so that a file for a newer build is refused by line, not read")]
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Saml {
    /// What records call it.
    pub name: String,
    /// Its metadata.
    pub metadata: PathBuf,
    /// The attribute that lists groups.
    #[serde(default = "groups")]
    pub groups_attribute: String,
}

/// CEL: who may read records and who may change things, over HTTP. Absent: nobody.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Roles {
    /// Reads records.
    #[schemars(with = "Option<String>")]
    pub auditor: Option<Spanned<String>>,
    /// Issues and revokes keys, runs retention; also reads.
    #[schemars(with = "Option<String>")]
    pub admin: Option<Spanned<String>>,
}

/// One registered upstream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// 1 to 63 lower-case letters, digits and hyphens.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// Billing projects that mean this connection.
    pub projects: Vec<String>,
    /// Google's credential behind it.
    #[schemars(with = "Credentials")]
    pub credentials: Spanned<Credentials>,
    /// The service account that a principal acts as, such as `agent-{principal.name}@proj.iam.gserviceaccount.com`, so
    /// that Google's own audit log names the person. Fields: id, email (before the at sign), name, agent, kind.
    #[schemars(with = "Option<String>")]
    pub impersonate: Option<Spanned<String>>,
    /// Where `connection test` asks what the credential may do. Default: Google's Resource Manager API.
    pub resource_manager: Option<String>,
    /// Where tokens of impersonated accounts are made. Default: Google's IAM Credentials API.
    pub iam_credentials: Option<String>,
    /// Where BigQuery's REST API is.
    #[serde(default = "upstream")]
    #[schemars(with = "String")]
    pub upstream: Spanned<String>,
    /// Where BigQuery's Storage API is; else beside `upstream`, as at Google. `http://` is HTTP/2 without TLS.
    #[schemars(with = "Option<String>")]
    pub upstream_storage: Option<Spanned<String>>,
    /// APIs beside BigQuery's that are carried and recorded, by name: analyticshub, biglake, bigqueryconnection,
    /// bigquerydatapolicy, bigquerydatatransfer, bigquerymigration, bigqueryreservation, dataform (REST alone).
    #[serde(default = "nothing")]
    #[schemars(with = "Vec<String>")]
    pub apis: Spanned<Vec<String>>,
    /// Where those are; `{api}` stands for the name.
    #[serde(default = "upstream_apis")]
    #[schemars(with = "String")]
    pub upstream_apis: Spanned<String>,
    /// CEL: who may use it; `"true"` = everyone signed in.
    #[schemars(with = "String")]
    pub allow: Spanned<String>,
    /// What agents may do beyond the defaults of `docs/policy.md`: projects, addresses, functions, connections.
    #[serde(default = "nothing")]
    #[schemars(with = "Vec<String>")]
    pub allow_egress: Spanned<Vec<String>>,
    /// Whether jobs carry the labels `hansard_session` and `hansard_record`.
    #[serde(default = "yes")]
    pub label_jobs: bool,
    /// Whether principals reach each other's jobs, results and BigQuery sessions.
    #[serde(default)]
    pub shared_history: bool,
}

fn upstream() -> Spanned<String> {
    Spanned::new(0..0, "https://bigquery.googleapis.com".to_owned())
}

fn upstream_apis() -> Spanned<String> {
    Spanned::new(0..0, "https://{api}.googleapis.com".to_owned())
}

fn nothing() -> Spanned<Vec<String>> {
    Spanned::new(0..0, Vec::new())
}

fn yes() -> bool {
    true
}

/// A connection's credential.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum Credentials {
    /// An environment variable that holds a service-account key (JSON).
    Env(String),
    /// A service-account key file.
    File(PathBuf),
    /// The machine's application-default credentials.
    Adc(bool),
}

/// Rules that stand elsewhere.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicySection {
    /// Files of `[[rule]]`, relative to this one, and presets by name: agents-default, cost-guard, no-destructive,
    /// no-egress, read-only.
    #[schemars(with = "Vec<String>")]
    pub include: Vec<Spanned<String>>,
    /// What happens to a job that BigQuery runs as another kind of statement than was decided on, beside the alarm in
    /// its record and the metric.
    pub on_mismatch: OnMismatch,
}

/// What happens then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnMismatch {
    /// Nothing more.
    #[default]
    Record,
    /// It is cancelled.
    Stop,
}

/// How people hear of what waits for their yes, and answer, besides the command line and the API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Approvals {
    /// Places where messages go and signed answers come from.
    #[schemars(with = "Vec<Webhook>")]
    pub webhook: Vec<Spanned<Webhook>>,
}

/// One such place. Its answers come to `{public_url}/api/v1/hooks/{name}`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Small letters, digits and hyphens.
    pub name: String,
    /// Whose format it speaks.
    pub kind: WebhookKind,
    /// Where messages go; a secret, for who knows it may post there. Absent: it only takes answers.
    pub url: Option<SecretRef>,
    /// What answers are signed with: Slack's signing secret, the security token of Teams' outgoing webhook, or the
    /// `whsec_...` of Standard Webhooks, which signs messages too. Absent: it only sends.
    pub secret: Option<SecretRef>,
    /// Who may answer there. `approvers` of the rules asks about them as about everybody.
    #[serde(default)]
    pub approver: Vec<WebhookApprover>,
}

/// Whose format a webhook speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebhookKind {
    /// An incoming webhook of Slack, and the interactivity of its app.
    Slack,
    /// A workflow's webhook of Microsoft Teams, and an outgoing webhook.
    Teams,
    /// Standard Webhooks with JSON of hansard's own.
    Json,
}

/// Somebody who answers by a webhook.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookApprover {
    /// Their id there: Slack's user id, Teams' `aadObjectId`, or what `by` says.
    pub user: String,
    /// Their e-mail address: nobody answers what they asked for themselves.
    pub email: String,
    #[serde(default)]
    pub groups: Vec<String>,
}

/// A file of rules.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    #[serde(default)]
    #[schemars(with = "Vec<Rule>")]
    pub rule: Vec<Spanned<Rule>>,
}

/// One rule. All rules are read, in whatever order they stand; the strictest effect rules. `docs/policy.md` says
/// what `when` may ask about.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What refusals and records call it: 1 to 63 letters, digits, hyphens, dots and underscores.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// CEL: when it applies.
    #[schemars(with = "String")]
    pub when: Spanned<String>,
    /// What it does.
    #[schemars(with = "Action")]
    pub action: Spanned<Action>,
    /// What its refusal, or its warning, says besides.
    pub message: Option<String>,
    /// For a refusal: what would be allowed instead.
    pub instead: Option<String>,
    /// Of approve, CEL: who may answer.
    #[schemars(with = "Option<String>")]
    pub approvers: Option<Spanned<String>>,
    /// Of approve: how many of them must say yes. Default: 1.
    #[schemars(with = "Option<u32>")]
    pub approvals: Option<Spanned<u32>>,
    /// Of approve: how long an answer is waited for, and then a yes to what is no job is good; default 1h. Of snapshot: how
    /// long it is kept; default 7d.
    #[schemars(with = "Option<String>")]
    pub expires: Option<Spanned<String>>,
    /// Of mask: `project.dataset.table.column`, with `*` for any name.
    #[schemars(with = "Option<Vec<String>>")]
    pub columns: Option<Spanned<Vec<String>>>,
    /// Of mask: how.
    #[schemars(with = "Option<String>")]
    pub with: Option<Spanned<String>>,
    /// Of mask: an expression over the column.
    #[schemars(with = "Option<String>")]
    pub sql: Option<Spanned<String>>,
    /// Of snapshot: the dataset that snapshots are kept in, `project.dataset`, in the same location as the tables.
    #[schemars(with = "Option<String>")]
    pub dataset: Option<Spanned<String>>,
    /// Of limit: bytes that one statement may be billed (`maximumBytesBilled`).
    #[schemars(with = "Option<String>")]
    pub bytes_billed: Option<Spanned<String>>,
    /// Of limit: bytes that a principal may be billed a day (UTC).
    #[schemars(with = "Option<String>")]
    pub bytes_billed_per_day: Option<Spanned<String>>,
    /// Of limit: bytes that a task may be billed.
    #[schemars(with = "Option<String>")]
    pub bytes_billed_per_task: Option<Spanned<String>>,
    /// Of limit: statements that a principal may send in a minute.
    #[schemars(with = "Option<u64>")]
    pub statements_per_minute: Option<Spanned<u64>>,
    /// Of limit: rows that a result may have. One that has more is refused, never cut.
    #[schemars(with = "Option<u64>")]
    pub rows: Option<Spanned<u64>>,
    /// Of limit: how long a job may run (`jobTimeoutMs`).
    #[schemars(with = "Option<String>")]
    pub job_timeout: Option<Spanned<String>>,
    /// Of record: leaves the exchange out, but for that it was left out.
    #[schemars(with = "Option<bool>")]
    pub exclude: Option<Spanned<bool>>,
    /// Of record: what is kept of results.
    #[schemars(with = "Option<Results>")]
    pub results: Option<Spanned<Results>>,
    /// It only records what it would have done.
    #[serde(default)]
    pub observe: bool,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Refuses.
    Deny,
    /// Holds until a human agrees.
    Approve,
    /// Masks columns. Until it does, refuses what touches them, or might.
    Mask,
    /// Bounds cost, in what is forwarded.
    Limit,
    /// Says how much of an exchange is recorded.
    Record,
    /// Says something in the record and in the answer's `x-hansard-warning`.
    Warn,
    /// Marks the record with its name.
    Label,
    /// Keeps a snapshot of every table that is about to be changed.
    Snapshot,
}

impl Action {
    /// The word in the file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Approve => "approve",
            Self::Mask => "mask",
            Self::Limit => "limit",
            Self::Record => "record",
            Self::Warn => "warn",
            Self::Label => "label",
            Self::Snapshot => "snapshot",
        }
    }
}
