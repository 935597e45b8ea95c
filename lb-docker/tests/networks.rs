//! Networks and events on a real engine.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod common;

use lb_core::{ContainerRuntime, ErrorKind, NetworkSpec};
use serde_json::json;

use common::{Bed, Real, engine};
use lb_test_support::engine::{self as real, address_of_foreign, foreign};

lb_test_support::engine_cases! {
    Real, "needs LB_TEST_DOCKER (testbed/up)":
    the_host_has_the_first_address
    dockers_own_network_is_not_ours
    the_hosts_routes_are_in_the_way
    the_engine_allocates_in_its_range_only
    events_begin_with_resync_and_tell_of_ours_only
}

mod cases {
    use super::*;

    pub(super) async fn the_host_has_the_first_address(runtime: &dyn ContainerRuntime, bed: &Bed) {
        runtime.ensure_network(&bed.network).await.unwrap();
        let path = format!("/networks/{}", bed.network.name);
        let (_, inspected) = engine("GET", &path, &json!(null)).await;
        assert!(inspected.contains(&format!("\"Gateway\":\"{}\"", bed.address(1))), "{inspected}");
    }

    pub(super) async fn dockers_own_network_is_not_ours(runtime: &dyn ContainerRuntime, _: &Bed) {
        let bridge = "bridge".parse().unwrap();
        assert_eq!(runtime.remove_network(&bridge).await.unwrap_err().kind(), ErrorKind::Conflict);
    }

    pub(super) async fn the_hosts_routes_are_in_the_way(runtime: &dyn ContainerRuntime, bed: &Bed) {
        let subnet: ipnet::Ipv4Net = "198.18.0.128/25".parse().unwrap();
        let on_it = NetworkSpec { subnet, engine_range: subnet, ..bed.network.clone() };
        let error = runtime.ensure_network(&on_it).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.message().contains("overlaps the host's route"), "{error}");
    }

    pub(super) async fn the_engine_allocates_in_its_range_only(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        runtime.ensure_network(&bed.network).await.unwrap();
        let name = bed.name("guest");
        foreign::<Real>(name.as_str(), &json!({}), &[]).await;
        let (status, answer) =
            engine("POST", "/networks/none/disconnect", &json!({"Container": name})).await;
        assert_eq!(status, 200, "{answer}");
        let path = format!("/networks/{}/connect", bed.network.name);
        let (status, answer) = engine("POST", &path, &json!({"Container": name})).await;
        assert_eq!(status, 200, "{answer}");
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
