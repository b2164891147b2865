//! Answers health probes while the daemon starts, then hands requests to the real routes.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use super::listener::Serve;
use super::plain;
use super::problem::Problem;

/// Answers probes until the routes are set. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct StartupRouter {
    pages: Arc<OnceLock<Router>>,
}

impl StartupRouter {
    /// Serves until `closing`, then lets running responses end within a second.
    pub async fn serve(self, listener: impl Serve, closing: CancellationToken) {
        let pages = self.pages;
        let router = Router::new().fallback(move |request: Request| {
            let pages = pages.get().cloned();
            async move {
                match pages {
                    Some(mut pages) => pages.call(request).await.into_response(),
                    None => starting(&request),
                }
            }
        });
        listener.serve(router, closing).await;
    }

    /// Sets the routes.
    pub fn set(&self, pages: Router) {
        // Set once, at the start.
        let _ = self.pages.set(pages);
    }
}

/// The process is alive while it reads the state, which may take long.
fn starting(request: &Request) -> Response {
    if request.uri().path() == "/livez" && request.method().is_safe() {
        return plain("alive\n");
    }
    let detail = "starting: the state is being read; try again in a few seconds";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response()
}
