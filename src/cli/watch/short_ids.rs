//! Short forms of operation IDs for bars.

use std::collections::HashMap;

use crate::core::watch_list::WatchKey;

/// IDs up to this length are shown whole.
const WHOLE: usize = LONGEST_START;
/// The shortest prefix that is shown of a longer ID.
const START: usize = 8;
/// The longest prefix. If longer ones would be needed, prefix and suffix are shown.
const LONGEST_START: usize = 16;
/// Short forms of the IDs that are still distinct.
pub(super) fn short_ids(keys: &[WatchKey]) -> Vec<String> {
    let start = (START..=LONGEST_START).find(|length| {
        let mut starts: HashMap<&str, &str> = HashMap::new();
        keys.iter().filter(|key| key.operation.len() > WHOLE).all(|key| {
            let earlier = starts.insert(&key.operation[..*length], &key.operation);
            earlier.is_none_or(|earlier| *earlier == *key.operation)
        })
    });
    keys.iter()
        .map(|key| {
            let id = &*key.operation;
            match start {
                _ if id.len() <= WHOLE => id.to_owned(),
                Some(start) => id[..start].to_owned(),
                None => format!("{}…{}", &id[..START], &id[id.len() - START..]),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shortened(ids: &[&str]) -> Vec<String> {
        let keys: Vec<WatchKey> = ids
            .iter()
            .map(|id| WatchKey {
                project: "p".into(),
                operation: (*id).into(),
            })
            .collect();
        short_ids(&keys)
    }

    #[test]
    fn ids_are_shortened_while_they_stay_distinct() {
        let one = "3efc0f0f-4bb9-498f-996c-9893d98ca4b5";
        assert_eq!(shortened(&["op-1", one, one]), ["op-1", "3efc0f0f", "3efc0f0f"]);
        let other = "3efc0f0f-4ab9-498f-996c-9893d98ca4b5";
        assert_eq!(shortened(&[one, other]), ["3efc0f0f-4b", "3efc0f0f-4a"]);
        assert_eq!(
            shortened(&["a-long-prefix-of-all-0001", "a-long-prefix-of-all-0002"]),
            ["a-long-p…all-0001", "a-long-p…all-0002"]
        );
    }
}
