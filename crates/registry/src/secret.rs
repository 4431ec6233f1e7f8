//! Bytes that nobody prints.

use zeroize::Zeroizing;

/// Key material on its way in or out. It is wiped when dropped and has no `Debug`, `Display` or `Serialize`.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over; the caller keeps no copy.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the one call that needs them.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}
