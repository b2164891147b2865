//! The page by keyboard, and its copy buttons.

use fantoccini::key::Key;
use serde_json::json;

use crate::browser::Browser;
use crate::fixture::{Fixture, row};

const FOCUSED: &str = "return document.activeElement.dataset.id ?? document.activeElement.id";

#[tokio::test]
async fn rows_are_reached_opened_and_left_by_keyboard() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let fixture = Fixture::start(&[
        "op-600000-6000-s-1 customer=acme",
        "op-600000-6000-s-2 customer=gale",
        "op-600000-6000-s-3 customer=globex",
    ])
    .await;
    fixture.open(&browser, "?sort=name").await;
    browser.count("#body .row", 3).await;
    browser.type_text("/").await;
    browser.until(FOCUSED, |id| *id == "search").await;
    browser.type_text("customer=g").await;
    browser.count("#body .row", 2).await;
    browser.press(Key::Escape).await;
    browser.count("#body .row", 3).await;
    browser.press(Key::Down).await;
    browser.until(FOCUSED, |id| *id == "op-600000-6000-s-1").await;
    browser.press(Key::Down).await;
    browser.until(FOCUSED, |id| *id == "op-600000-6000-s-2").await;
    browser.press(Key::End).await;
    browser.until(FOCUSED, |id| *id == "op-600000-6000-s-3").await;
    browser.press(Key::Up).await;
    let outline = "return getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(browser.ask(outline).await, "solid", "the focus is visible");
    browser.press(Key::Enter).await;
    browser.until(FOCUSED, |id| *id == "detail-title").await;
    browser.contains("#detail-title", "gale").await;
    browser.press(Key::Escape).await;
    browser.until(FOCUSED, |id| *id == "op-600000-6000-s-2").await;
    browser.count("#detail[hidden]", 1).await;
    assert_eq!(browser.ask("return location.search").await, "?sort=name");
    browser.close().await;
}

#[tokio::test]
async fn an_id_and_a_command_are_copied() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let fixture = Fixture::start(&["op-600000-6000-s-1 customer=acme"]).await;
    let origin = fixture.url.trim_end_matches('/');
    let permissions =
        json!({"origin": origin, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]});
    browser.devtools("Browser.grantPermissions", permissions).await;
    fixture.open(&browser, "").await;
    browser.count("#body .row", 1).await;
    let clipboard = async || {
        let read = "const done = arguments[0]; navigator.clipboard.readText().then(done, (error) => done(String(error)))";
        browser.client.execute_async(read, Vec::new()).await.unwrap()
    };
    browser
        .click(&format!("{} .copy", row("op-600000-6000-s-1")))
        .await;
    browser.contains("#announcement", "Copied").await;
    assert_eq!(clipboard().await, "op-600000-6000-s-1");
    browser.count("#detail[hidden]", 1).await;

    browser.click(&row("op-600000-6000-s-1")).await;
    browser.contains(".commands", "backfill-watch events").await;
    browser.click(".commands li:nth-child(2) .copy").await;
    let expected = "backfill-watch events --operation op-600000-6000-s-1";
    browser.contains("#announcement", "Copied").await;
    let deadline = backfill_watch::clock::instant() + crate::support::DEADLINE;
    while clipboard().await != expected {
        assert!(
            backfill_watch::clock::instant() < deadline,
            "{}",
            clipboard().await
        );
    }
    browser.close().await;
}
