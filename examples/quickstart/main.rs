//! The whole main job in a minute: deploys an app, sends itself load, scales out, rolls out a version,
//! kills an instance, scales in, and shows it live.
//!
//! `cargo run --example quickstart` needs nothing but Rust. `-- --engine docker` does the same with Docker
//! and HAProxy.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

mod screen;

use std::num::NonZeroU32;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use lb_core::{
    App, AppName, AppSpec, AppStatus, InstanceId, LoopSettings, Membership, Orchestrator, Replicas,
    Scaling, Status,
};
use lb_examples::{DEMO_HOST, Failure, Stage, StageOptions};
use lb_load::{Load, Mode, Plan};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use self::screen::Screen;

/// Requests a second one instance is meant to serve.
const PER_INSTANCE: u32 = 50;
/// Longest time each step may take.
const STEP: Duration = Duration::from_secs(50);

/// Deploys, loads, scales, rolls out, kills and scales in an app, live.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    stage: StageOptions,
    /// Keep serving until Ctrl-C, without load, and print the address.
    #[arg(long)]
    stay: bool,
    /// No live view; print one JSON line last.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    lb_examples::ended(begin())
}

fn begin() -> Result<(), Failure> {
    if lb_examples::served()? {
        return Ok(());
    }
    let arguments = Arguments::parse();
    lb_examples::log_to_stderr();
    tokio::runtime::Runtime::new()?.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let stage = Stage::alone(&arguments.stage).await?;
    let settings = LoopSettings { sample: Duration::from_secs(1), ..LoopSettings::default() };
    let platform = Orchestrator::builder(stage.cluster.clone())
        .host(stage.facts.clone(), stage.handle.clone())
        .settings(settings)
        .start()
        .await?;
    let screen = Screen::new(&platform, arguments.json);
    let (name, done, mode) = ("hello".parse()?, Done::default(), Mode::KeepAlive);
    let mut show = Show { platform, stage, screen, name, done, mode };
    let result = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Ok(None),
        result = show.play(arguments.stay) => result,
    };
    // Clean up whatever happened: an app that is removed takes everything it made with it.
    let cleaned = show.clean_up().await;
    if let Some(summary) = result? {
        println!("{summary}");
    }
    cleaned
}

struct Show {
    platform: Orchestrator,
    stage: Stage,
    screen: Screen,
    name: AppName,
    done: Done,
    mode: Mode,
}

/// What became of the app so far.
#[derive(Default)]
struct Done {
    max_instances: u32,
    rollouts: u32,
    killed: u32,
}

impl Show {
    async fn play(&mut self, stay: bool) -> Result<Option<serde_json::Value>, Failure> {
        let start = Instant::now();
        self.serve("1").await?;
        self.first_answer().await?;
        self.screen.say(&format!(
            "first request answered {:.1} s after deploy",
            start.elapsed().as_secs_f64()
        ));
        if stay {
            self.screen.say(&format!(
                "http://{}/ with \"Host: {DEMO_HOST}\"; Ctrl-C ends it",
                self.stage.target
            ));
            std::future::pending::<()>().await;
        }
        let balancer = self.stage.handle.balancer.describe().await?;
        if balancer.membership == Membership::Reload {
            self.mode = Mode::Close; // no connection that is new fails there; a kept one may
        }
        let steady = Load::start(&self.load(PER_INSTANCE));
        self.screen.follow(steady.watch());

        self.screen.say("scale out: four times the load");
        let more = Load::start(&self.load(PER_INSTANCE * 3));
        self.screen.follow(more.watch());
        self.until("4 instances", |app| app.ready >= 4).await?;

        self.screen.say("roll out version 2");
        self.serve("2").await?;
        self.until("version 1 is gone", AppStatus::is_settled).await?;
        self.done.rollouts += 1;

        let killed = self.kill_one().await?;
        let gone = |app: &AppStatus| app.instances.iter().all(|i| i.id != killed);
        self.until("its replacement", |app| gone(app) && app.is_settled()).await?;
        self.done.killed += 1;

        self.screen.say("scale in: the first load alone");
        let more = more.stop().await;
        self.until("2 instances", |app| app.wanted == 2 && app.is_settled()).await?;
        let steady = steady.stop().await;
        self.screen.end();
        for failure in steady.failures.iter().chain(&more.failures) {
            eprintln!("failed: {} {}", failure.request, failure.reason);
        }
        Ok(Some(serde_json::json!({
            "engine": self.stage.engine.to_string(),
            "requests": steady.requests + more.requests,
            "failed": steady.failed + more.failed,
            "max_instances": self.done.max_instances,
            "rollouts": self.done.rollouts,
            "killed": self.done.killed,
            "reloads": self.stage.handle.balancer.describe().await?.reloads,
        })))
    }

    /// Deploys a version, and waits until clients are answered by it.
    async fn serve(&mut self, version: &str) -> Result<(), Failure> {
        self.screen.say(&format!("... until version {version} serves"));
        let change = self.platform.deploy(&self.app(version)?).await?;
        // The platform goes on trying where a port is taken; who runs this is told at once.
        let aside = |status: &Status| status.hosts.values().any(|host| !host.set_aside.is_empty());
        tokio::select! {
            biased;
            served = change.served(STEP) => drop(served?),
            Ok(status) = self.platform.wait_for(aside, STEP) => {
                let parts = status.hosts.values().find_map(|host| host.set_aside.iter().next());
                let text = parts.map(|(part, why)| format!("{}: {why}", String::from(part.clone())));
                return Err(text.unwrap_or_default().into());
            }
        }
        Ok(())
    }

    fn app(&self, version: &str) -> Result<App, Failure> {
        let mut app = AppSpec::from(self.stage.app(self.name.as_str(), version)?);
        app.replicas = Replicas { min: 2, max: 6 };
        app.scaling = Some(Scaling {
            requests: NonZeroU32::new(PER_INSTANCE),
            scale_in_after: Some(Duration::from_secs(5)),
            ..Scaling::default()
        });
        Ok(App::new(app)?)
    }

    fn load(&self, rate: u32) -> Plan {
        // Requests that may be repeated only: a killed instance takes a POST in flight with it, rightly.
        Plan {
            connections: 8,
            slow_connections: 2,
            rate: rate.into(),
            mode: self.mode,
            posts: 0,
            ..Plan::new(self.stage.target, DEMO_HOST)
        }
    }

    fn status(&self) -> Result<AppStatus, Failure> {
        let status = self.platform.status();
        Ok(status.apps.get(&self.name).cloned().ok_or("the app is unknown")?)
    }

    async fn until(
        &mut self,
        what: &str,
        done: impl Fn(&AppStatus) -> bool + Send + Sync,
    ) -> Result<(), Failure> {
        self.screen.say(&format!("... until {what}"));
        let mut most = self.done.max_instances;
        let name = self.name.clone();
        let result = self.platform.wait_for(
            |status| {
                let Some(app) = status.apps.get(&name) else { return false };
                most = most.max(app.ready);
                done(app)
            },
            STEP,
        );
        let reached = result.await;
        self.done.max_instances = most;
        if let Err(error) = reached {
            let app = serde_json::to_string_pretty(&self.status()?)?;
            return Err(format!("{error}\n{app}").into());
        }
        Ok(())
    }

    /// Asks until the balancer answers from an instance.
    async fn first_answer(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + STEP;
        let once = Plan {
            connections: 1,
            slow_connections: 0,
            rate: 100.0,
            posts: 0,
            ..Plan::new(self.stage.target, DEMO_HOST)
        };
        let load = Load::start(&once);
        while load.counts().by_instance.is_empty() {
            if Instant::now() > deadline {
                return Err("no request was answered".into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        load.stop().await;
        Ok(())
    }

    /// Makes one instance crash, by its own address.
    async fn kill_one(&self) -> Result<InstanceId, Failure> {
        let app = self.status()?;
        let victim = app.instances.first().ok_or("no instance to kill")?;
        self.screen.say(&format!("kill {}", victim.id));
        let port = victim.ports.values().next().ok_or("no port")?;
        let address = lb_local::real_address((victim.address, *port).into());
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(b"GET /crash HTTP/1.1\r\nhost: victim\r\n\r\n").await?;
        // A client that does not wait may be gone before it was heard. The end comes without an answer.
        let _ = timeout(STEP, stream.read_to_end(&mut Vec::new())).await?;
        Ok(victim.id.clone())
    }

    async fn clean_up(&self) -> Result<(), Failure> {
        self.screen.end();
        self.platform.remove(&self.name).await?.gone(STEP).await?;
        self.platform.shutdown().await;
        self.stage.handle.balancer.shutdown().await?;
        self.stage.strike();
        Ok(())
    }
}
