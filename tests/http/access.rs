//! Which requests need a token, and which hosts are accepted.

use std::fs;

use reqwest::StatusCode;

use crate::fixture::{Fixture, problem};
use crate::support::{replace_file, until_answered};

const PATHS: [&str; 9] = [
    "/",
    "/page.css",
    "/page.js",
    "/modules/list.js",
    "/metrics",
    "/api/operations",
    "/api/operations/op-1",
    "/api/events",
    "/api/webhooks",
];

#[tokio::test]
async fn every_page_has_its_type_and_its_security_headers() {
    let fixture = Fixture::start(&["op-600000-5000-s-1"]).await;
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/modules/list.js", "text/javascript; charset=utf-8"),
        ("/favicon.svg", "image/svg+xml"),
        ("/livez", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/api/operations", "application/json"),
        ("/api/events", "application/json"),
        ("/api/events/stream", "text/event-stream"),
        ("/api/webhooks", "application/json"),
    ] {
        let answer = fixture.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        let headers = answer.headers();
        assert_eq!(headers["content-type"], content_type, "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        let kept = if path == "/favicon.svg" {
            "private, max-age=86400"
        } else {
            "no-store"
        };
        assert_eq!(headers["cache-control"], kept, "{path}");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{path}"
        );
    }
    let page = fixture.text("/").await;
    assert!(!page.contains("style=") && !page.contains("<style") && !page.contains("{{"));
    assert!(!page.contains("//cdn") && !page.contains("https://"));
    // A proxy may serve it below a path.
    assert!(!page.contains("href=\"/") && !page.contains("src=\"/"));
    problem(fixture.get("/nowhere").await, 404).await;
    let posted = fixture
        .client
        .post(fixture.url("/api/events"))
        .send()
        .await
        .unwrap();
    problem(posted, 405).await;
    let head = fixture
        .client
        .head(fixture.url("/api/operations"))
        .send()
        .await
        .unwrap();
    assert_eq!(head.status(), 200);
}

#[tokio::test]
async fn the_token_opens_all_but_the_probes_which_need_none() {
    let fixture = Fixture::start_with(&[], |setup| {
        let token = setup.folder().join("token");
        fs::write(&token, "s3cret-token\n").unwrap();
        let token = token.display().to_string();
        setup.set("http.token_file", &token)
    })
    .await;
    assert_eq!(fixture.status("/livez").await, 200);
    assert_eq!(fixture.status("/readyz").await, 200);
    for path in PATHS.iter().chain(&["/nowhere", "/api/events/stream"]) {
        let refused = fixture.get(path).await;
        let challenges: Vec<_> = refused.headers().get_all("www-authenticate").iter().collect();
        assert_eq!(challenges.len(), 2, "{path}");
        let detail = problem(refused, 401).await;
        assert!(!detail.contains("s3cret"), "{detail}");
    }
    for path in ["/", "/metrics", "/api/operations", "/api/webhooks"] {
        let bearer = fixture.client.get(fixture.url(path)).bearer_auth("s3cret-token");
        assert_eq!(bearer.send().await.unwrap().status(), 200, "{path}");
        let basic = fixture
            .client
            .get(fixture.url(path))
            .basic_auth("anybody", Some("s3cret-token"));
        assert_eq!(basic.send().await.unwrap().status(), 200, "{path}");
        for wrong in ["s3cret", "s3cret-token2", ""] {
            let refused = fixture.client.get(fixture.url(path)).bearer_auth(wrong);
            assert_eq!(refused.send().await.unwrap().status(), 401, "{path} {wrong}");
        }
    }
    let log = fixture.daemon.log.to_string();
    assert!(!log.contains("s3cret"), "{log}");

    // A changed token applies soon, and with a reload at once.
    replace_file(&fixture.daemon.setup().folder().join("token"), "another\n");
    fixture.daemon.signal(&["HUP"]);
    until_answered("the new token holds", async || {
        let asked = fixture.client.get(fixture.url("/metrics")).bearer_auth("another");
        match asked.send().await.unwrap().status() {
            StatusCode::OK => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    let before = fixture
        .client
        .get(fixture.url("/metrics"))
        .bearer_auth("s3cret-token");
    assert_eq!(before.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn on_loopback_only_loopback_names_are_answered() {
    let fixture = Fixture::start(&[]).await;
    for path in PATHS {
        let foreign = fixture
            .client
            .get(fixture.url(path))
            .header("host", "attacker.example");
        problem(foreign.send().await.unwrap(), 403).await;
    }
    for host in ["localhost", "localhost:8464", "[::1]:1"] {
        let local = fixture.client.get(fixture.url("/metrics")).header("host", host);
        assert_eq!(local.send().await.unwrap().status(), 200, "{host}");
    }
    for request in [
        "GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /metrics HTTP/1.0\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: attacker.example\r\nConnection: close\r\n\r\n",
    ] {
        let answer = fixture.raw(request.as_bytes()).await;
        assert!(answer.contains(" 400 "), "{answer}");
    }
    // Simple probes speak HTTP/1.0 and have no name for the host.
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = fixture
            .raw(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
            .await;
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        let foreign = format!("GET {path} HTTP/1.0\r\nHost: attacker.example\r\n\r\n");
        let answer = fixture.raw(foreign.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.0 403 "), "{answer}");
    }
    let absolute =
        "GET http://attacker.example/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = fixture.raw(absolute.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn beyond_loopback_without_a_token_the_log_does_not_promise_the_page() {
    let fixture = Fixture::start_with(&[], |setup| setup.set("http.listen", "0.0.0.0:0")).await;
    let served = fixture
        .daemon
        .message("the status page needs http.token_file")
        .await;
    assert_eq!(served["level"], "INFO");
    for path in PATHS.iter().filter(|path| !path.ends_with("op-1")) {
        let url = format!("http://127.0.0.1:{}{path}", fixture.address.port());
        let answer = fixture.client.get(url).send().await.unwrap();
        let is_open = *path == "/metrics";
        assert_eq!(answer.status(), if is_open { 200 } else { 403 }, "{path}");
    }
    // Operators of this host have the control socket.
    let asked = fixture.daemon.setup().run("status").await;
    assert_eq!(asked.status.code(), Some(0), "{asked:?}");
}
