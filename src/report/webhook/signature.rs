//! Signs messages by the Standard Webhooks specification.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::Sha256;

/// The header with the message's ID.
pub const ID: &str = "webhook-id";
/// The header with the time of the attempt, in seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// The header with the signatures.
pub const SIGNATURE: &str = "webhook-signature";

/// The value of [`SIGNATURE`]: one signature per secret, in order, separated by a space. `seconds` is the value of
/// [`TIMESTAMP`].
///
/// A receiver accepts the message if one signature matches a secret it knows, so secrets can be rotated.
#[must_use]
pub fn signatures(secrets: &[SecretSlice<u8>], id: &str, seconds: i64, body: &[u8]) -> String {
    let signed: Vec<String> = secrets
        .iter()
        .map(|secret| signature(secret.expose_secret(), id, seconds, body))
        .collect();
    signed.join(" ")
}

fn signature(secret: &[u8], id: &str, seconds: i64, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret)
        .expect("HMAC takes a key of any length")
        .chain_update(id)
        .chain_update(".")
        .chain_update(seconds.to_string())
        .chain_update(".")
        .chain_update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::{HeaderMap, HeaderValue};

    use super::*;

    fn secret(base64: &str) -> SecretSlice<u8> {
        SecretSlice::from(STANDARD.decode(base64).unwrap())
    }

    #[test]
    fn known_signatures_come_out() {
        for (key, id, seconds, body, expected) in [
            (
                "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                "C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                1_649_367_553,
                r#"{"email":"test@example.com","username":"test_user"}"#,
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
        ] {
            assert_eq!(signatures(&[secret(key)], id, seconds, body.as_bytes()), expected);
        }
    }

    #[test]
    fn each_secret_signs_in_its_order() {
        let (new, old) = ([1; 24], [2; 32]);
        let both = signatures(
            &[SecretSlice::from(new.to_vec()), SecretSlice::from(old.to_vec())],
            "evt_1",
            1,
            b"{}",
        );
        let one = |key: &[u8]| signature(key, "evt_1", 1, b"{}");
        assert_eq!(both, format!("{} {}", one(&new), one(&old)));
    }

    proptest! {
        /// The reference library reads the clock itself, so only current messages can be verified.
        #[test]
        fn the_reference_library_verifies_every_secrets_signature(
            keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 24..=64), 1..4),
            id in "evt_[0-9a-f]{32}",
            body in "\\PC{0,300}",
        ) {
            let seconds = crate::clock::wall().as_second();
            let secrets: Vec<_> = keys.iter().cloned().map(SecretSlice::from).collect();
            let value = signatures(&secrets, &id, seconds, body.as_bytes());
            let mut headers = HeaderMap::new();
            headers.insert(ID, HeaderValue::from_str(&id).unwrap());
            headers.insert(TIMESTAMP, HeaderValue::from(seconds));
            headers.insert(SIGNATURE, HeaderValue::from_str(&value).unwrap());
            for key in &keys {
                let verifier = standardwebhooks::Webhook::from_bytes(key.clone()).unwrap();
                prop_assert!(verifier.verify(body.as_bytes(), &headers).is_ok());
                let changed = format!("{body} ");
                prop_assert!(verifier.verify(changed.as_bytes(), &headers).is_err());
            }
        }
    }
}
