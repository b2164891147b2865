//! The status page, embedded so that it loads nothing from other hosts.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::header;
use axum::response::{Html, IntoResponse as _};
use axum::routing::get;

use super::HttpService;

static PAGE: LazyLock<String> =
    LazyLock::new(|| include_str!("status_page/page.html").replace("{{version}}", env!("CARGO_PKG_VERSION")));

/// The page and its assets.
pub(super) fn routes() -> Router<Arc<HttpService>> {
    Router::new()
        .route("/", get(async || Html(PAGE.as_str())))
        .merge(asset(
            "/page.css",
            "text/css; charset=utf-8",
            include_str!("status_page/page.css"),
        ))
        .merge(asset(
            "/page.js",
            "text/javascript; charset=utf-8",
            include_str!("status_page/page.js"),
        ))
        .merge(asset(
            "/favicon.svg",
            "image/svg+xml",
            include_str!("status_page/favicon.svg"),
        ))
}

fn asset(path: &str, content_type: &'static str, content: &'static str) -> Router<Arc<HttpService>> {
    let answer = async move || ([(header::CONTENT_TYPE, content_type)], content).into_response();
    Router::new().route(path, get(answer))
}
