//! A real Prometheus scrapes the daemon with the alert rules that are shipped.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

use crate::bench::{Bench, client};
use crate::support::{lines_of, replace_file, skip, until_answered};

/// What takes longer to come about than a test may last, or wants a broken disk or program; `alerts.test.yml` has them.
const NOT_HERE: [&str; 7] = [
    "BackfillWatchWebhookBacklog",
    "BackfillWatchWebhookDeadLetters",
    "BackfillWatchStateNotWritable",
    "BackfillWatchStateRemoved",
    "BackfillWatchStateDamaged",
    "BackfillWatchPollsLate",
    "BackfillWatchPollersCrash",
];

const SETTINGS: &str =
    "[poll]\nstalled_after = \"3s\"\nnot_found_grace = \"1s\"\nunreachable_after = \"2s\"\n";

#[tokio::test]
async fn a_real_prometheus_scrapes_the_daemon_and_fires_the_alerts() {
    if !is_installed() {
        return;
    }
    // The count of the second moves once in 20 minutes.
    let list = ["op-600000-500000-s-moves", "op-600000-5-s-stands"];
    let mut bench = Bench::start_with(&list[..1], |setup| {
        let file = setup.folder().join("config.toml");
        fs::write(&file, SETTINGS).unwrap();
        let file = file.display().to_string();
        setup.arguments(&["--config", &file])
    })
    .await;
    bench.phase(list[0], "running").await;
    let prometheus = Prometheus::start(bench.address).await;

    prometheus
        .wait("the target is up", async || prometheus.is_up().await)
        .await;
    let at_rest = prometheus.alerts().await;
    assert!(at_rest.len() > NOT_HERE.len(), "{at_rest:?}");
    // Once the rules were evaluated on what was scraped.
    prometheus
        .wait("every rule is evaluated", async || {
            prometheus.rules_are_well().await
        })
        .await;
    assert!(firing(&prometheus.alerts().await).is_empty());

    let daemon = &bench.daemon;
    let path = daemon.list_path();
    let lines = [
        list[0],
        list[1],
        "op-100-100-f-fails",
        "nobody-knows-it",
        "not an = operation",
    ];
    replace_file(&path, &lines_of(&lines));
    prometheus
        .fires(&[
            "BackfillStalled",
            "BackfillFailed",
            "BackfillLost",
            "BackfillWatchListRejectedLines",
        ])
        .await;

    fs::remove_file(&path).unwrap();
    fs::write(daemon.setup().folder().join("config.toml"), "nonsense = 1\n").unwrap();
    daemon.signal(&["HUP"]);
    prometheus
        .fires(&["BackfillWatchListUnreadable", "BackfillWatchConfigBroken"])
        .await;

    fs::write(daemon.setup().folder().join("config.toml"), SETTINGS).unwrap();
    fs::write(&path, lines_of(&list[..1])).unwrap();
    daemon.signal(&["HUP"]);
    let mended = [
        "BackfillStalled",
        "BackfillWatchListRejectedLines",
        "BackfillWatchListUnreadable",
        "BackfillWatchConfigBroken",
    ];
    prometheus.ends(&mended).await;

    bench.simulator.set_api_keys("my-project", ["another".to_owned()]);
    prometheus.fires(&["BackfillWatchCredentialsRejected"]).await;
    bench
        .simulator
        .set_api_keys("my-project", ["simulated-key".to_owned()]);
    prometheus.ends(&["BackfillWatchCredentialsRejected"]).await;

    bench.simulator.stop().await;
    prometheus.fires(&["BackfillWatchApiDown"]).await;

    bench.daemon.signal(&["TERM"]);
    assert_eq!(bench.daemon.exit_code().await, Some(0));
    prometheus.fires(&["BackfillWatchDown"]).await;

    let mut fired: Vec<String> = prometheus.ever_fired().await;
    fired.extend(NOT_HERE.map(str::to_owned));
    fired.sort();
    let all: Vec<String> = at_rest.into_keys().collect();
    assert_eq!(
        fired, all,
        "each alert has fired here, or is named with the reason why not"
    );
}

/// Says so where it is not.
fn is_installed() -> bool {
    let installed = Command::new("prometheus").arg("--version").output().is_ok();
    if !installed {
        skip::<()>("prometheus is not installed");
    }
    installed
}

fn firing(alerts: &BTreeMap<String, String>) -> Vec<&str> {
    let firing = alerts.iter().filter(|(_, state)| *state == "firing");
    firing.map(|(name, _)| name.as_str()).collect()
}

/// A Prometheus that scrapes one daemon; dropping it kills it.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    client: Client,
    folder: TempDir,
}

impl Prometheus {
    async fn start(target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/monitoring/alerts.yml");
        let rules = fs::read_to_string(rules).unwrap();
        // The shipped rules, but for their patience.
        let impatient = rules
            .lines()
            .map(|line| match line.trim_start().starts_with("for: ") {
                true => "        for: 1s",
                false => line,
            });
        fs::write(
            folder.path().join("alerts.yml"),
            lines_of(&impatient.collect::<Vec<_>>()),
        )
        .unwrap();
        let settings = format!(
            "global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}\nrule_files: [alerts.yml]\n\
             scrape_configs:\n- job_name: backfill-watch\n  static_configs: [{{targets: ['{target}']}}]\n"
        );
        fs::write(folder.path().join("prometheus.yml"), settings).unwrap();
        // It cannot tell which port it chose itself; a loopback address of its own keeps others off a port found free.
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

    async fn is_up(&self) -> bool {
        let targets = self.data("/api/v1/targets").await;
        let target = &targets["activeTargets"][0];
        assert!(target["health"] != "down", "{target}");
        target["health"] == "up"
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
    async fn rules_are_well(&self) -> bool {
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

    async fn fires(&self, names: &[&str]) {
        let all_fire = async || {
            let alerts = self.alerts().await;
            names.iter().all(|name| alerts[*name] == "firing")
        };
        self.wait(&format!("{names:?} fire"), all_fire).await;
    }

    async fn ends(&self, names: &[&str]) {
        let none_fires = async || {
            let alerts = self.alerts().await;
            names.iter().all(|name| alerts[*name] == "inactive")
        };
        self.wait(&format!("{names:?} end"), none_fires).await;
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
