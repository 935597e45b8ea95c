//! The engine restarts under us (F10). Named to run last: it disturbs whoever else uses the engine.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod common;

use common::Docker;

lb_core::container_runtime_restart_suite! {
    setup: Docker::default(),
    ignore: "needs LB_TEST_DOCKER (testbed/up)",
}
