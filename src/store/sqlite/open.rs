//! Opens a state directory. A state that is refused is not changed.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{Access, access};

use super::check::{self, CheckResult};
use super::open_error::{Cancel, FILE, OpenError};
use super::schema::{self, DatabaseKind};
use super::{Database, access, checksum, copy, explain, is_damage};
use crate::clock;
use crate::error::chain;
use crate::store::damage::DamagedRow;
use crate::store::lock::{DirLock, Fingerprint, Last, LockError};

/// The longest wait for another program's transaction. A `replay` locks the state for milliseconds at a time.
const BUSY: Duration = Duration::from_secs(10);

/// The pause between two attempts to open a locked state.
const RETRY: Duration = Duration::from_millis(50);

/// The steps of SQLite's virtual machine between two checks for cancellation: some milliseconds.
const STEPS_BETWEEN_CHECKS: i32 = 10_000;

/// An open state.
#[derive(Debug)]
pub(in crate::store) struct Opened {
    pub(in crate::store) database: Database,
    /// A second connection, for reads.
    pub(in crate::store) reader: Database,
    pub(in crate::store) lock: DirLock,
    pub(in crate::store) file: PathBuf,
    /// Damaged rows that were moved aside.
    pub(in crate::store) damaged: Vec<DamagedRow>,
}

/// Opens the state in `dir` for the daemon. Creates it if there is none, and locks it against other daemons.
///
/// After a crash, or when another program wrote to it, the file is checked first, which takes some seconds for each
/// gigabyte. `cancel` ends the check within a fraction of a second.
pub(in crate::store) fn open(dir: &Path, cancel: &Cancel) -> Result<Opened, OpenError> {
    let unusable = |source| OpenError::Directory {
        dir: dir.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(unusable)?;
    if let Some(error) = access::refused(dir) {
        return Err(error);
    }
    let lock = DirLock::take(dir).map_err(|error| match error {
        LockError::Held(pid) => OpenError::InUse {
            dir: dir.to_owned(),
            pid,
        },
        LockError::Io(source) => unusable(source),
    })?;
    let file = dir.join(FILE);
    // SQLite would create it readable for everybody. Its other files inherit this mode.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&file)
        .map_err(unusable)?;
    let must_check = match lock.last() {
        Last::Clean(Some(print)) => Fingerprint::of(&file).ok() != Some(print),
        Last::Clean(None) | Last::Unclean => true,
    };
    let begin = clock::instant();
    let (database, damaged) = loop {
        match prepare(&file, must_check, cancel) {
            _ if cancel.is_set() => return Err(OpenError::Cancelled),
            // SQLite's own wait cannot be cancelled.
            Err(OpenError::Busy { .. }) if begin.elapsed() < BUSY => thread::sleep(RETRY),
            other => break other?,
        }
    };
    let reader = connect(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|error| classify(&file, &error))?;
    Ok(Opened {
        database,
        reader: Database::new(reader).map_err(|error| classify(&file, &error))?,
        lock,
        file,
        damaged,
    })
}

/// Checks and upgrades an open state. A state that is refused is not changed.
fn prepare(file: &Path, must_check: bool, cancel: &Cancel) -> Result<(Database, Vec<DamagedRow>), OpenError> {
    check_header(file)?;
    let failed = |error| classify(file, &error);
    let mut conn = connect(file, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    conn.busy_timeout(Duration::ZERO).map_err(failed)?;
    let asked = cancel.clone();
    conn.progress_handler(STEPS_BETWEEN_CHECKS, Some(move || asked.is_set()))
        .map_err(failed)?;
    // Closing would write the log of the last run into the file, even if it is refused below.
    set_checkpoint_on_close(&conn, false).map_err(failed)?;
    let version = match schema::kind(&conn).map_err(failed)? {
        DatabaseKind::Empty => 0,
        DatabaseKind::State(version) => version,
        DatabaseKind::Foreign => {
            return Err(OpenError::Foreign {
                file: file.to_owned(),
            });
        }
    };
    if version > schema::latest() {
        return Err(OpenError::Newer {
            file: file.to_owned(),
            found: version,
            known: schema::latest(),
        });
    }
    let mut damaged = Vec::new();
    if version > 0 {
        if let Some(name) = schema::difference(&conn, version).map_err(failed)? {
            return Err(OpenError::Damaged {
                file: file.to_owned(),
                detail: format!("its schema is not that of version {version}: {name}"),
            });
        }
        if must_check {
            check::check(&conn, file, version, &mut damaged).map_err(|verdict| match verdict {
                CheckResult::Unsound(detail) => OpenError::Damaged {
                    file: file.to_owned(),
                    detail,
                },
                CheckResult::Failed(error) => failed(error),
            })?;
        }
    }
    configure(&conn).map_err(failed)?;
    if (1..schema::latest()).contains(&version) {
        let copy = copy::before_migration(&conn, file, schema::latest(), cancel)?;
        tracing::info!(copy = %copy.display(), from = version, to = schema::latest(), "upgrading the state");
    }
    schema::migrate(&conn, version, schema::STEPS).map_err(failed)?;
    check::tidy(&conn, &mut damaged).map_err(failed)?;
    conn.progress_handler(0, None::<fn() -> bool>).map_err(failed)?;
    conn.busy_timeout(BUSY).map_err(failed)?;
    set_checkpoint_on_close(&conn, true).map_err(failed)?;
    Ok((Database::new(conn).map_err(failed)?, damaged))
}

/// Refuses a file that SQLite would open in another mode: read-only, or without its log.
fn check_header(file: &Path) -> Result<(), OpenError> {
    const VERSIONS: std::ops::Range<usize> = 18..20;
    let mut header = [0; 20];
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut header));
    // SQLite checks shorter files itself.
    if read.is_ok()
        && header.starts_with(b"SQLite format 3\0")
        && header[VERSIONS].iter().any(|byte| !(1..=2).contains(byte))
    {
        return Err(OpenError::Damaged {
            file: file.to_owned(),
            detail: "its header names a format that does not exist".to_owned(),
        });
    }
    Ok(())
}

/// A state in memory.
pub(in crate::store) fn open_memory() -> Result<Database, rusqlite::Error> {
    let conn = Connection::open_in_memory()?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    checksum::install(&conn)?;
    schema::migrate(&conn, 0, schema::STEPS)?;
    Database::new(conn)
}

impl Database {
    fn new(conn: Connection) -> Result<Self, rusqlite::Error> {
        let start = conn.query_row("SELECT lower(hex(randomblob(4)))", [], |row| row.get(0))?;
        Ok(Self {
            conn,
            start,
            start_is_noted: false,
        })
    }
}

/// A connection for a command that runs beside the daemon, or without one.
pub(in crate::store) fn open_beside(dir: &Path, flags: OpenFlags) -> Result<Connection, OpenError> {
    let file = dir.join(FILE);
    let wanted = match flags.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        true => Access::READ_OK | Access::WRITE_OK,
        false => Access::READ_OK,
    };
    // Without opening it: closing it again would release the locks of another connection of this process.
    match access(&file, wanted).map_err(io::Error::from) {
        Ok(()) => {}
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Err(OpenError::Absent { dir: dir.to_owned() });
        }
        Err(cause) => {
            let metadata = file.metadata().or_else(|_| dir.metadata());
            let owner = metadata.map(|metadata| metadata.uid()).ok();
            return Err(OpenError::Forbidden {
                file,
                owner: owner.filter(|owner| *owner != 0),
                cause,
            });
        }
    }
    let failed = |error| classify(&file, &error);
    let (conn, kind) = match connect_and_inspect(&file, flags) {
        Ok(found) => found,
        // In a read-only directory SQLite cannot create the files that coordinate readers and writers. With an empty log
        // nobody writes, and the file alone is complete.
        Err(_) if flags.contains(OpenFlags::SQLITE_OPEN_READ_ONLY) && log_is_empty(dir) => {
            connect_and_inspect(&immutable(&file), flags | OpenFlags::SQLITE_OPEN_URI).map_err(failed)?
        }
        Err(error) => return Err(failed(error)),
    };
    let known = schema::latest();
    match kind {
        DatabaseKind::State(found) if found == known => Ok(conn),
        DatabaseKind::State(found) if found > known => Err(OpenError::Newer { file, found, known }),
        DatabaseKind::State(found) => Err(OpenError::Older { file, found, known }),
        DatabaseKind::Empty => Err(OpenError::Absent { dir: dir.to_owned() }),
        DatabaseKind::Foreign => Err(OpenError::Foreign { file }),
    }
}

/// More than the number of all statements.
const STATEMENTS: usize = 256;

fn connect(file: &Path, flags: OpenFlags) -> Result<Connection, rusqlite::Error> {
    let conn = Connection::open_with_flags(file, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(BUSY)?;
    checksum::install(&conn)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // Otherwise SQLite prepares statements again when parameters change.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(conn)
}

fn connect_and_inspect(file: &Path, flags: OpenFlags) -> Result<(Connection, DatabaseKind), rusqlite::Error> {
    let conn = connect(file, flags)?;
    let kind = schema::kind(&conn)?;
    Ok((conn, kind))
}

fn configure(conn: &Connection) -> Result<(), rusqlite::Error> {
    conn.pragma_update(None, "journal_mode", "wal")?;
    conn.pragma_update(None, "synchronous", "full")?;
    // The log is written back at 16 MiB, and shrinks after a burst.
    conn.pragma_update(None, "wal_autocheckpoint", 4096)?;
    conn.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    conn.pragma_update(None, "temp_store", "memory")?;
    // A damaged header may request gigabytes.
    conn.pragma_update(None, "cache_size", -2000)
}

pub(super) fn set_checkpoint_on_close(conn: &Connection, yes: bool) -> Result<(), rusqlite::Error> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !yes)
        .map(drop)
}

fn classify(file: &Path, error: &rusqlite::Error) -> OpenError {
    if is_damage(error) {
        OpenError::Damaged {
            file: file.to_owned(),
            detail: chain(error),
        }
    } else if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) {
        OpenError::Busy {
            file: file.to_owned(),
            words: explain(error),
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

/// The URI of a file that nobody writes to.
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
