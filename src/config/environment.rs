//! A copy of the environment, so that only commands read that of the process.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A copy of the environment variables and the current folder. Its debug print shows names only, because values may be
/// secrets.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
    /// Where relative paths start, if that is known.
    folder: Option<PathBuf>,
}

impl Environment {
    /// Copies the environment of this process, without names that are not UTF-8.
    #[must_use]
    pub fn capture() -> Self {
        let variables: Self = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect();
        let folder = variables.current_folder();
        Self { folder, ..variables }
    }

    /// The current folder by its name in the shell, which may be a symlink. A deployment may replace that link later; then
    /// relative paths lead to the new folder.
    fn current_folder(&self) -> Option<PathBuf> {
        let identity = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
        let here = identity(Path::new(".")).ok()?;
        self.absolute_path("PWD")
            .filter(|shell| identity(shell).is_ok_and(|named| named == here))
            .or_else(|| std::env::current_dir().ok())
    }

    /// The absolute path, from the folder when the environment was captured.
    #[must_use]
    pub fn absolute(&self, path: &Path) -> PathBuf {
        match &self.folder {
            // `components` drops `./`.
            Some(folder) if path.is_relative() => folder.join(path).components().collect(),
            _ => path.to_owned(),
        }
    }

    /// The value of a variable. An empty one counts as not set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables
            .get(name)
            .map(OsString::as_os_str)
            .filter(|value| !value.is_empty())
    }

    /// The value of a variable, if it is an absolute path.
    pub(super) fn absolute_path(&self, name: &str) -> Option<PathBuf> {
        self.get(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    }

    /// All variables that are not empty, sorted by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &OsStr)> {
        self.variables
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.as_str(), value.as_os_str()))
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self {
            variables,
            folder: None,
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_counts_as_not_set_and_debug_hides_values() {
        let environment = Environment::from_iter([("A", ""), ("B", "hunter2"), ("C", "relative/path")]);
        assert_eq!(environment.get("A"), None);
        assert_eq!(environment.get("B"), Some(OsStr::new("hunter2")));
        assert_eq!(environment.iter().count(), 2);
        assert_eq!(environment.absolute_path("C"), None);
        let printed = format!("{environment:?}");
        assert!(printed.contains('B') && !printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn relative_paths_start_from_the_folder_of_the_capture() {
        let captured = Environment::capture();
        let here = std::env::current_dir().unwrap();
        let canonical = |path: &Path| fs::canonicalize(path).unwrap();
        assert_eq!(
            canonical(&captured.absolute(Path::new("./src"))),
            canonical(&here.join("src"))
        );
        assert!(captured.absolute(Path::new("a/./b")).ends_with("a/b"));
        assert_eq!(captured.absolute(Path::new("/a/b")), Path::new("/a/b"));

        // The name in the shell counts only if it leads to the same folder.
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&here, &link).unwrap();
        let of_shell = |path: &Path| Environment::from_iter([("PWD", path.as_os_str())]).current_folder();
        assert_eq!(of_shell(&link), Some(link));
        assert_eq!(of_shell(folder.path()), Some(here));
    }
}
