//! A Prometheus that scrapes daemons and evaluates the shipped alert rules with less patience.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use backfill_watch::clock;
use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::client;
use crate::support::{lines_of, replace_file, report, skip, until_answered};

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

/// Skips where it is not installed.
pub fn is_installed() -> bool {
    let installed = Command::new("prometheus").arg("--version").output().is_ok();
    if !installed {
        skip::<()>("prometheus is not installed");
    }
    installed
}

/// A Prometheus that scrapes daemons; dropping it kills it.
pub struct Prometheus {
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
        .map(|line| match line.trim_start().split_once(": ") {
            Some(("for", _)) => "        for: 1s",
            Some(("keep_firing_for", _)) => "        keep_firing_for: 1s",
            _ => line,
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
    pub async fn start(targets: &[SocketAddr]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/monitoring/alerts.yml");
        let rules = fs::read_to_string(rules).unwrap();
        fs::write(folder.path().join("alerts.yml"), impatient(&rules)).unwrap();
        write_targets(folder.path(), targets);
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

    pub fn log(&self) -> String {
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
    pub fn scrape(&self, targets: &[SocketAddr]) {
        write_targets(self.folder.path(), targets);
    }

    pub async fn query(&self, query: &str) -> Vec<Value> {
        let mut url = reqwest::Url::parse(&format!("http://{}/api/v1/query", self.address)).unwrap();
        url.query_pairs_mut().append_pair("query", query);
        let path = format!("{}?{}", url.path(), url.query().unwrap());
        let found = self.data(&path).await;
        found["result"].as_array().unwrap().clone()
    }

    /// When the process that was scraped last was started.
    pub async fn process_start(&self) -> f64 {
        let found = self
            .query("max(last_over_time(process_start_time_seconds[1h]))")
            .await;
        found[0]["value"][1].as_str().unwrap().parse().unwrap()
    }

    /// How many times all rules were evaluated, by the time of the last one.
    pub async fn evaluations(&self) -> f64 {
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
    pub async fn rules_are_healthy(&self) -> bool {
        let scraped = self.data("/api/v1/query?query=backfill_watch_build_info").await;
        let rules = self.rules().await;
        let broken = rules.iter().find(|rule| rule["health"] == "err");
        assert!(broken.is_none(), "{broken:?}");
        !scraped["result"].as_array().unwrap().is_empty() && rules.iter().all(|rule| rule["health"] == "ok")
    }

    /// The state of each alert by its name.
    pub async fn alerts(&self) -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let rules = self.rules().await;
        rules
            .iter()
            .map(|rule| (text(&rule["name"]), text(&rule["state"])))
            .collect()
    }

    pub async fn fires(&mut self, fault: &str, names: &[&str]) {
        let faults: Vec<_> = names.iter().map(|name| (fault, *name)).collect();
        self.all_fire(&faults).await;
    }

    /// Waits until each of these faults has made its alert fire.
    pub async fn all_fire(&mut self, faults: &[(&str, &str)]) {
        let names: Vec<_> = faults.iter().map(|(_, alert)| *alert).collect();
        let times = self.reach("firing", &names).await;
        for ((fault, alert), after) in faults.iter().zip(times) {
            self.fired(fault, alert, after);
        }
    }

    /// Notes what is known of an alert that fires.
    pub fn fired(&mut self, fault: &str, alert: &str, fired_after: Duration) {
        self.rows.push(Row {
            fault: fault.to_owned(),
            alert: alert.to_owned(),
            fired_after,
            ended_after: None,
        });
    }

    /// Waits until none of these fires.
    pub async fn ends(&mut self, names: &[&str]) {
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
    pub fn report_table(&self) {
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
    pub async fn ever_fired(&self) -> Vec<String> {
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

    pub async fn wait(&self, what: &str, mut condition: impl AsyncFnMut() -> bool) {
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
