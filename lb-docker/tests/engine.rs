//! What Docker makes of a spec, beyond what every engine owes (`conformance.rs`).
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod common;

use lb_core::{Attachment, ByteSize, ContainerRuntime, ContainerSpec, Cpu, ErrorKind, Resources};
use serde_json::json;

use common::{Bed, PATIENCE, Real, engine};

lb_test_support::engine_cases! {
    Real, "needs LB_TEST_DOCKER (testbed/up)":
    describe_names_the_engine
    address_and_limits_reach_the_engine
    the_default_capabilities_are_dockers_without_net_raw
    the_hosts_network_is_the_hosts
    what_the_engine_refuses_is_invalid_and_leaves_nothing
}

mod cases {
    use super::*;

    pub(super) async fn describe_names_the_engine(runtime: &dyn ContainerRuntime, _: &Bed) {
        let info = runtime.describe().await.unwrap();
        assert_eq!(info.name, "docker");
        assert!(info.version.split('.').next().unwrap().parse::<u32>().unwrap() >= 20, "{info:?}");
        assert!(info.addresses && info.limits, "{info:?}");
    }

    pub(super) async fn address_and_limits_reach_the_engine(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        runtime.ensure_network(&bed.network).await.unwrap();
        let spec = ContainerSpec {
            resources: Resources {
                cpu: Some(Cpu::from_millis(150)),
                memory: Some(ByteSize::mib(32)),
            },
            ..bed.at(10, bed.sleeper("small"))
        };
        let id = runtime.run(&spec).await.unwrap();
        let (_, inspected) = engine("GET", &format!("/containers/{id}/json"), &json!(null)).await;
        for set in [
            &*format!("\"IPAddress\":\"{}\"", bed.address(10)),
            "\"NanoCpus\":150000000",
            "\"Memory\":33554432",
            "\"MemorySwap\":33554432",
            "\"PidsLimit\":4096",
        ] {
            assert!(inspected.contains(set), "{set}");
        }
    }

    pub(super) async fn the_default_capabilities_are_dockers_without_net_raw(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let spec = bed.shell("caps", "grep CapBnd /proc/self/status");
        let exit = runtime.run_to_end(&spec, PATIENCE).await.unwrap();
        assert_eq!(exit.output, "CapBnd:\t00000000a80405fb\n");
    }

    pub(super) async fn the_hosts_network_is_the_hosts(runtime: &dyn ContainerRuntime, bed: &Bed) {
        let shell = bed.shell("links", "ip -o link show eth0 >/dev/null && echo there");
        let spec = ContainerSpec { network: Attachment::Host, ..shell };
        let exit = runtime.run_to_end(&spec, PATIENCE).await.unwrap();
        assert_eq!(exit.output, "there\n");
    }

    pub(super) async fn what_the_engine_refuses_is_invalid_and_leaves_nothing(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let memory = Resources { cpu: None, memory: Some(ByteSize::new(4096)) };
        let user = Some("nobody-here".parse().unwrap());
        let cases = [
            (ContainerSpec { user, ..bed.sleeper("x") }, "nobody-here"),
            (ContainerSpec { resources: memory, ..bed.sleeper("x") }, "emory"),
        ];
        for (spec, word) in cases {
            let error = runtime.run(&spec).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(error.message().contains(word), "{word:?} in {error}");
            assert!(runtime.list().await.unwrap().is_empty(), "nothing half-made after {error}");
        }
    }
}
