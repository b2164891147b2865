//! Settings: loaded, merged and checked.
//!
//! `files` reads the settings files; `raw` merges them with environment and flags and keeps the place of each value;
//! `reader` checks type and range by the table in `keys`. The result is the checked types below, or all errors together.

mod ampersand;
mod discovery;
mod effective;
mod environment;
mod error;
mod event_filter;
mod file;
mod files;
mod http;
mod keys;
mod log;
mod places;
mod poll;
mod raw;
mod reader;
mod reference;
mod secret;
mod secrets;
mod settings;
mod value;
mod web_address;
mod webhook;

#[cfg(test)]
mod tests;

pub use ampersand::{AmpersandSettings, ProjectSettings};
pub use discovery::{DiscoveryRules, GroupSettings};
pub use effective::{EffectiveSettings, SettingValue};
pub use environment::Environment;
pub use error::{ConfigErrors, ConfigProblem, Place, problem_text};
pub use event_filter::{EventGlob, WebhookEventFilter};
pub use file::FileError;
pub use http::{HttpSettings, Unauthenticated};
pub use log::{LogFormat, LogSettings};
pub use places::{DaemonTarget, control_folder, control_folders};
pub use poll::PollSettings;
pub use reference::{settings_reference, table_header};
pub use secret::{SecretError, SecretSource, WebhookSecret};
pub use settings::{
    DEFAULT_PATH, DaemonLocation, LoadedSettings, MetricsSettings, Overrides, Settings, SettingsCheck,
};
pub(crate) use web_address::is_loopback;
pub use webhook::{PlainHttp, WebhookSettings};
