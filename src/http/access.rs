//! Decides which requests are answered: checks the `Host` header and the token.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{PoisonError, RwLock};

use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, Version, header, uri::Authority};
use axum::response::{IntoResponse, Response};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::problem::Problem;
use crate::config::{HttpSettings, SecretError, SecretSource, Unauthenticated};
use crate::error::chain;

/// Health probes, which never need a token.
const PROBE_PATHS: [&str; 2] = ["/livez", "/readyz"];
/// Paths that are answered beyond loopback without a token.
pub(super) const OPEN_PATHS: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Who can open the status page over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusPageAccess {
    /// Every client; with the token where one is set.
    All,
    /// No client: a token is required and none is configured.
    Nobody,
}

/// Access control of the HTTP listener.
#[derive(Debug)]
pub struct Access {
    /// Whether the listener accepts connections from this host only.
    is_loopback: bool,
    rules: RwLock<AccessRules>,
}

/// The access rules from the settings.
#[derive(Debug, Clone)]
pub struct AccessRules {
    /// Tokens that may read.
    read: TokenFile,
    /// Tokens that may write and read.
    write: TokenFile,
    unauthenticated: Unauthenticated,
}

/// A file of tokens, if one is configured.
#[derive(Debug, Clone, Default)]
struct TokenFile {
    source: Option<SecretSource>,
    tokens: TokenHashes,
}

/// SHA-256 of each token. Hashes have equal length, so comparing them reveals nothing.
#[derive(Clone, Default, PartialEq, Eq)]
struct TokenHashes(Vec<[u8; 32]>);

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AccessDenied {
    NoHost,
    ForeignHost,
    NoToken,
    NeedsTokenFile,
}

impl Access {
    /// Access control for a listener on `address`. Reads the token file, so it may block briefly.
    ///
    /// # Errors
    /// When a token is configured and cannot be read.
    pub fn new(settings: &HttpSettings, address: SocketAddr) -> Result<Self, SecretError> {
        Ok(Self {
            is_loopback: address.ip().is_loopback(),
            rules: RwLock::new(AccessRules::read(settings)?),
        })
    }

    /// Whether every path is answered without a token.
    fn is_open(&self, rules: &AccessRules) -> bool {
        self.is_loopback || rules.unauthenticated == Unauthenticated::Everything
    }

    /// Who can open the status page under the current rules.
    #[must_use]
    pub fn audience(&self) -> StatusPageAccess {
        let rules = self.rules();
        match rules.has_tokens() || self.is_open(&rules) {
            true => StatusPageAccess::All,
            false => StatusPageAccess::Nobody,
        }
    }

    /// Replaces the rules.
    pub fn set(&self, rules: AccessRules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// Reads the tokens again and keeps the current ones of a file that cannot be read. May block briefly.
    pub fn refresh(&self) {
        let mut rules = self.rules();
        let has_changed = [rules.read.refresh(), rules.write.refresh()].contains(&true);
        if has_changed {
            self.set(rules);
            tracing::info!("the HTTP tokens were replaced");
        }
    }

    /// Checks whether a request may be answered.
    pub(super) fn judge<B>(&self, request: &Request<B>) -> Result<(), AccessDenied> {
        let host = named_host(request.version(), request.headers())?;
        if self.is_loopback {
            // Against DNS rebinding: a foreign page must not reach this port through a name that resolves to loopback.
            hosts_are_local(request.uri(), host)?;
        }
        let (path, headers) = (request.uri().path(), request.headers());
        let rules = self.rules();
        if PROBE_PATHS.contains(&path) {
            return Ok(());
        }
        if rules.accepts(headers) {
            return Ok(());
        }
        if rules.read.source.is_some() {
            return Err(AccessDenied::NoToken);
        }
        if self.is_open(&rules) || (OPEN_PATHS.contains(&path) && request.method().is_safe()) {
            Ok(())
        } else if rules.has_tokens() {
            Err(AccessDenied::NoToken)
        } else {
            Err(AccessDenied::NeedsTokenFile)
        }
    }

    fn rules(&self) -> AccessRules {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl AccessRules {
    /// Reads the rules and the token files, so it may block briefly.
    ///
    /// # Errors
    /// When tokens are configured and cannot be read.
    pub fn read(settings: &HttpSettings) -> Result<Self, SecretError> {
        Ok(Self {
            read: TokenFile::read(settings.tokens.clone())?,
            write: TokenFile::read(settings.write_tokens.clone())?,
            unauthenticated: settings.unauthenticated,
        })
    }

    fn has_tokens(&self) -> bool {
        self.read.source.is_some() || self.write.source.is_some()
    }

    /// Whether the request carries a token that may read, as `Bearer` or as the password of `Basic`.
    fn accepts(&self, headers: &HeaderMap) -> bool {
        shown_token(headers)
            .is_some_and(|token| self.read.tokens.contain(&token) | self.write.tokens.contain(&token))
    }
}

impl TokenFile {
    fn read(source: Option<SecretSource>) -> Result<Self, SecretError> {
        let tokens = source.as_ref().map(TokenHashes::read).transpose()?;
        Ok(Self {
            source,
            tokens: tokens.unwrap_or_default(),
        })
    }

    /// Reads the tokens again; true if they changed.
    fn refresh(&mut self) -> bool {
        let Some(source) = &self.source else {
            return false;
        };
        match TokenHashes::read(source) {
            Ok(tokens) => {
                let has_changed = self.tokens != tokens;
                self.tokens = tokens;
                has_changed
            }
            Err(error) => {
                tracing::debug!(
                    error = chain(&error),
                    "the HTTP tokens cannot be read; the previous ones stay valid"
                );
                false
            }
        }
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
    fn contain(&self, token: &SecretString) -> bool {
        let shown: [u8; 32] = Sha256::digest(token.expose_secret()).into();
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

/// The token of a request, as `Bearer` or as the password of `Basic`.
fn shown_token(headers: &HeaderMap) -> Option<SecretString> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Some(SecretString::from(credentials.trim()))
    } else if scheme.eq_ignore_ascii_case("basic") {
        password(credentials.trim())
    } else {
        None
    }
}

fn password(credentials: &str) -> Option<SecretString> {
    let decoded = String::from_utf8(BASE64_STANDARD.decode(credentials).ok()?).ok()?;
    decoded
        .split_once(':')
        .map(|(_, password)| SecretString::from(password))
}

/// The `Host` header. HTTP/1.0 does not require one.
fn named_host(version: Version, headers: &HeaderMap) -> Result<Option<&HeaderValue>, AccessDenied> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Ok(Some(host)),
        (None, _) if version <= Version::HTTP_10 => Ok(None),
        _ => Err(AccessDenied::NoHost),
    }
}

fn hosts_are_local(uri: &Uri, host: Option<&HeaderValue>) -> Result<(), AccessDenied> {
    let is_local_header = host.is_none_or(|host| {
        let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        authority.is_some_and(|authority| is_local(authority.host()) && !authority.as_str().contains('@'))
    });
    // An absolute request target overrides the header, so its host must be local, too.
    if is_local_header && uri.host().is_none_or(is_local) {
        Ok(())
    } else {
        Err(AccessDenied::ForeignHost)
    }
}

fn is_local(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = address.parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

impl IntoResponse for AccessDenied {
    fn into_response(self) -> Response {
        let (status, detail) = match self {
            Self::NoHost => (
                StatusCode::BAD_REQUEST,
                "the request must have exactly one `Host` header",
            ),
            Self::ForeignHost => (
                StatusCode::FORBIDDEN,
                "this port answers only to loopback host names; use localhost or 127.0.0.1",
            ),
            Self::NoToken => (
                StatusCode::UNAUTHORIZED,
                "send a token of http.token_file, as `Authorization: Bearer`, or as the password of `Basic` with \
                 any user name",
            ),
            Self::NeedsTokenFile => (
                StatusCode::FORBIDDEN,
                "beyond loopback only /livez, /readyz and /metrics answer without a token: set http.token_file, or \
                 http.allow_unauthenticated = true where everybody may see everything",
            ),
        };
        let needs_token = self == Self::NoToken;
        let mut response = Problem::new(status, detail).into_response();
        if needs_token {
            for challenge in [
                r#"Basic realm="backfill-watch", charset="UTF-8""#,
                r#"Bearer realm="backfill-watch""#,
            ] {
                response
                    .headers_mut()
                    .append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(address: &str, token: Option<&str>, unauthenticated: Unauthenticated) -> Access {
        Access {
            is_loopback: address.parse::<IpAddr>().unwrap().is_loopback(),
            rules: RwLock::new(AccessRules {
                read: token_file(token),
                write: TokenFile::default(),
                unauthenticated,
            }),
        }
    }

    fn token_file(token: Option<&str>) -> TokenFile {
        TokenFile {
            source: token.map(|_| SecretSource::File("token".into())),
            tokens: TokenHashes::of(token.into_iter()),
        }
    }

    #[test]
    fn each_token_of_both_files_reads_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (read, write) = (folder.path().join("read"), folder.path().join("write"));
        std::fs::write(&read, "one\ntwo\n").unwrap();
        std::fs::write(&write, "three\n").unwrap();
        let source =
            |path: &std::path::Path| TokenFile::read(Some(SecretSource::File(path.to_owned()))).unwrap();
        let access = Access {
            is_loopback: true,
            rules: RwLock::new(AccessRules {
                read: source(&read),
                write: source(&write),
                unauthenticated: Unauthenticated::HealthAndMetrics,
            }),
        };
        let reads = |token: &str| {
            let authorization = format!("Bearer {token}");
            let headers = [("host", "localhost"), ("authorization", authorization.as_str())];
            judge(&access, "/metrics", &headers).is_ok()
        };
        assert_eq!(
            ["one", "two", "three", "four", ""].map(reads),
            [true, true, true, false, false]
        );
        std::fs::write(&read, "two\nfour\n").unwrap();
        // A file that is being replaced keeps its tokens.
        std::fs::write(&write, "").unwrap();
        access.refresh();
        assert_eq!(
            ["one", "two", "three", "four", ""].map(reads),
            [false, true, true, true, false]
        );
        assert!(!format!("{access:?}").contains("two"));
    }

    #[test]
    fn write_tokens_alone_close_nothing_on_loopback_and_open_other_hosts() {
        let with = |address: &str| {
            let access = access(address, None, Unauthenticated::HealthAndMetrics);
            access.set(AccessRules {
                read: TokenFile::default(),
                write: token_file(Some("w")),
                unauthenticated: Unauthenticated::HealthAndMetrics,
            });
            access
        };
        let (host, token) = (("host", "localhost"), ("authorization", "Bearer w"));
        assert_eq!(judge(&with("127.0.0.1"), "/", &[host]), Ok(()));
        assert_eq!(judge(&with("0.0.0.0"), "/", &[host, token]), Ok(()));
        assert_eq!(judge(&with("0.0.0.0"), "/", &[host]), Err(AccessDenied::NoToken));
        assert_eq!(judge(&with("0.0.0.0"), "/metrics", &[host]), Ok(()));
    }

    fn judge(access: &Access, target: &str, headers: &[(&str, &str)]) -> Result<(), AccessDenied> {
        judge_version(access, Version::HTTP_11, target, headers)
    }

    fn judge_version(
        access: &Access,
        version: Version,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<(), AccessDenied> {
        let request = Request::get(target).version(version);
        let request = headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value));
        access.judge(&request.body(()).unwrap())
    }

    #[test]
    fn on_loopback_the_host_must_be_local() {
        let access = access("127.0.0.1", None, Unauthenticated::HealthAndMetrics);
        for host in [
            "localhost",
            "LOCALHOST:8464",
            "localhost.",
            "watch.localhost:1",
            "127.0.0.1:8464",
            "127.8.8.8",
            "[::1]:8464",
            "[::ffff:127.0.0.1]",
        ] {
            assert_eq!(judge(&access, "/", &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "10.0.0.1",
            "evil@localhost",
            "localhost@evil",
            "notlocalhost",
            "[fe80::1]",
            "a b",
            "",
        ] {
            let refused = judge(&access, "/livez", &[("host", host)]);
            assert_eq!(refused, Err(AccessDenied::ForeignHost), "{host}");
        }
        assert_eq!(judge(&access, "/", &[]), Err(AccessDenied::NoHost));
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(judge(&access, "/", &twice), Err(AccessDenied::NoHost));
        let absolute = judge(&access, "http://example.com/", &[("host", "localhost")]);
        assert_eq!(absolute, Err(AccessDenied::ForeignHost));
        assert_eq!(
            judge(&access, "http://localhost/", &[("host", "localhost")]),
            Ok(())
        );
    }

    #[test]
    fn http_1_0_needs_no_host_but_what_is_there_must_be_right() {
        let loopback = access("127.0.0.1", None, Unauthenticated::HealthAndMetrics);
        let judge = |target: &str, headers: &[(&str, &str)]| {
            judge_version(&loopback, Version::HTTP_10, target, headers)
        };
        assert_eq!(judge("/livez", &[]), Ok(()));
        assert_eq!(judge("/livez", &[("host", "localhost")]), Ok(()));
        for (target, hosts, refusal) in [
            ("/livez", &["attacker.example"][..], AccessDenied::ForeignHost),
            ("/livez", &["localhost", "localhost"], AccessDenied::NoHost),
            ("http://attacker.example/livez", &[], AccessDenied::ForeignHost),
        ] {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            assert_eq!(judge(target, &headers), Err(refusal), "{target} {hosts:?}");
        }
        // Beyond loopback, too, HTTP/1.1 requires exactly one.
        let outside = access("0.0.0.0", None, Unauthenticated::Everything);
        let judge = |version, headers: &[_]| judge_version(&outside, version, "/", headers);
        assert_eq!(judge(Version::HTTP_11, &[]), Err(AccessDenied::NoHost));
        assert_eq!(judge(Version::HTTP_10, &[]), Ok(()));
    }

    #[test]
    fn beyond_loopback_little_is_shown_without_a_token() {
        let closed = access("0.0.0.0", None, Unauthenticated::HealthAndMetrics);
        let host = [("host", "node-1:8464")];
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(judge(&closed, path, &host), Ok(()));
        }
        for path in [
            "/",
            "/api/operations",
            "/api/events",
            "/page.js",
            "/metrics/",
            "/nowhere",
        ] {
            assert_eq!(
                judge(&closed, path, &host),
                Err(AccessDenied::NeedsTokenFile),
                "{path}"
            );
        }
        let open = access("0.0.0.0", None, Unauthenticated::Everything);
        assert_eq!(judge(&open, "/", &host), Ok(()));
        let token = access("0.0.0.0", Some("secret"), Unauthenticated::Everything);
        assert_eq!(judge(&token, "/", &host), Err(AccessDenied::NoToken));
    }

    #[test]
    fn the_audience_is_who_gets_an_answer() {
        let of = |address: &str, token: Option<&str>, unauthenticated| {
            access(address, token, unauthenticated).audience()
        };
        let closed = Unauthenticated::HealthAndMetrics;
        assert_eq!(of("127.0.0.1", None, closed), StatusPageAccess::All);
        assert_eq!(of("0.0.0.0", None, closed), StatusPageAccess::Nobody);
        assert_eq!(of("10.0.0.7", None, closed), StatusPageAccess::Nobody);
        assert_eq!(of("10.0.0.7", Some("t"), closed), StatusPageAccess::All);
        assert_eq!(
            of("0.0.0.0", None, Unauthenticated::Everything),
            StatusPageAccess::All
        );
    }

    #[test]
    fn the_token_is_taken_as_bearer_and_as_password() {
        let access = access("127.0.0.1", Some("s3cret:x"), Unauthenticated::HealthAndMetrics);
        let with = |authorization: &str| {
            judge(
                &access,
                "/metrics",
                &[("host", "localhost"), ("authorization", authorization)],
            )
        };
        let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
        assert_eq!(with("Bearer s3cret:x"), Ok(()));
        assert_eq!(with("bearer  s3cret:x"), Ok(()));
        assert_eq!(with(&basic("anybody:s3cret:x")), Ok(()));
        assert_eq!(with(&basic(":s3cret:x")), Ok(()));
        for wrong in [
            "Bearer",
            "Bearer ",
            "Bearer s3cret",
            "Bearer s3cret:xx",
            "s3cret:x",
            "Digest s3cret:x",
            "Basic ???",
            &basic("s3cret:x"),
            &basic("s3cret:x:"),
        ] {
            assert_eq!(with(wrong), Err(AccessDenied::NoToken), "{wrong}");
        }
        assert_eq!(judge(&access, "/livez", &[("host", "localhost")]), Ok(()));
        assert_eq!(
            judge(&access, "/", &[("host", "localhost")]),
            Err(AccessDenied::NoToken)
        );
    }
}
