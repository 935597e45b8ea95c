//! A whole host without an engine: this machine.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use lb_core::{ClusterSpec, HostFacts, HostHandle, HostId, Probed, Result};

use crate::address::real_address;
use crate::balancer::LocalBalancer;
use crate::program::Program;
use crate::runtime::{LocalRuntime, LocalRuntimeBuilder};

/// The host's name where none is given.
const NAME: &str = "local";

/// This machine as a host: apps as processes with readiness probed beside them, and a balancer in here.
///
/// ```no_run
/// # async fn example() -> lb_core::Result<()> {
/// use lb_core::{ClusterId, MemoryConnector};
/// use lb_local::{LocalHost, Program};
/// let cluster = lb_local::cluster(ClusterId::new("demo")?);
/// let host = LocalHost::builder(&cluster, "/tmp/demo")
///     .image("web:1", Program::new("/usr/local/bin/web"))
///     .build()?;
/// let connector = MemoryConnector::new();
/// connector.insert(host.facts().id.clone(), host.handle().clone());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct LocalHost {
    facts: HostFacts,
    handle: HostHandle,
}

/// Settings of a [`LocalHost`].
#[derive(Debug)]
pub struct LocalHostBuilder {
    runtime: LocalRuntimeBuilder,
    id: Option<HostId>,
    listen: IpAddr,
}

impl LocalHost {
    /// A host of `cluster` (see [`cluster`](crate::cluster)) with its state in `dir`. Several hosts on one
    /// machine need a directory, a name and a listening address each.
    pub fn builder(cluster: &ClusterSpec, dir: impl AsRef<Path>) -> LocalHostBuilder {
        LocalHostBuilder {
            runtime: LocalRuntime::builder(cluster.id.clone(), dir),
            id: None,
            listen: Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// What to register.
    pub const fn facts(&self) -> &HostFacts {
        &self.facts
    }

    /// What to give the loop.
    pub const fn handle(&self) -> &HostHandle {
        &self.handle
    }
}

impl LocalHostBuilder {
    /// Registers a program under an image name such as `web:1`.
    #[must_use]
    pub fn image(self, image: impl Into<String>, program: Program) -> Self {
        Self { runtime: self.runtime.image(image, program), ..self }
    }

    /// Its identity. Default `local`.
    #[must_use]
    pub fn id(self, id: HostId) -> Self {
        Self { id: Some(id), ..self }
    }

    /// The address outside ports are bound to. Default 127.0.0.1. The unspecified address (0.0.0.0) takes
    /// the port on every loopback address too: an app must then not use an outside port inside.
    #[must_use]
    pub fn listen(self, ip: IpAddr) -> Self {
        Self { listen: ip, ..self }
    }

    /// Opens the directory and starts to look at what runs. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// As [`LocalRuntimeBuilder::build`].
    pub fn build(self) -> Result<LocalHost> {
        let id = self.id.map_or_else(|| HostId::new(NAME), Ok)?;
        let runtime = Probed::builder(Arc::new(self.runtime.build()?)).reach(real_address).build();
        let balancer = LocalBalancer::on(self.listen);
        let handle = HostHandle { runtime: Arc::new(runtime), balancer: Arc::new(balancer) };
        Ok(LocalHost { facts: HostFacts::new(id, self.listen), handle })
    }
}
