//! Detects whether a request opened a connection or reused one.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

tokio::task_local! {
    /// Whether the request of this scope opened a connection.
    static HAS_OPENED: Cell<bool>;
}

/// Runs `request`. Returns also whether it opened a connection.
pub(super) async fn run_and_detect<F: Future>(request: F) -> (F::Output, bool) {
    HAS_OPENED
        .scope(Cell::new(false), async {
            let output = request.await;
            (output, HAS_OPENED.with(Cell::get))
        })
        .await
}

/// Records each opened connection. A connection that is opened for the pool belongs to no request.
#[derive(Debug, Clone, Copy)]
pub(super) struct DetectConnections;

impl<S> Layer<S> for DetectConnections {
    type Service = Connect<S>;

    fn layer(&self, inner: S) -> Connect<S> {
        Connect(inner)
    }
}

/// Opens connections.
#[derive(Debug, Clone)]
pub(super) struct Connect<S>(S);

impl<S, R> Service<R> for Connect<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, target: R) -> Self::Future {
        let opening = self.0.call(target);
        Box::pin(async move {
            let opened = opening.await?;
            let _ = HAS_OPENED.try_with(|has_opened| has_opened.set(true));
            Ok(opened)
        })
    }
}
