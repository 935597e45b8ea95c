//! What README promises of changes and losses, measured through the whole stack, one after the other.
//!
//! `cargo run --release -p lb-benches --bin promises -- --engine docker --json`
//!
//! Each measure deploys what it needs, and removes it. `--only` picks some of them.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its result")]

mod bed;
mod changes;
mod losses;

use clap::{Parser, ValueEnum};
use lb_examples::{Failure, StageOptions};

use crate::bed::Bed;

/// Measures what changes and losses cost.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    stage: StageOptions,
    /// Which; all if not given.
    #[arg(long, value_enum)]
    only: Vec<Measure>,
    /// Rounds of what is done again and again.
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// Print the JSON line only.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// A version that exits at once, over one instance: how often it is declared ready.
    Exits,
    /// Deploy, wait, ask: how often the version before answers.
    Redeploy,
    /// An instance is killed while another app is deployed and undone: seconds until there is another one.
    Replace,
    /// Fifty apps of two instances, one after the other: seconds until all serve.
    Fifty,
    /// A stream beside a hundred deploys and removals of other apps: whether it lives, and how many reloads.
    Stream,
    /// An instance is paused (Docker and Podman): seconds until there is another one.
    Hung,
}

impl Measure {
    const ALL: [Self; 6] =
        [Self::Exits, Self::Redeploy, Self::Replace, Self::Fifty, Self::Stream, Self::Hung];
}

fn main() -> Result<(), Failure> {
    if lb_examples::served()? {
        return Ok(());
    }
    let arguments = Arguments::parse();
    lb_examples::log_to_stderr();
    tokio::runtime::Runtime::new()?.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let bed = Bed::set(&arguments.stage).await?;
    let result = measure(&bed, arguments).await;
    bed.strike().await?;
    println!("{}", result?);
    Ok(())
}

async fn measure(bed: &Bed, arguments: &Arguments) -> Result<serde_json::Value, Failure> {
    let balancer = bed.stage.handle.balancer.describe().await?.name;
    let mut found = serde_json::json!({
        "engine": bed.stage.engine.to_string(),
        "balancer": balancer,
        "rounds": arguments.rounds,
    });
    let wanted = if arguments.only.is_empty() { &Measure::ALL[..] } else { &arguments.only };
    for measure in wanted {
        if !arguments.json {
            eprintln!("{measure:?}");
        }
        let rounds = arguments.rounds;
        let value = match measure {
            Measure::Exits => changes::exits(bed, rounds).await?,
            Measure::Redeploy => changes::redeploy(bed, rounds).await?,
            Measure::Fifty => changes::fifty(bed).await?,
            Measure::Stream => changes::stream(bed).await?,
            Measure::Replace => losses::replace(bed, rounds).await?,
            Measure::Hung => losses::hung(bed, &arguments.stage).await?,
        };
        if !arguments.json {
            eprintln!("{measure:?}: {value}");
        }
        found[format!("{measure:?}").to_lowercase()] = value;
    }
    Ok(found)
}
