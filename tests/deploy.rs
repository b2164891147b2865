//! The files in `deploy/` are accepted by the tools that read them, and name settings, metrics and commands that exist.
//!
//! A tool that is absent skips its test with a line; where `CI` is set, that is a failure.
#![expect(clippy::unwrap_used, reason = "helpers of tests report a failure by a panic")]

#[path = "support/help.rs"]
mod help;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use backfill_watch::config::{Environment, Overrides, Settings};
use help::{commands, help};
use serde_json::Value;

/// The names of SPEC 8, without `backfill_watch_`.
const METRICS: &[&str] = &[
    "operations",
    "attention",
    "polls_total",
    "poll_duration_seconds",
    "poll_lag_seconds",
    "poll_unusable_members_total",
    "gate_wait_seconds",
    "events_total",
    "webhook_deliveries_total",
    "webhook_backlog",
    "webhook_dead_letters",
    "webhook_oldest_pending_seconds",
    "webhook_delivery_delay_seconds",
    "watch_list_entries",
    "watch_list_rejected_lines",
    "watch_list_repeated_lines",
    "watch_list_last_reload_successful",
    "watch_list_last_reload_success_timestamp_seconds",
    "api_up",
    "api_credentials_valid",
    "state_writable",
    "state_damaged_rows",
    "attention",
    "log_lines_dropped_total",
    "config_last_reload_successful",
    "poller_restarts_total",
    "build_info",
    "operation_records_processed",
    "operation_progress_ratio",
];

/// The process metrics of Prometheus clients that are used here.
const PROCESS_METRICS: &[&str] = &[
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn deploy(path: &str) -> PathBuf {
    root().join("deploy").join(path)
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a tool; `None` when it is not there and need not be.
fn run(command: &mut Command, where_from: &str) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let program = command.get_program().display();
            assert!(
                std::env::var_os("CI").is_none(),
                "{program} is missing; {where_from}"
            );
            println!("skipped, since {program} is missing; {where_from}");
            None
        }
        Err(error) => panic!("cannot run {}: {error}", command.get_program().display()),
    }
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}: {}", output.status, text(output));
}

const SYSTEMD: &str = "apt-get install systemd";
const PROMETHEUS: &str = "apt-get install prometheus";
const KUBERNETES: &str = "pip install kubernetes-validate";
const COMPOSE: &str = "apt-get install docker-compose";

#[test]
fn systemd_accepts_the_unit() {
    // The unit names the installed binary, and every binary that it names has to be there.
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("backfill-watch.service");
    let text_of_unit = read(deploy("systemd/backfill-watch.service"));
    assert!(text_of_unit.contains("ExecStart=/usr/bin/backfill-watch run\n"));
    let local = text_of_unit.replace("/usr/bin/backfill-watch", env!("CARGO_BIN_EXE_backfill-watch"));
    std::fs::write(&unit, local).unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]).arg(&unit);
    if let Some(output) = run(&mut command, SYSTEMD) {
        assert_success(&output);
        assert_eq!(text(&output).trim(), "", "systemd has something to say");
    }
}

#[test]
fn the_unit_exposes_little() {
    let mut command = Command::new("systemd-analyze");
    command
        .args(["security", "--offline=true", "--no-pager", "--threshold=12"])
        .arg(deploy("systemd/backfill-watch.service"));
    if let Some(output) = run(&mut command, SYSTEMD) {
        assert_success(&output);
        let printed = text(&output);
        assert!(printed.contains("Overall exposure level"), "{printed}");
    }
}

#[test]
fn the_unit_keeps_the_promises_of_the_contract() {
    let unit = read(deploy("systemd/backfill-watch.service"));
    for line in [
        // systemd 252 knows no notify-reload.
        "Type=notify",
        "ExecReload=/usr/bin/backfill-watch reload",
        "RestartPreventExitStatus=2",
        "DynamicUser=yes",
        "StateDirectory=backfill-watch",
        // Without a path: a missing file is no error then.
        "LoadCredential=ampersand-api-key",
        "LoadCredential=webhook-secret",
        // 0 would be the journal's own limit in systemd 252.
        "LogRateLimitIntervalSec=1s",
        "LogRateLimitBurst=1000000",
    ] {
        assert!(unit.lines().any(|l| l == line), "{line} is missing");
    }
    assert!(unit.lines().any(|line| line.starts_with("WatchdogSec=")));
}

#[test]
fn prometheus_accepts_the_rules() {
    let mut command = Command::new("promtool");
    command
        .args(["check", "rules"])
        .arg(deploy("monitoring/alerts.yml"));
    if let Some(output) = run(&mut command, PROMETHEUS) {
        assert_success(&output);
    }
}

#[test]
fn every_alert_fires_and_ends() {
    let rules = read(deploy("monitoring/alerts.yml"));
    let tests = read(deploy("monitoring/alerts.test.yml"));
    for alert in alerts(&rules) {
        let fires = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"");
        assert!(tests.contains(&fires), "no test sees {alert} fire");
    }
    let mut command = Command::new("promtool");
    command
        .args(["test", "rules"])
        .arg(deploy("monitoring/alerts.test.yml"));
    if let Some(output) = run(&mut command, PROMETHEUS) {
        assert_success(&output);
    }
}

fn alerts(rules: &str) -> Vec<&str> {
    let alerts: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 6, "{alerts:?}");
    alerts
}

#[test]
fn the_rules_name_metrics_of_the_contract() {
    let rules = read(deploy("monitoring/alerts.yml"));
    let expressions = values_of(&rules, "expr");
    assert_eq!(expressions.len(), alerts(&rules).len());
    let mut named = BTreeSet::new();
    for expression in &expressions {
        named.extend(names_in(expression));
    }
    assert_metrics(&named);
    for wanted in [
        "operations",
        "api_up",
        "api_credentials_valid",
        "watch_list_rejected_lines",
    ] {
        assert!(
            named.contains(&format!("backfill_watch_{wanted}")),
            "no rule looks at {wanted}"
        );
    }
}

/// The values of a key of a YAML file, be each on the key's line or in a folded block below it.
fn values_of(yaml: &str, key: &str) -> Vec<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let head = format!("{key}: ");
    let mut lines = yaml.lines().peekable();
    let mut values = Vec::new();
    while let Some(line) = lines.next() {
        let Some(value) = line.trim().strip_prefix(&head) else {
            continue;
        };
        let mut value = value.trim_start_matches(">-").to_owned();
        while let Some(more) = lines.next_if(|next| indent(next) > indent(line)) {
            value = format!("{value} {}", more.trim());
        }
        values.push(value.trim().to_owned());
    }
    values
}

#[test]
fn the_alerts_name_commands_that_exist() {
    let rules = read(deploy("monitoring/alerts.yml"));
    let texts = values_of(&rules, "description");
    assert_eq!(texts.len(), alerts(&rules).len());
    let commands = commands();
    let mut checked = 0;
    for text in &texts {
        for (index, part) in text.split('`').enumerate() {
            if index % 2 == 1 {
                checked += usize::from(names_a_command_that_exists(part, &commands));
                continue;
            }
            // Otherwise nobody would look at it.
            let mut words = part.split("backfill-watch ").skip(1);
            let unmarked = words.find(|rest| commands.iter().any(|command| rest.starts_with(command)));
            assert!(unmarked.is_none(), "a command without back quotes: {text}");
        }
    }
    assert!(checked > 3, "{texts:?}");
}

/// Whether this is a call of the binary, whose command and options then have to exist.
fn names_a_command_that_exists(call: &str, commands: &[String]) -> bool {
    let mut words = call.split_whitespace();
    if words.next() != Some("backfill-watch") {
        return false;
    }
    let command = words.next().unwrap();
    assert!(commands.iter().any(|name| name == command), "{call:?}");
    let help = help(&[command]);
    let known: BTreeSet<_> = help
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .collect();
    for option in words.filter(|word| word.starts_with('-')) {
        assert!(known.contains(option), "{command} has no {option}");
    }
    true
}

#[test]
fn every_kind_of_attention_raises_an_alert() {
    let rules = read(deploy("monitoring/alerts.yml"));
    let expression = values_of(&rules, "expr")
        .into_iter()
        .find(|expression| expression.contains("kind!~"))
        .unwrap();
    let others: Vec<_> = expression.split('"').nth(1).unwrap().split('|').collect();
    // These have alerts of their own, by this name and a metric of theirs.
    for (kind, alert) in [
        ("api_unreachable", "BackfillWatchApiDown"),
        ("credentials_rejected", "BackfillWatchCredentialsRejected"),
        ("operation_failed", "BackfillFailed"),
        ("operation_stalled", "BackfillStalled"),
        ("dead_letters", "BackfillWatchWebhookDeadLetters"),
        ("settings_rejected", "BackfillWatchConfigBroken"),
        ("watch_list_unreadable", "BackfillWatchListUnreadable"),
        ("watch_list_rejected_lines", "BackfillWatchListRejectedLines"),
        ("state_not_writable", "BackfillWatchStateNotWritable"),
        ("state_removed", "BackfillWatchStateRemoved"),
        ("state_damaged", "BackfillWatchStateDamaged"),
        ("poller_restarted", "BackfillWatchPollersCrash"),
    ] {
        assert!(others.contains(&kind), "{kind} raises two alerts");
        assert!(alerts(&rules).contains(&alert), "nothing is raised by {kind}");
    }
    assert_eq!(others.len(), 12, "{others:?}");
}

#[test]
fn the_dashboard_names_metrics_of_the_contract() {
    let dashboard: Value = serde_json::from_str(&read(deploy("monitoring/dashboard.json"))).unwrap();
    let mut expressions = Vec::new();
    strings_at(&dashboard, &["expr", "definition"], &mut expressions);
    assert!(expressions.len() > 20, "{expressions:?}");
    let mut named = BTreeSet::new();
    for expression in expressions {
        named.extend(names_in(expression));
    }
    assert_metrics(&named);
    // Everything there is to see without metrics.per_operation is on it.
    for metric in METRICS.iter().filter(|metric| !metric.starts_with("operation_")) {
        assert!(
            named.contains(&format!("backfill_watch_{metric}")),
            "the dashboard does not show {metric}"
        );
    }
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard: Value = serde_json::from_str(&read(deploy("monitoring/dashboard.json"))).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels share an ID");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(side("x") + side("w") <= 24, "{} is cut off", panel["title"]);
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(taken.insert((x, y)), "{} lies over another panel", panel["title"]);
            }
        }
        if panel["type"] != "row" {
            assert_ne!(panel["description"].as_str().unwrap(), "");
            assert_eq!(panel["datasource"]["uid"], "${datasource}");
        }
    }
}

/// The metrics that a `PromQL` expression names, those of a histogram by the histogram's name.
fn names_in(expression: &str) -> BTreeSet<String> {
    // Text in quotation marks is no name.
    let outside = expression.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    outside
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("backfill_watch_") || word.starts_with("process_"))
        .map(|name| name.strip_suffix("_bucket").unwrap_or(name).to_owned())
        .collect()
}

fn assert_metrics(named: &BTreeSet<String>) {
    for name in named {
        let known = name
            .strip_prefix("backfill_watch_")
            .is_some_and(|short| METRICS.contains(&short))
            || PROCESS_METRICS.contains(&name.as_str());
        assert!(known, "{name} is no metric of the contract");
    }
}

fn strings_at<'v>(value: &'v Value, keys: &[&str], found: &mut Vec<&'v str>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match member {
                    Value::String(text) if keys.contains(&key.as_str()) => found.push(text),
                    other => strings_at(other, keys, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| strings_at(item, keys, found)),
        _ => {}
    }
}

#[test]
fn kubernetes_accepts_the_manifests() {
    // Native sidecars came with the first of these.
    for version in ["1.29.0", "1.36.0"] {
        let mut command = Command::new("kubernetes-validate");
        command.args(["--strict", "--kubernetes-version", version]);
        for file in ["sidecar.yaml", "deployment.yaml"] {
            command.arg(deploy("kubernetes").join(file));
        }
        if let Some(output) = run(&mut command, KUBERNETES) {
            assert_success(&output);
        }
    }
}

#[test]
fn the_manifests_match_their_documentation() {
    let sidecar = read(deploy("kubernetes/sidecar.yaml"));
    let (watcher, application) = sidecar.split_once("\n      containers:\n").unwrap();
    assert!(watcher.contains("restartPolicy: Always"), "no native sidecar");
    assert!(watcher.contains("path: /livez"));
    assert!(
        !watcher.contains("readinessProbe:"),
        "the sidecar would take its pod out of service"
    );
    assert!(
        !watcher.contains("startupProbe:"),
        "the sidecar would hold up the application"
    );
    assert!(application.contains("emptyDir: {}"));
    // The list is named once, by a setting that the application's own manifest can change.
    assert!(watcher.contains("args: [run]\n") && watcher.contains("BACKFILL_WATCH_WATCH_LIST\n"));

    let deployment = read(deploy("kubernetes/deployment.yaml"));
    assert!(deployment.contains("type: Recreate"));
    assert!(deployment.contains("replicas: 1\n"));
    for path in ["/livez", "/readyz", "/metrics"] {
        assert!(deployment.contains(&format!("path: {path}\n")));
    }
    for manifest in [&sidecar, &deployment] {
        assert!(!manifest.contains("subPath:"), "it would never see a change");
        assert!(manifest.contains("readOnlyRootFilesystem: true"));
        assert!(manifest.contains("runAsNonRoot: true"));
        assert!(manifest.contains("prometheus.io/scrape: \"true\""));
        // Beyond loopback, where the kubelet asks.
        assert!(manifest.contains("0.0.0.0:8464"));
    }
}

/// What is between two markers, which are lines of the text.
fn between<'t>(text: &'t str, begin: &str, end: &str) -> &'t str {
    let (_, rest) = text
        .split_once(begin)
        .unwrap_or_else(|| panic!("{begin} is missing"));
    rest.split_once(end).unwrap().0
}

#[test]
fn the_settings_of_the_config_maps_are_settings() {
    let folder = tempfile::tempdir().unwrap();
    let here = |text: &str| text.replace("/etc/backfill-watch-secrets", folder.path().to_str().unwrap());
    let deployment = read(deploy("kubernetes/deployment.yaml"));
    let instructions = read(root().join("docs/kubernetes.md"));
    // As the projected volume lays them over each other; without --config that folder is fixed, so here they are one file.
    let of_release = here(&block(&deployment, "  config.toml: |"));
    let of_user = here(between(&instructions, "site.toml <<'SETTINGS'\n", "SETTINGS\n"));
    std::fs::write(folder.path().join("api-key"), "key\n").unwrap();
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";
    std::fs::write(folder.path().join("webhook-secret"), secret).unwrap();
    let of_user: toml::Table = of_user.parse().unwrap();
    let mut both: toml::Table = of_release.parse().unwrap();
    for (name, table) in of_user {
        let entry = both.entry(name).or_insert_with(|| toml::Table::new().into());
        entry
            .as_table_mut()
            .unwrap()
            .extend(table.as_table().unwrap().clone());
    }
    let file = folder.path().join("config.toml");
    std::fs::write(&file, both.to_string()).unwrap();
    let loaded = Settings::load(Some(&file), &Environment::default(), &Overrides::default())
        .unwrap_or_else(|errors| panic!("{errors}"));
    assert!(loaded.warnings.is_empty());
    assert_eq!(loaded.settings.webhooks.len(), 1);
    assert_eq!(loaded.settings.http.listen.unwrap().port(), 8464);
    assert!(deployment.contains("path: conf.d/site.toml"));
}

/// Every file below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn no_shipped_manifest_has_a_list_or_a_secret() {
    let manifests = files_below(&deploy("kubernetes"));
    assert!(manifests.len() > 2, "{manifests:?}");
    let compose = ["compose.yaml", "compose.simulated.yaml"].map(|file| deploy("container").join(file));
    for file in manifests.iter().chain(&compose) {
        let text = read(file);
        let is_yaml = file.extension().is_some_and(|extension| extension == "yaml");
        for line in text.lines().map(str::trim) {
            let shown = format!("{}: {line}", file.display());
            assert!(!is_yaml || line != "kind: Secret", "{shown}");
            assert!(
                !line.starts_with("stringData:") && !line.starts_with("watch.list:"),
                "{shown}"
            );
            // Only what makes a secret, no secret.
            let after = line.split("whsec_").skip(1);
            assert!(
                after.into_iter().all(|rest| rest.starts_with("$(openssl rand")),
                "{shown}"
            );
            assert!(!line.contains("api-key: ") || line.ends_with("-"), "{shown}");
        }
    }
}

/// The names after `NAME:` keys of manifests, with what the key is below.
fn names_of(yaml: &str, key: &str) -> BTreeSet<String> {
    let key = format!("{key}: ");
    let names = yaml
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(&key));
    names.map(str::to_owned).collect()
}

/// The kind and name of each object of a manifest.
fn objects(manifest: &str) -> BTreeSet<(String, String)> {
    manifest
        .split("\n---\n")
        .map(|object| {
            let after = |key: &str| {
                let line = object.lines().find_map(|line| line.strip_prefix(key));
                line.unwrap_or_else(|| panic!("{key} is missing")).to_owned()
            };
            (after("kind: "), after("  name: "))
        })
        .collect()
}

#[test]
fn releases_and_users_own_different_objects() {
    let instructions = read(root().join("docs/kubernetes.md"));
    let made: BTreeSet<(String, String)> = instructions
        .lines()
        .filter_map(|line| line.strip_prefix("kubectl create "))
        .map(|line| {
            let words: Vec<_> = line
                .split_whitespace()
                .filter(|word| *word != "generic")
                .collect();
            let kind = match words[0] {
                "configmap" => "ConfigMap",
                "secret" => "Secret",
                other => panic!("{other}"),
            };
            (kind.to_owned(), words[1].to_owned())
        })
        .collect();
    assert_eq!(made.len(), 3, "{made:?}");
    let deployment = read(deploy("kubernetes/deployment.yaml"));
    let sidecar = read(deploy("kubernetes/sidecar.yaml"));
    let shipped: BTreeSet<_> = objects(&deployment)
        .into_iter()
        .chain(objects(&sidecar))
        .collect();
    assert!(shipped.len() > 3, "{shipped:?}");
    let both: Vec<_> = shipped.intersection(&made).collect();
    assert!(both.is_empty(), "applying the files would change {both:?}");
    // What the manifests need is there: shipped, or made.
    for manifest in [&deployment, &sidecar] {
        let secrets = names_of(manifest, "secretName");
        assert!(!secrets.is_empty());
        for name in secrets {
            assert!(made.contains(&("Secret".to_owned(), name)));
        }
    }
    for (kind, name) in made.iter().filter(|(kind, _)| kind == "ConfigMap") {
        assert!(
            names_of(&deployment, "name").contains(name),
            "nothing uses {kind} {name}"
        );
    }
}

/// The text of a YAML block scalar that begins with the line `head`.
fn block(yaml: &str, head: &str) -> String {
    let indent = head.len() - head.trim_start().len() + 2;
    let lines: Vec<_> = yaml
        .lines()
        .skip_while(|line| *line != head)
        .skip(1)
        .take_while(|line| line.is_empty() || line.starts_with(&" ".repeat(indent)))
        .map(|line| line.get(indent..).unwrap_or_default())
        .collect();
    assert!(!lines.is_empty(), "{head} is missing");
    lines.join("\n") + "\n"
}

#[test]
fn the_environment_of_sidecar_and_compose_is_settings() {
    let folder = tempfile::tempdir().unwrap();
    let secret_file = folder.path().join("secret");
    std::fs::write(&secret_file, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    for file in [
        "kubernetes/sidecar.yaml",
        "container/compose.yaml",
        "container/compose.simulated.yaml",
    ] {
        let manifest = read(deploy(file));
        let mut lines = manifest
            .lines()
            .map(|line| line.trim().trim_start_matches("- name: "));
        let mut variables = vec![
            ("AMPERSAND_API_KEY".to_owned(), "key".to_owned()),
            (
                "BACKFILL_WATCH_AMPERSAND__PROJECT".to_owned(),
                "my-project".to_owned(),
            ),
            (
                "BACKFILL_WATCH_WEBHOOK_SECRET".to_owned(),
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
            ),
        ];
        while let Some(line) = lines.next() {
            if line.starts_with('#') || !line.starts_with("BACKFILL_WATCH_") {
                continue;
            }
            let (name, value) = match line.split_once(':') {
                Some((name, value)) => (name, value.trim()),
                None => (line, lines.next().unwrap().strip_prefix("value: ").unwrap()),
            };
            let value = value.trim_matches('"');
            if name.ends_with("_FILE") {
                variables.push((name.to_owned(), secret_file.display().to_string()));
            } else if !value.is_empty() && !value.starts_with("${") {
                variables.push((name.to_owned(), value.to_owned()));
            }
        }
        assert!(variables.len() > 3, "{file} sets nothing: {variables:?}");
        let environment = Environment::from_iter(variables);
        let overrides = Overrides {
            watch_list: Some(folder.path().join("watch.list")),
            ..Overrides::default()
        };
        // No settings file is there, as in the image.
        let loaded = Settings::load(None, &environment, &overrides)
            .unwrap_or_else(|errors| panic!("{file}: {errors}"));
        assert!(loaded.warnings.is_empty(), "{file}");
    }
}

#[test]
fn compose_accepts_the_example() {
    let mut command = Command::new("docker-compose");
    for file in ["compose.yaml", "compose.simulated.yaml"] {
        command.arg("--file").arg(deploy("container").join(file));
    }
    command.args(["config", "--quiet"]);
    command.env("BACKFILL_WATCH_SECRETS", "./simulated");
    if let Some(output) = run(&mut command, COMPOSE) {
        assert_success(&output);
    }
}

#[test]
fn compose_keeps_secrets_in_files_and_the_image_as_it_is() {
    let compose = read(deploy("container/compose.yaml"));
    let (watcher, _) = compose.split_once("\n  application:\n").unwrap();
    for line in [
        "secrets: [ampersand-api-key, webhook-secret]",
        "BACKFILL_WATCH_AMPERSAND__API_KEY_FILE: /run/secrets/ampersand-api-key",
        "BACKFILL_WATCH_WEBHOOK__SECRET_FILE: /run/secrets/webhook-secret",
        "test: [CMD, /usr/bin/backfill-watch, status, --check]",
        "user: \"65532:65532\"",
        "read_only: true",
    ] {
        assert!(
            watcher.lines().any(|of_file| of_file.trim() == line),
            "{line} is missing"
        );
    }
    // As environment variables, every process of the host's administrators and `docker inspect` show them.
    for name in ["AMPERSAND_API_KEY:", "WEBHOOK_SECRET:"] {
        let given = compose
            .lines()
            .any(|line| line.trim().ends_with(name) || line.contains(&format!("{name} ")));
        assert!(!given, "{name} is given in the environment");
    }
}

#[test]
fn the_image_has_no_root_and_no_shell() {
    let file = read(deploy("container/Dockerfile"));
    let (_, runtime) = file.split_once("\nFROM ${RUNTIME_IMAGE}\n").unwrap();
    assert!(file.contains("\nARG RUNTIME_IMAGE=scratch\n"));
    assert!(!runtime.contains("\nRUN "), "there is no shell to run it");
    let user = runtime
        .lines()
        .find_map(|line| line.strip_prefix("USER "))
        .unwrap();
    // A number: Kubernetes cannot check whether a name is root.
    assert!(user.split(':').all(|id| id.parse::<u32>().unwrap() > 0));
    for line in [
        r#"ENTRYPOINT ["/usr/bin/backfill-watch"]"#,
        r#"CMD ["/usr/bin/backfill-watch", "status", "--check"]"#,
    ] {
        assert!(runtime.contains(line), "{line} is missing");
    }
    let version = env!("CARGO_PKG_RUST_VERSION");
    assert!(
        file.contains(&format!("rust:{version}-")),
        "the image is built with another compiler than Cargo.toml names"
    );
}

#[test]
fn the_package_ships_what_is_there() {
    let manifest: toml::Table = read(root().join("Cargo.toml")).parse().unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let assets = deb["assets"].as_array().unwrap();
    assert!(!assets.is_empty());
    for asset in assets {
        let source = asset[0].as_str().unwrap();
        // deploy/debian/build makes these.
        let target = asset[1].as_str().unwrap();
        assert!(!target.starts_with("etc/"), "an upgrade would ask about {target}");
        if !source.starts_with("target/packaging/") {
            assert!(root().join(source).is_file(), "{source} is missing");
        }
    }
    assert!(deploy("systemd/backfill-watch.service").is_file());
}
