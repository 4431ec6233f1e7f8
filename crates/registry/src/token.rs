//! The upstream's access token: short-lived, and only ever a header.

use http::HeaderValue;
use record::Timestamp;

/// An access token as the header that carries it. The header is marked sensitive, so it is never printed.
#[derive(Clone)]
pub struct UpstreamToken {
    header: HeaderValue,
    pub(crate) expires: Timestamp,
}

impl UpstreamToken {
    pub(crate) fn new(token: &str, expires: Timestamp) -> Option<Self> {
        let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
        header.set_sensitive(true);
        Some(Self { header, expires })
    }

    /// The value of `Authorization`.
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }
}
