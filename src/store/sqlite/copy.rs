//! Copies a state before its schema is upgraded.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::open_error::{Cancel, OpenError};

/// The pages that are copied between two checks for cancellation.
const PAGES: i32 = 256;

/// The pause while another program writes.
const PAUSE: Duration = Duration::from_millis(10);

/// The free space that an upgrade needs besides the copy and the new schema.
const MARGIN: u64 = 16 * 1024 * 1024;

/// Copies `file`, which `conn` has open, to `FILE.before-VERSION`. A crash leaves a complete copy or none.
pub(super) fn before_migration(
    conn: &Connection,
    file: &Path,
    version: i64,
    cancel: &Cancel,
) -> Result<PathBuf, OpenError> {
    let copy = with_suffix(file, &format!(".before-{version}"));
    let unfinished = with_suffix(&copy, ".tmp");
    let failed = |reason: String| OpenError::Copy {
        copy: copy.clone(),
        reason,
    };
    check_free_space(conn, file, &copy)?;
    let result = copy_to(conn, &unfinished, cancel)
        .and_then(|()| finish(&unfinished, &copy).map_err(|error| CopyError::Failed(error.to_string())));
    match result {
        Ok(()) => Ok(copy),
        Err(error) => {
            // A partial copy is useless.
            let _ = fs::remove_file(&unfinished);
            Err(match error {
                CopyError::Cancelled => OpenError::Cancelled,
                CopyError::Failed(reason) => failed(reason),
            })
        }
    }
}

enum CopyError {
    Cancelled,
    Failed(String),
}

impl From<rusqlite::Error> for CopyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(super::explain(&error))
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn check_free_space(conn: &Connection, file: &Path, copy: &Path) -> Result<(), OpenError> {
    let dir = file.parent().unwrap_or(Path::new("."));
    let pragma = |name| -> u64 {
        let value: Result<i64, _> = conn.pragma_query_value(None, name, |row| row.get(0));
        value
            .ok()
            .and_then(|value| u64::try_from(value).ok())
            .unwrap_or(0)
    };
    let size = pragma("page_count").saturating_mul(pragma("page_size"));
    // The copy, and the same again for the log of the migration.
    let needed = size.saturating_mul(2).saturating_add(MARGIN);
    // Without a figure from the system, the copy itself fails if there is too little.
    let Ok(disk) = rustix::fs::statvfs(dir) else {
        return Ok(());
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < needed {
        return Err(OpenError::NotEnoughSpace {
            copy: copy.to_owned(),
            needed,
            free,
        });
    }
    Ok(())
}

fn copy_to(conn: &Connection, to: &Path, cancel: &Cancel) -> Result<(), CopyError> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(CopyError::Failed(error.to_string()));
        }
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|error| CopyError::Failed(error.to_string()))?;
    let mut target = Connection::open(to)?;
    // It is synced once, at the end.
    target.pragma_update(None, "journal_mode", "off")?;
    target.pragma_update(None, "synchronous", "off")?;
    {
        let backup = Backup::new(conn, &mut target)?;
        loop {
            match backup.step(PAGES)? {
                StepResult::Done => break,
                StepResult::More => {}
                // Another program writes.
                _ => std::thread::sleep(PAUSE),
            }
            if cancel.is_set() {
                return Err(CopyError::Cancelled);
            }
        }
    }
    target.close().map_err(|(_, error)| error.into())
}

fn finish(unfinished: &Path, copy: &Path) -> io::Result<()> {
    File::open(unfinished)?.sync_all()?;
    fs::rename(unfinished, copy)?;
    let dir = copy.parent().unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}
