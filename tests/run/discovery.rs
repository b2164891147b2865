//! Discovery with an empty watch list: which backfills of simulated customers are found, and when a customer is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::{
    CustomerPlan, OperationsAfterDelete, RequestKind, SeededRandom, SimulatedBackfill, SimulatedInstallation,
    SimulatedObject, SimulatedOperation, SimulatedOutcome, Simulator, SimulatorConfig, StartedBackfill,
};

use crate::support::{Daemon, LogLine, Setup, short_operation, text, until};

/// Enough for every request of a test.
const KEEP: usize = 1_000;

async fn simulator() -> Simulator {
    let config = SimulatorConfig {
        keep_instants: KEEP,
        ..SimulatorConfig::default()
    };
    Simulator::start(config).await.unwrap()
}

/// An empty watch list, and a `[[discover]]` table with this time between rounds.
fn discovering(simulator: &Simulator, every: &str) -> Setup {
    Setup::new(simulator)
        .list::<&str>(&[])
        .set("discover.0.every", every)
        .set("groups.settle", "1s")
}

fn running(duration: Duration) -> SimulatedBackfill {
    SimulatedBackfill::new(SimulatedOperation::new("", duration, 1_000))
}

fn is_ending(line: &LogLine) -> bool {
    matches!(
        line["event"].as_str(),
        Some("operation.succeeded" | "operation.failed")
    )
}

/// Waits until two more rounds have ended, so that what is reported twice is seen.
async fn two_rounds(simulator: &Simulator) {
    let lists = || simulator.requests_of_kind(RequestKind::Installations).total;
    let now = lists();
    until("two more rounds", || lists() > now + 2).await;
}

/// Every backfill ended once, with its true status, and every customer is complete once, with all its operations.
fn assert_reported(daemon: &Daemon, backfills: &[StartedBackfill]) {
    let events = daemon.log.events_by_operation();
    assert_eq!(events.len(), backfills.len(), "{}", daemon.log);
    let mut customers: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
    for backfill in backfills {
        let operation = &backfill.operation;
        let endings: Vec<&LogLine> = events[&operation.id]
            .iter()
            .filter(|line| is_ending(line))
            .collect();
        let is_success = operation.outcome == SimulatedOutcome::Success;
        let expected = if is_success {
            "operation.succeeded"
        } else {
            "operation.failed"
        };
        assert_eq!(endings.len(), 1, "{endings:?}");
        assert_eq!(endings[0]["event"], expected);
        let customer = customers.entry(backfill.group.as_deref().unwrap()).or_default();
        customer.0 += 1;
        customer.1 |= !is_success;
    }
    let completed = daemon.log.lines(|line| line["event"] == "group.completed");
    assert_eq!(completed.len(), customers.len(), "{completed:?}");
    for line in completed {
        let (operations, has_failed) = customers.remove(line["group"].as_str().unwrap()).unwrap();
        let outcome = if has_failed { "failed" } else { "succeeded" };
        assert_eq!(line["operations"], operations, "{line:?}");
        assert_eq!(line["outcome"], outcome, "{line:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backfills_of_customers_that_install_over_time_are_found_and_each_customer_is_complete_once() {
    let simulator = simulator().await;
    let daemon = discovering(&simulator, "1s").start();
    daemon.message("started").await;
    let plan = CustomerPlan {
        customers: 20,
        install_over: Duration::from_secs(4),
        ..CustomerPlan::default()
    };
    simulator.schedule(plan.generate(&SeededRandom::new(11), short_operation));
    until("every customer is complete", || {
        daemon.log.count("group.completed") == 20
    })
    .await;
    two_rounds(&simulator).await;
    let backfills = simulator.backfills();
    assert!(backfills.len() > 30, "{}", backfills.len());
    assert_reported(&daemon, &backfills);

    // The object is asked for in the first round that starts after its backfill, if not in the one before. On a slow
    // machine, a request that is still in flight then moves a few to the next round.
    let lists = simulator.instants_of_lists();
    assert!(lists.len() < KEEP);
    let mut late = Vec::new();
    for backfill in &backfills {
        let rounds: Vec<_> = lists
            .iter()
            .copied()
            .filter(|list| *list >= backfill.shown)
            .collect();
        let operation = &backfill.operation;
        let asked = simulator.instants_of_object(&operation.installation_id, &operation.objects[0]);
        let first = asked.iter().find(|asked| **asked >= backfill.shown).unwrap();
        assert!(*first < rounds[2], "{backfill:?} of {asked:?}");
        if *first >= rounds[1] {
            late.push(backfill);
        }
    }
    assert!(late.len() <= backfills.len() / 10, "{late:?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_backfills_are_asked_for_once_and_not_reported() {
    const OLD: u32 = 300;
    let simulator = simulator().await;
    let plan = CustomerPlan {
        customers: 0,
        old_backfills: OLD,
        ..CustomerPlan::default()
    };
    simulator.schedule(plan.generate(&SeededRandom::new(12), short_operation));
    let backfills = simulator.backfills();
    assert_eq!(backfills.len(), OLD as usize);
    // With one backfill that is young, which is reported.
    let objects = [SimulatedObject::reading("contact", running(Duration::ZERO))];
    simulator.install(SimulatedInstallation::new("young", objects));
    let daemon = discovering(&simulator, "10m").start();
    daemon.event("operation.succeeded").await;
    until("every operation is polled", || {
        let mut polled = backfills
            .iter()
            .map(|backfill| simulator.requests_of(&backfill.operation.id));
        polled.all(|polls| polls > 0)
    })
    .await;

    assert_eq!(simulator.requests_of_kind(RequestKind::Installations).total, 1);
    for backfill in &backfills {
        let operation = &backfill.operation;
        let asked = simulator.requests_of_object(&operation.installation_id, &operation.objects[0]);
        assert_eq!(
            (asked, simulator.requests_of(&operation.id)),
            (1, 1),
            "{operation:?}"
        );
    }
    let status = daemon.setup().run_with("status", &["--json"]).await;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["operations"].as_array().unwrap().len(), 1, "{status}");
    let events = daemon.setup().run_with("events", &["--json"]).await;
    let events = text(&events.stdout);
    assert_eq!(events.lines().count(), 1, "{events}");
    assert_eq!(daemon.log.events_by_operation().len(), 1, "{}", daemon.log);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_while_the_daemon_was_down_is_reported_after_the_start() {
    let simulator = simulator().await;
    let short = Duration::from_secs(2);
    let known = simulator.install(SimulatedInstallation::new(
        "known",
        [SimulatedObject::reading("contact", running(short))],
    ));
    let deleted = simulator.install(SimulatedInstallation::new(
        "deleted",
        [SimulatedObject::reading("contact", running(short))],
    ));
    let daemon = discovering(&simulator, "1s").start();
    until("two backfills are watched", || {
        daemon.log.count("operation.started") == 2
    })
    .await;
    let setup = daemon.stop().await;

    let added = SimulatedObject::reading("account", running(Duration::from_millis(300)));
    simulator.add_object(&known, added).unwrap();
    let objects = [SimulatedObject::reading(
        "lead",
        running(Duration::from_millis(300)),
    )];
    simulator.install(SimulatedInstallation::new("new", objects));
    simulator
        .delete_installation(&deleted, OperationsAfterDelete::Continue)
        .unwrap();
    let backfills = simulator.backfills();
    assert_eq!(backfills.len(), 4);
    until("all backfills have ended", || {
        let now = clock::instant();
        backfills
            .iter()
            .all(|backfill| now > backfill.shown + backfill.operation.duration)
    })
    .await;

    let daemon = setup.start();
    until("every customer is complete", || {
        daemon.log.count("group.completed") == 3
    })
    .await;
    two_rounds(&simulator).await;
    assert_reported(&daemon, &backfills);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_done_with_discovery_ends_after_one_complete_pass() {
    let simulator = simulator().await;
    let objects = ["account", "contact", "lead"]
        .map(|name| SimulatedObject::reading(name, running(Duration::from_millis(500))));
    simulator.install(SimulatedInstallation::new("acme", objects));
    simulator.install(SimulatedInstallation::new("gale", [SimulatedObject::new("lead")]));
    let setup = discovering(&simulator, "1s").arguments(&["--until-done"]);
    let mut daemon = setup.start();
    assert_eq!(daemon.exit_code().await, Some(0), "{}", daemon.log);
    let endings = daemon.log.lines(is_ending);
    let operations: BTreeSet<&str> = endings
        .iter()
        .filter_map(|line| line["operation_id"].as_str())
        .collect();
    assert_eq!((endings.len(), operations.len()), (3, 3), "{}", daemon.log);

    // Nothing is left to find.
    let mut daemon = daemon.into_setup().start();
    assert_eq!(daemon.exit_code().await, Some(0), "{}", daemon.log);
    assert!(daemon.log.lines(is_ending).is_empty(), "{}", daemon.log);
}
