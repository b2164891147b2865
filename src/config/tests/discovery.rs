//! What is discovered, and how watches are grouped.

use std::path::Path;
use std::time::Duration;

use super::{Case, first_lines};
use crate::config::error::Problems;
use crate::config::keys;
use crate::config::raw::{Raw, Source};
use crate::core::deadline::Deadline;
use crate::core::discovery::DiscoveryRule;

const TWO: &str = "[[ampersand.projects]]\nname = 'a'\napi_key_file = 'key'\n\
                   [[ampersand.projects]]\nname = 'b'\napi_key_file = 'key'\n";

fn only_rule(case: &Case) -> DiscoveryRule {
    let settings = case.settings();
    let (project, rules) = settings.discovery.iter().next().unwrap();
    assert_eq!((&**project, rules.len(), settings.discovery.len()), ("p", 1, 1));
    rules[0].clone()
}

#[test]
fn an_empty_table_finds_everything_of_the_first_project() {
    assert!(Case::new("").settings().discovery.is_empty());
    let rule = only_rule(&Case::new("[[discover]]"));
    assert_eq!(rule, DiscoveryRule::everything());
    for globs in [&rule.integrations, &rule.groups, &rule.objects] {
        assert_eq!(globs.patterns(), ["*"]);
    }
    assert_eq!(
        (rule.every, rule.lookback),
        (Duration::from_mins(1), Duration::from_hours(24))
    );
    assert_eq!((rule.deadline, rule.labels.len()), (None, 0));
}

#[test]
fn a_rule_is_read_in_full_and_from_the_environment() {
    let toml = "[[discover]]\nproject = 'p'\nintegrations = ['read-*']\ngroups = ['acme', 'gale']\nobjects = ['contact']\n\
                every = '30s'\nlookback = '0s'\ndeadline = '24h'\nlabels = { team = 'crm', \"a.b\" = 'x y' }";
    let variables = [
        ("BACKFILL_WATCH_DISCOVER__0__PROJECT", "p"),
        ("BACKFILL_WATCH_DISCOVER__0__INTEGRATIONS", "read-*"),
        ("BACKFILL_WATCH_DISCOVER__0__GROUPS", "acme, gale"),
        ("BACKFILL_WATCH_DISCOVER__0__OBJECTS", "contact"),
        ("BACKFILL_WATCH_DISCOVER__0__EVERY", "30s"),
        ("BACKFILL_WATCH_DISCOVER__0__LOOKBACK", "0s"),
        ("BACKFILL_WATCH_DISCOVER__0__DEADLINE", "24h"),
        ("BACKFILL_WATCH_DISCOVER__0__LABELS", "team=crm, a.b = x y"),
    ];
    let mut rules = [Case::new(toml), Case::new("").with(&variables)].map(|case| only_rule(&case));
    for rule in &mut rules {
        rule.labels.sort();
    }
    assert_eq!(rules[0], rules[1]);
    let rule = &rules[0];
    assert_eq!(rule.groups.patterns(), ["acme", "gale"]);
    assert_eq!(
        (rule.every, rule.lookback),
        (Duration::from_secs(30), Duration::ZERO)
    );
    assert_eq!(rule.deadline, Deadline::parse("24h").ok());
    assert_eq!(
        rule.labels,
        [("a.b".into(), "x y".into()), ("team".into(), "crm".into())]
    );
    let shown = Case::new(toml).load().unwrap().effective.values();
    let find = |key: &str| shown.iter().find(|value| value.key == key).unwrap();
    let labels = &find("discover[0].labels").value;
    let table: toml::Table = format!("labels = {labels}").parse().unwrap();
    assert_eq!(table["labels"]["a.b"].as_str(), Some("x y"));
    assert_eq!(find("discover[0].every").value, "\"30s\"");

    let table = [("BACKFILL_WATCH_DISCOVER__0__LABELS", "{ team = 'a,b=c' }")];
    assert_eq!(
        only_rule(&Case::new("").with(&table)).labels,
        [("team".into(), "a,b=c".into())]
    );
}

#[test]
fn tables_are_appended_over_files_in_order() {
    let mut problems = Problems::default();
    let mut raw = Raw::new(None);
    let files = [
        "[[discover]]\nobjects = ['one']",
        "[[discover]]\nproject = 'b'\n[[discover]]\nobjects = ['two']",
    ];
    let sources = files.map(|text| Source {
        path: Path::new("file"),
        folder: None,
        text,
    });
    raw.add_files(sources.into_iter(), &mut problems);
    assert_eq!(raw.indexes("discover"), [0, 1, 2]);

    let both = format!("{TWO}{}", files.join("\n"));
    let settings = Case::bare(&both).file("key", "k").settings();
    let objects = |project: &str| {
        let rules = settings.discovery[project].iter();
        rules
            .map(|rule| rule.objects.patterns().concat())
            .collect::<Vec<_>>()
    };
    assert_eq!(objects("a"), ["one", "two"]);
    assert_eq!(objects("b"), ["*"]);
    // With a flag, rules of other projects are no errors.
    let mut case = Case::bare(&both).file("key", "k");
    case.overrides.project = Some("b".to_owned());
    let discovery = case.settings().discovery;
    assert_eq!(discovery.keys().map(|name| &**name).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn each_error_of_a_rule_is_named_with_its_place() {
    let many: String = (0..13).map(|index| format!("k{index} = 'v', ")).collect();
    let case = Case::new(&format!(
        "[[discover]]\nproject = 'q'\nobjects = ['[']\nevery = '1ms'\nlookback = '11y'\ndeadline = 'soon'\n\
         labels = {{ project = 'x', group = 'x', a = \"x\\ny\" }}\n[[discover]]\ndeadline = 2026-12-01T06:00:00Z\n\
         labels = {{ {many} }}\n[[discover]]\nlabels = 'x'\n[[discover]]\nlabels = {{ a = 1 }}\n[groups]\nby = 'project'\n"
    ));
    let errors = case.errors();
    let found: Vec<&str> = first_lines(&errors)
        .into_iter()
        .map(|line| line.split_once(": ").unwrap().1)
        .collect();
    let expected = [
        "discover[0].project: project \"q\" is not configured",
        "discover[0].objects: ",
        "discover[0].every: \"1ms\" is too short",
        "discover[0].lookback: \"11y\" is too long",
        "discover[0].deadline: \"soon\" is neither a duration nor a time",
        "discover[0].labels: \"project\": ",
        "discover[0].labels: \"group\" is a label of discovery",
        "discover[0].labels: the value of \"a\" has a control character",
        "discover[1].deadline: expected a duration or a time, found a date",
        "discover[1].labels: has 13 labels of 68 bytes",
        "discover[2].labels: expected a table of texts, found the text \"x\"",
        "discover[3].labels: expected texts in the table, found the whole number 1",
        "groups.by: ",
    ];
    for start in expected {
        assert!(
            found.iter().any(|line| line.starts_with(start)),
            "{start}\n{errors}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{errors}");
    assert!(keys::find("discover[3].labels").is_some());
    let variables = [("BACKFILL_WATCH_DISCOVER__0__LABELS", "team")];
    assert!(
        Case::new("")
            .with(&variables)
            .errors()
            .contains("has a label without \"=\"")
    );
}

#[test]
fn another_source_makes_the_default_watch_list_optional() {
    let requires = |toml: &str| Case::new(toml).file("t", "token").settings().requires_watch_list;
    assert!(requires(""));
    assert!(!requires("[[discover]]"));
    assert!(!requires("[http]\nwrite_token_file = 't'"));
    assert!(requires("[http]\ntoken_file = 't'"));
    assert!(requires("watch_list = 'l'\n[[discover]]"));
}

#[test]
fn groups_have_a_label_and_a_time() {
    let groups = Case::new("").settings().groups;
    assert_eq!((&*groups.by, groups.settle), ("group", Duration::from_secs(30)));
    let groups = Case::new("[groups]\nby = 'customer'\nsettle = '0s'")
        .settings()
        .groups;
    assert_eq!((&*groups.by, groups.settle), ("customer", Duration::ZERO));
}
