//! The built binary under load: ten thousand watches, some of them replaced all the time, an API and a receiver that
//! fail now and then, reloads, and a reader of the pages. Resource usage must not grow.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how the helpers of a test report that it failed"
)]

#[path = "../support/mod.rs"]
#[expect(
    dead_code,
    reason = "shared by several test programs, each of which uses a part"
)]
mod support;

mod churn;
mod resource_usage;

use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::{
    FaultPlan, Receiver, ReceiverConfig, ReceiverSecret, RetryAfter, Simulator, SimulatorConfig,
};

use churn::{Churn, STAYING, TURN, WATCHES};
use resource_usage::{ResourceMeter, ResourceUsage};
use support::{Setup, replace_file, report};

/// The number of seconds, without the start.
const SECONDS: &str = "BACKFILL_WATCH_SOAK";
/// In less than this the first quarter is shorter than an operation that is replaced.
const SHORTEST: u64 = 120;
/// By when everything has settled, on the slowest machine.
const SETTLED: Duration = Duration::from_mins(5);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Between two changes of the list, and two measurements.
const TICK: Duration = Duration::from_millis(500);
/// One reload in so many ticks.
const RELOAD: usize = 20;

/// One answer of the API in fifty fails.
fn faults() -> FaultPlan {
    FaultPlan {
        server_error: 0.01,
        reset: 0.004,
        truncate: 0.004,
        hang: 0.001,
        throttle: 0.0005,
        retry_after: RetryAfter::Seconds(Duration::from_secs(1)),
        ..FaultPlan::default()
    }
}

async fn receiver() -> Receiver {
    let receiver = Receiver::start(ReceiverConfig {
        secrets: vec![SECRET.parse::<ReceiverSecret>().unwrap()],
        keep: 0,
        ..ReceiverConfig::default()
    });
    let receiver = receiver.await.unwrap();
    // Not answers of 502 or 504, which pause the endpoint as a whole: then the backlog is as long as the pauses were.
    let plan = FaultPlan {
        reset: 0.01,
        ..FaultPlan::default()
    };
    receiver.faults().set(plan, 1);
    receiver
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_grows() {
    let Ok(seconds) = std::env::var(SECONDS) else {
        report(&format!("skipped: the soak takes as many seconds as {SECONDS}"));
        return;
    };
    let seconds: u64 = seconds.parse().unwrap();
    assert!(seconds >= SHORTEST, "{SECONDS} must be {SHORTEST} at least");
    let config = SimulatorConfig {
        keep_instants: 0,
        ..SimulatorConfig::default()
    };
    let simulator = Simulator::start(config).await.unwrap();
    let receiver = receiver().await;
    let mut churn = Churn::new();
    let setup = Setup::new(&simulator)
        .list(&[churn.list()])
        .set("ampersand.max_requests_per_second", "400")
        .set("ampersand.request_timeout", "5s")
        .set("poll.initial_interval", "1s")
        .set("poll.min_interval", "1s")
        .set("poll.max_interval", "1m")
        // What left the list is forgotten after this, so that the state has a steady size.
        .set("retention", "10s")
        .set("http.listen", "127.0.0.1:0")
        .set("log.filter", "warn,backfill_watch::app=info")
        .set("webhook.url", &receiver.url())
        .set("webhook.name", "inbox")
        .set("webhook.events", "*")
        .set("webhook.max_in_flight", "64")
        .variable("BACKFILL_WATCH_WEBHOOK_SECRET", SECRET);
    let database = setup.folder().join("state");
    let mut daemon = setup.start();
    let meter = ResourceMeter::new(daemon.id(), daemon.address().await, database);
    meter
        .wait("those that stay run, and that is reported", SETTLED, |figures| {
            figures.running >= STAYING as f64 && figures.backlog < 1_000.0
        })
        .await;
    simulator.faults().set(faults(), 2);

    for turn in 0..TURN {
        replace_file(&daemon.list_path(), &churn.next());
        meter.read_pages(turn).await;
        tokio::time::sleep(TICK).await;
    }
    let (begun, length) = (clock::instant(), Duration::from_secs(seconds));
    let mut samples: Vec<(Duration, ResourceUsage)> = Vec::new();
    let mut ticks = 0;
    while clock::instant() - begun < length {
        replace_file(&daemon.list_path(), &churn.next());
        ticks += 1;
        if ticks % RELOAD == 0 {
            daemon.signal(&["HUP"]);
        }
        let figures = meter.measure().await;
        samples.push((clock::instant() - begun, figures));
        meter.read_pages(ticks).await;
        tokio::time::sleep(TICK).await;
    }

    meter
        .wait("the last list holds", SETTLED, |figures| {
            figures.listed == WATCHES as f64
        })
        .await;
    report(&format!(
        "soak: {seconds} s, {WATCHES} watches, {} lines replaced, {} reloads, {} requests at the API, {} callbacks",
        churn.replaced(),
        ticks / RELOAD,
        simulator.requests().total,
        receiver.requests().total,
    ));
    daemon.signal(&["TERM"]);
    assert_eq!(daemon.exit_code().await, Some(0), "{}", daemon.log);
    resource_usage::assert_flat(&samples, length);
}
