//! One container of an app: its identity, its container name, and its address.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::names::{AppName, ClusterId, ContainerName, HostId, PortName, shown};
use crate::error::{Error, Result};

/// One version of an app's container-affecting settings: ten hexadecimal digits of their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Revision(u64);

impl Revision {
    /// From the first five bytes of a hash.
    pub fn from_hash(hash: &[u8]) -> Self {
        Self(hash.iter().take(5).fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    /// Its bits, to hash.
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010x}", self.0)
    }
}

impl FromStr for Revision {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let digits =
            s.len() == 10 && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match u64::from_str_radix(s, 16) {
            Ok(n) if digits => Ok(Self(n)),
            _ => Err(Error::invalid(
                shown("revision", s),
                "must be 10 lower-case hexadecimal digits",
            )),
        }
    }
}

impl TryFrom<String> for Revision {
    type Error = Error;
    fn try_from(s: String) -> Result<Self> {
        s.parse()
    }
}

impl From<Revision> for String {
    fn from(revision: Revision) -> Self {
        revision.to_string()
    }
}

/// Which container: the planner names it before it exists, so that starting twice is harmless.
///
/// A slot is a place among the app's instances; an incarnation counts the containers that filled it, so
/// that a dead container's name is never used again while it may still exist.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId {
    /// The app.
    pub app: AppName,
    /// The settings it runs with.
    pub revision: Revision,
    /// The place it fills, from 0.
    pub slot: u32,
    /// How many containers filled the slot before it.
    pub incarnation: u32,
}

impl InstanceId {
    /// `cluster.app.revision.sSLOT.iINCARNATION`, also the server's name at the balancer.
    pub fn container_name(&self, cluster: &ClusterId) -> ContainerName {
        let Self { app, revision, slot, incarnation } = self;
        ContainerName::new(format!("{cluster}.{app}.{revision}.s{slot}.i{incarnation}"))
            .unwrap_or_else(|e| unreachable!("parts of a container name are labels: {e}"))
    }

    /// The inverse of [`container_name`](Self::container_name); `None` for another cluster's or a foreign name.
    pub fn from_container_name(cluster: &ClusterId, name: &ContainerName) -> Option<Self> {
        name.as_str().strip_prefix(cluster.as_str())?.strip_prefix('.')?.parse().ok()
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let app = AppName::new(parts.next()?).ok()?;
        let revision = parts.next()?.parse().ok()?;
        let slot = parts.next()?.strip_prefix('s')?.parse().ok()?;
        let incarnation = parts.next()?.strip_prefix('i')?.parse().ok()?;
        let id = Self { app, revision, slot, incarnation };
        (id.to_string() == text).then_some(id)
    }
}

impl FromStr for InstanceId {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let rule = "must be APP.REVISION.sSLOT.iINCARNATION such as \"shop.a4845e49c0.s0.i2\"";
        Self::read(s).ok_or_else(|| Error::invalid(shown("instance", s), rule))
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.s{}.i{}", self.app, self.revision, self.slot, self.incarnation)
    }
}

/// Where an instance is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The host it runs on.
    pub host: HostId,
    /// Its address inside the cluster.
    pub address: Ipv4Addr,
    /// Its ports inside the container, by name.
    pub ports: BTreeMap<PortName, u16>,
    /// Ports of the host's registered address that lead to them, where other hosts need them.
    pub published: BTreeMap<PortName, u16>,
}
