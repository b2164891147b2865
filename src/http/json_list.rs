//! A JSON list that is written in chunks: `{"NAME":[…],"next":…}`.

use axum::body::Bytes;

use super::chunked_body::CHUNK_SIZE;

/// The state of a partly written list.
#[derive(Debug)]
pub(super) struct JsonList {
    name: &'static str,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Beginning,
    /// No item is written yet.
    Empty,
    Middle,
    End,
}

/// The chunk that is being written.
#[derive(Debug)]
pub(super) struct ListChunk<'a> {
    list: &'a mut JsonList,
    text: Vec<u8>,
}

impl JsonList {
    /// An empty list with this member name.
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            progress: Progress::Beginning,
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.progress == Progress::End
    }

    /// Whether a chunk was started.
    pub(super) fn has_begun(&self) -> bool {
        self.progress != Progress::Beginning
    }

    /// Starts the next chunk; `None` after the end.
    pub(super) fn next_chunk(&mut self) -> Option<ListChunk<'_>> {
        if self.is_finished() {
            return None;
        }
        let mut text = Vec::with_capacity(CHUNK_SIZE);
        if self.progress == Progress::Beginning {
            text.extend_from_slice(format!("{{\"{}\":[", self.name).as_bytes());
            self.progress = Progress::Empty;
        }
        Some(ListChunk { list: self, text })
    }
}

impl ListChunk<'_> {
    /// Whether the chunk has its target size.
    pub(super) fn is_full(&self) -> bool {
        self.text.len() >= CHUNK_SIZE
    }

    /// Appends an item.
    pub(super) fn push(&mut self, json: &[u8]) {
        if self.list.progress == Progress::Middle {
            self.text.push(b',');
        }
        self.list.progress = Progress::Middle;
        self.text.extend_from_slice(json);
    }

    /// Ends the list; `next` is the JSON of the next cursor.
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
        for (chunks, wanted) in [
            (vec![vec![]], r#"{"items":[],"next":null}"#),
            (
                vec![vec!["1", "2"], vec![], vec!["3"]],
                r#"{"items":[1,2,3],"next":null}"#,
            ),
            (vec![vec![], vec!["1"], vec![]], r#"{"items":[1],"next":null}"#),
        ] {
            let mut list = JsonList::new("items");
            let mut text = Vec::new();
            let last = chunks.len() - 1;
            for (index, items) in chunks.iter().enumerate() {
                let mut chunk = list.next_chunk().unwrap();
                for item in items {
                    chunk.push(item.as_bytes());
                }
                if index == last {
                    chunk.finish(b"null");
                }
                text.extend_from_slice(&chunk.into_bytes());
            }
            assert_eq!(String::from_utf8(text).unwrap(), wanted);
            assert!(list.is_finished() && list.next_chunk().is_none());
        }
    }
}
