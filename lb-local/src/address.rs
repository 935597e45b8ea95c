//! Where an instance's address really is on this machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use ipnet::Ipv4Net;
use lb_core::{ClusterId, ClusterSpec, Reach};

use crate::hash::{hash_bytes, mix};

/// All of it is this machine's loopback on Linux.
pub(crate) const LOOPBACK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);

/// Ports that stand for addresses where only 127.0.0.1 exists.
const MAPPED_FROM: u16 = 20_000;
const MAPPED: u64 = 12_000;

/// A cluster on loopback: a /16 inside 127.0.0.0/8 picked by the cluster's name, so that clusters on one
/// machine seldom meet, and no published ports, because every local host reaches every address.
pub fn cluster(id: ClusterId) -> ClusterSpec {
    let second = 16 + (hash_bytes(id.as_str().as_bytes()) % 224) as u8;
    let range = Ipv4Net::new_assert(Ipv4Addr::new(127, second, 0, 0), 16);
    ClusterSpec { range, reach: Reach::Routed, ..ClusterSpec::new(id) }
}

/// Where a process told to serve `address` listens, and where the balancer finds it.
///
/// On Linux all of 127.0.0.0/8 is there and this is `address` itself. Elsewhere a loopback address becomes
/// a port of 127.0.0.1 that depends on nothing but the address, so that processes and balancers agree
/// without a table between them.
pub fn real_address(address: SocketAddr) -> SocketAddr {
    match cfg!(target_os = "linux") {
        true => address,
        false => mapped(address),
    }
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if LOOPBACK.contains(&ip) && ip != Ipv4Addr::LOCALHOST => {
            let key = u64::from(u32::from(ip)) << 16 | u64::from(address.port());
            let port = MAPPED_FROM + (mix(key) % MAPPED) as u16;
            SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into()
        }
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_lies_in_loopback_and_passes_its_own_check() {
        for name in ["a", "demo", "zz-9", "shop"] {
            let spec = cluster(ClusterId::new(name).unwrap());
            spec.check().unwrap();
            assert!(LOOPBACK.contains(&spec.range), "{}", spec.range);
            assert!(!spec.range.contains(&Ipv4Addr::LOCALHOST));
        }
    }

    #[test]
    fn elsewhere_addresses_become_distinct_ports_of_localhost() {
        let at = |text: &str| mapped(text.parse().unwrap());
        assert_eq!(at("127.0.0.1:80"), "127.0.0.1:80".parse().unwrap());
        assert_eq!(at("127.77.0.9:80"), at("127.77.0.9:80"));
        assert_ne!(at("127.77.0.9:80"), at("127.77.0.9:81"));
        assert_ne!(at("127.77.0.9:80"), at("127.77.0.10:80"));
        assert!(at("127.77.0.9:80").port() >= MAPPED_FROM);
    }
}
