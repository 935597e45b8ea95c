//! Hosts.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::{SizeRange, btree_map};
use proptest::prelude::*;
use proptest::strategy::SBoxedStrategy;

use super::app::resources;
use super::name::{host_id, label_key, label_value};
use crate::model::{HostFacts, HostSet, LabelKey, LabelValue};

/// Labels, up to three.
pub fn labels() -> SBoxedStrategy<BTreeMap<LabelKey, LabelValue>> {
    btree_map(label_key(), label_value(), 0..=3).sboxed()
}

/// What a host says of itself.
pub fn host_facts() -> SBoxedStrategy<HostFacts> {
    (host_id(), address(), labels(), resources())
        .prop_map(|(id, address, labels, capacity)| HostFacts { id, address, labels, capacity })
        .sboxed()
}

/// So many hosts, no two at one address.
pub fn host_set(size: impl Into<SizeRange>) -> SBoxedStrategy<HostSet> {
    btree_map(host_id(), host_facts(), size)
        .prop_map(|hosts| {
            let numbered = hosts.into_iter().zip(1..).map(|((id, facts), n)| HostFacts {
                id,
                address: nth(facts.address, n),
                ..facts
            });
            numbered.collect()
        })
        .sboxed()
}

/// Addresses for documentation (RFC 5737, RFC 3849): nothing of the kind exists.
fn address() -> SBoxedStrategy<IpAddr> {
    (any::<bool>(), 1..250_u16).prop_map(|(v6, n)| at(v6, n)).sboxed()
}

/// The nth address of the same family.
fn nth(address: IpAddr, n: u16) -> IpAddr {
    at(address.is_ipv6(), n)
}

fn at(v6: bool, n: u16) -> IpAddr {
    match v6 {
        true => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n).into(),
        false => Ipv4Addr::from(u32::from(Ipv4Addr::new(192, 0, 2, 0)) + u32::from(n)).into(),
    }
}
