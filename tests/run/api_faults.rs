//! With a faulty API every operation still ends with its true status.

use std::time::Duration;

use backfill_watch::simulator::{FaultPlan, RetryAfter, Simulator, SimulatorConfig};

use crate::completion::{assert_reported_once, fifty};
use crate::support::Setup;

#[tokio::test]
async fn no_failure_of_a_poll_is_reported_as_a_failure_of_an_operation() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let operations = fifty(&simulator);
    let plan = FaultPlan {
        server_error: 0.2,
        reset: 0.05,
        truncate: 0.05,
        hang: 0.05,
        throttle: 0.01,
        retry_after: RetryAfter::Body(Duration::from_millis(150)),
        ..FaultPlan::default()
    };
    assert!(plan.is_possible());
    simulator.faults().set(plan, 7);
    let ids: Vec<&str> = operations.iter().map(|operation| operation.id.as_str()).collect();
    let mut daemon = Setup::new(&simulator)
        .set("ampersand.request_timeout", "300ms")
        .list(&ids)
        .arguments(&["--until-done"])
        .start();

    assert_eq!(daemon.exit_code().await, Some(1), "five of them fail");
    assert_reported_once(&daemon.log, &operations);
    for event in [
        "operation.unreachable",
        "api.unreachable",
        "api.credentials_rejected",
    ] {
        assert_eq!(daemon.log.count(event), 0, "{event}");
    }
    let asked = simulator.requests();
    for (fault, met) in [
        ("5xx", asked.server_errors),
        ("reset", asked.resets),
        ("truncated", asked.truncated),
        ("hang", asked.hangs),
        ("429", asked.throttled),
    ] {
        assert!(met > 0, "{fault} was never met: {asked:?}");
    }
}
