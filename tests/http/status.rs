//! `backfill-watch status`.

use std::process::Output;

use serde_json::Value;

use crate::fixture::Fixture;
use crate::support::Setup;

pub async fn status(fixture: &Fixture, arguments: &[&str]) -> Output {
    let address = fixture.address.to_string();
    let mut all = vec!["--listen", &address];
    all.extend(arguments);
    Setup::empty().arguments(&all).run("status").await
}

#[tokio::test]
async fn the_table_the_json_and_the_check() {
    let fixture = Fixture::start(&["op-600000-5000-s-1 customer=acme", "op-200-100-f-2"]).await;
    fixture.phase("op-600000-5000-s-1", "running").await;
    fixture.phase("op-200-100-f-2", "failed").await;

    let table = status(&fixture, &[]).await;
    assert!(table.status.success(), "{table:?}");
    let text = String::from_utf8(table.stdout).unwrap();
    for part in [
        "OPERATION",
        "op-600000-5000-s-1",
        "customer=acme",
        "failed",
        "2 operations: 1 running, 1 failed",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }

    let json = status(&fixture, &["--json"]).await;
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["operations"].as_array().unwrap().len(), 2);

    let check = status(&fixture, &["--check"]).await;
    assert_eq!(check.status.code(), Some(0));
    assert!(check.stdout.is_empty() && check.stderr.is_empty(), "{check:?}");
}

#[tokio::test]
async fn more_operations_than_one_page() {
    let lines: Vec<String> = (0..1_100).map(|n| format!("op-600000-5000-s-{n}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let fixture = Fixture::start(&lines).await;
    let deadline = backfill_watch::clock::instant() + crate::support::DEADLINE;
    loop {
        let json = status(&fixture, &["--json"]).await;
        let json: Value = serde_json::from_slice(&json.stdout).unwrap();
        if json["operations"].as_array().unwrap().len() == 1_100 {
            break;
        }
        assert!(
            backfill_watch::clock::instant() < deadline,
            "they are never all there"
        );
    }
}

#[tokio::test]
async fn without_a_daemon_it_fails_with_advice() {
    let setup = || Setup::empty().arguments(&["--listen", "127.0.0.1:1"]);
    let plain = setup().run("status").await;
    assert_eq!(plain.status.code(), Some(3));
    let words = String::from_utf8(plain.stderr).unwrap();
    assert!(words.contains("no daemon answers at 127.0.0.1:1"), "{words}");
    let check = Setup::empty()
        .arguments(&["--listen", "127.0.0.1:1", "--check"])
        .run("status")
        .await;
    assert_eq!(check.status.code(), Some(1));
    assert!(check.stdout.is_empty() && check.stderr.is_empty(), "{check:?}");
    let off = Setup::empty().run("status").await;
    assert_eq!(off.status.code(), Some(3));
    assert!(String::from_utf8(off.stderr).unwrap().contains("off"));
}

#[tokio::test]
async fn the_token_is_taken_from_its_file() {
    let fixture = Fixture::start_with(&[], |setup| {
        let token = setup.folder().join("token");
        std::fs::write(&token, "s3cret\n").unwrap();
        let token = token.display().to_string();
        setup.set("http.token_file", &token)
    })
    .await;
    let refused = status(&fixture, &[]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("token"));
    let token = fixture
        .daemon
        .setup()
        .folder()
        .join("token")
        .display()
        .to_string();
    let address = fixture.address.to_string();
    let shown = Setup::empty()
        .set("http.token_file", &token)
        .arguments(&["--listen", &address])
        .run("status")
        .await;
    assert!(shown.status.success(), "{shown:?}");
    let check = status(&fixture, &["--check"]).await;
    assert_eq!(check.status.code(), Some(0));
}
