//! Networks and events on a real engine.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod common;

use std::time::Duration;

use lb_core::{ContainerRuntime, ErrorKind, NetworkSpec};
use serde_json::json;

use common::{Bed, Real, engine, variable};
use lb_test_support::engine::{self as real, address_of_foreign};

lb_test_support::engine_cases! {
    Real, "needs LB_TEST_PODMAN (testbed/up)":
    a_network_is_made_once_and_removed
    another_subnet_or_owner_is_a_conflict
    overlaps_are_conflicts
    a_network_in_use_stays
    the_engine_allocates_in_its_range_only
    events_begin_with_resync_and_tell_of_ours_only
}

mod cases {
    use super::*;

    pub(super) async fn a_network_is_made_once_and_removed(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let other = bed.setup.runtime(&bed.cluster).await;
        let (one, two) = tokio::join!(
            runtime.ensure_network(&bed.network),
            runtime.ensure_network(&bed.network)
        );
        one.unwrap();
        two.unwrap();
        other.ensure_network(&bed.network).await.unwrap();
        let path = format!("/networks/{}/json", bed.network.name);
        let (_, there) = engine("GET", &path, &json!(null)).await;
        assert!(there.contains(&format!("\"gateway\":\"{}\"", bed.address(1))), "{there}");
        for _ in 0..2 {
            runtime.remove_network(&bed.network.name).await.unwrap();
        }
    }

    pub(super) async fn another_subnet_or_owner_is_a_conflict(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        runtime.ensure_network(&bed.network).await.unwrap();
        let smaller = NetworkSpec {
            subnet: lb_net(bed, 25),
            engine_range: format!("{}/28", bed.address(96)).parse().unwrap(),
            ..bed.network.clone()
        };
        let error = runtime.ensure_network(&smaller).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains("exists with subnet"), "{error}");
        assert_eq!(error.subject(), format!("network {:?}", bed.network.name));

        let outside =
            NetworkSpec { engine_range: "10.0.0.0/28".parse().unwrap(), ..bed.network.clone() };
        assert_eq!(runtime.ensure_network(&outside).await.unwrap_err().kind(), ErrorKind::Invalid);

        let thief = bed.beside().await.runtime;
        assert_eq!(
            thief.ensure_network(&bed.network).await.unwrap_err().kind(),
            ErrorKind::Conflict
        );
        assert_eq!(
            thief.remove_network(&bed.network.name).await.unwrap_err().kind(),
            ErrorKind::Conflict
        );
        let bridge = "podman".parse().unwrap();
        assert_eq!(runtime.remove_network(&bridge).await.unwrap_err().kind(), ErrorKind::Conflict);
    }

    fn lb_net(bed: &Bed, prefix: u8) -> ipnet::Ipv4Net {
        ipnet::Ipv4Net::new(bed.network.subnet.network(), prefix).unwrap()
    }

    pub(super) async fn overlaps_are_conflicts(runtime: &dyn ContainerRuntime, bed: &Bed) {
        runtime.ensure_network(&bed.network).await.unwrap();
        let named = |subnet: ipnet::Ipv4Net| NetworkSpec {
            name: format!("{}.second", bed.cluster).parse().unwrap(),
            engine_range: subnet,
            subnet,
        };
        // Inside another network of the engine, which has no route until a container is in it; and on the
        // host's own network.
        let cases = [
            (lb_net(bed, 26), "is already used on the host or by another config"),
            ("198.18.0.128/25".parse().unwrap(), "overlaps the host's route"),
        ];
        for (subnet, word) in cases {
            let error = runtime.ensure_network(&named(subnet)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
            assert!(error.message().contains(word), "{error}");
        }
    }

    pub(super) async fn a_network_in_use_stays(runtime: &dyn ContainerRuntime, bed: &Bed) {
        runtime.ensure_network(&bed.network).await.unwrap();
        runtime.run(&bed.at(10, bed.sleeper("inside"))).await.unwrap();
        let error = runtime.remove_network(&bed.network.name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        runtime.stop(&bed.name("inside"), Duration::ZERO).await.unwrap();
        runtime.remove_network(&bed.network.name).await.unwrap();
    }

    pub(super) async fn the_engine_allocates_in_its_range_only(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        runtime.ensure_network(&bed.network).await.unwrap();
        let name = bed.name("guest");
        let body = json!({
            "name": name, "image": variable("LB_TEST_BUSYBOX_IMAGE"), "command": ["sleep", "600"],
            "netns": {"nsmode": "bridge"}, "Networks": {bed.network.name.as_str(): {}},
        });
        let (status, answer) = engine("POST", "/containers/create", &body).await;
        assert_eq!(status, 201, "{answer}");
        let address = address_of_foreign::<Real>(name.as_str(), &bed.network.name).await;
        assert!(bed.network.engine_range.contains(&address), "{address}");
    }

    pub(super) async fn events_begin_with_resync_and_tell_of_ours_only(
        _: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        real::events_begin_with_resync_and_tell_of_ours_only::<Real>(bed).await;
    }
}
