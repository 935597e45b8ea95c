//! Short runs of `hitless` on each engine with each balancer: the promise it measures must hold every day.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::process::Command;
use std::sync::{Mutex, PoisonError};

use lb_test_support::variable;
use serde_json::Value;

/// Two loads at once would measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The balancer whose changes of servers are reloads.
const BY_RELOAD: &str = "nginx";

/// So many changes with connections that are kept, and as many with one for each request.
fn hitless(changes: u64, arguments: &[&str]) {
    // Others may run beside this one, with balancers of other versions.
    let (asked, cluster) = (changes.to_string(), format!("hitless{}", std::process::id()));
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for mode in ["keepalive", "close"] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_hitless"));
        program
            .args(["--changes", &asked, "--json", "--mode", mode, "--cluster", &cluster])
            .args(arguments);
        let output = program.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(result["changes"], changes);
        assert_eq!(result["promise_kept"], true, "{result} {said}");
        let by_reload = arguments.contains(&BY_RELOAD);
        assert_eq!(result["reloads"] != 0, by_reload, "{result}");
        if !by_reload || mode == "close" {
            assert_eq!(result["failed"], 0, "{result} {said}");
        }
        assert!(result["requests"].as_u64().unwrap() > 100, "{result}");
    }
}

fn on_docker(balancer: &str) {
    let docker = variable("LB_TEST_DOCKER");
    hitless(10, &["--engine", "docker", "--docker", &docker, "--balancer", balancer]);
}

fn on_podman(balancer: &str) {
    let podman = variable("LB_TEST_PODMAN");
    hitless(10, &["--engine", "podman", "--podman", &podman, "--balancer", balancer]);
}

#[test]
fn processes_lose_nothing() {
    hitless(20, &[]);
}

#[test]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
fn processes_behind_haproxy_lose_nothing() {
    variable("LB_TEST_HAPROXY");
    hitless(20, &["--balancer", "haproxy"]);
}

#[test]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
fn processes_behind_nginx_keep_the_promise() {
    variable("LB_TEST_NGINX");
    hitless(10, &["--balancer", BY_RELOAD]);
}

#[test]
#[ignore = "needs LB_TEST_DOCKER, LB_TEST_HAPROXY_IMAGE, LB_TEST_APP_IMAGE (testbed/up)"]
fn docker_behind_haproxy_loses_nothing() {
    variable("LB_TEST_HAPROXY_IMAGE");
    on_docker("haproxy");
}

#[test]
#[ignore = "needs LB_TEST_DOCKER, LB_TEST_NGINX_IMAGE, LB_TEST_APP_IMAGE (testbed/up)"]
fn docker_behind_nginx_keeps_the_promise() {
    variable("LB_TEST_NGINX_IMAGE");
    on_docker(BY_RELOAD);
}

#[test]
#[ignore = "needs LB_TEST_PODMAN, LB_TEST_HAPROXY_IMAGE, LB_TEST_APP_IMAGE (testbed/up)"]
fn podman_behind_haproxy_loses_nothing() {
    variable("LB_TEST_HAPROXY_IMAGE");
    on_podman("haproxy");
}

#[test]
#[ignore = "needs LB_TEST_PODMAN, LB_TEST_NGINX_IMAGE, LB_TEST_APP_IMAGE (testbed/up)"]
fn podman_behind_nginx_keeps_the_promise() {
    variable("LB_TEST_NGINX_IMAGE");
    on_podman(BY_RELOAD);
}
