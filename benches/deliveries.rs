//! The throughput of recording and delivering events. Fails when anything is lost.
//!
//! The first three parts drive store and endpoint in this process, the last one the built daemon from outside. The
//! receiver, which verifies each signature, and the simulated API take their share of the same processors.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that meets something else than it expects has failed"
)]

#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "made for tests, used in part")]
mod support;

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::core::event::{Event, EventType};
use backfill_watch::core::watch::Watch;
use backfill_watch::core::watch_list::WatchKey;
use backfill_watch::random::RandomSource;
use backfill_watch::report::webhook::{
    DeliveryStats, EndpointSettings, TimeLimits, WebhookEndpoint, WebhookSender,
};
use backfill_watch::simulator::{
    Callback, Receiver, ReceiverConfig, SimulatedOperation, Simulator, SimulatorConfig,
};
use backfill_watch::store::{self, StateChange, Store, Subject};
use base64::Engine as _;
use secrecy::SecretSlice;
use support::Setup;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const EVENTS: usize = 10_000;
const RATES: [u32; 3] = [100, 500, 1_000];
const RATE_TIME: Duration = Duration::from_secs(5);
const KEY: [u8; 32] = [7; 32];
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = Store::open(folder.path()).await.unwrap();
    let endpoint = store::OutboxEndpoint {
        name: "bench".into(),
        events: EventType::ALL.to_vec(),
        max_backlog: 1_000_000,
    };
    store.sync_endpoints(vec![endpoint], clock::wall()).await.unwrap();
    let receiver = receiver().await;

    let begin = clock::instant();
    let mut commits: JoinSet<()> = (0..EVENTS)
        .map(|i| {
            let store = store.clone();
            async move {
                store.commit(&change("burst", i)).await.unwrap();
            }
        })
        .collect();
    while let Some(committed) = commits.join_next().await {
        committed.unwrap();
    }
    report(
        "recorded at once, each waiting for the disk",
        EVENTS,
        clock::instant() - begin,
    );

    let cancel = CancellationToken::new();
    let begin = clock::instant();
    let running = tokio::spawn(run_endpoint(store.clone(), &receiver).run(cancel.clone()));
    wait_for(&receiver, EVENTS).await;
    report(
        "delivered to one endpoint, 16 in flight",
        EVENTS,
        clock::instant() - begin,
    );

    for rate in RATES {
        delay_at(rate, &store, &receiver).await;
    }
    cancel.cancel();
    let _ = running.await.unwrap();
    assert!(
        receiver
            .callbacks()
            .iter()
            .all(|callback| callback.verified.is_ok())
    );
    threads.close().await.unwrap();
    receiver.stop().await;

    ten_thousand_ends().await;
}

fn secret() -> String {
    format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(KEY))
}

async fn receiver() -> Receiver {
    let config = ReceiverConfig {
        secrets: vec![secret().parse().unwrap()],
        keep: usize::MAX,
        ..ReceiverConfig::default()
    };
    Receiver::start(config).await.unwrap()
}

async fn wait_for(receiver: &Receiver, count: usize) {
    let received = receiver.received(count as u64);
    tokio::time::timeout(PATIENCE, received).await.unwrap();
}

fn run_endpoint(store: Store, receiver: &Receiver) -> WebhookEndpoint {
    let settings = EndpointSettings {
        url: receiver.url().parse().unwrap(),
        secrets: vec![SecretSlice::from(KEY.to_vec())],
        max_in_flight: NonZeroUsize::new(16).unwrap(),
        shutdown_timeout: Duration::from_secs(1),
    };
    // Settings that nobody can change any more stay as they are.
    let (_, settings) = watch::channel(settings);
    WebhookEndpoint {
        name: "bench".into(),
        store,
        sender: Arc::new(WebhookSender::new(TimeLimits::default()).unwrap()),
        random: RandomSource::new(),
        settings,
        stats: Arc::<DeliveryStats>::default(),
    }
}

/// The end of one operation.
fn change(name: &str, number: usize) -> StateChange {
    let key = WatchKey {
        project: "my-project".into(),
        operation: format!("{name}-{number}").into(),
    };
    let now = clock::wall();
    let mut data = Watch::default().data(&key, &vec![("customer".into(), "acme".into())], now);
    data.sequence = 1;
    let event = Event::operation(&key, EventType::Succeeded, "", now, data);
    StateChange {
        subject: Subject::Watch(key, Box::default()),
        events: vec![event],
    }
}

/// Records so many events a second, and looks how long each takes from record to receipt.
async fn delay_at(rate: u32, store: &Store, receiver: &Receiver) {
    let before = receiver.callbacks().len();
    let count = (RATE_TIME.as_secs_f64() * f64::from(rate)) as usize;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut commits: JoinSet<(String, Instant)> = JoinSet::new();
    for i in 0..count {
        ticks.tick().await;
        let store = store.clone();
        commits.spawn(async move {
            let change = change(&format!("at-{rate}"), i);
            let id = change.events[0].id.to_string();
            store.commit(&change).await.unwrap();
            (id, clock::instant())
        });
    }
    let recorded: HashMap<String, Instant> = commits.join_all().await.into_iter().collect();
    wait_for(receiver, before + count).await;
    let callbacks = receiver.callbacks();
    let delays = callbacks[before..].iter().map(|callback| {
        callback
            .instant
            .saturating_duration_since(recorded[callback.id()])
    });
    report_delays(
        &format!("from record to receipt at {rate} events/s"),
        delays.collect(),
    );
}

/// The daemon watches ten thousand operations that end within one second.
async fn ten_thousand_ends() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let receiver = receiver().await;
    let ids: Vec<String> = (0..EVENTS).map(|i| format!("op{i}")).collect();
    let begin = clock::wall();
    let first_end = clock::instant() + Duration::from_secs(15);
    for (id, i) in ids.iter().zip(0..) {
        let end = first_end + Duration::from_micros(100 * i);
        simulator.add(SimulatedOperation::new(id, end - clock::instant(), 1_000_000));
    }
    let mut daemon = Setup::new(&simulator)
        .list(&ids)
        .set("ampersand.max_requests_per_second", "10000")
        .set("ampersand.max_concurrent_requests", "128")
        .set("poll.initial_interval", "2s")
        .set("poll.max_interval", "4s")
        .set("poll.progress_step", "50")
        .set("shutdown_timeout", "4m")
        .set("log.filter", "warn")
        .set("webhook.url", &receiver.url())
        .set("webhook.events", "operation.succeeded")
        .variable("BACKFILL_WATCH_WEBHOOK_SECRET", &secret())
        .arguments(&["--until-done"])
        .start();
    assert_eq!(daemon.exit_within(PATIENCE).await.code(), Some(0));

    let arguments = ["--json", "--type", "operation.succeeded"];
    let log = daemon.into_setup().run_with("events", &arguments).await;
    let recorded = String::from_utf8(log.stdout).unwrap().lines().count();
    assert_eq!(recorded, EVENTS, "all recorded");
    let callbacks = receiver.callbacks();
    let received: HashSet<&str> = callbacks.iter().map(Callback::id).collect();
    assert_eq!(
        (received.len(), callbacks.len()),
        (EVENTS, EVENTS),
        "all delivered, once"
    );
    assert!(callbacks.iter().all(|callback| callback.verified.is_ok()));

    let seen = |callback: &Callback| -> jiff::Timestamp {
        callback.json()["timestamp"].as_str().unwrap().parse().unwrap()
    };
    let times: Vec<_> = callbacks.iter().map(seen).collect();
    let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    println!(
        "daemon: {EVENTS} operations that end within one second, {} polls in {:.1?}:",
        simulator.requests().total,
        clock::between(begin, clock::wall()),
    );
    report("  seen, recorded", EVENTS, clock::between(*first, *last));
    let arrivals = callbacks[EVENTS - 1].instant - callbacks[0].instant;
    report("  delivered", EVENTS, arrivals);
    let delays = callbacks
        .iter()
        .map(|callback| clock::between(seen(callback), callback.time));
    report_delays("  from sight to receipt", delays.collect());
}

fn report(what: &str, count: usize, time: Duration) {
    let rate = count as f64 / time.as_secs_f64();
    println!("{what}: {count} in {time:.2?}, {rate:.0}/s");
}

fn report_delays(what: &str, mut delays: Vec<Duration>) {
    delays.sort_unstable();
    let at = |part: f64| delays[((delays.len() - 1) as f64 * part) as usize];
    println!(
        "{what}: p50 {:.1?}, p99 {:.1?}, most {:.1?}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
