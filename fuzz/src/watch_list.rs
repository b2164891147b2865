//! Two watch lists, and the way from the first to the second.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use backfill_watch::core::source::Terms;
use backfill_watch::core::watch_list::{
    LineError, MAX_ID_LEN, MAX_LABEL_KEY_CHARS, MAX_LABELS, MAX_LINE_BYTES, MAX_REJECTED_KEPT, WatchKey,
    WatchList, accepts_id, difference, label_text, parse,
};

use super::{PARTING, is_one_line};

type Watches = HashMap<WatchKey, Arc<Terms>>;

pub fn run(data: &[u8]) {
    let projects = ["first", "second"].map(Arc::from);
    let parting = PARTING.as_bytes();
    let at = data.windows(parting.len()).position(|window| window == parting);
    let (one, two) = match at {
        Some(at) => (&data[..at], &data[at + parting.len()..]),
        None => (data, &data[data.len() / 2..]),
    };
    let (one, two) = (checked(one, &projects), checked(two, &projects));

    let mut running = watches(&one);
    for project in &projects {
        let difference = difference(project, &one.entries, &two.entries);
        for operation in &difference.withdrawn {
            let key = WatchKey::of(project, operation);
            assert!(running.remove(&key).is_some(), "removed twice, or never there");
        }
        let mut added = 0;
        for (operation, terms) in difference.set {
            let before = running.insert(WatchKey::of(project, &operation), Arc::clone(&terms));
            added += usize::from(before.is_none());
            assert_ne!(before, Some(terms), "nothing changed");
        }
        assert_eq!(added, difference.added);
    }
    assert_eq!(running, watches(&two));
}

fn watches(list: &WatchList) -> Watches {
    list.entries
        .iter()
        .map(|entry| (entry.key.clone(), Arc::clone(&entry.terms)))
        .collect()
}

fn checked(text: &[u8], projects: &[Arc<str>]) -> WatchList {
    let list = parse(text, projects);
    if text.starts_with(b"\xFF\xFE") || text.starts_with(b"\xFE\xFF") {
        // Its lines are not those of the bytes.
        check_entries(&list, projects);
        return list;
    }
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();

    assert!(list.entries.len() + list.rejected_total + list.repeated_total <= lines.len());
    assert!(list.binary_total <= list.rejected_total && list.without_deadline_total <= list.entries.len());
    for (kept, total) in [
        (&list.rejected, list.rejected_total),
        (&list.repeated, list.repeated_total),
        (&list.without_deadline, list.without_deadline_total),
    ] {
        assert_eq!(kept.len(), total.min(MAX_REJECTED_KEPT));
        kept.iter().for_each(|error| check_error(error, &lines));
    }
    let rejected: HashSet<u32> = list.rejected.iter().map(|error| error.line).collect();
    assert_eq!(rejected.len(), list.rejected.len(), "a line was rejected twice");
    // What the lines that were not rejected begin with.
    let begins: HashSet<&str> = (1..)
        .zip(&lines)
        .filter(|(number, line)| !rejected.contains(number) && line.len() <= MAX_LINE_BYTES + 1)
        .filter_map(|(_, line)| str::from_utf8(line).ok()?.split_whitespace().next())
        .collect();

    for entry in &list.entries {
        let id = &*entry.key.operation;
        assert!(begins.contains(id), "{id}: no line that applies and fits");
    }
    check_entries(&list, projects);
    list
}

fn check_error(error: &LineError, lines: &[&[u8]]) {
    let line = lines[error.line as usize - 1];
    let columns = String::from_utf8_lossy(line).chars().count() + 1;
    assert!(
        (1..=columns).contains(&(error.column as usize)),
        "{error}: not in the line"
    );
    let reported = error.to_string();
    assert!(reported.len() < 1_000 && is_one_line(&reported), "{reported:?}");
}

fn check_entries(list: &WatchList, projects: &[Arc<str>]) {
    for entry in &list.entries {
        let id = &*entry.key.operation;
        assert!((1..=MAX_ID_LEN).contains(&id.len()) && id != "." && id != "..");
        assert!(accepts_id(id));
        assert!(
            id.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte))
        );
        assert!(projects.contains(&entry.key.project));
        assert!(entry.terms.labels.len() <= MAX_LABELS);
        let keys: HashSet<&str> = entry.terms.labels.iter().map(|(key, _)| &**key).collect();
        assert_eq!(keys.len(), entry.terms.labels.len());
        let bytes: usize = entry
            .terms
            .labels
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        assert!(bytes <= MAX_LINE_BYTES);
        for (key, value) in &entry.terms.labels {
            assert!((1..=MAX_LABEL_KEY_CHARS).contains(&key.chars().count()));
            assert!(key != "project" && key != "deadline");
            assert!(!key.contains(['=', '"', '\'']) && !key.contains(char::is_whitespace));
            assert!(!key.contains(char::is_control) && !value.contains(char::is_control));
        }
    }
    let keys: HashSet<&WatchKey> = list.entries.iter().map(|entry| &entry.key).collect();
    assert_eq!(keys.len(), list.entries.len());

    let again = parse(printed(list, projects).as_bytes(), projects);
    assert_eq!(again.rejected, Vec::new());
    let content = |list: &WatchList| -> Vec<(WatchKey, Arc<Terms>)> {
        list.entries
            .iter()
            .map(|entry| (entry.key.clone(), entry.terms.clone()))
            .collect()
    };
    assert_eq!(content(&again), content(list), "printed and read again");
}

/// The list as a file that means the same.
fn printed(list: &WatchList, projects: &[Arc<str>]) -> String {
    let mut text = String::new();
    for entry in &list.entries {
        text.push_str(&entry.key.operation);
        if entry.key.project != projects[0] {
            text.push_str(&format!(" project={}", entry.key.project));
        }
        for (key, value) in &entry.terms.labels {
            text.push(' ');
            text.push_str(&label_text(key, value));
        }
        if let Some(deadline) = &entry.terms.deadline {
            text.push(' ');
            text.push_str(&label_text("deadline", &deadline.to_string()));
        }
        text.push('\n');
    }
    text
}
