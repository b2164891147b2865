//! Runs every block of commands in README and docs, in a folder of its own, beside a daemon and a simulated API. Checks
//! that every metric of that daemon is documented.
#![expect(clippy::unwrap_used, reason = "a helper that panics fails its test")]

#[expect(
    dead_code,
    reason = "shared by several test programs, each of which uses a part"
)]
mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use backfill_watch::simulator::{Receiver, ReceiverConfig, SimulatedOperation, Simulator, SimulatorConfig};

use support::{Daemon, Setup, skip};

/// Pages whose commands another test runs.
const OTHER_PAGES: [(&str, &str); 3] = [
    ("docs/operating.md", "tests/systemd-container"),
    ("docs/containers.md", "tests/container-image"),
    ("docs/kubernetes.md", "tests/deploy.rs"),
];
/// Blocks that another test runs, by a text in them.
const OTHER_BLOCKS: [(&str, &str); 3] = [
    ("cargo test ", ".ci/run"),
    ("backfill-watch demo", "tests/demo.rs"),
    ("receiver.py", "tests/receivers.rs"),
];
/// The operation of all examples.
const OPERATION: &str = "3efc0f0f-4bb9-498f-996c-9893d98ca4b5";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The blocks of commands of a page.
fn blocks(page: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(fence) = lines.find(|line| line.trim_start() == "```sh") {
        // A block in a list is indented.
        let indent = fence.len() - fence.trim_start().len();
        let block = lines.by_ref().take_while(|line| line.trim_start() != "```");
        let block: Vec<&str> = block.map(|line| line.get(indent..).unwrap_or("")).collect();
        blocks.push(block.join("\n") + "\n");
    }
    blocks
}

/// README and chapters.
fn pages() -> Vec<String> {
    let files = fs::read_dir(root().join("docs")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut pages: Vec<String> = names
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("docs/{name}"))
        .chain(["README.md".to_owned()])
        .filter(|page| OTHER_PAGES.iter().all(|(other, _)| other != page))
        .collect();
    pages.sort();
    pages
}

/// A simulated API, a daemon that watches an operation there, its receiver, and a folder to work in.
struct Workplace {
    simulator: Simulator,
    receiver: Receiver,
    daemon: Daemon,
    address: String,
    slow_operations: usize,
}

impl Workplace {
    async fn new() -> Self {
        let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
        simulator.add(SimulatedOperation::new(
            OPERATION,
            Duration::from_millis(200),
            100,
        ));
        let receiver = Receiver::start(ReceiverConfig::default()).await.unwrap();
        let setup = Setup::new(&simulator);
        let write_token = setup.folder().join("write-token");
        fs::write(&write_token, "the-first-token").unwrap();
        let daemon = setup
            .set("http.listen", "127.0.0.1:0")
            .set("http.write_token_file", &write_token.display().to_string())
            .set("metrics.per_operation", "true")
            .set("webhooks.0.name", "crm-sync")
            .set("webhooks.0.url", &receiver.url())
            .variable("BACKFILL_WATCH_WEBHOOK_SECRET", SECRET)
            .list(&[OPERATION])
            .start();
        let folder = daemon.setup().folder();
        for name in ["deploy", "docs"] {
            symlink(root().join(name), folder.join(name)).unwrap();
        }
        for name in ["share/bash-completion/completions", "share/man/man1", "bin"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        symlink(
            env!("CARGO_BIN_EXE_backfill-watch"),
            folder.join("bin/backfill-watch"),
        )
        .unwrap();
        // Installing takes minutes; what it installs is there.
        let cargo = folder.join("bin/cargo");
        fs::write(&cargo, "#!/bin/sh\n[ \"$*\" = 'install --path .' ]\n").unwrap();
        fs::set_permissions(&cargo, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let systemctl = folder.join("bin/systemctl");
        fs::write(&systemctl, "#!/bin/sh\n[ \"$*\" = daemon-reload ]\n").unwrap();
        fs::set_permissions(&systemctl, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let address = daemon.address().await.to_string();
        daemon.event_of(OPERATION, "operation.succeeded").await;
        Self {
            simulator,
            receiver,
            daemon,
            address,
            slow_operations: 0,
        }
    }

    /// The commands as they are run: with a key and a secret that exist, this daemon's address, and paths in the folder.
    fn adapted(&self, block: &str) -> String {
        let folder = self.daemon.setup().folder().display();
        block
            .replace("AMPERSAND_API_KEY=…", "AMPERSAND_API_KEY=simulated-key")
            .replace("whsec_…", SECRET)
            .replace("127.0.0.1:8464", &self.address)
            .replace("=/data/", &format!("={folder}/"))
            .replace("=/state\n", &format!("={folder}/sidecar\n"))
            .replace("./state", "./second-state")
            .replace("/usr/share/", &format!("{folder}/share/"))
            .replace("/etc/", &format!("{folder}/etc/"))
            .split_inclusive('\n')
            .map(|line| {
                // Otherwise it runs on.
                let is_endless = line.starts_with("backfill-watch run") && !line.contains("--until-done");
                let prefix = if is_endless {
                    "timeout --foreground --preserve-status 3 "
                } else {
                    ""
                };
                format!("{prefix}{line}")
            })
            .collect()
    }

    async fn stop(self) {
        self.daemon.stop().await;
        self.receiver.stop().await;
        self.simulator.stop().await;
    }

    /// Runs a block.
    async fn run(&mut self, page: &str, block: &str) {
        // Some commands need an operation that is running.
        self.slow_operations += 1;
        let id = format!("slow-{}", self.slow_operations);
        self.simulator
            .add(SimulatedOperation::new(id, Duration::from_secs(3), 100));
        let setup = self.daemon.setup();
        if block.contains("cat write-token") {
            // A block before it wrote the file. Otherwise the token applies some seconds later.
            assert!(setup.run("reload").await.status.success());
        }
        let folder = setup.folder();
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new("timeout");
        command
            .args(["60", "sh", "-euc", &self.adapted(block)])
            .current_dir(folder)
            .env_clear()
            .envs(setup.environment())
            .env("BACKFILL_WATCH_HTTP__LISTEN", "off")
            .env("PATH", format!("{}:{path}", folder.join("bin").display()))
            .env("HOME", folder)
            .stdin(Stdio::null());
        if !block.contains("crm-sync") {
            command.env_remove("BACKFILL_WATCH_WEBHOOKS__0__NAME");
            command.env_remove("BACKFILL_WATCH_WEBHOOKS__0__URL");
        }
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        assert!(
            output.status.success(),
            "{page}: {}\n{block}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[tokio::test]
async fn every_block_of_commands_works() {
    for tool in ["curl", "openssl", "timeout"] {
        if Command::new(tool).arg("--version").output().is_err() {
            return skip(&format!("{tool} is missing; apt-get install {tool}")).unwrap_or_default();
        }
    }
    let mut ran = 0;
    for page in pages() {
        let is_run_here = |block: &String| OTHER_BLOCKS.iter().all(|(text, _)| !block.contains(text));
        let blocks: Vec<String> = blocks(&page).into_iter().filter(is_run_here).collect();
        if blocks.is_empty() {
            continue;
        }
        let mut workplace = Workplace::new().await;
        for block in blocks {
            workplace.run(&page, &block).await;
            ran += 1;
        }
        workplace.stop().await;
    }
    assert!(ran > 15, "{ran}");
}

#[tokio::test]
async fn every_metric_is_documented() {
    let workplace = Workplace::new().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/metrics", workplace.address);
    let metrics = client.get(url).send().await.unwrap().text().await.unwrap();
    let page = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names: Vec<&str> = types
        .filter_map(|line| line.split(' ').next())
        .filter(|name| name.starts_with("backfill_watch_"))
        .collect();
    assert!(names.len() > 25, "{names:?}");
    for name in names {
        let is_documented = [format!("`{name}`"), format!("`{name}{{")]
            .iter()
            .any(|form| page.contains(form));
        assert!(is_documented, "{name} is not in docs/metrics.md");
    }
    workplace.stop().await;
}

#[test]
fn commands_that_are_not_run_here_are_run_elsewhere() {
    for (_, test) in OTHER_PAGES.iter().chain(&OTHER_BLOCKS) {
        // The package does not contain all of them.
        let is_there = root().join(test).exists() || !root().join(".ci").exists();
        assert!(is_there, "{test} is missing");
    }
    for (page, _) in OTHER_PAGES {
        for block in blocks(page) {
            let files = block
                .split_whitespace()
                .filter(|word| word.starts_with("deploy/"));
            for file in files.filter(|file| !file.contains("/secrets")) {
                assert!(root().join(file).exists(), "{page}: there is no {file}");
            }
        }
    }
}
