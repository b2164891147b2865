//! Two watch lists, and the way from the first to the second.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use backfill_watch::core::watch_list::{
    Labels, LineError, MAX_ID_LEN, MAX_LABEL_KEY_CHARS, MAX_LABELS, MAX_LINE_BYTES, MAX_REJECTED_KEPT,
    WatchKey, WatchList, accepts_id, diff, label_text, parse,
};

use super::{PARTING, is_one_line};

type Watches = HashMap<WatchKey, Arc<Labels>>;

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
    let difference = diff(&running, listed, &two);
    let (added, relabelled) = (difference.added, difference.relabelled);
    let removed: Vec<WatchKey> = difference.removed.into_iter().cloned().collect();
    for key in removed {
        assert!(running.remove(&key).is_some(), "removed twice, or never there");
    }
    for entry in added {
        let before = running.insert(entry.key.clone(), entry.labels.clone());
        assert!(before.is_none(), "added, though it ran");
    }
    for entry in relabelled {
        let before = running.insert(entry.key.clone(), entry.labels.clone());
        assert!(
            before.is_some_and(|before| before != entry.labels),
            "nothing changed"
        );
    }
    assert_eq!(running, watches(&two));
}

fn listed(labels: &Arc<Labels>) -> Option<&Arc<Labels>> {
    Some(labels)
}

fn watches(list: &WatchList) -> Watches {
    list.entries
        .iter()
        .map(|entry| (entry.key.clone(), Arc::clone(&entry.labels)))
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
        assert!(entry.labels.len() <= MAX_LABELS);
        let keys: HashSet<&str> = entry.labels.iter().map(|(key, _)| &**key).collect();
        assert_eq!(keys.len(), entry.labels.len());
        let bytes: usize = entry
            .labels
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        assert!(bytes <= MAX_LINE_BYTES);
        for (key, value) in &*entry.labels {
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
    let content = |list: &WatchList| -> Vec<(WatchKey, Arc<Labels>)> {
        list.entries
            .iter()
            .map(|entry| (entry.key.clone(), entry.labels.clone()))
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
        for (key, value) in &*entry.labels {
            text.push(' ');
            text.push_str(&label_text(key, value));
        }
        text.push('\n');
    }
    text
}
