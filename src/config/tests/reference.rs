//! The settings reference in `docs/settings.md`.

use std::fs;
use std::path::Path;

use super::super::settings_reference;

const BEGIN: &str = "<!-- begin of `backfill-watch config reference` -->\n";
const END: &str = "<!-- end of `backfill-watch config reference` -->\n";

/// `BACKFILL_WATCH_BLESS=1` writes the reference into the document.
#[test]
fn the_document_has_the_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let document = fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (reference, after) = rest.split_once(END).unwrap();
    let expected = format!("\n{}\n", settings_reference());
    if std::env::var_os("BACKFILL_WATCH_BLESS").is_some_and(|value| value == "1") {
        fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
    } else {
        assert!(
            reference == expected,
            "docs/settings.md differs from the table of settings; \
             BACKFILL_WATCH_BLESS=1 cargo test --lib config::tests::reference writes it"
        );
    }
}
