//! `[http]`: the status page, health, metrics and HTTP API.

use std::net::SocketAddr;

use super::reader::{Reader, default_text};
use super::secret::SecretSource;
use super::secrets::{self, Missing};
use crate::core::text::one_line;

/// What is answered to other machines without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unauthenticated {
    /// Health and metrics only.
    HealthAndMetrics,
    /// Everything (`allow_unauthenticated = true`).
    Everything,
}

/// How HTTP is served.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpSettings {
    /// The address to listen on; `None` for `off`.
    pub listen: Option<SocketAddr>,
    /// Where the tokens are of which clients must send one, if they are configured.
    pub tokens: Option<SecretSource>,
    /// Where the tokens are that may write and read, if they are configured.
    pub write_tokens: Option<SecretSource>,
    /// What is answered to other machines without a token.
    pub unauthenticated: Unauthenticated,
}

impl HttpSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            listen: listen(reader),
            tokens: tokens(reader, "http.token_file"),
            write_tokens: tokens(reader, "http.write_token_file"),
            unauthenticated: match reader.boolean("http.allow_unauthenticated") {
                true => Unauthenticated::Everything,
                false => Unauthenticated::HealthAndMetrics,
            },
        }
    }
}

fn listen(reader: &mut Reader<'_>) -> Option<SocketAddr> {
    const KEY: &str = "http.listen";
    let text = match reader.raw.get(KEY) {
        None => {
            let default = default_text(KEY);
            reader.note_text(KEY, default);
            default
        }
        Some(_) => reader.text(KEY, "an address with a port, or \"off\"")?,
    };
    if text == "off" {
        return None;
    }
    let address = text.parse().ok();
    if address.is_none() {
        let help = "use an IP address and a port, such as 127.0.0.1:8464, [::1]:8464 or 0.0.0.0:8464, or off";
        reader.fail(
            KEY,
            format!("{:?} is not an address with a port", one_line(text, 80)),
            help,
        );
    }
    address
}

fn tokens(reader: &mut Reader<'_>, key: &str) -> Option<SecretSource> {
    let source = secrets::in_file(reader, key)?;
    let missing = Missing {
        problem: "there is no token",
        help: "write one token per line into the file",
    };
    secrets::check_tokens(reader, key, &source, missing);
    Some(source)
}
