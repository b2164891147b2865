//! Text that is searched for without regard to case.

/// A searched text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchText {
    lowercase: String,
}

impl SearchText {
    /// The most characters of a text. Searches run between polls.
    pub const MAX: usize = 200;

    /// The text, without white space at its ends. `None` if it is too long.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (text.chars().count() <= Self::MAX).then(|| Self {
            lowercase: text.to_lowercase(),
        })
    }

    /// Whether these parts, one after the other, have the text.
    #[must_use]
    pub fn is_in(&self, parts: &[&str]) -> bool {
        parts.concat().to_lowercase().contains(&self.lowercase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_count() {
        let gale = SearchText::new(" GALE ltd ").unwrap();
        assert!(gale.is_in(&["customer", "=", "Gale Ltd"]));
        assert!(!gale.is_in(&["customer", "=", "Gale"]));
        assert!(SearchText::new("ÖL").unwrap().is_in(&["Rapsöl"]));
        assert!(SearchText::new("r=ga").unwrap().is_in(&["customer", "=", "Gale"]));
        assert!(SearchText::new("").unwrap().is_in(&[]));
    }

    #[test]
    fn a_long_text_is_refused() {
        assert!(SearchText::new(&"é".repeat(200)).is_some());
        assert_eq!(SearchText::new(&"é".repeat(201)), None);
    }
}
