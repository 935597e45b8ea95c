//! What an engine shows, in words the core understands.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use futures_util::stream::BoxStream;
use ipnet::Ipv4Net;

use super::Failure;
use crate::model::{ContainerName, ImageDigest};
use crate::runtime::{ContainerState, RuntimeEvent};

/// A container by itself.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The engine's identity of it.
    pub id: String,
    /// Its name, whatever it looks like.
    pub name: String,
    /// All its labels.
    pub labels: BTreeMap<String, String>,
    /// What it does.
    pub state: ContainerState,
}

/// A container in a list.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The engine's identity of it.
    pub id: String,
    /// Its name. `None`: not one of ours.
    pub name: Option<ContainerName>,
    /// All its labels.
    pub labels: BTreeMap<String, String>,
    /// What it does. `None` where the list does not say it all.
    pub state: Option<ContainerState>,
}

/// Which containers to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// In any state.
    All,
    /// Running ones.
    Running,
}

/// A network.
#[derive(Debug, Clone)]
pub struct SeenNetwork {
    /// The engine's identity of it.
    pub id: String,
    /// Its name, whatever it looks like.
    pub name: String,
    /// All its labels.
    pub labels: BTreeMap<String, String>,
    /// Its IPv4 subnet.
    pub subnet: Option<Ipv4Net>,
    /// Where the engine allocates, from first to last.
    pub range: Option<RangeInclusive<Ipv4Addr>>,
}

/// An image on the host.
#[derive(Debug, Clone)]
pub struct SeenImage {
    /// Its own id.
    pub id: ImageDigest,
    /// The manifest digests under which registries know it, each with the repository.
    pub digests: Vec<(String, ImageDigest)>,
    /// Which of these is the manifest of this machine's kind only, where the engine tells them apart from
    /// lists of manifests.
    pub single: Option<ImageDigest>,
}

/// Events from some moment on.
pub struct Subscription {
    /// Each, as it comes; the end and an error are both the end.
    pub hints: BoxStream<'static, Result<Hint, Failure>>,
    /// From when on none is missed, by the engine's clock, in nanoseconds since 1970.
    pub begun: Option<i128>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("begun", &self.begun).finish_non_exhaustive()
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// When, by the engine's clock, in nanoseconds since 1970.
    pub at: Option<i128>,
    /// What it tells us, if anything.
    pub event: Option<RuntimeEvent>,
}
