//! A platform on a real engine, its client, and the waiting for what should come.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    unused_macros,
    reason = "each test program uses its part"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_core::{
    App, AppName, AppSpec, AppStatus, Container, FileAppStore, FileLeadership, FileLedgerStore,
    InstanceId, LoopSettings, Orchestrator, Replicas, Role,
};
use lb_examples::{DEMO_HOST, Engine, Stage, StageOptions};
use lb_load::{Counts, Load, Plan};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Mutex, MutexGuard};

/// Longest wait for anything.
pub const STEP: Duration = Duration::from_secs(120);

/// One test for each engine and name.
macro_rules! each_engine {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn local() {
                let _one_at_a_time = crate::support::turn("local").await;
                super::$name(lb_examples::Engine::Local).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs LB_TEST_DOCKER, LB_TEST_HAPROXY_IMAGE, LB_TEST_APP_IMAGE (testbed/up)"]
            async fn docker() {
                let _one_at_a_time = crate::support::turn("docker").await;
                super::$name(lb_examples::Engine::Docker).await;
            }
        }
    )+ };
}
pub(crate) use each_engine;

/// All tests on an engine use one cluster's name there, so they take turns.
pub async fn turn(engine: &str) -> MutexGuard<'static, ()> {
    static TURNS: [Mutex<()>; 3] = [const { Mutex::const_new(()) }; 3];
    let lane = ["local", "docker", "podman"].iter().position(|known| *known == engine);
    TURNS[lane.expect("an engine")].lock().await
}

/// What testbed/up says.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name}: set by testbed/up"))
}

/// An example program as this build made it: beside this test program.
pub fn example(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let program = this.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(program.exists(), "{}: cargo test builds the examples", program.display());
    program
}

/// Restarts the Docker of the testbed, as a service manager would.
pub async fn restart_engine() {
    let command = variable("LB_TEST_ENGINE_RESTART");
    let status = tokio::process::Command::new("sh").arg("-c").arg(command).status().await.unwrap();
    assert!(status.success(), "the engine did not come back");
}

/// An app on an engine, its files, and who runs it.
pub struct Platform {
    pub orchestrator: Orchestrator,
    pub stage: Stage,
    files: TempDir,
    name: AppName,
}

impl Platform {
    /// `count` instances of version 1, serving.
    pub async fn with(engine: Engine, count: u32) -> Self {
        let files = tempfile::tempdir().unwrap();
        let stage = Stage::set(&options(engine, files.path())).await.unwrap();
        let orchestrator = orchestrator(&stage, files.path()).await;
        let platform = Self { orchestrator, stage, files, name: "hello".parse().unwrap() };
        platform.deploy("1", count).await;
        platform.until("a start", |app| app.wanted == count && app.is_settled()).await;
        platform.answers().await;
        platform
    }

    pub fn app(&self, version: &str, count: u32) -> App {
        let app = self.stage.app(self.name.as_str(), version).unwrap();
        App::new(AppSpec { replicas: Replicas::fixed(count), ..AppSpec::from(app) }).unwrap()
    }

    pub async fn deploy(&self, version: &str, count: u32) {
        self.orchestrator.deploy(&self.app(version, count)).await.unwrap();
    }

    pub fn app_status(&self) -> AppStatus {
        self.orchestrator.status().apps[&self.name].clone()
    }

    /// Waits until the app is so.
    pub async fn until(&self, what: &str, done: impl Fn(&AppStatus) -> bool + Send + Sync) {
        let is = |status: &lb_core::Status| status.apps.get(&self.name).is_some_and(&done);
        if let Err(error) = self.orchestrator.wait_for(is, STEP).await {
            panic!("until {what}: {error}\n{:#?}", self.app_status());
        }
    }

    /// Short and two-second requests, all of them repeatable, at a fixed rate.
    pub fn load(&self) -> Load {
        Load::start(&Plan { posts: 0, ..Plan::new(self.stage.target, DEMO_HOST) })
    }

    /// Waits until a request is answered.
    pub async fn answers(&self) {
        let plan = Plan::new(self.stage.target, DEMO_HOST);
        let load = Load::start(&Plan { connections: 1, slow_connections: 0, rate: 50.0, ..plan });
        let deadline = Instant::now() + STEP;
        while load.counts().by_instance.is_empty() {
            assert!(Instant::now() < deadline, "no answer: {:?}", load.counts().failures);
            tokio::task::yield_now().await;
        }
        load.stop().await;
    }

    /// Makes an instance crash, by its own address.
    pub async fn crash_one(&self) -> InstanceId {
        let app = self.app_status();
        let victim = &app.instances[0];
        let port = *victim.ports.values().next().unwrap();
        let address = lb_local::real_address((victim.address, port).into());
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /crash HTTP/1.1\r\nhost: victim\r\n\r\n").await.unwrap();
        // It ends without an answer.
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        let _ = tokio::time::timeout(STEP, end).await.expect("the instance must crash");
        victim.id.clone()
    }

    /// Ends the loop without a word and starts the next one, which knows the files and what the engine says.
    pub async fn replace_orchestrator(&mut self) {
        // The balancer of `local` lives in this process and must outlive the loop.
        if self.stage.engine != Engine::Local {
            let port = std::num::NonZeroU16::new(self.stage.target.port());
            let options = StageOptions { port, ..options(self.stage.engine, self.files.path()) };
            self.stage = Stage::set(&options).await.unwrap();
        }
        // The handle of the one before is dropped here: it resigns, and the next one leads.
        self.orchestrator = orchestrator(&self.stage, self.files.path()).await;
    }

    /// The app's containers as the engine lists them.
    pub async fn containers(&self) -> Vec<Container> {
        let mut all = self.stage.handle.runtime.list().await.unwrap();
        all.retain(|container| container.role == Role::Instance);
        all
    }

    /// Ends the load, of which nothing may have failed, and removes everything.
    pub async fn end(self, load: Load, at_least: u64) -> Counts {
        let counts = load.stop().await;
        assert_eq!(counts.failed, 0, "of {}: {:#?}", counts.requests, counts.failures);
        assert!(counts.requests >= at_least, "only {} requests", counts.requests);
        self.clean_up().await;
        counts
    }

    pub async fn clean_up(self) {
        self.orchestrator.remove(&self.name).await.unwrap();
        let gone = |status: &lb_core::Status| !status.apps.contains_key(&self.name);
        self.orchestrator.wait_for(gone, STEP).await.unwrap();
        self.orchestrator.shutdown().await;
        assert_eq!(self.containers().await, [], "all instances are gone");
        self.stage.handle.balancer.shutdown().await.unwrap();
        assert_eq!(self.stage.handle.runtime.list().await.unwrap(), [], "and so is the balancer");
        self.stage.strike();
    }
}

/// The stage's options as a program's command line gives them.
#[derive(clap::Parser)]
struct Options {
    #[command(flatten)]
    stage: StageOptions,
}

fn options(engine: Engine, files: &Path) -> StageOptions {
    let mut line = vec!["test".to_owned(), format!("--engine={engine}")];
    line.push(format!("--program={}", example("quickstart").display()));
    line.push(format!("--directory={}", files.join("host").display()));
    if engine == Engine::Docker {
        line.push(format!("--docker={}", variable("LB_TEST_DOCKER")));
        line.push(format!("--image={}", variable("LB_TEST_APP_IMAGE")));
        line.push(format!("--haproxy-image={}", variable("LB_TEST_HAPROXY_IMAGE")));
    }
    <Options as clap::Parser>::parse_from(line).stage
}

async fn orchestrator(stage: &Stage, files: &Path) -> Orchestrator {
    // No look but for a reason: an event that is missed, or told before the engine's list knows, fails the test.
    let settings = LoopSettings { resync: Duration::from_secs(3600), ..LoopSettings::default() };
    Orchestrator::builder(stage.cluster.clone())
        .host(stage.facts.clone(), stage.handle.clone())
        .apps(Arc::new(FileAppStore::open(files).await.unwrap()))
        .ledger(Arc::new(FileLedgerStore::new(files)))
        .leadership(Arc::new(FileLeadership::new(files)))
        .settings(settings)
        .start()
        .await
        .unwrap()
}

/// Runs an example program to its end; what it printed on standard output.
pub fn run(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b));
    assert!(output.status.success(), "{}: {}\n{out}{err}", program.display(), output.status);
    out.into_owned()
}
