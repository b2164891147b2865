//! A receiver on a raw socket, with answers that a test chooses.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backfill_watch::clock;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::DEADLINE;

/// One `POST` that came in.
#[derive(Debug, Clone)]
pub struct Callback {
    pub request_line: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub time: Instant,
}

impl Callback {
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn is_signed_with(&self, secret: &[u8]) -> bool {
        let verifier = standardwebhooks::Webhook::from_bytes(secret.to_vec()).unwrap();
        verifier.verify(&self.body, &self.headers).is_ok()
    }
}

/// What a receiver does with a callback.
pub enum Reply {
    /// These bytes, and the connection stays open.
    Bytes(String),
    /// The same after a while.
    After(Duration, String),
    /// These bytes, and then others without end.
    Endless(String),
    /// Nothing, until the client disconnects.
    Never,
    /// Nothing, and the connection is closed.
    Close,
}

pub fn status(status: u16) -> Reply {
    answer(status, "")
}

/// `headers` are lines, each with its line end.
pub fn answer(status: u16, headers: &str) -> Reply {
    Reply::Bytes(format!(
        "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n{headers}\r\n"
    ))
}

/// Gets the callback and how many came before it.
type Script = dyn Fn(usize, &Callback) -> Reply + Send + Sync;

/// A running receiver.
pub struct Receiver {
    pub url: String,
    state: Arc<SharedState>,
    task: JoinHandle<()>,
}

struct SharedState {
    script: Box<Script>,
    callbacks: Mutex<Vec<Callback>>,
    count: watch::Sender<usize>,
    open: AtomicUsize,
    most_open: AtomicUsize,
    /// The bytes that an endless answer got rid of before its connection was closed.
    endless: watch::Sender<Option<usize>>,
}

impl Receiver {
    pub async fn start(script: impl Fn(usize, &Callback) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(script, None).await
    }

    pub async fn start_with(
        script: impl Fn(usize, &Callback) -> Reply + Send + Sync + 'static,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/hook", listener.local_addr().unwrap());
        let state = Arc::new(SharedState {
            script: Box::new(script),
            callbacks: Mutex::default(),
            count: watch::Sender::new(0),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
            endless: watch::Sender::new(None),
        });
        let shared = state.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (state, tls) = (shared.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => state.converse(stream).await,
                        Some(tls) => state.converse(tls.accept(stream).await.ok()?).await,
                    }
                });
            }
        });
        Self { url, state, task }
    }

    /// All callbacks, in the order they came in.
    pub fn callbacks(&self) -> Vec<Callback> {
        self.state.callbacks.lock().unwrap().clone()
    }

    /// Their IDs.
    pub fn ids(&self) -> Vec<String> {
        self.callbacks()
            .iter()
            .map(|callback| callback.id().to_owned())
            .collect()
    }

    /// How many callbacks were unanswered at once at most.
    pub fn most_open(&self) -> usize {
        self.state.most_open.load(Ordering::SeqCst)
    }

    /// Waits until so many callbacks have come in.
    pub async fn received(&self, count: usize) {
        let mut counter = self.state.count.subscribe();
        let waited = tokio::time::timeout(DEADLINE, counter.wait_for(|so_far| *so_far >= count)).await;
        assert!(
            waited.is_ok(),
            "{count} callbacks were to come, but {:?} came",
            self.ids()
        );
    }

    /// Waits until an endless answer was cut off, and returns how many bytes were sent.
    pub async fn cut_off(&self) -> usize {
        let mut endless = self.state.endless.subscribe();
        let waited = tokio::time::timeout(DEADLINE, endless.wait_for(Option::is_some)).await;
        waited.unwrap().unwrap().unwrap()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SharedState {
    /// Answers callbacks on one connection until it is closed.
    async fn converse(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
        let mut buffer = Vec::new();
        loop {
            let callback = read_callback(&mut stream, &mut buffer).await?;
            let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_open.fetch_max(open, Ordering::SeqCst);
            let before = {
                let mut callbacks = self.callbacks.lock().unwrap();
                callbacks.push(callback.clone());
                callbacks.len() - 1
            };
            let reply = (self.script)(before, &callback);
            self.count.send_modify(|count| *count += 1);
            let bytes = match reply {
                Reply::Bytes(bytes) => bytes,
                Reply::After(wait, bytes) => {
                    tokio::time::sleep(wait).await;
                    bytes
                }
                Reply::Endless(bytes) => {
                    stream.write_all(bytes.as_bytes()).await.ok()?;
                    let mut written = 0;
                    while stream.write_all(&[b'x'; 4096]).await.is_ok() {
                        written += 4096;
                    }
                    self.endless.send_replace(Some(written));
                    return None;
                }
                Reply::Close => {
                    self.open.fetch_sub(1, Ordering::SeqCst);
                    return None;
                }
                Reply::Never => {
                    let _ = stream.read(&mut [0]).await;
                    return None;
                }
            };
            // Before the answer is written: the next callback may come before the next line runs.
            self.open.fetch_sub(1, Ordering::SeqCst);
            stream.write_all(bytes.as_bytes()).await.ok()?;
        }
    }
}

async fn read_callback(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<Callback> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
            let mut headers = HeaderMap::new();
            for line in head.lines().skip(1) {
                let (name, value) = line.split_once(": ").unwrap();
                headers.insert(
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                );
            }
            let length: usize = headers["content-length"].to_str().unwrap().parse().unwrap();
            let start = end + 4;
            if buffer.len() >= start + length {
                let body = buffer[start..start + length].to_vec();
                buffer.drain(..start + length);
                return Some(Callback {
                    request_line: head.lines().next().unwrap().to_owned(),
                    headers,
                    body,
                    time: clock::instant(),
                });
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
