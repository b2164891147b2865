//! The detail view of one operation.

use backfill_watch::simulator::{CountCurve, SimulatedOperation};
use fantoccini::key::Key;
use serde_json::Value;
use std::time::Duration;

use crate::browser::Browser;
use crate::fixture::{Fixture, poll_fast, row};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::test]
async fn a_running_operation_has_a_chart_its_events_and_an_address() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let id = "op-30000-6000-s-1";
    let list = [format!("{id} customer=acme"), "op-600000-6000-s-2".to_owned()];
    let fixture = Fixture::start_with(&list, |setup| poll_fast(setup).set("poll.progress_step", "1")).await;
    fixture.open(&browser, "").await;
    browser.click(&format!("{} .title", row(id))).await;
    let query = browser.ask("return location.search").await;
    assert_eq!(query, "?operation=my-project%2Fop-30000-6000-s-1");
    browser.contains("#detail-title", "acme · contact").await;
    browser.contains("#detail .events", "operation.progress").await;
    let path =
        "return document.querySelector('#detail .plot .line')?.getAttribute('d').split('L').length ?? 0";
    let points = browser.until(path, |points| points.as_u64().unwrap() >= 3).await;
    let words = "return document.querySelector('#detail .plot').ariaLabel";
    let words = browser.ask(words).await;
    assert!(
        words.as_str().unwrap().starts_with("Records processed: 0 at "),
        "{words}"
    );
    // It is kept up to date.
    browser.until(path, |now| now.as_u64() > points.as_u64()).await;
    for fact in [
        "in_progress",
        "Last poll",
        "Next poll",
        "66438162-5299-4669-a41d-85c5a3b1a83e",
    ] {
        browser.contains("#detail .facts", fact).await;
    }
    browser.click("#detail .members summary").await;
    browser
        .contains("#detail .members dl", "progress.recordsEstimatedTotal")
        .await;
    let links = "return [...document.querySelectorAll('#detail .links a')].map((link) => link.href)";
    let links = browser.ask(links).await;
    for link in links.as_array().unwrap() {
        let answer = reqwest::get(link.as_str().unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200, "{link}");
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert!(
            body.to_string().contains(id) && !body.to_string().contains("s-2"),
            "{body}"
        );
    }

    browser.client.back().await.unwrap();
    browser.count("#detail[hidden]", 1).await;
    browser.count("#body .row", 2).await;
    browser.client.forward().await.unwrap();
    browser.contains("#detail-title", "acme · contact").await;
    browser.title("acme · contact – backfill-watch").await;
    browser.client.refresh().await.unwrap();
    browser.contains("#detail .events", "operation.started").await;

    // A narrow screen shows nothing else.
    browser.emulate("light", 390, 844).await;
    let hidden = "return getComputedStyle(document.querySelector('.overview')).display";
    browser.until(hidden, |display| *display == "none").await;
    browser.click("#close").await;
    browser.until(hidden, |display| *display == "flex").await;
    assert_eq!(browser.console().await, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test]
async fn a_failed_operation_shows_its_result_and_its_log() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let fixture = Fixture::start_with(&["failing group=acme"], |setup| {
        poll_fast(setup)
            .set("webhook.url", "http://127.0.0.1:9/")
            .variable("BACKFILL_WATCH_WEBHOOK_SECRET", SECRET)
    })
    .await;
    fixture.simulator.add(SimulatedOperation {
        curve: CountCurve::Restart,
        outcome: backfill_watch::simulator::SimulatedOutcome::Failure,
        result: Some("the provider refused page 61".to_owned()),
        ..SimulatedOperation::new("failing", Duration::from_millis(500), 900)
    });
    fixture.open(&browser, "?operation=my-project%2Ffailing").await;
    browser
        .contains("#detail .facts", "the provider refused page 61")
        .await;
    browser
        .contains("#detail .logs", "connection reset by provider")
        .await;
    browser.contains("#detail .head .phase", "failed").await;
    browser.contains("#detail .facts", "failure").await;
    browser.contains("#detail .events", "operation.failed").await;
    let command = "backfill-watch replay --operation failing";
    browser.contains("#detail .commands", command).await;
    // Nothing listens at the webhook.
    browser.contains("#detail table", "operation.failed").await;
    browser.contains("#detail table", "waiting").await;
    browser.contains("#services-summary", "1 of 1 webhook: ").await;
    browser.contains("#webhook-list", "refused").await;

    // The entry of the list leads here.
    browser.click("#close").await;
    browser
        .texts("#attention [data-kind=operation_failed] a", &["acme · contact"])
        .await;
    browser.click("#attention [data-kind=operation_failed] a").await;
    browser.contains("#detail-title", "acme · contact").await;
    browser.close().await;
}

#[tokio::test]
async fn an_unknown_operation_is_named() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let fixture = Fixture::start(&["op-600000-6000-s-1"]).await;
    fixture.open(&browser, "?operation=my-project%2Fnope").await;
    browser.contains("#detail", "No such operation is watched").await;
    browser.contains("#detail .missing .id", "nope").await;
    browser.press(Key::Escape).await;
    browser.count("#detail[hidden]", 1).await;
    // The project can be left out.
    fixture.open(&browser, "?operation=op-600000-6000-s-1").await;
    browser.contains("#detail .head .phase", "running").await;
    browser.close().await;
}
