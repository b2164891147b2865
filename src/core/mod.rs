//! What the program decides, as plain values and functions.
//!
//! Nothing in here does I/O, spawns, reads a clock or rolls dice: time and chance come in as arguments, and
//! what is to be done goes out as values. `tests/source/architecture.rs` keeps it so.

pub mod answer;
pub mod attention;
pub mod budget;
pub mod connections;
pub mod deadline;
pub mod event;
pub mod experience;
pub mod gate;
pub mod installation;
pub mod json;
pub mod key_verdict;
pub mod kind;
pub mod lifetimes;
pub mod log_line;
pub mod mask;
pub mod operation;
pub mod outlook;
pub mod paging;
pub mod past_event;
pub mod phase;
pub mod poller;
pub mod progress;
pub mod project;
pub mod retry;
pub mod retry_after;
pub mod schedule;
pub mod span;
pub mod start_time;
pub mod student;
pub mod text;
pub mod trend;
pub mod wall_time;
pub mod watch;
pub mod watch_list;
