//! Reloads, by signal or over the control socket.

use std::time::Duration;

use tokio::sync::mpsc;

use super::webhooks::read_secrets;
use super::{App, client, key_sources, list_settings};
use crate::config::ConfigErrors;
use crate::error::chain;
use crate::health::Stage;
use crate::http::{
    CheckReport, ControlRequest, ReloadRefusal, ReloadReport, SettingsProblem, WatchListReport,
};
use crate::systemd;

/// How long a reload waits for the watch list; a file system may hang.
const LIST_TIMEOUT: Duration = Duration::from_secs(2);

impl App {
    /// Reloads, or handles a control request. One reload answers all queued requests.
    pub(super) async fn handle_control_request(
        &mut self,
        request: Option<ControlRequest>,
        control_requests: &mut mpsc::Receiver<ControlRequest>,
    ) {
        let mut reload_replies = Vec::new();
        match request {
            Some(ControlRequest::Check(reply)) => {
                // The client may be gone.
                let _ = reply.send(self.check().await);
                return;
            }
            Some(ControlRequest::Reload(reply)) => reload_replies.push(reply),
            None => {}
        }
        let mut check_replies = Vec::new();
        while let Ok(request) = control_requests.try_recv() {
            match request {
                ControlRequest::Reload(reply) => reload_replies.push(reply),
                ControlRequest::Check(reply) => check_replies.push(reply),
            }
        }
        let outcome = self.reload().await;
        for reply in reload_replies {
            let _ = reply.send(outcome.clone());
        }
        if !check_replies.is_empty() {
            let checked = self.check().await;
            for reply in check_replies {
                let _ = reply.send(checked.clone());
            }
        }
    }

    /// Reads settings, secrets and the watch list again. With invalid settings the running ones stay active.
    async fn reload(&mut self) -> Result<ReloadReport, ReloadRefusal> {
        tracing::info!("reloading settings, secrets and watch list");
        let is_ready = self.pages.health.stage() == Stage::Ready;
        if is_ready {
            systemd::notify_reloading();
        }
        let reloaded = self.reload_settings().await;
        self.pages.metrics.set_config_reloaded(reloaded.is_ok());
        let (list, outcome) = match reloaded {
            Ok((list, applied)) => {
                self.attention.settings_applied(self.settings.watch_list.clone());
                (list, Ok(applied))
            }
            Err(error) => {
                self.attention.settings_rejected(summary(&error));
                tracing::error!(
                    error = chain(error.as_ref()),
                    "settings not applied; the previous settings stay active; fix them and reload again"
                );
                // The watch list and the keys are still read: they may be what was changed.
                (self.list.reload(), Err(refusal(&error)))
            }
        };
        let new_api_keys = self.refresh_secrets().await;
        let mut snapshots = self.list.snapshots();
        let read = snapshots.wait_for(|snapshot| snapshot.reloads >= list);
        // A list that takes longer is still applied later.
        let is_read = tokio::time::timeout(LIST_TIMEOUT, read).await.is_ok();
        if is_ready {
            systemd::notify_ready();
        }
        let mut applied = outcome?;
        applied.new_api_keys = new_api_keys;
        applied.watch_list = self.list_state(is_read);
        Ok(applied)
    }

    /// Applies the settings, and returns the number of the watch list's reload. All fallible steps come first, so that the
    /// settings apply as a whole or not at all.
    async fn reload_settings(&mut self) -> anyhow::Result<(u64, ReloadReport)> {
        let source = self.source.clone();
        let loaded = tokio::task::spawn_blocking(move || source.load()).await??;
        for warning in &loaded.warnings {
            tracing::warn!(key = warning.key, help = warning.help, "{}", warning.problem);
        }
        let mut settings = loaded.settings;
        let kept = settings.keep_restart_only(&self.settings);
        let client = client(&settings.ampersand).await?;
        let rules = self.pages.read_rules(&settings).await?;
        let secrets = read_secrets(&settings.webhooks).await;
        let before = self.settings.log.filter.clone();
        self.log.set_filter(&settings.log.filter)?;
        if let Err(error) = self.daemon.apply(&settings, secrets.read).await {
            self.log.set_filter(&before)?;
            return Err(error);
        }
        self.pages.apply(&settings, rules);
        self.daemon.fetch().set_client(client);
        self.daemon.fetch().set_sources(key_sources(&settings.ampersand));
        for key in &kept {
            tracing::warn!(
                key,
                "this setting cannot change while running; it applies after a restart"
            );
        }
        let mut applied = self.effective.differences(&loaded.effective);
        applied.retain(|key| !kept.contains(&key.as_str()));
        let before = std::mem::replace(&mut self.effective, loaded.effective);
        self.effective.keep(&kept, &before);
        self.settings = settings;
        let list = self.list.apply_settings(list_settings(&self.settings));
        tracing::info!("settings reloaded");
        let applied = ReloadReport {
            applied,
            kept,
            new_api_keys: Vec::new(),
            warnings: loaded.warnings.iter().map(Into::into).collect(),
            watch_list: WatchListReport::default(),
        };
        Ok((list, applied))
    }

    /// Checks the current settings with the rights and credentials of the daemon. Nothing is applied.
    async fn check(&self) -> CheckReport {
        let source = self.source.clone();
        let errors = match tokio::task::spawn_blocking(move || source.load()).await {
            Ok(Ok(_)) => Vec::new(),
            Ok(Err(errors)) => SettingsProblem::all(&errors),
            Err(error) => vec![SettingsProblem::other(chain(&error))],
        };
        CheckReport {
            file: self.source.file().display().to_string(),
            errors,
            watch_list: self.list_state(true),
        }
    }

    fn list_state(&self, is_read: bool) -> WatchListReport {
        let snapshot = self.list.snapshots().borrow().clone();
        WatchListReport::new(&self.settings.watch_list, &snapshot, is_read)
    }
}

/// Why the settings were not applied, in one line.
fn summary(error: &anyhow::Error) -> String {
    match error.downcast_ref::<ConfigErrors>() {
        Some(errors) => errors.summary(),
        None => format!("{error:#}"),
    }
}

fn refusal(error: &anyhow::Error) -> ReloadRefusal {
    let problems = match error.downcast_ref::<ConfigErrors>() {
        Some(errors) => SettingsProblem::all(errors),
        None => vec![SettingsProblem::other(format!("{error:#}"))],
    };
    let count = match problems.len() {
        1 => "1 error".to_owned(),
        count => format!("{count} errors"),
    };
    ReloadRefusal {
        reason: format!("settings not applied: {count}; the previous settings stay active"),
        problems,
    }
}
