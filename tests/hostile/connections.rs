//! Connections that fail or stall.

use std::fs;
use std::sync::Arc;

use rcgen::generate_simple_self_signed;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::daemon_checks::{assert_memory_is_bounded, last_error, page, text, with_pages};
use crate::hostile_api::{Behavior, Greeting, HostileApi};
use crate::support::{Setup, until};

#[tokio::test]
async fn tls_that_stalls() {
    let certified = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let greeting = Greeting::StallingTls(TlsAcceptor::from(Arc::new(config)));
    let api = HostileApi::start_at("127.0.0.1:0".parse().unwrap(), None, greeting).await;
    let ids = ["op-1", "op-2", "op-3"];
    let setup = Setup::polling(&format!("https://localhost:{}/v1", api.address.port()));
    let ca_file = setup.folder().join("ca.pem");
    fs::write(&ca_file, certified.cert.pem()).unwrap();
    let setup = setup
        .set("ampersand.ca_file", &ca_file.display().to_string())
        .set("ampersand.request_timeout", "400ms")
        .list(&ids);
    let daemon = with_pages(setup).start();
    for id in ids {
        last_error(&daemon, id, &["in time"]).await;
        api.end(id);
        daemon.event_of(id, "operation.succeeded").await;
    }
    assert_memory_is_bounded(&daemon);
    daemon.stop().await;
}

#[tokio::test]
async fn a_half_open_connection() {
    let api = HostileApi::start(Behavior::Unresponsive).await;
    let setup = Setup::polling(&api.base_url())
        .set("ampersand.request_timeout", "400ms")
        .list(&["bad-1", "good-1"]);
    let daemon = with_pages(setup).start();
    // Every other poll finds the connection of the one before it, which answers nothing any more.
    last_error(&daemon, "bad-1", &["no complete answer"]).await;
    api.end("good-1");
    daemon.event_of("good-1", "operation.succeeded").await;
    let polls = api.polls("bad-1");
    until("polls go on", || api.polls("bad-1") > polls + 4).await;
    // It is seen to run all the time: a new connection is made after each that died.
    api.end("bad-1");
    daemon.event_of("bad-1", "operation.succeeded").await;
    assert_memory_is_bounded(&daemon);
    daemon.stop().await;
}

/// A load balancer that closes connections which the other side believes to be open.
#[tokio::test]
async fn a_connection_that_is_closed_when_the_next_request_comes() {
    let api = HostileApi::start(Behavior::Stale).await;
    let daemon = with_pages(Setup::polling(&api.base_url()).list(&["bad-1"])).start();
    until("polls go on", || api.polls("bad-1") > 8).await;
    let found = page(&daemon, "/api/operations/bad-1").await;
    assert!(found["lastError"].is_null(), "{found}");
    let metrics = text(&daemon, "/metrics").await;
    let count = |outcome: &str| {
        let name = format!("backfill_watch_polls_total{{outcome=\"{outcome}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap();
        line.parse::<u64>().unwrap()
    };
    assert_eq!(count("interrupted"), 0);
    assert!(count("unprocessed") >= 2, "{metrics}");
    daemon.stop().await;
}

/// The proxy does not answer, and is what the reason names, without its password.
#[tokio::test]
async fn a_proxy_that_is_dead() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let setup = Setup::polling("http://api.example.test/v1")
        .variable("HTTP_PROXY", &format!("http://someone:hunter2-hunter2@{address}"))
        .list(&["op-1"]);
    let daemon = with_pages(setup).start();
    let words = format!("no connection to the proxy {address}: connection refused");
    let error = last_error(&daemon, "op-1", &[&words]).await;
    assert!(
        !error.contains("hunter2") && !daemon.log.text().contains("hunter2"),
        "{error}"
    );
    daemon.stop().await;
}
