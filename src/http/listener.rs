//! Connections: how many there may be, how long they may take for what.
//!
//! It drives hyper itself instead of calling `axum::serve`, which has no limits on headers and time, and leaves its
//! connections to themselves when it ends. TCP and the control socket are served by the same code.

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

/// Request line and headers: a token and what a browser adds fit in many times over.
const MAX_HEAD: usize = 32 * 1024;
/// As many as a head of that size can have, so that their number does not matter: the shortest is `a:` with its line end.
const MAX_HEADERS: usize = MAX_HEAD / 4;
/// What the kernel keeps of an answer that is on its way to a client, in bytes: enough for a fast download from afar.
const SEND_BUFFER: usize = 64 * 1024;
/// What the kernel keeps for a client that does not read, in bytes.
const UNSENT: u32 = 8 * 1024;
/// Connections that wait to be accepted: as many as a burst of probes, scrapes and pages may bring.
pub(super) const BACKLOG: i32 = 1_024;
/// Connections that lost their place and have yet to end, at most.
const LEAVING: usize = 16;
/// What answers under way get when the daemon stops.
const CLOSING: Duration = Duration::from_secs(1);
/// After a connection could not be accepted, for want of file descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client may take.
struct ClientTimeouts {
    /// For the head of a request, from the end of the answer before on.
    head: Duration,
    /// Without reading anything of what is sent to it.
    reading: Duration,
}

impl ClientTimeouts {
    fn with(place: ConnectionClass) -> Self {
        let seconds = match place {
            ConnectionClass::Regular => 30,
            // Others may wait for this place.
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

/// A socket that waits for connections.
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
    /// When the address is taken or not of this host.
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

    /// Where it listens; with the port that was chosen if any was good.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many event streams may be open at a time: others need connections, too.
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
    /// Serves `pages` until `closing`, then gives the answers under way a moment.
    fn serve(self, pages: Router, closing: CancellationToken) -> impl Future<Output = ()> + Send;
}

/// What connections come from.
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

/// Serves `pages` to the clients of `socket` until `closing`, then gives the answers under way a moment.
pub(super) async fn serve<A: Accept>(
    socket: A,
    limits: ConnectionLimits,
    pages: Router,
    closing: CancellationToken,
) {
    let pages = TowerToHyperService::new(pages);
    let places = ConnectionSlots::new(limits);
    let max = limits.regular + limits.reserved + LEAVING;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = closing.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = socket.accept(), if connections.len() < max => match accepted {
                Ok(stream) => {
                    let ticket = admit(&places, &mut connections).await;
                    let is_crowded = ticket.place == ConnectionClass::Reserved;
                    connections.spawn(serve_one(stream, pages.clone(), ticket, closing.clone()));
                    if is_crowded {
                        // So that a request that has come with its connection is seen before the next connection.
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) => {
                    tracing::debug!(error = chain(&error), "a connection could not be accepted");
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

/// A place for a new connection. Waits while all are busy: those of the reserved places are busy for a second at most.
async fn admit(places: &ConnectionSlots, connections: &mut JoinSet<()>) -> ConnectionSlot {
    loop {
        if let Some(ticket) = places.admit() {
            return ticket;
        }
        connections.join_next().await;
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Where connections of the daemon before still wait for their end.
    socket.set_reuse_address(true)?;
    // Connections inherit the options of their listener.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    if socket.set_tcp_notsent_lowat(UNSENT).is_err() {
        // An old kernel: slower downloads rather than more memory.
        socket.set_send_buffer_size(UNSENT as usize)?;
    }
    // Without this, small answers may wait for the client's delayed acknowledgement.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn serve_one<S: ClientStream>(
    stream: S,
    pages: TowerToHyperService<Router>,
    ticket: ConnectionSlot,
    closing: CancellationToken,
) {
    let place = ticket.place;
    let patience = ClientTimeouts::with(place);
    let pace = ResponsePacing::new(ticket);
    let service = service_fn(|mut request: Request<Incoming>| {
        let (pages, pace) = (pages.clone(), Arc::clone(&pace));
        async move {
            pace.begin_request().await;
            request.extensions_mut().insert(place);
            let response = pages.call(request).await?;
            Ok::<_, Infallible>(response.map(|body| PacedBody::new(body, pace)))
        }
    });
    let socket = ClientSocket::new(stream, patience.reading, Arc::clone(&pace));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_HEAD)
        .keep_alive(place == ConnectionClass::Regular)
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    let mut is_closing = false;
    loop {
        tokio::select! {
            // What a client does wrong is answered by hyper, and none of the daemon's business.
            _ = &mut connection => return,
            () = pace.ticket().displaced.cancelled() => return,
            () = closing.cancelled(), if !is_closing => {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
