//! Settings: as written, then checked.
//!
//! The way of a value: the files (`files`), the environment and the flags are laid over each other (`raw`), each value keeping
//! its place; a reader takes each one at its type and range (`reader`), section by section; and what comes out are
//! the checked types below, or a list of everything that is wrong. Nothing is logged here.

mod ampersand;
mod defaults;
mod effective;
mod environment;
mod error;
mod event_filter;
mod file;
mod files;
mod given;
mod http;
mod keys;
mod log;
mod places;
mod poll;
mod raw;
mod reader;
mod secret;
mod secrets;
mod settings;
mod value;
mod web_address;
mod webhook;

#[cfg(test)]
mod tests;

pub use ampersand::{AmpersandSettings, ProjectSettings};
pub use effective::SettingValue;
pub use environment::Environment;
pub use error::{ConfigErrors, ConfigProblem, Place};
pub use event_filter::{EventGlob, WebhookEventFilter};
pub use file::FileError;
pub use given::Given;
pub use http::{HttpSettings, Unauthenticated};
pub use log::{LogFormat, LogSettings};
pub use places::{DaemonTarget, control_folder, control_folders};
pub use poll::PollSettings;
pub use secret::{SecretError, SecretSource, WebhookSecret};
pub use settings::{
    DEFAULT_PATH, DaemonLocation, LoadedSettings, MetricsSettings, Overrides, Settings, SettingsCheck,
};
pub(crate) use web_address::is_loopback;
pub use webhook::{PlainHttp, WebhookSettings};
