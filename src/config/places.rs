//! Where a daemon keeps its state, its secrets and its control socket.

use std::io;
use std::path::{Path, PathBuf};

use super::environment::Environment;

/// The state directory of the installed unit, and the default without any environment.
const STATE_DIR: &str = "/var/lib/backfill-watch";
/// The folder of the installed unit's control socket.
const RUNTIME_DIR: &str = "/run/backfill-watch";
/// The folder of the secrets of installed units.
pub(super) const CREDSTORE: &str = "/etc/credstore";

/// The default state directory. `installed` is that of the installed unit, for commands that use its state.
pub(super) fn state_dir(environment: &Environment, installed: Option<&Path>) -> PathBuf {
    first_of(environment, "STATE_DIRECTORY")
        .or_else(|| installed.map(Path::to_owned))
        .or_else(|| {
            Some(
                environment
                    .absolute_path("XDG_STATE_HOME")?
                    .join("backfill-watch"),
            )
        })
        .or_else(|| {
            Some(
                environment
                    .absolute_path("HOME")?
                    .join(".local/state/backfill-watch"),
            )
        })
        .unwrap_or_else(|| PathBuf::from(STATE_DIR))
}

/// The state directory of the installed unit if it exists, readable or not.
pub(super) fn installed_state_dir() -> Option<&'static Path> {
    let folder = Path::new(STATE_DIR);
    match folder.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Ok(_) | Err(_) => Some(folder),
    }
}

/// The folder in which the daemon creates its control socket.
#[must_use]
pub fn control_folder(environment: &Environment, state_dir: &Path) -> PathBuf {
    first_of(environment, "RUNTIME_DIRECTORY").unwrap_or_else(|| state_dir.to_owned())
}

/// Which daemon a command addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonTarget {
    /// The installed one, or the only one.
    Default,
    /// That of a state directory or settings file named on the command line.
    Named,
}

/// The folders to search for the control socket of the daemon with this state directory, in this order.
#[must_use]
pub fn control_folders(environment: &Environment, target: DaemonTarget, state_dir: &Path) -> Vec<PathBuf> {
    let may_be_unit = target == DaemonTarget::Default || state_dir == Path::new(STATE_DIR);
    let installed = may_be_unit.then(|| PathBuf::from(RUNTIME_DIR));
    let mut folders: Vec<PathBuf> = first_of(environment, "RUNTIME_DIRECTORY")
        .into_iter()
        .chain(installed)
        .filter(|folder| folder != state_dir)
        .collect();
    let at = match target {
        DaemonTarget::Default => folders.len(),
        DaemonTarget::Named => 0,
    };
    folders.insert(at, state_dir.to_owned());
    folders
}

/// The first absolute folder of a variable. systemd separates several by colons.
fn first_of(environment: &Environment, variable: &str) -> Option<PathBuf> {
    let folders = environment.get(variable)?;
    std::env::split_paths(folders).find(|folder| folder.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_the_unit_comes_before_that_of_the_user() {
        let all = [
            ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"),
            ("XDG_STATE_HOME", "/x"),
            ("HOME", "/h"),
        ];
        let installed = Some(Path::new("/installed"));
        let of = |variables: &[(&str, &str)], installed| {
            state_dir(&Environment::from_iter(variables.iter().copied()), installed)
        };
        assert_eq!(of(&all, installed), Path::new("/var/lib/a"));
        assert_eq!(of(&all[1..], installed), Path::new("/installed"));
        assert_eq!(of(&all[1..], None), Path::new("/x/backfill-watch"));
        assert_eq!(of(&all[2..], None), Path::new("/h/.local/state/backfill-watch"));
        assert_eq!(of(&[], None), Path::new("/var/lib/backfill-watch"));
    }

    #[test]
    fn the_control_socket_is_searched_where_daemons_create_it() {
        let environment = |value: &str| Environment::from_iter([("RUNTIME_DIRECTORY", value)]);
        let state = Path::new("/state");
        assert_eq!(
            control_folder(&environment("/run/a:/run/b"), state),
            Path::new("/run/a")
        );
        assert_eq!(control_folder(&environment("relative"), state), state);
        let folders = |environment: &Environment, target: DaemonTarget, state: &str| {
            let folders = control_folders(environment, target, Path::new(state));
            folders
                .iter()
                .map(|folder| folder.display().to_string())
                .collect::<Vec<_>>()
        };
        let none = Environment::default();
        assert_eq!(
            folders(&environment("/run/a"), DaemonTarget::Default, "/state"),
            ["/run/a", "/run/backfill-watch", "/state"]
        );
        assert_eq!(
            folders(&none, DaemonTarget::Default, "/state"),
            ["/run/backfill-watch", "/state"]
        );
        assert_eq!(
            folders(&environment("/run/a"), DaemonTarget::Named, "/other"),
            ["/other", "/run/a"]
        );
        let unit = "/var/lib/backfill-watch";
        assert_eq!(
            folders(&none, DaemonTarget::Named, unit),
            [unit, "/run/backfill-watch"]
        );
    }
}
