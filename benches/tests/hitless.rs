//! A short run of `hitless` on each engine: the promise it measures must hold every day.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// Two loads at once would measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn hitless(arguments: &[&str]) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut program = Command::new(env!("CARGO_BIN_EXE_hitless"));
    let output = program.args(["--changes", "20", "--json"]).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["changes"], &result["failed"]), (&20.into(), &0.into()), "{result} {said}");
    assert_eq!(result["reloads"], 0, "{result}");
    assert!(result["requests"].as_u64().unwrap() > 100, "{result}");
}

#[test]
fn twenty_changes_lose_nothing_on_processes() {
    hitless(&["--mode", "keepalive"]);
    hitless(&["--mode", "close"]);
}

#[test]
#[ignore = "needs LB_TEST_DOCKER, LB_TEST_HAPROXY_IMAGE, LB_TEST_APP_IMAGE (testbed/up)"]
fn twenty_changes_lose_nothing_on_docker_and_haproxy() {
    let docker = std::env::var("LB_TEST_DOCKER").expect("LB_TEST_DOCKER: set by testbed/up");
    for mode in ["keepalive", "close"] {
        hitless(&["--engine", "docker", "--docker", &docker, "--mode", mode]);
    }
}
