//! Detects lists whose pages never end.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// This many empty pages in a row are an error.
const MAX_EMPTY: u32 = 100;

/// Why a list never ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PagingError {
    /// A page has the token of an earlier page.
    #[error("a page token was repeated")]
    RepeatedToken,
    /// Too many pages in a row are empty.
    #[error("{MAX_EMPTY} pages in a row were empty")]
    EmptyPages,
}

/// The pages so far, in bounded memory per token.
#[derive(Debug, Default)]
pub struct PageSequence {
    /// The first 16 bytes of each token's SHA-256.
    tokens: HashSet<[u8; 16]>,
    empty: u32,
}

impl PageSequence {
    /// Records a page: the number of its elements, and the token of the next page.
    ///
    /// # Errors
    /// When the next page must not be requested.
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
