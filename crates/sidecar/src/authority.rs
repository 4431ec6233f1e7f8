//! The private CA: one a user, good for BigQuery's names and no others.

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use record::{Clock, Timestamp};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use time::OffsetDateTime;

use crate::hosts;

/// The CA is made anew when it is this old; it would be good for longer, so that whoever holds it can end.
const AUTHORITY_AGE_MAX: Duration = Duration::from_secs(300 * 86_400);
const AUTHORITY_DAYS: i64 = 365;
/// A leaf certificate lives so long, and is made anew when half of it is over.
const LEAF_HOURS: i64 = 24;
/// Clocks may differ by so much.
const SKEW_HOURS: i64 = 1;

/// The CA, and the leaf certificates made by it.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The CA's own certificate.
    pem: String,
    leaves: Mutex<HashMap<String, Leaf>>,
    clock: Arc<dyn Clock>,
}

#[derive(Clone)]
struct Leaf {
    key: Arc<CertifiedKey>,
    made: Timestamp,
}

/// Why there is no CA.
#[derive(Debug)]
pub enum AuthorityError {
    Io(std::io::Error),
    Certificate(String),
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Certificate(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for AuthorityError {}

impl From<std::io::Error> for AuthorityError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> Self {
        Self::Certificate(error.to_string())
    }
}

impl Authority {
    /// The user's CA in this folder, made if there is none, or if it is old or for other names.
    pub fn of_user(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self, AuthorityError> {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock: File = options.open(folder.join("ca.lock"))?;
        lock.lock()?;
        let names = registry::fingerprint(&hosts::served().join(" "));
        let names: String = names[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        let (cert, key) = (folder.join(format!("ca-{names}.pem")), folder.join(format!("ca-{names}.key")));
        if is_young(&cert)
            && let (Ok(pem), Ok(key_pem)) = (fs::read_to_string(&cert), fs::read_to_string(&key))
            && let Ok(authority) = Self::load(pem, &key_pem, clock.clone())
        {
            return Ok(authority);
        }
        let (pem, key_pem) = make(clock.now())?;
        write_private(&key, &key_pem)?;
        write_private(&cert, &pem)?;
        Self::load(pem, &key_pem, clock)
    }

    fn load(pem: String, key_pem: &str, clock: Arc<dyn Clock>) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(key_pem)?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key)?;
        Ok(Self { issuer, pem, leaves: Mutex::default(), clock })
    }

    /// The CA's certificate, for the clients' trust stores.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for one of the served names; none for any other.
    fn leaf(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let mut leaves = self.leaves.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let now = self.clock.now();
        if let Some(leaf) = leaves.get(&name)
            && now.secs() - leaf.made.secs() < LEAF_HOURS * 1800
        {
            return Some(leaf.key.clone());
        }
        if !hosts::served().contains(&name) {
            return None;
        }
        let key = Arc::new(self.mint(&name, now).ok()?);
        leaves.insert(name, Leaf { key: key.clone(), made: now });
        Some(key)
    }

    fn mint(&self, name: &str, now: Timestamp) -> Result<CertifiedKey, AuthorityError> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, now, time::Duration::hours(LEAF_HOURS));
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        let chain = vec![cert.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|why| AuthorityError::Certificate(why.to_owned()))?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        CertifiedKey::from_der(chain, key, &provider)
            .map_err(|error| AuthorityError::Certificate(error.to_string()))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

impl ResolvesServerCert for Authority {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.leaf(hello.server_name()?)
    }
}

/// A new CA: its certificate and its key.
fn make(now: Timestamp) -> Result<(String, String), AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "hansard private CA, for BigQuery's names alone");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: hosts::served().into_iter().map(GeneralSubtree::DnsName).collect(),
        // No address is a name: what is not constrained would be permitted.
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
            GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
        ],
    });
    valid(&mut params, now, time::Duration::days(AUTHORITY_DAYS));
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn valid(params: &mut CertificateParams, now: Timestamp, life: time::Duration) {
    let now = OffsetDateTime::from_unix_timestamp(now.secs()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    params.not_before = now - time::Duration::hours(SKEW_HOURS);
    params.not_after = now + life;
}

fn is_young(path: &Path) -> bool {
    let made = fs::metadata(path).and_then(|meta| meta.modified());
    made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age < AUTHORITY_AGE_MAX))
}

/// Readable by its owner alone, and whole or not at all.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

/// Every certificate that this machine trusts, and those of the files given, as one PEM text.
pub fn roots(files: &[std::path::PathBuf]) -> String {
    let mut seen = std::collections::HashSet::new();
    let mut text = String::new();
    let mut add = |der: &CertificateDer<'_>| {
        if seen.insert(der.as_ref().to_vec()) {
            text.push_str(&pem_of(der));
        }
    };
    rustls_native_certs::load_native_certs().certs.iter().for_each(&mut add);
    for file in files {
        for der in CertificateDer::pem_file_iter(file).into_iter().flatten().flatten() {
            add(&der);
        }
    }
    text
}

fn pem_of(der: &[u8]) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_kept_and_serves_its_names_alone() {
        let folder = std::env::temp_dir().join(format!("hansard-ca-{}", std::process::id()));
        let clock = Arc::new(record::SystemClock);
        let first = Authority::of_user(&folder, clock.clone()).unwrap();
        let second = Authority::of_user(&folder, clock).unwrap();
        assert_eq!(first.pem(), second.pem());
        assert!(second.leaf("bigquery.googleapis.com").is_some());
        assert!(second.leaf("us-east4-bigquery.googleapis.com").is_some());
        assert!(second.leaf("storage.googleapis.com").is_none());
        assert!(second.leaf("evil.bigquery.googleapis.com").is_none());
        let mut modes = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
        assert!(modes.all(|meta| meta.permissions().mode() & 0o077 == 0));
        fs::remove_dir_all(&folder).unwrap();
    }
}
