//! Images against registries on loopback, one of which asks for a login.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod common;

use lb_core::{ImageDigest, ProgressStep};
use lb_test_support::images::ImageEngine;
use serde_json::{Value, json};

use common::Real;

impl ImageEngine for Real {
    const KEPT: &'static str = "lb-docker-kept";
    const PUSH_FAILED: &'static str = "errorDetail";
    const NO_LOGIN: Option<&'static str> = Some("no basic auth credentials");
    const MANY_DIGESTS: bool = false;

    /// 20.10 wants a header; the test's own raw client sends none, so the login travels in the body.
    fn push(repository: &str, version: &str) -> (String, Value) {
        (format!("/images/{repository}/push?tag={version}"), json!({"auths": {}}))
    }

    fn id(digest: &ImageDigest) -> &str {
        digest.as_str()
    }

    fn tells(step: &ProgressStep, digest: &ImageDigest) -> bool {
        step.what == format!("Digest: {digest}")
    }
}

lb_test_support::image_cases! { Real, "needs LB_TEST_DOCKER (testbed/up)" }
