//! Checks on the running daemon: its memory, its pages, its threads.

use serde_json::Value;

use crate::support::{DEADLINE, Daemon, Setup, process_status, until, until_answered};

/// The limit of resident memory under any attack; without one it is about 50 MB.
pub const MEMORY: u64 = 200 * 1024 * 1024;

/// Checks the peak of resident memory.
pub fn assert_memory_is_bounded(daemon: &Daemon) {
    let most = process_status(daemon.id(), "VmHWM");
    assert!(most < MEMORY, "{most} bytes");
}

/// Serves pages at an address of its own choice.
pub fn with_pages(setup: Setup) -> Setup {
    setup.set("http.listen", "127.0.0.1:0")
}

/// A page, as JSON.
pub async fn page(daemon: &Daemon, path: &str) -> Value {
    serde_json::from_str(&text(daemon, path).await).unwrap()
}

/// As [`page`], as it came.
pub async fn text(daemon: &Daemon, path: &str) -> String {
    let url = format!("http://{}{path}", daemon.address().await);
    let client = reqwest::Client::builder()
        .no_proxy()
        // Reading the system's certificates takes longer than the answer.
        .tls_certs_only([])
        .timeout(DEADLINE)
        .build()
        .unwrap();
    client.get(url).send().await.unwrap().text().await.unwrap()
}

/// Waits until the last error of an operation's polls contains one of these texts.
pub async fn last_error(daemon: &Daemon, operation: &str, words: &[&str]) -> String {
    until_answered(&format!("one of {words:?}"), async || {
        let found = page(daemon, &format!("/api/operations/{operation}")).await;
        let error = found["lastError"].as_str().unwrap_or_default();
        if words.iter().any(|words| error.contains(words)) {
            Ok(error.to_owned())
        } else {
            Err(found.to_string())
        }
    })
    .await
}

/// Waits until a number has grown by `count`.
pub async fn until_grown_by(what: &str, count: u64, mut measure: impl FnMut() -> u64) {
    let before = measure();
    until(what, || measure() >= before + count).await;
}
