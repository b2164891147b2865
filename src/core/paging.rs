//! Whether a list that comes in pages has an end.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// So many empty pages in a row are not followed by one with content.
const MAX_EMPTY: u32 = 100;

/// Why a list has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Endless {
    /// A page names a token that another page has named.
    #[error("a page token was repeated")]
    RepeatedToken,
    /// Pages bring nothing, and name ever new ones.
    #[error("{MAX_EMPTY} pages in a row were empty")]
    EmptyPages,
}

/// The pages so far. It stays small, whatever the tokens are.
#[derive(Debug, Default)]
pub struct Course {
    /// The beginnings of their SHA-256.
    tokens: HashSet<[u8; 16]>,
    empty: u32,
}

impl Course {
    /// Notes a page: how many elements it has, and the token of the next one.
    ///
    /// # Errors
    /// When there is no use in asking for the next one.
    pub fn follow(&mut self, elements: usize, next: Option<&str>) -> Result<(), Endless> {
        let Some(token) = next else {
            return Ok(());
        };
        self.empty = if elements == 0 { self.empty + 1 } else { 0 };
        if self.empty == MAX_EMPTY {
            return Err(Endless::EmptyPages);
        }
        let mut known = [0; 16];
        known.copy_from_slice(&Sha256::digest(token)[..16]);
        if self.tokens.insert(known) {
            Ok(())
        } else {
            Err(Endless::RepeatedToken)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_token_is_no_next_page() {
        let mut course = Course::default();
        assert_eq!(course.follow(1, Some("a")), Ok(()));
        assert_eq!(course.follow(1, Some("b")), Ok(()));
        assert_eq!(course.follow(1, Some("a")), Err(Endless::RepeatedToken));
    }

    #[test]
    fn a_hundred_empty_pages_in_a_row_are_too_many() {
        let mut course = Course::default();
        let page = |course: &mut Course, n: u32, elements| course.follow(elements, Some(&n.to_string()));
        for n in 0..99 {
            assert_eq!(page(&mut course, n, 0), Ok(()));
        }
        assert_eq!(page(&mut course, 99, 1), Ok(()), "one with content in between");
        for n in 100..199 {
            assert_eq!(page(&mut course, n, 0), Ok(()));
        }
        assert_eq!(course.follow(0, None), Ok(()), "the end is the end");
        assert_eq!(page(&mut course, 199, 0), Err(Endless::EmptyPages));
    }
}
