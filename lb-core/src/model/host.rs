//! Hosts: machines with an engine, what they say of themselves, and the set of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::names::{HostId, LabelKey, LabelValue};
use super::units::{ByteSize, Cpu};

/// What a host says of itself when it registers. Identity is `id`, not the address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFacts {
    /// Who it is.
    pub id: HostId,
    /// Where other hosts reach its published ports.
    pub address: IpAddr,
    /// For placement and exposure.
    #[serde(default)]
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// What apps may use of it. Absent: not bounded by declaration.
    #[serde(default)]
    pub capacity: Resources,
}

impl HostFacts {
    /// A host without labels or declared capacity.
    pub fn new(id: HostId, address: impl Into<IpAddr>) -> Self {
        Self {
            id,
            address: address.into(),
            labels: BTreeMap::new(),
            capacity: Resources::default(),
        }
    }
}

/// CPU and memory, each optional: a limit of an instance, or the capacity of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// CPU time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
}

/// The registered hosts whose leases hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSet {
    /// By identity.
    pub hosts: BTreeMap<HostId, HostFacts>,
}

impl FromIterator<HostFacts> for HostSet {
    fn from_iter<I: IntoIterator<Item = HostFacts>>(facts: I) -> Self {
        Self { hosts: facts.into_iter().map(|f| (f.id.clone(), f)).collect() }
    }
}
