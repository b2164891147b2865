//! Lists of globs: the one kind of pattern that settings use for names.

use globset::{Glob, GlobSet, GlobSetBuilder};

/// Names are matched by any of these globs.
#[derive(Debug, Clone)]
pub struct Globs {
    patterns: Vec<String>,
    set: GlobSet,
}

impl Globs {
    /// Compiles the patterns. `*` matches any characters, `/` included.
    ///
    /// # Errors
    /// The first pattern that is not a glob, and why.
    pub fn parse(patterns: Vec<String>) -> Result<Self, globset::Error> {
        let mut set = GlobSetBuilder::new();
        for pattern in &patterns {
            set.add(Glob::new(pattern)?);
        }
        Ok(Self {
            set: set.build()?,
            patterns,
        })
    }

    /// The glob that matches everything.
    #[must_use]
    pub fn all() -> Self {
        Self::parse(vec!["*".to_owned()]).unwrap_or_else(|_| Self {
            patterns: Vec::new(),
            set: GlobSet::empty(),
        })
    }

    /// Whether one of the globs matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.set.is_match(name)
    }

    /// The patterns as they were given.
    #[must_use]
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }
}

impl PartialEq for Globs {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(patterns: &[&str]) -> Globs {
        Globs::parse(patterns.iter().map(|pattern| (*pattern).to_owned()).collect()).unwrap()
    }

    #[test]
    fn any_of_them_matches_and_a_star_matches_slashes() {
        assert!(Globs::all().matches("") && Globs::all().matches("a/b"));
        let globs = globs(&["acme-*", "contact"]);
        assert!(globs.matches("acme-1") && globs.matches("acme-a/b") && globs.matches("contact"));
        assert!(!globs.matches("contacts") && !globs.matches("Acme-1"));
        assert!(Globs::parse(vec!["[".to_owned()]).is_err());
    }
}
