//! A restart sends no events: finished watches stay finished, running ones continue.

use std::fs;
use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::{
    CountCurve, MissingFor, SimulatedOperation, SimulatedOutcome, Simulator, SimulatorConfig,
};

use crate::event_log::{assert_delivered, assert_gapless, by_operation, events, types};
use crate::support::{Daemon, Setup, lines_of, replace_file, until};
use crate::verifying_receiver::VerifyingReceiver;

#[tokio::test]
async fn finished_operations_are_neither_polled_nor_reported_again_and_the_others_continue() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let inbox = VerifyingReceiver::open(0);
    simulator.add_waiting(SimulatedOperation {
        outcome: SimulatedOutcome::Other("cancelled".to_owned()),
        ..SimulatedOperation::new("ended", Duration::from_millis(300), 100)
    });
    simulator.add_waiting(SimulatedOperation::new("long", Duration::from_secs(20), 10_000));
    let finished = ["op-300-100-s-a", "op-300-100-f-b", "ended"];
    let setup = Setup::new(&simulator).list(&[&finished[..], &["long"]].concat());
    let mut setup = inbox.subscribe(setup);
    let mut asked = Vec::new();
    // In order, by a crash, and in order again.
    for (round, crash) in [false, true, false].into_iter().enumerate() {
        let polls = simulator.requests_of("long");
        let daemon = setup.start();
        if round == 0 {
            for operation in finished {
                daemon
                    .wait_for(operation, |line| {
                        line["operation_id"] == operation
                            && line["event"].is_string()
                            && line["phase"] != "running"
                    })
                    .await;
            }
        }
        daemon.event_of("long", "operation.progress").await;
        until("the long one is polled on", || {
            simulator.requests_of("long") > polls + 8
        })
        .await;
        if round > 0 {
            let reported = daemon.log.events_by_operation();
            assert_eq!(reported.keys().collect::<Vec<_>>(), ["long"]);
            assert!(
                reported["long"]
                    .iter()
                    .all(|line| line["event"] == "operation.progress")
            );
        }
        setup = if crash {
            daemon.kill().await
        } else {
            daemon.stop().await
        };
        asked.push(finished.map(|operation| simulator.requests_of(operation)));
    }
    assert!(asked.iter().all(|counts| *counts == asked[0]), "{asked:?}");

    let log = events(&setup).await;
    assert_gapless(&log);
    let reported = by_operation(&log);
    for (operation, ending) in finished.into_iter().zip(["succeeded", "failed", "ended"]) {
        let types = types(&reported[operation]);
        let endings = types
            .iter()
            .filter(|name| !name.ends_with("started") && !name.ends_with("progress"));
        assert_eq!(endings.collect::<Vec<_>>(), [&format!("operation.{ending}")]);
    }
    let starts = types(&reported["long"])
        .iter()
        .filter(|name| name.ends_with("started"))
        .count();
    assert_eq!(starts, 1);
    assert!(
        reported["long"].len() >= 4,
        "progress in each life: {:#?}",
        reported["long"]
    );
    inbox.assert_verified_and_ordered();
}

/// Waits until no poll came for several times the longest interval.
async fn until_nobody_is_polled(simulator: &Simulator) {
    let (mut polls, mut since) = (0, clock::instant());
    until("polling ends", || {
        let now = simulator.requests().total;
        if now != polls {
            (polls, since) = (now, clock::instant());
        }
        clock::instant() - since > Duration::from_secs(1)
    })
    .await;
}

/// Runs it until the operation was polled for this long, by the simulator's clock.
async fn run_until_polled_for(daemon: &Daemon, simulator: &Simulator, operation: &str, time: Duration) {
    until("polls over that time", || {
        let polls = simulator.instants_of(operation);
        polls
            .first()
            .is_some_and(|first| *polls.last().unwrap() - *first >= time)
    })
    .await;
    assert_eq!(
        daemon.log.count("operation.stalled") + daemon.log.count("operation.expired"),
        0
    );
}

#[tokio::test]
async fn the_clocks_of_stall_and_expiry_continue() {
    const LIMIT: Duration = Duration::from_secs(6);
    /// What the first life uses up.
    const FIRST: Duration = Duration::from_secs(4);
    for (setting, event) in [
        ("poll.stalled_after", "operation.stalled"),
        ("poll.give_up_after", "operation.expired"),
    ] {
        let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
        // Its count does not change for an hour after its first rise.
        simulator.add(SimulatedOperation {
            curve: CountCurve::Bursts,
            ..SimulatedOperation::new("still", Duration::from_secs(8 * 3_600), 1_000)
        });
        let daemon = Setup::new(&simulator).list(&["still"]).set(setting, "6s").start();
        daemon.event("operation.started").await;
        run_until_polled_for(&daemon, &simulator, "still", FIRST).await;
        let setup = daemon.stop().await;
        let restarted = clock::instant();
        let daemon = setup.start();
        let reported = daemon.event(event).await;
        let took = reported.at - restarted;
        assert!(
            took < LIMIT - Duration::from_secs(1),
            "{event} after {took:?} more"
        );
        let polls = simulator.instants_of("still");
        let seen = reported.at - polls[0];
        assert!(
            seen >= LIMIT - Duration::from_millis(500),
            "{event} after {seen:?} in all"
        );
    }
}

#[tokio::test]
async fn what_was_not_delivered_waits_for_the_next_start_without_a_poll() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let mut inbox = VerifyingReceiver::closed(0);
    let setup = Setup::new(&simulator).list(&["op-200-100-s-a", "op-200-100-f-b"]);
    let daemon = inbox.subscribe(setup).start();
    daemon.event("operation.succeeded").await;
    daemon.event("operation.failed").await;
    let mut setup = daemon.stop().await;
    let asked = simulator.requests().total;
    let log = events(&setup).await;
    // A start and a stop in between change nothing.
    let daemon = setup.start();
    daemon
        .wait_for("the start", |line| line["message"] == "started")
        .await;
    setup = daemon.stop().await;

    inbox.start();
    let daemon = setup.start();
    inbox
        .until_accepted(
            log.iter()
                .filter(|event| event["type"] != "operation.progress")
                .count(),
        )
        .await;
    let setup = daemon.stop().await;
    assert_eq!(events(&setup).await, log);
    assert_delivered(&log, &inbox);
    assert_eq!(simulator.requests().total, asked);
}

#[tokio::test]
async fn an_operation_removed_and_added_again_continues_or_stays_finished_across_restarts() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    simulator.add_waiting(SimulatedOperation {
        outcome: SimulatedOutcome::Other("cancelled".to_owned()),
        ..SimulatedOperation::new("ended", Duration::from_millis(200), 100)
    });
    simulator.faults().miss("gone", MissingFor::Always);
    simulator.add_waiting(SimulatedOperation::new(
        "running",
        Duration::from_secs(600),
        1_000_000,
    ));
    let ids = ["op-200-100-s-a", "op-200-100-f-b", "ended", "gone", "running"];
    let daemon = Setup::new(&simulator)
        .set("poll.not_found_grace", "500ms")
        .list(&ids)
        .start();
    for event in ["succeeded", "failed", "ended", "gone", "started"] {
        daemon.event(&format!("operation.{event}")).await;
    }
    daemon.event_of("running", "operation.started").await;
    replace_file(&daemon.list_path(), "");
    until_nobody_is_polled(&simulator).await;
    let setup = daemon.stop().await;
    let before = events(&setup).await;
    let asked = |id: &str| simulator.requests_of(id);
    let counts = ids.map(asked);

    // Put back while nobody looks, and gone for good is what comes back now.
    fs::write(setup.list_path(), lines_of(&ids)).unwrap();
    let daemon = setup.start();
    daemon.event_of("ended", "operation.ended").await;
    daemon.event_of("gone", "operation.gone").await;
    until("the running one is polled on", || {
        asked("running") > counts[4] + 2
    })
    .await;
    let setup = daemon.stop().await;
    assert_eq!(
        [asked(ids[0]), asked(ids[1])],
        [counts[0], counts[1]],
        "they stay finished"
    );

    let log = events(&setup).await;
    assert_gapless(&log);
    assert_eq!(log[..before.len()], before);
    let reported = by_operation(&log);
    let count = |id: &str, event: &str| types(&reported[id]).iter().filter(|name| **name == event).count();
    assert_eq!(count("ended", "operation.ended"), 2);
    assert_eq!(count("gone", "operation.gone"), 2);
    assert_eq!(count("running", "operation.started"), 1);
    assert_eq!(count(ids[0], "operation.succeeded"), 1);
    assert_eq!(count(ids[1], "operation.failed"), 1);
}
