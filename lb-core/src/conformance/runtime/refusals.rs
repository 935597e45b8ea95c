//! What is missing, taken or impossible is refused, and nothing half-made remains.

use std::net::{Ipv4Addr, TcpListener};

use super::super::refused;
use super::Bed;
use crate::error::ErrorKind;
use crate::model::{Access, ImageDigest, Volume, VolumeSource};
use crate::runtime::{Attachment, ContainerSpec, Publish};

async fn refuses(bed: &Bed, spec: &ContainerSpec, kind: ErrorKind, word: &str) {
    let before = bed.names().await;
    let error = refused(bed.runtime.run(spec).await, kind).to_string();
    assert!(error.contains(word), "{word:?} must be named: {error}");
    assert_eq!(bed.names().await, before, "nothing half-made after {error}");
}

/// By tag and by digest; neither is fetched by `run`.
pub async fn a_missing_image_is_not_found_and_leaves_nothing(bed: &Bed) {
    let absent = bed.setup.absent_image();
    let word = absent.repository().to_owned();
    let spec = ContainerSpec { image: absent, ..bed.sleeper("x") };
    refuses(bed, &spec, ErrorKind::NotFound, &word).await;
    let other = ImageDigest::new(format!("sha256:{}", "0".repeat(64))).unwrap();
    let spec = bed.sleeper("x");
    let spec = ContainerSpec { image: spec.image.clone().with_digest(other), ..spec };
    refuses(bed, &spec, ErrorKind::NotFound, "sha256:000").await;
    bed.runtime.run(&bed.sleeper("x")).await.expect("the name is free");
}

/// A network must be made first.
pub async fn a_missing_network_is_not_found_and_leaves_nothing(bed: &Bed) {
    let spec = bed.at(10, bed.sleeper("x"));
    refuses(bed, &spec, ErrorKind::NotFound, bed.network.name.as_str()).await;
    bed.runtime.ensure_network(&bed.network).await.unwrap();
    bed.runtime.run(&spec).await.expect("the name is free");
}

/// An address has one running owner, and is free again once that is removed.
pub async fn a_taken_address_is_a_conflict_and_leaves_nothing(bed: &Bed) {
    bed.runtime.ensure_network(&bed.network).await.unwrap();
    bed.runtime.run(&bed.at(10, bed.sleeper("first"))).await.unwrap();
    let second = bed.at(10, bed.sleeper("second"));
    refuses(bed, &second, ErrorKind::Conflict, "second").await;
    bed.runtime.run(&bed.at(11, bed.sleeper("third"))).await.unwrap();
    bed.stop("first").await;
    bed.runtime.run(&second).await.unwrap();
}

/// So is the host's own address, the first.
pub async fn an_address_outside_the_subnet_is_invalid(bed: &Bed) {
    bed.runtime.ensure_network(&bed.network).await.unwrap();
    let beyond = Ipv4Addr::from(u32::from(bed.network.subnet.broadcast()) + 1);
    let name = bed.network.name.clone();
    let network = Attachment::Network { name, address: beyond };
    let spec = ContainerSpec { network, ..bed.sleeper("x") };
    refuses(bed, &spec, ErrorKind::Invalid, &beyond.to_string()).await;
}

fn published(address: Ipv4Addr, port: u16, spec: ContainerSpec) -> ContainerSpec {
    let publish = vec![Publish { address: address.into(), host: port, container: 80 }];
    ContainerSpec { publish, ..spec }
}

/// A port of the host that is free, though nobody holds it any more.
fn free_port() -> u16 {
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    held.local_addr().unwrap().port()
}

/// Of two containers. Needs published ports.
pub async fn a_published_port_has_one_owner(bed: &Bed) {
    bed.runtime.ensure_network(&bed.network).await.unwrap();
    let port = free_port();
    let at = |n, what| published(Ipv4Addr::LOCALHOST, port, bed.at(n, bed.sleeper(what)));
    bed.runtime.run(&at(10, "first")).await.unwrap();
    refuses(bed, &at(11, "second"), ErrorKind::Conflict, &port.to_string()).await;
    bed.stop("first").await;
    bed.runtime.run(&at(11, "second")).await.unwrap();
}

/// A socket of this process keeps the port from the container. Needs published ports.
pub async fn a_port_another_process_holds_is_a_conflict(bed: &Bed) {
    bed.runtime.ensure_network(&bed.network).await.unwrap();
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = held.local_addr().unwrap().port();
    let spec = published(Ipv4Addr::LOCALHOST, port, bed.at(10, bed.sleeper("x")));
    refuses(bed, &spec, ErrorKind::Conflict, &port.to_string()).await;
    drop(held);
    bed.runtime.run(&spec).await.unwrap();
}

/// Needs programs.
pub async fn a_program_that_is_not_there_is_invalid(bed: &Bed) {
    let command = Some(vec!["/no/such/program".to_owned()]);
    let spec = ContainerSpec { command, ..bed.sleeper("x") };
    refuses(bed, &spec, ErrorKind::Invalid, "/no/such/program").await;
    bed.runtime.run(&bed.sleeper("x")).await.expect("the name is free");
}

/// A folder of the host is not made by the engine. Needs volumes.
pub async fn a_folder_that_is_not_there_is_invalid(bed: &Bed) {
    let volume = Volume {
        source: VolumeSource::Path("/no/such/folder".parse().unwrap()),
        target: "/no/such/folder".parse().unwrap(),
        access: Access::ReadOnly,
    };
    let spec = ContainerSpec { volumes: vec![volume], ..bed.sleeper("x") };
    refuses(bed, &spec, ErrorKind::Invalid, "/no/such/folder").await;
}
