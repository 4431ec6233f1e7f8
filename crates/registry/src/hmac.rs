//! Signing and checking messages with a secret that two sides share (RFC 2104, SHA-256).

use aws_lc_rs::hmac;

use crate::Secret;

/// A shared secret.
pub struct HmacKey(hmac::Key);

impl HmacKey {
    /// Of the secret's bytes.
    pub fn new(secret: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.reveal()))
    }

    /// The tag of a message.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        hmac::sign(&self.0, message).as_ref().to_vec()
    }

    /// Whether a tag is the message's; takes as long whatever is wrong with it.
    pub fn is_signed(&self, message: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.0, message, tag).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2.
    #[test]
    fn a_message_has_the_tag_of_the_standard() {
        let key = HmacKey::new(&Secret::new(b"Jefe".to_vec()));
        let hex: String =
            key.sign(b"what do ya want for nothing?").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert!(
            !key.is_signed(b"what do ya want for something?", &key.sign(b"what do ya want for nothing?"))
        );
    }
}
