//! Connections: how many there may be, how long they may take for what.
//!
//! It drives hyper itself instead of calling `axum::serve`, which has no limits on headers and time, and leaves its
//! connections to themselves when it ends.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::impatient::Impatient;
use crate::error::chain;

/// The most connections at a time: a thousand event streams, and as many others. A connection costs some 20 KiB.
const MAX_CONNECTIONS: usize = 2_048;
/// Request line and headers: a token and what a browser adds fit in many times over.
const MAX_HEADER_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// What is buffered of an answer for a connection.
const MAX_BUFFER: usize = 64 * 1024;
/// What the kernel keeps of an answer for a connection, in bytes.
const SEND_BUFFER: u32 = 256 * 1024;
/// Connections that wait to be accepted: as many as a burst of probes, scrapes and pages may bring.
const BACKLOG: u32 = 1_024;
/// How long a client may take for a request's headers, and idle between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may read nothing of what is sent to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// What answers under way get when the daemon stops.
const CLOSING: Duration = Duration::from_secs(1);
/// After a connection could not be accepted, for want of file descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The daemon cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}; choose another address with http.listen, or \"off\"")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// A socket that waits for connections.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    max_connections: usize,
}

/// Connections that have not made a request yet, the oldest first: where there are too many connections, these are
/// the ones that nobody misses.
#[derive(Debug, Clone, Default)]
struct Silent(Arc<Mutex<BTreeMap<u64, CancellationToken>>>);

impl Silent {
    fn map(&self) -> MutexGuard<'_, BTreeMap<u64, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the oldest. False if every connection has made a request.
    fn cut_oldest(&self) -> bool {
        let oldest = self.map().pop_first();
        oldest.is_some_and(|(_, cut)| {
            cut.cancel();
            true
        })
    }
}

impl Listener {
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
            max_connections: MAX_CONNECTIONS.min(open_files() / 2).max(16),
        })
    }

    /// Where it listens; with the port that was chosen if any was good.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Serves `pages` until `closing`, then gives the answers under way a moment.
    pub(super) async fn serve(self, pages: Router, closing: CancellationToken) {
        let pages = TowerToHyperService::new(pages);
        let silent = Silent::default();
        let mut connections = JoinSet::new();
        let mut number = 0;
        loop {
            tokio::select! {
                () = closing.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, _)) => {
                        // Over the limit by one for a moment: the one that was cut has yet to join.
                        if connections.len() >= self.max_connections && !silent.cut_oldest() {
                            continue;
                        }
                        number += 1;
                        let place = Place { number, silent: silent.clone() };
                        connections.spawn(serve_one(stream, pages.clone(), place, closing.clone()));
                    }
                    Err(error) => {
                        tracing::debug!(error = chain(&error), "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
        drop(self.socket);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSING, all).await.is_err() {
            connections.shutdown().await;
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Where connections of the daemon before still wait for their end.
    socket.set_reuseaddr(true)?;
    // Connections inherit it; else a thousand readers that read nothing could hold gigabytes in the kernel.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A connection's place among the silent ones, from which it is taken when it ends.
struct Place {
    number: u64,
    silent: Silent,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.silent.map().remove(&self.number);
    }
}

async fn serve_one(
    stream: TcpStream,
    pages: TowerToHyperService<Router>,
    place: Place,
    closing: CancellationToken,
) {
    // Without this, small answers may wait for the client's delayed acknowledgement.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let cut = CancellationToken::new();
    place.silent.map().insert(place.number, cut.clone());
    let service = service_fn(|request: Request<Incoming>| {
        place.silent.map().remove(&place.number);
        pages.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEADER_BYTES)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(Impatient::new(stream, WRITE_TIMEOUT)), service);
    tokio::pin!(connection);
    let mut is_closing = false;
    loop {
        tokio::select! {
            // What a client does wrong is answered by hyper, and none of the daemon's business.
            _ = &mut connection => return,
            () = cut.cancelled() => return,
            () = closing.cancelled(), if !is_closing => {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// How many files the process may open. Half of them is for polls, deliveries and the state.
fn open_files() -> usize {
    const UNKNOWN: usize = 1_024;
    std::fs::read_to_string("/proc/self/limits")
        .ok()
        .and_then(|limits| soft_limit(&limits))
        .unwrap_or(UNKNOWN)
}

fn soft_limit(limits: &str) -> Option<usize> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_found() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             1                    2                    processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(limits), Some(1024));
        assert_eq!(
            soft_limit("Max open files   unlimited unlimited files"),
            Some(usize::MAX)
        );
        assert_eq!(soft_limit("nothing"), None);
    }
}
