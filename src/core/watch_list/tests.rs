use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

fn projects() -> Vec<Arc<str>> {
    vec!["main".into(), "staging".into()]
}

fn list(text: impl AsRef<[u8]>) -> WatchList {
    parse(text.as_ref(), &projects())
}

/// The one problem of a one-line list, with its column.
fn problem(line: impl AsRef<[u8]>) -> (u32, Problem) {
    let list = list(line);
    assert_eq!(list.entries, []);
    let [error] = &list.rejected[..] else {
        panic!("one rejected line expected: {list:?}");
    };
    assert_eq!((error.line, list.rejected_total), (1, 1));
    (error.column, error.problem.clone())
}

fn keys(list: &WatchList) -> Vec<String> {
    list.entries.iter().map(|entry| entry.key.to_string()).collect()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn ids_labels_projects_and_comments_are_read() {
    let list = list(
        "# first sync\n3efc-1  customer=acme object=contact # why\n\n\t7a8b\tproject=staging a=b#c e=\n",
    );
    assert_eq!(list.rejected, []);
    assert_eq!(keys(&list), ["main/3efc-1", "staging/7a8b"]);
    assert_eq!(
        *list.entries[0].labels,
        labels(&[("customer", "acme"), ("object", "contact")])
    );
    assert_eq!(*list.entries[1].labels, labels(&[("a", "b#c"), ("e", "")]));
}

#[test]
fn empty_files_ask_for_nothing() {
    for text in [
        "",
        "\n",
        "\r\n \t\r\n",
        "#",
        "\u{feff}",
        "\u{feff}# only a comment",
    ] {
        assert_eq!(list(text), WatchList::default(), "{text:?}");
    }
}

#[test]
fn crlf_byte_order_mark_and_a_missing_last_line_end_are_accepted() {
    let list = list("\u{feff}one a=1\r\ntwo\r\nthree");
    assert_eq!(keys(&list), ["main/one", "main/two", "main/three"]);
    assert_eq!(*list.entries[0].labels, labels(&[("a", "1")]));
    assert_eq!(list.rejected_total, 0);
}

#[test]
fn projects_are_shared_not_copied() {
    let projects = projects();
    let list = parse(b"one\ntwo project=main", &projects);
    for entry in &list.entries {
        assert!(Arc::ptr_eq(&entry.key.project, &projects[0]));
    }
}

#[test]
fn limits_hold_on_both_sides() {
    let id = |n: usize| "a".repeat(n);
    assert_eq!(list(id(128)).entries.len(), 1);
    assert_eq!(problem(id(129)), (129, Problem::IdTooLong { characters: 129 }));

    let many = |n: usize| (0..n).fold("id".to_owned(), |line, i| format!("{line} k{i}=v"));
    assert_eq!(list(many(16) + " project=staging").entries[0].labels.len(), 16);
    assert_eq!(problem(many(17)).1, Problem::TooManyLabels);

    let key = |n: usize| format!("id {}=v", "ü".repeat(n));
    assert_eq!(list(key(64)).entries.len(), 1);
    assert_eq!(problem(key(65)), (68, Problem::LabelKeyTooLong));

    let long = |n: usize| format!("id k={}", "v".repeat(n - 5));
    assert_eq!(list(long(4096) + "\r\n").entries.len(), 1);
    assert_eq!(problem(long(4097)), (4097, Problem::LineTooLong { bytes: 4097 }));
}

#[test]
fn every_problem_is_told_with_its_column() {
    let repeated = |key: &str| Problem::RepeatedLabel { key: key.into() };
    let not_a_label = |word: &str| Problem::NotALabel { word: word.into() };
    for (line, column, expected) in [
        ("a/b", 2, Problem::IdCharacter('/')),
        ("  ä", 3, Problem::IdCharacter('ä')),
        ("abc#no", 4, Problem::IdCharacter('#')),
        ("\u{feff}\u{feff}id", 1, Problem::IdCharacter('\u{feff}')),
        (".", 1, Problem::IdIsDots),
        (" ..  a=b", 2, Problem::IdIsDots),
        ("customer=acme id", 1, Problem::MissingId),
        ("id word", 4, not_a_label("word")),
        ("id ä=1 id2", 8, not_a_label("id2")),
        ("id =v", 4, Problem::LabelWithoutKey),
        ("id a=1 b=2 a=3", 12, repeated("a")),
        ("id project=main project=main", 17, repeated("project")),
        ("id a=b\0", 7, Problem::ControlCharacter('\0')),
        ("# a\rid", 4, Problem::ControlCharacter('\r')),
        ("id a=\u{1b}[31m", 6, Problem::ControlCharacter('\u{1b}')),
        ("id a=\u{85}", 6, Problem::ControlCharacter('\u{85}')),
    ] {
        assert_eq!(problem(line), (column, expected), "{line:?}");
    }
    assert_eq!(problem(b"id \xC3\xA4=\xFF"), (6, Problem::NotUtf8));
}

#[test]
fn three_dots_are_an_id() {
    assert_eq!(
        keys(&list("...\n.a\n~\n-\n_")),
        ["main/...", "main/.a", "main/~", "main/-", "main/_"]
    );
}

#[test]
fn an_unknown_project_is_answered_with_the_known_ones() {
    let (column, problem) = problem("id a=b project=prod");
    assert_eq!(column, 16);
    assert_eq!(
        problem.to_string(),
        r#"project "prod" is not configured; configured: "main", "staging""#
    );
    let none = parse(b"id", &[]);
    assert_eq!(
        none.rejected[0].to_string(),
        "line 1, column 1: no project is configured"
    );
}

#[test]
fn a_repeated_id_is_told_with_the_first_line_which_holds() {
    let list = list("one a=1\none project=staging\n  one a=2");
    assert_eq!(keys(&list), ["main/one", "staging/one"]);
    assert_eq!(*list.entries[0].labels, labels(&[("a", "1")]));
    assert_eq!(
        list.rejected[0].to_string(),
        r#"line 3, column 3: operation one of project "main" stands in line 1 already, which holds"#
    );
}

#[test]
fn a_bad_line_spoils_no_other() {
    let list = list(b"good\n\xFF\xFE\nb\0d\nalso=bad\nalso-good" as &[u8]);
    assert_eq!(keys(&list), ["main/good", "main/also-good"]);
    let lines: Vec<u32> = list.rejected.iter().map(|error| error.line).collect();
    assert_eq!(lines, [2, 3, 4]);
}

#[test]
fn messages_carry_no_raw_text_and_stay_short() {
    let line = format!("id {}\u{202e}", "w".repeat(4000));
    let message = problem(line).1.to_string();
    assert!(message.len() < 200, "{message}");
    assert!(problem("id \u{202e}x").1.to_string().contains(r#""\u{202e}x""#));
}

#[test]
fn rejected_lines_are_counted_but_not_all_kept() {
    let list = list("=\n".repeat(5000));
    assert_eq!((list.rejected.len(), list.rejected_total), (1000, 5000));
}

fn id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9._~-]{1,12}".prop_filter("dots alone are no ID", |id| id != "." && id != "..")
}

fn some_labels() -> impl Strategy<Value = Arc<Labels>> {
    let label = (
        "[^=\\s\\p{C}#][^=\\s\\p{C}]{0,8}".prop_filter("reserved", |key| key != "project"),
        "[^\\s\\p{C}]{0,12}",
    );
    prop::collection::btree_map(label.0, label.1, 0..4)
        .prop_map(|labels| Arc::new(labels.into_iter().collect()))
}

type Desired = BTreeMap<WatchKey, Arc<Labels>>;

/// Few IDs, so that two lists have some in common.
fn desired(id: impl Strategy<Value = String>) -> impl Strategy<Value = Desired> {
    let key = (0..2usize, id).prop_map(|(project, id)| WatchKey {
        project: Arc::clone(&projects()[project]),
        operation: id.into(),
    });
    prop::collection::btree_map(key, some_labels(), 0..12)
}

fn print(desired: &Desired) -> String {
    let mut text = String::new();
    for (key, labels) in desired {
        write!(text, "{} project={}", key.operation, key.project).unwrap();
        for (key, value) in labels.iter() {
            write!(text, " {key}={value}").unwrap();
        }
        text.push('\n');
    }
    text
}

fn as_map(list: &WatchList) -> Desired {
    let pair = |entry: &Entry| (entry.key.clone(), Arc::clone(&entry.labels));
    list.entries.iter().map(pair).collect()
}

#[test]
fn the_lines_beyond_the_most_entries_are_rejected_and_the_others_hold() {
    let list = parse_at_most(2, b"a\n\nb\na\nc\nd\n", &projects());
    let ids: Vec<_> = list.entries.iter().map(|entry| &*entry.key.operation).collect();
    assert_eq!(ids, ["a", "b"]);
    let lines: Vec<_> = list.rejected.iter().map(|error| error.line).collect();
    assert_eq!(lines, [4, 5, 6]);
    assert_eq!(list.rejected[1].problem, Problem::TooManyEntries { most: 2 });
}

fn listed(labels: &Arc<Labels>) -> Option<&Arc<Labels>> {
    Some(labels)
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let lines = bytes.split(|byte| *byte == b'\n').count();
        let list = parse(&bytes, &projects());
        prop_assert!(list.entries.len() + list.rejected_total <= lines);
        for error in &list.rejected {
            prop_assert!(error.column >= 1 && error.line as usize <= lines);
            prop_assert!(!error.to_string().contains(char::is_control));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "([ \t\n\r#=.a-c]|project=|\\PC){0,200}") {
        let list = parse(text.as_bytes(), &projects());
        prop_assert_eq!(as_map(&list).len(), list.entries.len());
    }

    #[test]
    fn what_is_printed_is_read_again(desired in desired(id())) {
        let list = list(print(&desired));
        prop_assert_eq!(&list.rejected, &[]);
        prop_assert_eq!(as_map(&list), desired);
    }

    #[test]
    fn the_diff_leads_to_the_desired_list(
        old in desired("[a-f]".boxed()),
        new in desired("[a-f]".boxed()),
    ) {
        let new_list = list(print(&new));
        let running: HashMap<WatchKey, Arc<Labels>> = old.clone().into_iter().collect();
        let diff = diff(&running, listed, &new_list);
        let mut result = old.clone();
        for key in &diff.removed {
            prop_assert!(result.remove(*key).is_some());
            prop_assert!(!new.contains_key(*key));
        }
        for entry in &diff.added {
            prop_assert!(result.insert(entry.key.clone(), Arc::clone(&entry.labels)).is_none());
        }
        for entry in &diff.relabelled {
            let before = result.insert(entry.key.clone(), Arc::clone(&entry.labels));
            prop_assert!(before.is_some_and(|before| before != entry.labels));
        }
        prop_assert_eq!(result, new.clone());
        prop_assert_eq!(diff == Diff::default(), old == new);
    }
}
