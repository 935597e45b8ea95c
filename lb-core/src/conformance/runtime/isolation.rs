//! What a container of its own gives: these cases need users, volumes, capabilities, limits, networks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use super::super::{PATIENCE, eventually};
use super::Bed;
use crate::model::{Access, ByteSize, Resources, Volume, VolumeSource};
use crate::runtime::{Attachment, Capability, ContainerSpec, ContainerState, Privileges, Publish};

/// And the host's network itself is there for those who ask for it.
pub async fn user_hosts_and_volumes_reach_the_process(bed: &Bed) {
    let hosts = "/etc/hosts".parse().unwrap();
    let spec = ContainerSpec {
        user: Some("99:98".parse().unwrap()),
        hosts: BTreeMap::from([("db.internal".parse().unwrap(), [10, 9, 8, 7].into())]),
        volumes: vec![Volume {
            source: VolumeSource::Path(hosts),
            target: "/data".parse().unwrap(),
            access: Access::ReadOnly,
        }],
        network: Attachment::Host,
        ..bed.shell(
            "set",
            "id -u; id -g; grep -c '^10.9.8.7[[:space:]].*db.internal' /etc/hosts
            test -s /data && echo mounted; echo x 2>/dev/null >>/data || echo refused",
        )
    };
    let exit = bed.runtime.run_to_end(&spec, PATIENCE).await.unwrap();
    assert_eq!(exit.output, "99\n98\n1\nmounted\nrefused\n");
}

/// To those asked for (bits of capabilities(7)), and none can be gained.
pub async fn privileges_are_dropped(bed: &Bed) {
    let lines = "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status";
    let status = async |capabilities: Option<BTreeSet<Capability>>| {
        let privileges = Privileges { capabilities, read_only_root: false };
        let spec = ContainerSpec { privileges, ..bed.shell("caps", lines) };
        bed.runtime.run_to_end(&spec, PATIENCE).await.unwrap().output
    };
    let of = |mask: &str| format!("CapEff:\t{mask}\nCapBnd:\t{mask}\nNoNewPrivs:\t1\n");
    assert_eq!(status(Some(BTreeSet::new())).await, of("0000000000000000"));
    let two = BTreeSet::from([Capability::Kill, Capability::NetBindService]);
    assert_eq!(status(Some(two)).await, of("0000000000000420"), "bits 5 and 10");
    let default = status(None).await;
    let mask = default.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    let mask = u64::from_str_radix(mask, 16).unwrap();
    assert_eq!(mask & (1 << 13), 0, "no NET_RAW in {default}");
    assert_eq!(mask & (1 << 6 | 1 << 7), 1 << 6 | 1 << 7, "SETGID and SETUID in {default}");
    assert!(default.ends_with("NoNewPrivs:\t1\n"), "{default}");
}

/// `/tmp` and `/run`, as images expect.
pub async fn a_read_only_root_has_its_writable_places(bed: &Bed) {
    let lines = "echo 1 >/tmp/a && echo 2 >/run/b && cat /tmp/a /run/b
        echo x 2>/dev/null >/c || echo refused";
    let privileges = Privileges { capabilities: Some(BTreeSet::new()), read_only_root: true };
    let spec = ContainerSpec { privileges, ..bed.shell("ro", lines) };
    let exit = bed.runtime.run_to_end(&spec, PATIENCE).await.unwrap();
    assert_eq!(exit.output, "1\n2\nrefused\n");
}

/// Both ways of running. Where it is not limited, the program ends at 64 MiB.
pub async fn want_of_memory_is_told(bed: &Bed) {
    let spec = ContainerSpec {
        resources: Resources { cpu: None, memory: Some(ByteSize::mib(12)) },
        ..bed.shell("hungry", "a=0123456789abcdef; for _ in $(seq 22); do a=$a$a; done")
    };
    bed.runtime.run(&spec).await.unwrap();
    let ended =
        async || matches!(bed.listed("hungry").await.unwrap().state, ContainerState::Exited(_));
    eventually("it exits", ended).await;
    let ContainerState::Exited(exit) = bed.listed("hungry").await.unwrap().state else {
        unreachable!("it has exited")
    };
    assert_eq!((exit.code, exit.out_of_memory), (137, true));
    bed.stop("hungry").await;
    let exit = bed.runtime.run_to_end(&spec, PATIENCE).await.unwrap();
    assert_eq!((exit.code, exit.out_of_memory), (137, true));
}

/// Bound to that address of the host and to no other. Needs `nc` beside the shell.
pub async fn a_published_port_leads_in_at_its_address_only(bed: &Bed) {
    bed.runtime.ensure_network(&bed.network).await.unwrap();
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let address = Ipv4Addr::new(127, 0, 0, 3);
    let spec = ContainerSpec {
        publish: vec![Publish { address: address.into(), host: port, container: 80 }],
        stop_signal: Some("SIGKILL".parse().unwrap()),
        ..bed.at(10, bed.shell("web", "while :; do echo hello | nc -l -p 80; done"))
    };
    bed.runtime.run(&spec).await.unwrap();
    let answers = async || {
        let Ok(mut stream) = TcpStream::connect((address, port)).await else { return false };
        let mut text = String::new();
        let read = tokio::time::timeout(Duration::from_secs(2), stream.read_to_string(&mut text));
        matches!(read.await, Ok(Ok(_))) && text == "hello\n"
    };
    eventually("it answers", answers).await;
    let elsewhere = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
    assert!(elsewhere.is_err(), "bound to its address and no other");
}
