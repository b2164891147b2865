//! Finds the secrets of an endpoint that must not appear in errors: parts of its URL, and its signing secrets.

use secrecy::{ExposeSecret as _, SecretSlice};
use url::Url;

use crate::core::mask::Mask;

/// Replaces a secret.
const REPLACEMENT: &str = "[…]";
/// A shorter part of a path or query is not a secret.
const MIN_PART: usize = 6;
/// A part in lower case is an ordinary word up to this length.
const MAX_WORD: usize = 20;
/// A label of a host name is an ordinary name below this length.
const MIN_LABEL: usize = 16;

/// Removes the endpoint's secrets from texts, in any encoding.
pub(super) fn mask(url: &Url, secrets: &[SecretSlice<u8>]) -> Mask {
    let mut parts = vec![url.as_str()];
    // The whole path and query are not needed to understand an error.
    parts.extend([url.path(), url.query().unwrap_or_default()]);
    for segment in url.path().split('/') {
        let pieces = segment.split([';', ',', ':', '@', '=']);
        parts.extend(pieces.chain([segment]).filter(|part| is_secret(part)));
    }
    parts.extend(
        url.query()
            .unwrap_or_default()
            .split(['&', ';', '='])
            .filter(|part| is_secret(part)),
    );
    parts.extend([url.username(), url.password().unwrap_or_default()]);
    if let Some(url::Host::Domain(name)) = url.host() {
        parts.extend(name.split('.').filter(|label| is_token(label)));
    }
    let parts = parts.into_iter().map(str::as_bytes);
    Mask::new(
        parts.chain(secrets.iter().map(|secret| secret.expose_secret())),
        REPLACEMENT,
    )
}

/// Whether a part of a path or query may be a secret; `hooks` and `incoming-webhook` are not.
fn is_secret(part: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'_' | b'.');
    part.len() >= MIN_PART && (part.len() > MAX_WORD || !part.bytes().all(is_plain))
}

/// Whether a label of a host name may be a secret.
fn is_token(label: &str) -> bool {
    label.len() >= MIN_LABEL
        && label.bytes().any(|byte| byte.is_ascii_digit())
        && label.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(url: &str, text: &str) -> String {
        let secret = SecretSlice::from(b"\x01signing-secret-of-24-byte".to_vec());
        mask(&Url::parse(url).unwrap(), &[secret])
            .apply(text)
            .into_owned()
    }

    #[test]
    fn no_part_of_an_address_that_can_be_secret_is_left() {
        let url = "https://me:pass-word1@hooks.example.com/services/T00042/s3cr3t-Path+of=Hook?token=hunter2&mode=fast";
        for (text, left) in [
            (
                "no route for POST /services/T00042/s3cr3t-Path+of=Hook",
                "no route for POST […]",
            ),
            ("no hook S3CR3T-path", "no hook […]"),
            ("team %5400042 of services", "team […] of services"),
            ("token hunter2 in mode fast", "token […] in mode fast"),
            ("pass\\u002dword1", "[…]"),
            ("hooks.example.com answers", "hooks.example.com answers"),
            ("the hook of services is gone", "the hook of services is gone"),
            ("AXNpZ25pbmctc2VjcmV0LW9mLTI0LWJ5dGU=", "[…]="),
        ] {
            assert_eq!(masked(url, text), left, "{text}");
        }
        assert_eq!(masked(url, &format!("POST {url} failed")), "POST […] failed");
    }

    #[test]
    fn a_secret_name_of_a_host_is_removed_and_an_ordinary_one_is_not() {
        let url = "https://3f9a8b7c6d5e4f3a2b1c.hooks.example.com/";
        assert_eq!(
            masked(url, "no connection to 3f9a8b7c6d5e4f3a2b1c.hooks.example.com"),
            "no connection to […].hooks.example.com"
        );
        let url = "https://ip-10-1-2-3.example.com/";
        assert_eq!(
            masked(url, "no connection to ip-10-1-2-3.example.com"),
            "no connection to ip-10-1-2-3.example.com"
        );
    }
}
