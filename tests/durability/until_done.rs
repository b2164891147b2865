//! `run --until-done` gives deliveries their time, and names what is left.

use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::{Simulator, SimulatorConfig};

use crate::event_log::{assert_delivered, events};
use crate::support::Setup;
use crate::verifying_receiver::VerifyingReceiver;

const LIST: [&str; 3] = ["op-200-100-s-a", "op-200-100-s-b", "op-300-100-s-c"];

#[tokio::test]
async fn deliveries_that_are_left_at_the_deadline_are_named_and_kept() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let mut inbox = VerifyingReceiver::closed(0);
    let setup = Setup::new(&simulator)
        .list(&LIST)
        .set("shutdown_timeout", "2s")
        .arguments(&["--until-done"]);
    let mut daemon = inbox.subscribe(setup).start();
    let has_message = |message| move |line: &crate::support::LogLine| line["message"] == message;
    let done = daemon
        .wait_for("the end", has_message("all listed operations are finished"))
        .await;
    assert_eq!(daemon.exit_code().await, Some(0), "all operations succeeded");
    let took = clock::instant() - done.at;
    assert!(took >= Duration::from_secs(2), "deliveries had {took:?}");
    assert!(took < Duration::from_secs(8), "deliveries had {took:?}");
    let left = daemon.log.lines(|line| line["waiting"].is_number());
    let [left] = &left[..] else { panic!("{left:?}") };
    assert_eq!(
        (&left["endpoint"], &left["level"]),
        (&"inbox".into(), &"WARN".into())
    );

    let setup = daemon.into_setup();
    let log = events(&setup).await;
    let needed = log
        .iter()
        .filter(|event| event["type"] != "operation.progress")
        .count();
    assert_eq!(left["waiting"], needed);
    inbox.start();
    let mut daemon = setup.set("shutdown_timeout", "60s").start();
    assert_eq!(daemon.exit_code().await, Some(0));
    assert_delivered(&log, &inbox);
    assert_eq!(inbox.accepted(), needed);
    assert!(daemon.log.lines(|line| line["waiting"].is_number()).is_empty());
}

#[tokio::test]
async fn deliveries_that_are_done_early_are_not_waited_for() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let inbox = VerifyingReceiver::open(0);
    let setup = Setup::new(&simulator)
        .list(&LIST)
        .set("shutdown_timeout", "10m")
        .arguments(&["--until-done"]);
    let mut daemon = inbox.subscribe(setup).start();
    assert_eq!(daemon.exit_code().await, Some(0));
    let setup = daemon.into_setup();
    assert_delivered(&events(&setup).await, &inbox);
}
