//! Classifies and describes transport errors of requests to the API.

use std::io;
use std::time::Duration;

use rustls::CertificateError;

use crate::core::answer::{Failure, FailureClass};
use crate::core::text::one_line;
use crate::error::{describe_dns, describe_http, find, find_io};
use crate::outbound::{self, MAX_HEAD, Peer};

/// The longest reason, in bytes.
const MAX_REASON: usize = 400;

/// The class and description of `error` in a request to `peer`. The URL is left out.
pub(super) fn failure(error: &reqwest::Error, peer: &Peer, limit: Duration) -> Failure {
    let (class, reason) = classify(error, peer, limit);
    Failure {
        class,
        reason: one_line(&reason, MAX_REASON),
    }
}

fn classify(error: &reqwest::Error, peer: &Peer, limit: Duration) -> (FailureClass, String) {
    let cause = describe_http(error);
    if error.is_timeout() {
        let reason = if error.is_connect() {
            let advice = match peer.proxy {
                Some(_) => PROXY_ADVICE,
                None => "check the network, and whether a proxy is needed",
            };
            format!("no connection to {} in time: {cause}; {advice}", peer.connected())
        } else {
            format!("no complete answer from {peer} within {limit:?}")
        };
        return (FailureClass::Timeout, reason);
    }
    if let Some(tls) = find::<rustls::Error>(error) {
        return (FailureClass::Tls, describe_tls(tls, peer));
    }
    let kind = find_io(error).map(io::Error::kind);
    if error.is_connect() {
        return describe_connect(error, kind, peer, &cause);
    }
    let parse = find::<hyper::Error>(error).filter(|error| error.is_parse());
    if parse.is_some_and(hyper::Error::is_parse_too_large) {
        let reason = format!("{peer} answered with more than {MAX_HEAD} bytes of headers");
        return (FailureClass::TooLarge, reason);
    }
    if parse.is_some() {
        let reason = format!(
            "what {peer} answers is not HTTP: {cause}; check ampersand.base_url (https or http, and the port)"
        );
        return (FailureClass::Malformed, reason);
    }
    let reason = match kind {
        Some(io::ErrorKind::ConnectionReset) => format!("the connection to {peer} was reset"),
        Some(io::ErrorKind::UnexpectedEof) => format!("{peer} closed the connection too early: {cause}"),
        _ => format!("the connection to {peer} was interrupted: {cause}"),
    };
    (FailureClass::Interrupted, reason)
}

/// The advice for proxy errors.
const PROXY_ADVICE: &str = "check the proxy, HTTPS_PROXY, HTTP_PROXY and NO_PROXY";

fn describe_connect(
    error: &reqwest::Error,
    kind: Option<io::ErrorKind>,
    peer: &Peer,
    cause: &str,
) -> (FailureClass, String) {
    let connected = peer.connected();
    if outbound::is_refused_by_proxy(cause) {
        let reason = format!(
            "{connected} refuses a connection to {}: {cause}; {PROXY_ADVICE}",
            peer.host
        );
        return (FailureClass::Connect, reason);
    }
    if error.is_dns() {
        let advice = match peer.proxy {
            Some(_) => PROXY_ADVICE,
            None => "check ampersand.base_url and DNS; set HTTPS_PROXY if this network needs a proxy",
        };
        let name = match &peer.proxy {
            Some(proxy) => format!("of the proxy {proxy}"),
            None => peer.host.clone(),
        };
        let cause = describe_dns(error);
        let reason = format!("the name {name} cannot be resolved: {cause}; {advice}");
        return (FailureClass::Connect, reason);
    }
    match kind {
        Some(io::ErrorKind::UnexpectedEof) => {
            let reason =
                format!("{peer} closed the connection during the TLS handshake; check ampersand.base_url");
            (FailureClass::Tls, reason)
        }
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            let reason = format!("the connection to {peer} was reset while it was set up");
            (FailureClass::Interrupted, reason)
        }
        Some(io::ErrorKind::ConnectionRefused) => {
            let advice = match peer.proxy {
                Some(_) => PROXY_ADVICE,
                None => "check host and port of ampersand.base_url",
            };
            let reason = format!("no connection to {connected}: connection refused; {advice}");
            (FailureClass::Connect, reason)
        }
        _ => (
            FailureClass::Connect,
            format!("no connection to {connected}: {cause}"),
        ),
    }
}

fn describe_tls(error: &rustls::Error, host: &Peer) -> String {
    use CertificateError as Bad;
    let rustls::Error::InvalidCertificate(bad) = error else {
        return format!("the TLS handshake with {host} failed: {error}");
    };
    let cause = match bad {
        Bad::BadEncoding => "it cannot be read".to_owned(),
        Bad::BadSignature => "its signature does not match".to_owned(),
        Bad::Expired => "it has expired".to_owned(),
        Bad::NotValidYet => "it is not valid yet".to_owned(),
        Bad::NotValidForName => "it is for another name".to_owned(),
        Bad::Revoked => "it was revoked".to_owned(),
        Bad::UnknownIssuer => "no trusted authority signed it".to_owned(),
        bad if is_of_authority(bad) => "it is the certificate of an authority, not of a server".to_owned(),
        bad => bad.to_string(),
    };
    let advice = match bad {
        bad if is_of_authority(bad) => {
            "a self-signed certificate needs basicConstraints CA:FALSE, as `openssl req -x509 -addext \
             basicConstraints=critical,CA:FALSE` creates it; then set ampersand.ca_file to it"
        }
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
            "it is for another name; check ampersand.base_url"
        }
        Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
            "check this machine's clock; otherwise the certificate must be renewed"
        }
        _ => "set ampersand.ca_file to the certificate of the authority that signed it, if you trust it",
    };
    format!("the certificate of {host} is not trusted: {cause}; {advice}")
}

/// Whether the server shows the certificate of an authority as its own. That error has a name only.
fn is_of_authority(bad: &CertificateError) -> bool {
    matches!(bad, CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::OtherError;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("CaUsedAsEndEntity")]
    struct CaUsedAsEndEntity;

    fn describe(bad: CertificateError) -> String {
        let peer = Peer {
            host: "localhost:1".to_owned(),
            proxy: None,
        };
        describe_tls(&rustls::Error::InvalidCertificate(bad), &peer)
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_described_in_words() {
        let of_authority = describe(CertificateError::Other(OtherError(Arc::new(CaUsedAsEndEntity))));
        assert!(
            of_authority.contains("it is the certificate of an authority, not of a server; a self-signed")
                && of_authority.contains("CA:FALSE"),
            "{of_authority}"
        );
        assert_eq!(
            describe(CertificateError::UnknownIssuer),
            "the certificate of localhost:1 is not trusted: no trusted authority signed it; set ampersand.ca_file to the \
             certificate of the authority that signed it, if you trust it"
        );
    }
}
