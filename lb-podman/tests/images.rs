//! Images against registries on loopback, one of which asks for a login.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod common;

use lb_core::{ImageDigest, ProgressStep};
use lb_test_support::images::ImageEngine;
use serde_json::Value;

use common::Real;

impl ImageEngine for Real {
    const KEPT: &'static str = "localhost/lb-podman-kept";
    const PUSH_FAILED: &'static str = "error";
    const NO_LOGIN: Option<&'static str> = None;
    const MANY_DIGESTS: bool = true;

    fn push(repository: &str, version: &str) -> (String, Value) {
        let name = format!("{repository}:{version}");
        (format!("/images/{name}/push?destination={name}"), Value::Null)
    }

    fn id(digest: &ImageDigest) -> &str {
        &digest.as_str()["sha256:".len()..]
    }

    fn tells(step: &ProgressStep, _: &ImageDigest) -> bool {
        step.what == "Copying config" && step.item.starts_with("sha256:")
    }
}

lb_test_support::image_cases! { Real, "needs LB_TEST_PODMAN (testbed/up)" }
