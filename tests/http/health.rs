//! Liveness and readiness.

use std::time::Duration;

use backfill_watch::simulator::FaultPlan;
use tokio::net::TcpListener;

use crate::fixture::{Fixture, WEBHOOK_SECRET, problem};
use crate::support::until;

#[tokio::test]
async fn slow_answers_of_the_api_do_not_fail_the_health_check() {
    let fixture = Fixture::start_with(&["op-600000-5000-s-1", "op-600000-5000-s-2"], |setup| {
        setup.set("ampersand.request_timeout", "1s")
    })
    .await;
    fixture.simulator.faults().set(
        FaultPlan {
            hang: 1.0,
            ..FaultPlan::default()
        },
        1,
    );
    // More than three time-outs of requests that each hang to their limit.
    until("polls time out", || fixture.simulator.requests().hangs >= 8).await;
    assert_eq!(fixture.text("/livez").await, "alive\n");
    assert_eq!(fixture.text("/readyz").await, "ready\n");
}

#[tokio::test]
async fn a_missing_watch_list_does_not_keep_the_daemon_from_being_ready() {
    let fixture = Fixture::start_with(&[], |setup| {
        std::fs::remove_file(setup.list_path()).unwrap();
        setup
    })
    .await;
    assert_eq!(fixture.text("/readyz").await, "ready\n");
    assert_eq!(
        fixture.json("/api/operations").await["operations"],
        serde_json::json!([])
    );
}

#[tokio::test]
async fn while_it_stops_the_daemon_is_alive_and_not_ready() {
    // A receiver that never answers.
    let receiver = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", receiver.local_addr().unwrap());
    let mut fixture = Fixture::start_with(&["op-600000-5000-s-1"], |setup| {
        setup
            .set("webhook.url", &url)
            .set("shutdown_timeout", "10s")
            .variable("BACKFILL_WATCH_WEBHOOK_SECRET", WEBHOOK_SECRET)
    })
    .await;
    let _delivery = receiver.accept().await.unwrap();
    fixture.daemon.signal(&["TERM"]);
    let stopping = async {
        loop {
            let answer = fixture.get("/readyz").await;
            if answer.status() != 200 {
                return problem(answer, 503).await;
            }
        }
    };
    let detail = tokio::time::timeout(Duration::from_secs(8), stopping)
        .await
        .expect("it reports that it stops");
    assert_eq!(detail, "stopping");
    assert_eq!(fixture.status("/livez").await, 200);
    fixture.daemon.signal(&["TERM"]);
    assert_eq!(fixture.daemon.exit_code().await, Some(143));
}
