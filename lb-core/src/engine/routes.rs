//! The host's routes, which a container network must not cut into.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The first route of `table` (the text of `/proc/net/route`) that overlaps `subnet`, as `net on device`.
/// Routes of half the address space and more are defaults, which a network may always cut into.
pub(super) fn route_in_the_way(table: &str, subnet: Ipv4Net) -> Option<String> {
    table.lines().skip(1).filter_map(route).find_map(|(network, device)| {
        let overlaps = network.contains(&subnet.network()) || subnet.contains(&network.network());
        (overlaps && network.prefix_len() > 1).then(|| format!("{network} on {device}"))
    })
}

/// Device, destination, ..., mask: hexadecimal in the machine's byte order (proc(5)).
fn route(line: &str) -> Option<(Ipv4Net, &str)> {
    let mut fields = line.split_ascii_whitespace();
    let device = fields.next()?;
    let destination = hex_address(fields.next()?)?;
    let mask = hex_address(fields.nth(5)?)?;
    Some((Ipv4Net::with_netmask(destination, mask).ok()?, device))
}

fn hex_address(text: &str) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(u32::from_str_radix(text, 16).ok()?.to_ne_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn routes_in_the_way_are_found_and_defaults_are_not() {
        // 0.0.0.0/0, 128.0.0.0/1 (a VPN's half), 10.1.0.0/16, 198.18.0.0/24
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t010012C6\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            tun0\t00000080\t00000000\t0003\t0\t0\t0\t00000080\t0\t0\t0\n\
            eth1\t0000010A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
            eth0\t000012C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            broken line\n";
        let blocked = |subnet: &str| route_in_the_way(table, subnet.parse().unwrap());
        assert_eq!(blocked("10.1.2.0/24").as_deref(), Some("10.1.0.0/16 on eth1"));
        assert_eq!(blocked("10.0.0.0/8").as_deref(), Some("10.1.0.0/16 on eth1"));
        assert_eq!(blocked("198.18.0.128/25").as_deref(), Some("198.18.0.0/24 on eth0"));
        assert_eq!(blocked("10.2.0.0/16"), None);
        assert_eq!(blocked("192.168.0.0/16"), None);
    }
}
