//! Writes the simulated operations as a watch list.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::simulator::SimulatedOperation;

/// The first line of each written list. Only such files are overwritten.
const MARK: &str =
    "# Simulated operations, written by `backfill-watch simulate`, which will overwrite this file";

/// Writes the list, unless the file was not written here.
pub(super) fn write(path: &Path, operations: &[SimulatedOperation]) -> anyhow::Result<()> {
    let shown = path.display();
    match fs::read(path) {
        Ok(content) if content.starts_with(MARK.as_bytes()) => {}
        Ok(_) => {
            bail!("{shown} was not written by `simulate` and is not overwritten; use another --watch-list")
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
    }
    let mut text = format!("{MARK}\n");
    for operation in operations {
        let object = operation.objects.first().map_or("contact", String::as_str);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} object={object}", operation.id);
    }
    fs::write(path, text).with_context(|| format!("cannot write {shown}; use another --watch-list"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_its_own_list_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watch.list");
        let operations = [SimulatedOperation::new("sim-1", Duration::ZERO, 1)];
        write(&path, &[]).unwrap();
        write(&path, &operations).unwrap();
        let lines: Vec<String> = fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        assert_eq!(lines, [MARK, "sim-1 object=contact"]);

        fs::write(&path, "3efc0f0f customer=acme\n").unwrap();
        let refusal = write(&path, &operations).unwrap_err().to_string();
        assert!(refusal.contains("not overwritten"), "{refusal}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "3efc0f0f customer=acme\n");
    }
}
