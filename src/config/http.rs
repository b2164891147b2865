//! `[http]`: the daemon's own pages.

use std::net::SocketAddr;

use super::defaults;
use super::reader::Reader;
use super::secret::SecretSource;
use super::secrets::{self, Missing};
use super::value::Value;
use crate::core::text::one_line;

/// What is answered beyond loopback while there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unauthenticated {
    /// Health and metrics alone.
    HealthAndMetrics,
    /// Everything (`allow_unauthenticated = true`).
    Everything,
}

/// How the daemon's own pages are served.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpSettings {
    /// The address to listen on; `None` for none.
    pub listen: Option<SocketAddr>,
    /// Where the token stands that readers must show, if they must.
    pub token: Option<SecretSource>,
    /// What is answered beyond loopback while there is no token.
    pub unauthenticated: Unauthenticated,
}

impl HttpSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            listen: listen(reader),
            token: token(reader),
            unauthenticated: match reader.boolean("http.allow_unauthenticated", false) {
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
            reader
                .effective
                .note(KEY, &Value::String(defaults::LISTEN.to_owned()));
            defaults::LISTEN
        }
        Some(_) => reader.text(KEY, "an address with a port, or \"off\"")?,
    };
    if text == "off" {
        return None;
    }
    let address = text.parse().ok();
    if address.is_none() {
        let help =
            "write an IP address and a port, such as 127.0.0.1:8464, [::1]:8464 or 0.0.0.0:8464, or off";
        reader.fail(
            KEY,
            format!("{:?} is no address with a port", one_line(text, 80)),
            help,
        );
    }
    address
}

fn token(reader: &mut Reader<'_>) -> Option<SecretSource> {
    const KEY: &str = "http.token_file";
    let source = secrets::in_file(reader, KEY)?;
    let missing = Missing {
        problem: "there is no token",
        help: "put one into the file",
    };
    secrets::check_token(reader, KEY, &source, missing);
    Some(source)
}
