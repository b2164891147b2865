//! Verifies callbacks by the Standard Webhooks specification. Pure.
//!
//! It shares no code with the signing side, so that each checks the other.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

/// The largest difference between a callback's timestamp and the receiver's clock.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// A secret that callbacks are signed with: `whsec_` and base64 of 24 to 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceiverSecret(Vec<u8>);

/// The text is not a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a webhook secret is `whsec_` followed by base64 of 24 to 64 bytes; generate one with `echo whsec_$(openssl rand -base64 32)`"
)]
pub struct InvalidSecret;

impl FromStr for ReceiverSecret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let base64 = text.strip_prefix("whsec_").ok_or(InvalidSecret)?;
        let bytes = STANDARD.decode(base64).map_err(|_| InvalidSecret)?;
        if (24..=64).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(InvalidSecret)
        }
    }
}

impl fmt::Debug for ReceiverSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceiverSecret(…)")
    }
}

/// Why a callback is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerificationError {
    /// A required header is missing or not text.
    #[error("the header {0} is missing")]
    MissingHeader(&'static str),
    /// The timestamp is not a whole number of seconds.
    #[error("the header webhook-timestamp is not a number of seconds")]
    MalformedTimestamp,
    /// The timestamp is too far from now: a replayed callback, or a wrong clock.
    #[error("the timestamp is {0} seconds away from now, more than 5 minutes")]
    Untimely(u64),
    /// No signature matches the body with any of the secrets.
    #[error("no signature matches; sender and receiver may have different secrets")]
    WrongSignature,
}

/// Verifies the three headers and the body of a callback that came in `now`, with any of `secrets`.
///
/// # Errors
/// When the callback is refused.
pub fn verify(
    secrets: &[ReceiverSecret],
    id: Option<&str>,
    timestamp: Option<&str>,
    signature: Option<&str>,
    body: &[u8],
    now: Timestamp,
) -> Result<(), VerificationError> {
    let id = id.ok_or(VerificationError::MissingHeader("webhook-id"))?;
    let timestamp = timestamp.ok_or(VerificationError::MissingHeader("webhook-timestamp"))?;
    let signature = signature.ok_or(VerificationError::MissingHeader("webhook-signature"))?;
    let seconds: i64 = timestamp
        .parse()
        .map_err(|_| VerificationError::MalformedTimestamp)?;
    let away = now.as_second().abs_diff(seconds);
    if away > TOLERANCE.as_secs() {
        return Err(VerificationError::Untimely(away));
    }
    let signed = signature
        .split(' ')
        .filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
    for candidate in signed {
        for secret in secrets {
            // HMAC takes a key of any length.
            let Ok(mac) = Hmac::<Sha256>::new_from_slice(&secret.0) else {
                continue;
            };
            let mac = mac
                .chain_update(id)
                .chain_update(".")
                .chain_update(timestamp)
                .chain_update(".")
                .chain_update(body);
            // Compares in constant time.
            if mac.verify_slice(&candidate).is_ok() {
                return Ok(());
            }
        }
    }
    Err(VerificationError::WrongSignature)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Vector {
        secret: &'static str,
        id: &'static str,
        seconds: i64,
        body: &'static str,
        signature: &'static str,
    }

    const VECTORS: [Vector; 2] = [
        Vector {
            secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
            seconds: 1_614_265_330,
            body: r#"{"test": 2432232314}"#,
            signature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
        Vector {
            secret: "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            id: "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            seconds: 1_649_367_553,
            body: r#"{"email":"test@example.com","username":"test_user"}"#,
            signature: "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        },
    ];

    fn check(vector: &Vector, signature: &str, body: &str, after: i64) -> Result<(), VerificationError> {
        verify(
            &[vector.secret.parse().unwrap()],
            Some(vector.id),
            Some(&vector.seconds.to_string()),
            Some(signature),
            body.as_bytes(),
            Timestamp::from_second(vector.seconds + after).unwrap(),
        )
    }

    #[test]
    fn known_signatures_are_accepted_and_their_neighbours_refused() {
        for vector in &VECTORS {
            assert_eq!(check(vector, vector.signature, vector.body, 0), Ok(()));
            let wrong = vector
                .signature
                .replace("J1OE=", "J1OA=")
                .replace("a3Kkw=", "a3Kkg=");
            assert_eq!(
                check(vector, &wrong, vector.body, 0),
                Err(VerificationError::WrongSignature)
            );
            let spaced = format!("{} ", vector.body);
            assert_eq!(
                check(vector, vector.signature, &spaced, 0),
                Err(VerificationError::WrongSignature)
            );
        }
    }

    #[test]
    fn one_of_several_signatures_and_secrets_is_enough() {
        let vector = &VECTORS[0];
        let several = format!("v1,AAAA v2,xyz {} nonsense", vector.signature);
        assert_eq!(check(vector, &several, vector.body, 0), Ok(()));
        let secrets: Vec<ReceiverSecret> = VECTORS.iter().rev().map(|v| v.secret.parse().unwrap()).collect();
        let now = Timestamp::from_second(vector.seconds).unwrap();
        let seconds = vector.seconds.to_string();
        let outcome = verify(
            &secrets,
            Some(vector.id),
            Some(&seconds),
            Some(vector.signature),
            vector.body.as_bytes(),
            now,
        );
        assert_eq!(outcome, Ok(()));
    }

    #[test]
    fn the_time_stamp_may_be_five_minutes_off_and_no_more() {
        let vector = &VECTORS[0];
        for after in [-300, 300] {
            assert_eq!(check(vector, vector.signature, vector.body, after), Ok(()));
        }
        for after in [-301, 301] {
            assert_eq!(
                check(vector, vector.signature, vector.body, after),
                Err(VerificationError::Untimely(301))
            );
        }
    }

    #[test]
    fn incomplete_callbacks_are_refused_by_name() {
        let now = Timestamp::UNIX_EPOCH;
        let refused = |id, time, signature| verify(&[], id, time, signature, b"", now).unwrap_err();
        assert_eq!(
            refused(None, Some("0"), Some("v1,")),
            VerificationError::MissingHeader("webhook-id")
        );
        assert_eq!(
            refused(Some("a"), None, Some("v1,")),
            VerificationError::MissingHeader("webhook-timestamp")
        );
        assert_eq!(
            refused(Some("a"), Some("0"), None),
            VerificationError::MissingHeader("webhook-signature")
        );
        assert_eq!(
            refused(Some("a"), Some("soon"), Some("v1,")),
            VerificationError::MalformedTimestamp
        );
        assert_eq!(
            refused(Some("a"), Some("0"), Some("v1,")),
            VerificationError::WrongSignature
        );
    }

    #[test]
    fn secrets_are_checked_and_never_shown() {
        let secret: ReceiverSecret = VECTORS[0].secret.parse().unwrap();
        assert_eq!(format!("{secret:?}"), "ReceiverSecret(…)");
        let short = format!("whsec_{}", STANDARD.encode([0; 23]));
        let long = format!("whsec_{}", STANDARD.encode([0; 65]));
        for wrong in [
            "",
            "whsec_",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_!!!",
            &short,
            &long,
        ] {
            assert_eq!(wrong.parse::<ReceiverSecret>(), Err(InvalidSecret), "{wrong}");
        }
    }
}
