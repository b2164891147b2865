//! `backfill-watch status`.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::fixture::{Fixture, WEBHOOK_SECRET};
use crate::support::{Setup, skip, until_answered};

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

/// The text that `status` prints, with its exit code.
async fn printed(fixture: &Fixture, arguments: &[&str]) -> (String, Option<i32>) {
    let output = status(fixture, arguments).await;
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.code())
}

#[tokio::test]
async fn filters_choose_operations_and_name_what_does_not_exist() {
    let fixture = Fixture::start_with(
        &[
            "op-600000-5000-s-1 customer=acme object=contact",
            "op-600000-5000-s-2 customer=Bolt",
            "op-200-100-f-3 customer=acme",
        ],
        |setup| setup.set("groups.by", "customer"),
    )
    .await;
    fixture.phase("op-600000-5000-s-1", "running").await;
    fixture.phase("op-600000-5000-s-2", "running").await;
    fixture.phase("op-200-100-f-3", "failed").await;
    for (arguments, ids) in [
        (&["--phase", "failed"][..], &["3"][..]),
        (&["--phase", "running,failed"], &["1", "2", "3"]),
        (&["--label", "customer=acme"], &["1", "3"]),
        (&["--label", "customer=acme", "--label", "object"], &["1"]),
        (&["--group", "Bolt", "--group", "acme"], &["1", "2", "3"]),
        (&["--project", "my-project", "--phase", "running"], &["1", "2"]),
    ] {
        let (text, code) = printed(&fixture, arguments).await;
        for number in ["1", "2", "3"] {
            let fate = if number == "3" {
                "200-100-f"
            } else {
                "600000-5000-s"
            };
            // Attention has all of them.
            let start = format!("op-{fate}-{number}");
            let is_shown = text.lines().any(|line| line.starts_with(&start));
            assert_eq!(is_shown, ids.contains(&number), "{arguments:?}:\n{text}");
        }
        assert_eq!(code, Some(0), "{arguments:?}");
        let json = status(&fixture, &[arguments, &["--json"]].concat()).await;
        let json: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(json["operations"].as_array().unwrap().len(), ids.len(), "{json}");
    }
    let (text, code) = printed(&fixture, &["--group", "NOBODY", "--phase", "failed"]).await;
    assert!(
        text.contains("No operation matches --phase failed --group NOBODY."),
        "{text}"
    );
    assert!(text.contains("There is no group NOBODY."), "{text}");
    assert_eq!(code, Some(0));
    let (text, _) = printed(&fixture, &["--project", "other"]).await;
    assert!(
        text.contains("There is no project other; the projects are: my-project."),
        "{text}"
    );
    for wrong in [
        &["--phase", "asleep"][..],
        &["--label", "=x"],
        &["op-1", "--phase", "failed"],
        &["--watch", "--json"],
        &["--watch"],
    ] {
        let (text, code) = printed(&fixture, wrong).await;
        assert_eq!(code, Some(2), "{wrong:?}: {text}");
    }
    let (text, _) = printed(&fixture, &["--phase", "asleep"]).await;
    assert!(text.contains("pending, running, stalled"), "{text}");
}

#[tokio::test]
async fn one_operation_has_its_events_log_and_deliveries() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let fixture = Fixture::start_with(&["op-200-100-f-1 customer=\"Gale Ltd\""], |setup| {
        setup
            .set("webhook.url", &format!("http://{closed}/"))
            .variable("BACKFILL_WATCH_WEBHOOK_SECRET", WEBHOOK_SECRET)
    })
    .await;
    let id = "op-200-100-f-1";
    fixture.phase(id, "failed").await;
    let text = until_answered("the first delivery failed", async || {
        let (text, _) = printed(&fixture, &[id]).await;
        if text.contains("refused") {
            Ok(text)
        } else {
            Err(text)
        }
    })
    .await;
    for shown in [
        &format!("Operation     {id}\n")[..],
        "Phase         failed\nStatus        failure\n",
        "Labels        customer=\"Gale Ltd\"\n",
        "Source        file\n",
        "operation.failed",
        "Log of the operation",
        "operation.failed   waiting",
        &format!("backfill-watch events --operation {id}"),
    ] {
        assert!(text.contains(shown), "{shown:?} in\n{text}");
    }
    let json = status(&fixture, &[id, "--project", "my-project", "--json"]).await;
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["operationId"], id);
    assert!(json["attention"].is_array(), "{json}");
    assert_eq!(json["deliveries"].as_array().unwrap().len(), 2);
    let types: Vec<&Value> = json["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["type"])
        .collect();
    assert_eq!(types.last(), Some(&&json!("operation.failed")));

    let (text, code) = printed(&fixture, &["op-unknown"]).await;
    assert_eq!(code, Some(2));
    assert!(
        text.contains("operation op-unknown is not watched; check the ID"),
        "{text}"
    );
    let (text, code) = printed(&fixture, &[id, "--project", "other"]).await;
    assert_eq!(code, Some(2));
    assert!(text.contains("is not watched in project other"), "{text}");
    // A name is a part of the path, whatever it contains.
    let (text, code) = printed(&fixture, &["../attention?x"]).await;
    assert_eq!(code, Some(2));
    assert!(text.contains("is not watched"), "{text}");
}

#[tokio::test]
async fn a_live_status_outlasts_the_daemon_and_gives_the_terminal_back() {
    if Command::new("tmux").arg("-V").output().is_err() {
        skip::<()>("tmux is not installed");
        return;
    }
    let fixture = Fixture::start(&["op-600000-5000-s-1 customer=acme"]).await;
    fixture.phase("op-600000-5000-s-1", "running").await;
    let server = fixture.daemon.setup().folder().join("tmux").display().to_string();
    let tmux = |arguments: &[&str]| {
        let output = Command::new("tmux")
            .args(["-S", &server])
            .args(arguments)
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let line = format!(
        "echo before; {} status --watch --listen {}; echo code=$?; cat",
        env!("CARGO_BIN_EXE_backfill-watch"),
        fixture.address
    );
    tmux(&[
        "-f",
        "/dev/null",
        "new-session",
        "-d",
        "-s",
        "s",
        "-x",
        "80",
        "-y",
        "24",
        &line,
    ]);
    let screen = async |shown: &str| {
        until_answered(&format!("{shown} on the screen"), async || {
            let screen = tmux(&["capture-pane", "-p", "-t", "s"]);
            if screen.contains(shown) {
                Ok(screen)
            } else {
                Err(screen)
            }
        })
        .await
    };
    let first = screen("1 operation: 1 running").await;
    assert!(
        first.contains("op-600000-5000-s-1") && !first.contains("before"),
        "{first}"
    );
    let setup = fixture.daemon.stop().await;
    let outage = screen("ERROR    No answer for").await;
    assert!(outage.contains("op-600000-5000-s-1"), "{outage}");
    let daemon = setup.set("http.listen", &fixture.address.to_string()).start();
    screen("Ctrl-C ends").await;
    tmux(&["send-keys", "-t", "s", "C-c"]);
    let last = screen("code=0").await;
    assert!(
        last.contains("before") && !last.contains("op-600000-5000-s-1"),
        "{last}"
    );
    tmux(&["kill-server"]);
    drop(daemon);
}

#[tokio::test]
async fn a_watch_list_that_does_not_exist_is_named_until_it_does() {
    let fixture = Fixture::start_with(&[], |setup| {
        std::fs::remove_file(setup.list_path()).unwrap();
        setup
    })
    .await;
    let list = fixture.daemon.list_path();
    let (text, code) = printed(&fixture, &["--strict"]).await;
    let awaited = format!("WAITING  the watch list {} does not exist.", list.display());
    assert!(text.contains(&awaited) && text.starts_with("OK "), "{text}");
    assert_eq!(code, Some(0), "it may be written later");
    std::fs::write(&list, "op-600000-5000-s-1\n").unwrap();
    fixture.phase("op-600000-5000-s-1", "running").await;
    let (text, _) = printed(&fixture, &[]).await;
    assert!(!text.contains("does not exist"), "{text}");
    assert!(
        text.contains("Project my-project: reachable, last answer "),
        "{text}"
    );
}
