//! The labels of a watch.

/// The labels of a watch, in the order of the line. Every event contains them.
pub type Labels = Vec<(String, String)>;
