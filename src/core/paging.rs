//! Whether a list that comes in pages has an end.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// So many empty pages in a row are not followed by one with content.
const MAX_EMPTY: u32 = 100;

/// Why a list has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PagingError {
    /// A page names a token that another page has named.
    #[error("a page token was repeated")]
    RepeatedToken,
    /// Pages bring nothing, and name ever new ones.
    #[error("{MAX_EMPTY} pages in a row were empty")]
    EmptyPages,
}

/// The pages so far. It stays small, whatever the tokens are.
#[derive(Debug, Default)]
pub struct PageSequence {
    /// The beginnings of their SHA-256.
    tokens: HashSet<[u8; 16]>,
    empty: u32,
}

impl PageSequence {
    /// Notes a page: how many elements it has, and the token of the next one.
    ///
    /// # Errors
    /// When there is no use in asking for the next one.
    pub fn follow(&mut self, elements: usize, next: Option<&str>) -> Result<(), PagingError> {
        let Some(token) = next else {
            return Ok(());
        };
        self.empty = if elements == 0 { self.empty + 1 } else { 0 };
        if self.empty == MAX_EMPTY {
            return Err(PagingError::EmptyPages);
        }
        let mut known = [0; 16];
        known.copy_from_slice(&Sha256::digest(token)[..16]);
        if self.tokens.insert(known) {
            Ok(())
        } else {
            Err(PagingError::RepeatedToken)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_token_is_no_next_page() {
        let mut pages = PageSequence::default();
        assert_eq!(pages.follow(1, Some("a")), Ok(()));
        assert_eq!(pages.follow(1, Some("b")), Ok(()));
        assert_eq!(pages.follow(1, Some("a")), Err(PagingError::RepeatedToken));
    }

    #[test]
    fn a_hundred_empty_pages_in_a_row_are_too_many() {
        let mut pages = PageSequence::default();
        let page = |pages: &mut PageSequence, n: u32, elements| pages.follow(elements, Some(&n.to_string()));
        for n in 0..99 {
            assert_eq!(page(&mut pages, n, 0), Ok(()));
        }
        assert_eq!(page(&mut pages, 99, 1), Ok(()), "one with content in between");
        for n in 100..199 {
            assert_eq!(page(&mut pages, n, 0), Ok(()));
        }
        assert_eq!(pages.follow(0, None), Ok(()), "the end is the end");
        assert_eq!(page(&mut pages, 199, 0), Err(PagingError::EmptyPages));
    }
}
