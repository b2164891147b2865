//! The HTTP server of the simulated API and the receiver.
//!
//! It drives hyper directly because `axum::serve` does not join its connections, and a handler could not reset one.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::chain;
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running server. Dropping it stops it without waiting.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    stop: DropGuard,
    task: JoinHandle<()>,
}

/// The connection that a request came in on, found among the request's extensions.
#[derive(Debug, Clone, Default)]
pub(super) struct ClientConnection {
    reset: Arc<Notify>,
}

impl ClientConnection {
    /// Resets the connection; the calling handler is dropped.
    pub(super) async fn reset(&self) -> Infallible {
        self.reset.notify_one();
        std::future::pending().await
    }
}

impl Server {
    /// Serves `app` at `address`, which must be of the loopback interface.
    pub(super) async fn start(address: SocketAddr, app: Router) -> io::Result<Self> {
        if !address.ip().is_loopback() {
            let reason = format!("{address} is not a loopback address; choose one such as 127.0.0.1:0");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(accept(listener, app, stop.clone()));
        Ok(Self {
            address,
            stop: stop.drop_guard(),
            task,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and all connections, and waits until their tasks have ended.
    pub(super) async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!(error = chain(&error), "the simulated server failed");
        }
    }
}

async fn accept(listener: TcpListener, app: Router, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, app.clone()));
                }
                // Most likely out of file descriptors; some will be free soon.
                Err(error) => {
                    tracing::warn!(error = chain(&error), "the simulated server cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn serve(stream: TcpStream, app: Router) {
    // Otherwise small responses may wait for the client's delayed acknowledgement.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let client = ClientConnection::default();
    let app = TowerToHyperService::new(app);
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(client.clone());
        app.call(request)
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A client may leave at any time.
        _ = &mut connection => {}
        () = client.reset.notified() => {
            let stream = connection.into_parts().io.into_inner();
            if let Err(error) = stream.set_zero_linger() {
                tracing::warn!(error = chain(&error), "the simulated server cannot reset a connection and closes it instead");
            }
        }
    }
}
