//! The command `backfill-watch`.
#![forbid(unsafe_code)]

fn main() {}
