//! Balancers for the suite of their contract.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lb_core::conformance::Stalled;
use lb_core::conformance::balancer::BalancerSetup;
use lb_core::{ClusterId, LoadBalancer};
use tempfile::TempDir;

use crate::{free_port, processes};

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

    /// They name a path of the directory in their command line, in a container as well.
    fn processes(&self) -> Vec<u32> {
        let found = processes::of(self.directory.path());
        assert!(!found.is_empty(), "no process of {}", self.directory.path().display());
        found
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

    async fn kill(&self) {
        let doomed = self.processes();
        processes::signal("-9", &doomed);
        let deadline = Instant::now() + Duration::from_secs(10);
        while doomed.iter().any(|pid| processes::is_running(*pid)) {
            assert!(Instant::now() < deadline, "killed, and still there: {doomed:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    async fn stall(&self) -> Stalled {
        let stopped = self.processes();
        processes::signal("-STOP", &stopped);
        Stalled::until(move || processes::signal("-CONT", &stopped))
    }
}
