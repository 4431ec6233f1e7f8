//! The door of the fuzz target `token` in `fuzz/`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;

use crate::bearer;

/// Reads a credential as it stands on the wire, and a token made of a header and claims.
pub fn token(authorization: &[u8], header: &str, claims: &str) {
    if let Ok(value) = http::HeaderValue::from_bytes(authorization) {
        let headers: HeaderMap = [(http::header::AUTHORIZATION, value)].into_iter().collect();
        let _ = bearer::token(&headers).map(bearer::peek);
    }
    let token = format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    if let Ok(peeked) = bearer::peek(&token) {
        let plain: serde_json::Value = serde_json::from_str(claims).expect("what was read is JSON");
        assert_eq!(plain["iss"], peeked.iss, "everybody reads the same issuer");
    }
    if let Ok(claims) = serde_json::from_str(claims) {
        let _ = bearer::check_times(&claims, 1_800_000_000);
        let _ = (bearer::audiences(&claims), bearer::text(&claims, "sub"));
    }
}
