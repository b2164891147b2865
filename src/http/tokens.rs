//! The HTTP tokens: where they are, and how a client shows one.

use std::fmt;

use axum::http::{HeaderMap, header};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::config::{SecretError, SecretSource};

/// A file of tokens, if one is configured.
#[derive(Debug, Clone, Default)]
pub(super) struct TokenFile {
    source: Option<SecretSource>,
    tokens: TokenHashes,
}

/// SHA-256 of each token. Hashes have equal length, so comparing them reveals nothing.
#[derive(Clone, Default, PartialEq, Eq)]
struct TokenHashes(Vec<[u8; 32]>);

/// SHA-256 of the token that a client shows.
#[derive(Clone, Copy)]
pub(super) struct ShownToken {
    hash: [u8; 32],
    scheme: Scheme,
}

/// How a token is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Bearer,
    /// As the password of `Basic`, as browsers do.
    Basic,
}

impl TokenFile {
    /// Reads the tokens, so it may block briefly.
    ///
    /// # Errors
    /// When tokens are configured and cannot be read.
    pub(super) fn read(source: Option<SecretSource>) -> Result<Self, SecretError> {
        let tokens = source.as_ref().map(TokenHashes::read).transpose()?;
        Ok(Self {
            source,
            tokens: tokens.unwrap_or_default(),
        })
    }

    /// Whether there is such a file.
    pub(super) fn is_configured(&self) -> bool {
        self.source.is_some()
    }

    /// Whether the token is in the file.
    pub(super) fn contains(&self, token: &ShownToken) -> bool {
        self.tokens.contain(&token.hash)
    }

    /// Reads the tokens again; true if they changed.
    ///
    /// # Errors
    /// When they cannot be read. Then the previous ones stay valid.
    pub(super) fn refresh(&mut self) -> Result<bool, SecretError> {
        let Some(source) = &self.source else {
            return Ok(false);
        };
        let tokens = TokenHashes::read(source)?;
        let has_changed = self.tokens != tokens;
        self.tokens = tokens;
        Ok(has_changed)
    }
}

impl TokenHashes {
    fn read(source: &SecretSource) -> Result<Self, SecretError> {
        let tokens = source.read_tokens()?;
        Ok(Self::of(tokens.iter().map(|token| token.expose_secret())))
    }

    fn of<'a>(tokens: impl Iterator<Item = &'a str>) -> Self {
        Self(tokens.map(|token| Sha256::digest(token).into()).collect())
    }

    /// Whether the token is one of these. Compares with all of them, so that the time shows nothing.
    fn contain(&self, shown: &[u8; 32]) -> bool {
        let none = Choice::from(0);
        let found = self
            .0
            .iter()
            .fold(none, |found, token| found | shown.ct_eq(token));
        found.into()
    }
}

impl fmt::Debug for TokenHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} tokens]", self.0.len())
    }
}

impl ShownToken {
    /// The token of a request, if it has one.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, credentials) = value.split_once(' ')?;
        let (scheme, token) = if scheme.eq_ignore_ascii_case("bearer") {
            (Scheme::Bearer, SecretString::from(credentials.trim()))
        } else if scheme.eq_ignore_ascii_case("basic") {
            (Scheme::Basic, password(credentials.trim())?)
        } else {
            return None;
        };
        Some(Self {
            hash: Sha256::digest(token.expose_secret()).into(),
            scheme,
        })
    }

    /// How it is shown.
    pub(super) fn scheme(&self) -> Scheme {
        self.scheme
    }
}

impl fmt::Debug for ShownToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShownToken")
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

fn password(credentials: &str) -> Option<SecretString> {
    let decoded = String::from_utf8(BASE64_STANDARD.decode(credentials).ok()?).ok()?;
    decoded
        .split_once(':')
        .map(|(_, password)| SecretString::from(password))
}

#[cfg(test)]
impl TokenFile {
    /// A file with these tokens, which does not exist.
    pub(super) fn of(tokens: &[&str]) -> Self {
        Self {
            source: Some(SecretSource::File("token".into())),
            tokens: TokenHashes::of(tokens.iter().copied()),
        }
    }
}
