//! Networks.

use ipnet::Ipv4Net;

use super::super::refused;
use super::Bed;
use crate::error::ErrorKind;
use crate::runtime::NetworkSpec;

/// Repeated and at once, both ways.
pub async fn a_network_is_made_once_and_removed(bed: &Bed) {
    let (one, two) = tokio::join!(
        bed.runtime.ensure_network(&bed.network),
        bed.runtime.ensure_network(&bed.network)
    );
    one.unwrap();
    two.unwrap();
    bed.runtime.ensure_network(&bed.network).await.unwrap();
    for _ in 0..2 {
        bed.runtime.remove_network(&bed.network.name).await.unwrap();
    }
    refused(bed.runtime.run(&bed.at(10, bed.sleeper("x"))).await, ErrorKind::NotFound);
}

fn half(bed: &Bed) -> Ipv4Net {
    bed.network.subnet.subnets(bed.network.subnet.prefix_len() + 1).unwrap().next().unwrap()
}

/// Of the same name.
pub async fn another_subnet_is_a_conflict(bed: &Bed) {
    bed.runtime.ensure_network(&bed.network).await.unwrap();
    let other = bed.second_network(half(bed));
    let other = NetworkSpec { name: bed.network.name.clone(), ..other };
    let error = refused(bed.runtime.ensure_network(&other).await, ErrorKind::Conflict).to_string();
    assert!(error.contains(&bed.network.subnet.to_string()), "names what is there: {error}");
    assert!(error.contains(bed.network.name.as_str()), "{error}");
}

/// Of another name, inside and around.
pub async fn an_overlapping_subnet_is_a_conflict(bed: &Bed) {
    bed.runtime.ensure_network(&bed.network).await.unwrap();
    let inside = bed.second_network(half(bed));
    let around = bed.second_network(bed.network.subnet.supernet().unwrap().trunc());
    for overlapping in [inside, around] {
        let result = bed.runtime.ensure_network(&overlapping).await;
        refused(result, ErrorKind::Conflict);
    }
    let free = bed.second_network(bed.setup.subnet());
    bed.runtime.ensure_network(&free).await.expect("the name was not taken by the refusals");
}

/// The engine may allocate only inside the network.
pub async fn an_engine_range_outside_the_subnet_is_invalid(bed: &Bed) {
    let engine_range = bed.second_network(bed.setup.subnet()).engine_range;
    let wrong = NetworkSpec { engine_range, ..bed.network.clone() };
    let error = refused(bed.runtime.ensure_network(&wrong).await, ErrorKind::Invalid).to_string();
    assert!(error.contains(&engine_range.to_string()), "{error}");
    bed.runtime.ensure_network(&bed.network).await.unwrap();
}

/// A container on it keeps it, also one that has ended.
pub async fn a_network_in_use_stays(bed: &Bed) {
    bed.runtime.ensure_network(&bed.network).await.unwrap();
    bed.runtime.run(&bed.at(10, bed.sleeper("inside"))).await.unwrap();
    let result = bed.runtime.remove_network(&bed.network.name).await;
    let error = refused(result, ErrorKind::Conflict).to_string();
    assert!(error.contains(bed.network.name.as_str()), "{error}");
    bed.stop("inside").await;
    bed.runtime.remove_network(&bed.network.name).await.unwrap();
}
