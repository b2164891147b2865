//! placeholder merged from the client branch
use serde::Serialize;
/// x
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// x
    pub msg: String,
}
