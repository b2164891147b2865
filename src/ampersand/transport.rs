//! What went wrong between here and the API, told from the HTTP client's errors.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::CertificateError;

use crate::core::answer::{Failure, FailureClass};
use crate::core::text::one_line;
use crate::error::{causes, describe_http, find};

/// The longest reason in bytes.
const MAX_REASON: usize = 400;

/// The class of `error`, met while asking `host`, and its cause in words. The URL is not told.
pub(super) fn failure(error: &reqwest::Error, host: &str, limit: Duration) -> Failure {
    let (class, reason) = classify(error, host, limit);
    Failure {
        class,
        reason: one_line(&reason, MAX_REASON),
    }
}

fn classify(error: &reqwest::Error, host: &str, limit: Duration) -> (FailureClass, String) {
    let cause = describe_http(error);
    if error.is_timeout() {
        let reason = if error.is_connect() {
            format!(
                "no connection to {host} in time: {cause}; check the network, and whether a proxy is needed"
            )
        } else {
            format!("no complete answer from {host} within {limit:?}")
        };
        return (FailureClass::Timeout, reason);
    }
    if let Some(tls) = find::<rustls::Error>(error) {
        return (FailureClass::Tls, describe_tls(tls, host));
    }
    let kind = find_io(error).map(io::Error::kind);
    if error.is_connect() {
        return describe_connect(error, kind, host, &cause);
    }
    if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) {
        let reason = format!(
            "what {host} answers is not HTTP: {cause}; check ampersand.base_url (https or http, and the port)"
        );
        return (FailureClass::Malformed, reason);
    }
    let reason = match kind {
        Some(io::ErrorKind::ConnectionReset) => format!("the connection to {host} was reset"),
        Some(io::ErrorKind::UnexpectedEof) => format!("{host} closed the connection too early: {cause}"),
        _ => format!("the exchange with {host} broke off: {cause}"),
    };
    (FailureClass::Interrupted, reason)
}

fn describe_connect(
    error: &reqwest::Error,
    kind: Option<io::ErrorKind>,
    host: &str,
    cause: &str,
) -> (FailureClass, String) {
    // The tunnel's error type is private to the HTTP client's libraries; its words are all there is.
    if cause.contains("tunnel error") {
        let reason =
            format!("the proxy gives no connection to {host}: {cause}; check HTTPS_PROXY and NO_PROXY");
        return (FailureClass::Connect, reason);
    }
    if error.is_dns() {
        let reason = format!(
            "the name {host} is not resolved: {cause}; check ampersand.base_url and DNS, and set HTTPS_PROXY where \
             the way out is a proxy"
        );
        return (FailureClass::Connect, reason);
    }
    match kind {
        Some(io::ErrorKind::UnexpectedEof) => {
            let reason =
                format!("{host} closed the connection during the TLS handshake; check ampersand.base_url");
            (FailureClass::Tls, reason)
        }
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            let reason = format!("the connection to {host} was reset while it was set up");
            (FailureClass::Interrupted, reason)
        }
        Some(io::ErrorKind::ConnectionRefused) => {
            let reason = format!(
                "no connection to {host}: connection refused; check host and port of ampersand.base_url"
            );
            (FailureClass::Connect, reason)
        }
        _ => (FailureClass::Connect, format!("no connection to {host}: {cause}")),
    }
}

fn describe_tls(error: &rustls::Error, host: &str) -> String {
    use CertificateError as Bad;
    let rustls::Error::InvalidCertificate(bad) = error else {
        return format!("the TLS handshake with {host} failed: {error}");
    };
    let advice = match bad {
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
            "it is for another name; check ampersand.base_url"
        }
        Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
            "check this machine's clock, else have the certificate renewed"
        }
        _ => "set ampersand.ca_file to the certificate of the authority that signed it, if you trust it",
    };
    format!("the certificate of {host} is not trusted: {bad}; {advice}")
}

/// The innermost I/O error: the outer ones wrap it under the kind `Other`.
fn find_io<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    causes(error).filter_map(|cause| cause.downcast_ref()).last()
}
