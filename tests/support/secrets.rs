//! The secrets of a setup, and where they must not be.

use std::fs;
use std::path::Path;

use backfill_watch::simulator::CUSTOMER_TOKEN;

use super::Setup;

/// Shorter secrets are parts of ordinary words.
const MIN_LENGTH: usize = 8;

impl Setup {
    /// The secrets of the environment and of the files that the settings name, without common prefixes, and the token
    /// that the simulator sends with every connection.
    pub fn secrets(&self) -> Vec<String> {
        let mut secrets = vec![CUSTOMER_TOKEN.to_owned()];
        for (name, value) in &self.environment {
            if name.starts_with("BACKFILL_WATCH_") && name.ends_with("_FILE") && !name.ends_with("CA_FILE") {
                let text = fs::read_to_string(value).unwrap_or_default();
                secrets.extend(text.lines().map(ToOwned::to_owned));
            } else if name.ends_with("_API_KEY") || name.ends_with("_SECRET") {
                secrets.push(value.clone());
            }
        }
        secrets
            .iter()
            .map(|secret| secret.trim().trim_start_matches("whsec_").to_owned())
            .filter(|secret| secret.len() >= MIN_LENGTH)
            .collect()
    }

    /// These bytes contain no secret.
    pub fn assert_no_secret_in(&self, what: &str, bytes: &[u8]) {
        for secret in self.secrets() {
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(
                !found,
                "a secret is in {what}: {}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    /// No file of the state directory contains a secret.
    pub fn assert_no_secret_in_state(&self) {
        self.assert_no_secret_below(&self.folder().join("state"));
    }

    fn assert_no_secret_below(&self, folder: &Path) {
        // A test may have removed it, or made it unreadable.
        let Ok(entries) = fs::read_dir(folder) else { return };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                self.assert_no_secret_below(&path);
            } else if let Ok(bytes) = fs::read(&path) {
                self.assert_no_secret_in(&path.display().to_string(), &bytes);
            }
        }
    }
}
