//! Networks and events on a real engine.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod common;

use std::time::Duration;

use futures_util::StreamExt;
use lb_core::{ContainerRuntime, ErrorKind, NetworkSpec, Result, RuntimeEvent};
use serde_json::json;

use common::{Bed, PATIENCE, Real, engine, on_bed};
use lb_test_support::engine::{foreign, remove_foreign};

macro_rules! cases {
    ($($name:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "needs LB_TEST_DOCKER (testbed/up)"]
        async fn $name() {
            on_bed(|bed| Box::pin(cases::$name(&bed.runtime, bed))).await;
        }
    )*};
}

cases! {
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
        let (status, answer) =
            engine("POST", &format!("/containers/{name}/start"), &json!(null)).await;
        assert_eq!(status, 204, "{answer}");
        let (_, inspected) = engine("GET", &format!("/containers/{name}/json"), &json!(null)).await;
        remove_foreign::<Real>(name.as_str()).await;
        let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
        let address =
            &inspected["NetworkSettings"]["Networks"][bed.network.name.as_str()]["IPAddress"];
        let address: std::net::Ipv4Addr = address.as_str().unwrap().parse().unwrap();
        assert!(bed.network.engine_range.contains(&address), "{address}");
    }

    pub(super) async fn events_begin_with_resync_and_tell_of_ours_only(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let mut events = runtime.events();
        assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Resync);
        let other = bed.name("other");
        foreign::<Real>(other.as_str(), &json!({"lb.cluster": "else"}), &["start"]).await;
        remove_foreign::<Real>(other.as_str()).await;
        let (long, short) = (bed.sleeper("long"), bed.shell("short", "true"));
        runtime.run(&long).await.unwrap();
        assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Started(long.name.clone()));
        runtime.run(&short).await.unwrap();
        assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Started(short.name.clone()));
        assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Exited(short.name));
        runtime.stop(&long.name, Duration::ZERO).await.unwrap();
        assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Exited(long.name.clone()));
        assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Removed(long.name));
    }

    async fn next(
        events: &mut futures_util::stream::BoxStream<'static, Result<RuntimeEvent>>,
    ) -> Result<RuntimeEvent> {
        tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap()
    }
}
