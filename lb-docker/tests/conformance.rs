//! The suite of `ContainerRuntime` on a real engine.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod common;

use common::Docker;

mod docker {
    use super::*;

    lb_core::container_runtime_suite! {
        setup: Docker::default(),
        ignore: "needs LB_TEST_DOCKER (testbed/up)",
    }
}
