//! The status page in a real browser: headless Chromium, driven through WebDriver.
//!
//! Skipped where chromedriver is not installed, unless `CI` is set.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how the helpers of a test report that it failed"
)]

#[expect(
    dead_code,
    reason = "shared by several test programs, each of which uses a part"
)]
mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::{Simulator, SimulatorConfig};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use support::{DEADLINE, Daemon, Setup, skip};
use tempfile::TempDir;

/// A browser with one window.
struct Browser {
    driver: Driver,
    client: Client,
    session: String,
    plain: reqwest::Client,
    _profile: TempDir,
}

struct Driver {
    process: Child,
    url: String,
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Driver {
    fn start() -> Option<Self> {
        let started = Command::new("chromedriver")
            .args(["--port=0", "--log-level=SEVERE"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut process) = started else {
            return skip("chromedriver is not installed");
        };
        let output = BufReader::new(process.stdout.take().unwrap());
        let port = output
            .lines()
            .map_while(Result::ok)
            .find_map(|line| {
                let port = line.split_once("started successfully on port ")?.1;
                port.trim_end_matches('.').parse::<u16>().ok()
            })
            .expect("it logs its address");
        Some(Self {
            process,
            url: format!("http://127.0.0.1:{port}"),
        })
    }
}

impl Browser {
    async fn start() -> Option<Self> {
        let driver = Driver::start()?;
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,900",
        ];
        let profile_argument = format!("--user-data-dir={}", profile.path().display());
        let arguments: Vec<&str> = arguments.into_iter().chain([profile_argument.as_str()]).collect();
        let capabilities = json!({
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.as_object().unwrap().clone())
            .connect(&driver.url)
            .await
            .unwrap();
        let session = client.session_id().await.unwrap().unwrap();
        Some(Self {
            driver,
            client,
            session,
            plain: reqwest::Client::builder().no_proxy().build().unwrap(),
            _profile: profile,
        })
    }

    /// A command that only chromedriver knows.
    async fn command(&self, command: &str, body: &Value) -> Value {
        let url = format!("{}/session/{}/{command}", self.driver.url, self.session);
        let request = self.plain.post(url).body(body.to_string());
        let answer = request.send().await.unwrap().text().await.unwrap();
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        answer["value"].take()
    }

    /// New messages of the console.
    async fn console(&self) -> Vec<String> {
        let entries = self.command("se/log", &json!({"type": "browser"})).await;
        let entries = entries.as_array().unwrap();
        entries.iter().map(ToString::to_string).collect()
    }

    async fn emulate(&self, scheme: &str, width: u32, height: u32) {
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        for (command, parameters) in [
            ("Emulation.setEmulatedMedia", media),
            ("Emulation.setDeviceMetricsOverride", size),
        ] {
            let body = json!({"cmd": command, "params": parameters});
            self.command("goog/cdp/execute", &body).await;
        }
    }

    async fn ask(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// Repeats a script until its result is as expected.
    async fn until(&self, script: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = clock::instant() + DEADLINE;
        loop {
            let answer = self.ask(script).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(clock::instant() < deadline, "{script} tells {answer}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn rows(&self, count: u64) {
        self.until(
            "return document.querySelectorAll('#watches > li').length",
            |rows| *rows == count,
        )
        .await;
    }

    /// Replaces the text of a field.
    async fn fill(&self, field: &str, text: &str) {
        let field = self.client.find(Locator::Css(field)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    async fn click(&self, what: &str) {
        let what = self.client.find(Locator::Css(what)).await.unwrap();
        what.click().await.unwrap();
    }

    async fn close(self) {
        self.client.close().await.unwrap();
    }
}

struct Fixture {
    /// Runs as long as the daemon polls it.
    _simulator: Simulator,
    daemon: Daemon,
    url: String,
}

impl Fixture {
    async fn start(list: &[String]) -> Self {
        let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
        let daemon = Setup::new(&simulator)
            .set("http.listen", "127.0.0.1:0")
            .list(list)
            .start();
        let line = daemon
            .wait_for("the address of the pages", |line| line["address"].is_string())
            .await;
        let url = format!("http://{}/", line["address"].as_str().unwrap());
        Self {
            _simulator: simulator,
            daemon,
            url,
        }
    }
}

fn row(id: &str) -> String {
    format!("document.querySelector('li[data-id=\"{id}\"]')")
}

#[tokio::test]
async fn bars_move_filters_filter_and_what_failed_turns_red() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let fixture = Fixture::start(&[
        "op-60000-6000-s-1 customer=acme object=contact".to_owned(),
        "op-3000-900-f-2 customer=globex object=lead".to_owned(),
        "op-600000-6000-s-3 customer=<img/src=x>".to_owned(),
    ])
    .await;
    browser.client.goto(&fixture.url).await.unwrap();
    browser.rows(3).await;
    browser
        .until(
            "return document.getElementById('connection').dataset.state",
            |state| *state == "live",
        )
        .await;

    let value = format!(
        "return {}.querySelector('progress').value",
        row("op-60000-6000-s-1")
    );
    let before = browser.ask(&value).await.as_f64().unwrap();
    let after = browser
        .until(&value, |now| now.as_f64().unwrap() > before + 1.0)
        .await;
    assert!(after.as_f64().unwrap() < 100.0);
    let end = format!(
        "return {}.querySelector('.end').textContent",
        row("op-60000-6000-s-1")
    );
    browser
        .until(&end, |end| end.as_str().unwrap().starts_with("about "))
        .await;

    let phase = format!("return {}.dataset.phase", row("op-3000-900-f-2"));
    browser.until(&phase, |phase| *phase == "failed").await;
    let color = format!(
        "return getComputedStyle({}.querySelector('.phase-text')).color.match(/\\d+/g).map(Number)",
        row("op-3000-900-f-2")
    );
    let color = browser.ask(&color).await;
    let [red, green, blue] = [0, 1, 2].map(|part| color[part].as_u64().unwrap());
    assert!(red > 2 * green && red > 2 * blue, "{color}");
    // Failed operations come first, and the totals include them.
    let first = "return document.querySelector('#watches > li').dataset.id";
    browser.until(first, |id| *id == "op-3000-900-f-2").await;
    let headline = "return document.getElementById('headline').textContent";
    browser
        .until(headline, |text| *text == "2 running, 1 failed")
        .await;

    browser.fill("#text", "running ACME").await;
    browser.rows(1).await;
    browser.fill("#text", "no such thing").await;
    browser.rows(0).await;
    let empty = "return document.getElementById('empty').hidden";
    browser.until(empty, |hidden| *hidden == false).await;
    browser.fill("#text", " ").await;
    browser.rows(3).await;
    browser.fill("#label", "customer=globex").await;
    browser.rows(1).await;
    browser.fill("#label", " ").await;
    browser.rows(3).await;
    browser.click("#phases [data-phase=failed]").await;
    browser.rows(1).await;
    let pressed = "return document.querySelector('#phases [data-phase=failed]').ariaPressed";
    assert_eq!(browser.ask(pressed).await, "true");
    // A filter stays over a reload of the page.
    browser.client.refresh().await.unwrap();
    browser.rows(1).await;
    browser.click("#phases [data-phase=failed]").await;
    browser.rows(3).await;
    browser.ask("const sort = document.getElementById('sort'); sort.value = 'id'; sort.dispatchEvent(new Event('change'))").await;
    browser.until(first, |id| *id == "op-3000-900-f-2").await;
    let group_by = |label: &str| {
        format!(
            "const group = document.getElementById('group'); group.value = '{label}'; group.dispatchEvent(new Event('change'))"
        )
    };
    browser.ask(&group_by("customer")).await;
    browser.rows(6).await;
    let heads = "return [...document.querySelectorAll('.group')].map((head) => head.textContent.replace(/\\s+/g, ' ').trim())";
    let expected = json!(["globex 1 failed", "acme 1 running", "<img/src=x> 1 running"]);
    browser.until(heads, |heads| *heads == expected).await;
    browser.ask(&group_by("")).await;
    browser.rows(3).await;

    let unlabelled = "return [...document.querySelectorAll('progress, input, select, button')]\
         .filter((e) => !(e.ariaLabel || e.labels?.length || e.textContent.trim())).length";
    assert_eq!(browser.ask(unlabelled).await, 0);
    assert_eq!(
        browser
            .ask("return document.querySelectorAll('main img').length")
            .await,
        0
    );
    std::fs::write(fixture.daemon.list_path(), "op-60000-6000-s-1\n").unwrap();
    browser.rows(1).await;
    assert_eq!(browser.console().await, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test]
async fn a_lost_connection_is_shown_and_restored() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let fixture = Fixture::start(&["op-600000-6000-s-1".to_owned()]).await;
    browser.client.goto(&fixture.url).await.unwrap();
    browser.rows(1).await;
    let state = "return document.getElementById('connection').dataset.state";
    browser.until(state, |state| *state == "live").await;
    assert_eq!(browser.console().await, Vec::<String>::new());

    let setup = fixture.daemon.stop().await;
    browser.until(state, |state| *state == "lost").await;
    let notice = "return document.getElementById('notices').textContent";
    let notice = browser.ask(notice).await;
    assert!(notice.as_str().unwrap().contains("lost"), "{notice}");
    browser.rows(1).await;

    let address = fixture.url.trim_start_matches("http://").trim_end_matches('/');
    let daemon = setup
        .set("http.listen", address)
        .list(&["op-600000-6000-s-1", "op-600000-6000-s-2"])
        .start();
    browser.until(state, |state| *state == "live").await;
    browser.rows(2).await;
    let notices = "return document.getElementById('notices').childElementCount";
    browser.until(notices, |count| *count == 0).await;
    let all =
        "return [...document.querySelectorAll('li.watch')].every((row) => row.dataset.phase === 'running')";
    browser.until(all, |all| *all == true).await;
    // The browser itself logs refused connections, and the 503 of a daemon that starts. The page logs nothing.
    for entry in browser.console().await {
        assert!(
            (entry.contains("net::ERR_") || entry.contains("status of 503")) && entry.contains("\"network\""),
            "{entry}"
        );
    }
    drop(daemon);
    browser.close().await;
}

#[tokio::test]
async fn a_thousand_rows_change_in_place_and_fit_everywhere() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let list: Vec<String> = (0..1_000)
        .map(|n| match n % 50 {
            0 => format!("op-1000-900-f-{n:04} customer=acme"),
            1 => format!("op-1000-900-s-{n:04} customer=a-very-long-name-of-a-customer-{n} object=contact"),
            _ => format!("op-60000-90000-s-{n:04} customer=globex"),
        })
        .collect();
    let fixture = Fixture::start(&list).await;
    browser
        .client
        .goto(&format!("{}?sort=id", fixture.url))
        .await
        .unwrap();
    browser.rows(1_000).await;
    browser
        .until(
            "return document.querySelectorAll('li[data-phase=failed]').length",
            |count| *count == 20,
        )
        .await;

    // No row comes, goes or moves while all bars do.
    browser
        .ask(
            "window.moves = 0; window.changes = 0;\
             const list = document.getElementById('watches');\
             new MutationObserver((all) => { window.moves += all.length }).observe(list, { childList: true });\
             new MutationObserver((all) => { window.changes += all.length })\
               .observe(list, { subtree: true, attributes: true, attributeFilter: ['value'] });",
        )
        .await;
    browser
        .until("return window.changes", |changes| {
            changes.as_u64().unwrap() > 3_000
        })
        .await;
    assert_eq!(browser.ask("return window.moves").await, 0);

    for scheme in ["light", "dark"] {
        for (width, height) in [(1280, 900), (768, 1024), (360, 740)] {
            browser.emulate(scheme, width, height).await;
            let overflow =
                "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
            browser
                .until(overflow, |overflow| overflow.as_i64().unwrap() <= 0)
                .await;
        }
        let poor = browser.ask(CONTRAST).await;
        assert_eq!(poor, json!([]), "{scheme}");
    }
    assert_eq!(browser.console().await, Vec::<String>::new());
    browser.close().await;
}

/// Texts whose contrast to what is behind them is below that of WCAG AA.
const CONTRAST: &str = r"
const parts = (color) => { const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number); return { rgb: [r, g, b], a }; };
const light = (rgb) => rgb.map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (e) => { for (; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor); if (c.a === 1) return c.rgb; } return [255, 255, 255]; };
const poor = new Set();
let seen = 0;
for (const e of document.querySelectorAll('body *:not(option)')) {
  const text = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent.trim()).join('');
  if (!text || !e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })) continue;
  seen += 1;
  const [a, b] = [light(parts(getComputedStyle(e).color).rgb), light(behind(e))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) poor.add(`${e.className || e.tagName}: ${ratio.toFixed(2)}`);
}
return seen > 1000 ? [...poor] : [`only ${seen} texts were seen`];";
