//! Decisions, as plain values and functions.
//!
//! No I/O, tasks, clock or randomness: time and random numbers are arguments, and actions are returned as values.
//! `tests/source/architecture.rs` checks this.

pub mod answer;
pub mod attention;
pub mod compact_duration;
pub mod connections;
pub mod deadline;
pub mod delivery;
pub mod discovery;
pub mod doubt;
pub mod duration_distribution;
pub mod end_forecast;
pub mod event;
pub mod gate;
pub mod glob;
pub mod group;
pub mod group_state;
pub mod history;
pub mod installation;
pub mod json;
pub mod key_verdict;
pub mod labels;
pub mod mask;
pub mod operation;
pub mod operation_kind;
pub mod operation_log;
pub mod operation_name;
pub mod paging;
pub mod past_event;
pub mod phase;
pub mod poll_budget;
pub mod poller;
pub mod progress;
pub mod project_health;
pub mod retry_after;
pub mod schedule;
pub mod search_text;
pub mod source;
pub mod start_time;
pub mod t_distribution;
pub mod text;
pub mod trend;
pub mod wall_time;
pub mod watch;
pub mod watch_list;
pub mod watch_request;
mod watch_settings;
