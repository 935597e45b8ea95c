//! What an engine is asked to run.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::{
    ContainerName, DomainName, EnvName, ImageRef, LabelKey, NetworkName, Resources, Secret, Signal,
    UserName, Volume,
};

/// The labels every engine writes, and reads ownership back from.
pub mod label {
    /// The owning cluster. Written by the runtime.
    pub const CLUSTER: &str = "lb.cluster";
    /// The [`SpecHash`](super::SpecHash). Written by the runtime.
    pub const SPEC: &str = "lb.spec";
    /// The [`Role`](super::Role). Written by the runtime.
    pub const ROLE: &str = "lb.role";
    /// The instance's [`Assignment`](crate::Assignment) as JSON. Written by the planner.
    pub const ASSIGNMENT: &str = "lb.assignment";
    /// The [`Health`](crate::Health) checks by port inside the container as JSON (`{"8080": {...}}`), for
    /// [`Probed`](crate::Probed) beside the container. Written by the planner.
    pub const HEALTH: &str = "lb.health";
    /// The image as the app named it, with the digest it was pinned to. Written by the planner.
    pub const IMAGE: &str = "lb.image";
}

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// An instance of an app.
    Instance,
    /// The host's balancer.
    Balancer,
    /// The host's agent.
    Agent,
    /// A short run, such as a configuration check.
    Checker,
}

impl Role {
    /// As the label [`label::ROLE`] writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Balancer => "balancer",
            Self::Agent => "agent",
            Self::Checker => "checker",
        }
    }

    /// Takes the label's text back. `None` for a text nobody writes.
    pub fn from_label(text: &str) -> Option<Self> {
        let all = [Self::Instance, Self::Balancer, Self::Agent, Self::Checker];
        all.into_iter().find(|role| role.as_str() == text)
    }
}

/// A container to make: everything the engine needs, nothing it has to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its name on the engine.
    pub name: ContainerName,
    /// What it is for.
    pub role: Role,
    /// The image, pinned to a digest for instances.
    pub image: ImageRef,
    /// Replaces the image's entry point.
    pub command: Option<Vec<String>>,
    /// Replaces the image's arguments.
    pub args: Option<Vec<String>>,
    /// Runs as this user instead of the image's.
    pub user: Option<UserName>,
    /// Environment variables.
    pub env: BTreeMap<EnvName, String>,
    /// Environment variables that never show.
    pub secrets: BTreeMap<EnvName, Secret>,
    /// Mounts.
    pub volumes: Vec<Volume>,
    /// CPU and memory limits.
    pub resources: Resources,
    /// Which network it is on.
    pub network: Attachment,
    /// Names it can look up, and their addresses (`/etc/hosts`).
    pub hosts: BTreeMap<DomainName, IpAddr>,
    /// Host ports that lead into it.
    pub publish: Vec<Publish>,
    /// Whether the engine restarts it.
    pub restart: Restart,
    /// What it may do beyond an ordinary process.
    pub privileges: Privileges,
    /// Asks it to end. `None`: the image's own, SIGTERM where it names none.
    pub stop_signal: Option<Signal>,
    /// Time between that signal and SIGKILL when the engine itself shuts down.
    pub stop_grace: Duration,
    /// Further labels, by the writer's keys (see [`label`]).
    pub labels: BTreeMap<LabelKey, String>,
}

impl ContainerSpec {
    /// A container with defaults: no network but its own loopback, no privileges, never restarted.
    pub fn new(name: ContainerName, role: Role, image: ImageRef) -> Self {
        Self {
            name,
            role,
            image,
            command: None,
            args: None,
            user: None,
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            volumes: Vec::new(),
            resources: Resources::default(),
            network: Attachment::None,
            hosts: BTreeMap::new(),
            publish: Vec::new(),
            restart: Restart::Never,
            privileges: Privileges::default(),
            stop_signal: None,
            stop_grace: crate::model::Stop::default().grace,
            labels: BTreeMap::new(),
        }
    }

    /// The hash that tells two specs apart. Equal specs have equal hashes in every process and version
    /// of the same schema.
    pub fn hash(&self) -> SpecHash {
        let bytes =
            serde_json::to_vec(self).unwrap_or_else(|e| unreachable!("a spec is JSON: {e}"));
        let digest = Sha256::digest(bytes);
        let first = digest.iter().take(16).fold(0u128, |n, byte| n << 8 | u128::from(*byte));
        SpecHash(format!("{first:032x}"))
    }
}

/// The hash of a [`ContainerSpec`], kept as the label [`label::SPEC`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SpecHash(String);

impl SpecHash {
    /// Takes a label's text back; any text is a hash, a foreign one equals no other.
    pub fn from_label(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The label's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SpecHash {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::from_label(text))
    }
}

impl fmt::Display for SpecHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which network a container is on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attachment {
    /// Its own loopback only.
    None,
    /// The host's network itself.
    Host,
    /// A network made by `ensure_network`, with this address.
    Network {
        /// The network.
        name: NetworkName,
        /// The container's address in it.
        address: Ipv4Addr,
    },
}

/// A port of the host that leads to one of the container (TCP).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Publish {
    /// The host's address it is bound to, and no other.
    pub address: IpAddr,
    /// The host's port.
    pub host: u16,
    /// The container's port.
    pub container: u16,
}

/// Whether the engine restarts a container that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Never: the platform decides.
    Never,
    /// Always, also after the engine restarts, until it is removed.
    Always,
}

/// What a container may do. Default: nothing beyond an unprivileged process, and no new privileges.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Privileges {
    /// Kernel capabilities; all others are dropped. `None` keeps the engine's default set without those
    /// that reach the host's network (`NET_RAW`), which images that change user at start need.
    pub capabilities: Option<BTreeSet<Capability>>,
    /// Whether the root file system is read only.
    pub read_only_root: bool,
}

/// A kernel capability (capabilities(7)), by its name without `CAP_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum Capability {
    Chown,
    DacOverride,
    Kill,
    NetAdmin,
    NetBindService,
    Setgid,
    Setuid,
    SysChroot,
}

impl Capability {
    /// Its name as engines write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chown => "CHOWN",
            Self::DacOverride => "DAC_OVERRIDE",
            Self::Kill => "KILL",
            Self::NetAdmin => "NET_ADMIN",
            Self::NetBindService => "NET_BIND_SERVICE",
            Self::Setgid => "SETGID",
            Self::Setuid => "SETUID",
            Self::SysChroot => "SYS_CHROOT",
        }
    }
}

/// A network to make.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Its name on the engine.
    pub name: NetworkName,
    /// Its subnet. The first address is the host's.
    pub subnet: Ipv4Net,
    /// Where the engine itself may allocate addresses: inside `subnet`, outside the planner's part.
    pub engine_range: Ipv4Net,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_labels_that_come_back() {
        for role in [Role::Instance, Role::Balancer, Role::Agent, Role::Checker] {
            assert_eq!(Role::from_label(role.as_str()), Some(role));
            let serde = serde_json::to_value(role).unwrap();
            assert_eq!(serde, role.as_str(), "the label is the serde form");
        }
        assert_eq!(Role::from_label("king"), None);
    }
}
