//! Networks and events on a real engine.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod common;

use std::time::Duration;

use futures_util::StreamExt;
use lb_core::{ContainerRuntime, ErrorKind, NetworkSpec, Result, RuntimeEvent};
use serde_json::json;

use common::{Bed, PATIENCE, Real, engine, on_bed};
use lb_test_support::engine::{self as real, foreign, remove_foreign};

macro_rules! cases {
    ($($name:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "needs LB_TEST_PODMAN (testbed/up)"]
        async fn $name() {
            on_bed(|bed| Box::pin(cases::$name(&bed.runtime, bed))).await;
        }
    )*};
}

cases! {
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
        let other = real::runtime::<Real>(&bed.cluster);
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

        let thief = real::runtime::<Real>(&Bed::default().cluster);
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
            "name": name, "image": bed.busybox, "command": ["sleep", "600"],
            "netns": {"nsmode": "bridge"}, "Networks": {bed.network.name.as_str(): {}},
        });
        let (status, answer) = engine("POST", "/containers/create", &body).await;
        assert_eq!(status, 201, "{answer}");
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
