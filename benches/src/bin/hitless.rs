//! What changes of membership cost the clients: an app is scaled up and down under load through the whole
//! stack, containers really start and stop, and every request that fails is counted.
//!
//! `cargo run --release -p lb-benches --bin hitless -- --engine docker --changes 300 --connections 32 --mode keepalive --json`
//!
//! The client never retries and offers a fixed rate; a tenth of its requests carry bodies, and some
//! connections always have a request of two seconds in flight, on the instances that go as well.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its result")]

use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use lb_benches::stats::percentile;
use lb_core::{
    App, AppName, AppSpec, AppStatus, BalancerInfo, InstanceStatus, Membership, Orchestrator,
    Replicas, ServerState,
};
use lb_examples::{DEMO_HOST, Failure, Stage, StageOptions};
use lb_load::{Counts, Load, Mode, Plan};

/// Instances between changes.
const FEWEST: u32 = 3;
/// Instances after a change up.
const MOST: u32 = 4;
/// Longest time a change may take.
const STEP: Duration = Duration::from_secs(120);

/// Counts what clients lose while instances come and go.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    stage: StageOptions,
    /// Changes of membership; every second one adds an instance, the others remove one.
    #[arg(long, default_value_t = 300)]
    changes: u32,
    /// Connections of the client, besides the slow ones (an eighth of them more).
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Whether connections carry many requests or one.
    #[arg(long, value_enum, default_value_t = Connections::Keepalive)]
    mode: Connections,
    /// Requests a second.
    #[arg(long, default_value_t = 400.0)]
    rate: f64,
    /// Print the JSON line only.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Connections {
    Keepalive,
    Close,
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
    let stage = Stage::alone(&arguments.stage).await?;
    let platform = Orchestrator::builder(stage.cluster.clone())
        .host(stage.facts.clone(), stage.handle.clone())
        .start()
        .await?;
    let name: AppName = "hello".parse()?;
    let trial = Trial { platform, stage, name };
    let result = trial.measure(arguments).await;
    trial.clean_up().await?;
    println!("{}", result?);
    Ok(())
}

struct Trial {
    platform: Orchestrator,
    stage: Stage,
    name: AppName,
}

impl Trial {
    async fn measure(&self, arguments: &Arguments) -> Result<serde_json::Value, Failure> {
        self.have(FEWEST).await?;
        let first = self.balancer().await?.reloads;
        let plan = self.plan(arguments);
        let load = Load::start(&plan);
        let initial = self.answered_by(&load, FEWEST).await?;
        let start = Instant::now();
        for change in 0..arguments.changes {
            let count = if change % 2 == 0 { MOST } else { FEWEST };
            self.have(count).await?;
            if !arguments.json && change % 20 == 19 {
                let counts = load.counts();
                eprintln!(
                    "{} changes, {} requests, {} failed, {:.0?}",
                    change + 1,
                    counts.requests,
                    counts.failed,
                    start.elapsed()
                );
            }
        }
        let counts = load.stop().await;
        let balancer = self.balancer().await?;
        let reloads = balancer.reloads - first;
        for failure in &counts.failures {
            eprintln!("failed: {failure:?}");
        }
        let mut delays: Vec<f64> = counts
            .arrivals
            .iter()
            .filter(|(instance, _)| !initial.contains(instance))
            .map(|(_, arrival)| arrival.delay().as_secs_f64() * 1e3)
            .collect();
        Ok(serde_json::json!({
            "engine": self.stage.engine.to_string(),
            "mode": format!("{:?}", arguments.mode).to_lowercase(),
            "connections": arguments.connections,
            "requests": counts.requests,
            "failed": counts.failed,
            "idle_closes": counts.idle_closes,
            "changes": arguments.changes,
            "reloads": reloads,
            "promise_kept": is_kept(&plan, balancer.membership, reloads, &counts),
            "instances_seen": counts.arrivals.len(),
            "seconds": start.elapsed().as_secs(),
            "ready_to_first_request_ms": {
                "p50": percentile(&mut delays, 0.5),
                "p99": percentile(&mut delays, 0.99),
            },
        }))
    }

    fn plan(&self, arguments: &Arguments) -> Plan {
        Plan {
            connections: arguments.connections,
            slow_connections: arguments.connections.div_ceil(8),
            mode: match arguments.mode {
                Connections::Keepalive => Mode::KeepAlive,
                Connections::Close => Mode::Close,
            },
            rate: arguments.rate,
            ..Plan::new(self.stage.target, DEMO_HOST)
        }
    }

    /// Asks for so many instances and waits until they are there and serve, and no others are.
    async fn have(&self, count: u32) -> Result<(), Failure> {
        let mut app = AppSpec::from(self.stage.app(self.name.as_str(), "1")?);
        app.replicas = Replicas::fixed(count);
        self.platform.deploy(&App::new(app)?).await?;
        let serves = |i: &InstanceStatus| i.server == Some(ServerState::Active);
        let settled = |app: &AppStatus| {
            app.wanted == count && app.is_settled() && app.instances.iter().all(serves)
        };
        self.platform
            .wait_for(|status| status.apps.get(&self.name).is_some_and(settled), STEP)
            .await?;
        Ok(())
    }

    /// Waits until so many instances have answered, and names them.
    async fn answered_by(&self, load: &Load, count: u32) -> Result<Vec<String>, Failure> {
        let deadline = Instant::now() + STEP;
        loop {
            let Counts { arrivals, .. } = load.counts();
            if arrivals.len() >= count as usize {
                return Ok(arrivals.into_keys().collect());
            }
            if Instant::now() > deadline {
                return Err(format!("only {} of {count} instances answered", arrivals.len()).into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn balancer(&self) -> Result<BalancerInfo, Failure> {
        Ok(self.stage.handle.balancer.describe().await?)
    }

    async fn clean_up(&self) -> Result<(), Failure> {
        self.platform.remove(&self.name).await?;
        self.platform.wait_for(|status| !status.apps.contains_key(&self.name), STEP).await?;
        self.platform.shutdown().await;
        self.stage.handle.balancer.shutdown().await?;
        self.stage.strike();
        Ok(())
    }
}

/// Whether the clients lost no more than [`Membership`] says: nothing; or, by plain reloads, each kept connection
/// at most once a reload, and never a new one.
fn is_kept(plan: &Plan, membership: Membership, reloads: u64, counts: &Counts) -> bool {
    if membership != Membership::Reload || plan.mode == Mode::Close {
        return counts.failed == 0;
    }
    let most = (plan.connections + plan.slow_connections) as u64 * reloads;
    let is_new = |f: &lb_load::Failure| f.reason.starts_with("connect");
    counts.failed + counts.idle_closes <= most && !counts.failures.iter().any(is_new)
}
