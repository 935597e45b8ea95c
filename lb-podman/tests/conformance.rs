//! The suite of `ContainerRuntime` on a real engine.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod common;

use common::Podman;

mod podman {
    use super::*;

    lb_core::container_runtime_suite! {
        setup: Podman::default(),
        ignore: "needs LB_TEST_PODMAN (testbed/up)",
        left_out: {
            want_of_memory_is_told: "conmon 2.1.6 does not notice it on cgroup v1",
        },
    }
}
