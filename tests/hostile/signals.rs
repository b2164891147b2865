//! Too many signals.

use std::process::Command;
use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::{Simulator, SimulatorConfig};

use crate::daemon_checks::{assert_memory_is_bounded, text, with_pages};
use crate::support::{Setup, replace_file, until};

#[tokio::test]
async fn a_thousand_reloads_in_a_second() {
    const LONG: &str = "op-600000-5000-s-long";
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = with_pages(Setup::new(&simulator).list(&[LONG])).start();
    daemon.event_of(LONG, "operation.started").await;
    let hang_up = |times: u32| {
        let script = format!(
            "i=0; while [ $i -lt {times} ]; do kill -HUP {}; i=$((i+1)); done",
            daemon.id()
        );
        assert!(
            Command::new("sh")
                .args(["-c", &script])
                .status()
                .unwrap()
                .success()
        );
    };
    let begun = clock::instant();
    hang_up(500);
    replace_file(&daemon.list_path(), &format!("{LONG}\nop-200-100-s-after\n"));
    hang_up(500);
    let took = clock::instant() - begun;
    assert!(took < Duration::from_secs(1), "{took:?}");

    daemon.event_of("op-200-100-s-after", "operation.succeeded").await;
    let polls = simulator.requests_of(LONG);
    until("polls go on", || simulator.requests_of(LONG) > polls + 3).await;
    assert_eq!(text(&daemon, "/livez").await, "alive\n");
    let of_long = &daemon.log.events_by_operation()[LONG];
    let started = of_long.iter().filter(|line| line["event"] == "operation.started");
    assert_eq!(started.count(), 1, "who stays is not disturbed");
    let reloads = daemon
        .log
        .lines(|line| line["message"] == "settings reloaded")
        .len();
    // Signals that come while one is being served are one.
    assert!((1..=200).contains(&reloads), "{reloads}");
    assert_memory_is_bounded(&daemon);
    daemon.stop().await;
}
