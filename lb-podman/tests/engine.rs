//! What Podman makes of a spec, beyond what every engine owes (`conformance.rs`).
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod common;

use std::time::{Duration, Instant};

use lb_core::{ByteSize, ContainerRuntime, ContainerSpec, ContainerState, Cpu, Resources};
use serde_json::json;

use common::{Bed, PATIENCE, Real, engine};

lb_test_support::engine_cases! {
    Real, "needs LB_TEST_PODMAN (testbed/up)":
    describe_names_the_engine
    want_of_memory_ends_it
    cpu_and_memory_are_limited
}

mod cases {
    use super::*;

    pub(super) async fn describe_names_the_engine(runtime: &dyn ContainerRuntime, _: &Bed) {
        let info = runtime.describe().await.unwrap();
        assert_eq!(info.name, "podman");
        assert!(info.version.split('.').next().unwrap().parse::<u32>().unwrap() >= 4, "{info:?}");
        assert!(info.addresses && info.limits, "{info:?}");
    }

    pub(super) async fn want_of_memory_ends_it(runtime: &dyn ContainerRuntime, bed: &Bed) {
        let spec = ContainerSpec {
            resources: Resources { cpu: None, memory: Some(ByteSize::mib(12)) },
            ..bed.shell("hungry", "a=0123456789abcdef; while :; do a=$a$a; done")
        };
        runtime.run(&spec).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !matches!(bed.listed("hungry").await.unwrap().state, ContainerState::Exited(_)) {
            assert!(Instant::now() < deadline, "it exits");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let ContainerState::Exited(exit) = bed.listed("hungry").await.unwrap().state else {
            panic!()
        };
        assert_eq!(exit.code, 137, "whether it is told why depends on conmon");
        runtime.stop(&spec.name, Duration::ZERO).await.unwrap();
        let exit = runtime.run_to_end(&spec, PATIENCE).await.unwrap();
        assert_eq!(exit.code, 137, "whether it is told why depends on conmon");
    }

    pub(super) async fn cpu_and_memory_are_limited(runtime: &dyn ContainerRuntime, bed: &Bed) {
        let spec = ContainerSpec {
            resources: Resources {
                cpu: Some(Cpu::from_millis(150)),
                memory: Some(ByteSize::mib(32)),
            },
            ..bed.sleeper("small")
        };
        let id = runtime.run(&spec).await.unwrap();
        let (_, inspected) = engine("GET", &format!("/containers/{id}/json"), &json!(null)).await;
        for set in [
            "\"NanoCpus\":150000000",
            "\"Memory\":33554432",
            "\"MemorySwap\":33554432",
            "\"PidsLimit\":4096",
        ] {
            assert!(inspected.contains(set), "{set}");
        }
    }
}
