//! A simulator, a daemon that polls it and serves its pages, and a client.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use backfill_watch::simulator::{Simulator, SimulatorConfig};
use reqwest::{Client, Response};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{DEADLINE, Daemon, Setup, until_answered};

/// The secret of webhooks.
pub const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub struct Fixture {
    pub simulator: Simulator,
    pub daemon: Daemon,
    pub address: SocketAddr,
    pub client: Client,
}

impl Fixture {
    /// A daemon that watches these.
    pub async fn start(list: &[&str]) -> Self {
        Self::start_with(list, |setup| setup).await
    }

    /// A daemon that watches these, with more settings; it is ready.
    pub async fn start_with(list: &[&str], more: impl FnOnce(Setup) -> Setup) -> Self {
        let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
        let setup = Setup::new(&simulator)
            .set("http.listen", "127.0.0.1:0")
            .list(list);
        let daemon = more(setup).start();
        let address = daemon.address().await;
        let fixture = Self {
            simulator,
            daemon,
            address,
            client: client(),
        };
        fixture.ready().await;
        fixture
    }

    /// Waits until it is ready, also after a restart.
    pub async fn ready(&self) {
        self.daemon.address().await;
        until_answered("it is ready", async || match self.status("/readyz").await {
            200 => Ok(()),
            status => Err(status.to_string()),
        })
        .await;
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub async fn status(&self, path: &str) -> u16 {
        self.get(path).await.status().as_u16()
    }

    pub async fn text(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.text().await.unwrap()
    }

    pub async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path).await).unwrap()
    }

    /// Waits until the operation is in that phase.
    pub async fn phase(&self, id: &str, phase: &str) -> Value {
        until_answered(&format!("{id} is {phase}"), async || {
            let answer = self.get(&format!("/api/operations/{id}")).await;
            let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            if body["phase"] == phase {
                Ok(body)
            } else {
                Err(body.to_string())
            }
        })
        .await
    }

    /// Sends bytes as they are, and reads until the other end closes.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // It may be cut while it is written to.
        let _ = stream.write_all(bytes).await;
        read_to_end(&mut stream).await
    }
}

pub fn client() -> Client {
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(DEADLINE)
        .build()
        .unwrap()
}

/// What comes until the other end closes, be it in order or not.
pub async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    let _ = tokio::time::timeout(DEADLINE, reading)
        .await
        .expect("the connection is closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Checks that an answer is a problem of that status, and returns its text.
pub async fn problem(answer: Response, status: u16) -> String {
    assert_eq!(answer.status(), status);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(body["status"], status);
    body["detail"].as_str().unwrap().to_owned()
}

/// Settings in a file, so that a reload can change them, and the secret of webhooks in the file `secret` beside it.
pub fn in_file(setup: Setup, settings: &str) -> Setup {
    let file = setup.folder().join("config.toml");
    fs::write(&file, settings).unwrap();
    fs::write(setup.folder().join("secret"), format!("{WEBHOOK_SECRET}\n")).unwrap();
    let file = file.display().to_string();
    setup.arguments(&["--config", &file])
}

/// Reloads these settings from the file of [`in_file`].
pub fn reload(daemon: &Daemon, settings: &str) {
    fs::write(daemon.setup().folder().join("config.toml"), settings).unwrap();
    daemon.signal(&["HUP"]);
}

/// The state of one watch is no JSON any more.
pub fn damage_a_watch(state: &Path) {
    let database = rusqlite::Connection::open(state).unwrap();
    let sql = "UPDATE watches SET state = '{' WHERE rowid = (SELECT min(rowid) FROM watches)";
    assert_eq!(database.execute(sql, ()).unwrap(), 1);
}

/// No file of the daemon may grow beyond this.
pub fn limit_file_size(daemon: &Daemon, size: &str) {
    let (process, limit) = (daemon.id().to_string(), format!("--fsize={size}:"));
    let status = Command::new("prlimit").args(["--pid", &process, &limit]).status();
    assert!(status.unwrap().success());
}
