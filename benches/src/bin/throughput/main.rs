//! Requests a second and balancer CPU per request: straight to the servers, through a hand-tuned
//! configuration, and through ours, in turn.
//!
//! `cargo run --release -p lb-benches --bin throughput -- --balancer haproxy --apps 1000 --json`
//!
//! Needs the balancer and `wrk`. Client, balancer and servers share the machine: ratios mean something, absolute
//! rates do not. Intervals are 95 % over the rounds, ratios are formed round by round.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its result")]

mod subject;

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use lb_benches::process::cpu_seconds;
use lb_benches::stats::Mean;
use lb_benches::wrk;
use lb_core::{
    AppName, Backend, BackendName, Balance, Check, HealthPath, Listener, LoadBalancer, Protocol,
    Route, RoutingTable, Server, ServerName,
};

use subject::Subject;

type Failure = Box<dyn Error>;

/// Measures the generated configuration against a hand-tuned one.
#[derive(Debug, Parser)]
struct Arguments {
    /// What is measured.
    #[arg(long, value_enum, default_value_t = Subject::Haproxy)]
    balancer: Subject,
    /// Apps on the host, each with a host name of its own.
    #[arg(long, default_value_t = 1)]
    apps: usize,
    /// Servers of each app.
    #[arg(long, default_value_t = 4)]
    servers: usize,
    /// Rounds of direct, hand-tuned and ours.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Connections of the client.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// The balancer's program; Debian's if not given.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Print the JSON line only.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn program(&self) -> PathBuf {
        self.program.clone().unwrap_or_else(|| self.balancer.program().into())
    }
}

/// A process that ends with this value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // By SIGTERM: killed, NGINX leaves its workers.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

#[derive(Default)]
struct Samples {
    direct: Vec<f64>,
    hand_tuned: Vec<f64>,
    ours: Vec<f64>,
    cpu_hand_tuned: Vec<f64>,
    cpu_ours: Vec<f64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return Ok(demo_app::serve(demo_app::Config::from_env()?).await?);
    }
    let arguments = Arguments::parse();
    let directory = tempfile::tempdir()?;
    let our_address = free_address()?;
    let ours = directory.path().join("ours");
    let ours = arguments.balancer.ours(&ours, &arguments.program(), our_address.ip())?;
    let result = measure(&arguments, directory.path(), ours.as_ref(), our_address).await;
    // Whatever came of it: a balancer of ours outlives this program otherwise.
    ours.shutdown().await?;
    println!("{}", result?.report(&arguments));
    Ok(())
}

async fn measure(
    arguments: &Arguments,
    directory: &Path,
    ours: &dyn LoadBalancer,
    our_address: SocketAddr,
) -> Result<Samples, Failure> {
    let bench = Bench::start(arguments, directory, ours, our_address).await?;
    let mut samples = Samples::default();
    for round in 0..=arguments.rounds {
        let warm_up = round == 0;
        let one = bench.round(round)?;
        if warm_up {
            continue;
        }
        if !arguments.json {
            eprintln!(
                "round {round}: direct {:.0}, hand-tuned {:.0}, ours {:.0} requests/s",
                one[0].0, one[1].0, one[2].0
            );
        }
        samples.add(one);
    }
    Ok(samples)
}

/// Rate and CPU seconds per request of direct, hand-tuned and ours.
type Round = [(f64, f64); 3];

impl Samples {
    fn add(&mut self, [direct, hand_tuned, ours]: Round) {
        self.direct.push(direct.0);
        self.hand_tuned.push(hand_tuned.0);
        self.ours.push(ours.0);
        self.cpu_hand_tuned.push(hand_tuned.1 * 1e6);
        self.cpu_ours.push(ours.1 * 1e6);
    }

    fn report(&self, arguments: &Arguments) -> serde_json::Value {
        let ratio = |a: &[f64], b: &[f64]| {
            Mean::of(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>())
        };
        let mean = |samples: &[f64]| Mean::of(samples).mean;
        serde_json::json!({
            "balancer": format!("{:?}", arguments.balancer),
            "apps": arguments.apps,
            "rounds": arguments.rounds,
            "direct": mean(&self.direct),
            "hand_tuned": mean(&self.hand_tuned),
            "ours": mean(&self.ours),
            "ours_over_hand_tuned": ratio(&self.ours, &self.hand_tuned),
            "cpu_us_hand_tuned": mean(&self.cpu_hand_tuned),
            "cpu_us_ours": mean(&self.cpu_ours),
            "cpu_ours_over_hand_tuned": ratio(&self.cpu_ours, &self.cpu_hand_tuned),
        })
    }
}

struct Bench {
    targets: [SocketAddr; 3],
    pids: [Vec<u32>; 3],
    script: PathBuf,
    connections: usize,
    time: Duration,
    _processes: Vec<Ended>,
}

impl Bench {
    async fn start(
        arguments: &Arguments,
        directory: &Path,
        ours: &dyn LoadBalancer,
        our_address: SocketAddr,
    ) -> Result<Self, Failure> {
        let mut processes = Vec::new();
        let mut servers = Vec::new();
        for number in 0..arguments.servers {
            let address = free_address()?;
            processes.push(serve(address, number)?);
            servers.push(address);
        }
        let hosts: Vec<String> = (0..arguments.apps).map(|n| format!("app{n}.test")).collect();
        let [by_hand, ours_dir] = [directory.join("hand"), directory.join("ours")];
        std::fs::create_dir(&by_hand)?;
        let (subject, hand_address) = (arguments.balancer, free_address()?);
        let mut command =
            subject.by_hand(&by_hand, &arguments.program(), hand_address, &hosts, &servers)?;
        processes.push(Ended(command.stderr(Stdio::null()).spawn()?));
        ours.apply(&table(our_address.port(), &hosts, &servers)?).await?;
        for address in servers.iter().chain([&hand_address, &our_address]) {
            wait_for(*address)?;
        }
        let pids = [Vec::new(), subject.workers(&by_hand)?, subject.workers(&ours_dir)?];
        Ok(Self {
            targets: [servers[0], hand_address, our_address],
            pids,
            script: wrk::write_script(directory, &hosts)?,
            connections: arguments.connections,
            time: Duration::from_secs(arguments.seconds),
            _processes: processes,
        })
    }

    /// Who is measured first changes with the round: the machine's speed drifts within it.
    fn round(&self, number: usize) -> Result<Round, Failure> {
        let mut round = [(0.0, 0.0); 3];
        for turn in 0..round.len() {
            let which = (turn + number) % round.len();
            let (target, pids) = (self.targets[which], &self.pids[which]);
            let cpu = || pids.iter().map(|pid| cpu_seconds(*pid)).sum::<io::Result<f64>>();
            let before = cpu()?;
            let run = wrk::run(&target.to_string(), self.connections, self.time, &self.script)?;
            if run.errors > 0 {
                return Err(format!("{} errors at {target}", run.errors).into());
            }
            round[which] = (run.rate, (cpu()? - before) / run.requests as f64);
        }
        Ok(round)
    }
}

fn serve(address: SocketAddr, number: usize) -> Result<Ended, Failure> {
    let child = Command::new(std::env::current_exe()?)
        .arg("serve")
        .env("BIND", address.ip().to_string())
        .env("PORT", address.port().to_string())
        .env("INSTANCE", format!("s{number}"))
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Ended(child))
}

/// One HTTP app for each host name, each with all the servers.
fn table(port: u16, hosts: &[String], servers: &[SocketAddr]) -> Result<RoutingTable, Failure> {
    let mut table = RoutingTable::default();
    let mut routes = std::collections::BTreeSet::new();
    for (number, host) in hosts.iter().enumerate() {
        let app = AppName::new(format!("app{number}"))?;
        let name = BackendName::new(format!("{app}.web"))?;
        let mut backend = Backend::new(app, Protocol::Http);
        backend.balance = Balance::LeastConnections;
        backend.health.check = Check::Http(HealthPath::new("/healthz")?);
        backend.limits.connections_per_instance = std::num::NonZeroU32::new(512);
        for (id, address) in (1u32..).zip(servers) {
            let id = std::num::NonZeroU32::new(id).ok_or("id 0")?;
            backend.servers.insert(ServerName::new(format!("s{id}"))?, Server::new(id, *address));
        }
        routes.insert(Route {
            host: Some(host.parse()?),
            path: "/".parse()?,
            prefix: lb_core::Prefix::Kept,
            backend: name.clone(),
        });
        table.backends.insert(name, Arc::new(backend));
    }
    table
        .listeners
        .insert(port, Listener::Http { routes, certificates: std::collections::BTreeMap::new() });
    Ok(table)
}

fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn wait_for(address: SocketAddr) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(address).is_err() {
        if Instant::now() > deadline {
            return Err(format!("{address} does not listen").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
