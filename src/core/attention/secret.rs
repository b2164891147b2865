//! Entries about secrets that cannot be read any more.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Attention, AttentionKind, MAX_REASON};
use crate::core::text;

/// What a secret is used for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretUse {
    /// Requests of this project.
    ApiKey(String),
    /// Signatures of this webhook.
    Webhook(String),
    /// The HTTP tokens of this setting.
    Tokens(&'static str),
}

/// A secret that cannot be read. The one that was read before stays in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableSecret {
    /// Its use.
    pub used_for: SecretUse,
    /// Why it cannot be used, with its file.
    pub reason: String,
    /// What to do about it.
    pub help: &'static str,
}

/// A change between two reads of all secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretChange {
    /// It cannot be read any more, or for another reason.
    Unreadable(UnreadableSecret),
    /// It can be read again.
    Readable(SecretUse),
}

/// The secrets that could not be read last, each with the time of its first failure.
#[derive(Debug, Default)]
pub struct UnreadableSecrets(BTreeMap<SecretUse, (UnreadableSecret, Timestamp)>);

impl UnreadableSecrets {
    /// Replaces them after all secrets were read. Returns the changes.
    pub fn observe(&mut self, found: Vec<UnreadableSecret>, now: Timestamp) -> Vec<SecretChange> {
        let mut before = std::mem::take(&mut self.0);
        let mut changes = Vec::new();
        for secret in found {
            let known = before.remove(&secret.used_for);
            let since = known.as_ref().map_or(now, |(_, since)| *since);
            if known.is_none_or(|(known, _)| known != secret) {
                changes.push(SecretChange::Unreadable(secret.clone()));
            }
            self.0.insert(secret.used_for.clone(), (secret, since));
        }
        changes.extend(before.into_keys().map(SecretChange::Readable));
        changes
    }

    /// Their entries.
    pub fn entries(&self) -> impl Iterator<Item = Attention> {
        self.0.values().map(|(secret, since)| entry(secret, *since))
    }
}

fn entry(secret: &UnreadableSecret, since: Timestamp) -> Attention {
    let reason = text::one_line(&secret.reason, MAX_REASON);
    let action = format!("{}; it is read again within 10 s", secret.help);
    let entry = match &secret.used_for {
        SecretUse::ApiKey(project) => {
            let message = format!(
                "the API key cannot be read: {reason}. The key that was read before stays in use, but the next start fails."
            );
            Attention::new(AttentionKind::SettingsRejected, message, &action).of_project(project)
        }
        SecretUse::Webhook(name) => {
            let message = format!(
                "the secret of webhook \"{name}\" cannot be read: {reason}. The secret that was read before stays in use, but \
                 the next start fails."
            );
            Attention::new(AttentionKind::EndpointWithoutSecret, message, &action).of_subject(name)
        }
        SecretUse::Tokens(setting) => {
            let message = format!(
                "the tokens of {setting} cannot be read: {reason}. The tokens that were read before stay valid, but the next \
                 start fails."
            );
            Attention::new(AttentionKind::SettingsRejected, message, &action).of_subject(*setting)
        }
    };
    entry.since(Some(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreadable(used_for: SecretUse, reason: &str) -> UnreadableSecret {
        UnreadableSecret {
            used_for,
            reason: reason.to_owned(),
            help: "write the secret there",
        }
    }

    #[test]
    fn a_lost_secret_is_reported_once_until_it_is_there_again() {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let key = |reason| unreadable(SecretUse::ApiKey("p".to_owned()), reason);
        let webhook = unreadable(SecretUse::Webhook("crm".to_owned()), "secret is empty");
        let tokens = unreadable(SecretUse::Tokens("http.token_file"), "tokens is empty");
        let mut secrets = UnreadableSecrets::default();
        assert_eq!(secrets.observe(Vec::new(), at(0)), []);
        let lost = |secret: &UnreadableSecret| SecretChange::Unreadable(secret.clone());
        assert_eq!(
            secrets.observe(vec![key("key is empty"), webhook.clone()], at(1)),
            [lost(&key("key is empty")), lost(&webhook)]
        );
        assert_eq!(
            secrets.observe(vec![key("key is empty"), webhook.clone()], at(2)),
            []
        );
        // Another reason is a change, but no new start.
        let other = key("key has more than one line");
        assert_eq!(
            secrets.observe(vec![other.clone(), tokens.clone()], at(3)),
            [
                lost(&other),
                lost(&tokens),
                SecretChange::Readable(webhook.used_for.clone())
            ]
        );
        let since: Vec<_> = secrets.entries().map(|entry| entry.since).collect();
        assert_eq!(since, [Some(at(1)), Some(at(3))]);
        secrets.observe(Vec::new(), at(4));
        assert_eq!(secrets.entries().count(), 0);
    }

    #[test]
    fn an_entry_names_the_file_and_what_is_still_used() {
        let mut secrets = UnreadableSecrets::default();
        let found = [
            SecretUse::ApiKey("p".to_owned()),
            SecretUse::Webhook("crm".to_owned()),
            SecretUse::Tokens("http.token_file"),
        ];
        let found = found.map(|used_for| unreadable(used_for, "/file\nis empty"));
        secrets.observe(found.into(), Timestamp::UNIX_EPOCH);
        let entries: Vec<_> = secrets
            .entries()
            .map(|entry| (entry.kind.as_str(), entry.project, entry.subject, entry.message))
            .collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            entries,
            [
                (
                    "settings_rejected",
                    some("p"),
                    None,
                    "the API key cannot be read: /file\\nis empty. The key that was read before stays in use, but the next \
                     start fails."
                        .to_owned()
                ),
                (
                    "endpoint_without_secret",
                    None,
                    some("crm"),
                    "the secret of webhook \"crm\" cannot be read: /file\\nis empty. The secret that was read before stays \
                     in use, but the next start fails."
                        .to_owned()
                ),
                (
                    "settings_rejected",
                    None,
                    some("http.token_file"),
                    "the tokens of http.token_file cannot be read: /file\\nis empty. The tokens that were read before stay \
                     valid, but the next start fails."
                        .to_owned()
                ),
            ]
        );
    }
}
