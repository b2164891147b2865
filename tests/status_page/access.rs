//! The page behind a login.

use std::fs;

use crate::browser::Browser;
use crate::fixture::Fixture;

#[tokio::test]
async fn a_login_with_the_token_opens_the_page() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let fixture = Fixture::start_with(&["op-600000-6000-s-1 customer=acme"], |setup| {
        let token = setup.folder().join("http-token");
        fs::write(&token, "page-token\n").unwrap();
        let token = token.display().to_string();
        setup.set("http.token_file", &token)
    })
    .await;
    let address = fixture.url.trim_start_matches("http://").trim_end_matches('/');
    for (login, is_open) in [("", false), ("ops:page-token@", true)] {
        let url = format!("http://{login}{address}/");
        browser.client.goto(&url).await.unwrap();
        if is_open {
            browser.live().await;
        } else {
            browser.count("#state", 0).await;
        }
    }
    browser.count("#body .row", 1).await;
    browser.click("#body .row .title").await;
    browser.contains("#detail .events", "operation.started").await;
    browser.contains("#detail .head .phase", "running").await;
    browser.favicon("favicon.svg").await;
    browser.close().await;
}
