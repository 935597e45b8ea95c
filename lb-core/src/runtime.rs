//! Containers on one host.

mod container;
mod spec;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

pub use self::container::{
    Container, ContainerId, ContainerState, Exit, Readiness, RuntimeEvent, Usage,
};
pub use self::spec::{
    Attachment, Capability, ContainerSpec, NetworkSpec, Privileges, Publish, Restart, Role,
    SpecHash, label,
};
use crate::error::Result;
use crate::model::{ContainerName, ImageDigest, ImageRef, NetworkName, RegistryAuth};

/// The container engine of one host, as one cluster sees it.
///
/// # Contract
/// - A value belongs to one cluster on one host. It lists, changes and removes nothing else, whatever a
///   foreign container or network is called.
/// - **Every mutating call runs to its deadline on a task the backend owns, one per key** (container,
///   network or image name); the next call on that key waits behind it. Dropping the future abandons the
///   wait, not the work ([`Keyed`](crate::Keyed) does this).
/// - Every call is idempotent: repeating it reaches the same end.
/// - Each call has a deadline of its own and fails with `Timeout` rather than hang.
///
/// # Errors
/// `Unavailable` or `Timeout` when the engine does not answer; `Denied` for refused credentials;
/// `Unexpected` for an answer nobody expected. Others are named per method.
#[async_trait]
pub trait ContainerRuntime: Debug + Send + Sync + 'static {
    /// The engine's name, version and abilities.
    async fn describe(&self) -> Result<EngineInfo>;

    /// Makes sure the image is on the host and says which digest it is. A reference with a digest that is
    /// present is not fetched again; a tag is resolved afresh at its registry when one answers, and to the
    /// local image otherwise.
    ///
    /// # Errors
    /// `NotFound` when neither host nor registry has it; `Denied` for a refused login; `Unavailable` when
    /// the registry cannot be reached and the image is absent.
    async fn ensure_image(
        &self,
        image: &ImageRef,
        auth: Option<&RegistryAuth>,
        progress: &dyn Progress,
    ) -> Result<ImageDigest>;

    /// Makes sure the network exists with this subnet.
    ///
    /// # Errors
    /// `Conflict` when a network of this name has another subnet or another owner, or the subnet overlaps
    /// another network or route of the host.
    async fn ensure_network(&self, network: &NetworkSpec) -> Result<()>;

    /// Removes the network. Absent is success.
    ///
    /// # Errors
    /// `Conflict` while containers are attached, or when it is not this cluster's.
    async fn remove_network(&self, name: &NetworkName) -> Result<()>;

    /// Makes and starts the container. One that runs already with the same spec hash is success; one that
    /// was made but never started is started.
    ///
    /// # Errors
    /// `Conflict` when the name is taken by another spec, by an exited container or by a foreign one;
    /// `Conflict` when the address or a published port is taken; `NotFound` when image or network is
    /// missing; `Invalid` when the engine refuses the settings. After an error nothing half-made remains.
    async fn run(&self, spec: &ContainerSpec) -> Result<ContainerId>;

    /// Runs a container to its end, for checkers: gives exit code and output, and removes it. A checker of this
    /// name that is there, left by a process that was killed meanwhile, is removed first.
    ///
    /// # Errors
    /// As [`run`](Self::run), also when the name is a container's that is no checker; `Timeout` when it has not ended by `deadline` (it is killed and removed).
    async fn run_to_end(&self, spec: &ContainerSpec, deadline: Duration) -> Result<Exit>;

    /// Sends the container's stop signal, waits `grace`, kills, and removes it. Absent is success.
    ///
    /// # Errors
    /// `Conflict` when a container of this name is not this cluster's.
    async fn stop(&self, name: &ContainerName, grace: Duration) -> Result<()>;

    /// This cluster's containers in any state, in order of name, with readiness where it is known.
    async fn list(&self) -> Result<Vec<Container>>;

    /// Counters of the running containers, not rates. Can take seconds; never on a pass's path.
    async fn usage(&self) -> Result<BTreeMap<ContainerName, Usage>>;

    /// What changed, as hints that wake the loop. Lossy: gaps, repeats and reordering are allowed. A
    /// [`list`](Self::list) that begins after an event shows what it tells. The stream reconnects by itself and
    /// yields [`RuntimeEvent::Resync`] after each gap; it never ends.
    fn events(&self) -> BoxStream<'static, Result<RuntimeEvent>>;

    /// The last `tail` lines of a container's output, both streams merged, oldest first.
    ///
    /// # Errors
    /// `NotFound` when there is no such container.
    async fn logs(&self, name: &ContainerName, tail: usize) -> Result<String>;
}

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineInfo {
    /// `docker`, `podman`, `local`, ...
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether containers have addresses of their own that this host reaches.
    pub addresses: bool,
    /// Whether CPU and memory limits are enforced.
    pub limits: bool,
}

/// Hears how a long call goes on. Calls must be cheap and must not block.
pub trait Progress: Send + Sync {
    /// One step: what is going on, and how much of how many bytes are done where that is known.
    fn step(&self, step: &ProgressStep);
}

/// A step of a long call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressStep {
    /// What is going on, such as `pulling` or `verifying`.
    pub what: String,
    /// Of what: a layer, a file.
    pub item: String,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all, 0 if not known.
    pub total: u64,
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn step(&self, _: &ProgressStep) {}
}
