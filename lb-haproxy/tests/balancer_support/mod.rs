//! What the balancer's tests share: a real HAProxy as a process.
#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

mod spoiling;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lb_core::{Change, LoadBalancer, RoutingTable, Traffic};
use lb_haproxy::{HaproxyBalancer, HaproxyRenderer};
use lb_test_support::processes;
use tempfile::TempDir;

pub use self::spoiling::{Spoiling, TOO_MANY, script};

/// The binary the tests run.
pub fn haproxy() -> PathBuf {
    std::env::var_os("LB_TEST_HAPROXY").expect("LB_TEST_HAPROXY must name a haproxy binary").into()
}

/// A balancer and its directory; ends HAProxy when dropped, also after a panic.
pub struct Bench {
    pub dir: TempDir,
    pub balancer: HaproxyBalancer,
}

impl Bench {
    pub fn new() -> Self {
        Self::rendered_by(Arc::new(HaproxyRenderer::new()))
    }

    pub fn rendered_by(renderer: Arc<dyn lb_core::ConfigRenderer>) -> Self {
        Self::made(renderer, haproxy())
    }

    /// Run by another program, which executes HAProxy.
    pub fn of(program: PathBuf) -> Self {
        Self::made(Arc::new(HaproxyRenderer::new()), program)
    }

    fn made(renderer: Arc<dyn lb_core::ConfigRenderer>, program: PathBuf) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let dir = tempfile::Builder::new().prefix("lbh").tempdir_in("/tmp").unwrap();
        let balancer = balancer(dir.path(), renderer, program);
        Self { dir, balancer }
    }

    /// A second balancer on the same directory.
    pub fn again(&self) -> HaproxyBalancer {
        balancer(self.dir.path(), Arc::new(HaproxyRenderer::new()), haproxy())
    }

    pub async fn apply(&self, table: &RoutingTable) -> Change {
        let applied = self.balancer.apply(table).await.unwrap();
        assert_eq!(applied.table, table.hash());
        assert!(applied.set_aside.is_empty(), "{:?}", applied.set_aside);
        applied.change
    }

    /// The same by a process that has ended since: HAProxy is left alone.
    pub async fn apply_and_end(&self, table: &RoutingTable) {
        let (balancer, table) = (self.again(), table.clone());
        let process = move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(balancer.apply(&table)).unwrap();
            runtime.shutdown_background();
        };
        tokio::task::spawn_blocking(process).await.unwrap();
    }

    pub async fn traffic(&self) -> Traffic {
        self.balancer.traffic().await.unwrap()
    }

    pub async fn reloads(&self) -> u64 {
        self.balancer.describe().await.unwrap().reloads
    }

    pub fn config(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("haproxy.cfg")).unwrap()
    }

    /// A command to the worker, as somebody else would give it.
    pub fn runtime(&self, command: &str) -> String {
        say(&self.dir.path().join("admin.sock"), command).unwrap()
    }

    pub fn master(&self, command: &str) -> std::io::Result<String> {
        say(&self.dir.path().join("master.sock"), command)
    }

    /// The master's and the workers' process ids.
    pub fn pids(&self) -> Vec<u32> {
        let text = self.master("show proc").unwrap_or_default();
        text.lines()
            .filter(|l| l.contains("master") || l.contains("worker"))
            .filter_map(|l| l.split_whitespace().next()?.parse().ok())
            .collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        processes::signal("-9", &self.pids());
    }
}

fn balancer(
    dir: &Path,
    renderer: Arc<dyn lb_core::ConfigRenderer>,
    program: PathBuf,
) -> HaproxyBalancer {
    HaproxyBalancer::builder(dir).renderer(renderer).as_process(program).build().unwrap()
}

fn say(socket: &Path, command: &str) -> std::io::Result<String> {
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
