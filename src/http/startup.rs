//! What is served from the first moment on: probes while the daemon starts, then the pages.

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

/// Serves probes until there are pages. Clones share the pages.
#[derive(Debug, Clone, Default)]
pub struct StartupRouter {
    pages: Arc<OnceLock<Router>>,
}

impl StartupRouter {
    /// Serves until `closing`, then gives the answers under way a moment.
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

    /// The pages are there.
    pub fn set(&self, pages: Router) {
        // They are set once, by the start.
        let _ = self.pages.set(pages);
    }
}

/// The state may take long to check, and the process lives meanwhile.
fn starting(request: &Request) -> Response {
    if request.uri().path() == "/livez" && request.method().is_safe() {
        return plain("alive\n");
    }
    let detail = "starting: the state is being read; try again in some seconds";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response()
}
