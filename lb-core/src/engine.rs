//! A runtime over any container engine that has an API: the behaviour all engines share, written once.
//!
//! A backend gives an [`EngineApi`]: what its engine can be asked, one request a method, without rules. An
//! [`EngineRuntime`] makes the contract of [`ContainerRuntime`](crate::ContainerRuntime) of it: ownership,
//! keys, deadlines, bounds, what is a conflict, nothing half-made, resynchronised events.
//! A backend's own type says which runtime it stands for by [`OnEngine`], and is a `ContainerRuntime` by that.
//!
//! This is for those who write backends. It knows no engine and no wire.

mod calls;
mod containers;
mod ended;
mod events;
mod failure;
mod images;
mod labels;
mod networks;
mod observe;
mod output;
mod routes;
mod runtime;
mod seen;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

pub use self::calls::{Bounds, Calls, Deadlines};
pub use self::failure::{BoxError, Failure, kind_of_status};
pub use self::images::{PullLine, image_names};
pub use self::labels::{check, environment, labels, owner_label, whole_seconds, writable_places};
pub use self::output::Tail;
pub use self::runtime::{EngineRuntime, OnEngine};
pub use self::seen::{Hint, Seen, SeenImage, SeenNetwork, Subscription, Summary, Which};
use crate::model::{ClusterId, ContainerName, ImageDigest, ImageRef, NetworkName, RegistryAuth};
use crate::runtime::{ContainerSpec, EngineInfo, NetworkSpec, Usage};

/// Processes and threads a container may have, unless a backend's builder says otherwise.
pub const DEFAULT_PIDS: u32 = 4096;

/// What an engine can be asked.
///
/// # Contract
/// - Each method is one request, or few that belong together. It keeps no time: its caller bounds it and
///   drops the future at the deadline.
/// - A thing that does not exist is a [`Failure`] that [`is_absent`](Failure::is_absent).
/// - A call whose answer is missing is one that [`is_unclear`](Failure::is_unclear): it may have been done.
#[async_trait]
pub trait EngineApi: Debug + Send + Sync + 'static {
    /// Where the engine is, as errors name it.
    fn endpoint(&self) -> String;

    /// Whether the engine runs on this machine, so that its routes are ours.
    fn is_here(&self) -> bool;

    /// The connection broke: what was agreed with the engine may no longer hold.
    fn lost(&self) {}

    /// Name, version, abilities.
    async fn describe(&self) -> Result<EngineInfo, Failure>;

    /// Makes a container with the labels of [`labels`] from an image the engine knows under the name
    /// `image` (one of [`image_names`]). Gives its id. A missing image is absent.
    async fn create(
        &self,
        cluster: &ClusterId,
        spec: &ContainerSpec,
        image: &str,
    ) -> Result<String, Failure>;

    /// Starts it. Running already is success.
    async fn start(&self, id: &str) -> Result<(), Failure>;

    /// Signals, waits `grace`, kills. Lasts as long. Stopped already is success.
    async fn stop(&self, id: &str, grace: Duration) -> Result<(), Failure>;

    /// Kills and removes it with its anonymous volumes; waits where somebody else is at it.
    async fn remove(&self, id: &str) -> Result<(), Failure>;

    /// Returns once it does not run.
    async fn ended(&self, id: &str) -> Result<(), Failure>;

    /// One container by name or id. Engines also find by the beginning of an id: the caller compares.
    async fn container(&self, name: &str) -> Result<Seen, Failure>;

    /// Those that carry the cluster's label.
    async fn containers(&self, cluster: &ClusterId, which: Which) -> Result<Vec<Summary>, Failure>;

    /// Counters. `None` when it does not run.
    async fn usage(&self, id: &str) -> Result<Option<Usage>, Failure>;

    /// What it printed, both streams: the last `lines`, or all, and of that the last `most` bytes.
    async fn output(&self, id: &str, lines: Option<usize>, most: usize) -> Result<String, Failure>;

    /// One network.
    async fn network(&self, name: &NetworkName) -> Result<SeenNetwork, Failure>;

    /// Makes a bridge whose first address is the host's, with the label of [`owner_label`].
    async fn make_network(&self, cluster: &ClusterId, spec: &NetworkSpec) -> Result<(), Failure>;

    /// Removes a network that nobody uses.
    async fn remove_network(&self, id: &str) -> Result<(), Failure>;

    /// An image on the host.
    async fn image(&self, name: &str) -> Result<SeenImage, Failure>;

    /// What the tag means at its registry now. `None` when the engine cannot say without fetching.
    async fn resolve(
        &self,
        image: &ImageRef,
        auth: Option<&RegistryAuth>,
    ) -> Result<Option<ImageDigest>, Failure>;

    /// Fetches a tag or digest (`which`) of the image's repository.
    fn pull<'a>(
        &'a self,
        image: &'a ImageRef,
        which: &'a str,
        auth: Option<&'a RegistryAuth>,
    ) -> BoxStream<'a, Result<PullLine, Failure>>;

    /// Events of the cluster's containers, from `since` on (nanoseconds since 1970 by the engine's clock).
    /// Returns once no event after `begun` can be missed.
    async fn subscribe(
        &self,
        cluster: &ClusterId,
        since: Option<i128>,
    ) -> Result<Subscription, Failure>;
}

/// A door for `fuzz/`: the first of the kernel's routes in the way of a subnet.
#[cfg(fuzzing)]
pub fn route_in_the_way(table: &str, subnet: ipnet::Ipv4Net) -> Option<String> {
    routes::route_in_the_way(table, subnet)
}

/// How errors name a container.
fn container(name: &ContainerName) -> String {
    format!("container {name:?}")
}
