//! Everything that shows the attention list: the API, the metrics, `status`, the page and the alerts.

use std::fs;
use std::time::Duration;

use backfill_watch::core::attention::{AttentionKind, Severity};
use serde_json::Value;

use crate::browser::Browser;
use crate::fixture::Fixture;
use crate::prometheus_server::{Prometheus, is_installed};
use crate::status::status;
use crate::support::{DEADLINE, until_answered, until_answered_within};

/// The deadline of an entry: some are listed after a minute.
const LONGEST: Duration = DEADLINE.saturating_mul(3);

/// The views of one daemon at a time.
pub struct Views {
    browser: Browser,
    prometheus: Prometheus,
}

impl Views {
    /// `None` where the browser or Prometheus is missing.
    pub async fn start(fixture: &Fixture) -> Option<Self> {
        if !is_installed() {
            return None;
        }
        let views = Self {
            browser: Browser::start().await?,
            prometheus: Prometheus::start(&[fixture.address]).await,
        };
        views.open(fixture).await;
        Some(views)
    }

    /// Shows another daemon.
    pub async fn turn_to(&self, fixture: &Fixture) {
        self.prometheus.scrape(&[fixture.address]);
        self.open(fixture).await;
    }

    async fn open(&self, fixture: &Fixture) {
        self.browser.client.goto(&fixture.url("/")).await.unwrap();
        self.browser.live().await;
    }

    /// Waits until every view shows an entry of this kind.
    pub async fn show(&mut self, fixture: &Fixture, kind: AttentionKind) -> Value {
        let name = kind.as_str();
        let entry = listed(fixture, kind).await;
        for member in ["since", "message", "action"] {
            assert!(!entry[member].as_str().unwrap().is_empty(), "{member} in {entry}");
        }
        let severity = match kind.severity() {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        assert_eq!(entry["severity"], severity);
        let is_counted = |count: f64| count >= 1.0;
        until_answered(&format!("{name} is counted"), async || {
            counted(fixture, kind, is_counted).await
        })
        .await;

        let shown = status(fixture, &["--strict"]).await;
        assert_eq!(shown.status.code(), Some(1), "{name}: {shown:?}");
        let text = crate::support::text(&shown.stdout);
        let words = fixed_words(entry["message"].as_str().unwrap());
        assert!(text.contains(&words), "{words} in\n{text}");
        assert!(text.contains(&severity.to_uppercase()), "{severity} in\n{text}");
        let has_error = entries(fixture)
            .await
            .iter()
            .any(|entry| entry["severity"] == "error");
        let code = status(fixture, &[]).await.status.code();
        assert_eq!(code, Some(i32::from(has_error)), "{name}");

        self.browser.contains("#attention-list", &words).await;
        self.prometheus.fires(name, &[&alert_of(kind)]).await;
        entry
    }

    /// Waits until no view shows an entry of this kind.
    pub async fn clear(&mut self, fixture: &Fixture, kind: AttentionKind, message: &Value) {
        let name = kind.as_str();
        until_answered(&format!("{name} is not listed"), async || {
            let entries = entries(fixture).await;
            match entries.iter().any(|entry| entry["kind"] == name) {
                true => Err(format!("{entries:?}")),
                false => Ok(()),
            }
        })
        .await;
        let is_zero = |count: f64| count == 0.0;
        until_answered(&format!("{name} is not counted"), async || {
            counted(fixture, kind, is_zero).await
        })
        .await;
        let words = fixed_words(message["message"].as_str().unwrap());
        // The table of webhooks may still name an error before the last success.
        let json = status(fixture, &["--json"]).await;
        let json: Value = serde_json::from_slice(&json.stdout).unwrap();
        let mut left = json["attention"].as_array().unwrap().iter();
        assert!(left.all(|entry| entry["kind"] != name), "{name} in {json}");
        self.browser.lacks("#attention-list", &words).await;
        self.prometheus.ends(&[&alert_of(kind)]).await;
    }

    pub async fn close(self) {
        self.browser.close().await;
    }
}

/// Waits for an entry of this kind.
async fn listed(fixture: &Fixture, kind: AttentionKind) -> Value {
    until_answered_within(LONGEST, &format!("{kind:?} is listed"), async || {
        let entries = entries(fixture).await;
        let found = entries.iter().find(|entry| entry["kind"] == kind.as_str());
        found.cloned().ok_or_else(|| format!("{entries:?}"))
    })
    .await
}

async fn entries(fixture: &Fixture) -> Vec<Value> {
    let list = fixture.json("/api/attention").await;
    list["attention"].as_array().unwrap().clone()
}

async fn counted(fixture: &Fixture, kind: AttentionKind, wanted: impl Fn(f64) -> bool) -> Result<(), String> {
    let series = format!("backfill_watch_attention{{kind=\"{}\"}} ", kind.as_str());
    let text = fixture.text("/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    let value: f64 = line.unwrap().parse().unwrap();
    if wanted(value) {
        Ok(())
    } else {
        Err(format!("{series}{value}"))
    }
}

/// Words of a message that do not change: without figures and commands.
fn fixed_words(message: &str) -> String {
    let is_fixed = |word: &&str| !word.contains(|c: char| c.is_ascii_digit() || c == '`');
    // The page starts a message with a capital letter.
    let words: Vec<&str> = message.split_whitespace().skip(1).collect();
    let part = words.split(|word| !is_fixed(word)).find(|part| part.len() > 1);
    let part = part.unwrap_or_else(|| panic!("no words in {message}"));
    part[..part.len().min(6)].join(" ")
}

/// The shipped alert of a kind.
fn alert_of(kind: AttentionKind) -> String {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/monitoring/alerts.yml");
    let rules = fs::read_to_string(rules).unwrap();
    let wanted = format!("kind=\"{}\"", kind.as_str());
    let mut alert = None;
    for line in rules.lines() {
        if let Some(name) = line.trim_start().strip_prefix("- alert: ") {
            alert = Some(name);
        } else if line.contains(&wanted) && line.contains("> 0") {
            return alert.unwrap().to_owned();
        }
    }
    panic!("no alert for {kind:?}");
}
