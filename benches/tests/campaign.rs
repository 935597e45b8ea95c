//! A minute of `campaign` on processes and one on Docker: what clients are promised must hold every day.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::process::Command;
use std::sync::{Mutex, PoisonError};

use lb_test_support::variable;
use serde_json::Value;

/// Two campaigns at once would take each other's time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A campaign of the test run's length; what it printed.
fn campaign(minutes: &str, seed: &str, arguments: &[&str]) -> Value {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut program = Command::new(env!("CARGO_BIN_EXE_campaign"));
    program.args(["--minutes", minutes, "--seed", seed, "--json"]).args(arguments);
    let output = program.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let line = String::from_utf8_lossy(&output.stdout);
    let result: Value =
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line}: {e}: {said}"));
    assert_eq!(result["violations"], 0, "{result} {said}");
    assert!(output.status.success(), "{said}");
    assert!(result["requests"].as_u64().unwrap() > 100, "{result}");
    result
}

#[test]
fn processes_keep_the_promises_in_a_short_campaign() {
    let result = campaign("0.15", "1", &[]);
    assert_eq!(result["engine"], "local");
    assert_eq!(result["balancer"], "in-process");
}

#[test]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
fn processes_behind_haproxy_keep_the_promises() {
    variable("LB_TEST_HAPROXY");
    let result = campaign("1", "2", &["--balancer", "haproxy"]);
    assert_eq!(result["balancer"], "haproxy");
}

#[test]
#[ignore = "needs LB_TEST_DOCKER, LB_TEST_HAPROXY_IMAGE, LB_TEST_APP_IMAGE (testbed/up)"]
fn docker_behind_haproxy_keeps_the_promises() {
    let docker = variable("LB_TEST_DOCKER");
    for image in ["LB_TEST_HAPROXY_IMAGE", "LB_TEST_APP_IMAGE"] {
        variable(image);
    }
    campaign("1", "1", &["--engine", "docker", "--docker", &docker, "--balancer", "haproxy"]);
}
