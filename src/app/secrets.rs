//! Reads the secrets again while the daemon runs, and reports those that cannot be read any more.

use std::sync::Arc;

use super::App;
use super::webhooks::read_secrets;
use crate::config::SecretError;
use crate::core::attention::{SecretChange, SecretUse, UnreadableSecret};
use crate::error::chain;

impl App {
    /// Reads secret files again, so that a rotated secret needs no reload. Returns the projects with a new key.
    pub(super) async fn refresh_secrets(&self) -> Vec<Arc<str>> {
        let keys = self.daemon.fetch().refresh_keys().await;
        self.daemon.keys_replaced(&keys.replaced);
        let secrets = read_secrets(&self.settings.webhooks).await;
        let lost_secrets = self.daemon.set_secrets(secrets);
        let lost_tokens = self.pages.refresh_tokens().await;
        let mut lost = Vec::new();
        for (project, error) in &keys.unreadable {
            lost.push(unreadable(SecretUse::ApiKey(project.to_string()), error));
        }
        for (name, error) in &lost_secrets {
            lost.push(unreadable(SecretUse::Webhook(name.to_string()), error));
        }
        for (setting, error) in &lost_tokens {
            lost.push(unreadable(SecretUse::Tokens(setting), error));
        }
        for change in self.attention.secrets_read(lost) {
            log_change(&change);
        }
        keys.replaced
    }
}

fn unreadable(used_for: SecretUse, error: &SecretError) -> UnreadableSecret {
    UnreadableSecret {
        used_for,
        reason: chain(error),
        help: error.help(),
    }
}

fn log_change(change: &SecretChange) {
    match change {
        SecretChange::Unreadable(UnreadableSecret {
            used_for,
            reason,
            help,
        }) => match used_for {
            SecretUse::ApiKey(project) => tracing::warn!(
                project,
                reason,
                help,
                "the API key cannot be read; the previous one stays in use, but the next start fails"
            ),
            SecretUse::Webhook(endpoint) => tracing::warn!(
                endpoint,
                reason,
                help,
                "the webhook secret cannot be read; the previous one stays in use, but the next start fails"
            ),
            SecretUse::Tokens(key) => tracing::warn!(
                key,
                reason,
                help,
                "the HTTP tokens cannot be read; the previous ones stay valid, but the next start fails"
            ),
        },
        SecretChange::Readable(used_for) => match used_for {
            SecretUse::ApiKey(project) => tracing::info!(project, "the API key can be read again"),
            SecretUse::Webhook(endpoint) => tracing::info!(endpoint, "the webhook secret can be read again"),
            SecretUse::Tokens(key) => tracing::info!(key, "the HTTP tokens can be read again"),
        },
    }
}
