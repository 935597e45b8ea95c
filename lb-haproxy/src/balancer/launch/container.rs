//! HAProxy in a container on the host's network.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use lb_core::balancer::{BalancerContainer, Failure, Owner};
use lb_core::{Capability, ErrorKind, Exit};

use super::{CHECK_DEADLINE, Checked, Launch, unchecked};
use crate::balancer::compose::{CONFIG, MASTER_SOCKET};
use crate::version;

/// Longest time from the container's start to HAProxy's first answer.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// The `haproxy` user of the official image; by number, so that other images need no such name.
const WORKER: [&str; 2] = ["uid 99", "gid 99"];

/// HAProxy in a container on the host's network.
#[derive(Debug)]
pub(crate) struct InContainer(pub BalancerContainer);

#[async_trait]
impl Launch for InContainer {
    async fn version(&self) -> Result<String, Failure> {
        Ok(version::named(&self.asked(&["-v"]).await?.output).to_owned())
    }

    async fn check(&self, config: &Path) -> Result<Checked, Failure> {
        Ok(self.asked(&["-c", "-f", &config.display().to_string()]).await?.into())
    }

    async fn start(&self) -> Result<(), Failure> {
        let at = |name: &str| self.0.directory.join(name).display().to_string();
        let master = format!("{},mode,600", at(MASTER_SOCKET));
        let words = ["haproxy", "-W", "-db", "-S", &master, "-f", &at(CONFIG)];
        // Later versions want to be told of a root, even if it is the one they have.
        let capabilities = [Capability::SysChroot];
        Ok(self.0.start(words.map(str::to_owned).to_vec(), capabilities).await?)
    }

    async fn stop(&self, _: Option<u32>) -> Result<(), Failure> {
        Ok(self.0.stop().await?)
    }

    async fn log(&self) -> String {
        self.0.log().await
    }

    fn owner(&self) -> Owner {
        Owner::Ours
    }

    fn start_deadline(&self) -> Duration {
        START_DEADLINE
    }

    fn user(&self) -> Vec<String> {
        WORKER.map(str::to_owned).to_vec()
    }

    fn descriptors(&self) -> Option<u64> {
        None
    }
}

impl InContainer {
    /// What the image's program says when it is run to its end.
    async fn asked(&self, arguments: &[&str]) -> Result<Exit, Failure> {
        let words = ["haproxy"].iter().chain(arguments);
        let command = words.map(|word| (*word).to_owned()).collect();
        match self.0.run_to_end(command, [], CHECK_DEADLINE).await {
            Ok(exit) => Ok(exit),
            Err(e) if e.kind() == ErrorKind::Unavailable && e.operation().is_empty() => {
                Err(unchecked(&e))
            }
            Err(e) => Err(e.into()),
        }
    }
}
