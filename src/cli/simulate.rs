//! `backfill-watch simulate`: runs the simulated API.

mod customers;
mod faults;
mod operations;
mod summary;
mod watch_list;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::signal::unix::{SignalKind, signal};

use super::output::Background;
use crate::clock;
use crate::core::text::one_line;
use crate::simulator::{
    Callback, Receiver, ReceiverConfig, ReceiverSecret, SeededRandom, SimulatedProject, Simulator,
    SimulatorConfig,
};

const AFTER_HELP: &str = "\
Examples:
  Twelve backfills of 30 seconds to 2 minutes, one in ten of which fails:
    backfill-watch simulate --failures 0.1

  An API with faults, the same in each run:
    backfill-watch simulate --seed 7 --server-errors 0.2 --resets 0.05 --truncated 0.05 --hangs 0.05 \\
        --throttle 0.02 --retry-after 5s

  Twenty customers that install within a minute, for discovery, each with one to three backfills:
    backfill-watch simulate --customers 20 --objects 1..3 --install-over 1m

  With a receiver that verifies webhook deliveries and prints them:
    backfill-watch simulate --receiver 127.0.0.1:8466

Each operation of the watch list starts when it is first polled. An ID such as op-30000-5000-s-1 (milliseconds, records, s for
success or f for failure, any suffix) is created when it is polled.";

/// The operations of the watch list, unless there are customers.
const DEFAULT_OPERATIONS: u32 = 12;

/// Simulate the Ampersand API on loopback, to try settings and receivers without an account
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct SimulateArgs {
    /// Loopback address to listen on; port 0 for any free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8465")]
    listen: SocketAddr,

    /// Name of the simulated project
    #[arg(long, value_name = "NAME", default_value = "my-project")]
    project: String,

    /// API key of the simulated project
    #[arg(long, value_name = "KEY", default_value = "simulated-key")]
    api_key: String,

    #[command(flatten)]
    operations: operations::OperationArgs,

    #[command(flatten)]
    customers: customers::CustomerArgs,

    /// Watch list to write, unless there are no operations for it; only a file that `simulate` wrote is overwritten
    #[arg(long, value_name = "FILE", default_value = "simulated-watch.list")]
    watch_list: PathBuf,

    /// Seed of all random numbers; by default a new one for each run
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    #[command(flatten)]
    faults: faults::FaultArgs,

    /// Also receive webhooks at this loopback address, and print each delivery
    #[arg(long, value_name = "ADDRESS")]
    receiver: Option<SocketAddr>,

    /// Secret of the webhook (`whsec_…`); by default a fixed one
    #[arg(
        long,
        value_name = "SECRET",
        env = "BACKFILL_WATCH_WEBHOOK_SECRET",
        hide_env_values = true
    )]
    webhook_secret: Vec<SecretString>,
}

/// Runs the simulator until SIGINT or SIGTERM.
///
/// # Errors
/// When an address is not loopback or in use, the watch list cannot be written, or the probabilities exceed 1 together.
pub async fn run(args: SimulateArgs) -> anyhow::Result<ExitCode> {
    let plan = args.faults.plan();
    if !plan.is_possible() {
        bail!("the probabilities of all faults together exceed 1; lower some of them");
    }
    // Signals are handled before the address is printed.
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;

    let output = Background::start().context("cannot start the thread that prints")?;
    let seed = args.seed.unwrap_or_else(fresh_seed);
    let random = SeededRandom::new(seed);
    let count = args.operations.operations.unwrap_or(if args.customers.has_any() {
        0
    } else {
        DEFAULT_OPERATIONS
    });
    let operations = args.operations.generate(count, seed, &random);
    let fault_seed = random.next_u64();
    let customers = args.customers.generate(&args.operations, &random);
    let receiver = match args.receiver {
        Some(listen) => Some(start_receiver(listen, &args.webhook_secret, output.clone()).await?),
        None => None,
    };
    let config = SimulatorConfig {
        listen: args.listen,
        projects: vec![SimulatedProject {
            name: args.project.clone(),
            api_keys: vec![args.api_key.clone()],
            ..SimulatedProject::default()
        }],
        keep_instants: 0,
        seed: random.next_u64(),
        ..SimulatorConfig::default()
    };
    let simulator = Simulator::start(config).await.with_context(|| {
        format!(
            "cannot listen on {}; use another address with --listen",
            args.listen
        )
    })?;
    // With customers there is a watch list only if operations were asked for.
    let list = (!args.customers.has_any() || args.operations.operations.is_some()).then_some(count);
    if list.is_some() {
        watch_list::write(&args.watch_list, &operations)?;
    }
    simulator.faults().set(plan, fault_seed);
    simulator.schedule(customers);
    for operation in operations {
        simulator.add_waiting(operation);
    }
    summary::introduce(&output, &args, list, seed, &simulator, receiver.as_ref());

    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let callbacks = receiver.as_ref().map(|(receiver, _)| receiver.requests());
    summary::conclude(&output, &args, &simulator, callbacks);
    simulator.stop().await;
    if let Some((receiver, _)) = receiver {
        receiver.stop().await;
    }
    output.flush();
    Ok(ExitCode::SUCCESS)
}

/// A new seed, so that operation IDs differ from those of earlier runs.
fn fresh_seed() -> u64 {
    // 32 bits are short enough to type.
    u64::from(clock::wall().as_microsecond() as u32)
}

/// Starts a receiver. Also returns the default secret if it is used.
async fn start_receiver(
    listen: SocketAddr,
    secrets: &[SecretString],
    output: Background,
) -> anyhow::Result<(Receiver, Option<String>)> {
    // Not confidential: the receiver only prints what it gets.
    let default_secret = secrets
        .is_empty()
        .then(|| "whsec_c2ltdWxhdGVkIHNlY3JldCwgcHJvdGVjdHMgbm90aGluZw==".to_owned());
    let secrets = match &default_secret {
        Some(secret) => vec![secret.parse()?],
        None => secrets
            .iter()
            .map(|secret| secret.expose_secret().parse())
            .collect::<Result<Vec<ReceiverSecret>, _>>()
            .context("--webhook-secret (or BACKFILL_WATCH_WEBHOOK_SECRET) is not a webhook secret")?,
    };
    let config = ReceiverConfig {
        listen,
        secrets,
        keep: 0,
        on_callback: Some(Arc::new(move |callback: &Callback| {
            summary::print(&output, &line(callback));
        })),
    };
    let receiver = Receiver::start(config)
        .await
        .with_context(|| format!("cannot receive on {listen}; use another address with --receiver"))?;
    Ok((receiver, default_secret))
}

/// A delivery on one line. Its content is not trusted.
fn line(callback: &Callback) -> String {
    let json = callback.json();
    let kind = json["type"].as_str().unwrap_or("(no type)");
    let data = &json["data"];
    let subject = ["operationId", "group", "project"];
    let subject = subject
        .iter()
        .find_map(|member| data[*member].as_str())
        .unwrap_or("");
    let verified = match &callback.verified {
        Ok(()) => "verified".to_owned(),
        Err(reason) => format!("NOT VERIFIED: {reason}"),
    };
    let time = callback.time.strftime("%H:%M:%S");
    one_line(
        &format!("{time} delivery {kind} {subject} {} {verified}", callback.id()),
        500,
    )
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn parse(arguments: &[&str]) -> Result<SimulateArgs, clap::Error> {
        let command = SimulateArgs::augment_args(clap::Command::new("simulate").no_binary_name(true));
        command.clone().debug_assert();
        SimulateArgs::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    #[tokio::test]
    async fn a_secret_is_checked_and_not_shown() {
        let args = parse(&["--receiver", "127.0.0.1:0", "--webhook-secret", "whsec_hunter2"]).unwrap();
        assert!(!format!("{args:?}").contains("hunter2"));
        let error = format!("{:#}", run(args).await.unwrap_err());
        assert!(
            error.contains("--webhook-secret") && error.contains("base64"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[tokio::test]
    async fn only_loopback_and_possible_probabilities_are_accepted() {
        let refusal = |arguments: &'static [&str]| async move {
            let error = run(parse(arguments).unwrap()).await.unwrap_err();
            format!("{error:#}")
        };
        let beyond = refusal(&["--listen", "0.0.0.0:0"]).await;
        assert!(beyond.contains("not a loopback address"), "{beyond}");
        let beyond = refusal(&["--listen", "127.0.0.1:0", "--receiver", "0.0.0.0:0"]).await;
        assert!(beyond.contains("not a loopback address"), "{beyond}");
        let too_much = refusal(&["--resets", "0.6", "--hangs", "0.6"]).await;
        assert!(too_much.contains("exceed 1"), "{too_much}");
    }
}
