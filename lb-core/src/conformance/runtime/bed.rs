//! What the cases run on: a cluster of its own for each, cleared afterwards.

use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ipnet::Ipv4Net;

use super::super::{Ground, Stalled, Wrapped};
use crate::error::ErrorKind;
use crate::model::{ClusterId, ContainerName, ImageRef, NetworkName};
use crate::runtime::{
    Attachment, Container, ContainerRuntime, ContainerSpec, ContainerState, NetworkSpec, Quiet,
};

/// What a backend's tests give the suite. Made anew for each case; cases run beside each other.
///
/// The methods with a body are for single cases: a backend that leaves those out need not write them.
#[async_trait]
pub trait RuntimeSetup: Debug + Send + Sync + 'static {
    /// A runtime of this cluster on the engine. Asked again, another value for the same cluster and engine,
    /// as another process would hold it.
    async fn runtime(&self, cluster: &ClusterId) -> Arc<dyn ContainerRuntime>;

    /// The spec of a container that does so. Its image is on the engine, or `ensure_image` gets it.
    fn container(&self, name: ContainerName, does: Does<'_>) -> ContainerSpec;

    /// A /24 that containers of the engine can use and nobody does, another at each call.
    fn subnet(&self) -> Ipv4Net;

    /// An image that is nowhere; its registry, if it has one, answers.
    fn absent_image(&self) -> ImageRef;

    /// Makes a container that belongs to no cluster and runs.
    async fn make_foreign(&self, name: &ContainerName) {
        panic!("{self:?} cannot make the foreign container {name}");
    }

    /// Whether that container still runs.
    async fn foreign_runs(&self, name: &ContainerName) -> bool {
        panic!("{self:?} cannot look at the foreign container {name}");
    }

    /// Makes a container of the cluster and does not start it, as a caller that died between the two.
    async fn make_only(&self, cluster: &ClusterId, spec: &ContainerSpec) {
        panic!("{self:?} cannot make {} of {cluster} and not start it", spec.name);
    }

    /// Restarts the engine: ends once it has answered again.
    async fn restart(&self) {
        panic!("{self:?} cannot restart its engine");
    }

    /// A runtime of this cluster, as [`runtime`](Self::runtime) gives them, before which the engine can be
    /// stalled, with deadlines of a few seconds. An engine within this process cannot be stopped alone, and
    /// leaves the cases out that need it.
    async fn stallable(&self, cluster: &ClusterId) -> Arc<dyn ContainerRuntime> {
        panic!("{self:?} has no runtime of {cluster} that can be stalled");
    }

    /// Keeps the engine from answering those, as a machine out of breath does.
    async fn stall(&self) -> Stalled {
        panic!("{self:?} cannot be stalled");
    }

    /// Whether it waits for nothing but time, as [`Ground::is_in_memory`] says. Default: no.
    fn is_in_memory(&self) -> bool {
        false
    }

    /// Removes what [`make_foreign`](Self::make_foreign) made.
    async fn clear(&self) {}
}

/// What a container of a case does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does<'a> {
    /// Runs until it is stopped, and ends at its stop signal at once.
    Sleep,
    /// Ends by itself at once, with code 1.
    Fail,
    /// Runs these lines of POSIX shell, with `$1` and so on from the spec's `args` after the first.
    Shell(&'a str),
}

/// A cluster of its own on the engine under test.
#[derive(Debug)]
pub struct Bed {
    /// The setup.
    pub setup: Arc<dyn RuntimeSetup>,
    /// The cluster.
    pub cluster: ClusterId,
    /// A runtime of it.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// A network to make, of this cluster.
    pub network: NetworkSpec,
    laid: Laid,
}

/// What is to be cleared: of this bed and of those beside it.
type Laid = Arc<Mutex<Vec<Cluster>>>;
type Cluster = (Arc<dyn ContainerRuntime>, [NetworkName; 2]);

impl Bed {
    /// A bed with a new cluster.
    pub async fn new(setup: impl RuntimeSetup) -> Self {
        Self::lay(Arc::new(setup), Laid::default()).await
    }

    /// Another cluster on the same engine.
    pub async fn beside(&self) -> Self {
        Self::lay(self.setup.clone(), self.laid.clone()).await
    }

    async fn lay(setup: Arc<dyn RuntimeSetup>, laid: Laid) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let cluster = ClusterId::new(format!("cf{process}-{count}")).unwrap();
        let runtime = setup.runtime(&cluster).await;
        let network = network_spec(&cluster, "net", setup.subnet());
        let bed = Self { setup, cluster, runtime, network, laid };
        let networks = [bed.network.name.clone(), bed.second_network(bed.network.subnet).name];
        bed.laid().push((bed.runtime.clone(), networks));
        for does in [Does::Sleep, Does::Fail, Does::Shell("true")] {
            bed.fetch(&bed.setup.container(bed.name("image"), does).image).await;
        }
        bed
    }

    fn laid(&self) -> MutexGuard<'_, Vec<Cluster>> {
        self.laid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self, image: &ImageRef) {
        let fetched = self.runtime.ensure_image(image, None, &Quiet).await;
        fetched.unwrap_or_else(|e| panic!("the images of the setup must be there: {e}"));
    }

    /// The name of a container of this cluster.
    pub fn name(&self, what: &str) -> ContainerName {
        ContainerName::new(format!("{}.{what}", self.cluster)).unwrap()
    }

    /// A container that runs until it is stopped.
    pub fn sleeper(&self, what: &str) -> ContainerSpec {
        self.setup.container(self.name(what), Does::Sleep)
    }

    /// A container that ends at once with code 1.
    pub fn failing(&self, what: &str) -> ContainerSpec {
        self.setup.container(self.name(what), Does::Fail)
    }

    /// A container that runs lines of shell.
    pub fn shell(&self, what: &str, lines: &str) -> ContainerSpec {
        self.setup.container(self.name(what), Does::Shell(lines))
    }

    /// The n-th address of the network.
    pub fn address(&self, n: usize) -> Ipv4Addr {
        self.network.subnet.hosts().nth(n - 1).unwrap()
    }

    /// The container at the n-th address of the network.
    pub fn at(&self, n: usize, spec: ContainerSpec) -> ContainerSpec {
        let network =
            Attachment::Network { name: self.network.name.clone(), address: self.address(n) };
        ContainerSpec { network, ..spec }
    }

    /// Whether the n-th address of the network is a container's.
    pub async fn holds_address(&self, n: usize) -> bool {
        let other = self.runtime.run(&self.at(n, self.sleeper("other"))).await;
        self.stop("other").await;
        match other {
            Ok(_) => false,
            Err(error) if error.kind() == ErrorKind::Conflict => true,
            Err(error) => panic!("{error}"),
        }
    }

    /// A second network of this cluster, with this subnet.
    pub fn second_network(&self, subnet: Ipv4Net) -> NetworkSpec {
        network_spec(&self.cluster, "second", subnet)
    }

    /// The container as it is listed.
    pub async fn listed(&self, what: &str) -> Option<Container> {
        let name = self.name(what);
        self.runtime.list().await.unwrap().into_iter().find(|c| c.name == name)
    }

    /// Whether it is listed as running.
    pub async fn runs(&self, what: &str) -> bool {
        self.listed(what).await.is_some_and(|c| c.state == ContainerState::Running)
    }

    /// The names that are listed, without the cluster.
    pub async fn names(&self) -> Vec<String> {
        let prefix = format!("{}.", self.cluster);
        let short = |c: Container| {
            let Some(short) = c.name.as_str().strip_prefix(&prefix) else {
                panic!("{:?} is listed and is not of cluster {:?}", c.name, self.cluster)
            };
            short.to_owned()
        };
        self.runtime.list().await.unwrap().into_iter().map(short).collect()
    }

    /// Stops a container at once.
    pub async fn stop(&self, what: &str) {
        self.runtime.stop(&self.name(what), Duration::ZERO).await.unwrap();
    }
}

/// A network whose engine may allocate in the last 16 addresses.
fn network_spec(cluster: &ClusterId, what: &str, subnet: Ipv4Net) -> NetworkSpec {
    let last = u32::from(subnet.broadcast()) & !15;
    NetworkSpec {
        name: NetworkName::new(format!("{cluster}.{what}")).unwrap(),
        subnet,
        engine_range: Ipv4Net::new(last.into(), 28).unwrap(),
    }
}

#[async_trait]
impl Ground for Bed {
    async fn clear(&self) {
        let laid = self.laid().clone();
        for (runtime, networks) in &laid {
            for container in runtime.list().await.unwrap() {
                runtime.stop(&container.name, Duration::ZERO).await.unwrap();
            }
            for network in networks {
                runtime.remove_network(network).await.unwrap();
            }
        }
        self.setup.clear().await;
    }

    fn is_in_memory(&self) -> bool {
        self.setup.is_in_memory()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: RuntimeSetup> RuntimeSetup for Wrapped<S, dyn ContainerRuntime> {
    async fn runtime(&self, cluster: &ClusterId) -> Arc<dyn ContainerRuntime> {
        self.wrap(self.setup.runtime(cluster).await)
    }

    fn container(&self, name: ContainerName, does: Does<'_>) -> ContainerSpec {
        self.setup.container(name, does)
    }

    fn subnet(&self) -> Ipv4Net {
        self.setup.subnet()
    }

    fn absent_image(&self) -> ImageRef {
        self.setup.absent_image()
    }

    async fn make_foreign(&self, name: &ContainerName) {
        self.setup.make_foreign(name).await;
    }

    async fn foreign_runs(&self, name: &ContainerName) -> bool {
        self.setup.foreign_runs(name).await
    }

    async fn make_only(&self, cluster: &ClusterId, spec: &ContainerSpec) {
        self.setup.make_only(cluster, spec).await;
    }

    async fn restart(&self) {
        self.setup.restart().await;
    }

    async fn stallable(&self, cluster: &ClusterId) -> Arc<dyn ContainerRuntime> {
        self.wrap(self.setup.stallable(cluster).await)
    }

    async fn stall(&self) -> Stalled {
        self.setup.stall().await
    }

    fn is_in_memory(&self) -> bool {
        self.setup.is_in_memory()
    }

    async fn clear(&self) {
        self.setup.clear().await;
    }
}
