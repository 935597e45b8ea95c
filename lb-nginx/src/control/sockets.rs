//! Connections to servers, as the kernel's tables of sockets show them; and how they are shut.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, sendto, socket};

/// States of `/proc/net/tcp` in which a connection is open or about to be (`include/net/tcp_states.h`).
const OPEN: [&str; 2] = ["01", "02"];
/// `SOCK_DESTROY` of `linux/sock_diag.h`; `NLM_F_REQUEST | NLM_F_ACK` and `NLMSG_ERROR` of `linux/netlink.h`.
const SOCK_DESTROY: u16 = 21;
const REQUEST_WITH_ANSWER: u16 = 1 | 4;
const NLMSG_ERROR: u16 = 2;

/// A connection from this network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Connection {
    local: SocketAddr,
    remote: SocketAddr,
}

/// Whether this process is in the network namespace of whoever listens at `path`.
pub(crate) fn shares_network(path: &Path) -> bool {
    let path = path.display().to_string();
    std::fs::read_to_string("/proc/self/net/unix")
        .is_ok_and(|text| text.lines().any(|l| l.split(' ').next_back() == Some(&path)))
}

/// How many connections there are to each of these addresses.
pub(crate) fn connections(to: &BTreeSet<SocketAddr>) -> BTreeMap<SocketAddr, u64> {
    let mut counts = BTreeMap::new();
    for connection in all(to) {
        *counts.entry(connection.remote).or_default() += 1;
    }
    counts
}

/// How many clients of these ports a process holds.
pub(crate) fn clients_of(process: u32, ports: &BTreeSet<u16>) -> u64 {
    let tables = ["tcp", "tcp6"].map(|table| format!("/proc/{process}/net/{table}"));
    let tables = tables.map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let at_port = |line: &&str| parse(line).is_some_and(|c| ports.contains(&c.local.port()));
    let name = |line: &str| Some(format!("socket:[{}]", line.split_whitespace().nth(9)?));
    let open: BTreeSet<String> = lines.filter(at_port).filter_map(name).collect();
    let Ok(files) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return 0 };
    let links = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
    links.filter(|link| link.to_str().is_some_and(|link| open.contains(link))).count() as u64
}

/// Shuts the connections to these addresses: how many were.
///
/// # Errors
/// `PermissionDenied` without `CAP_NET_ADMIN`, `Unsupported` where the kernel cannot (before 4.9, or without
/// `CONFIG_INET_DIAG_DESTROY`).
pub(crate) fn shut(to: &BTreeSet<SocketAddr>) -> io::Result<usize> {
    let found = all(to);
    if found.is_empty() {
        return Ok(0);
    }
    let netlink = socket(AddressFamily::NETLINK, SocketType::DGRAM, Some(SOCK_DIAG))?;
    let kernel = SocketAddrNetlink::new(0, 0);
    let mut ended = Vec::new();
    for connection in &found {
        sendto(&netlink, &destroy(connection), SendFlags::empty(), &kernel)?;
        // The kernel has answered when the message counts as sent.
        let mut answer = [0; 256];
        let (length, _) = recv(&netlink, &mut answer, RecvFlags::DONTWAIT)?;
        match error_in(&answer[..length]) {
            Some(0) => {}
            Some(number) if number == Errno::NOENT.raw_os_error() => ended.push(*connection),
            Some(number) => return Err(io::Error::from_raw_os_error(number)),
            None => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    // What is not found has ended by itself, or the kernel lacks the module that finds it.
    if !ended.is_empty() && all(to).iter().any(|open| ended.contains(open)) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(found.len() - ended.len())
}

/// The number of the error in an answer, a `nlmsghdr` with a `nlmsgerr`; 0: it was done.
fn error_in(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let number = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then(|| number.checked_neg())?
}

/// Each once: a table is read in pieces, and a socket that moves on between two of them stands in both.
fn all(to: &BTreeSet<SocketAddr>) -> BTreeSet<Connection> {
    if to.is_empty() {
        return BTreeSet::new();
    }
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let tables = tables.map(|table| std::fs::read_to_string(table).unwrap_or_default());
    among(tables.iter().flat_map(|table| table.lines().skip(1)), to)
}

fn among<'a>(
    lines: impl Iterator<Item = &'a str>,
    to: &BTreeSet<SocketAddr>,
) -> BTreeSet<Connection> {
    lines.filter_map(parse).filter(|c| to.contains(&c.remote)).collect()
}

/// A line of the table: `sl local_address rem_address st ...`.
pub(crate) fn parse(line: &str) -> Option<Connection> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote) = (words.next()?, words.next()?);
    let open = OPEN.contains(&words.next()?);
    open.then(|| Some(Connection { local: address(local)?, remote: address(remote)? }))?
}

/// Hexadecimal words of 32 bits, each in the machine's order, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Vec<[u8; 4]> = (0..host.len() / 8)
        .map(|i| Some(u32::from_str_radix(host.get(8 * i..8 * i + 8)?, 16).ok()?.to_ne_bytes()))
        .collect::<Option<_>>()?;
    let host = match words.as_slice() {
        [v4] => IpAddr::V4(Ipv4Addr::from(*v4)),
        [_, _, _, _] => {
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(host, port))
}

/// A `nlmsghdr` with an `inet_diag_req_v2` (`linux/inet_diag.h`) that names one socket.
fn destroy(connection: &Connection) -> Vec<u8> {
    const TCP: u8 = 6;
    let family: u8 = if connection.remote.is_ipv4() { 2 } else { 10 };
    let mut body = vec![family, TCP, 0, 0];
    body.extend(u32::MAX.to_ne_bytes()); // any state
    body.extend(connection.local.port().to_be_bytes());
    body.extend(connection.remote.port().to_be_bytes());
    for end in [connection.local, connection.remote] {
        let mut bytes = match end.ip() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        bytes.resize(16, 0);
        body.extend(bytes);
    }
    body.extend(0_u32.to_ne_bytes()); // any interface
    body.extend([u8::MAX; 8]); // INET_DIAG_NOCOOKIE
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(SOCK_DESTROY.to_ne_bytes());
    message.extend(REQUEST_WITH_ANSWER.to_ne_bytes());
    message.extend([0; 8]); // sequence and port
    message.extend(body);
    message
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        assert_eq!(address("0100007F:1F90"), Some("127.0.0.1:8080".parse().unwrap()));
        let v6 = address("00000000000000000000000001000000:0050").unwrap();
        assert_eq!(v6, "[::1]:80".parse().unwrap());
        assert_eq!(
            address("0000000000000000FFFF00000100007F:0050"),
            Some("127.0.0.1:80".parse().unwrap())
        );
        assert_eq!(address("xyz:1"), None);
    }

    #[test]
    fn connections_are_counted_by_where_they_lead() {
        for listener in ["127.0.0.1:0", "[::1]:0"].map(TcpListener::bind) {
            let Ok(listener) = listener else { continue }; // a machine without IPv6
            let at = listener.local_addr().unwrap();
            let held = [TcpStream::connect(at).unwrap(), TcpStream::connect(at).unwrap()];
            assert_eq!(connections(&[at].into()), [(at, 2)].into());
            drop(held);
            assert_eq!(connections(&[at].into()), BTreeMap::new());
        }
    }

    #[test]
    fn clients_are_those_of_the_process_at_the_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let clients = [TcpStream::connect(at).unwrap(), TcpStream::connect(at).unwrap()];
        let held = [listener.accept().unwrap(), listener.accept().unwrap()];
        let (own, ports) = (std::process::id(), BTreeSet::from([at.port()]));
        assert_eq!(clients_of(own, &ports), 2);
        assert_eq!(clients_of(own, &BTreeSet::new()), 0);
        drop((clients, held));
        assert_eq!(clients_of(own, &ports), 0);
    }

    #[test]
    fn a_socket_read_twice_is_one() {
        let line = |port: u16| format!("  9: 0100007F:{port:04X} 0100007F:1F90 01 0:0 0:0 0 0 0 7");
        let (lines, at) = ([line(7), line(8), line(7)], "127.0.0.1:8080".parse().unwrap());
        assert_eq!(among(lines.iter().map(String::as_str), &[at].into()).len(), 2);
        assert!(among(lines.iter().map(String::as_str), &[].into()).is_empty());
    }

    #[test]
    fn the_kernels_answer_tells_the_error() {
        let answer = |kind: u16, number: i32| {
            let mut bytes = 36_u32.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(number.to_ne_bytes());
            bytes
        };
        assert_eq!(error_in(&answer(NLMSG_ERROR, 0)), Some(0));
        assert_eq!(error_in(&answer(NLMSG_ERROR, -1)), Some(1));
        assert_eq!(error_in(&answer(3, 0)), None);
        assert_eq!(error_in(&answer(NLMSG_ERROR, 0)[..18]), None);
        assert_eq!(error_in(&answer(NLMSG_ERROR, i32::MIN)), None);
    }

    #[test]
    fn what_may_not_be_shut_is_an_error_and_stays() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let _held = TcpStream::connect(at).unwrap();
        let tried = thread::spawn(move || {
            let mut rights = capabilities(None).unwrap();
            rights.effective -= CapabilitySet::NET_ADMIN;
            set_capabilities(None, rights).unwrap(); // of this thread
            shut(&[at].into())
        });
        assert_eq!(tried.join().unwrap().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(connections(&[at].into()), [(at, 1)].into());
    }

    #[test]
    #[ignore = "needs CAP_NET_ADMIN (testbed/test)"]
    fn what_was_shut_is_counted() {
        for listener in ["127.0.0.1:0", "[::1]:0"].map(TcpListener::bind) {
            let Ok(listener) = listener else { continue }; // a machine without IPv6
            let at = listener.local_addr().unwrap();
            let _held = [TcpStream::connect(at).unwrap(), TcpStream::connect(at).unwrap()];
            assert_eq!(shut(&[at].into()).unwrap(), 2);
            assert_eq!(connections(&[at].into()), BTreeMap::new());
            assert_eq!(shut(&[at].into()).unwrap(), 0);
        }
    }
}
