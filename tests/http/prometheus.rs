//! A real Prometheus scrapes the daemon, evaluates the shipped alert rules, and answers the queries of the dashboard.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::{
    FaultPlan, Receiver, ReceiverConfig, RequestKind, RetryAfter, SimulatedOperation, SimulatedOutcome,
    SimulatedReply, Simulator, SimulatorConfig,
};
use serde_json::Value;

use crate::fixture::{Fixture, damage_a_watch, in_file, limit_file_size, reload};
use crate::prometheus_server::{Prometheus, is_installed};
use crate::support::{Daemon, lines_of, replace_file};

/// How long the daemon is restarted for the alert about restarts.
const RESTARTED_FOR: Duration = Duration::from_mins(2);

/// The settings that change; the rest is in the environment.
struct Config<'a> {
    requests_per_second: &'a str,
    receiver: &'a Receiver,
    max_backlog: u32,
    more: &'a str,
}

impl<'a> Config<'a> {
    /// Settings without a fault.
    fn to(receiver: &'a Receiver) -> Self {
        Self {
            requests_per_second: "1000.0",
            receiver,
            max_backlog: 100,
            more: "",
        }
    }

    fn text(&self) -> String {
        let url = self.receiver.url().replace("/hook", "");
        let (requests_per_second, max_backlog, more) =
            (self.requests_per_second, self.max_backlog, self.more);
        format!(
            "[ampersand]\nmax_requests_per_second = {requests_per_second}\n\
             [poll]\nstalled_after = \"1s\"\nnot_found_grace = \"1s\"\nunreachable_after = \"2s\"\n\
             [[webhooks]]\nname = \"late\"\nurl = \"{url}/late\"\nsecret_file = \"secret\"\n\
             events = [\"operation.started\"]\n\
             [[webhooks]]\nname = \"crowded\"\nurl = \"{url}/crowded\"\nsecret_file = \"secret\"\n\
             events = [\"operation.started\"]\nmax_backlog = {max_backlog}\n{more}"
        )
    }

    fn reload(&self, daemon: &Daemon) {
        reload(daemon, &self.text());
    }
}

const RUNS: &str = "op-600000-500000-s-runs";
/// Its count moves once in 20 minutes.
const STALLED: &str = "op-600000-5-s-stands";
const REFUSED: &str = "op-600000-500000-s-refused";
/// A rule of discovery that matches nothing.
const UNMATCHED: &str = "[[discover]]\nintegrations = [\"unknown\"]\nevery = \"1s\"\n";
/// Kinds that take a minute, many hours, a file that is removed at the wrong moment, or a fault of the program.
const NOT_STAGED: [(&str, &str); 7] = [
    ("endpoint_without_secret", "BackfillWatchWebhookWithoutSecret"),
    ("discovery_incomplete", "BackfillWatchDiscoveryIncomplete"),
    ("discovery_over_capacity", "BackfillWatchDiscoveryOverCapacity"),
    ("gate_saturated", "BackfillWatchGateSaturated"),
    ("paused_by_api", "BackfillWatchPausedByApi"),
    ("poller_restarted", "BackfillWatchPollersCrash"),
    ("log_dropped", "BackfillWatchLogDropped"),
];

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "one daemon and one Prometheus go through all faults"
)]
async fn a_real_prometheus_scrapes_the_daemon_and_every_alert_fires_and_ends() {
    if !is_installed() {
        return;
    }
    let receiver = Receiver::start(ReceiverConfig::default()).await.unwrap();
    let mut fixture = Fixture::start_with(&[], |setup| {
        let config = Config {
            max_backlog: 1,
            ..Config::to(&receiver)
        };
        in_file(setup, &config.text())
            .unset("ampersand.max_requests_per_second")
            .set("metrics.per_operation", "true")
    })
    .await;
    let path = fixture.daemon.list_path();
    fixture.simulator.add(SimulatedOperation {
        outcome: SimulatedOutcome::Other("cancelled".to_owned()),
        ..SimulatedOperation::new("stops", Duration::from_millis(100), 100)
    });
    replace_file(&path, &lines_of(&[RUNS, "op-100-100-f-fails", "stops"]));
    fixture.phase(RUNS, "running").await;
    fixture.daemon.event("operation.failed").await;
    fixture.daemon.event("operation.ended").await;
    let (others, switch) = serve_attention_of(&NOT_STAGED).await;
    let mut prometheus = Prometheus::start(&[fixture.address, others]).await;
    let of_ends = [
        ("an operation failed before the first scrape", "BackfillFailed"),
        ("one was cancelled", "BackfillEnded"),
        ("nothing succeeded later", "BackfillUnresolved"),
    ];
    prometheus.all_fire(&of_ends).await;
    // Once the rules were evaluated on what was scraped.
    prometheus
        .wait("every rule is evaluated", async || {
            prometheus.rules_are_healthy().await
        })
        .await;
    let all: Vec<String> = prometheus.alerts().await.into_keys().collect();

    let receives_on: SocketAddr = receiver.url()[7..].trim_end_matches("/hook").parse().unwrap();
    receiver.stop().await;
    // Their first events fail five times and more.
    let more: Vec<String> = (0..10).map(|n| format!("op-600000-500000-s-{n}")).collect();
    let lines: Vec<&str> = [RUNS]
        .into_iter()
        .chain(more.iter().map(String::as_str))
        .collect();
    replace_file(&path, &lines_of(&lines));
    let of_receiver = [
        ("the receiver is stopped", "BackfillWatchWebhookFailing"),
        ("its first event waits", "BackfillWatchWebhookBacklog"),
        (
            "max_backlog events wait, and one more comes",
            "BackfillWatchWebhookDeadLetters",
        ),
    ];
    prometheus.all_fire(&of_receiver).await;
    prometheus.ends(&of_ends.map(|(_, alert)| alert)).await;
    let receiver = ReceiverConfig {
        listen: receives_on,
        ..ReceiverConfig::default()
    };
    let receiver = Receiver::start(receiver).await.unwrap();
    Config::to(&receiver).reload(&fixture.daemon);
    let setup = fixture.daemon.setup();
    let config = setup.folder().join("config.toml").display().to_string();
    let replay = ["--config", &config, "--dead-letters", "--endpoint", "crowded"];
    let replayed = setup.run_with("replay", &replay).await;
    assert!(replayed.status.success(), "{replayed:?}");
    prometheus.ends(&of_receiver.map(|(_, alert)| alert)).await;

    fixture.simulator.faults().forbid(REFUSED);
    let faulty = [
        STALLED,
        "nobody-knows-it",
        REFUSED,
        "op-600000-500000-s-overdue deadline=2020-01-01T00:00:00Z",
        "not an = operation",
    ];
    replace_file(&path, &lines_of(&[&lines[..], &faulty].concat()));
    let of_list = [
        ("a count does not change", "BackfillStalled"),
        ("the API does not know an operation", "BackfillLost"),
        ("nobody has done anything about it", "BackfillUnresolved"),
        ("the API refuses an operation", "BackfillUnreachable"),
        ("a deadline has passed", "BackfillOverdue"),
        ("a line that does not parse", "BackfillWatchListRejectedLines"),
    ];
    prometheus.all_fire(&of_list).await;
    let few = [RUNS];
    replace_file(&path, &lines_of(&few));
    prometheus
        .fires("the list loses nearly all lines", &["BackfillWatchListShrunk"])
        .await;
    fixture.daemon.signal(&["HUP"]);
    prometheus.ends(&of_list.map(|(_, alert)| alert)).await;
    prometheus.ends(&["BackfillWatchListShrunk"]).await;

    fs::remove_file(&path).unwrap();
    reload(&fixture.daemon, "nonsense = 1\n");
    let faults = [
        ("the watch list is removed", "BackfillWatchListUnreadable"),
        (
            "a reload with a key that does not exist",
            "BackfillWatchConfigBroken",
        ),
    ];
    prometheus.all_fire(&faults).await;
    fs::write(&path, lines_of(&few)).unwrap();
    let unmatched = Config {
        more: UNMATCHED,
        ..Config::to(&receiver)
    };
    unmatched.reload(&fixture.daemon);
    prometheus
        .fires(
            "a rule matches no installation",
            &["BackfillWatchDiscoveryMatchesNothing"],
        )
        .await;
    prometheus.ends(&faults.map(|(_, alert)| alert)).await;
    assert_every_panel_has_data(&prometheus).await;
    let refused = FaultPlan {
        server_error: 1.0,
        ..FaultPlan::default()
    };
    let api = fixture.simulator.faults();
    api.set_for(RequestKind::Installations, Some(refused));
    prometheus
        .fires(
            "installations cannot be listed",
            &["BackfillWatchDiscoveryFailing"],
        )
        .await;
    api.set_for(RequestKind::Installations, None);
    prometheus.ends(&["BackfillWatchDiscoveryFailing"]).await;
    Config::to(&receiver).reload(&fixture.daemon);
    prometheus.ends(&["BackfillWatchDiscoveryMatchesNothing"]).await;

    limit_file_size(&fixture.daemon, "16384");
    replace_file(&path, &lines_of(&[RUNS, "op-100-100-f-later"]));
    prometheus
        .fires("files may not grow", &["BackfillWatchStateNotWritable"])
        .await;
    limit_file_size(&fixture.daemon, "unlimited");
    prometheus.fires("an operation fails", &["BackfillFailed"]).await;
    replace_file(&path, &lines_of(&lines[..3]));
    prometheus
        .ends(&["BackfillWatchStateNotWritable", "BackfillFailed"])
        .await;

    let slow = Config {
        requests_per_second: "0.5",
        ..Config::to(&receiver)
    };
    slow.reload(&fixture.daemon);
    switch.store(true, Ordering::Relaxed);
    let mut of_polls = vec![("a request in 2 s for three operations", "BackfillWatchPollsLate")];
    of_polls.extend(NOT_STAGED.map(|(_, alert)| ("attention has an entry", alert)));
    prometheus.all_fire(&of_polls).await;
    Config::to(&receiver).reload(&fixture.daemon);
    switch.store(false, Ordering::Relaxed);
    let of_polls: Vec<&str> = of_polls.into_iter().map(|(_, alert)| alert).collect();
    prometheus.ends(&of_polls).await;

    receiver
        .faults()
        .script("/late", [SimulatedReply::Status(410, RetryAfter::Absent)]);
    replace_file(&path, &lines_of(&[RUNS, "op-600000-500000-s-another"]));
    let keys = |key: &str| fixture.simulator.set_api_keys("my-project", [key.to_owned()]);
    fixture
        .daemon
        .event_of("op-600000-500000-s-another", "operation.started")
        .await;
    keys("another");
    let faults = [
        ("a receiver answers 410", "BackfillWatchWebhookDisabled"),
        ("the API rejects the key", "BackfillWatchCredentialsRejected"),
    ];
    prometheus.all_fire(&faults).await;
    fixture.daemon.signal(&["HUP"]);
    keys("simulated-key");
    prometheus.ends(&faults.map(|(_, alert)| alert)).await;

    let api = fixture.simulator.base_url()[7..]
        .trim_end_matches("/v1")
        .parse()
        .unwrap();
    fixture.simulator.stop().await;
    prometheus
        .fires("the API is stopped", &["BackfillWatchApiDown"])
        .await;
    let simulator = SimulatorConfig {
        listen: api,
        ..SimulatorConfig::default()
    };
    let _simulator = Simulator::start(simulator).await.unwrap();
    prometheus.ends(&["BackfillWatchApiDown"]).await;

    let listen = fixture.address.to_string();
    let begun = clock::instant();
    while prometheus.alerts().await["BackfillWatchRestarts"] != "firing" {
        assert!(
            begun.elapsed() < RESTARTED_FOR,
            "BackfillWatchRestarts does not fire after restarts for {RESTARTED_FOR:?}: {}",
            prometheus.log()
        );
        let before = prometheus.process_start().await;
        let setup = fixture.daemon.kill().await;
        // The metric has whole seconds.
        prometheus
            .wait("the next second", async || {
                clock::wall().as_second() as f64 > before + 1.0
            })
            .await;
        fixture.daemon = setup.set("http.listen", &listen).start();
        prometheus
            .wait("the new process is scraped", async || {
                prometheus.process_start().await > before
            })
            .await;
    }
    prometheus.fired(
        "kill -9 and a start, again and again",
        "BackfillWatchRestarts",
        begun.elapsed(),
    );

    let setup = fixture.daemon.kill().await;
    prometheus.fires("kill -9", &["BackfillWatchDown"]).await;
    // It is down for longer than the rule remembers.
    prometheus
        .wait("it is forgotten", async || {
            let known = prometheus
                .query("last_over_time(backfill_watch_build_info[10s])")
                .await;
            known.is_empty()
        })
        .await;
    let forgotten = prometheus.evaluations().await;
    prometheus
        .wait("the rules are evaluated twice", async || {
            prometheus.evaluations().await > forgotten + 1.0
        })
        .await;
    assert_eq!(prometheus.alerts().await["BackfillWatchDown"], "firing");
    let state = setup.folder().join("state/state.db");
    damage_a_watch(&state);
    fs::remove_file(&path).unwrap();
    let daemon = setup.start();
    let faults = [
        ("a row of the state is damaged", "BackfillWatchStateDamaged"),
        ("there is no watch list at the start", "BackfillWatchListMissing"),
    ];
    prometheus.all_fire(&faults).await;
    prometheus.ends(&["BackfillWatchDown"]).await;
    fs::write(&path, lines_of(&few)).unwrap();
    prometheus.ends(&["BackfillWatchListMissing"]).await;
    fs::remove_file(&state).unwrap();
    prometheus
        .fires("the state is removed", &["BackfillWatchStateRemoved"])
        .await;
    let daemon = daemon.kill().await.start();
    prometheus
        .ends(&[
            "BackfillWatchStateDamaged",
            "BackfillWatchStateRemoved",
            "BackfillWatchRestarts",
        ])
        .await;

    prometheus.scrape(&[]);
    prometheus
        .fires("the target is taken away", &["BackfillWatchAbsent"])
        .await;
    prometheus.scrape(&[fixture.address]);
    prometheus.ends(&["BackfillWatchAbsent"]).await;
    drop(daemon);

    assert_eq!(prometheus.ever_fired().await, all, "each alert has fired here");
    prometheus.report_table();
}

/// Prometheus accepts every query of the dashboard, and answers it with data of a daemon that has webhooks and discovery.
async fn assert_every_panel_has_data(prometheus: &Prometheus) {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/monitoring/dashboard.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let mut queries = Vec::new();
    collect_queries(&dashboard["panels"], &mut queries);
    assert!(queries.len() > 50, "{}", queries.len());
    for (title, query) in queries {
        let mut query = query.replace("$__rate_interval", "1m");
        for variable in ["job", "instance", "project", "webhook"] {
            query = query.replace(&format!("${variable}\""), ".*\"");
        }
        assert!(!query.contains('$'), "{title}: {query}");
        // A member that cannot be used is a fault of the API.
        let may_be_empty = title == "Unusable members of answers";
        prometheus
            .wait(&format!("{title} has data: {query}"), async || {
                !prometheus.query(&query).await.is_empty() || may_be_empty
            })
            .await;
    }
}

/// The title and the query of each target, of panels in folded rows too.
fn collect_queries(panels: &Value, queries: &mut Vec<(String, String)>) {
    for panel in panels.as_array().into_iter().flatten() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((title.to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
        collect_queries(&panel["panels"], queries);
    }
}

/// Serves the attention of a daemon with an entry of each of these kinds, as `/metrics` shows it, while the switch is on.
async fn serve_attention_of(kinds: &'static [(&str, &str)]) -> (SocketAddr, Arc<AtomicBool>) {
    let switch = Arc::new(AtomicBool::new(false));
    let is_on = Arc::clone(&switch);
    let text = async move || {
        let count = u8::from(is_on.load(Ordering::Relaxed));
        let lines = kinds
            .iter()
            .map(|(kind, _)| format!("backfill_watch_attention{{kind=\"{kind}\"}} {count}\n"));
        format!(
            "# TYPE backfill_watch_attention gauge\n{}",
            lines.collect::<String>()
        )
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = axum::Router::new().route("/metrics", axum::routing::get(text));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (address, switch)
}
