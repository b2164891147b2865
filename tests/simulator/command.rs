//! `backfill-watch simulate --customers`, from outside.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use backfill_watch::clock;

use super::{client, json};

#[tokio::test]
async fn the_command_simulates_customers_for_discovery() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_backfill-watch"))
        .args(["simulate", "--listen", "127.0.0.1:0", "--seed", "5"])
        .args(["--customers", "3", "--objects", "2", "--install-over", "100ms"])
        .args(["--old-backfills", "4", "--duration", "10ms", "--failures", "0"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(process.stdout.take().unwrap());
    let mut shown = String::new();
    while !shown.contains("Stop with") {
        assert!(output.read_line(&mut shown).unwrap() > 0, "{shown}");
    }
    for part in [
        "Customers that install within 100ms: 3. Backfills that ended days ago: 4.",
        "export BACKFILL_WATCH_DISCOVER__0__EVERY=",
        "backfill-watch run\n",
    ] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    // There are no operations for a watch list.
    assert!(!shown.contains("WATCH_LIST"), "{shown}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    let (_, base) = shown.split_once("BASE_URL=").unwrap();
    let url = format!(
        "{}/projects/my-project/installations",
        base.lines().next().unwrap()
    );
    let (client, deadline) = (client(), clock::instant() + Duration::from_secs(60));
    let listed = loop {
        let request = client.get(&url).header("X-Api-Key", "simulated-key");
        let listed = json(request.send().await.unwrap()).await;
        if listed.as_array().unwrap().len() == 4 {
            break listed;
        }
        assert!(clock::instant() < deadline, "{listed}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(listed[0]["group"]["groupRef"], "old-customer-1");

    let interrupted = Command::new("kill")
        .args(["-INT", &process.id().to_string()])
        .status();
    assert!(interrupted.unwrap().success());
    output.read_to_string(&mut shown).unwrap();
    assert!(process.wait().unwrap().success());
    assert!(
        shown.contains("for the backfill of an object: 0. Backfills started: "),
        "{shown}"
    );
}
