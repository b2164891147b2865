//! Secrets: API keys and tokens, and those that webhooks are signed with.

use std::collections::HashSet;
use std::sync::OnceLock;

use backfill_watch::config::{SecretError, SecretSource};
use backfill_watch::error::chain;
use secrecy::{ExposeSecret as _, SecretString};

/// So many bytes of a secret in a message would be a leak.
const LEAK_LENGTH: usize = 8;
const VARIABLE: &str = "SECRET";

pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let source = source(text);
    assert_silent(text, &format!("{source} {source:?}"));

    match source.read_line() {
        Ok(secret) => {
            let secret = secret.expose_secret();
            assert_eq!(secret, without_quotes(text));
            assert!(!secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic()));
        }
        Err(error) => assert_silent(text, &reported(&error)),
    }
    match source.read_webhook_secrets() {
        Ok(secrets) => {
            let lines: Vec<&str> = text
                .lines()
                .map(without_quotes)
                .filter(|line| !line.is_empty())
                .collect();
            assert_eq!(secrets.len(), lines.len());
            assert!((1..=10).contains(&secrets.len()));
            for (secret, line) in secrets.iter().zip(lines) {
                assert!((24..=64).contains(&secret.expose().len()));
                assert!(line.starts_with("whsec_"));
                // The length that base64 implies: nothing was skipped.
                assert_eq!(
                    (line.len() - "whsec_".len()) / 4,
                    secret.expose().len().div_ceil(3)
                );
                // The receiver of the simulator reads secrets with code of its own.
                assert!(line.parse::<backfill_watch::simulator::ReceiverSecret>().is_ok());
                assert_silent(text, &format!("{secret:?}"));
            }
        }
        Err(error) => assert_silent(text, &reported(&error)),
    }
}

/// `text` without white space and one pair of quotes around it.
fn without_quotes(text: &str) -> &str {
    let text = text.trim();
    for quote in ["\"", "'"] {
        if text.len() > 1 && text.starts_with(quote) && text.ends_with(quote) {
            return text[1..text.len() - 1].trim();
        }
    }
    text
}

fn source(text: &str) -> SecretSource {
    SecretSource::Environment {
        name: VARIABLE,
        value: Some(SecretString::from(text)),
    }
}

fn reported(error: &SecretError) -> String {
    let reported = format!("{} {error:?} {}", chain(error), error.help());
    assert!(reported.len() < 1_000);
    reported
}

/// Nothing of `text` is in `message` that the messages do not have of themselves.
fn assert_silent(text: &str, message: &str) {
    let reported: HashSet<&[u8]> = message.as_bytes().windows(LEAK_LENGTH).collect();
    for part in text
        .as_bytes()
        .windows(LEAK_LENGTH)
        .filter(|part| reported.contains(part))
    {
        let own = own_words()
            .as_bytes()
            .windows(LEAK_LENGTH)
            .any(|window| window == part);
        assert!(own, "{:?} is reported: {message}", String::from_utf8_lossy(part));
    }
}

/// The errors for wrong secrets, and the result for a right one.
fn own_words() -> &'static str {
    static WORDS: OnceLock<String> = OnceLock::new();
    WORDS.get_or_init(|| {
        let right = format!("whsec_{}", "A".repeat(32));
        let too_short = format!("whsec_{}", "A".repeat(8));
        let too_long = format!("whsec_{}", "A".repeat(120));
        let many = format!("{right}\n").repeat(11);
        let mut words = String::new();
        for text in [
            "", "~\n~", "~ ~", "~", "whsec_~", &right, &too_short, &too_long, &many,
        ] {
            let source = source(text);
            words.push_str(&format!("{source} {source:?} "));
            if let Err(error) = source.read_line() {
                words.push_str(&reported(&error));
            }
            match source.read_webhook_secrets() {
                Ok(secrets) => words.push_str(&format!("{:?}", secrets[0])),
                Err(error) => words.push_str(&reported(&error)),
            }
        }
        words
    })
}
