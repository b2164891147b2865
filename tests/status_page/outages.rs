//! Outages of the API, a lost connection to the daemon, and hidden tabs.

use backfill_watch::simulator::FaultPlan;
use serde_json::json;

use crate::browser::Browser;
use crate::fixture::{Fixture, poll_fast, row};

const OPERATION: &str = "op-600000-6000-s-1";

fn down() -> FaultPlan {
    FaultPlan {
        server_error: 1.0,
        ..FaultPlan::default()
    }
}

#[tokio::test]
async fn an_outage_is_shown_by_title_icon_and_list_until_it_ends() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let fixture = Fixture::start_with(&[OPERATION], |setup| {
        poll_fast(setup).set("poll.unreachable_after", "1s")
    })
    .await;
    fixture.open(&browser, "").await;
    browser.title("backfill-watch").await;
    browser.favicon("favicon.svg").await;
    browser.contains("#state-text", "No problems: 1 running").await;
    browser.contains(&format!("{} .rate", row(OPERATION)), "/s").await;

    fixture.simulator.faults().set(down(), 1);
    browser.title("(1) backfill-watch").await;
    browser.favicon("favicon-error.svg").await;
    browser
        .contains("#state-text", "1 problem: API unreachable")
        .await;
    browser.texts("#attention .severity", &["Error"]).await;
    browser.contains("#attention .message", "unreachable").await;
    browser.contains("#attention .action", "To do: ").await;
    browser.contains("#attention time", "for ").await;
    // No figure that assumes progress.
    browser
        .contains(&format!("{} .end", row(OPERATION)), "last seen ")
        .await;
    browser.texts(&format!("{} .rate", row(OPERATION)), &[""]).await;
    let totals = browser
        .ask("return document.getElementById('totals').textContent")
        .await;
    assert!(!totals.as_str().unwrap().contains("left"), "{totals}");

    fixture.simulator.faults().set(FaultPlan::default(), 1);
    browser.title("backfill-watch").await;
    browser.favicon("favicon.svg").await;
    browser.count("#attention[hidden]", 1).await;
    browser.contains(&format!("{} .rate", row(OPERATION)), "/s").await;
    assert_eq!(browser.console().await, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test]
async fn a_lost_connection_is_shown_and_restored() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let fixture = Fixture::start(&[OPERATION]).await;
    fixture.open(&browser, "").await;
    browser.count("#body .row", 1).await;
    browser
        .contains(&format!("{} .phase", row(OPERATION)), "running")
        .await;

    let setup = fixture.daemon.stop().await;
    browser
        .contains("#state-text", "No connection to the daemon since ")
        .await;
    browser.contains("#connection", "Connection lost").await;
    browser.favicon("favicon-lost.svg").await;
    browser.title("(!) No connection – backfill-watch").await;
    browser
        .contains(&format!("{} .end", row(OPERATION)), "last seen ")
        .await;

    let address = fixture.url.trim_start_matches("http://").trim_end_matches('/');
    let daemon = setup
        .set("http.listen", address)
        .list(&[OPERATION, "op-600000-6000-s-2"])
        .start();
    browser.contains("#connection", "Live").await;
    browser.count("#body .row", 2).await;
    browser.texts("#body .phase", &["running", "running"]).await;
    browser.favicon("favicon.svg").await;
    browser.title("backfill-watch").await;
    // The browser itself logs refused connections, and the 503 of a daemon that starts. The page logs nothing.
    for entry in browser.console().await {
        assert!(
            (entry.contains("net::ERR_") || entry.contains("status of 503")) && entry.contains("\"network\""),
            "{entry}"
        );
    }
    drop(daemon);
    browser.close().await;
}

/// Lets a test hide the tab, see its streams, and not wait for half a minute.
const HIDABLE: &str = "
    let isHidden = false;
    Object.defineProperty(Document.prototype, 'visibilityState', { get: () => isHidden ? 'hidden' : 'visible' });
    window.hide = (hidden) => { isHidden = hidden; document.dispatchEvent(new Event('visibilitychange')); };
    window.streams = [];
    const RealStream = EventSource;
    window.EventSource = class extends RealStream { constructor(...all) { super(...all); window.streams.push(this); } };
    const realInterval = setInterval;
    window.intervals = [];
    window.setInterval = (run, wait) => { window.intervals.push(wait); return realInterval(run, wait === 30000 ? 200 : wait); };
";

#[tokio::test]
async fn a_hidden_tab_has_no_stream_and_still_warns() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let fixture = Fixture::start_with(&[OPERATION], |setup| {
        poll_fast(setup).set("poll.unreachable_after", "1s")
    })
    .await;
    browser
        .devtools(
            "Page.addScriptToEvaluateOnNewDocument",
            json!({"source": HIDABLE}),
        )
        .await;
    fixture.open(&browser, "").await;
    browser.count("#body .row", 1).await;
    let open = "return window.streams.filter((stream) => stream.readyState !== EventSource.CLOSED).length";
    browser.until(open, |open| *open == 1).await;
    browser.ask("window.hide(true)").await;
    browser.until(open, |open| *open == 0).await;
    assert_eq!(browser.ask("return window.intervals.includes(30000)").await, true);
    fixture.simulator.faults().set(down(), 1);
    browser.title("(1) backfill-watch").await;
    browser.favicon("favicon-error.svg").await;
    assert_eq!(browser.ask(open).await, 0);

    std::fs::write(
        fixture.daemon.list_path(),
        format!("{OPERATION}\nop-600000-6000-s-2\n"),
    )
    .unwrap();
    fixture.simulator.faults().set(FaultPlan::default(), 1);
    browser.title("backfill-watch").await;
    browser.ask("window.hide(false)").await;
    browser.until(open, |open| *open == 1).await;
    browser.count("#body .row", 2).await;
    browser.contains("#connection", "Live").await;
    browser.close().await;
}
