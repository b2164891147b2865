//! The closed set of events.
