//! `/api/projects`.

use std::time::Duration;

use backfill_watch::simulator::{RetryAfter, SimulatedReply};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::fixture::{Fixture, problem};
use crate::support::until_answered;

/// Waits until the only project is as it should be.
async fn project(fixture: &Fixture, what: &str, is_right: impl Fn(&Value) -> bool) -> Value {
    until_answered(what, async || {
        let mut projects = fixture.json("/api/projects").await["projects"].take();
        assert_eq!(projects.as_array().unwrap().len(), 1);
        let project = projects[0].take();
        if is_right(&project) {
            Ok(project)
        } else {
            Err(project.to_string())
        }
    })
    .await
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_project_has_its_counts_its_gate_and_its_failures() {
    let fixture = Fixture::start_with(
        &[
            "op-600000-5000-s-1 group=a",
            "op-200-100-s-2 group=b",
            "op-200-100-f-3 group=c",
        ],
        |setup| {
            setup
                .set("poll.max_interval", "100ms")
                .set("groups.settle", "100ms")
        },
    )
    .await;
    let counts = json!({"running": 1, "succeeded": 1, "failed": 1});
    let well = project(&fixture, "all is well", |project| {
        project["operations"] == counts && project["groups"] == counts && project["nextPollTime"].is_string()
    })
    .await;
    assert_eq!(
        (&well["name"], &well["reachable"], &well["credentialsValid"]),
        (&"my-project".into(), &true.into(), &true.into())
    );
    for absent in [
        "unreachableSince",
        "credentialsRejectedSince",
        "lastError",
        "pause",
        "discovery",
    ] {
        assert!(well.get(absent).is_none(), "{absent} in {well}");
    }
    let gate = &well["gate"];
    assert_eq!(
        (&gate["maxConcurrentRequests"], &gate["waiting"]),
        (&32.into(), &0.into())
    );
    assert!(
        gate["maxRequestsPerSecond"].is_f64() && gate["inFlight"].is_u64(),
        "{gate}"
    );
    assert!(gate["lastWaitSeconds"].as_f64().unwrap() < 10.0, "{gate}");
    assert!(time(&well["lastAnswerTime"]) <= backfill_watch::clock::wall());

    let throttled = SimulatedReply::Status(429, RetryAfter::Seconds(Duration::from_secs(3)));
    fixture.simulator.faults().script_all([throttled]);
    let paused = project(&fixture, "it is paused", |project| project.get("pause").is_some()).await;
    let reason = paused["pause"]["reason"].as_str().unwrap();
    assert!(
        reason.contains("429") && paused["lastError"] == reason,
        "{paused}"
    );
    assert!(
        time(&paused["pause"]["until"]) > time(&paused["lastAnswerTime"]),
        "{paused}"
    );
    assert!(
        time(&paused["nextPollTime"]) >= time(&paused["pause"]["until"]),
        "{paused}"
    );
    project(&fixture, "it continues", |project| project.get("pause").is_none()).await;

    fixture
        .simulator
        .set_api_keys("my-project", ["another".to_owned()]);
    let rejected = project(&fixture, "the key is rejected", |project| {
        project["credentialsValid"] == false
    })
    .await;
    assert!(
        rejected["lastError"].as_str().unwrap().contains("401"),
        "{rejected}"
    );
    assert!(time(&rejected["credentialsRejectedSince"]) <= time(&rejected["lastAnswerTime"]));
    fixture
        .simulator
        .set_api_keys("my-project", ["simulated-key".to_owned()]);
    project(&fixture, "the key is accepted", |project| {
        project["credentialsValid"] == true && project.get("lastError").is_none()
    })
    .await;
    for list in ["projects", "attention", "webhooks"] {
        let detail = problem(fixture.get(&format!("/api/{list}?limit=1")).await, 400).await;
        assert_eq!(
            detail,
            "unknown query parameter `limit`; this request has no parameters"
        );
    }
}

#[tokio::test]
async fn an_outage_and_discovery_are_shown() {
    let fixture = Fixture::start_with(&["op-600000-5000-s-1"], |setup| {
        setup
            .set("poll.unreachable_after", "1s")
            .set("poll.max_interval", "100ms")
            .set("discover.0.every", "10s")
    })
    .await;
    let found = project(&fixture, "installations are listed", |project| {
        project["discovery"].get("lastSuccessTime").is_some()
    })
    .await;
    assert!(
        found["discovery"]["installations"].is_u64() && found["discovery"]["objects"].is_u64(),
        "{found}"
    );
    let down = std::iter::repeat_n(SimulatedReply::Status(502, RetryAfter::Absent), 40);
    fixture.simulator.faults().script_all(down);
    let down = project(&fixture, "it is unreachable", |project| {
        project["reachable"] == false
    })
    .await;
    assert!(down["lastError"].as_str().unwrap().contains("502"), "{down}");
    assert!(
        time(&down["unreachableSince"]) >= time(&down["lastAnswerTime"]),
        "{down}"
    );
    project(&fixture, "it is reachable", |project| {
        project["reachable"] == true && project.get("lastError").is_none()
    })
    .await;
}
