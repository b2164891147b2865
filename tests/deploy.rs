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
use backfill_watch::core::attention::{AttentionKind, Severity};
use backfill_watch::core::phase::Phase;
use help::{commands, help};
use serde_json::Value;

/// The process metrics of Prometheus clients that are used here.
const PROCESS_METRICS: &[&str] = &[
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
];

/// The metrics of docs/metrics.md. `tests/documented_commands.rs` compares them with those that a daemon serves.
fn metrics() -> BTreeSet<String> {
    let mut names = names_in(&read(root().join("docs/metrics.md")));
    names.retain(|name| name.starts_with("backfill_watch_"));
    assert!(names.len() > 30, "{names:?}");
    names
}

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
    let tests = read(deploy("monitoring/alerts.test.yml"));
    for alert in alerts() {
        let name = &alert.name;
        let fires = match &alert.kind {
            Some(kind) => format!(
                "{{alertname=\"{name}\",kind=\"{kind}\",severity=\"{}\"}}",
                alert.severity
            ),
            None => format!(
                "ALERTS{{alertname=\"{name}\",alertstate=\"firing\",severity=\"{}\"",
                alert.severity
            ),
        };
        assert!(tests.contains(&fires), "no test sees {name} fire");
    }
    let mut command = Command::new("promtool");
    command
        .args(["test", "rules"])
        .arg(deploy("monitoring/alerts.test.yml"));
    if let Some(output) = run(&mut command, PROMETHEUS) {
        assert_success(&output);
    }
}

/// A rule of alerts.yml.
#[derive(Debug)]
struct Alert {
    name: String,
    expression: String,
    /// The kind of attention that it is about, if that is all it is about.
    kind: Option<String>,
    keeps_firing: bool,
    severity: String,
    runbook: String,
    page: Option<String>,
    summary: String,
    description: String,
}

fn alerts() -> Vec<Alert> {
    let rules = read(deploy("monitoring/alerts.yml"));
    let alerts: Vec<Alert> = rules.split("- alert: ").skip(1).map(alert).collect();
    assert!(alerts.len() > 30, "{alerts:?}");
    alerts
}

fn alert(rule: &str) -> Alert {
    let name = rule.lines().next().unwrap();
    let values = |key: &str| {
        let values = values_of(rule, key);
        assert!(values.len() <= 1, "{name} has {key} twice");
        values
            .into_iter()
            .next()
            .map(|value| value.trim_matches('"').to_owned())
    };
    let value = |key: &str| values(key).unwrap_or_else(|| panic!("{name} has no {key}"));
    let expression = value("expr");
    let kind = expression.strip_prefix("backfill_watch_attention{kind=\"");
    let kind = kind.and_then(|rest| rest.strip_suffix("\"} > 0"));
    Alert {
        name: name.to_owned(),
        kind: kind.map(str::to_owned),
        keeps_firing: values("keep_firing_for").is_some(),
        severity: value("severity"),
        runbook: value("runbook_url"),
        page: values("page"),
        summary: value("summary"),
        description: value("description"),
        expression,
    }
}

#[test]
fn every_kind_of_attention_has_one_alert_with_runbook_and_test() {
    let alerts = alerts();
    let runbooks = read(root().join("docs/alerts.md"));
    for kind in AttentionKind::ALL {
        let of_kind = |alert: &&Alert| alert.kind.as_deref() == Some(kind.as_str());
        let mut of_kind = alerts.iter().filter(of_kind);
        let alert = of_kind
            .next()
            .unwrap_or_else(|| panic!("{} has no alert", kind.as_str()));
        assert!(of_kind.next().is_none(), "{} has two alerts", kind.as_str());
        // A restart of the daemon ends all of its series.
        assert!(alert.keeps_firing, "{} sends each restart", alert.name);
        assert_eq!(alert.severity, severity(kind), "{}", alert.name);
        let row = runbooks
            .lines()
            .find(|line| line.starts_with(&format!("| [`{}`]", alert.name)))
            .unwrap_or_else(|| panic!("{} is in no table of docs/alerts.md", alert.name));
        assert!(
            row.contains(&format!("| `{}` | {} |", kind.as_str(), alert.severity)),
            "{row}"
        );
    }
}

fn severity(kind: AttentionKind) -> &'static str {
    match kind.severity() {
        Severity::Error => "critical",
        Severity::Warning => "warning",
    }
}

#[test]
fn every_alert_is_complete() {
    for alert in alerts() {
        let name = &alert.name;
        assert!(
            ["critical", "warning"].contains(&alert.severity.as_str()),
            "{alert:?}"
        );
        assert_eq!(alert.runbook, format!("docs/alerts.md#{}", name.to_lowercase()));
        assert!(
            !alert.summary.is_empty() && !alert.summary.ends_with('.'),
            "{alert:?}"
        );
        let is_sentence = alert.description.ends_with(['.', '}']);
        assert!(is_sentence && alert.description.len() > 60, "{alert:?}");
        // A daemon that is down has no page, and one that is absent no address.
        let has_page = !["BackfillWatchDown", "BackfillWatchAbsent"].contains(&name.as_str());
        let page = alert.page.as_deref().unwrap_or_default();
        let path = page.strip_prefix("http://{{ $labels.instance }}/");
        assert_eq!(path.is_some(), has_page, "{alert:?}");
        if let Some(phase) = path.and_then(|path| path.strip_prefix("?phase=")) {
            assert!(
                Phase::ALL.iter().any(|known| known.as_str() == phase),
                "{alert:?}"
            );
        }
    }
}

#[test]
fn the_rules_name_metrics_of_the_contract() {
    let mut named = BTreeSet::new();
    for alert in alerts() {
        named.extend(names_in(&alert.expression));
    }
    assert_metrics(&named);
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
    let texts: Vec<String> = alerts().into_iter().map(|alert| alert.description).collect();
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

/// The panels of the dashboard that show something, those in folded rows too.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let rows = dashboard["panels"].as_array().unwrap();
    let inner = rows
        .iter()
        .flat_map(|row| row["panels"].as_array().into_iter().flatten());
    let panels: Vec<&Value> = rows
        .iter()
        .chain(inner)
        .filter(|panel| panel["type"] != "row")
        .collect();
    assert!(panels.len() > 30);
    panels
}

fn dashboard() -> Value {
    serde_json::from_str(&read(deploy("monitoring/dashboard.json"))).unwrap()
}

#[test]
fn the_dashboard_names_metrics_of_the_contract() {
    let dashboard = dashboard();
    let mut expressions = Vec::new();
    strings_at(&dashboard, &["expr", "definition"], &mut expressions);
    assert!(expressions.len() > 40, "{expressions:?}");
    let mut named = BTreeSet::new();
    for expression in expressions {
        named.extend(names_in(expression));
    }
    assert_metrics(&named);
    let missing: Vec<String> = metrics()
        .into_iter()
        .filter(|metric| !named.contains(metric))
        .collect();
    assert!(missing.is_empty(), "the dashboard does not show {missing:?}");
}

#[test]
fn the_dashboard_counts_errors_and_warnings_as_attention_does() {
    for (title, operator) in [("Errors", "!~"), ("Warnings", "=~")] {
        let dashboard = dashboard();
        let panel = panels(&dashboard)
            .into_iter()
            .find(|panel| panel["title"] == title)
            .unwrap();
        let expression = panel["targets"][0]["expr"].as_str().unwrap();
        let (_, kinds) = expression.split_once(&format!("kind{operator}\"")).unwrap();
        let warnings: BTreeSet<&str> = kinds.split('"').next().unwrap().split('|').collect();
        for kind in AttentionKind::ALL {
            let is_warning = kind.severity() == Severity::Warning;
            assert_eq!(
                warnings.contains(kind.as_str()),
                is_warning,
                "{title}: {}",
                kind.as_str()
            );
        }
    }
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard = dashboard();
    let rows = dashboard["panels"].as_array().unwrap();
    let inner = rows
        .iter()
        .flat_map(|row| row["panels"].as_array().into_iter().flatten());
    let all: Vec<&Value> = rows.iter().chain(inner).collect();
    let ids: BTreeSet<_> = all.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), all.len(), "two panels share an ID");
    let mut taken = BTreeSet::new();
    for panel in all {
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(side("x") + side("w") <= 24, "{} is cut off", panel["title"]);
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(taken.insert((x, y)), "{} lies over another panel", panel["title"]);
            }
        }
    }
    let variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        variables,
        [
            "datasource",
            "job",
            "instance",
            "project",
            "webhook",
            "group",
            "page"
        ]
    );
    let text = dashboard.to_string();
    for variable in variables {
        let forms = [
            format!("${variable}"),
            format!("${{{variable}}}"),
            format!("${{{variable}:"),
        ];
        assert!(
            forms.iter().any(|form| text.contains(form)),
            "nothing uses ${variable}"
        );
    }
    for panel in panels(&dashboard) {
        let defaults = &panel["fieldConfig"]["defaults"];
        for text in [&panel["title"], &panel["description"], &defaults["unit"]] {
            assert!(text.as_str().is_some_and(|text| !text.is_empty()), "{panel}");
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
        assert!(
            defaults["thresholds"]["steps"]
                .as_array()
                .is_some_and(|steps| !steps.is_empty())
        );
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{panel}");
        let filters = panel["targets"].to_string();
        assert!(
            filters.contains("$job") && filters.contains("$instance"),
            "{filters}"
        );
    }
}

#[test]
fn the_links_of_the_dashboard_lead_to_addresses_of_the_status_page() {
    let dashboard = dashboard();
    let mut links = Vec::new();
    strings_at(&dashboard, &["url"], &mut links);
    let mut kinds = BTreeSet::new();
    for link in links {
        let path = link.strip_prefix("${page}/").unwrap_or_else(|| panic!("{link}"));
        let (key, value) = path.split_once('=').unwrap_or((path, ""));
        kinds.insert(key);
        let is_known = match key {
            "" => true,
            "?phase" => {
                value == "${__field.labels.phase}" || Phase::ALL.iter().any(|phase| phase.as_str() == value)
            }
            "?q" => value == "${group:percentencode}",
            "?operation" => {
                value
                    == "${__field.labels.project:percentencode}/${__field.labels.operation_id:percentencode}"
            }
            _ => false,
        };
        assert!(is_known, "{link}");
    }
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        ["", "?operation", "?phase", "?q"]
    );
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
    let known = metrics();
    assert!(!named.is_empty());
    for name in named {
        let is_known = known.contains(name) || PROCESS_METRICS.contains(&name.as_str());
        assert!(is_known, "{name} is no metric of docs/metrics.md");
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
