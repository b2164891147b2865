//! A real Prometheus scrapes the daemon and evaluates the shipped alert rules.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use backfill_watch::board::Board;
use backfill_watch::clock;
use backfill_watch::report::metrics::{Metrics, Scrape};
use backfill_watch::simulator::{
    Receiver, ReceiverConfig, RetryAfter, SimulatedReply, Simulator, SimulatorConfig,
};
use backfill_watch::sources::watch_list::WatchListSnapshot;
use backfill_watch::store::Store;
use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{Fixture, client};
use crate::support::{Daemon, lines_of, replace_file, report, skip, until_answered};

/// Shorter durations for the shipped rules: the text in them, and its replacement.
const IMPATIENT: [(&str, &str); 7] = [
    ("[1d] offset 15m", "[1h] offset 5s"),
    ("[15m]", "[5s]"),
    ("[10m]", "[5s]"),
    // Three restarts fit in, of 5 s each.
    ("[30m]", "[20s]"),
    ("[6h]", "[10s]"),
    ("time() - 900", "time() - 5"),
    ("_pending_seconds > 900", "_pending_seconds > 1"),
];

/// How long the daemon is restarted for the alert about restarts.
const RESTARTED_FOR: Duration = Duration::from_mins(2);

/// Settings of which the rest is in the environment.
fn settings(requests_per_second: &str, receiver: &Receiver, max_backlog: u32) -> String {
    let url = receiver.url().replace("/hook", "");
    format!(
        "[ampersand]\nmax_requests_per_second = {requests_per_second}\n\
         [poll]\nstalled_after = \"1s\"\nnot_found_grace = \"1s\"\nunreachable_after = \"2s\"\n\
         [[webhooks]]\nname = \"late\"\nurl = \"{url}/late\"\nsecret_file = \"secret\"\n\
         events = [\"operation.started\"]\n\
         [[webhooks]]\nname = \"crowded\"\nurl = \"{url}/crowded\"\nsecret_file = \"secret\"\n\
         events = [\"operation.started\"]\nmax_backlog = {max_backlog}\n"
    )
}

fn reload(daemon: &Daemon, settings: &str) {
    fs::write(daemon.setup().folder().join("config.toml"), settings).unwrap();
    daemon.signal(&["HUP"]);
}

const FAST: &str = "1000.0";
const RUNS: &str = "op-600000-500000-s-runs";
/// Its count moves once in 20 minutes.
const STALLED: &str = "op-600000-5-s-stands";

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
    let mut fixture = Fixture::start_with(&[RUNS, "op-100-100-f-fails"], |setup| {
        let file = setup.folder().join("config.toml");
        fs::write(&file, settings(FAST, &receiver, 1)).unwrap();
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";
        fs::write(setup.folder().join("secret"), secret).unwrap();
        let file = file.display().to_string();
        setup
            .unset("ampersand.max_requests_per_second")
            .arguments(&["--config", &file])
    })
    .await;
    let path = fixture.daemon.list_path();
    fixture.phase(RUNS, "running").await;
    fixture.daemon.event("operation.failed").await;
    let mut prometheus = Prometheus::start(fixture.address).await;
    prometheus
        .fires("an operation failed before the first scrape", &["BackfillFailed"])
        .await;
    // Once the rules were evaluated on what was scraped.
    prometheus
        .wait("every rule is evaluated", async || {
            prometheus.rules_are_healthy().await
        })
        .await;
    let all: Vec<String> = prometheus.alerts().await.into_keys().collect();

    let receives_on: SocketAddr = receiver.url()[7..].trim_end_matches("/hook").parse().unwrap();
    receiver.stop().await;
    let more = ["op-600000-500000-s-first", "op-600000-500000-s-second"];
    let lines = [&[RUNS], &more[..]].concat();
    replace_file(&path, &lines_of(&lines));
    let of_receiver = [
        ("the receiver is stopped", "BackfillWatchWebhookBacklog"),
        (
            "max_backlog events wait, and one more comes",
            "BackfillWatchWebhookDeadLetters",
        ),
    ];
    prometheus.all_fire(&of_receiver).await;
    // Soon enough for the first retry.
    let receiver = ReceiverConfig {
        listen: receives_on,
        ..ReceiverConfig::default()
    };
    let receiver = Receiver::start(receiver).await.unwrap();
    reload(&fixture.daemon, &settings(FAST, &receiver, 100));
    let setup = fixture.daemon.setup();
    let config = setup.folder().join("config.toml").display().to_string();
    let replayed = setup
        .run_with("replay", &["--config", &config, "--dead-letters"])
        .await;
    assert!(replayed.status.success(), "{replayed:?}");
    prometheus.ends(&of_receiver.map(|(_, alert)| alert)).await;

    let faulty = [STALLED, "nobody-knows-it", "not an = operation"];
    replace_file(&path, &lines_of(&[&lines[..], &faulty].concat()));
    let of_list = [
        ("a count does not change", "BackfillStalled"),
        ("the API does not know an operation", "BackfillLost"),
        ("a line that does not parse", "BackfillWatchListRejectedLines"),
    ];
    prometheus.all_fire(&of_list).await;
    replace_file(&path, &lines_of(&lines));
    let mut fixed = of_list.map(|(_, alert)| alert).to_vec();
    fixed.push("BackfillFailed");
    prometheus.ends(&fixed).await;

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
    fs::write(&path, lines_of(&lines)).unwrap();
    reload(&fixture.daemon, &settings(FAST, &receiver, 100));
    prometheus.ends(&faults.map(|(_, alert)| alert)).await;

    limit_file_size(&fixture.daemon, "16384");
    let failing = ["op-100-100-f-later"];
    replace_file(&path, &lines_of(&[&lines[..], &failing].concat()));
    prometheus
        .fires("files may not grow", &["BackfillWatchStateNotWritable"])
        .await;
    limit_file_size(&fixture.daemon, "unlimited");
    prometheus.fires("an operation fails", &["BackfillFailed"]).await;
    prometheus
        .ends(&["BackfillWatchStateNotWritable", "BackfillFailed"])
        .await;

    reload(&fixture.daemon, &settings("0.5", &receiver, 100));
    // Nothing outside of the program makes a poller panic.
    let panicked = serve_metrics_of_a_panic().await;
    prometheus.scrape(&[fixture.address, panicked]);
    let of_polls = [
        ("a request in 2 s for three operations", "BackfillWatchPollsLate"),
        ("the counter of panics is at 1", "BackfillWatchPollersCrash"),
    ];
    prometheus.all_fire(&of_polls).await;
    reload(&fixture.daemon, &settings(FAST, &receiver, 100));
    prometheus.ends(&of_polls.map(|(_, alert)| alert)).await;
    prometheus.scrape(&[fixture.address]);

    receiver
        .faults()
        .script("/late", [SimulatedReply::Status(410, RetryAfter::Absent)]);
    replace_file(
        &path,
        &lines_of(&[&lines[..], &["op-600000-500000-s-third"]].concat()),
    );
    prometheus
        .fires("a receiver answers 410", &["BackfillWatchAttention"])
        .await;
    fixture.daemon.signal(&["HUP"]);
    prometheus.ends(&["BackfillWatchAttention"]).await;

    let keys = |key: &str| fixture.simulator.set_api_keys("my-project", [key.to_owned()]);
    keys("another");
    prometheus
        .fires("the API rejects the key", &["BackfillWatchCredentialsRejected"])
        .await;
    keys("simulated-key");
    prometheus.ends(&["BackfillWatchCredentialsRejected"]).await;

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
    prometheus.ends(&["BackfillWatchRestarts"]).await;

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
    let daemon = setup.start();
    prometheus
        .fires("a row of the state is damaged", &["BackfillWatchStateDamaged"])
        .await;
    prometheus.ends(&["BackfillWatchDown"]).await;
    fs::remove_file(&state).unwrap();
    prometheus
        .fires("the state is removed", &["BackfillWatchStateRemoved"])
        .await;
    let daemon = daemon.kill().await.start();
    prometheus
        .ends(&["BackfillWatchStateDamaged", "BackfillWatchStateRemoved"])
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

/// The state of one watch is no JSON any more.
fn damage_a_watch(state: &Path) {
    let database = rusqlite::Connection::open(state).unwrap();
    let sql = "UPDATE watches SET state = '{' WHERE rowid = (SELECT min(rowid) FROM watches)";
    assert_eq!(database.execute(sql, ()).unwrap(), 1);
}

/// No file of the daemon may grow beyond this.
fn limit_file_size(daemon: &Daemon, size: &str) {
    let (process, limit) = (daemon.id().to_string(), format!("--fsize={size}:"));
    let status = Command::new("prlimit").args(["--pid", &process, &limit]).status();
    assert!(status.unwrap().success());
}

/// Serves the metrics of a daemon of which a poller has panicked.
async fn serve_metrics_of_a_panic() -> SocketAddr {
    let metrics = Metrics::new();
    metrics.count_poller_restart();
    let scrape = Scrape {
        board: &Board::default(),
        attention: Vec::new(),
        list: Arc::new(WatchListSnapshot::default()),
        store: &Store::in_memory(),
        polling: &tokio::runtime::Handle::current(),
        store_timeout: Duration::from_secs(5),
    };
    let text = metrics.render(&scrape).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = axum::Router::new().route("/metrics", axum::routing::get(async move || text));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

/// Skips where it is not installed.
fn is_installed() -> bool {
    let installed = Command::new("prometheus").arg("--version").output().is_ok();
    if !installed {
        skip::<()>("prometheus is not installed");
    }
    installed
}

/// A Prometheus that scrapes daemons; dropping it kills it.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    client: Client,
    folder: TempDir,
    rows: Vec<Row>,
}

/// What one alert did.
struct Row {
    fault: String,
    alert: String,
    fired_after: Duration,
    ended_after: Option<Duration>,
}

/// The shipped rules, but for their patience.
fn impatient(rules: &str) -> String {
    let without_waits = rules
        .lines()
        .map(|line| match line.trim_start().starts_with("for: ") {
            true => "        for: 1s",
            false => line,
        });
    let mut rules = lines_of(&without_waits.collect::<Vec<_>>()).replace("[10m])) > 60", "[10m])) > 0.5");
    for (patient, impatient) in IMPATIENT {
        assert!(rules.contains(patient), "no rule has {patient}");
        rules = rules.replace(patient, impatient);
    }
    rules
}

fn write_targets(folder: &Path, targets: &[SocketAddr]) {
    let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
    let targets = serde_json::json!([{ "targets": targets }]);
    replace_file(&folder.join("targets.json"), &targets.to_string());
}

impl Prometheus {
    async fn start(target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/monitoring/alerts.yml");
        let rules = fs::read_to_string(rules).unwrap();
        fs::write(folder.path().join("alerts.yml"), impatient(&rules)).unwrap();
        write_targets(folder.path(), &[target]);
        let settings = "global: {scrape_interval: 500ms, evaluation_interval: 500ms}\nrule_files: [alerts.yml]\n\
             scrape_configs:\n- job_name: backfill-watch\n  file_sd_configs: [{files: [targets.json]}]\n";
        fs::write(folder.path().join("prometheus.yml"), settings).unwrap();
        // It does not report a port that it chose. A loopback address of its own keeps other programs off a free port.
        let [.., high, low] = std::process::id().to_be_bytes();
        let free = TcpListener::bind((Ipv4Addr::new(127, 90, high, low), 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .current_dir(folder.path())
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let prometheus = Self {
            child,
            address,
            client: client(),
            folder,
            rows: Vec::new(),
        };
        prometheus
            .wait("it is ready", async || prometheus.ask("/-/ready").await.is_some())
            .await;
        prometheus
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn ask(&self, path: &str) -> Option<String> {
        let answer = self
            .client
            .get(format!("http://{}{path}", self.address))
            .send()
            .await
            .ok()?;
        if answer.status() != 200 {
            return None;
        }
        answer.text().await.ok()
    }

    async fn data(&self, path: &str) -> Value {
        let text = self
            .ask(path)
            .await
            .unwrap_or_else(|| panic!("{path}: {}", self.log()));
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        answer["data"].take()
    }

    /// Scrapes these from now on.
    fn scrape(&self, targets: &[SocketAddr]) {
        write_targets(self.folder.path(), targets);
    }

    async fn query(&self, query: &str) -> Vec<Value> {
        let mut url = reqwest::Url::parse(&format!("http://{}/api/v1/query", self.address)).unwrap();
        url.query_pairs_mut().append_pair("query", query);
        let path = format!("{}?{}", url.path(), url.query().unwrap());
        let found = self.data(&path).await;
        found["result"].as_array().unwrap().clone()
    }

    /// When the process that was scraped last was started.
    async fn process_start(&self) -> f64 {
        let found = self
            .query("max(last_over_time(process_start_time_seconds[1h]))")
            .await;
        found[0]["value"][1].as_str().unwrap().parse().unwrap()
    }

    /// How many times all rules were evaluated, by the time of the last one.
    async fn evaluations(&self) -> f64 {
        let rules = self.rules().await;
        let times = rules.iter().map(|rule| {
            let time: jiff::Timestamp = rule["lastEvaluation"].as_str().unwrap().parse().unwrap();
            time.as_millisecond() as f64 / 500.0
        });
        times.fold(f64::INFINITY, f64::min)
    }

    async fn rules(&self) -> Vec<Value> {
        let groups = self.data("/api/v1/rules").await;
        let groups = groups["groups"].as_array().unwrap().clone();
        groups
            .iter()
            .flat_map(|group| group["rules"].as_array().unwrap().clone())
            .collect()
    }

    /// Whether each has been evaluated since the first scrape, and none is broken.
    async fn rules_are_healthy(&self) -> bool {
        let scraped = self.data("/api/v1/query?query=backfill_watch_build_info").await;
        let rules = self.rules().await;
        let broken = rules.iter().find(|rule| rule["health"] == "err");
        assert!(broken.is_none(), "{broken:?}");
        !scraped["result"].as_array().unwrap().is_empty() && rules.iter().all(|rule| rule["health"] == "ok")
    }

    /// The state of each alert by its name.
    async fn alerts(&self) -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let rules = self.rules().await;
        rules
            .iter()
            .map(|rule| (text(&rule["name"]), text(&rule["state"])))
            .collect()
    }

    async fn fires(&mut self, fault: &str, names: &[&str]) {
        let faults: Vec<_> = names.iter().map(|name| (fault, *name)).collect();
        self.all_fire(&faults).await;
    }

    /// Waits until each of these faults has made its alert fire.
    async fn all_fire(&mut self, faults: &[(&str, &str)]) {
        let names: Vec<_> = faults.iter().map(|(_, alert)| *alert).collect();
        let times = self.reach("firing", &names).await;
        for ((fault, alert), after) in faults.iter().zip(times) {
            self.fired(fault, alert, after);
        }
    }

    /// Notes what is known of an alert that fires.
    fn fired(&mut self, fault: &str, alert: &str, fired_after: Duration) {
        self.rows.push(Row {
            fault: fault.to_owned(),
            alert: alert.to_owned(),
            fired_after,
            ended_after: None,
        });
    }

    /// Waits until none of these fires.
    async fn ends(&mut self, names: &[&str]) {
        let times = self.reach("inactive", names).await;
        for (name, after) in names.iter().zip(times) {
            let row = self.rows.iter_mut().rev().find(|row| row.alert == *name);
            row.unwrap().ended_after = Some(after);
        }
    }

    /// Waits until each of these alerts has been in that state, and returns after how long.
    async fn reach(&self, state: &str, names: &[&str]) -> Vec<Duration> {
        let begun = clock::instant();
        let mut times: Vec<Option<Duration>> = vec![None; names.len()];
        self.wait(&format!("{names:?} are {state}"), async || {
            let alerts = self.alerts().await;
            for (time, name) in times.iter_mut().zip(names) {
                if time.is_none() && alerts[*name] == state {
                    *time = Some(begun.elapsed());
                }
            }
            times.iter().all(Option::is_some)
        })
        .await;
        times.into_iter().flatten().collect()
    }

    /// What fired and ended when, with rules that are impatient.
    fn report_table(&self) {
        for row in &self.rows {
            let ended = row.ended_after.map_or(f64::NAN, |time| time.as_secs_f64());
            report(&format!(
                "| {} | {} | {:.1} s | {ended:.1} s |",
                row.fault,
                row.alert,
                row.fired_after.as_secs_f64(),
            ));
        }
    }

    /// The alerts that have fired since it started, in order of their names.
    async fn ever_fired(&self) -> Vec<String> {
        let query = "/api/v1/query?query=count+by+(alertname)+(max_over_time(ALERTS%7Balertstate%3D%22firing%22%7D%5B1h%5D))";
        let fired = self.data(query).await;
        let fired = fired["result"].as_array().unwrap().clone();
        let mut names: Vec<String> = fired
            .iter()
            .map(|series| series["metric"]["alertname"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }

    async fn wait(&self, what: &str, mut condition: impl AsyncFnMut() -> bool) {
        until_answered(what, async || match condition().await {
            true => Ok(()),
            false => Err(self.log()),
        })
        .await;
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
