//! The one `Authorization` header, and a look into a JWT before anything in it is trusted.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fmt;

use crate::Stranger;

/// The longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Clocks may differ by so much, in seconds.
pub(crate) const LEEWAY_SECS: i64 = 60;

/// The token of the one bearer header.
pub(crate) fn token(headers: &HeaderMap) -> Result<&str, Stranger> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let value = all.next().ok_or(Stranger::NoCredential)?;
    if all.next().is_some() {
        return Err(Stranger::TwoCredentials);
    }
    let text = value.to_str().map_err(|_| Stranger::Malformed)?;
    let (scheme, token) = text.split_once(' ').ok_or(Stranger::NotBearer)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Stranger::NotBearer);
    }
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return Err(Stranger::Malformed);
    }
    Ok(token)
}

/// What a JWT says of itself. Only good to choose the key that must prove it.
pub(crate) struct Peeked {
    pub(crate) iss: String,
    pub(crate) kid: Option<String>,
    pub(crate) algorithm: Algorithm,
}

#[derive(Deserialize)]
struct PeekedClaims {
    iss: Option<String>,
}

#[derive(Deserialize)]
struct PeekedHeader {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    /// Extensions that must be understood (RFC 7515 section 4.1.11): we understand none.
    crit: Option<Value>,
    /// Encryption and compression (RFC 7516): a token of ours is plain.
    enc: Option<Value>,
    zip: Option<Value>,
}

/// Looks into a compact JWS without believing it.
pub(crate) fn peek(token: &str) -> Result<Peeked, Stranger> {
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Stranger::Opaque);
    };
    let header: PeekedHeader = decode_part(header)?;
    if header.typ.as_deref().is_some_and(|typ| typ.to_ascii_lowercase().contains("logout+jwt")) {
        return Err(Stranger::LogoutToken);
    }
    if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
        return Err(Stranger::Algorithm);
    }
    let algorithm: Algorithm = header.alg.parse().map_err(|_| Stranger::Algorithm)?;
    let claims: PeekedClaims = decode_part(claims)?;
    Ok(Peeked { iss: claims.iss.ok_or(Stranger::MissingClaim("iss"))?, kid: header.kid, algorithm })
}

fn decode_part<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, Stranger> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Stranger::Opaque)?;
    // A member that stands twice is read in one way by some, and in another by others (RFC 8725 section 2.4).
    serde_json::from_slice::<Unique>(&bytes).map_err(|_| Stranger::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Stranger::Malformed)
}

/// Any JSON in which no object names a member twice.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without members that stand twice")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !seen.insert(key) {
                return Err(serde::de::Error::custom("a member stands twice"));
            }
            map.next_value::<Unique>()?;
        }
        Ok(Unique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Unique, A::Error> {
        while seq.next_element::<Unique>()?.is_some() {}
        Ok(Unique)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique)
    }
}

/// The claims, once the signature matches. Times and audience stay to be checked.
pub(crate) fn verify(
    token: &str,
    key: &DecodingKey,
    algorithm: Algorithm,
) -> Result<Map<String, Value>, Stranger> {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation)
        .map(|token| token.claims)
        .map_err(|_| Stranger::Signature)
}

/// `exp`, `nbf` and `iat` against the gateway's clock; returns `exp`.
pub(crate) fn check_times(claims: &Map<String, Value>, now: i64) -> Result<i64, Stranger> {
    let exp = seconds(claims, "exp").ok_or(Stranger::MissingClaim("exp"))?;
    if exp.saturating_add(LEEWAY_SECS) <= now {
        return Err(Stranger::Expired);
    }
    let not_before = seconds(claims, "nbf").into_iter().chain(seconds(claims, "iat")).max();
    if not_before.is_some_and(|at| at > now.saturating_add(LEEWAY_SECS)) {
        return Err(Stranger::NotYet);
    }
    Ok(exp)
}

/// A NumericDate (RFC 7519), cut to whole seconds.
pub(crate) fn seconds(claims: &Map<String, Value>, name: &str) -> Option<i64> {
    let value = claims.get(name)?;
    value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64))
}

/// `aud` as a list.
pub(crate) fn audiences(claims: &Map<String, Value>) -> Vec<&str> {
    match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// A claim's text, empty where there is none.
pub(crate) fn text(claims: &Map<String, Value>, name: &str) -> String {
    claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_no_panic(text in "\\PC{0,200}", header in "\\PC{0,80}", claims in "\\PC{0,80}") {
            let _ = peek(&text);
            let _ = peek(&format!("{}.{}.x", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims)));
        }
    }

    #[test]
    fn a_member_that_stands_twice_anywhere_is_malformed() {
        let token = |header: &str, claims: &str| {
            format!("{}.{}.x", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
        };
        let good = r#"{"alg":"RS256"}"#;
        assert!(peek(&token(good, r#"{"iss":"a","sub":"b"}"#)).is_ok());
        for claims in [
            r#"{"iss":"a","iss":"a"}"#,
            r#"{"iss":"a","x":[{"y":1,"y":2}]}"#,
            r#"{"iss":"a","\u0069ss":"b"}"#,
        ] {
            assert_eq!(peek(&token(good, claims)).err(), Some(Stranger::Malformed), "{claims}");
        }
        assert_eq!(
            peek(&token(r#"{"alg":"RS256","crit":[]}"#, r#"{"iss":"a"}"#)).err(),
            Some(Stranger::Algorithm)
        );
    }
}
