//! Rules of the source code, and the list of all messages in it. The source is parsed once for all tests.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how the helpers of a test report that it failed"
)]

mod architecture;
mod messages;
mod output_rules;
mod product;
mod scripts;
mod vocabulary;
