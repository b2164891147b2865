//! Decides which requests are answered: checks the `Host` header and the token.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, Version, header, uri::Authority};
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use super::problem::Problem;
use super::tokens::{Scheme, ShownToken, TokenFile};
use crate::config::{HttpSettings, SecretError, Unauthenticated};

/// Health probes, which never need a token.
const PROBE_PATHS: [&str; 2] = ["/livez", "/readyz"];
/// Paths that are answered beyond loopback without a token.
pub(super) const OPEN_PATHS: [&str; 3] = ["/livez", "/readyz", "/metrics"];
const BASIC: &str = r#"Basic realm="backfill-watch", charset="UTF-8""#;
const BEARER: &str = r#"Bearer realm="backfill-watch""#;

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
    rules: watch::Sender<AccessRules>,
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

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AccessDenied {
    NoHost,
    ForeignHost,
    NoToken,
    NeedsTokenFile,
    /// Nothing can be written: no write tokens are configured.
    NeedsWriteTokenFile,
    NoWriteToken,
    /// The token may only read.
    ReadToken,
}

/// The right of one client to read, for responses that do not end.
#[derive(Debug)]
pub(super) struct ReadAccess {
    access: Arc<Access>,
    token: Option<ShownToken>,
}

impl Access {
    /// Access control for a listener on `address`. Reads the token file, so it may block briefly.
    ///
    /// # Errors
    /// When a token is configured and cannot be read.
    pub fn new(settings: &HttpSettings, address: SocketAddr) -> Result<Self, SecretError> {
        Ok(Self {
            is_loopback: address.ip().is_loopback(),
            rules: watch::Sender::new(AccessRules::read(settings)?),
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
        self.rules.send_replace(rules);
    }

    /// Reads the tokens again and keeps the current ones of a file that cannot be read. Returns the settings of such files.
    /// May block briefly.
    pub fn refresh(&self) -> Vec<(&'static str, SecretError)> {
        let mut rules = self.rules();
        let files = [
            ("http.token_file", &mut rules.read),
            ("http.write_token_file", &mut rules.write),
        ];
        let (mut has_changed, mut unreadable) = (false, Vec::new());
        for (setting, tokens) in files {
            match tokens.refresh() {
                Ok(is_new) => has_changed |= is_new,
                Err(error) => unreadable.push((setting, error)),
            }
        }
        if has_changed {
            self.set(rules);
            tracing::info!("the HTTP tokens were replaced");
        }
        unreadable
    }

    /// Checks whether a request that reads may be answered.
    pub(super) fn judge<B>(&self, request: &Request<B>) -> Result<(), AccessDenied> {
        self.judge_host(request)?;
        let path = request.uri().path();
        let rules = self.rules();
        if PROBE_PATHS.contains(&path) || self.may_read(&rules, ShownToken::of(request.headers()).as_ref()) {
            return Ok(());
        }
        if rules.read.is_configured() {
            Err(AccessDenied::NoToken)
        } else if OPEN_PATHS.contains(&path) && request.method().is_safe() {
            Ok(())
        } else if rules.has_tokens() {
            Err(AccessDenied::NoToken)
        } else {
            Err(AccessDenied::NeedsTokenFile)
        }
    }

    /// Checks whether a request may write. Only `Bearer` is accepted: a browser sends it for no other site.
    pub(super) fn judge_write<B>(&self, request: &Request<B>) -> Result<(), AccessDenied> {
        self.judge_host(request)?;
        let rules = self.rules();
        if !rules.write.is_configured() {
            return Err(AccessDenied::NeedsWriteTokenFile);
        }
        let token = ShownToken::of(request.headers()).filter(|token| token.scheme() == Scheme::Bearer);
        match token {
            Some(token) if rules.write.contains(&token) => Ok(()),
            Some(token) if rules.read.contains(&token) => Err(AccessDenied::ReadToken),
            _ => Err(AccessDenied::NoWriteToken),
        }
    }

    fn judge_host<B>(&self, request: &Request<B>) -> Result<(), AccessDenied> {
        let host = named_host(request.version(), request.headers())?;
        if self.is_loopback {
            // Against DNS rebinding: a foreign page must not reach this port through a name that resolves to loopback.
            hosts_are_local(request.uri(), host)?;
        }
        Ok(())
    }

    /// Whether a client with this token may read every path.
    fn may_read(&self, rules: &AccessRules, token: Option<&ShownToken>) -> bool {
        let is_known = token.is_some_and(|token| rules.read.contains(token) | rules.write.contains(token));
        is_known || (!rules.read.is_configured() && self.is_open(rules))
    }

    fn rules(&self) -> AccessRules {
        self.rules.borrow().clone()
    }
}

impl ReadAccess {
    /// The right that these headers give.
    pub(super) fn new(access: Arc<Access>, headers: &HeaderMap) -> Self {
        let token = ShownToken::of(headers);
        Self { access, token }
    }

    /// Returns once the client may not read any more.
    pub(super) async fn revoked(&self) {
        let mut rules = self.access.rules.subscribe();
        let revoked = rules.wait_for(|rules| !self.access.may_read(rules, self.token.as_ref()));
        if revoked.await.is_err() {
            // The sender is in `access`, so this does not happen.
            std::future::pending::<()>().await;
        }
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
        self.read.is_configured() || self.write.is_configured()
    }
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
            Self::NeedsWriteTokenFile => (
                StatusCode::FORBIDDEN,
                "nothing can be written over TCP: set http.write_token_file, or use the control socket, as \
                 `backfill-watch add` does",
            ),
            Self::NoWriteToken => (
                StatusCode::UNAUTHORIZED,
                "send a token of http.write_token_file, as `Authorization: Bearer`",
            ),
            Self::ReadToken => (
                StatusCode::FORBIDDEN,
                "this token may only read; send a token of http.write_token_file",
            ),
        };
        let challenges: &[&str] = match self {
            Self::NoToken => &[BASIC, BEARER],
            Self::NoWriteToken => &[BEARER],
            _ => &[],
        };
        let mut response = Problem::new(status, detail).into_response();
        for challenge in challenges {
            response
                .headers_mut()
                .append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine as _};

    use super::*;
    use crate::config::SecretSource;

    fn access(address: &str, token: Option<&str>, unauthenticated: Unauthenticated) -> Access {
        Access {
            is_loopback: address.parse::<IpAddr>().unwrap().is_loopback(),
            rules: watch::Sender::new(AccessRules {
                read: token_file(token),
                write: TokenFile::default(),
                unauthenticated,
            }),
        }
    }

    fn token_file(token: Option<&str>) -> TokenFile {
        token.map_or_else(TokenFile::default, |token| TokenFile::of(&[token]))
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
            rules: watch::Sender::new(AccessRules {
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
    fn writing_needs_a_write_token_as_bearer() {
        let write = |access: &Access, headers: &[(&str, &str)]| {
            let request = Request::put("/api/operations/p/a").header("host", "localhost");
            let request = headers
                .iter()
                .fold(request, |request, (name, value)| request.header(*name, *value));
            access.judge_write(&request.body(()).unwrap())
        };
        let bearer = |token: &str| format!("Bearer {token}");
        // Without write tokens, nobody writes, with whatever token.
        for unauthenticated in [Unauthenticated::HealthAndMetrics, Unauthenticated::Everything] {
            for address in ["127.0.0.1", "0.0.0.0"] {
                for token in [None, Some("r")] {
                    let closed = access(address, token, unauthenticated);
                    let refused = write(&closed, &[("authorization", &bearer("r"))]);
                    assert_eq!(refused, Err(AccessDenied::NeedsWriteTokenFile));
                    assert_eq!(write(&closed, &[]), Err(AccessDenied::NeedsWriteTokenFile));
                }
            }
        }
        let open = access("127.0.0.1", None, Unauthenticated::Everything);
        open.set(AccessRules {
            read: TokenFile::of(&["r"]),
            write: TokenFile::of(&["v", "w"]),
            unauthenticated: Unauthenticated::Everything,
        });
        for token in ["v", "w"] {
            assert_eq!(write(&open, &[("authorization", &bearer(token))]), Ok(()));
        }
        assert_eq!(
            write(&open, &[("authorization", &bearer("r"))]),
            Err(AccessDenied::ReadToken)
        );
        let basic = |token: &str| format!("Basic {}", BASE64_STANDARD.encode(format!("u:{token}")));
        for none in [bearer("x"), bearer(""), basic("w"), basic("r"), "w".to_owned()] {
            let refused = write(&open, &[("authorization", &none)]);
            assert_eq!(refused, Err(AccessDenied::NoWriteToken), "{none}");
        }
        assert_eq!(write(&open, &[]), Err(AccessDenied::NoWriteToken));
        let foreign = Request::put("/api/operations/p/a")
            .header("host", "example.com")
            .header("authorization", "Bearer w");
        let refused = open.judge_write(&foreign.body(()).unwrap());
        assert_eq!(refused, Err(AccessDenied::ForeignHost));
    }

    #[tokio::test]
    async fn a_reader_loses_its_right_with_its_token() {
        let access = Arc::new(access("127.0.0.1", Some("r"), Unauthenticated::HealthAndMetrics));
        let rules = |read: &[&str], write: &[&str]| AccessRules {
            read: TokenFile::of(read),
            write: TokenFile::of(write),
            unauthenticated: Unauthenticated::HealthAndMetrics,
        };
        let headers = |token: &str| {
            let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
            HeaderMap::from_iter([(header::AUTHORIZATION, value)])
        };
        let reader = ReadAccess::new(Arc::clone(&access), &headers("r"));
        assert!(
            futures_util::future::poll_immediate(reader.revoked())
                .await
                .is_none()
        );
        access.set(rules(&["q"], &["r"]));
        assert!(
            futures_util::future::poll_immediate(reader.revoked())
                .await
                .is_none()
        );
        let waiting = reader.revoked();
        tokio::join!(waiting, async { access.set(rules(&["q"], &["w"])) });
        // A reader without a token loses it when tokens are set.
        access.set(AccessRules {
            read: TokenFile::default(),
            ..rules(&[], &["w"])
        });
        let reader = ReadAccess::new(Arc::clone(&access), &HeaderMap::new());
        assert!(
            futures_util::future::poll_immediate(reader.revoked())
                .await
                .is_none()
        );
        access.set(rules(&["q"], &["w"]));
        reader.revoked().await;
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
