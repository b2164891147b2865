//! A receiver that verifies signatures with an independent library, and keeps what it received and answered.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use backfill_watch::simulator::SeededRandom;
use hyper::body::Bytes;
use hyper::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::{Setup, until_within};

/// What is signed with.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// One message that came in.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its `webhook-id`.
    pub id: String,
    /// Its body.
    pub body: Value,
    /// Whether it was answered with a 2xx.
    pub accepted: bool,
}

impl Message {
    /// The operation it is about.
    pub fn operation(&self) -> &str {
        self.body["data"]["operationId"].as_str().unwrap_or_default()
    }

    /// Its place among the events of that operation.
    pub fn sequence(&self) -> u64 {
        self.body["data"]["sequence"].as_u64().unwrap()
    }

    /// The type of the event.
    pub fn event_type(&self) -> &str {
        self.body["type"].as_str().unwrap()
    }
}

#[derive(Debug)]
struct SharedState {
    chance: SeededRandom,
    failing: Mutex<f64>,
    /// A message that was refused so often is accepted.
    most_refusals: AtomicUsize,
    messages: Mutex<Vec<Message>>,
    /// Why messages were not verified.
    forged: Mutex<Vec<String>>,
}

/// An address that a receiver has, or will have: until it is opened, connections to it are refused.
#[derive(Debug)]
pub struct VerifyingReceiver {
    address: SocketAddr,
    state: Arc<SharedState>,
    closed: Option<TcpSocket>,
    open: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl VerifyingReceiver {
    /// A receiver that is down. What it answers at random depends on `seed`.
    pub fn closed(seed: u64) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Bound and not listening: nobody else gets the port, and nobody is let in.
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        Self {
            address: socket.local_addr().unwrap(),
            state: Arc::new(SharedState {
                chance: SeededRandom::new(seed),
                failing: Mutex::new(0.0),
                most_refusals: AtomicUsize::new(usize::MAX),
                messages: Mutex::default(),
                forged: Mutex::default(),
            }),
            closed: Some(socket),
            open: None,
        }
    }

    /// A receiver that accepts everything.
    pub fn open(seed: u64) -> Self {
        let mut inbox = Self::closed(seed);
        inbox.start();
        inbox
    }

    /// Begins to receive.
    pub fn start(&mut self) {
        let listener = self.closed.take().unwrap().listen(1024).unwrap();
        let app = Router::new()
            .route("/hook", post(receive))
            .with_state(Arc::clone(&self.state));
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = axum::serve(listener, app).with_graceful_shutdown(async {
            let _ = stopped.await;
        });
        let task = tokio::spawn(async move { serve.await.unwrap() });
        self.open = Some((stop, task));
    }

    /// From now on this part of all messages is answered with an error.
    pub fn fail(&self, part: f64) {
        *self.state.failing.lock().unwrap() = part;
    }

    /// A message that was answered with an error this often is accepted, since the waits grow.
    pub fn fail_each_at_most(&self, times: usize) {
        self.state.most_refusals.store(times, Ordering::Relaxed);
    }

    /// Makes this the webhook of a daemon, with all types of events.
    pub fn subscribe(&self, setup: Setup) -> Setup {
        setup
            .set("webhook.url", &format!("http://{}/hook", self.address))
            .set("webhook.name", "inbox")
            .set("webhook.events", "*")
            .variable("BACKFILL_WATCH_WEBHOOK_SECRET", SECRET)
    }

    /// Everything that came in.
    pub fn messages(&self) -> Vec<Message> {
        self.state.messages.lock().unwrap().clone()
    }

    /// How many messages came in.
    pub fn count(&self) -> usize {
        self.state.messages.lock().unwrap().len()
    }

    /// How many messages came in and were answered with a 2xx.
    pub fn accepted(&self) -> usize {
        let messages = self.state.messages.lock().unwrap();
        messages.iter().filter(|message| message.accepted).count()
    }

    /// Waits until so many messages were accepted, repeated ones included.
    pub async fn until_accepted(&self, count: usize) {
        until_within(LONG, &format!("{count} accepted messages"), || {
            self.accepted() >= count
        })
        .await;
    }

    /// All messages were signed correctly, repeated ones had the same body, and each operation's came in order.
    pub fn assert_verified_and_ordered(&self) {
        let forged = self.state.forged.lock().unwrap().clone();
        assert_eq!(forged, Vec::<String>::new());
        let mut bodies: BTreeMap<String, Value> = BTreeMap::new();
        let mut sequences: BTreeMap<String, u64> = BTreeMap::new();
        for message in self.messages() {
            let operation = message.operation().to_owned();
            if !operation.is_empty() {
                let before = sequences.insert(operation.clone(), message.sequence());
                let before = before.unwrap_or_default();
                assert!(
                    before <= message.sequence(),
                    "{operation}: {} came after {before}",
                    message.sequence()
                );
            }
            if let Some(before) = bodies.insert(message.id.clone(), message.body.clone()) {
                assert_eq!(before, message.body);
            }
        }
    }
}

/// Two rounds of retries, the second after half a minute, or a few pauses of an endpoint that failed.
pub const LONG: std::time::Duration = std::time::Duration::from_secs(240);

async fn receive(State(state): State<Arc<SharedState>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let verifier = standardwebhooks::Webhook::new(SECRET).unwrap();
    if let Err(error) = verifier.verify(&body, &headers) {
        state.forged.lock().unwrap().push(error.to_string());
    }
    let lucky = state.chance.next_f64() >= *state.failing.lock().unwrap();
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    let mut messages = state.messages.lock().unwrap();
    let refusals = messages
        .iter()
        .filter(|message| message.id == id && !message.accepted);
    let accepted = lucky || refusals.count() >= state.most_refusals.load(Ordering::Relaxed);
    messages.push(Message {
        id,
        body: serde_json::from_slice(&body).unwrap(),
        accepted,
    });
    drop(messages);
    if accepted {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    }
}
