//! Text of others cannot become markup, nor change the direction or the lines of the page.

use std::time::Duration;

use backfill_watch::simulator::{SimulatedOperation, SimulatedOutcome};

use crate::browser::Browser;
use crate::fixture::{Fixture, poll_fast};

const SCRIPT: &str = "<img src=x onerror=hacked()>";
const TURNED: &str = "\u{202e}turned\u{2028}";

fn operation(id: &str, outcome: SimulatedOutcome, duration: Duration) -> SimulatedOperation {
    SimulatedOperation {
        outcome,
        objects: vec![format!("object {SCRIPT}{TURNED}")],
        installation_id: format!("installation {SCRIPT}{TURNED}"),
        result: Some(format!("result {SCRIPT}{TURNED}")),
        ..SimulatedOperation::new(id, duration, 900)
    }
}

#[tokio::test]
async fn hostile_strings_stay_text_everywhere() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let label = format!("\"label {SCRIPT}\"");
    let list = [
        format!("running group={label} team={label}"),
        format!("failing group={label} <b>key</b>=x"),
        "other".to_owned(),
        // A rejected line, for an attention entry with a hostile path of the file.
        format!("/{SCRIPT}"),
    ];
    let fixture = Fixture::start_with(&list, poll_fast).await;
    let hour = Duration::from_hours(1);
    let soon = Duration::from_millis(300);
    for operation in [
        operation("running", SimulatedOutcome::Success, hour),
        operation("failing", SimulatedOutcome::Failure, soon),
        operation(
            "other",
            SimulatedOutcome::Other(format!("status {SCRIPT}{TURNED}")),
            soon,
        ),
    ] {
        fixture.simulator.add(operation);
    }
    fixture.open(&browser, "").await;
    browser.contains("#body .group .name", SCRIPT).await;
    browser.contains("#attention", "rejected").await;
    fixture.open(&browser, "?group=").await;
    browser.count("#body .row", 3).await;
    browser
        .contains("#body .row[data-id=failing] .problem", "result <img src=x")
        .await;
    browser
        .contains("#body .row[data-id=other] .problem", "status <img src=x")
        .await;
    for (id, expected) in [
        ("running", "in_progress"),
        ("failing", "failure"),
        ("other", "\\u{202e}turned\\u{2028}"),
    ] {
        fixture
            .open(&browser, &format!("?group=&operation=my-project%2F{id}"))
            .await;
        browser.contains("#detail .facts", expected).await;
        browser.contains("#detail .facts", SCRIPT).await;
        browser.contains("#detail .events", "operation.").await;
    }
    fixture
        .open(&browser, "?group=&operation=my-project%2Ffailing")
        .await;
    browser.contains("#detail .logs", SCRIPT).await;
    let markup = "return document.querySelectorAll('main img, main b, [onerror]').length";
    assert_eq!(browser.ask(markup).await, 0);
    let raw =
        "return /[\\u202a-\\u202e\\u2066-\\u2069\\u2028\\u2029]/.test(document.documentElement.outerHTML)";
    browser.until(raw, |raw| *raw == false).await;
    // Nothing was even tried: the policy would have logged it.
    assert_eq!(browser.console().await, Vec::<String>::new());
    browser.close().await;
}
