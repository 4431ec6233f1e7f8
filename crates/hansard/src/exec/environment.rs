//! The variables that lead every Google client to the sidecar, and hide every other credential.
//!
//! Which client reads which was seen on the wire; `docs/clients.md` has the table.

use http::Uri;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::place::Place;
use super::session::Session;
use crate::cli::Failure;
use crate::wiring::env_var;

/// Variables that name another way to Google, another credential or another trust store.
pub(super) const HIDDEN: &[&str] = &[
    "ALL_PROXY",
    "BIGQUERY_EMULATOR_HOST",
    "CLOUDSDK_ACTIVE_CONFIG_NAME",
    "CLOUDSDK_API_ENDPOINT_OVERRIDES_BIGQUERY",
    "CLOUDSDK_AUTH_ACCESS_TOKEN",
    "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE",
    "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE",
    "CLOUDSDK_AUTH_IMPERSONATE_SERVICE_ACCOUNT",
    "CLOUDSDK_AUTH_TOKEN_HOST",
    "CLOUDSDK_CORE_ACCOUNT",
    "CLOUDSDK_CORE_UNIVERSE_DOMAIN",
    "CLOUDSDK_PROXY_ADDRESS",
    "CLOUDSDK_PROXY_PASSWORD",
    "CLOUDSDK_PROXY_PORT",
    "CLOUDSDK_PROXY_TYPE",
    "CLOUDSDK_PROXY_USERNAME",
    "GOOGLE_ACCESS_TOKEN",
    "GOOGLE_API_CERTIFICATE_CONFIG",
    "GOOGLE_API_KEY",
    "GOOGLE_CLOUD_QUOTA_PROJECT",
    "GOOGLE_CLOUD_UNIVERSE_DOMAIN",
    "GOOGLE_CREDENTIALS",
    "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT",
    "GOOGLE_OAUTH_ACCESS_TOKEN",
    "NO_GCE_CHECK",
    "SSL_CERT_DIR",
    "all_proxy",
];

/// Names of the CA bundle. Each replaces what its client trusts, but Node's, which adds.
const BUNDLES: &[&str] = &[
    "AWS_CA_BUNDLE",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "CURL_CA_BUNDLE",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
];
const NOT_PROXIED: &str = "127.0.0.1,localhost,::1";
/// Names that no pool of Google's has: a library that knew one would ask Google about it.
const AUDIENCE: &str = "//hansard.invalid/session";

/// What is set and what is unset.
pub(super) struct Environment {
    pub(super) set: BTreeMap<String, String>,
    pub(super) unset: Vec<&'static str>,
    project: String,
}

impl Environment {
    /// Writes the session's files and names them.
    pub(super) fn new(
        session: &Session,
        place: &Place,
        address: SocketAddr,
        authority: &str,
    ) -> Result<Self, Failure> {
        let named = env_var("GOOGLE_CLOUD_PROJECT").filter(|project| session.projects.contains(project));
        let project = named.or_else(|| session.projects.first().cloned()).unwrap_or_default();
        let bundle = format!("{}{authority}", sidecar::roots(&trusted_before()));
        let bundle = place.write("ca.pem", &bundle)?.display().to_string();
        let credentials = place.write("credentials.json", &credentials(address))?.display().to_string();
        let mut set = BTreeMap::new();
        let mut put = |name: &str, value: &str| drop(set.insert(name.to_owned(), value.to_owned()));
        for name in ["HTTPS_PROXY", "https_proxy", "grpc_proxy", "GRPC_PROXY"] {
            put(name, &format!("http://{address}"));
        }
        for name in ["NO_PROXY", "no_proxy", "no_grpc_proxy"] {
            put(name, NOT_PROXIED);
        }
        for name in ["GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"] {
            put(name, &address.to_string());
        }
        for name in ["GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT", "GCLOUD_PROJECT"] {
            put(name, &project);
        }
        BUNDLES.iter().for_each(|name| put(name, &bundle));
        put("GOOGLE_APPLICATION_CREDENTIALS", &credentials);
        put("CLOUDSDK_CONFIG", &place.folder("gcloud")?.display().to_string());
        put("BIGQUERYRC", &place.write("bigqueryrc", "")?.display().to_string());
        put("GOOGLE_API_USE_CLIENT_CERTIFICATE", "false");
        put("GOOGLE_API_USE_MTLS_ENDPOINT", "never");
        put("HANSARD_SESSION", &session.id);
        Ok(Self { set, unset: HIDDEN.to_vec(), project })
    }

    pub(super) fn project(&self) -> &str {
        &self.project
    }

    /// For a shell to read.
    pub(super) fn print(&self, shell: &str) -> String {
        if shell == "json" {
            let unset: Vec<_> = self.unset.to_vec();
            return format!("{}\n", serde_json::json!({"set": self.set, "unset": unset}));
        }
        let mut text = String::new();
        for name in &self.unset {
            text.push_str(&if shell == "fish" {
                format!("set -e {name};\n")
            } else {
                format!("unset {name};\n")
            });
        }
        for (name, value) in &self.set {
            let quoted = value.replace('\'', if shell == "fish" { "\\'" } else { "'\\''" });
            text.push_str(&match shell {
                "fish" => format!("set -gx {name} '{quoted}';\n"),
                _ => format!("export {name}='{quoted}';\n"),
            });
        }
        text
    }
}

/// A credential file in Google's shape (workload identity federation) whose sources are the sidecar.
fn credentials(address: SocketAddr) -> String {
    let file = serde_json::json!({
        "type": "external_account",
        "audience": AUDIENCE,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("http://{address}{}", sidecar::EXCHANGE_PATH),
        "credential_source": {
            "url": format!("http://{address}{}", sidecar::SUBJECT_PATH),
            "headers": {"Metadata-Flavor": "Google"},
            "format": {"type": "json", "subject_token_field_name": "id_token"},
        },
    });
    format!("{file:#}\n")
}

/// Bundles that this environment trusted before: a company's own CA stays trusted.
fn trusted_before() -> Vec<PathBuf> {
    BUNDLES.iter().filter_map(|name| env_var(name)).map(PathBuf::from).collect()
}

/// The proxy that this machine reaches the world by.
pub(super) fn proxy() -> Option<Uri> {
    let named = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].into_iter().find_map(env_var)?;
    let uri: Uri = named.parse().ok()?;
    (uri.scheme_str() == Some("http")).then_some(uri)
}
