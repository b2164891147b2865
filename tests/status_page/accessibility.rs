//! axe-core finds nothing on any view.

use std::path::PathBuf;
use std::{env, fs};

use serde_json::json;

use crate::browser::Browser;
use crate::fixture::Fixture;
use crate::support::skip;

const AXE: &str = "lib/node_modules/axe-core/axe.min.js";

/// The script of axe-core, where npm installs it: next to the programs on `PATH`.
fn axe() -> Option<String> {
    let path = env::var_os("PATH")?;
    let folders = env::split_paths(&path).filter_map(|folder| folder.parent().map(PathBuf::from));
    let found = folders.map(|folder| folder.join(AXE)).find(|file| file.is_file());
    match found {
        Some(file) => Some(fs::read_to_string(file).unwrap()),
        None => skip("axe-core is missing; npm install --global axe-core@4"),
    }
}

#[tokio::test]
async fn axe_finds_nothing() {
    let Some(axe) = axe() else {
        return;
    };
    let Some(browser) = Browser::start().await else {
        return;
    };
    let empty = Fixture::start::<&str>(&[]).await;
    let full = Fixture::start(&[
        "op-600000-6000-s-1 group=acme",
        "op-1000-900-f-2 group=acme team=crm",
        "op-600000-6000-s-3",
        "not/an/id",
    ])
    .await;
    for (fixture, address, ready) in [
        (&empty, "", "#first-steps:not([hidden])"),
        (&full, "", "#attention:not([hidden])"),
        (&full, "?group=", "#body .row[data-phase=failed]"),
        (&full, "?operation=my-project%2Fop-1000-900-f-2", "#detail .logs"),
        (
            &full,
            "?operation=my-project%2Fop-600000-6000-s-1",
            "#detail .plot",
        ),
        (&full, "?operation=my-project%2Fnope", "#detail .missing-title"),
    ] {
        for (scheme, width, height) in [("light", 1440, 900), ("dark", 1440, 900), ("light", 390, 844)] {
            browser.emulate(scheme, width, height).await;
            fixture.open(&browser, address).await;
            browser.count(ready, 1).await;
            let found = browser.axe(&axe).await;
            assert_eq!(found, json!([]), "{address} {scheme} {width}");
        }
    }
    browser.close().await;
}
