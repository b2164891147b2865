use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::core::deadline::Deadline;

fn projects() -> Vec<Arc<str>> {
    vec!["main".into(), "staging".into()]
}

fn list(text: impl AsRef<[u8]>) -> WatchList {
    parse(text.as_ref(), &projects())
}

/// The one problem of a one-line list, with its column.
fn problem(line: impl AsRef<[u8]>) -> (u32, LineProblem) {
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
        list.entries[0].terms.labels,
        labels(&[("customer", "acme"), ("object", "contact")])
    );
    assert_eq!(list.entries[1].terms.labels, labels(&[("a", "b#c"), ("e", "")]));
}

#[test]
fn empty_files_are_empty_lists() {
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
    assert_eq!(list.entries[0].terms.labels, labels(&[("a", "1")]));
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
fn limits_apply_on_both_sides() {
    let id = |n: usize| "a".repeat(n);
    assert_eq!(list(id(128)).entries.len(), 1);
    assert_eq!(
        problem(id(129)),
        (129, LineProblem::IdTooLong { characters: 129 })
    );

    let many = |n: usize| (0..n).fold("id".to_owned(), |line, i| format!("{line} k{i}=v"));
    assert_eq!(
        list(many(16) + " project=staging").entries[0].terms.labels.len(),
        16
    );
    assert_eq!(problem(many(17)).1, LineProblem::TooManyLabels);

    let key = |n: usize| format!("id {}=v", "ü".repeat(n));
    assert_eq!(list(key(64)).entries.len(), 1);
    assert_eq!(problem(key(65)), (68, LineProblem::LabelKeyTooLong));

    let long = |n: usize| format!("id k={}", "v".repeat(n - 5));
    assert_eq!(list(long(4096) + "\r\n").entries.len(), 1);
    assert_eq!(
        problem(long(4097)),
        (4097, LineProblem::LineTooLong { bytes: 4097 })
    );
}

#[test]
fn every_problem_is_reported_with_its_column() {
    let repeated = |key: &str| LineProblem::RepeatedLabel { key: key.into() };
    let not_a_label = |word: &str| LineProblem::NotALabel { word: word.into() };
    for (line, column, expected) in [
        ("a/b", 2, LineProblem::IdCharacter('/')),
        ("  ä", 3, LineProblem::IdCharacter('ä')),
        ("abc#no", 4, LineProblem::IdCharacter('#')),
        ("\u{feff}\u{feff}id", 1, LineProblem::IdCharacter('\u{feff}')),
        (".", 1, LineProblem::IdIsDots),
        (" ..  a=b", 2, LineProblem::IdIsDots),
        ("customer=acme id", 1, LineProblem::MissingId),
        ("id word", 4, not_a_label("word")),
        ("id ä=1 id2", 8, not_a_label("id2")),
        ("id =v", 4, LineProblem::LabelWithoutKey),
        ("id \"a\"=v", 4, LineProblem::QuoteInKey),
        ("id it's=v", 6, LineProblem::QuoteInKey),
        ("id a=\"b c", 6, LineProblem::UnclosedQuote),
        ("id a=\"", 6, LineProblem::UnclosedQuote),
        ("id a=\"b\\", 6, LineProblem::UnclosedQuote),
        ("id a=\"b\\\"", 6, LineProblem::UnclosedQuote),
        ("id a=\"b\\n\"", 8, LineProblem::UnknownEscape('n')),
        ("id a=\"b\"c", 9, LineProblem::TextAfterQuote),
        ("id a=\"b\"#c", 9, LineProblem::TextAfterQuote),
        ("id a=\"b\tc\"", 8, LineProblem::ControlCharacter('\t')),
        ("id a=\"x y\" z", 12, not_a_label("z")),
        ("id deadline=1h deadline=2h", 16, repeated("deadline")),
        ("id a=1 b=2 a=3", 12, repeated("a")),
        ("id project=main project=main", 17, repeated("project")),
        ("id a=b\0", 7, LineProblem::ControlCharacter('\0')),
        ("# a\rid", 4, LineProblem::ControlCharacter('\r')),
        ("id a=\u{1b}[31m", 6, LineProblem::ControlCharacter('\u{1b}')),
        ("id a=\u{85}", 6, LineProblem::ControlCharacter('\u{85}')),
    ] {
        assert_eq!(problem(line), (column, expected), "{line:?}");
    }
    assert_eq!(problem(b"id \xC3\xA4=\xFF"), (6, LineProblem::NotUtf8));
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
fn a_repeated_line_is_no_rejected_line_and_the_first_applies() {
    let list = list("one a=1\none project=staging\n  one a=2");
    assert_eq!(keys(&list), ["main/one", "staging/one"]);
    assert_eq!(list.entries[0].terms.labels, labels(&[("a", "1")]));
    assert_eq!((list.rejected_total, list.repeated_total), (0, 1));
    assert_eq!(
        list.repeated[0].to_string(),
        r#"line 3, column 3: operation one of project "main" is already on line 1; this line is ignored"#
    );
}

#[test]
fn quotes_allow_spaces() {
    for (line, value) in [
        (r#"id a="Gale Ltd" # why"#, "Gale Ltd"),
        (r#"id a="""#, ""),
        (r#"id a="say \"hi\" \\o/""#, r#"say "hi" \o/"#),
        (r#"id a=" # = ""#, " # = "),
        (r#"id a=5""#, r#"5""#),
        (r"id a=\", r"\"),
    ] {
        assert_eq!(
            *list(line).entries[0].terms.labels,
            labels(&[("a", value)]),
            "{line}"
        );
    }
    let list = list("id\ta=\"x y\"\u{2003}b=\"z\" project=\"staging\"\r\n");
    assert_eq!(
        list.entries[0].terms.labels,
        labels(&[("a", "x y"), ("b", "z")]),
        "{list:?}"
    );
    assert_eq!(keys(&list), ["staging/id"]);
}

#[test]
fn a_deadline_is_no_label_and_an_unusable_one_rejects_no_line() {
    let list = list(
        "one deadline=2026-12-01T06:00:00Z a=1\ntwo deadline=\"1h 30m\"\nthree a=1 deadline=soon\nthree deadline=late\n",
    );
    assert_eq!(keys(&list), ["main/one", "main/two", "main/three"]);
    assert_eq!(list.entries[0].terms.labels, labels(&[("a", "1")]));
    assert_eq!(list.entries[2].terms.labels, labels(&[("a", "1")]));
    assert_eq!((list.rejected_total, list.without_deadline_total), (0, 1));
    assert_eq!(
        list.without_deadline[0].to_string(),
        r#"line 3, column 20: the deadline "soon" is ignored, because it is neither a duration nor a time; write a time such as 2026-12-01T06:00:00Z, or a duration such as 1h30m"#
    );
}

#[test]
fn a_list_is_unusable_when_nothing_of_it_can_be_used() {
    let utf16 = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    for (bytes, unusable) in [
        (Vec::new(), None),
        (b"# only comments\n\n".to_vec(), None),
        (b"a/b\nok\nc/d\n".to_vec(), None),
        (b"ok\nok\n".to_vec(), None),
        (b"a/b\n# comment\n".to_vec(), Some(UnusableList::NoLineParses)),
        (b"caf\xE9 a=b\n".to_vec(), Some(UnusableList::NoLineParses)),
        (vec![0; 100], Some(UnusableList::NotText)),
        (utf16("one a=1\ntwo\n"), Some(UnusableList::NotText)),
        (
            b"ok\n\x1f\x8b\x08\n\xff\x01\n".to_vec(),
            Some(UnusableList::NotText),
        ),
        // As many lines that are text as that are not.
        (b"ok\nalso\n\0\0\n\0".to_vec(), None),
        (utf16("\u{feff}one a=1\ntwo\n"), None),
    ] {
        assert_eq!(list(&bytes).unusable(), unusable, "{}", bytes.escape_ascii());
    }
}

#[test]
fn utf_16_is_read_as_utf_8_is() {
    let text = "\u{feff}one customer=Gäle\r\n\r\nb/d\r\nzwei x=\"ä ö\"\r\n";
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_eq!(list(&little), list(text));
    assert_eq!(list(&big), list(text));
    let cut = list(&little[..little.len() - 1]);
    assert_eq!(keys(&cut), ["main/one"]);
    assert_eq!(
        cut.rejected.last().map(|error| &error.problem),
        Some(&LineProblem::NotUtf8)
    );
}

#[test]
fn an_invalid_line_does_not_affect_the_others() {
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

fn some_terms() -> impl Strategy<Value = Arc<Terms>> {
    let label = (
        "[^=\"'\\s\\p{C}#][^=\"'\\s\\p{C}]{0,8}"
            .prop_filter("reserved", |key| key != "project" && key != "deadline"),
        "([^\\s\\p{C}]| |\"|\\\\){0,12}",
    );
    let labels = prop::collection::btree_map(label.0, label.1, 0..4);
    let deadline = prop::option::of(1..1_000_000_u64);
    (labels, deadline).prop_map(|(labels, seconds)| {
        Arc::new(Terms {
            labels: labels.into_iter().collect(),
            deadline: seconds.map(|seconds| Deadline::After(Duration::from_secs(seconds))),
        })
    })
}

type Desired = BTreeMap<WatchKey, Arc<Terms>>;

/// Few IDs, so that two lists have some in common.
fn desired(id: impl Strategy<Value = String>) -> impl Strategy<Value = Desired> {
    let key = (0..2usize, id).prop_map(|(project, id)| WatchKey {
        project: Arc::clone(&projects()[project]),
        operation: id.into(),
    });
    prop::collection::btree_map(key, some_terms(), 0..12)
}

fn print(desired: &Desired) -> String {
    let mut text = String::new();
    for (key, terms) in desired {
        write!(text, "{} project={}", key.operation, key.project).unwrap();
        for (key, value) in &terms.labels {
            write!(text, " {}", label_text(key, value)).unwrap();
        }
        if let Some(deadline) = &terms.deadline {
            write!(text, " {}", label_text("deadline", &deadline.to_string())).unwrap();
        }
        text.push('\n');
    }
    text
}

fn as_map(list: &WatchList) -> Desired {
    let pair = |entry: &Entry| (entry.key.clone(), Arc::clone(&entry.terms));
    list.entries.iter().map(pair).collect()
}

#[test]
fn lines_beyond_the_maximum_are_rejected_and_the_others_apply() {
    let list = parse_at_most(2, b"a\n\nb\na\nc\nd\n", &projects());
    let ids: Vec<_> = list.entries.iter().map(|entry| &*entry.key.operation).collect();
    assert_eq!(ids, ["a", "b"]);
    let lines: Vec<_> = list.rejected.iter().map(|error| error.line).collect();
    assert_eq!(lines, [5, 6]);
    assert_eq!(list.rejected[0].problem, LineProblem::TooManyEntries { most: 2 });
    assert_eq!(list.repeated_total, 1);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let lines = bytes.split(|byte| *byte == b'\n').count();
        let list = parse(&bytes, &projects());
        // UTF-16 has fewer.
        prop_assert!(list.entries.len() + list.rejected_total + list.repeated_total <= lines);
        for error in list.rejected.iter().chain(&list.repeated) {
            prop_assert!(error.column >= 1 && error.line as usize <= lines);
            prop_assert!(!error.to_string().contains(char::is_control));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "([ \t\n\r#=\"\\\\.a-c]|project=|deadline=|\\PC){0,200}") {
        let list = parse(text.as_bytes(), &projects());
        prop_assert_eq!(as_map(&list).len(), list.entries.len());
        for entry in &list.entries {
            let bytes: usize = entry.terms.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
            prop_assert!(accepts_id(&entry.key.operation) && bytes <= MAX_LINE_BYTES);
        }
    }

    #[test]
    fn what_is_printed_is_read_again(desired in desired(id())) {
        let list = list(print(&desired));
        prop_assert_eq!(&list.rejected, &[]);
        prop_assert_eq!(as_map(&list), desired);
    }

    #[test]
    fn the_difference_leads_to_the_new_list(
        old in desired("[a-f]".boxed()),
        new in desired("[a-f]".boxed()),
    ) {
        let (old_list, new_list) = (list(print(&old)), list(print(&new)));
        let mut result = old.clone();
        for project in projects() {
            let difference = difference(&project, &old_list.entries, &new_list.entries);
            for operation in &difference.withdrawn {
                let key = WatchKey::of(&project, operation);
                prop_assert!(result.remove(&key).is_some() && !new.contains_key(&key));
            }
            let mut added = 0;
            for (operation, terms) in difference.set {
                let before = result.insert(WatchKey::of(&project, &operation), Arc::clone(&terms));
                added += usize::from(before.is_none());
                prop_assert_ne!(before, Some(terms), "nothing changed");
            }
            prop_assert_eq!(added, difference.added);
        }
        prop_assert_eq!(result, new);
    }
}

#[test]
fn an_argument_is_a_label_as_in_a_line() {
    let label = |argument: &str| parse_label(argument).map_err(|problem| problem.to_string());
    let is = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
    assert_eq!(label("customer=acme"), is("customer", "acme"));
    assert_eq!(label("customer=Gale Ltd"), is("customer", "Gale Ltd"));
    assert_eq!(
        label(r#"customer="Gale \"Ltd\"""#),
        is("customer", "Gale \"Ltd\"")
    );
    assert_eq!(label("note=a #b=c"), is("note", "a #b=c"));
    assert_eq!(label("empty="), is("empty", ""));
    assert_eq!(label("project=staging"), is("project", "staging"));
    for (argument, reason) in [
        ("acme", "not a label"),
        ("=acme", "no key"),
        ("a b=c", "white space"),
        ("a\"b=c", "quotes"),
        ("a=b\nc", "control character"),
        ("a=\"b", "no end"),
        ("a=\"b\"c", "right after"),
        ("a=\"b\" c=d", "right after"),
        (r#"a="\n""#, "backslash"),
    ] {
        let refused = label(argument).unwrap_err();
        assert!(refused.contains(reason), "{argument}: {refused}");
    }
    assert_eq!(check_operation_id("op-1"), Ok(()));
    assert_eq!(check_operation_id(""), Err(LineProblem::MissingId));
    assert_eq!(check_operation_id("a b"), Err(LineProblem::IdCharacter(' ')));
}
