//! The JSON of a list that is made part by part: `{"NAME":[…],"next":…}`.

use axum::body::Bytes;

use super::chunked_body::CHUNK_SIZE;

/// How far a list is written.
#[derive(Debug)]
pub(super) struct JsonList {
    name: &'static str,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Beginning,
    /// No item is written.
    Empty,
    Middle,
    End,
}

/// A part of the list that is being written.
#[derive(Debug)]
pub(super) struct ListPart<'a> {
    list: &'a mut JsonList,
    text: Vec<u8>,
}

impl JsonList {
    /// The list of that name.
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            progress: Progress::Beginning,
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.progress == Progress::End
    }

    /// Whether a part of it is made.
    pub(super) fn has_begun(&self) -> bool {
        self.progress != Progress::Beginning
    }

    /// The next part; `None` after the end.
    pub(super) fn part(&mut self) -> Option<ListPart<'_>> {
        if self.is_finished() {
            return None;
        }
        let mut text = Vec::with_capacity(CHUNK_SIZE);
        if self.progress == Progress::Beginning {
            text.extend_from_slice(format!("{{\"{}\":[", self.name).as_bytes());
            self.progress = Progress::Empty;
        }
        Some(ListPart { list: self, text })
    }
}

impl ListPart<'_> {
    /// Whether the part is large enough.
    pub(super) fn is_full(&self) -> bool {
        self.text.len() >= CHUNK_SIZE
    }

    /// Writes an item.
    pub(super) fn push(&mut self, json: &[u8]) {
        if self.list.progress == Progress::Middle {
            self.text.push(b',');
        }
        self.list.progress = Progress::Middle;
        self.text.extend_from_slice(json);
    }

    /// Ends the list; `next` is where to go on, as JSON.
    pub(super) fn finish(&mut self, next: &[u8]) {
        self.text.extend_from_slice(b"],\"next\":");
        self.text.extend_from_slice(next);
        self.text.push(b'}');
        self.list.progress = Progress::End;
    }

    pub(super) fn into_bytes(mut self) -> Bytes {
        self.text.shrink_to_fit();
        self.text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_one_document() {
        for (parts, wanted) in [
            (vec![vec![]], r#"{"items":[],"next":null}"#),
            (
                vec![vec!["1", "2"], vec![], vec!["3"]],
                r#"{"items":[1,2,3],"next":null}"#,
            ),
            (vec![vec![], vec!["1"], vec![]], r#"{"items":[1],"next":null}"#),
        ] {
            let mut list = JsonList::new("items");
            let mut text = Vec::new();
            let last = parts.len() - 1;
            for (index, items) in parts.iter().enumerate() {
                let mut part = list.part().unwrap();
                for item in items {
                    part.push(item.as_bytes());
                }
                if index == last {
                    part.finish(b"null");
                }
                text.extend_from_slice(&part.into_bytes());
            }
            assert_eq!(String::from_utf8(text).unwrap(), wanted);
            assert!(list.is_finished() && list.part().is_none());
        }
    }
}
