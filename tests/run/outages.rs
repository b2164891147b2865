//! Operations that are gone or unreachable, and outages of the whole project.

use std::time::Duration;

use backfill_watch::simulator::{
    MissingFor, RetryAfter, SimulatedOperation, SimulatedReply, Simulator, SimulatorConfig,
};

use crate::support::{Setup, until};

const LONG: Duration = Duration::from_secs(3_600);

fn add(simulator: &Simulator, id: &str) {
    simulator.add_waiting(SimulatedOperation::new(id, LONG, 1_000_000));
}

#[tokio::test]
async fn one_unknown_operation_is_gone_after_the_grace_time() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    add(&simulator, "known");
    add(&simulator, "late");
    simulator.faults().miss("late", MissingFor::Requests(4));
    let daemon = Setup::new(&simulator)
        .set("poll.not_found_grace", "1s")
        .list(&["known", "late", "unknown"])
        .start();
    let gone = daemon.event_of("unknown", "operation.gone").await;
    assert_eq!((&gone["level"], &gone["phase"]), (&"WARN".into(), &"gone".into()));
    // Its grace period has passed, so it is not polled.
    assert!(gone.at - daemon.event_of("known", "operation.started").await.at >= Duration::from_millis(500));
    daemon.event_of("late", "operation.started").await;
    let asked = simulator.requests().not_found;
    let polls = simulator.requests_of("known");
    until("the known one is polled on", || {
        simulator.requests_of("known") > polls + 4
    })
    .await;
    assert_eq!(simulator.requests().not_found, asked);
    assert_eq!(daemon.log.count("operation.gone"), 1);
    assert_eq!(daemon.log.count("api.unreachable"), 0);
}

#[tokio::test]
async fn a_project_that_never_knew_any_of_its_operations_is_the_one_that_is_wrong() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let ids = ["a", "b", "c"];
    for id in ids {
        add(&simulator, id);
        simulator.faults().miss(id, MissingFor::Always);
    }
    simulator.faults().miss("integrations", MissingFor::Always);
    let daemon = Setup::new(&simulator)
        .set("poll.not_found_grace", "500ms")
        .list(&ids)
        .start();
    let unreachable = daemon.event("api.unreachable").await;
    assert!(
        unreachable["reason"]
            .as_str()
            .unwrap()
            .contains("does not know the project"),
        "{unreachable:?}"
    );
    let asked = simulator.requests().not_found;
    until("they are polled on", || {
        simulator.requests().not_found > asked + 9
    })
    .await;
    for id in ids {
        simulator.faults().restore(id);
    }
    daemon.event("api.reachable").await;
    for id in ids {
        daemon.event_of(id, "operation.started").await;
    }
    assert_eq!(daemon.log.count("api.unreachable"), 1);
    assert_eq!(daemon.log.count("operation.gone"), 0);
}

#[tokio::test]
async fn an_api_that_is_down_is_one_event_and_its_return_another() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let ids = ["a", "b", "c", "d"];
    ids.iter().for_each(|id| add(&simulator, id));
    let daemon = Setup::new(&simulator)
        .set("poll.unreachable_after", "1s")
        .list(&ids)
        .start();
    for id in ids {
        daemon.event_of(id, "operation.started").await;
    }
    let address = simulator.base_url();
    let address = address.trim_start_matches("http://").trim_end_matches("/v1");
    let listen = address.parse().unwrap();
    simulator.stop().await;
    let unreachable = daemon.event("api.unreachable").await;
    assert_eq!(unreachable["level"], "ERROR");
    assert!(
        unreachable["reason"].as_str().unwrap().contains("connect"),
        "{unreachable:?}"
    );

    let config = SimulatorConfig {
        listen,
        ..SimulatorConfig::default()
    };
    let simulator = Simulator::start(config).await.unwrap();
    ids.iter().for_each(|id| add(&simulator, id));
    daemon.event("api.reachable").await;
    for id in ids {
        until("each is polled again", || simulator.requests_of(id) > 2).await;
    }
    for event in ["api.unreachable", "api.reachable"] {
        assert_eq!(daemon.log.count(event), 1, "{event}");
    }
    for event in ["operation.unreachable", "operation.gone", "operation.failed"] {
        assert_eq!(daemon.log.count(event), 0, "{event}");
    }
}

#[tokio::test]
async fn one_operation_that_fails_is_unreachable_alone() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    add(&simulator, "healthy");
    add(&simulator, "ill");
    let failing = std::iter::repeat_n(SimulatedReply::Status(500, RetryAfter::Absent), 10_000);
    simulator.faults().script("ill", failing);
    let daemon = Setup::new(&simulator)
        .set("poll.unreachable_after", "500ms")
        .list(&["healthy", "ill"])
        .start();
    daemon.event_of("ill", "operation.unreachable").await;
    simulator.faults().restore("ill");
    daemon.event_of("ill", "operation.reachable").await;
    assert_eq!(daemon.log.count("operation.unreachable"), 1);
    assert_eq!(daemon.log.count("api.unreachable"), 0);
}

#[tokio::test]
async fn a_throttled_project_waits_until_the_given_time() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let ids = ["a", "b", "c", "d"];
    ids.iter().for_each(|id| add(&simulator, id));
    let wait = Duration::from_secs(2);
    let daemon = Setup::new(&simulator)
        .set("poll.unreachable_after", "500ms")
        .set("ampersand.max_concurrent_requests", "1")
        .list(&ids)
        .start();
    for id in ids {
        daemon.event_of(id, "operation.started").await;
    }
    simulator
        .faults()
        .script_all([SimulatedReply::Status(429, RetryAfter::Seconds(wait))]);
    until("the 429", || simulator.requests().throttled == 1).await;
    let polls = simulator.requests().total;
    until("polls again", || simulator.requests().total > polls + 8).await;
    let mut asked: Vec<_> = ids.iter().flat_map(|id| simulator.instants_of(id)).collect();
    asked.sort_unstable();
    let longest = asked.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest >= wait - Duration::from_millis(50), "{longest:?}");
    assert_eq!(daemon.log.count("api.unreachable"), 0, "a pause is an answer");
}

#[tokio::test]
async fn an_operation_without_answers_expires_after_the_limit() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    add(&simulator, "endless");
    let mut daemon = Setup::new(&simulator)
        .set("poll.give_up_after", "1s")
        .list(&["endless"])
        .arguments(&["--until-done"])
        .start();
    assert_eq!(daemon.exit_code().await, Some(1));
    let expired = daemon.event_of("endless", "operation.expired").await;
    assert_eq!(
        (&expired["phase"], &expired["level"]),
        (&"expired".into(), &"WARN".into())
    );
}
