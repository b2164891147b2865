//! Opening a state directory, and refusing what cannot be used without touching it.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::schema::{self, Kind};
use super::{Database, explain, is_damage};
use crate::clock;
use crate::error::chain;
use crate::store::lock::{DirLock, LockError};

const FILE: &str = "state.db";

/// How long to wait for another program's transaction. A `replay` holds the lock for milliseconds at a time.
const BUSY: Duration = Duration::from_secs(10);

/// Why a state cannot be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is not there and cannot be made, or cannot be written to.
    #[error("cannot use the state directory `{dir}`: {}", directory_advice(source))]
    Directory {
        /// The state directory.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another daemon runs on it.
    #[error(
        "the state directory `{dir}` is in use by another backfill-watch{}; stop that one, or give this one a `state_dir` of its own",
        .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    InUse {
        /// The state directory.
        dir: PathBuf,
        /// The other's process ID.
        pid: Option<u32>,
    },
    /// A newer program wrote it.
    #[error(
        "the state `{file}` was written by a newer backfill-watch (its version is {found}, this program knows up to {known}); it was left as it is: use the newer program, or another `state_dir`"
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// An older program wrote it, and a command that only looks does not change that.
    #[error(
        "the state `{file}` was written by an older backfill-watch (its version is {found}, this program's is {known}); start the daemon of this version once to bring it up to date"
    )]
    Older {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: i64,
        /// This program's.
        known: i64,
    },
    /// It is something else.
    #[error("`{file}` is not a state of backfill-watch; it was left as it is: use another `state_dir`")]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// It is damaged.
    #[error(
        "the state `{file}` is damaged ({detail}); it was left as it is: restore a backup, or move it and the files beside it aside to begin anew"
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// There is no state yet, and a command that only looks does not make one.
    #[error("there is no state in `{dir}`; has the daemon run with this `state_dir`?")]
    Absent {
        /// The state directory.
        dir: PathBuf,
    },
    /// SQLite refuses for another reason.
    #[error("cannot open the state `{file}`: {words}")]
    Failed {
        /// The file.
        file: PathBuf,
        /// The reason.
        words: String,
    },
    /// The thread that owns the state cannot be started.
    #[error("cannot start the thread that keeps the state")]
    Thread(#[source] io::Error),
}

fn directory_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "this user may not write to it; change its owner or its mode",
        io::ErrorKind::ReadOnlyFilesystem => {
            "it is on a read-only file system; mount it writable, or set another `state_dir`"
        }
        io::ErrorKind::StorageFull => "its disk is full; make room",
        io::ErrorKind::QuotaExceeded => "this user's quota is used up; make room, or raise it",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "something on that path is not a directory"
        }
        _ => "the system refuses it",
    }
}

/// Opens the state in `dir` for the daemon, makes it if there is none, and keeps other daemons out.
///
/// After a crash the file is checked first, which takes a second or so for each gigabyte.
pub(in crate::store) fn open(dir: &Path) -> Result<(Database, DirLock), OpenError> {
    let unusable = |source| OpenError::Directory {
        dir: dir.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(unusable)?;
    let lock = DirLock::take(dir).map_err(|error| match error {
        LockError::Held(pid) => OpenError::InUse {
            dir: dir.to_owned(),
            pid,
        },
        LockError::Io(source) => unusable(source),
    })?;
    let file = dir.join(FILE);
    // SQLite would create it readable for everybody. Its other files take over this one's mode.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&file)
        .map_err(unusable)?;
    let failed = |error| classify(&file, &error);
    let conn = connect(&file, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    // Closing would write what the last run left in the log into the file, even one that is refused below.
    set_checkpoint_on_close(&conn, false).map_err(failed)?;
    let version = match schema::kind(&conn).map_err(failed)? {
        Kind::Empty => 0,
        Kind::State(version) => version,
        Kind::Foreign => return Err(OpenError::Foreign { file: file.clone() }),
    };
    if version > schema::latest() {
        return Err(OpenError::Newer {
            file: file.clone(),
            found: version,
            known: schema::latest(),
        });
    }
    if lock.was_unclean() && version > 0 {
        check(&conn, &file)?;
    }
    configure(&conn).map_err(failed)?;
    schema::migrate(&conn, version, schema::STEPS).map_err(failed)?;
    set_checkpoint_on_close(&conn, true).map_err(failed)?;
    Ok((Database { conn }, lock))
}

/// A second connection of the daemon, for questions.
pub(in crate::store) fn open_reader(dir: &Path) -> Result<Database, OpenError> {
    let file = dir.join(FILE);
    let conn = connect(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|error| classify(&file, &error))?;
    Ok(Database { conn })
}

/// A state that nothing is left of when it is dropped.
pub(in crate::store) fn open_memory() -> Result<Database, rusqlite::Error> {
    let conn = Connection::open_in_memory()?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    schema::migrate(&conn, 0, schema::STEPS)?;
    Ok(Database { conn })
}

/// A connection for a command that runs beside the daemon, or without one.
pub(in crate::store) fn open_beside(dir: &Path, flags: OpenFlags) -> Result<Connection, OpenError> {
    let file = dir.join(FILE);
    match file.try_exists() {
        Ok(true) => {}
        Ok(false) => return Err(OpenError::Absent { dir: dir.to_owned() }),
        Err(source) => {
            return Err(OpenError::Directory {
                dir: dir.to_owned(),
                source,
            });
        }
    }
    let failed = |error| classify(&file, &error);
    let (conn, kind) = match look(&file, flags) {
        Ok(found) => found,
        // On a directory that cannot be written to, SQLite cannot make the files that coordinate readers and
        // writers. Without anything in the log, nobody writes, and the file alone tells all.
        Err(_) if flags.contains(OpenFlags::SQLITE_OPEN_READ_ONLY) && log_is_empty(dir) => {
            look(&immutable(&file), flags | OpenFlags::SQLITE_OPEN_URI).map_err(failed)?
        }
        Err(error) => return Err(failed(error)),
    };
    let known = schema::latest();
    match kind {
        Kind::State(found) if found == known => Ok(conn),
        Kind::State(found) if found > known => Err(OpenError::Newer { file, found, known }),
        Kind::State(found) => Err(OpenError::Older { file, found, known }),
        Kind::Empty => Err(OpenError::Absent { dir: dir.to_owned() }),
        Kind::Foreign => Err(OpenError::Foreign { file }),
    }
}

/// Room for every statement there is.
const STATEMENTS: usize = 96;

fn connect(file: &Path, flags: OpenFlags) -> Result<Connection, rusqlite::Error> {
    let conn = Connection::open_with_flags(file, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(BUSY)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(conn)
}

fn look(file: &Path, flags: OpenFlags) -> Result<(Connection, Kind), rusqlite::Error> {
    let conn = connect(file, flags)?;
    let kind = schema::kind(&conn)?;
    Ok((conn, kind))
}

fn configure(conn: &Connection) -> Result<(), rusqlite::Error> {
    conn.pragma_update(None, "journal_mode", "wal")?;
    conn.pragma_update(None, "synchronous", "full")?;
    // 16 MiB of log before it is written back; what a burst left behind goes.
    conn.pragma_update(None, "wal_autocheckpoint", 4096)?;
    conn.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    conn.pragma_update(None, "temp_store", "memory")
}

fn set_checkpoint_on_close(conn: &Connection, yes: bool) -> Result<(), rusqlite::Error> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !yes)
        .map(drop)
}

fn check(conn: &Connection, file: &Path) -> Result<(), OpenError> {
    tracing::info!(file = %file.display(), "the last run did not end in order; checking the state");
    let begin = clock::instant();
    let verdict: String = conn
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| classify(file, &error))?;
    if verdict != "ok" {
        return Err(OpenError::Damaged {
            file: file.to_owned(),
            detail: crate::core::text::one_line(&verdict, 256),
        });
    }
    tracing::info!(seconds = begin.elapsed().as_secs_f64(), "the state is sound");
    Ok(())
}

fn classify(file: &Path, error: &rusqlite::Error) -> OpenError {
    if is_damage(error) {
        OpenError::Damaged {
            file: file.to_owned(),
            detail: chain(error),
        }
    } else {
        OpenError::Failed {
            file: file.to_owned(),
            words: explain(error),
        }
    }
}

fn log_is_empty(dir: &Path) -> bool {
    dir.join(format!("{FILE}-wal")).metadata().map_or_else(
        |error| error.kind() == io::ErrorKind::NotFound,
        |log| log.len() == 0,
    )
}

/// The file as SQLite's URI for "nobody writes to this".
fn immutable(file: &Path) -> PathBuf {
    let mut uri = String::from("file:");
    for character in file.to_string_lossy().chars() {
        match character {
            '%' => uri.push_str("%25"),
            '?' => uri.push_str("%3f"),
            '#' => uri.push_str("%23"),
            other => uri.push(other),
        }
    }
    uri.push_str("?immutable=1");
    PathBuf::from(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_special_characters_becomes_a_sound_uri() {
        assert_eq!(
            immutable(Path::new("/a%b/c?d#e/state.db")),
            Path::new("file:/a%25b/c%3fd%23e/state.db?immutable=1")
        );
    }
}
