//! An API that answers some operations as it should, and misbehaves for others as configured.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What is done to a request for an operation whose ID begins with `bad`.
#[derive(Clone)]
pub enum Behavior {
    /// These bytes, then the end of the connection.
    Close(Vec<u8>),
    /// What this makes of what is asked for (the part of the path after `operations/`), then the end of the connection.
    Respond(fn(&str) -> Vec<u8>),
    /// An ordinary answer, and the end of the connection when another request comes on it.
    Stale,
    /// These bytes, then nothing more.
    Hang(Vec<u8>),
    /// These bytes, then a space each second.
    Trickle(Vec<u8>),
    /// These bytes, then others again and again, up to 4 GiB.
    Flood(Vec<u8>, Vec<u8>),
    /// An ordinary answer on a connection that is kept and from then on answers nothing, as one whose other end
    /// went away without a word.
    Unresponsive,
}

/// What is done to a connection before anything is read from it.
#[derive(Clone)]
pub enum Greeting {
    /// HTTP without TLS.
    Plain,
    /// TLS, but for every other connection, which stalls in the handshake.
    StallingTls(TlsAcceptor),
}

#[derive(Default)]
struct SharedState {
    act: Mutex<Option<Behavior>>,
    ended: Mutex<BTreeSet<String>>,
    polls: Mutex<BTreeMap<String, u64>>,
    sent: Mutex<u64>,
}

/// The API. Dropping it ends all of its connections.
pub struct HostileApi {
    pub address: SocketAddr,
    state: Arc<SharedState>,
    task: JoinHandle<()>,
}

impl HostileApi {
    /// Listens on loopback.
    pub async fn start(act: Behavior) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), Some(act), Greeting::Plain).await
    }

    /// Listens there.
    pub async fn start_at(address: SocketAddr, act: Option<Behavior>, greeting: Greeting) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(SharedState::default());
        *state.act.lock().unwrap() = act;
        let at_desk = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            for number in 0_u64.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (state, greeting) = (Arc::clone(&at_desk), greeting.clone());
                connections.spawn(greet(stream, state, greeting, number % 2 == 1));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, state, task }
    }

    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// From now on this is done.
    pub fn act(&self, act: Behavior) {
        *self.state.act.lock().unwrap() = Some(act);
    }

    /// From now on every operation is answered as it should be.
    pub fn heal(&self) {
        *self.state.act.lock().unwrap() = None;
    }

    /// The operation has succeeded.
    pub fn end(&self, operation: &str) {
        self.state.ended.lock().unwrap().insert(operation.to_owned());
    }

    /// How often an operation was asked for.
    pub fn polls(&self, operation: &str) -> u64 {
        self.state
            .polls
            .lock()
            .unwrap()
            .get(operation)
            .copied()
            .unwrap_or(0)
    }

    /// How many bytes of floods went into the network.
    pub fn flooded(&self) -> u64 {
        *self.state.sent.lock().unwrap()
    }
}

impl Drop for HostileApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn greet(stream: TcpStream, state: Arc<SharedState>, greeting: Greeting, odd: bool) {
    match greeting {
        Greeting::Plain => converse(stream, &state).await,
        Greeting::StallingTls(_) if odd => hang(stream).await,
        Greeting::StallingTls(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                converse(stream, &state).await;
            }
        }
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, state: &SharedState) {
    let Some(id) = read_request(&mut stream, state).await else {
        return;
    };
    let act = state
        .act
        .lock()
        .unwrap()
        .clone()
        .filter(|_| id.starts_with("bad"));
    match act {
        None => {
            let _ = stream
                .write_all(&ordinary(state, &id, "connection: close\r\n"))
                .await;
            let _ = stream.shutdown().await;
        }
        Some(Behavior::Close(bytes)) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Some(Behavior::Respond(response)) => {
            let _ = stream.write_all(&response(&id)).await;
            let _ = stream.shutdown().await;
        }
        Some(Behavior::Stale) => {
            let _ = stream.write_all(&ordinary(state, &id, "")).await;
            let _ = read_request(&mut stream, state).await;
        }
        Some(Behavior::Hang(bytes)) => {
            let _ = stream.write_all(&bytes).await;
            hang(stream).await;
        }
        Some(Behavior::Trickle(bytes)) => {
            let _ = stream.write_all(&bytes).await;
            let mut second = tokio::time::interval(Duration::from_secs(1));
            while stream.write_all(b" ").await.is_ok() {
                second.tick().await;
            }
        }
        Some(Behavior::Flood(bytes, more)) => {
            const FLOOD: u64 = 4 * 1024 * 1024 * 1024;
            let _ = stream.write_all(&bytes).await;
            let mut sent = 0;
            while sent < FLOOD && stream.write_all(&more).await.is_ok() {
                sent += more.len() as u64;
                *state.sent.lock().unwrap() += more.len() as u64;
            }
        }
        Some(Behavior::Unresponsive) => {
            let _ = stream.write_all(&ordinary(state, &id, "")).await;
            let _ = read_request(&mut stream, state).await;
            hang(stream).await;
        }
    }
}

/// Sends nothing until the client disconnects.
async fn hang<S: AsyncRead + Unpin>(mut stream: S) {
    let mut heard = [0; 1024];
    while stream.read(&mut heard).await.is_ok_and(|length| length > 0) {}
}

/// Reads the head of a request, and returns the operation it asks for.
async fn read_request<S: AsyncRead + Unpin>(stream: &mut S, state: &SharedState) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let path = head.split(' ').nth(1)?;
    let id = path.split("/operations/").nth(1)?.to_owned();
    *state.polls.lock().unwrap().entry(id.clone()).or_default() += 1;
    Some(id)
}

fn ordinary(state: &SharedState, id: &str, headers: &str) -> Vec<u8> {
    let status = if state.ended.lock().unwrap().contains(id) {
        "success"
    } else {
        "in_progress"
    };
    ok(headers, &operation(id, status, ""))
}

/// The JSON of an operation, with more members.
pub fn operation(id: &str, status: &str, more: &str) -> String {
    format!(
        r#"{{"id":"{id}","projectId":"p","integrationId":"i","configId":"c","installationId":"n","actionType":"read","status":"{status}"{more}}}"#
    )
}

/// An answer of the usual kind, with more headers.
pub fn ok(headers: &str, body: &str) -> Vec<u8> {
    with_length(&format!("{HEAD}{headers}"), body)
}

/// An answer that begins so, with the right length.
pub fn with_length(head: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{head}content-length: {length}\r\n\r\n{body}").into_bytes()
}

/// The beginning of an answer's head.
pub const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
