//! A simulator, and a daemon that polls it and serves its page.

use backfill_watch::simulator::{Simulator, SimulatorConfig};

use crate::browser::Browser;
use crate::support::{Daemon, Setup};

pub struct Fixture {
    pub simulator: Simulator,
    pub daemon: Daemon,
    /// The address of the page.
    pub url: String,
}

impl Fixture {
    /// A daemon that watches these.
    pub async fn start<S: AsRef<str>>(list: &[S]) -> Self {
        Self::start_with(list, |setup| setup).await
    }

    /// A daemon that watches these, with more settings.
    pub async fn start_with<S: AsRef<str>>(list: &[S], more: impl FnOnce(Setup) -> Setup) -> Self {
        let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
        let setup = Setup::new(&simulator)
            .set("http.listen", "127.0.0.1:0")
            .list(list);
        let daemon = more(setup).start();
        let url = format!("http://{}/", daemon.address().await);
        Self {
            simulator,
            daemon,
            url,
        }
    }

    /// Opens the page at this address below its own, and waits until it is live.
    pub async fn open(&self, browser: &Browser, address: &str) {
        let url = format!("{}{address}", self.url);
        browser.client.goto(&url).await.unwrap();
        browser.live().await;
    }
}

/// Polls often, so that a state is reached soon.
pub fn poll_fast(setup: Setup) -> Setup {
    setup.set("poll.max_interval", "100ms")
}

/// The selector of an operation's row.
pub fn row(id: &str) -> String {
    format!("#body .row[data-id='{id}']")
}
