//! A receiver that is down, and one that is flooded.

use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::{SimulatedOperation, Simulator, SimulatorConfig};
use tokio::time::Instant;

use crate::event_log::{assert_delivered, assert_gapless, by_operation, events, types};
use crate::support::{Setup, report, until};
use crate::verifying_receiver::VerifyingReceiver;

/// Operations of about four seconds.
fn forty(simulator: &Simulator) -> Vec<String> {
    let operations = (0..40).map(|i| {
        let duration = Duration::from_millis(3_500 + i * 25);
        SimulatedOperation::new(format!("op{i}"), duration, 10_000)
    });
    operations
        .map(|operation| {
            let id = operation.id.clone();
            simulator.add_waiting(operation);
            id
        })
        .collect()
}

/// Polls each operation every 250 ms, without chance.
fn steady(simulator: &Simulator, operations: &[String]) -> Setup {
    Setup::new(simulator)
        .list(operations)
        .set("poll.initial_interval", "250ms")
        .set("poll.randomization", "0")
        .set("poll.adaptive", "false")
}

/// The intervals between the polls of each operation, all sorted by length.
fn intervals(simulator: &Simulator, operations: &[String]) -> Vec<Duration> {
    let mut intervals = Vec::new();
    for operation in operations {
        let polls: Vec<Instant> = simulator.instants_of(operation);
        intervals.extend(polls.windows(2).map(|pair| pair[1] - pair[0]));
    }
    intervals.sort_unstable();
    intervals
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_was_down_gets_all_but_progress_and_polling_never_knew() {
    // Both at once, so that whatever else the machine does meets both.
    let with = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let without = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let operations = forty(&with);
    forty(&without);
    let mut inbox = VerifyingReceiver::closed(0);
    let daemon = inbox.subscribe(steady(&with, &operations)).start();
    let other = steady(&without, &operations).start();
    for daemon in [&daemon, &other] {
        until("the ends of all", || {
            daemon.log.count("operation.succeeded") == operations.len()
        })
        .await;
    }
    daemon
        .wait_for("that the receiver is down, once", |line| {
            line["endpoint"] == "inbox" && line["level"] == "WARN"
        })
        .await;
    assert_eq!(inbox.count(), 0);

    let (slowed, free) = (intervals(&with, &operations), intervals(&without, &operations));
    let median = |intervals: &[Duration]| intervals[intervals.len() / 2];
    report(&format!(
        "polls with a receiver that is down: {}, every {:?}; without a receiver: {}, every {:?}",
        slowed.len(),
        median(&slowed),
        free.len(),
        median(&free)
    ));
    // Counts and not times: a poller that waited for deliveries, which wait for seconds, would miss most of its polls.
    assert!(
        slowed.len() * 2 > free.len(),
        "{} and {}",
        slowed.len(),
        free.len()
    );

    inbox.start();
    // All that waits is what started and what ended: progress came to nothing with the end.
    inbox.until_accepted(2 * operations.len()).await;
    let setup = daemon.stop().await;
    let log = events(&setup).await;
    assert_gapless(&log);
    let superseded = assert_delivered(&log, &inbox);
    assert_eq!(inbox.count(), 2 * operations.len());
    assert_eq!(superseded, log.len() - 2 * operations.len());
    assert!(superseded >= 5 * operations.len(), "{superseded} were superseded");
    for (operation, events) in by_operation(&log) {
        let types = types(&events);
        assert_eq!(
            (types[0], types[types.len() - 1]),
            ("operation.started", "operation.succeeded"),
            "{operation}"
        );
    }
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_that_end_within_one_second_are_all_recorded_and_delivered() {
    const COUNT: usize = 1_000;
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let inbox = VerifyingReceiver::open(0);
    let ids: Vec<String> = (0..COUNT).map(|i| format!("op{i}")).collect();
    let setup = Setup::new(&simulator)
        .list(&ids)
        .set("ampersand.max_requests_per_second", "5000")
        .set("poll.initial_interval", "500ms")
        .set("poll.max_interval", "1s")
        .arguments(&["--until-done"]);
    // All were seen running before the first one ends: it takes them a second or two.
    let ending = clock::instant() + Duration::from_secs(8);
    for (id, i) in ids.iter().zip(0..) {
        let life = ending - clock::instant() + Duration::from_millis(i);
        simulator.add(SimulatedOperation::new(id, life, 1_000_000));
    }
    let mut daemon = inbox
        .subscribe(setup)
        .set("webhook.events", "operation.started, operation.succeeded")
        .set("shutdown_timeout", "60s")
        .start();
    assert_eq!(daemon.exit_code().await, Some(0));
    let log = events(&daemon.into_setup()).await;
    assert_gapless(&log);
    let reported = by_operation(&log);
    assert_eq!(reported.len(), COUNT);
    for (operation, events) in reported {
        assert_eq!(
            types(&events).last(),
            Some(&"operation.succeeded"),
            "{operation}: {events:#?}"
        );
    }
    assert_delivered(&log, &inbox);
    let messages = inbox.messages();
    let endings = messages
        .iter()
        .filter(|message| message.event_type() == "operation.succeeded");
    assert_eq!(endings.count(), COUNT);
}
