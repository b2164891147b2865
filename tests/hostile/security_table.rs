//! The table of cases in SECURITY.md lists the tests of this program.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const SECURITY: &str = include_str!("../../SECURITY.md");

/// Every test of this program, by file and name.
fn tests() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let mut tests = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let source = fs::read_to_string(&path).unwrap();
        let mut is_test = false;
        for line in source.lines() {
            if is_test && let Some(rest) = line.split("fn ").nth(1) {
                tests.insert(format!("{file}::{}", rest.split('(').next().unwrap()));
            }
            is_test = line.starts_with("#[tokio::test")
                || line.starts_with("#[test]")
                || (is_test && line.starts_with("#["));
        }
    }
    tests.remove("security_table::every_case_has_its_test_and_every_test_its_case");
    tests
}

#[test]
fn every_case_has_its_test_and_every_test_its_case() {
    let named: BTreeSet<String> = SECURITY
        .lines()
        .filter(|line| line.starts_with('|') && line.ends_with("` |"))
        .filter_map(|line| line.rsplit('`').nth(1))
        .filter(|name| name.contains("::"))
        .map(str::to_owned)
        .collect();
    assert_eq!(named, tests());
    assert!(named.len() > 20);
}
