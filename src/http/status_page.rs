//! The status page, embedded so that it loads nothing from other hosts.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::header;
use axum::response::{Html, IntoResponse as _};
use axum::routing::get;

use super::HttpService;

const SCRIPT: &str = "text/javascript; charset=utf-8";
const ICON: &str = "image/svg+xml";

/// A file of the page: its path, its content type and its content.
type Asset = (&'static str, &'static str, &'static str);

macro_rules! asset {
    ($path:literal, $content_type:expr) => {
        (
            concat!("/", $path),
            $content_type,
            include_str!(concat!("status_page/", $path)),
        )
    };
}

/// The modules of the page's script.
const MODULES: [Asset; 13] = [
    asset!("modules/attention.js", SCRIPT),
    asset!("modules/chart.js", SCRIPT),
    asset!("modules/connection.js", SCRIPT),
    asset!("modules/detail.js", SCRIPT),
    asset!("modules/detail_parts.js", SCRIPT),
    asset!("modules/dom.js", SCRIPT),
    asset!("modules/format.js", SCRIPT),
    asset!("modules/list.js", SCRIPT),
    asset!("modules/rows.js", SCRIPT),
    asset!("modules/services.js", SCRIPT),
    asset!("modules/summary.js", SCRIPT),
    asset!("modules/view.js", SCRIPT),
    asset!("modules/watches.js", SCRIPT),
];

/// The icons of the tab. A browser keeps them, so that they can show a lost connection.
const ICONS: [Asset; 4] = [
    asset!("favicon.svg", ICON),
    asset!("favicon-error.svg", ICON),
    asset!("favicon-lost.svg", ICON),
    asset!("favicon-warning.svg", ICON),
];

static PAGE: LazyLock<String> = LazyLock::new(|| {
    // Without this, a browser would discover the modules one after the other.
    let preload = MODULES.map(|(path, ..)| format!(r#"<link rel="modulepreload" href="{}">"#, &path[1..]));
    include_str!("status_page/page.html")
        .replace("{{version}}", env!("CARGO_PKG_VERSION"))
        .replace("{{preload}}", &preload.join("\n"))
});

/// The page and its assets.
pub(super) fn routes() -> Router<Arc<HttpService>> {
    let style = asset!("page.css", "text/css; charset=utf-8");
    let script = asset!("page.js", SCRIPT);
    let page = Router::new().route("/", get(async || Html(PAGE.as_str())));
    let assets = [style, script].into_iter().chain(MODULES);
    let page = assets.fold(page, |page, (path, content_type, content)| {
        let answer = async move || ([(header::CONTENT_TYPE, content_type)], content).into_response();
        page.route(path, get(answer))
    });
    ICONS
        .into_iter()
        .fold(page, |page, (path, content_type, content)| {
            let headers = [
                (header::CONTENT_TYPE, content_type),
                (header::CACHE_CONTROL, "private, max-age=86400"),
            ];
            let answer = async move || (headers, content).into_response();
            page.route(path, get(answer))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::phase::Phase;

    #[test]
    fn the_page_orders_phases_as_the_commands_do() {
        let names = Phase::BY_URGENCY
            .map(|phase| format!("{:?}", phase.as_str()))
            .join(", ");
        let order = format!("const ORDER = [{names}];");
        let (.., module) = MODULES
            .into_iter()
            .find(|(path, ..)| path.ends_with("watches.js"))
            .unwrap();
        assert!(module.contains(&order), "{order}");
    }
}
