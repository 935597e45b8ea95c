//! The whole loop at scale, over backends in memory: what it costs while nothing happens, and how soon a change is where it
//! belongs.
//!
//! `cargo run --release -p lb-benches --bin orchestrator -- --hosts 1000 --apps 1000 --instances 100000 --json`
//!
//! Runtimes tell readiness themselves, as an agent beside the containers does. Calls of the backends take no time: what is
//! measured is the platform's own.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its result")]

use std::num::NonZeroU16;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use lb_benches::process::{cpu_seconds, resident_mib};
use lb_benches::stats::percentile;
use lb_core::{
    App, AppSpec, AppStore, ClusterSpec, Exposure, HostFacts, HostHandle, Listener, LoopSettings,
    MemoryAppStore, MemoryBalancer, MemoryLedgerStore, MemoryRuntime, Orchestrator, PathPrefix,
    Port, Replicas,
};
use lb_examples::Failure;
use serde::Serialize;

/// Longest wait for anything.
const STEP: Duration = Duration::from_secs(600);
/// Between two looks at a host's table.
const LOOK: Duration = Duration::from_millis(1);
/// The host label that places the app which changes on one host.
const LABEL: (&str, &str) = ("bench", "one");

/// Runs an orchestrator over many hosts in memory and measures it.
#[derive(Debug, Parser)]
struct Arguments {
    /// Hosts.
    #[arg(long, default_value_t = 1000)]
    hosts: u32,
    /// Apps.
    #[arg(long, default_value_t = 1000)]
    apps: u32,
    /// Instances of all apps together.
    #[arg(long, default_value_t = 100_000)]
    instances: u32,
    /// How long each state is watched.
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Print the JSON line only.
    #[arg(long)]
    json: bool,
}

/// What is printed last.
#[derive(Debug, Serialize)]
struct Summary {
    hosts: u32,
    apps: u32,
    instances: u32,
    /// Share of one core while nothing happens.
    idle_cpu: f64,
    /// Share of one core with one change a second.
    busy_cpu: f64,
    /// From `deploy` to the table of the one host it concerns.
    change_ms: Percentiles,
    /// From `deploy` to the tables of all hosts, median.
    all_hosts_s: f64,
    /// Of this process, backends in memory included.
    rss_mib: f64,
    /// CPU time of one sample of all apps.
    sampler_ms: f64,
}

#[derive(Debug, Serialize)]
struct Percentiles {
    p50: f64,
    p99: f64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    lb_examples::log_to_stderr();
    let ended = tokio::runtime::Runtime::new()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(measure(&arguments)));
    match ended {
        Ok(summary) => {
            println!("{}", serde_json::json!(summary));
            ExitCode::SUCCESS
        }
        Err(error) => lb_examples::ended(Err(error)),
    }
}

/// Hosts in memory, and what is asked of them.
struct Cluster {
    hosts: Vec<(HostFacts, MemoryRuntime, MemoryBalancer)>,
    apps: MemoryAppStore,
    ledger: MemoryLedgerStore,
    deployed: usize,
    say: bool,
}

async fn measure(arguments: &Arguments) -> Result<Summary, Failure> {
    let cluster = Cluster::new(arguments).await?;
    // Without samples first: what they cost is the difference.
    let unsampled =
        LoopSettings { sample: Duration::from_secs(24 * 3600), ..LoopSettings::default() };
    let platform = cluster.start(unsampled).await?;
    cluster.settled(&platform, "the first start").await?;
    let quiet = cluster.cpu_over("idle, without samples", arguments.seconds).await?;
    platform.shutdown().await;
    drop(platform);

    let settings = LoopSettings::default();
    let every = settings.sample;
    let platform = cluster.start(settings).await?;
    cluster.settled(&platform, "the adoption").await?;
    let idle_cpu = cluster.cpu_over("idle", arguments.seconds).await?;
    let (busy_cpu, mut changes) = cluster.busy(&platform, arguments.seconds).await?;
    let mut everywhere = Vec::new();
    for n in 0..5 {
        everywhere.push(cluster.change_everywhere(&platform, n).await?.as_secs_f64());
    }
    let summary = Summary {
        hosts: arguments.hosts,
        apps: arguments.apps,
        instances: arguments.instances,
        idle_cpu,
        busy_cpu,
        change_ms: Percentiles {
            p50: percentile(&mut changes, 0.5),
            p99: percentile(&mut changes, 0.99),
        },
        all_hosts_s: percentile(&mut everywhere, 0.5),
        rss_mib: resident_mib(std::process::id())?,
        sampler_ms: (idle_cpu - quiet) * every.as_secs_f64() * 1000.0,
    };
    platform.shutdown().await;
    Ok(summary)
}

impl Cluster {
    async fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let host = |n: u32| {
            let address = std::net::Ipv4Addr::from(0xC612_0000 + n);
            let mut facts = HostFacts::new(format!("h{n:04}").parse()?, address);
            if n == 0 {
                facts.labels.insert(LABEL.0.parse()?, LABEL.1.parse()?);
            }
            let balancer = MemoryBalancer::new();
            balancer.remember(1);
            Ok((facts, MemoryRuntime::new(), balancer))
        };
        let hosts = (0..arguments.hosts.max(1)).map(host).collect::<Result<_, Failure>>()?;
        let apps = MemoryAppStore::default();
        let count = arguments.instances / arguments.apps.max(1);
        for n in 0..arguments.apps {
            let app = app(&format!("app{n:04}"), count, |_| Ok(()))?;
            apps.put(&app, lb_core::AppChange::Deploy).await?;
        }
        let cluster = Self {
            hosts,
            apps,
            ledger: MemoryLedgerStore::default(),
            deployed: arguments.apps as usize + 2,
            say: !arguments.json,
        };
        for app in [one(0)?, everywhere(0)?] {
            cluster.apps.put(&app, lb_core::AppChange::Deploy).await?;
        }
        Ok(cluster)
    }

    async fn start(&self, settings: LoopSettings) -> Result<Orchestrator, Failure> {
        let mut spec = ClusterSpec::new("bench".parse()?);
        (spec.range, spec.subnet_prefix) = ("10.0.0.0/8".parse()?, 22);
        let mut builder = Orchestrator::builder(spec)
            .apps(Arc::new(self.apps.clone()))
            .ledger(Arc::new(self.ledger.clone()))
            .settings(settings);
        for (facts, runtime, balancer) in &self.hosts {
            let (runtime, balancer) = (Arc::new(runtime.clone()), Arc::new(balancer.clone()));
            builder = builder.host(facts.clone(), HostHandle { runtime, balancer });
        }
        Ok(builder.start().await?)
    }

    fn say(&self, text: &str) {
        if self.say {
            eprintln!("{text}");
        }
    }

    async fn settled(&self, platform: &Orchestrator, what: &str) -> Result<(), Failure> {
        let begun = Instant::now();
        let done = |status: &lb_core::Status| {
            status.apps.len() == self.deployed
                && status.apps.values().all(lb_core::AppStatus::is_settled)
        };
        platform.wait_for(done, STEP).await?;
        self.say(&format!("{what}: settled after {:.1} s", begun.elapsed().as_secs_f64()));
        Ok(())
    }

    /// The share of one core this process takes from now on.
    async fn cpu_over(&self, what: &str, seconds: u32) -> Result<f64, Failure> {
        let (begun, before) = (Instant::now(), cpu_seconds(std::process::id())?);
        tokio::time::sleep(Duration::from_secs(seconds.into())).await;
        let used = cpu_seconds(std::process::id())? - before;
        let share = used / begun.elapsed().as_secs_f64();
        self.say(&format!("{what}: {:.1} % of a core", share * 100.0));
        Ok(share)
    }

    /// A change of one host a second: the share of one core, and milliseconds of each.
    async fn busy(
        &self,
        platform: &Orchestrator,
        seconds: u32,
    ) -> Result<(f64, Vec<f64>), Failure> {
        let mut changes = Vec::new();
        let (begun, before) = (Instant::now(), cpu_seconds(std::process::id())?);
        for n in 1..=seconds {
            tokio::time::sleep_until((begun + Duration::from_secs(n.into())).into()).await;
            let asked = Instant::now();
            platform.deploy(&one(n)?).await?;
            until(asked, || has(&self.hosts[0].2, n)).await?;
            changes.push(asked.elapsed().as_secs_f64() * 1000.0);
        }
        let used = cpu_seconds(std::process::id())? - before;
        let share = used / begun.elapsed().as_secs_f64();
        self.say(&format!("a change a second: {:.1} % of a core", share * 100.0));
        Ok((share, changes))
    }

    async fn change_everywhere(
        &self,
        platform: &Orchestrator,
        n: u32,
    ) -> Result<Duration, Failure> {
        let (asked, version) = (Instant::now(), 1_000_000 + n);
        platform.deploy(&everywhere(version)?).await?;
        until(asked, || self.hosts.iter().all(|(_, _, balancer)| has(balancer, version))).await?;
        self.say(&format!("on all hosts after {:.2} s", asked.elapsed().as_secs_f64()));
        Ok(asked.elapsed())
    }
}

async fn until(begun: Instant, holds: impl Fn() -> bool) -> Result<(), Failure> {
    while !holds() {
        if begun.elapsed() > STEP {
            return Err("a change did not come".into());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Whether a route of this version is in the balancer's table.
fn has(balancer: &MemoryBalancer, version: u32) -> bool {
    let path = path_of(version);
    let table = balancer.table();
    table.is_some_and(|table| {
        table.listeners.values().any(|listener| match listener {
            Listener::Http { routes, .. } => routes.iter().any(|route| route.path.as_str() == path),
            Listener::Tcp { .. } => false,
        })
    })
}

fn path_of(version: u32) -> String {
    format!("/v{version}")
}

fn app(
    name: &str,
    count: u32,
    change: impl FnOnce(&mut AppSpec) -> Result<(), Failure>,
) -> Result<App, Failure> {
    let mut spec = AppSpec::new(name.parse()?, "registry.example.org/demo:1".parse()?);
    let mut port = Port::http(NonZeroU16::new(8080).ok_or("a port")?);
    port.outside = NonZeroU16::new(80);
    port.hosts.insert(format!("{name}.example.org").parse()?);
    spec.ports.insert("web".parse()?, port);
    spec.replicas = Replicas::fixed(count);
    change(&mut spec)?;
    Ok(App::new(spec)?)
}

/// The app that runs on one host.
fn one(version: u32) -> Result<App, Failure> {
    app("one", 2, |spec| {
        spec.placement.labels.insert(LABEL.0.parse()?, LABEL.1.parse()?);
        routed(spec, version)
    })
}

/// The app whose listener is on every host.
fn everywhere(version: u32) -> Result<App, Failure> {
    app("everywhere", 2, |spec| {
        spec.placement.exposure = Exposure::EveryHost;
        routed(spec, version)
    })
}

fn routed(spec: &mut AppSpec, version: u32) -> Result<(), Failure> {
    for port in spec.ports.values_mut() {
        port.path = PathPrefix::new(path_of(version))?;
    }
    Ok(())
}
