//! Invalid lists of operations, read by the command `list`.

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backfill_watch::clock;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::hostile_api::{ok, operation};
use crate::support::{Setup, text};

/// Answers the request of each number, from 0 on, with what is made of it, and counts them.
async fn answer(page: impl Fn(u64) -> String + Send + 'static) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let body = page(counted.fetch_add(1, Ordering::Relaxed));
            stream
                .write_all(&ok("connection: close\r\n", &body))
                .await
                .unwrap();
            let _ = stream.shutdown().await;
        }
    });
    (url, count)
}

/// A page of these operations; without a token it is the last.
fn page(operations: &[String], token: Option<&str>) -> String {
    let next = token.map_or_else(String::new, |token| format!(r#","nextPageToken":"{token}""#));
    format!(
        r#"{{"results":[{}],"pagination":{{"done":{}{next}}}}}"#,
        operations.join(","),
        token.is_none()
    )
}

async fn list(url: &str, rate: u32, output: &str) -> Output {
    let arguments = ["--integration", "i", "--installation", "n", "--output", output];
    Setup::polling(url)
        .set("ampersand.max_requests_per_second", &rate.to_string())
        .run_with("list", &arguments)
        .await
}

#[tokio::test]
async fn empty_pages_without_end() {
    let (url, count) = answer(|number| page(&[], Some(&format!("token-{number}")))).await;
    let begun = clock::instant();
    let output = list(&url, 50, "json").await;
    // A hundred requests with 20 ms between each two of them.
    let took = clock::instant() - begun;
    assert!(took >= Duration::from_millis(99 * 20), "{took:?}");
    assert_eq!(count.load(Ordering::Relaxed), 100);
    assert_eq!(output.status.code(), Some(1));
    let printed = text(&output.stderr);
    assert!(printed.contains("100 pages in a row were empty"), "{printed}");
}

#[tokio::test]
async fn a_page_token_that_is_repeated() {
    let (url, count) = answer(|number| {
        let operations = [operation(&format!("op-{number}"), "success", "")];
        page(&operations, Some(["a", "b"][number as usize % 2]))
    })
    .await;
    let output = list(&url, 1_000, "ids").await;
    assert_eq!(count.load(Ordering::Relaxed), 3);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "op-0\nop-1\n");
    let printed = text(&output.stderr);
    assert!(printed.contains("a page token was repeated"), "{printed}");
}

#[tokio::test]
async fn many_pages_with_long_tokens() {
    // What is read comes to 31 MB; two thirds of it must be enough memory for it.
    let token = |number: u64| format!("{number:06}{}", "t".repeat(20_000));
    let (url, _) = answer(move |number| {
        let result = format!(r#","result":"{}""#, "r".repeat(500_000));
        let operations = [operation(&format!("op-{number}"), "success", &result)];
        page(&operations, (number < 59).then(|| token(number)).as_deref())
    })
    .await;
    for output in ["ids", "json", "table"] {
        let setup = Setup::polling(&url).wrapped_in(&["prlimit", "--data=20000000"]);
        let arguments = ["--integration", "i", "--installation", "n", "--output", output];
        let output = setup.run_with("list", &arguments).await;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
}

#[tokio::test]
async fn ids_that_no_watch_list_has() {
    let (url, _) = answer(|_| {
        let operations = ["op-1", r"op-2\nop-injected customer=evil", r"op\u202e-3", "op-4"];
        page(&operations.map(|id| operation(id, "success", "")), None)
    })
    .await;
    let output = list(&url, 1_000, "ids").await;
    assert_eq!(text(&output.stdout), "op-1\nop-4\n");
    let printed = text(&output.stderr);
    for part in [
        r"op-2\nop-injected customer=evil",
        r"op\u{202e}-3",
        "2 of 4 operations",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert_eq!(output.status.code(), Some(1), "not all of them were printed");

    let output = list(&url, 1_000, "json").await;
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (all.as_array().unwrap().len(), output.status.code()),
        (4, Some(0))
    );
}
