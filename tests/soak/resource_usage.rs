//! Resource usage of the daemon, and whether it grew.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use backfill_watch::clock;

use crate::support::{DEADLINE, process_status, report};

/// Between two measurements while something is awaited.
const SAMPLING_INTERVAL: Duration = Duration::from_millis(250);

/// The daemon at one moment.
#[derive(Debug, Clone, Copy)]
pub struct ResourceUsage {
    /// Resident memory in bytes.
    pub memory: f64,
    /// Open files, sockets among them.
    pub files: f64,
    /// Threads.
    pub threads: f64,
    /// Tasks.
    pub tasks: f64,
    /// The state in bytes, its write-ahead log included.
    pub state: f64,
    /// Deliveries that wait.
    pub backlog: f64,
    /// Polls so far.
    pub polls: f64,
    /// Events so far.
    pub events: f64,
    /// Operations on the list.
    pub listed: f64,
    /// Operations that were seen running.
    pub running: f64,
    /// Pollers that panicked.
    pub restarts: f64,
}

/// Measures the daemon from outside.
pub struct ResourceMeter {
    process: u32,
    address: SocketAddr,
    folder: PathBuf,
    client: reqwest::Client,
}

impl ResourceMeter {
    pub fn new(process: u32, address: SocketAddr, folder: PathBuf) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE);
        Self {
            process,
            address,
            folder,
            client: client.build().unwrap(),
        }
    }

    pub async fn measure(&self) -> ResourceUsage {
        let metrics = self.page("/metrics").await;
        // The sum over the labels.
        let metric = |name: &str| -> f64 {
            let name = format!("backfill_watch_{name}");
            let values = metrics.lines().filter_map(|line| {
                let rest = line.strip_prefix(&name)?;
                rest.starts_with([' ', '{', ','])
                    .then(|| rest.rsplit(' ').next())?
            });
            values.map(|value| value.parse::<f64>().unwrap()).sum()
        };
        let running = "operations{phase=\"running\"";
        ResourceUsage {
            memory: process_status(self.process, "VmRSS") as f64,
            files: self.entries("fd"),
            threads: process_status(self.process, "Threads") as f64,
            tasks: metric("tasks"),
            state: self.state(),
            backlog: metric("webhook_backlog"),
            polls: metric("polls_total"),
            events: metric("events_total"),
            listed: metric("operations"),
            running: metric(running),
            restarts: metric("poller_restarts_total"),
        }
    }

    /// Waits until the usage is as expected.
    pub async fn wait(&self, what: &str, within: Duration, wanted: impl Fn(&ResourceUsage) -> bool) {
        let deadline = clock::instant() + within;
        loop {
            let figures = self.measure().await;
            if wanted(&figures) {
                return;
            }
            assert!(clock::instant() < deadline, "waited in vain: {what}: {figures:?}");
            tokio::time::sleep(SAMPLING_INTERVAL).await;
        }
    }

    /// Other pages, in turn.
    pub async fn read_pages(&self, turn: usize) {
        let path = match turn % 4 {
            0 => "/api/operations?limit=1000&phase=running",
            1 => "/api/events?limit=100",
            2 => "/api/webhooks",
            _ => "/livez",
        };
        self.page(path).await;
    }

    async fn page(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.address);
        let response = self.client.get(url).send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        text
    }

    fn entries(&self, of: &str) -> f64 {
        let folder = fs::read_dir(format!("/proc/{}/{of}", self.process));
        folder.unwrap().count() as f64
    }

    fn state(&self) -> f64 {
        let files = fs::read_dir(&self.folder).unwrap();
        let lengths = files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len()));
        lengths.sum::<u64>() as f64
    }
}

/// One process_status, what it may grow by: a part of what it was, and so much besides.
struct Limit {
    name: &'static str,
    unit: f64,
    of: fn(&ResourceUsage) -> f64,
    part: f64,
    besides: f64,
}

const MEBIBYTE: f64 = 1024.0 * 1024.0;

const LIMITS: [Limit; 6] = [
    Limit {
        name: "memory, MiB",
        unit: MEBIBYTE,
        of: |figures| figures.memory,
        part: 0.05,
        // What an allocator keeps of a busy moment; in two minutes there are few of them.
        besides: 12.0 * MEBIBYTE,
    },
    Limit {
        name: "open files",
        unit: 1.0,
        of: |figures| figures.files,
        // Connections: to the API as many as were in flight, to the receiver the same.
        part: 0.10,
        besides: 10.0,
    },
    Limit {
        name: "threads",
        unit: 1.0,
        of: |figures| figures.threads,
        part: 0.0,
        besides: 2.0,
    },
    Limit {
        name: "tasks",
        unit: 1.0,
        of: |figures| figures.tasks,
        part: 0.02,
        besides: 20.0,
    },
    Limit {
        name: "state, MiB",
        unit: MEBIBYTE,
        of: |figures| figures.state,
        part: 0.05,
        besides: 4.0 * MEBIBYTE,
    },
    Limit {
        name: "deliveries that wait",
        unit: 1.0,
        of: |figures| figures.backlog,
        part: 0.25,
        besides: 200.0,
    },
];

/// Compares the medians of the second and the last quarter, and prints all of them.
pub fn assert_flat(samples: &[(Duration, ResourceUsage)], length: Duration) {
    let quarter = |n: u32| -> Vec<ResourceUsage> {
        let within = length / 4 * n..length / 4 * (n + 1);
        let taken = samples.iter().filter(|(at, _)| within.contains(at));
        taken.map(|(_, figures)| *figures).collect()
    };
    let quarters: Vec<Vec<ResourceUsage>> = (0..4).map(quarter).collect();
    report("soak: medians of the quarters    first     second      third     fourth    allowed");
    let mut grown = Vec::new();
    for limit in &LIMITS {
        let medians: Vec<f64> = quarters
            .iter()
            .map(|quarter| median(quarter.iter().map(limit.of).collect()))
            .collect();
        let allowed = medians[1] * (1.0 + limit.part) + limit.besides;
        let shown: Vec<String> = medians
            .iter()
            .chain([&allowed])
            .map(|value| format!("{:>10.1}", value / limit.unit))
            .collect();
        let line = format!("soak: {:<24}{}", limit.name, shown.join(" "));
        report(&line);
        if medians[3] > allowed {
            grown.push(line);
        }
    }
    assert!(grown.is_empty(), "this has grown:\n{}", grown.join("\n"));
    for (quarter, figures) in quarters.iter().enumerate() {
        let (first, last) = (figures.first().unwrap(), figures.last().unwrap());
        assert!(last.polls > first.polls, "quarter {quarter}: no polls");
        assert!(last.events > first.events, "quarter {quarter}: no events");
        assert_eq!(last.restarts, 0.0, "pollers panicked");
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
