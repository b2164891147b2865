//! Webhook delivery from the outbox to misbehaving receivers, with real sockets and TLS.

#![expect(
    clippy::unwrap_used,
    reason = "a test that meets something else than it expects has failed"
)]

mod receiver;

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::core::event::{Event, EventType};
use backfill_watch::core::watch::Watch;
use backfill_watch::core::watch_list::WatchKey;
use backfill_watch::random::RandomSource;
use backfill_watch::report::webhook::{
    DeliveryOutcome, DeliveryStats, EndpointSettings, EndpointStopped, TimeLimits, WebhookEndpoint,
    WebhookSender,
};
use backfill_watch::store::{self, Delivery, EndpointStats, StateChange, Store, Subject};
use jiff::Timestamp;
use secrecy::SecretSlice;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_util::sync::CancellationToken;

use receiver::{Callback, Receiver, Reply, answer, status};

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(30);
const OLD: [u8; 24] = [1; 24];
const NEW: [u8; 32] = [2; 32];
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// An endpoint's task, and what it takes to watch it.
struct Running {
    name: &'static str,
    store: Store,
    settings: watch::Sender<EndpointSettings>,
    stats: Arc<DeliveryStats>,
    cancel: CancellationToken,
    task: JoinHandle<EndpointStopped>,
}

fn settings(url: &str, secrets: &[&[u8]]) -> EndpointSettings {
    EndpointSettings {
        url: url.parse().unwrap(),
        secrets: secrets
            .iter()
            .map(|secret| SecretSlice::from(secret.to_vec()))
            .collect(),
        max_in_flight: NonZeroUsize::new(16).unwrap(),
        shutdown_timeout: Duration::from_millis(1500),
    }
}

fn run(store: &Store, name: &'static str, url: &str) -> Running {
    run_with(store, name, settings(url, &[&NEW]), TimeLimits::default())
}

fn run_with(store: &Store, name: &'static str, settings: EndpointSettings, limits: TimeLimits) -> Running {
    let (sender, receiver) = watch::channel(settings);
    let stats = Arc::new(DeliveryStats::default());
    let endpoint = WebhookEndpoint {
        name: name.into(),
        store: store.clone(),
        sender: Arc::new(WebhookSender::new(limits).unwrap()),
        random: RandomSource::new(),
        settings: receiver,
        stats: stats.clone(),
    };
    let cancel = CancellationToken::new();
    Running {
        name,
        store: store.clone(),
        settings: sender,
        stats,
        task: tokio::spawn(endpoint.run(cancel.clone())),
        cancel,
    }
}

impl Running {
    async fn stop(self) -> EndpointStopped {
        self.cancel.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.unwrap().unwrap()
    }

    /// How the endpoint fares, once that is as it should be.
    async fn fares(&self, as_it_should: impl Fn(&EndpointStats) -> bool) -> EndpointStats {
        let deadline = clock::instant() + DEADLINE;
        loop {
            let stats = self.store.endpoint_stats().await.unwrap();
            let own = stats.into_iter().find(|stats| *stats.name == *self.name).unwrap();
            if as_it_should(&own) {
                return own;
            }
            assert!(clock::instant() < deadline, "{own:?} {:?}", self.stats);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until nothing waits for the endpoint any more.
    async fn all_delivered(&self) {
        let stats = self.fares(|stats| stats.backlog == 0).await;
        assert_eq!(stats.dead_letters, 0);
    }

    /// Waits until a failure is on record, and gives its error.
    async fn error(&self) -> String {
        self.fares(|stats| stats.last_error.is_some())
            .await
            .last_error
            .unwrap()
    }

    /// Waits until the events that wait have so many attempts on record together.
    async fn attempts_add_up_to(&self, count: u32) {
        let deadline = clock::instant() + DEADLINE;
        loop {
            let waiting = self.waiting().await;
            if waiting.iter().map(|delivery| delivery.attempts).sum::<u32>() == count {
                return;
            }
            assert!(clock::instant() < deadline, "{waiting:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// What waits: the first of each operation.
    async fn waiting(&self) -> Vec<Delivery> {
        let due = self
            .store
            .due_deliveries(self.name.into(), Timestamp::MAX, 1000, Vec::new());
        due.await.unwrap().ready
    }
}

/// A store with endpoints of these names.
async fn store_for(names: &[&'static str]) -> Store {
    let store = Store::in_memory();
    sync(&store, names).await;
    store
}

async fn sync(store: &Store, names: &[&'static str]) {
    let endpoint = |name: &&'static str| store::OutboxEndpoint {
        name: (*name).into(),
        events: EventType::ALL.to_vec(),
        max_backlog: 1_000_000,
    };
    let endpoints = names.iter().map(endpoint).collect();
    store.sync_endpoints(endpoints, clock::wall()).await.unwrap();
}

/// An event of that operation, recorded: its ID and its body.
async fn record(store: &Store, operation: &str, sequence: u64) -> (String, String) {
    let key = WatchKey {
        project: "my-project".into(),
        operation: operation.into(),
    };
    let now = clock::wall();
    let mut data = Watch::default().data(&key, &vec![("city".into(), "Zürich".into())], now);
    data.sequence = sequence;
    let event = Event::operation(&key, EventType::Retried, &sequence.to_string(), now, data);
    let reported = (event.id.to_string(), event.body());
    let change = StateChange {
        subject: Subject::Watch(key, Box::default()),
        events: vec![event],
    };
    store.commit(&change).await.unwrap();
    reported
}

async fn record_operations(store: &Store, numbers: std::ops::Range<usize>) {
    for number in numbers {
        record(store, &format!("op-{number}"), 1).await;
    }
}

#[tokio::test]
async fn a_callback_matches_the_standard() {
    let receiver = Receiver::start(|_, _| status(204)).await;
    let store = store_for(&["crm"]).await;
    let (id, body) = record(&store, "op-1", 1).await;
    let running = run(&store, "crm", &format!("{}?tenant=7", receiver.url));
    running.all_delivered().await;
    let callbacks = receiver.callbacks();
    assert_eq!(callbacks.len(), 1);
    let callback = &callbacks[0];
    assert_eq!(callback.request_line, "POST /hook?tenant=7 HTTP/1.1");
    assert_eq!(callback.id(), id);
    assert_eq!(callback.body, body.as_bytes());
    assert_eq!(callback.header("content-type"), "application/json");
    assert!(callback.header("user-agent").starts_with("backfill-watch/"));
    assert!(callback.is_signed_with(&NEW) && !callback.is_signed_with(&OLD));
    assert_eq!(running.stats.count(DeliveryOutcome::Delivered), 1);
    assert_eq!(running.stats.delays().buckets.iter().sum::<u64>(), 1);
    let nothing_left = EndpointStopped {
        cut_short: 0,
        unsettled: 0,
    };
    assert_eq!(running.stop().await, nothing_left);
}

#[tokio::test]
async fn events_of_one_operation_come_in_order_and_one_at_a_time() {
    let receiver = Receiver::start(|_, _| status(200)).await;
    let store = store_for(&["crm"]).await;
    let running = run(&store, "crm", &receiver.url);
    let mut recorded = Vec::new();
    for sequence in 1..=50 {
        for operation in ["a", "b", "c"] {
            recorded.push((operation, record(&store, operation, sequence).await.0));
        }
    }
    running.all_delivered().await;
    let received = receiver.ids();
    for operation in ["a", "b", "c"] {
        let of_one: Vec<&String> = recorded
            .iter()
            .filter(|(of, _)| *of == operation)
            .map(|(_, id)| id)
            .collect();
        let got: Vec<&String> = received.iter().filter(|id| of_one.contains(id)).collect();
        assert_eq!(got, of_one);
    }
    assert!(receiver.most_open() <= 3);
}

#[tokio::test]
async fn no_more_than_max_in_flight_are_under_way() {
    let receiver = Receiver::start(|_, _| Reply::After(Duration::from_millis(20), OK.into())).await;
    let store = store_for(&["crm"]).await;
    record_operations(&store, 0..40).await;
    let four = EndpointSettings {
        max_in_flight: NonZeroUsize::new(4).unwrap(),
        ..settings(&receiver.url, &[&NEW])
    };
    let running = run_with(&store, "crm", four, TimeLimits::default());
    running.all_delivered().await;
    assert_eq!(receiver.most_open(), 4);
}

#[tokio::test]
async fn gone_disables_the_endpoint_until_a_reload_and_costs_no_attempt() {
    let receiver = Receiver::start(|n, _| status(if n == 0 { 410 } else { 200 })).await;
    let store = store_for(&["crm"]).await;
    record(&store, "op-1", 1).await;
    let running = run(&store, "crm", &receiver.url);
    assert_eq!(running.error().await, "410 Gone");
    record(&store, "op-2", 1).await;
    let attempts: Vec<u32> = running
        .waiting()
        .await
        .iter()
        .map(|delivery| delivery.attempts)
        .collect();
    assert_eq!(attempts, [0, 0]);
    assert_eq!(running.stats.count(DeliveryOutcome::Held), 1);
    running.settings.send_modify(|_| {});
    running.all_delivered().await;
    assert_eq!(receiver.callbacks().len(), 3);
}

#[tokio::test]
async fn too_many_requests_pauses_the_whole_endpoint_for_as_long_as_it_asks() {
    let receiver = Receiver::start(|n, _| match n {
        0 => answer(429, "retry-after: 2\r\n"),
        _ => status(200),
    })
    .await;
    let store = store_for(&["crm"]).await;
    record(&store, "op-1", 1).await;
    let running = run(&store, "crm", &receiver.url);
    running.error().await;
    assert_eq!(running.waiting().await[0].attempts, 1);
    record(&store, "op-2", 1).await;
    running.all_delivered().await;
    let callbacks = receiver.callbacks();
    assert_eq!(callbacks.len(), 3);
    let waited = callbacks[1].time - callbacks[0].time;
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
}

#[tokio::test]
async fn a_receiver_with_either_secret_accepts_while_they_are_rotated() {
    let accepts = |secret: &'static [u8]| {
        move |_: usize, callback: &Callback| status(if callback.is_signed_with(secret) { 200 } else { 401 })
    };
    let old = Receiver::start(accepts(&OLD)).await;
    let new = Receiver::start(accepts(&NEW)).await;
    let store = store_for(&["old", "new"]).await;
    record(&store, "op-1", 1).await;
    let both: [&[u8]; 2] = [&NEW, &OLD];
    let to_old = run_with(&store, "old", settings(&old.url, &both), TimeLimits::default());
    let to_new = run_with(&store, "new", settings(&new.url, &both), TimeLimits::default());
    to_old.all_delivered().await;
    to_new.all_delivered().await;
    assert_eq!((old.callbacks().len(), new.callbacks().len()), (1, 1));
    let callbacks = old.callbacks();
    let signatures = callbacks[0].header("webhook-signature").split(' ');
    assert_eq!(signatures.filter(|one| one.starts_with("v1,")).count(), 2);
}

#[tokio::test]
async fn a_refused_signature_is_retried_with_the_secrets_of_then() {
    let knows_new =
        |_: usize, callback: &Callback| status(if callback.is_signed_with(&NEW) { 200 } else { 401 });
    let receiver = Receiver::start(knows_new).await;
    let store = store_for(&["crm"]).await;
    record(&store, "op-1", 1).await;
    let running = run_with(
        &store,
        "crm",
        settings(&receiver.url, &[&OLD]),
        TimeLimits::default(),
    );
    assert_eq!(running.error().await, "401 Unauthorized");
    running
        .settings
        .send_replace(settings(&receiver.url, &[&NEW, &OLD]));
    running.all_delivered().await;
    let callbacks = receiver.callbacks();
    assert_eq!(callbacks.len(), 2);
    // The same message, signed again.
    assert_eq!(callbacks[0].id(), callbacks[1].id());
    assert_eq!(callbacks[0].body, callbacks[1].body);
    assert_ne!(
        callbacks[0].header("webhook-timestamp"),
        callbacks[1].header("webhook-timestamp")
    );
}

#[tokio::test]
async fn requests_to_a_slow_receiver_end_in_time_and_delay_no_other_endpoint() {
    let slow = Receiver::start(|_, _| Reply::Never).await;
    let quick = Receiver::start(|_, _| status(200)).await;
    let store = store_for(&["slow", "quick"]).await;
    record_operations(&store, 0..20).await;
    let limits = TimeLimits {
        connect: Duration::from_millis(500),
        exchange: Duration::from_millis(500),
    };
    let to_slow = run_with(&store, "slow", settings(&slow.url, &[&NEW]), limits);
    slow.received(16).await;
    let to_quick = run(&store, "quick", &quick.url);
    to_quick.all_delivered().await;
    let error = to_slow.error().await;
    assert!(error.ends_with("within 500ms"), "{error}");
    to_slow.attempts_add_up_to(16).await;
    // The other four were not sent: the endpoint pauses.
    assert_eq!(slow.callbacks().len(), 16);
}

#[tokio::test]
async fn an_endless_answer_is_judged_by_its_status_and_not_read_on() {
    for (line, outcome) in [
        ("200 OK", DeliveryOutcome::Delivered),
        ("500 Oops", DeliveryOutcome::Retried),
    ] {
        let head = format!("HTTP/1.1 {line}\r\ncontent-length: 99999999999\r\n\r\n");
        let receiver = Receiver::start(move |_, _| Reply::Endless(head.clone())).await;
        let store = store_for(&["crm"]).await;
        record(&store, "op-1", 1).await;
        let running = run(&store, "crm", &receiver.url);
        running
            .fares(|stats| stats.last_success.is_some() || stats.last_error.is_some())
            .await;
        assert_eq!(running.stats.count(outcome), 1);
        // What it got rid of is in the buffers of two sockets: some megabytes, whatever it has.
        let written = receiver.cut_off().await;
        assert!(written < 32 * 1024 * 1024, "{written}");
        assert_eq!(receiver.callbacks().len(), 1);
    }
}

#[tokio::test]
async fn a_success_counts_though_the_rest_of_the_answer_never_comes() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab";
    let receiver = Receiver::start(|_, _| Reply::Bytes(head.into())).await;
    let store = store_for(&["crm"]).await;
    record(&store, "op-1", 1).await;
    let running = run(&store, "crm", &receiver.url);
    running.all_delivered().await;
    assert_eq!(receiver.callbacks().len(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::start(|_, _| status(200)).await;
    for code in [301, 302, 303, 307, 308] {
        let location = format!("location: {}\r\n", elsewhere.url);
        let receiver = Receiver::start(move |_, _| answer(code, &location)).await;
        let store = store_for(&["crm"]).await;
        record(&store, "op-1", 1).await;
        let running = run(&store, "crm", &receiver.url);
        let error = running.error().await;
        assert!(
            error.contains("is a redirect to 127.0.0.1, which is not followed"),
            "{error}"
        );
    }
    assert!(elsewhere.callbacks().is_empty());
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let receiver = Receiver::start_with(|_, _| status(200), Some(acceptor)).await;
    let store = store_for(&["crm"]).await;
    record(&store, "op-1", 1).await;
    let running = run(&store, "crm", &receiver.url);
    let error = running.error().await;
    assert!(
        error.starts_with("no TLS connection to 127.0.0.1:") && error.contains("invalid peer certificate"),
        "{error}"
    );
    assert!(receiver.callbacks().is_empty());
}

#[tokio::test]
async fn failed_connections_are_described_and_retried() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let forbidden = "is at the link-local or metadata address";
    for (url, words) in [
        (
            "http://no-such-host.invalid/",
            "the name no-such-host.invalid cannot be resolved",
        ),
        (&format!("http://{closed}/s3cret"), "connection refused"),
        ("http://169.254.169.254/latest/meta-data", forbidden),
        ("https://[::ffff:169.254.169.254]/", forbidden),
        ("https://[64:ff9b::a9fe:a9fe]/", forbidden),
        ("https://[fe80::1]/", forbidden),
    ] {
        let store = store_for(&["crm"]).await;
        record(&store, "op-1", 1).await;
        let running = run(&store, "crm", url);
        let error = running.error().await;
        assert!(error.contains(words) && !error.contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_may_have_any_number_of_headers() {
    let headers: String = (0..1_000).map(|n| format!("x-header-{n}: value\r\n")).collect();
    let receiver = Receiver::start(move |_, _| answer(200, &headers)).await;
    let store = store_for(&["crm"]).await;
    record(&store, "op-1", 1).await;
    let running = run(&store, "crm", &receiver.url);
    running.all_delivered().await;
    assert_eq!(receiver.callbacks().len(), 1);
}

/// The receiver closes a connection while an event is on its way: that is no failed attempt.
#[tokio::test]
async fn what_was_not_processed_is_repeated_at_once() {
    let receiver = Receiver::start(|n, _| if n == 1 { Reply::Close } else { status(200) }).await;
    let store = store_for(&["crm"]).await;
    record(&store, "op-1", 1).await;
    record(&store, "op-1", 2).await;
    let running = run(&store, "crm", &receiver.url);
    running.all_delivered().await;
    let ids = receiver.ids();
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[1], ids[2]);
    assert_eq!(running.stats.count(DeliveryOutcome::Retried), 0);
}

/// On a new connection there is nothing to repeat.
#[tokio::test]
async fn what_fails_on_a_new_connection_is_a_failed_attempt() {
    let receiver = Receiver::start(|n, _| if n == 0 { Reply::Close } else { status(200) }).await;
    let store = store_for(&["crm"]).await;
    record(&store, "op-1", 1).await;
    let running = run(&store, "crm", &receiver.url);
    assert!(running.error().await.contains(" was interrupted"));
    assert_eq!(receiver.callbacks().len(), 1);
}

#[tokio::test]
async fn after_five_failures_one_event_is_sent_as_a_probe_and_then_all() {
    let receiver = Receiver::start(|n, _| status(if n < 5 { 500 } else { 200 })).await;
    let store = store_for(&["crm"]).await;
    record_operations(&store, 0..5).await;
    let running = run(&store, "crm", &receiver.url);
    running.attempts_add_up_to(5).await;
    record_operations(&store, 5..20).await;
    running.all_delivered().await;
    let callbacks = receiver.callbacks();
    assert_eq!(callbacks.len(), 25);
    let paused = callbacks[5].time - callbacks[4].time;
    assert!(paused >= Duration::from_secs(4), "{paused:?}");
    assert_eq!(running.stats.count(DeliveryOutcome::Retried), 5);
}

#[tokio::test]
async fn at_the_end_attempts_get_their_time_and_the_rest_waits() {
    let receiver = Receiver::start(
        |_, callback| match callback.json()["data"]["operationId"].as_str() {
            Some("op-1") => Reply::After(Duration::from_millis(100), OK.into()),
            _ => Reply::Never,
        },
    )
    .await;
    let store = store_for(&["crm"]).await;
    record(&store, "op-1", 1).await;
    record(&store, "op-2", 1).await;
    record(&store, "op-2", 2).await;
    let running = run(&store, "crm", &receiver.url);
    receiver.received(2).await;
    let one_cut_short = EndpointStopped {
        cut_short: 1,
        unsettled: 0,
    };
    assert_eq!(running.stop().await, one_cut_short);
    let stats = store.endpoint_stats().await.unwrap();
    assert_eq!((stats[0].backlog, stats[0].last_error.as_ref()), (2, None));
}

#[tokio::test]
async fn a_refused_event_becomes_a_dead_letter_and_the_next_of_its_operation_is_sent() {
    let receiver = Receiver::start(|_, callback| {
        let data = &callback.json()["data"];
        let is_poison = data["operationId"] == "poison" && data["sequence"] == 1;
        status(if is_poison { 422 } else { 200 })
    })
    .await;
    let store = store_for(&["crm"]).await;
    record(&store, "poison", 1).await;
    record(&store, "poison", 2).await;
    let now = clock::wall();
    let due = store
        .due_deliveries("crm".into(), now, 1, Vec::new())
        .await
        .unwrap();
    let settle = async |at: Timestamp, counts: bool| {
        let error = "422".to_owned();
        let settled = vec![(due.ready[0].id, store::Settlement::Retry { at, error, counts })];
        store.settle_deliveries(settled, now).await.unwrap();
    };
    // Four attempts, and then the endpoint accepts another event.
    for _ in 0..4 {
        settle(now + Duration::from_hours(1), true).await;
    }
    record(&store, "good", 1).await;
    let running = run(&store, "crm", &receiver.url);
    running.fares(|stats| stats.last_success.is_some()).await;
    settle(now, false).await;
    // Wakes the endpoint.
    record(&store, "good", 2).await;
    let stats = running.fares(|stats| stats.backlog == 0).await;
    assert_eq!(stats.dead_letters, 1);
    assert_eq!(running.stats.count(DeliveryOutcome::Dead), 1);
    assert_eq!(receiver.callbacks().len(), 4);
}

/// What the endpoint of that name has in the log. All tests share one: a log of a thread's own loses lines that
/// another thread was the first to reach.
fn log_of(endpoint: &str) -> Vec<String> {
    static LOG: LazyLock<Log> = LazyLock::new(|| {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .with_max_level(tracing::Level::DEBUG)
            .init();
        log
    });
    let text = String::from_utf8(LOG.0.lock().unwrap().clone()).unwrap();
    let of_endpoint = format!("endpoint=\"{endpoint}\"");
    text.lines()
        .filter(|line| line.contains(&of_endpoint))
        .map(str::to_owned)
        .collect()
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_failing_endpoint_and_its_recovery_are_logged_once_without_a_secret() {
    assert!(log_of("flaky").is_empty());
    let receiver = Receiver::start(|n, _| status(if n < 2 { 500 } else { 200 })).await;
    let store = store_for(&["flaky"]).await;
    record_operations(&store, 0..2).await;
    let url = receiver.url.replace("/hook", "/s3cret-path?s3cret-query");
    let running = run(&store, "flaky", &url);
    running.all_delivered().await;
    let log = log_of("flaky");
    for (words, times) in [
        (" WARN ", 1),
        ("webhook endpoint fails", 1),
        ("webhook endpoint accepts events again", 1),
        ("operation_id=\"op-1\" attempt=1", 1),
        ("webhook event delivered", 2),
        ("s3cret", 0),
    ] {
        let lines = log.iter().filter(|line| line.contains(words)).count();
        assert_eq!(lines, times, "{words}: {log:#?}");
    }
}

#[tokio::test]
async fn without_a_secret_nothing_is_sent() {
    assert!(log_of("unsigned").is_empty());
    let receiver = Receiver::start(|_, _| status(200)).await;
    let store = store_for(&["unsigned"]).await;
    record(&store, "op-1", 1).await;
    let running = run_with(
        &store,
        "unsigned",
        settings(&receiver.url, &[]),
        TimeLimits::default(),
    );
    let reported = async {
        while log_of("unsigned").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, reported).await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    running.settings.send_replace(settings(&receiver.url, &[&NEW]));
    running.all_delivered().await;
    assert!(
        receiver
            .callbacks()
            .iter()
            .all(|callback| callback.is_signed_with(&NEW))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_are_delivered_once_each_from_disk() {
    const COUNT: usize = 3_000;
    let receiver = Receiver::start(|_, _| status(200)).await;
    let dir = tempfile::tempdir().unwrap();
    let (store, threads) = Store::open(dir.path()).await.unwrap();
    sync(&store, &["crm"]).await;
    let mut recording = tokio::task::JoinSet::new();
    for number in 0..COUNT {
        let store = store.clone();
        recording.spawn(async move { record(&store, &format!("op-{number}"), 1).await.0 });
    }
    let mut recorded = recording.join_all().await;
    let started = clock::instant();
    let running = run(&store, "crm", &receiver.url);
    running.all_delivered().await;
    println!(
        "{:.0} deliveries a second",
        COUNT as f64 / started.elapsed().as_secs_f64()
    );
    let mut received = receiver.ids();
    received.sort();
    recorded.sort();
    assert_eq!(received, recorded);
    assert_eq!(running.stop().await.unsettled, 0);
    threads.close().await.unwrap();
}
