//! Keeps the file of the control socket in its folder.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::error::chain;
use crate::http::{ControlError, ControlFile, ControlListener, ControlSocket, StartupRouter};

/// How often the file is checked.
const CHECK: Duration = Duration::from_secs(5);

/// The file of the control socket, until the daemon stops.
#[derive(Debug, Clone)]
pub(super) struct ControlSlot(Arc<Mutex<Option<ControlFile>>>);

impl ControlSlot {
    pub(super) fn new(file: ControlFile) -> Self {
        Self(Arc::new(Mutex::new(Some(file))))
    }

    /// Removes the file for good.
    pub(super) fn remove(&self) {
        drop(self.change(|file| file.take()));
    }

    fn is_deleted(&self) -> bool {
        self.change(|file| file.as_ref().is_some_and(ControlFile::is_deleted))
    }

    /// Puts a new file in place of a deleted one. After [`Self::remove`], it is removed instead.
    fn replace(&self, new: ControlFile) {
        let old = self.change(|file| match file {
            Some(file) => {
                file.set_deleted();
                std::mem::replace(file, new)
            }
            None => new,
        });
        drop(old);
    }

    fn change<T>(&self, change: impl FnOnce(&mut Option<ControlFile>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Binds the control socket in `folder`.
pub(super) async fn bind(folder: PathBuf) -> Result<Result<ControlSocket, ControlError>, JoinError> {
    spawn_blocking(move || ControlSocket::bind(&folder)).await
}

/// Serves the control socket until `closing`. If its file is deleted, a new socket takes its place.
pub(super) async fn keep(
    folder: PathBuf,
    slot: ControlSlot,
    mut listener: ControlListener,
    server: StartupRouter,
    closing: CancellationToken,
) {
    loop {
        // Clients that are connected to the old socket keep their connection until their response ends.
        let replaced = closing.child_token();
        let serving = server.clone().serve(listener, replaced.clone());
        let mut serving = std::pin::pin!(serving);
        let next = tokio::select! {
            () = &mut serving => return,
            next = new_socket(&folder, &slot) => next,
        };
        let (new_listener, file) = next.split();
        let replacing = slot.clone();
        let _ = spawn_blocking(move || replacing.replace(file)).await;
        tracing::warn!(
            folder = %folder.display(),
            "the file of the control socket was deleted; it is created again"
        );
        replaced.cancel();
        serving.await;
        listener = new_listener;
    }
}

/// Waits until the file is deleted, and binds a new socket.
async fn new_socket(folder: &Path, slot: &ControlSlot) -> ControlSocket {
    let mut checks = interval(CHECK);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_reported = false;
    loop {
        checks.tick().await;
        let checked = slot.clone();
        if !spawn_blocking(move || checked.is_deleted())
            .await
            .unwrap_or(false)
        {
            continue;
        }
        match bind(folder.to_owned()).await {
            Ok(Ok(socket)) => return socket,
            Ok(Err(error)) if !is_reported => {
                is_reported = true;
                tracing::warn!(
                    error = chain(&error),
                    "the file of the control socket was deleted and cannot be created again; retrying"
                );
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}
