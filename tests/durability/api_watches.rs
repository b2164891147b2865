//! What was added over HTTP is there after a restart, and what was withdrawn is not.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::{SeededRandom, Simulator, SimulatorConfig};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::{DEADLINE, Daemon, Setup, report, until_answered};

const TOKEN: &str = "write-token-1";
const KILLS: u64 = 8;
/// The longest time that a daemon is written to before it is killed.
const LIFE: Duration = Duration::from_millis(300);
const OPERATIONS: u64 = 30;
/// Sets the seed, to bring a run back.
const SEED: &str = "BACKFILL_WATCH_TEST_SEED";

fn setup(simulator: &Simulator) -> Setup {
    let setup = Setup::new(simulator);
    let file = setup.folder().join("write-token");
    fs::write(&file, TOKEN).unwrap();
    let none: [&str; 0] = [];
    setup
        .set("http.listen", "127.0.0.1:0")
        .set("http.write_token_file", &file.display().to_string())
        .list(&none)
}

struct Api {
    client: Client,
    base: String,
}

impl Api {
    async fn of(daemon: &Daemon) -> Self {
        let builder = Client::builder().no_proxy().timeout(DEADLINE);
        Self {
            client: builder.build().unwrap(),
            base: format!("http://{}/api/operations/my-project", daemon.address().await),
        }
    }

    async fn send(&self, method: Method, id: &str, body: Option<&Value>) -> Result<u16, reqwest::Error> {
        let request = self.client.request(method, format!("{}/{id}", self.base));
        let request = request.bearer_auth(TOKEN);
        let request = match body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(body.to_string()),
            None => request,
        };
        Ok(request.send().await?.status().as_u16())
    }

    /// The label `turn` of a watch; `None` if it is not watched.
    async fn turn(&self, id: &str) -> Result<Option<String>, String> {
        let request = self.client.get(format!("{}/{id}", self.base)).bearer_auth(TOKEN);
        let response = request.send().await.map_err(|error| error.to_string())?;
        match response.status().as_u16() {
            404 => Ok(None),
            200 => {
                let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
                assert_eq!(body["source"], "api");
                Ok(Some(body["labels"]["turn"].as_str().unwrap().to_owned()))
            }
            status => Err(status.to_string()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_kills() {
    let seed = std::env::var(SEED).ok().map(|seed| seed.parse().unwrap());
    let seed = seed.unwrap_or_else(|| clock::wall().as_nanosecond() as u64);
    report(&format!("writes and kills: {SEED}={seed} brings this run back"));
    let chance = SeededRandom::new(seed);
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let mut setup = setup(&simulator);
    // What each operation can be: one value once it was answered, two if that is unknown.
    let mut possible: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    let (mut turn, mut answered) = (0_u64, 0_u64);
    for _ in 0..KILLS {
        let daemon = setup.start();
        // A slow start must not use up the life.
        daemon.message("started").await;
        let api = Api::of(&daemon).await;
        for (id, values) in &mut possible {
            let found = until_answered(&format!("{id} is one of {values:?}"), async || {
                let found = api.turn(id).await?;
                match values.contains(&found) {
                    true => Ok(found),
                    false => Err(format!("{found:?}")),
                }
            })
            .await;
            *values = vec![found];
        }
        let writing = async {
            loop {
                turn += 1;
                let id = format!("op-3600000-100-s-{}", chance.next_u64() % OPERATIONS);
                let values = possible.entry(id.clone()).or_insert_with(|| vec![None]);
                let next = (chance.next_f64() < 0.7).then(|| turn.to_string());
                // Until it is answered, either can be.
                values.push(next.clone());
                let status = match &next {
                    Some(turn) => {
                        let body = json!({"labels": {"turn": turn}});
                        api.send(Method::PUT, &id, Some(&body)).await
                    }
                    None => api.send(Method::DELETE, &id, None).await,
                };
                let Ok(status) = status else { break };
                if status == 503 {
                    // The daemon still starts. What it refuses it does not record.
                    values.pop();
                    continue;
                }
                assert!([200, 201, 204, 404].contains(&status), "{status}");
                answered += 1;
                *values = vec![next];
            }
        };
        let life = LIFE.mul_f64(chance.next_f64());
        // Nothing is waited for: that the instant is any is what is tested.
        let _ = tokio::time::timeout(life, writing).await;
        setup = daemon.kill().await;
    }
    // Otherwise nothing was put to the test.
    assert!(answered > KILLS * 2, "{answered}");
    let daemon = setup.start();
    let api = Api::of(&daemon).await;
    for (id, values) in &possible {
        until_answered(&format!("{id} is one of {values:?}"), async || {
            let found = api.turn(id).await?;
            match values.contains(&found) {
                true => Ok(()),
                false => Err(format!("{found:?}")),
            }
        })
        .await;
    }
    daemon.stop().await;
    report(&format!(
        "writes and kills: {answered} writes answered in {KILLS} lives"
    ));
}

#[tokio::test]
async fn a_restart_keeps_what_was_added_with_its_labels() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = setup(&simulator).start();
    let api = Api::of(&daemon).await;
    let (kept, removed) = ("op-2500-100-s-kept", "op-2500-100-s-removed");
    let body = json!({"labels": {"turn": "first"}, "deadline": "1h"});
    daemon.message("started").await;
    for id in [kept, removed] {
        assert_eq!(api.send(Method::PUT, id, Some(&body)).await.unwrap(), 201);
    }
    daemon.event_of(kept, "operation.started").await;
    assert_eq!(api.send(Method::DELETE, removed, None).await.unwrap(), 204);
    let daemon = daemon.stop().await.start();
    let succeeded = daemon.event_of(kept, "operation.succeeded").await;
    assert!(succeeded["labels"].to_string().contains("turn"), "{succeeded:?}");
    let api = Api::of(&daemon).await;
    assert_eq!(api.turn(kept).await.unwrap().as_deref(), Some("first"));
    assert_eq!(api.turn(removed).await.unwrap(), None);
    // The state, too, knows that it was added before.
    assert_eq!(api.send(Method::PUT, kept, Some(&body)).await.unwrap(), 200);
    daemon.stop().await;
}
