//! One OpenID Connect provider: discovery, its keys with rotation, and what its tokens say.
//!
//! OpenID Connect Core 1.0 section 3.1.3.7 (ID token validation), Discovery 1.0 section 4, RFC 9068 section 4.

use bytes::Bytes;
use http::Request;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey};
use outbound::Fetcher;
use record::{CredentialKind, Principal, PrincipalKind, Proof, Timestamp};
use registry::Secret;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::sync::{Mutex, RwLock};

use crate::bearer::{self, Peeked};
use crate::principal_of::credential;
use crate::{Identified, Stranger};

const DISCOVERY_BYTES_MAX: usize = 256 * 1024;
const KEYS_BYTES_MAX: usize = 1024 * 1024;
const TOKEN_BYTES_MAX: usize = 256 * 1024;
const KEYS_MAX: usize = 100;
const FETCH_MAX: Duration = Duration::from_secs(10);
/// Keys older than this are fetched again, in seconds.
const KEYS_AGE_MAX_SECS: i64 = 3600;
/// An unknown key id causes at most one fetch in so many seconds.
const REFETCH_AFTER_SECS: i64 = 10;
const GROUPS_MAX: usize = 1000;

/// What a provider is called and what its tokens must say.
pub struct OidcConfig {
    pub name: String,
    pub issuer: String,
    pub client_id: String,
    /// Absent: a public client.
    pub client_secret: Option<Secret>,
    pub audiences: Vec<String>,
    pub groups_claim: String,
}

/// A provider and its keys.
pub struct OidcProvider {
    config: OidcConfig,
    fetcher: Fetcher,
    keys: RwLock<Keys>,
    fetching: Mutex<()>,
}

#[derive(Default)]
struct Keys {
    keys: Vec<ProviderKey>,
    /// When the last fetch succeeded, in seconds since 1970.
    fetched: i64,
    /// When the last fetch was tried.
    tried: i64,
}

struct ProviderKey {
    id: Option<String>,
    algorithm: Option<Algorithm>,
    family: Family,
    key: DecodingKey,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Rsa,
    Ec,
    Ed,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
    #[serde(default)]
    authorization_endpoint: String,
    #[serde(default)]
    token_endpoint: String,
    /// RFC 9207
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: String,
}

/// What a sign-in sends along, to find itself again in the answer.
pub(crate) struct Asking<'a> {
    pub(crate) redirect_uri: &'a str,
    pub(crate) state: &'a str,
    pub(crate) nonce: &'a str,
    /// RFC 7636: `BASE64URL(SHA-256(verifier))`
    pub(crate) challenge: &'a str,
}

/// What came back, and what was sent along.
pub(crate) struct Answered<'a> {
    pub(crate) code: &'a str,
    pub(crate) verifier: &'a str,
    pub(crate) redirect_uri: &'a str,
    pub(crate) nonce: &'a str,
    /// RFC 9207
    pub(crate) iss: Option<&'a str>,
}

impl OidcProvider {
    /// Fetches nothing yet.
    pub fn new(config: OidcConfig, fetcher: Fetcher) -> Self {
        Self { config, fetcher, keys: RwLock::default(), fetching: Mutex::new(()) }
    }

    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The issuer, compared as a string.
    pub fn issuer(&self) -> &str {
        &self.config.issuer
    }

    pub(crate) async fn has_keys(&self) -> bool {
        !self.keys.read().await.keys.is_empty()
    }

    /// Checks a token of this issuer.
    pub(crate) async fn identify(
        &self,
        token: &str,
        peeked: &Peeked,
        now: Timestamp,
    ) -> Result<Identified, Stranger> {
        let family = family(peeked.algorithm).ok_or(Stranger::Algorithm)?;
        let key = self.key(peeked, family, now).await?;
        let claims = bearer::verify(token, &key, peeked.algorithm)?;
        let expires = bearer::check_times(&claims, now.secs())?;
        self.check_purpose(&claims)?;
        let principal = self.principal(&claims)?;
        let token_id = match bearer::text(&claims, "jti") {
            id if id.is_empty() => bearer::text(&claims, "sid"),
            id => id,
        };
        Ok(Identified {
            session_key: format!("oidc:{}:{}:{token_id}", self.config.name, principal.id),
            own: None,
            credential: credential(CredentialKind::Oidc, token_id),
            principal,
            proof: Proof::Verified,
            key: None,
            login: None,
            connection: None,
            session: None,
            expires: Timestamp::from_secs(expires),
        })
    }

    fn check_purpose(&self, claims: &Map<String, Value>) -> Result<(), Stranger> {
        if claims.contains_key("events") {
            return Err(Stranger::LogoutToken);
        }
        // The signature covers `iss`, and the key was chosen by it: it is this provider's.
        let audiences = bearer::audiences(claims);
        if !audiences.iter().any(|audience| self.config.audiences.iter().any(|ours| ours == audience)) {
            return Err(Stranger::Audience);
        }
        let authorized = bearer::text(claims, "azp");
        if audiences.len() > 1 && authorized != self.config.client_id {
            return Err(Stranger::AuthorizedParty);
        }
        Ok(())
    }

    fn principal(&self, claims: &Map<String, Value>) -> Result<Principal, Stranger> {
        let id = bearer::text(claims, "sub");
        if id.is_empty() {
            return Err(Stranger::MissingClaim("sub"));
        }
        let verified = claims
            .get("email_verified")
            .is_none_or(|verified| verified.as_bool().unwrap_or_else(|| verified.as_str() == Some("true")));
        let email = if verified { bearer::text(claims, "email") } else { String::new() };
        let party = [bearer::text(claims, "client_id"), bearer::text(claims, "azp")];
        let is_service = email.ends_with(".gserviceaccount.com") || (email.is_empty() && party.contains(&id));
        Ok(Principal {
            name: bearer::text(claims, "name"),
            groups: groups(claims.get(&self.config.groups_claim)),
            kind: if is_service { PrincipalKind::Service } else { PrincipalKind::Person },
            agent: String::new(),
            on_behalf_of: String::new(),
            idp: self.config.name.clone(),
            task: String::new(),
            id,
            email,
        })
    }

    async fn key(&self, peeked: &Peeked, family: Family, now: Timestamp) -> Result<DecodingKey, Stranger> {
        let (found, stale) = {
            let keys = self.keys.read().await;
            (keys.find(peeked, family), now.secs() - keys.fetched > KEYS_AGE_MAX_SECS)
        };
        if let (Some(key), false) = (&found, stale) {
            return Ok(key.clone());
        }
        let refreshed = self.refresh(now).await;
        let keys = self.keys.read().await;
        match (keys.find(peeked, family), refreshed) {
            (Some(key), _) => Ok(key),
            (None, Ok(())) => Err(Stranger::Signature),
            (None, Err(_)) => Err(Stranger::ProviderAway(self.config.name.clone())),
        }
    }

    /// Fetches the keys, unless somebody just did.
    pub(crate) async fn refresh(&self, now: Timestamp) -> Result<(), String> {
        let _one_at_a_time = self.fetching.lock().await;
        {
            let mut keys = self.keys.write().await;
            if now.secs() - keys.tried < REFETCH_AFTER_SECS {
                return if keys.fetched == keys.tried {
                    Ok(())
                } else {
                    Err("it was away a moment ago".into())
                };
            }
            keys.tried = now.secs();
        }
        let fetched = self.fetch().await?;
        let mut keys = self.keys.write().await;
        keys.keys = fetched;
        keys.fetched = keys.tried;
        Ok(())
    }

    async fn discover(&self) -> Result<Discovery, String> {
        let at = format!("{}/.well-known/openid-configuration", self.config.issuer.trim_end_matches('/'));
        let found: Discovery = self.get_json(&at, DISCOVERY_BYTES_MAX).await?;
        if found.issuer != self.config.issuer {
            return Err(format!(
                "its discovery document names issuer '{}', not the configured one",
                found.issuer
            ));
        }
        Ok(found)
    }

    /// An address of the provider is https, but for a provider on loopback.
    fn checked<'a>(&self, name: &str, address: &'a str) -> Result<&'a str, String> {
        let plain_allowed = self.config.issuer.starts_with("http://");
        match address.starts_with("https://") || (plain_allowed && address.starts_with("http://")) {
            true => Ok(address),
            false => Err(format!("its {name} is not https")),
        }
    }

    /// Where a browser goes to sign in (OpenID Connect Core 1.0 section 3.1.2.1).
    pub(crate) async fn sign_in_address(&self, asking: &Asking<'_>) -> Result<String, String> {
        let found = self.discover().await?;
        let endpoint = self.checked("authorization_endpoint", &found.authorization_endpoint)?;
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.config.client_id)
            .append_pair("redirect_uri", asking.redirect_uri)
            .append_pair("scope", "openid email profile")
            .append_pair("state", asking.state)
            .append_pair("nonce", asking.nonce)
            .append_pair("code_challenge", asking.challenge)
            .append_pair("code_challenge_method", "S256")
            .finish();
        let mark = if endpoint.contains('?') { '&' } else { '?' };
        Ok(format!("{endpoint}{mark}{query}"))
    }

    /// Takes a code to the provider and reads who signed in.
    pub(crate) async fn signed_in(
        &self,
        answered: &Answered<'_>,
        now: Timestamp,
    ) -> Result<Identified, String> {
        let Answered { nonce, iss, .. } = *answered;
        let found = self.discover().await?;
        if iss.is_some_and(|iss| iss != self.config.issuer)
            || (iss.is_none() && found.authorization_response_iss_parameter_supported)
        {
            return Err("the answer came from another provider".to_owned());
        }
        let endpoint = self.checked("token_endpoint", &found.token_endpoint)?;
        let form = self.code_form(answered)?;
        let request = Request::post(endpoint)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(Bytes::from(form).into())
            .map_err(|error| error.to_string())?;
        let answer = self.fetcher.send(request, TOKEN_BYTES_MAX, FETCH_MAX).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("its token endpoint answered HTTP {}", answer.status().as_u16()));
        }
        let tokens: TokenAnswer =
            serde_json::from_slice(answer.body()).map_err(|_| "its token endpoint gave no id_token")?;
        let peeked = bearer::peek(&tokens.id_token).map_err(|why| why.to_string())?;
        if peeked.iss != self.config.issuer {
            return Err("the id_token is of another issuer".to_owned());
        }
        let family = family(peeked.algorithm).ok_or("the id_token's algorithm is not allowed")?;
        let key = self.key(&peeked, family, now).await.map_err(|why| why.to_string())?;
        let claims =
            bearer::verify(&tokens.id_token, &key, peeked.algorithm).map_err(|why| why.to_string())?;
        let expires = bearer::check_times(&claims, now.secs()).map_err(|why| why.to_string())?;
        // An ID token is for the client that asked for it.
        let audiences = bearer::audiences(&claims);
        let authorized = bearer::text(&claims, "azp");
        if !audiences.contains(&self.config.client_id.as_str())
            || (!authorized.is_empty() && authorized != self.config.client_id)
        {
            return Err("the id_token is for another client".to_owned());
        }
        if bearer::text(&claims, "nonce") != nonce {
            return Err("the id_token answers another sign-in".to_owned());
        }
        let principal = self.principal(&claims).map_err(|why| why.to_string())?;
        Ok(Identified {
            session_key: String::new(),
            own: None,
            credential: credential(CredentialKind::Oidc, bearer::text(&claims, "jti")),
            principal,
            proof: Proof::Verified,
            key: None,
            login: None,
            connection: None,
            session: None,
            expires: Timestamp::from_secs(expires),
        })
    }

    /// RFC 6749 section 4.1.3, with the verifier of RFC 7636.
    fn code_form(&self, answered: &Answered<'_>) -> Result<String, String> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", answered.code)
            .append_pair("code_verifier", answered.verifier)
            .append_pair("redirect_uri", answered.redirect_uri)
            .append_pair("client_id", &self.config.client_id);
        if let Some(secret) = &self.config.client_secret {
            let secret = std::str::from_utf8(secret.reveal()).map_err(|_| "the client_secret is not text")?;
            form.append_pair("client_secret", secret.trim());
        }
        Ok(form.finish())
    }

    async fn fetch(&self) -> Result<Vec<ProviderKey>, String> {
        let found = self.discover().await?;
        self.checked("jwks_uri", &found.jwks_uri)?;
        let set: JwkSet = self.get_json(&found.jwks_uri, KEYS_BYTES_MAX).await?;
        Ok(set.keys.iter().take(KEYS_MAX).filter_map(provider_key).collect())
    }

    async fn get_json<T: serde::de::DeserializeOwned>(
        &self,
        uri: &str,
        bytes_max: usize,
    ) -> Result<T, String> {
        let request = Request::get(uri)
            .header("accept", "application/json")
            .body(Bytes::new().into())
            .map_err(|error| error.to_string())?;
        let answer =
            self.fetcher.send(request, bytes_max, FETCH_MAX).await.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("{uri} answered HTTP {}", answer.status().as_u16()));
        }
        serde_json::from_slice(answer.body()).map_err(|error| format!("{uri}: {error}"))
    }
}

impl Keys {
    fn find(&self, peeked: &Peeked, family: Family) -> Option<DecodingKey> {
        let mut fits = self.keys.iter().filter(|key| {
            key.family == family && key.algorithm.is_none_or(|algorithm| algorithm == peeked.algorithm)
        });
        let found = match &peeked.kid {
            Some(id) => fits.find(|key| key.id.as_ref() == Some(id)),
            None => fits.next(),
        };
        found.map(|key| key.key.clone())
    }
}

fn provider_key(jwk: &Jwk) -> Option<ProviderKey> {
    if jwk
        .common
        .public_key_use
        .as_ref()
        .is_some_and(|purpose| *purpose != jsonwebtoken::jwk::PublicKeyUse::Signature)
    {
        return None;
    }
    // A key that says what it is for is for nothing else (RFC 7517 section 4.3).
    let verifies = |operations: &Vec<_>| operations.contains(&jsonwebtoken::jwk::KeyOperations::Verify);
    if jwk.common.key_operations.as_ref().is_some_and(|operations| !verifies(operations)) {
        return None;
    }
    let family = match &jwk.algorithm {
        jsonwebtoken::jwk::AlgorithmParameters::RSA(_) => Family::Rsa,
        jsonwebtoken::jwk::AlgorithmParameters::EllipticCurve(_) => Family::Ec,
        jsonwebtoken::jwk::AlgorithmParameters::OctetKeyPair(_) => Family::Ed,
        _ => return None,
    };
    let algorithm = jwk.common.key_algorithm.and_then(|algorithm| algorithm.to_string().parse().ok());
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(ProviderKey { id: jwk.common.key_id.clone(), algorithm, family, key })
}

/// Asymmetric algorithms only.
fn family(algorithm: Algorithm) -> Option<Family> {
    match algorithm {
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => Some(Family::Rsa),
        Algorithm::ES256 | Algorithm::ES384 => Some(Family::Ec),
        Algorithm::EdDSA => Some(Family::Ed),
        _ => None,
    }
}

fn groups(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::Array(groups)) => {
            groups.iter().filter_map(Value::as_str).take(GROUPS_MAX).map(str::to_owned).collect()
        }
        Some(Value::String(one)) => one
            .split([';', ','])
            .map(str::trim)
            .filter(|group| !group.is_empty())
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod wycheproof;
