//! A platform under load while people change apps and things go wrong, drawn from a seed, and judged by what clients
//! and the kernel see.
//!
//! `cargo run --release -p lb-benches --bin campaign -- --engine docker --balancer haproxy --minutes 30 --seed 1 --json`
//!
//! It prints one line of JSON at the end; a campaign with violations prints its story before. The platform is a process
//! of its own, which is killed and started again; the load, the faults and the judge are here.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its result")]
#![allow(missing_docs, reason = "a program has no users of its modules")]

mod apps;
mod bounds;
mod census;
mod changes;
mod client;
mod desk;
mod dice;
mod engine;
mod faults;
mod ground;
mod judge;
mod keeper;
mod load;
mod platform;
mod run;
mod story;
mod trust;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use lb_examples::{Failure, StageOptions};

/// Runs a platform under load, changes and faults, and judges it.
#[derive(Debug, Clone, Parser)]
#[command(args_override_self = true)]
struct Arguments {
    /// The place. With the in-process balancer nothing happens to a balancer alone: it ends with the platform,
    /// and speaks no TLS.
    #[command(flatten)]
    stage: StageOptions,
    /// How long the story is; what was begun is waited for beyond that.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// What happens is drawn from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Apps that stay; up to three more come and go.
    #[arg(long, default_value_t = 5)]
    apps: u32,
    /// Restarts the engine; without it that does not happen.
    #[arg(long)]
    restart: Option<String>,
    /// Tell the story as it happens.
    #[arg(long)]
    story: bool,
    /// Print the JSON line only on standard output.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let ended = match std::env::args().nth(1).as_deref() {
        Some("serve") => lb_examples::served().map(|_| ExitCode::SUCCESS).map_err(Failure::from),
        Some(keeper::ROLE) => be_platform(),
        _ => campaign(),
    };
    ended.unwrap_or_else(|error| lb_examples::ended(Err(error)))
}

/// This process is the platform of a campaign.
fn be_platform() -> Result<ExitCode, Failure> {
    let arguments = Arguments::parse_from(std::env::args_os().skip(1));
    lb_examples::log_to_stderr();
    let runtime = tokio::runtime::Runtime::new()?;
    let ended = runtime.block_on(platform::serve(&arguments.stage));
    // The thread that reads the input may wait for ever.
    runtime.shutdown_background();
    ended.map(|()| ExitCode::SUCCESS)
}

fn campaign() -> Result<ExitCode, Failure> {
    let mut arguments = Arguments::parse();
    if arguments.stage.cluster.as_str() == "demo" {
        // Different campaigns may run beside each other.
        let balancer = run::balancer(&arguments.stage);
        let (engine, seed) = (arguments.stage.engine.to_string(), arguments.seed % 1_000_000_000);
        let ways = [engine.as_str(), balancer.trim_start_matches("nginx-by-")];
        let [engine, balancer] = ways.map(|way| way.get(..1).unwrap_or_default());
        arguments.stage.cluster = format!("camp-{engine}{balancer}-{seed}").parse()?;
    }
    tokio::runtime::Runtime::new()?.block_on(run::run(&arguments))
}

/// Work that blocks, off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}
