//! Hosts: machines with an engine, what they say of themselves, and the set of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::app::MAX_ENTRIES;
use super::names::{HostId, LabelKey, LabelValue};
use super::units::{ByteSize, Cpu};
use crate::error::{Error, Result};

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

    /// Rules of the fields: the address is one machine's, for ports are bound to it and others connect to it.
    ///
    /// # Errors
    /// `Invalid` naming the host and the field.
    pub fn check(&self) -> Result<()> {
        let here = |field: &str, rule: String| {
            Err(Error::invalid(field, rule).within(format!("host \"{}\"", self.id)))
        };
        let nobodys = match self.address {
            IpAddr::V4(v4) => v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
        };
        match (nobodys, self.labels.len() > MAX_ENTRIES) {
            (true, _) => here("address", format!("must be one machine's, not {}", self.address)),
            (_, true) => here("labels", format!("must be at most {MAX_ENTRIES}")),
            _ => Ok(()),
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
#[serde(deny_unknown_fields)]
pub struct HostSet {
    /// By identity.
    pub hosts: BTreeMap<HostId, HostFacts>,
}

impl FromIterator<HostFacts> for HostSet {
    fn from_iter<I: IntoIterator<Item = HostFacts>>(facts: I) -> Self {
        Self { hosts: facts.into_iter().map(|f| (f.id.clone(), f)).collect() }
    }
}
