//! `kill -9` at random instants, while the receiver fails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::{
    CountCurve, SeededRandom, SimulatedEstimate, SimulatedOperation, SimulatedOutcome, Simulator,
    SimulatorConfig,
};

use crate::event_log::{assert_delivered, assert_gapless, by_operation, events, types};
use crate::support::{Setup, report};
use crate::verifying_receiver::{LONG, VerifyingReceiver};

/// The number of kills, unless [`KILLS`] is set.
const FEW: u64 = 50;
/// Sets the number of kills.
const KILLS: &str = "BACKFILL_WATCH_TEST_KILLS";
/// So many operations for each kill, that some end in each life.
const OPERATIONS: u64 = 6;
/// The longest that a daemon lives before it is killed.
const LIFE: Duration = Duration::from_millis(700);
const FAILING: f64 = 0.3;
/// Sets the seed, to bring a run back.
const SEED: &str = "BACKFILL_WATCH_TEST_SEED";

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().unwrap())
}

/// Of all kinds, over all the time of the kills and a little beyond.
fn operations(count: u64) -> Vec<SimulatedOperation> {
    (0..count)
        .map(|i| SimulatedOperation {
            outcome: if i % 10 == 3 {
                SimulatedOutcome::Failure
            } else {
                SimulatedOutcome::Success
            },
            curve: if i % 10 == 5 {
                CountCurve::Restart
            } else {
                CountCurve::Linear
            },
            estimate: if i % 10 == 7 {
                SimulatedEstimate::Missing
            } else {
                SimulatedEstimate::Right
            },
            ..SimulatedOperation::new(format!("op{i}"), Duration::from_millis(1_000 + i * 100), 10_000)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_and_repeat_nothing() {
    let seed = number(SEED).unwrap_or_else(|| clock::wall().as_nanosecond() as u64);
    let kills = number(KILLS).unwrap_or(FEW);
    report(&format!("kills: {SEED}={seed} brings this run back"));
    let chance = SeededRandom::new(seed);
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let inbox = VerifyingReceiver::open(chance.next_u64());
    inbox.fail(FAILING);
    inbox.fail_each_at_most(2);
    let operations = operations(kills * OPERATIONS);
    let lines: Vec<String> = operations
        .iter()
        .zip(0..)
        .map(|(operation, number)| format!("{} group=g{}", operation.id, number / OPERATIONS))
        .collect();
    let setup = Setup::new(&simulator)
        .list(&lines)
        .set("poll.initial_interval", "200ms")
        .set("poll.min_interval", "200ms")
        .set("poll.max_interval", "1s")
        .set("poll.progress_interval", "1s")
        .set("groups.settle", "100ms")
        .set("shutdown_timeout", "200s");
    let mut setup = inbox.subscribe(setup);
    for operation in &operations {
        // None is older than the state. The group of such operations is not reported.
        simulator.add_waiting(operation.clone());
    }

    let begin = clock::instant();
    let mut starting = 0;
    for kill in 0..kills {
        let daemon = setup.start();
        // Some are killed at any instant from the first on; most have started, however slow the machine is.
        if kill % 4 > 0 {
            daemon
                .wait_for("the start", |line| line["message"] == "started")
                .await;
        }
        // Nothing is waited for: that the instant is any is what is tested.
        tokio::time::sleep(LIFE.mul_f64(chance.next_f64())).await;
        starting += usize::from(daemon.log.lines(|line| line["message"] == "started").is_empty());
        setup = daemon.kill().await;
    }
    let (killing, meanwhile) = (clock::instant() - begin, inbox.messages());
    inbox.fail(0.0);
    let mut daemon = setup.arguments(&["--until-done"]).start();
    assert_eq!(
        daemon.exit_within(LONG).await.code(),
        Some(1),
        "some operations fail"
    );
    let waiting = daemon.log.lines(|line| line["waiting"].is_number());
    assert!(waiting.is_empty(), "{waiting:?}");

    let log = events(&daemon.into_setup()).await;
    assert_gapless(&log);
    let superseded = assert_delivered(&log, &inbox);
    let reported = by_operation(&log);
    assert_eq!(reported.len(), operations.len());
    for operation in &operations {
        let events = &reported[&*operation.id];
        let (last, before) = types(events).split_last().map(|(l, b)| (*l, b.to_vec())).unwrap();
        let ending = match operation.outcome {
            SimulatedOutcome::Success => "operation.succeeded",
            _ => "operation.failed",
        };
        assert_eq!(last, ending, "{events:#?}");
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for event_type in before {
            *counts.entry(event_type).or_default() += 1;
        }
        // One whose first poll came after its end has its ending event alone.
        let expected = usize::from(events.len() > 1);
        assert_eq!(counts.remove("operation.started").unwrap_or(0), expected);
        let retried = counts.remove("operation.retried").unwrap_or(0);
        assert!(retried <= usize::from(operation.curve == CountCurve::Restart));
        counts.remove("operation.progress");
        assert!(counts.is_empty(), "{counts:?}");
    }
    let completed: Vec<_> = log
        .iter()
        .filter(|event| event["type"] == "group.completed")
        .collect();
    let groups: BTreeSet<&str> = completed
        .iter()
        .map(|event| event["data"]["group"].as_str().unwrap())
        .collect();
    assert_eq!((completed.len(), groups.len() as u64), (groups.len(), kills));
    for event in completed {
        let data = &event["data"];
        assert_eq!(
            (&data["round"], &data["operationCount"]),
            (&1.into(), &OPERATIONS.into()),
            "{event}"
        );
    }
    let messages = inbox.messages();
    let failed = messages.iter().filter(|message| !message.accepted).count();
    report(&format!(
        "kills: {kills} in {killing:.1?}, {starting} of them while starting; {} events of {} operations, \
         {superseded} superseded; {} messages, {} of them while killing, {failed} failed; in all {:.1?}",
        log.len(),
        operations.len(),
        messages.len(),
        meanwhile.len(),
        clock::instant() - begin,
    ));
    // Otherwise nothing was put to the test.
    assert!(failed > 50 && meanwhile.len() > failed);
}
