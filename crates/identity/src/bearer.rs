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
    let (algorithm, kid, claims) = peek_header(token)?;
    let claims: PeekedClaims = decode_part(claims)?;
    Ok(Peeked { iss: claims.iss.ok_or(Stranger::MissingClaim("iss"))?, kid, algorithm })
}

/// The algorithm and key that it names, and its claims, not decoded.
pub(crate) fn peek_header(token: &str) -> Result<(Algorithm, Option<String>, &str), Stranger> {
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
    Ok((algorithm, header.kid, claims))
}

fn decode_part<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, Stranger> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Stranger::Opaque)?;
    // Left alone, serde would read an array as an object whose names were left out.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(Stranger::Malformed);
    }
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
    fn a_part_is_one_object_whose_members_stand_once() {
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
        for (header, claims) in [(good, r#"["a"]"#), (r#"["RS256"]"#, r#"{"iss":"a"}"#)] {
            assert_eq!(peek(&token(header, claims)).err(), Some(Stranger::Malformed), "{header} {claims}");
        }
        assert_eq!(
            peek(&token(r#"{"alg":"RS256","crit":[]}"#, r#"{"iss":"a"}"#)).err(),
            Some(Stranger::Algorithm)
        );
    }

    /// RFC 7515, appendix A.3: a signature is two numbers of 32 bytes, and nothing else.
    #[test]
    fn an_ecdsa_signature_has_one_form() {
        const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
        const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
        const SIGNED: &str = "eyJhbGciOiJFUzI1NiJ9.\
            eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        const SIGNATURE: &str =
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        let key = DecodingKey::from_ec_components(X, Y).unwrap();
        let read = |signature: &[u8]| {
            let token = format!("{SIGNED}.{}", URL_SAFE_NO_PAD.encode(signature));
            verify(&token, &key, Algorithm::ES256).map(|claims| text(&claims, "iss"))
        };
        let good = URL_SAFE_NO_PAD.decode(SIGNATURE).unwrap();
        assert_eq!(read(&good), Ok("joe".to_owned()));
        let (r, s) = good.split_at(32);
        let zero = [0u8; 32];
        let der = [&[0x30, 0x45, 0x02, 0x20], r, &[0x02, 0x21, 0x00], s].concat();
        // The order of P-256 (SEC 2, section 2.4.2): as good as zero.
        let order: Vec<u8> = (0..32)
            .map(|at| {
                let hex = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
                u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()
            })
            .collect();
        for wrong in [
            [zero, zero].concat(),
            [r, &zero].concat(),
            [&zero, s].concat(),
            [&order[..], s].concat(),
            [r, &order].concat(),
            [&order[..], &order].concat(),
            [&[0], r, &[0], s].concat(),
            [&good[..], &[0]].concat(),
            good[..63].to_vec(),
            [s, r].concat(),
            der,
            Vec::new(),
        ] {
            assert_eq!(read(&wrong), Err(Stranger::Signature), "{wrong:02x?}");
        }
        // The last character's spare bits are zero, or the text is another name of the same signature.
        let renamed = format!("{}R", &SIGNATURE[..SIGNATURE.len() - 1]);
        assert_eq!(verify(&format!("{SIGNED}.{renamed}"), &key, Algorithm::ES256), Err(Stranger::Signature));
    }
}
