//! What `simulate` prints at its start and at its end.

use super::SimulateArgs;
use crate::cli::output::Background;
use crate::core::text::escape_lines;
use crate::simulator::{Receiver, RequestCounts, RequestKind, Simulator};
use crate::stdio::StandardStream;

/// Prints what is simulated, and how to watch it.
pub(super) fn introduce(
    output: &Background,
    args: &SimulateArgs,
    list: Option<u32>,
    seed: u64,
    simulator: &Simulator,
    receiver: Option<&(Receiver, Option<String>)>,
) {
    print(
        output,
        &format!(
            "Simulating the Ampersand API at {} (seed {seed}).",
            simulator.base_url()
        ),
    );
    if let Some(count) = list {
        let list = args.watch_list.display();
        print(
            output,
            &format!("Wrote {count} operations to {list}; each starts when it is first polled."),
        );
    }
    if args.customers.has_any() {
        print(output, &args.customers.summary());
    }
    print(output, "\nTo watch them, in another terminal:\n");
    let mut variables = vec![
        ("BACKFILL_WATCH_AMPERSAND__BASE_URL", simulator.base_url()),
        ("BACKFILL_WATCH_AMPERSAND__PROJECT", args.project.clone()),
        ("AMPERSAND_API_KEY", args.api_key.clone()),
    ];
    if list.is_some() {
        variables.push(("BACKFILL_WATCH_WATCH_LIST", absolute(&args.watch_list)));
    }
    if args.customers.has_any() {
        variables.push(("BACKFILL_WATCH_DISCOVER__0__EVERY", "10s".to_owned()));
    }
    if let Some((receiver, default_secret)) = receiver {
        variables.push(("BACKFILL_WATCH_WEBHOOK__URL", receiver.url()));
        let secret = default_secret.clone().unwrap_or_else(|| "THE SECRET".to_owned());
        variables.push(("BACKFILL_WATCH_WEBHOOK_SECRET", secret));
    }
    for (name, value) in variables {
        print(output, &format!("  export {name}={}", quoted(&value)));
    }
    // Customers install later, so nothing is done yet.
    let until = if args.customers.has_any() {
        ""
    } else {
        " --until-done"
    };
    print(output, &format!("  backfill-watch run{until}\n"));
    print(output, "Stop with Ctrl-C.");
}

/// The absolute path, which works from any folder.
fn absolute(path: &std::path::Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.display().to_string()
}

/// A word quoted for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Prints what was requested.
pub(super) fn conclude(
    output: &Background,
    args: &SimulateArgs,
    simulator: &Simulator,
    callbacks: Option<RequestCounts>,
) {
    let api = simulator.requests();
    print(
        output,
        &format!(
            "\n{} requests, at most {} in flight: {} succeeded, {} not found, {} rejected (401 or 403), {} throttled, \
         {} server errors, {} reset, {} without an answer; {} answers cut off.",
            api.total,
            api.max_in_flight,
            api.succeeded,
            api.not_found,
            api.unauthorized + api.forbidden,
            api.throttled,
            api.server_errors,
            api.resets,
            api.hangs,
            api.truncated,
        ),
    );
    if args.customers.has_any() {
        let of_kind = |kind| simulator.requests_of_kind(kind).total;
        print(
            output,
            &format!(
                "Requests for the list of installations: {}, for the backfill of an object: {}. Backfills started: {}.",
                of_kind(RequestKind::Installations),
                of_kind(RequestKind::BackfillProgress),
                simulator.backfills().len(),
            ),
        );
    }
    if let Some(requests) = callbacks {
        print(
            output,
            &format!("{} webhook deliveries received.", requests.total),
        );
    }
}

/// Prints a line. A closed standard output is ignored.
pub(super) fn print(output: &Background, line: &str) {
    let _ = output.print(StandardStream::Stdout, &format!("{}\n", escape_lines(line)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("http://127.0.0.1:1/v1"), "http://127.0.0.1:1/v1");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
