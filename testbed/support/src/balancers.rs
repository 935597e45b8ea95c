//! Balancers for the suite of their contract.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lb_core::conformance::balancer::BalancerSetup;
use lb_core::{ClusterId, LoadBalancer};
use tempfile::TempDir;

use crate::free_port;

/// Balancers over one directory of the case's own, whose listeners are on 127.0.0.1.
#[derive(Debug)]
pub struct Loopback {
    directory: TempDir,
    make: fn(&Path) -> Arc<dyn LoadBalancer>,
}

impl Loopback {
    /// Made by `make` of the directory.
    pub fn new(make: fn(&Path) -> Arc<dyn LoadBalancer>) -> Self {
        // Sockets lie in it, whose paths must be short.
        let directory = tempfile::Builder::new().prefix("lbc").tempdir_in("/tmp").unwrap();
        Self { directory, make }
    }
}

/// A cluster for what runs beside a directory's balancer: its own, the same each time.
pub fn cluster_of(directory: &Path) -> ClusterId {
    let name = directory.file_name().unwrap().to_str().unwrap();
    ClusterId::new(name.to_lowercase()).unwrap()
}

#[async_trait]
impl BalancerSetup for Loopback {
    async fn balancer(&self) -> Arc<dyn LoadBalancer> {
        (self.make)(self.directory.path())
    }

    fn address(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }

    fn port(&self) -> u16 {
        free_port()
    }

    /// Its processes name a path of the directory in their command line, in a container as well.
    async fn kill(&self) {
        let doomed = processes_of(self.directory.path());
        assert!(!doomed.is_empty(), "no process of {}", self.directory.path().display());
        let pids = doomed.iter().map(u32::to_string);
        // Some may have ended with their parent.
        let _ = Command::new("kill").arg("-9").args(pids).stderr(Stdio::null()).status().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while doomed.iter().any(|pid| is_running(*pid)) {
            assert!(Instant::now() < deadline, "killed, and still there: {doomed:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Those started with a path of the directory, and their children.
fn processes_of(directory: &Path) -> Vec<u32> {
    let directory = directory.to_str().unwrap();
    let all = fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let names = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(directory)
    };
    let mut found: Vec<u32> = pids.filter(|pid| names(pid)).collect();
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        let new: Vec<u32> = children.filter(|pid| !found.contains(pid)).collect();
        found.extend(new);
        next += 1;
    }
    found
}

/// Neither gone nor waiting for its parent to notice.
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}
