//! The list: bars, filters, search, groups, sort.

use serde_json::json;

use crate::browser::Browser;
use crate::fixture::{Fixture, poll_fast, row};

const NAMES: &str = "#body .row .name";

#[tokio::test]
async fn rows_move_and_are_searched_filtered_and_sorted() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let fixture = Fixture::start(&[
        "op-60000-6000-s-1 customer=acme object=contact team=crm",
        "op-3000-900-f-2 customer=globex object=lead",
        "op-600000-6000-s-3 customer=\"Gale Ltd\"",
    ])
    .await;
    fixture.open(&browser, "").await;
    browser.count("#body .row", 3).await;

    let running = row("op-60000-6000-s-1");
    let value = format!("return document.querySelector(\"{running} progress\").value");
    let before = browser.ask(&value).await.as_f64().unwrap();
    browser
        .until(&value, |now| now.as_f64().unwrap() > before + 1.0)
        .await;
    browser.contains(&format!("{running} .end"), "about ").await;
    browser.texts(&format!("{running} .label"), &["team=crm"]).await;

    // The name is the customer and the object; problems come first, in words and with their reason.
    browser
        .texts(NAMES, &["globexcontact", "acmecontact", "Gale Ltdcontact"])
        .await;
    browser
        .texts("#body .phase", &["failed", "running", "running"])
        .await;
    let problem = format!("{} .problem", row("op-3000-900-f-2"));
    browser.contains(&problem, "fail").await;

    browser.fill("#search", "running ACME").await;
    browser.texts(NAMES, &["acmecontact"]).await;
    browser.contains("#totals", "1 of 3").await;
    browser.fill("#search", "CUSTOMER=globex").await;
    browser.texts(NAMES, &["globexcontact"]).await;
    browser.fill("#search", "no such operation").await;
    browser.contains("#no-match", "No operation matches").await;
    browser.click("#no-match .clear-filters").await;
    browser.count("#body .row", 3).await;

    browser.click("#phases [data-phase=failed]").await;
    browser.texts(NAMES, &["globexcontact"]).await;
    browser.contains("#totals", "1 of 3").await;
    browser.texts("#phases [aria-pressed=true]", &["failed1"]).await;
    // A filter is part of the address.
    browser.client.refresh().await.unwrap();
    browser.texts(NAMES, &["globexcontact"]).await;
    browser.click("#phases [data-phase=failed]").await;
    browser.choose("#sort", "name").await;
    browser
        .texts(NAMES, &["acmecontact", "Gale Ltdcontact", "globexcontact"])
        .await;
    fixture.open(&browser, "?phase=failed,stalled&sort=name").await;
    browser.texts(NAMES, &["globexcontact"]).await;

    std::fs::write(fixture.daemon.list_path(), "op-60000-6000-s-1\n").unwrap();
    fixture.open(&browser, "").await;
    browser.count("#body .row", 1).await;
    assert_eq!(browser.console().await, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test]
async fn customers_have_one_line_which_opens() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let fixture = Fixture::start(&[
        "op-600000-6000-s-1 group=acme team=a",
        "op-1000-900-f-2 group=acme team=b",
        "op-600000-6000-s-3 group=\"Gale Ltd\" team=a",
        "op-600000-6000-s-4",
    ])
    .await;
    fixture.open(&browser, "").await;
    // Without a choice, the rows are grouped by the label of the daemon's groups.
    browser
        .texts(
            "#body .row .name, #body .line span",
            &[
                "acme",
                "Gale Ltd",
                "Without the label group",
                "66438162-5299-4669-a41d-85c5a3b1a83econtact",
            ],
        )
        .await;
    browser
        .texts("#body .group .note", &["1 running, 1 failed", "1 running"])
        .await;
    browser.texts("#body .group .phase", &["failed", "running"]).await;
    browser.click("#body .group").await;
    browser
        .texts("#body .row[aria-level='2'] .phase", &["failed", "running"])
        .await;
    let places = "return [...document.querySelectorAll('#body .row[aria-level=\"2\"]')].map(\
         (row) => [row.ariaPosInSet, row.ariaSetSize, row.getAttribute('aria-rowindex')])";
    assert_eq!(
        browser.ask(places).await,
        json!([["1", "2", "3"], ["2", "2", "4"]])
    );
    browser.click("#body .group").await;
    browser.count("#body .row[aria-level='2']", 0).await;

    browser.choose("#group", "team").await;
    browser.texts("#body .group .customer", &["b", "a"]).await;
    browser.choose("#group", "").await;
    browser.count("#body .row.watch", 4).await;
    let query = browser.ask("return location.search").await;
    assert_eq!(query, "?group=");
    browser.close().await;
}

#[tokio::test]
async fn many_problems_are_folded_and_a_stall_has_its_reason() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let failing = (1..=6).map(|n| format!("op-300-900-f-{n} customer=acme"));
    let list: Vec<String> = failing
        .chain(["op-3600000-10-s-7 customer=gale".to_owned()])
        .collect();
    let fixture = Fixture::start_with(&list, |setup| poll_fast(setup).set("poll.stalled_after", "1s")).await;
    fixture.open(&browser, "").await;
    browser.contains("#state-text", "7 problems: ").await;
    browser.count("#attention .entry", 5).await;
    browser.contains("#attention-more", "2 more").await;
    browser.click("#attention-more").await;
    browser.count("#attention .entry", 7).await;
    browser.title("(7) backfill-watch").await;
    browser.favicon("favicon-warning.svg").await;

    let stalled = row("op-3600000-10-s-7");
    browser.texts(&format!("{stalled} .phase"), &["stalled"]).await;
    browser
        .texts(&format!("{stalled} .problem"), &["count unchanged"])
        .await;
    browser.contains(&format!("{stalled} .end"), "stalled for ").await;
    browser.click(&format!("{stalled} .title")).await;
    browser.contains("#detail .facts", "count unchanged").await;

    // The end of its group depends on it.
    fixture.open(&browser, "?group=customer").await;
    let end = "#body .row.group[data-phase=stalled] .end";
    browser.texts(end, &["1 stalled"]).await;
    browser.close().await;
}
