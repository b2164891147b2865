//! Large lists: only rows in sight exist, and the layout fits everywhere.

use backfill_watch::clock;
use serde_json::json;

use crate::browser::Browser;
use crate::fixture::Fixture;
use crate::support::report;

fn list(size: usize) -> Vec<String> {
    (0..size)
        .map(|n| match n % 50 {
            0 => format!("op-1000-900-f-{n:05} customer=acme"),
            1 => format!("op-1000-900-s-{n:05} customer=a-very-long-name-of-a-customer-{n} object=contact"),
            _ => format!("op-600000-90000-s-{n:05} customer=globex team=crm"),
        })
        .collect()
}

const ROWS: &str = "return document.querySelectorAll('#body .row').length";

#[tokio::test]
async fn two_thousand_rows_cost_no_more_than_those_in_sight() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let fixture = Fixture::start(&list(2_000)).await;
    fixture.open(&browser, "?sort=name").await;
    let rows = "return document.getElementById('rows').getAttribute('aria-rowcount')";
    browser.until(rows, |rows| *rows == "2001").await;
    let shown = browser.ask(ROWS).await.as_u64().unwrap();
    assert!((15..60).contains(&shown), "{shown} rows exist");
    let height = browser.ask("return document.documentElement.scrollHeight").await;
    assert!(height.as_u64().unwrap() < 2_000, "{height}");
    // The last row is reached by scrolling.
    browser
        .ask("const scroller = document.getElementById('scroller'); scroller.scrollTop = scroller.scrollHeight")
        .await;
    let last = "return [...document.querySelectorAll('#body .row')].at(-1).getAttribute('aria-rowindex')";
    browser.until(last, |last| *last == "2001").await;
    assert!(browser.ask(ROWS).await.as_u64().unwrap() < 60);

    assert_eq!(browser.console().await, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test]
async fn rows_change_in_place() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let list: Vec<String> = (0..40)
        .map(|n| format!("op-60000-90000-s-{n:02} customer=acme"))
        .collect();
    let fixture = Fixture::start(&list).await;
    fixture.open(&browser, "?sort=name").await;
    browser.contains("#phases [data-phase=running]", "40").await;
    browser
        .contains("#body .row:nth-child(10) .object", "contact")
        .await;
    browser
        .ask(
            "window.moves = 0; window.changes = 0;\
             const list = document.getElementById('body');\
             new MutationObserver((all) => { window.moves += all.length }).observe(list, { childList: true });\
             new MutationObserver((all) => { window.changes += all.length })\
               .observe(list, { subtree: true, attributes: true, attributeFilter: ['value'] });",
        )
        .await;
    browser
        .until("return window.changes", |changes| changes.as_u64().unwrap() > 10)
        .await;
    assert_eq!(browser.ask("return window.moves").await, 0);
    browser.close().await;
}

#[tokio::test]
async fn the_page_fits_every_screen_and_is_readable() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let mut lines = list(200);
    lines.push("not/an/id".to_owned());
    let fixture = Fixture::start(&lines).await;
    for address in ["", "?operation=my-project%2Fop-1000-900-f-00000"] {
        fixture.open(&browser, address).await;
        browser.contains("#phases [data-phase=failed]", "4").await;
        for scheme in ["light", "dark"] {
            for (width, height) in [(1440, 900), (1280, 900), (768, 1024), (390, 844), (320, 568)] {
                browser.emulate(scheme, width, height).await;
                let overflow =
                    "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
                browser
                    .until(overflow, |overflow| overflow.as_i64().unwrap() <= 0)
                    .await;
                let poor = browser.ask(CONTRAST).await;
                assert_eq!(poor, json!([]), "{scheme} {width} {address}");
            }
        }
    }
    // A phone shows five rows without scrolling, below an attention entry.
    browser.emulate("light", 390, 844).await;
    fixture.open(&browser, "").await;
    browser.count("#attention .entry", 1).await;
    let seen = "const list = document.getElementById('scroller').getBoundingClientRect();\
         return [...document.querySelectorAll('#body .row')].map((row) => row.getBoundingClientRect())\
           .filter((row) => row.top >= list.top && row.bottom <= Math.min(list.bottom, innerHeight) && row.height >= 40).length";
    browser.until(seen, |seen| seen.as_u64().unwrap() >= 5).await;
    browser.close().await;
}

/// Texts whose contrast to what is behind them is below that of WCAG AA.
const CONTRAST: &str = r"
const parts = (color) => { const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number); return { rgb: [r, g, b], a }; };
const light = (rgb) => rgb.map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (e) => { for (; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor); if (c.a === 1) return c.rgb; } return [255, 255, 255]; };
const poor = new Set();
let seen = 0;
for (const e of document.querySelectorAll('body *:not(option)')) {
  const text = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent.trim()).join('');
  if (!text || !e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })) continue;
  seen += 1;
  const [a, b] = [light(parts(getComputedStyle(e).color).rgb), light(behind(e))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) poor.add(`${e.className || e.tagName}: ${ratio.toFixed(2)}`);
}
return seen > 30 ? [...poor] : [`only ${seen} texts were seen`];";

/// Prints how fast the page is with 20,000 watches: `cargo test --release --test status_page -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "it measures for a minute"]
async fn measures_twenty_thousand_watches() {
    let browser = Browser::start().await.expect("chromedriver is needed");
    let fixture = Fixture::start(&list(20_000)).await;
    fixture.open(&browser, "").await;
    let rows = "return document.getElementById('rows').getAttribute('aria-rowcount')";
    browser.until(rows, |rows| *rows == "20001").await;
    browser.client.refresh().await.unwrap();
    let first = "return performance.getEntriesByName('first-rows')[0]?.startTime ?? 0";
    let first = browser.until(first, |time| time.as_f64().unwrap() > 0.0).await;
    report(&format!("first rows after {:.0} ms", first.as_f64().unwrap()));
    browser.until(rows, |rows| *rows == "20001").await;
    browser.devtools("Performance.enable", json!({})).await;
    let busy = async || {
        let metrics = browser.devtools("Performance.getMetrics", json!({})).await;
        let metrics = metrics["metrics"].as_array().unwrap().clone();
        let task = metrics.iter().find(|metric| metric["name"] == "TaskDuration");
        task.unwrap()["value"].as_f64().unwrap()
    };
    let (before, start) = (busy().await, clock::instant());
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let share = (busy().await - before) / (clock::instant() - start).as_secs_f64();
    report(&format!(
        "an idle open page uses {:.1} % of a processor",
        share * 100.0
    ));
    browser.close().await;
}
