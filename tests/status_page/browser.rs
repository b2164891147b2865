//! A browser with one window.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use backfill_watch::clock;
use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{DEADLINE, skip};

/// A browser with one window. It is skipped where there is none.
pub struct Browser {
    driver: Driver,
    pub client: Client,
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
    pub async fn start() -> Option<Self> {
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
    pub async fn command(&self, command: &str, body: &Value) -> Value {
        let url = format!("{}/session/{}/{command}", self.driver.url, self.session);
        let request = self.plain.post(url).body(body.to_string());
        let answer = request.send().await.unwrap().text().await.unwrap();
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        answer["value"].take()
    }

    /// New messages of the console.
    pub async fn console(&self) -> Vec<String> {
        let entries = self.command("se/log", &json!({"type": "browser"})).await;
        let entries = entries.as_array().unwrap();
        entries.iter().map(ToString::to_string).collect()
    }

    /// A command of the DevTools protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command("goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
            .await
    }

    /// Sets the colour scheme and the size of the window.
    pub async fn emulate(&self, scheme: &str, width: u32, height: u32) {
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.devtools("Emulation.setEmulatedMedia", media).await;
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    pub async fn ask(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// Repeats a script until its result is as expected.
    pub async fn until(&self, script: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = clock::instant() + DEADLINE;
        loop {
            let answer = self.ask(script).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(clock::instant() < deadline, "{script} returns {answer}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the texts of all elements of a selector are these.
    pub async fn texts(&self, selector: &str, wanted: &[&str]) {
        let script = format!(
            "return [...document.querySelectorAll(\"{selector}\")].map((found) => found.textContent.replace(/\\s+/g, ' ').trim())"
        );
        self.until(&script, |texts| *texts == json!(wanted)).await;
    }

    /// Waits until the text of an element contains this.
    pub async fn contains(&self, selector: &str, part: &str) {
        let script = format!("return document.querySelector(\"{selector}\")?.textContent ?? ''");
        self.until(&script, |text| text.as_str().unwrap().contains(part))
            .await;
    }

    /// Waits until the text of an element does not contain this.
    pub async fn lacks(&self, selector: &str, part: &str) {
        let script = format!("return document.querySelector(\"{selector}\")?.textContent ?? ''");
        self.until(&script, |text| !text.as_str().unwrap().contains(part))
            .await;
    }

    /// Waits until there are so many elements of a selector.
    pub async fn count(&self, selector: &str, wanted: u64) {
        let script = format!("return document.querySelectorAll(\"{selector}\").length");
        self.until(&script, |count| *count == wanted).await;
    }

    /// Waits until the page is connected and has loaded the list.
    pub async fn live(&self) {
        self.until(
            "return document.getElementById('connection')?.dataset.state === 'live' \
               && document.body.dataset.state !== 'loading' && document.getElementById('loading').hidden",
            |live| *live == true,
        )
        .await;
    }

    /// Waits until the title of the page is this.
    pub async fn title(&self, wanted: &str) {
        self.until("return document.title", |title| *title == wanted)
            .await;
    }

    /// Waits until the icon of the tab is this file.
    pub async fn favicon(&self, wanted: &str) {
        self.until(
            "return document.getElementById('favicon').getAttribute('href')",
            |icon| *icon == wanted,
        )
        .await;
    }

    /// Replaces the text of a field.
    pub async fn fill(&self, field: &str, text: &str) {
        let field = self.client.find(Locator::Css(field)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Chooses an option by its value.
    pub async fn choose(&self, field: &str, value: &str) {
        let script = format!(
            "const field = document.querySelector('{field}'); field.value = '{value}'; field.dispatchEvent(new Event('change'))"
        );
        self.ask(&script).await;
    }

    /// Clicks an element. It is found again where the page has just replaced it.
    pub async fn click(&self, what: &str) {
        let deadline = clock::instant() + DEADLINE;
        loop {
            let clicked = match self.client.find(Locator::Css(what)).await {
                Ok(found) => found.click().await,
                Err(missing) => Err(missing),
            };
            let Err(error) = clicked else { return };
            assert!(clock::instant() < deadline, "{what}: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Presses a key in the element that has the focus.
    pub async fn press(&self, key: Key) {
        self.type_text(&char::from(key).to_string()).await;
    }

    pub async fn type_text(&self, text: &str) {
        let focused = self.client.active_element().await.unwrap();
        focused.send_keys(text).await.unwrap();
    }

    /// What axe, whose source is `script`, finds in the page.
    pub async fn axe(&self, script: &str) -> Value {
        self.ask(&format!("{script}; return 0")).await;
        let run = "const done = arguments[arguments.length - 1]; axe.run().then((result) => done(result.violations.map(\
             (found) => `${found.id}: ${found.nodes.slice(0, 3).map((node) => node.html.slice(0, 200)).join(' ')}`)))";
        self.client.execute_async(run, Vec::new()).await.unwrap()
    }

    pub async fn close(self) {
        self.client.close().await.unwrap();
    }
}
