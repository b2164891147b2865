//! Accepts connections and limits their number, sizes and times.
//!
//! It drives hyper directly because `axum::serve` has no limits on headers and time and does not join its connections.
//! TCP and the control socket share this code.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client_socket::{ClientSocket, ClientStream};
use super::connection_slots::{ConnectionSlot, ConnectionSlots};
use super::pacing::{PacedBody, ResponsePacing};
use crate::core::connections::{ConnectionClass, ConnectionLimits};
use crate::error::chain;
use crate::open_files;

/// The size limit of request line and headers, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// As many headers as fit into that size, so that their number does not matter: the shortest is `a:` and a line end.
const MAX_HEADERS: usize = MAX_HEAD / 4;
/// The kernel's send buffer, in bytes: enough for a fast download over a long distance.
const SEND_BUFFER: usize = 64 * 1024;
/// What the kernel keeps for a client that does not read, in bytes.
const UNSENT: u32 = 8 * 1024;
/// The accept queue: enough for a burst of probes, scrapes and pages.
pub(super) const BACKLOG: i32 = 1_024;
/// The most connections that lost their slot and have not ended yet.
const LEAVING: usize = 16;
/// How long running responses may take when the daemon stops.
const CLOSING: Duration = Duration::from_secs(1);
/// The pause after a failed accept, most likely because file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time limits of a client.
struct ClientTimeouts {
    /// For the head of a request, from the end of the previous response.
    head: Duration,
    /// For reading any part of the response.
    reading: Duration,
}

impl ClientTimeouts {
    fn with(class: ConnectionClass) -> Self {
        let seconds = match class {
            ConnectionClass::Regular => 30,
            // New connections may need this slot.
            ConnectionClass::Reserved => 1,
        };
        Self {
            head: Duration::from_secs(seconds),
            reading: Duration::from_secs(seconds),
        }
    }
}

/// The daemon cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}; choose another address with http.listen, or \"off\"")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// A listening TCP socket.
#[derive(Debug)]
pub struct HttpListener {
    socket: TcpListener,
    address: SocketAddr,
    limits: ConnectionLimits,
}

impl HttpListener {
    /// Listens on `address`.
    ///
    /// # Errors
    /// When the address is in use or does not belong to this host.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        let socket = listen(address).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self {
            socket,
            address,
            limits: ConnectionLimits::within(open_files::limit()),
        })
    }

    /// The bound address, with the actual port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The most event streams at a time; the other half of the connections stays free.
    #[must_use]
    pub fn max_streams(&self) -> usize {
        self.limits.regular.div_ceil(2)
    }
}

impl Serve for HttpListener {
    async fn serve(self, pages: Router, closing: CancellationToken) {
        serve(self.socket, self.limits, pages, closing).await;
    }
}

/// A socket whose connections can be served.
pub trait Serve: Send {
    /// Serves `pages` until `closing`, then lets running responses end within a second.
    fn serve(self, pages: Router, closing: CancellationToken) -> impl Future<Output = ()> + Send;
}

/// A source of connections.
pub(super) trait Accept {
    /// A connection.
    type Stream: ClientStream + Send + 'static;

    /// Waits for the next connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = TcpListener::accept(self).await?;
        Ok(stream)
    }
}

/// Serves `pages` to the clients of `socket` until `closing`, then lets running responses end within a second.
pub(super) async fn serve<A: Accept>(
    socket: A,
    limits: ConnectionLimits,
    pages: Router,
    closing: CancellationToken,
) {
    let pages = TowerToHyperService::new(pages);
    let slots = ConnectionSlots::new(limits);
    let max = limits.regular + limits.reserved + LEAVING;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = closing.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = socket.accept(), if connections.len() < max => match accepted {
                Ok(stream) => {
                    let slot = admit(&slots, &mut connections).await;
                    let is_crowded = slot.class == ConnectionClass::Reserved;
                    connections.spawn(serve_one(stream, pages.clone(), slot, closing.clone()));
                    if is_crowded {
                        // Lets the request of this connection be read before the next connection is accepted.
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) => {
                    tracing::debug!(error = chain(&error), "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(socket);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(CLOSING, all).await.is_err() {
        connections.shutdown().await;
    }
}

/// Takes a slot for a new connection. Waits while all are busy; reserved ones are busy for a second at most.
async fn admit(slots: &ConnectionSlots, connections: &mut JoinSet<()>) -> ConnectionSlot {
    loop {
        if let Some(slot) = slots.admit() {
            return slot;
        }
        connections.join_next().await;
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Connections of the previous process may be in TIME_WAIT.
    socket.set_reuse_address(true)?;
    // Connections inherit the options of their listener.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    if socket.set_tcp_notsent_lowat(UNSENT).is_err() {
        // An old kernel: downloads are slower, but memory stays bounded.
        socket.set_send_buffer_size(UNSENT as usize)?;
    }
    // Otherwise small responses may wait for the client's delayed acknowledgement.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn serve_one<S: ClientStream>(
    stream: S,
    pages: TowerToHyperService<Router>,
    slot: ConnectionSlot,
    closing: CancellationToken,
) {
    let (class, address) = (slot.class, stream.address());
    let patience = ClientTimeouts::with(class);
    let pacing = ResponsePacing::new(slot);
    let service = service_fn(|mut request: Request<Incoming>| {
        let (pages, pacing) = (pages.clone(), Arc::clone(&pacing));
        async move {
            pacing.begin_request().await;
            request.extensions_mut().insert(class);
            request.extensions_mut().insert(address);
            let response = pages.call(request).await?;
            Ok::<_, Infallible>(response.map(|body| PacedBody::new(body, pacing)))
        }
    });
    let socket = ClientSocket::new(stream, patience.reading, Arc::clone(&pacing));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_HEAD)
        .keep_alive(class == ConnectionClass::Regular)
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    let mut is_closing = false;
    loop {
        tokio::select! {
            // hyper answers protocol errors itself.
            _ = &mut connection => return,
            () = pacing.slot().displaced.cancelled() => return,
            () = closing.cancelled(), if !is_closing => {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
