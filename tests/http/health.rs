//! What probes are told.

use std::time::Duration;

use backfill_watch::simulator::FaultPlan;
use tokio::net::TcpListener;

use crate::bench::{Bench, problem};
use crate::support::until;

#[tokio::test]
async fn slow_answers_of_the_api_make_nobody_sick() {
    let bench = Bench::start_with(&["op-600000-5000-s-1", "op-600000-5000-s-2"], |setup| {
        setup.set("ampersand.request_timeout", "1s")
    })
    .await;
    bench.simulator.faults().set(
        FaultPlan {
            hang: 1.0,
            ..FaultPlan::default()
        },
        1,
    );
    // More than three time-outs of requests that each hang to their limit.
    until("polls time out", || bench.simulator.requests().hangs >= 8).await;
    assert_eq!(bench.text("/livez").await, "alive\n");
    assert_eq!(bench.text("/readyz").await, "ready\n");
}

#[tokio::test]
async fn a_missing_watch_list_does_not_keep_the_daemon_from_being_ready() {
    let bench = Bench::start_with(&[], |setup| {
        std::fs::remove_file(setup.list_path()).unwrap();
        setup
    })
    .await;
    assert_eq!(bench.text("/readyz").await, "ready\n");
    assert_eq!(
        bench.json("/api/operations").await["operations"],
        serde_json::json!([])
    );
}

#[tokio::test]
async fn while_it_stops_the_daemon_is_alive_and_not_ready() {
    // A receiver that takes what is delivered, and never says so.
    let receiver = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", receiver.local_addr().unwrap());
    let mut bench = Bench::start_with(&["op-600000-5000-s-1"], |setup| {
        setup
            .set("webhook.url", &url)
            .set("shutdown_timeout", "10s")
            .variable(
                "BACKFILL_WATCH_WEBHOOK_SECRET",
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            )
    })
    .await;
    let _delivery = receiver.accept().await.unwrap();
    bench.daemon.signal(&["TERM"]);
    let stopping = async {
        loop {
            let answer = bench.get("/readyz").await;
            if answer.status() != 200 {
                return problem(answer, 503).await;
            }
        }
    };
    let detail = tokio::time::timeout(Duration::from_secs(8), stopping)
        .await
        .expect("it says that it stops");
    assert_eq!(detail, "stopping");
    assert_eq!(bench.status("/livez").await, 200);
    bench.daemon.signal(&["TERM"]);
    assert_eq!(bench.daemon.exit_code().await, Some(143));
}
