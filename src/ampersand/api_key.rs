//! An API key that can be sent, and removed from responses.

use std::fmt;
use std::sync::Arc;

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use crate::core::mask::Mask;

/// Replaces the key in texts.
const REPLACEMENT: &str = "[API key]";

/// An API key. Clones are cheap.
#[derive(Clone)]
pub struct ApiKey(Arc<Key>);

struct Key {
    secret: SecretString,
    mask: Mask,
}

impl ApiKey {
    /// A new key.
    #[must_use]
    pub fn new(secret: SecretString) -> Self {
        Self::with_mask_of(secret, &[])
    }

    /// A key that replaces `before`; both are removed from responses from now on.
    #[must_use]
    pub fn replacing(secret: SecretString, before: &Self) -> Self {
        Self::with_mask_of(secret, &[before.0.secret.expose_secret()])
    }

    fn with_mask_of(secret: SecretString, others: &[&str]) -> Self {
        let keys = others.iter().copied().chain([secret.expose_secret()]);
        let mask = Mask::new(keys.map(str::as_bytes), REPLACEMENT);
        Self(Arc::new(Key { secret, mask }))
    }

    /// Whether this key equals `secret`, compared in constant time.
    #[must_use]
    pub fn equals(&self, secret: &SecretString) -> bool {
        let (this, other) = (self.0.secret.expose_secret(), secret.expose_secret());
        this.as_bytes().ct_eq(other.as_bytes()).into()
    }

    /// The header's value; `None` for a key that no header can carry. Made for each request, since its memory is not wiped.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let mut header = HeaderValue::from_str(self.0.secret.expose_secret()).ok()?;
        header.set_sensitive(true);
        (!header.is_empty()).then_some(header)
    }

    /// Removes the key from texts.
    pub(super) fn mask(&self) -> &Mask {
        &self.0.mask
    }
}

impl From<SecretString> for ApiKey {
    fn from(secret: SecretString) -> Self {
        Self::new(secret)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey([REDACTED])")
    }
}
