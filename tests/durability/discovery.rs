//! Discovery under faults of the API, and killed at random instants.

use std::collections::BTreeMap;
use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::{
    CustomerPlan, FaultPlan, RequestKind, RetryAfter, SeededRandom, SimulatedOutcome, Simulator,
    SimulatorConfig,
};

use crate::event_log::{assert_gapless, by_operation, events, types};
use crate::support::{DEADLINE, Setup, report, short_operation, until, until_answered, until_within};

/// The number of kills, unless [`KILLS`] is set.
const FEW: u32 = 5;
/// Sets the number of kills.
const KILLS: &str = "BACKFILL_WATCH_TEST_KILLS";
/// The longest that a daemon lives before it is killed.
const LIFE: Duration = Duration::from_secs(1);
/// Sets the seed, to bring a run back.
const SEED: &str = "BACKFILL_WATCH_TEST_SEED";

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().unwrap())
}

fn faults() -> FaultPlan {
    FaultPlan {
        server_error: 0.1,
        reset: 0.05,
        throttle: 0.01,
        retry_after: RetryAfter::Seconds(Duration::from_secs(1)),
        ..FaultPlan::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_and_kills_lose_no_backfill_and_complete_no_customer_twice() {
    let seed = number(SEED).unwrap_or_else(|| clock::wall().as_nanosecond() as u64);
    let kills = number(KILLS).map_or(FEW, |kills| kills as u32);
    report(&format!("discovery: {SEED}={seed} brings this run back"));
    let chance = SeededRandom::new(seed);
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    simulator.faults().set(faults(), chance.next_u64());
    for kind in [RequestKind::Installations, RequestKind::BackfillProgress] {
        let plan = FaultPlan {
            malformed: 0.1,
            ..faults()
        };
        simulator.faults().set_for(kind, Some(plan));
    }
    let setup = Setup::new(&simulator)
        .list::<&str>(&[])
        .set("discover.0.every", "1s")
        .set("groups.settle", "1s");
    // The state begins before the first customer installs: earlier groups are not reported.
    let daemon = setup.start();
    daemon.message("started").await;
    let plan = CustomerPlan {
        customers: 20.max(kills),
        // About as long as the daemon is killed again and again.
        install_over: LIFE * kills,
        ..CustomerPlan::default()
    };
    simulator.schedule(plan.generate(&chance, short_operation));

    let mut setup = daemon.kill().await;
    for _ in 1..kills {
        let daemon = setup.start();
        // Nothing is waited for: that the instant is any is what is tested.
        tokio::time::sleep(LIFE.mul_f64(chance.next_f64())).await;
        setup = daemon.kill().await;
    }
    until_within(LIFE * kills + DEADLINE, "every customer has installed", || {
        simulator.installations().len() == plan.customers as usize
    })
    .await;
    let daemon = setup.start();
    until_answered("every customer is complete", async || {
        let log = events(daemon.setup()).await;
        let completed = log.iter().filter(|event| event["type"] == "group.completed");
        match completed.count() {
            count if count >= plan.customers as usize => Ok(()),
            count => Err(format!("{count} are complete")),
        }
    })
    .await;
    // Two more rounds, so that what is reported twice is seen.
    let lists = || simulator.requests_of_kind(RequestKind::Installations).succeeded;
    let now = lists();
    until("two more rounds", || lists() > now + 2).await;
    let setup = daemon.stop().await;

    let log = events(&setup).await;
    assert_gapless(&log);
    let reported = by_operation(&log);
    let backfills = simulator.backfills();
    assert_eq!(reported.len(), backfills.len());
    let mut customers: BTreeMap<&str, usize> = BTreeMap::new();
    for backfill in &backfills {
        let operation = &backfill.operation;
        let expected = match operation.outcome {
            SimulatedOutcome::Success => "operation.succeeded",
            _ => "operation.failed",
        };
        let types = types(&reported[&*operation.id]);
        let endings = types
            .iter()
            .filter(|name| matches!(**name, "operation.succeeded" | "operation.failed"));
        assert_eq!(endings.collect::<Vec<_>>(), [&expected], "{types:?}");
        *customers.entry(backfill.group.as_deref().unwrap()).or_default() += 1;
    }
    for event in log.iter().filter(|event| event["type"] == "group.completed") {
        let data = &event["data"];
        let operations = customers.remove(data["group"].as_str().unwrap());
        assert_eq!(data["operationCount"], operations.unwrap_or_default(), "{event}");
    }
    assert!(customers.is_empty(), "not complete: {customers:?}");
    let requests = simulator.requests();
    report(&format!(
        "discovery: {kills} kills, {} backfills, {} events, {} requests with {} server errors, {} resets, {} throttled",
        backfills.len(),
        log.len(),
        requests.total,
        requests.server_errors,
        requests.resets,
        requests.throttled,
    ));
    // Otherwise nothing was put to the test.
    assert!(requests.server_errors > 10 && requests.resets > 5);
}
