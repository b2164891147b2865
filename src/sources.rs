//! Where watches are asked for from outside: the watch list file and the HTTP API.
//!
//! Discovery, the third source, belongs to the project task, because its requests pass the project's gate.

pub mod api;
pub mod watch_list;
