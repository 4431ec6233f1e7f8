//! What a `statements` blob holds: the texts of one exchange that are too long or too private for a leaf.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The texts of a request, or of its outcome. The body follows the header as it was received.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StatementText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
    /// The error message that the client was shown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The result's schema, where the delivered body does not carry it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    #[serde(skip)]
    pub body: Vec<u8>,
}

impl StatementText {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.sql.is_none()
            && self.params.is_none()
            && self.message.is_empty()
            && self.schema.is_none()
            && self.body.is_empty()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let header = serde_json::to_vec(self).expect("texts are JSON");
        let mut out = Vec::with_capacity(4 + header.len() + self.body.len());
        out.extend_from_slice(&(header.len() as u32).to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(&self.body);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = bytes.split_at_checked(4)?;
        let len = u32::from_le_bytes(len.try_into().ok()?) as usize;
        let (header, body) = rest.split_at_checked(len)?;
        let mut text: Self = serde_json::from_slice(header).ok()?;
        text.body = body.to_vec();
        Some(text)
    }
}
