//! What the program decides, as plain values and functions.
//!
//! Nothing in here does I/O, spawns, reads a clock or rolls dice: time and chance come in as arguments, and
//! what is to be done goes out as values. `tests/source/architecture.rs` keeps it so.

pub mod answer;
pub mod attention;
pub mod compact_duration;
pub mod connections;
pub mod deadline;
pub mod delivery;
pub mod duration_distribution;
pub mod end_forecast;
pub mod event;
pub mod gate;
pub mod history;
pub mod installation;
pub mod json;
pub mod key_verdict;
pub mod mask;
pub mod operation;
pub mod operation_kind;
pub mod operation_log;
pub mod paging;
pub mod past_event;
pub mod phase;
pub mod poll_budget;
pub mod poller;
pub mod progress;
pub mod project_health;
pub mod retry_after;
pub mod schedule;
pub mod start_time;
pub mod t_distribution;
pub mod text;
pub mod trend;
pub mod wall_time;
pub mod watch;
pub mod watch_list;
