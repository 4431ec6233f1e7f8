//! Project Wycheproof's vectors for signed tokens (https://github.com/C2SP/wycheproof), as keys of a provider.
//!
//! They are no package's, and not committed: whoever has them says where, in HANSARD_WYCHEPROOF (the folder
//! `testvectors_v1`). The summary of `cargo xtask test` says so.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::Jwk;
use serde_json::{Map, Value};

use super::{Keys, family, provider_key};
use crate::bearer::{Peeked, peek_header};

/// A key that its provider should never have made: whether its prime numbers are weak (ROCA) is not looked for.
const NOT_LOOKED_FOR: &str = "rejectsKeyWithRocaVulnerability";

/// What refuses a token, or that nothing does. Their payloads are no claims, so a signature that fits is seen by what
/// is refused after it.
fn refuses(key: &Value, token: &str) -> Option<String> {
    let (algorithm, kid, _) = match peek_header(token) {
        Ok(found) => found,
        Err(why) => return Some(format!("{why:?}")),
    };
    let Some(family) = family(algorithm) else { return Some("algorithm".to_owned()) };
    let jwk: Option<Jwk> = serde_json::from_value(key.clone()).ok();
    let keys = Keys { keys: jwk.iter().filter_map(provider_key).collect(), ..Keys::default() };
    let peeked = Peeked { iss: String::new(), kid, algorithm };
    let Some(key) = keys.find(&peeked, family) else { return Some("no key".to_owned()) };
    let mut validation = jsonwebtoken::Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    match jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation) {
        Ok(_) => None,
        Err(error) => match error.kind() {
            ErrorKind::Json(_) | ErrorKind::Utf8(_) => None,
            kind => Some(format!("{kind:?}")),
        },
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "where the vectors lie is for whoever runs the test to say")]
fn only_what_is_valid_passes() {
    let Ok(folder) = std::env::var("HANSARD_WYCHEPROOF") else {
        println!(
            "skipped: Wycheproof: HANSARD_WYCHEPROOF does not say where Wycheproof's testvectors_v1 are"
        );
        return;
    };
    let (mut refused, mut passed, mut by_design, mut wrong) = (0, 0, Vec::new(), Vec::new());
    for file in ["json_web_signature_test.json", "json_web_key_test.json", "json_web_crypto_test.json"] {
        let text = std::fs::read_to_string(format!("{folder}/{file}")).expect("the vectors");
        let vectors: Value = serde_json::from_str(&text).expect("JSON");
        for group in vectors["testGroups"].as_array().expect("groups") {
            let key = if group["public"].is_object() { &group["public"] } else { &group["private"] };
            for test in group["tests"].as_array().expect("tests") {
                let Some(token) = test["jws"].as_str() else { continue };
                let said = format!("{file} {} ({}): {}", test["tcId"], key["alg"], test["comment"]);
                match (refuses(key, token), test["result"].as_str()) {
                    (Some(_), Some("invalid")) => refused += 1,
                    (None, Some("valid")) => passed += 1,
                    (None, _) if test["comment"] == NOT_LOOKED_FOR => {}
                    (Some(why), _) => by_design.push(format!("{said}: {why}")),
                    (None, _) => wrong.push(said),
                }
            }
        }
    }
    println!("{refused} invalid ones refused, {passed} valid ones passed");
    println!("valid, and refused all the same: {by_design:#?}");
    assert!(refused > 300 && passed > 20, "{refused} {passed}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
