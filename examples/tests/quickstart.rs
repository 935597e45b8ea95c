//! The programs as a user starts them: what they print, and that they leave nothing.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod support;

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use support::{example, run, turn, variable};

fn summary(arguments: &[&str]) -> Value {
    let out = run(&example("quickstart"), arguments);
    serde_json::from_str(out.lines().last().unwrap()).unwrap()
}

fn check(summary: &Value, engine: &str) {
    check_but_for_reloads(summary, engine);
    assert_eq!(summary["reloads"], 0, "servers came and went without a reload: {summary}");
}

fn check_but_for_reloads(summary: &Value, engine: &str) {
    assert_eq!(summary["engine"], engine);
    assert_eq!(summary["failed"], 0, "{summary}");
    assert_eq!((&summary["rollouts"], &summary["killed"]), (&1.into(), &1.into()));
    assert!(summary["requests"].as_u64().unwrap() > 1000, "{summary}");
    assert!(summary["max_instances"].as_u64().unwrap() >= 4, "{summary}");
}

/// The whole job on one combination. Programs and images are the testbed's, by their variables.
async fn whole_job(engine: &str, balancer: &str) {
    let _one_at_a_time = turn(engine).await;
    let endpoint = match engine {
        "docker" => vec!["--docker".to_owned(), variable("LB_TEST_DOCKER")],
        "podman" => vec!["--podman".to_owned(), variable("LB_TEST_PODMAN")],
        _ => Vec::new(),
    };
    let mut arguments = vec!["--json", "--engine", engine, "--balancer", balancer];
    arguments.extend(endpoint.iter().map(String::as_str));
    let summary = summary(&arguments);
    if balancer == "nginx" {
        check_but_for_reloads(&summary, engine);
        assert!(summary["reloads"].as_u64().unwrap() > 0, "{summary}");
    } else {
        check(&summary, engine);
    }
}

#[test]
fn what_goes_wrong_is_said_in_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.toml");
    let text = "name = \"hello\"\nimage = \"demo:1\"\n[ports.web]\ncontainer = 70000\n";
    std::fs::write(&file, text).unwrap();
    let output = Command::new(example("deploy_file")).arg(&file).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.starts_with("error: ") && said.contains("container"), "{said}");
}

#[tokio::test]
async fn quickstart_does_the_whole_job_on_processes() {
    let _one_at_a_time = turn("local").await;
    check(&summary(&["--json"]), "local");
}

#[tokio::test]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn quickstart_does_the_whole_job_on_processes_and_haproxy() {
    variable("LB_TEST_HAPROXY");
    whole_job("local", "haproxy").await;
}

#[tokio::test]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn quickstart_does_the_whole_job_on_processes_and_nginx() {
    variable("LB_TEST_NGINX");
    whole_job("local", "nginx").await;
}

#[tokio::test]
#[ignore = "needs LB_TEST_DOCKER, LB_TEST_HAPROXY_IMAGE, LB_TEST_APP_IMAGE (testbed/up)"]
async fn quickstart_does_the_whole_job_on_docker_and_haproxy() {
    variable("LB_TEST_APP_IMAGE");
    let docker = variable("LB_TEST_DOCKER");
    let _one_at_a_time = turn("docker").await;
    check(&summary(&["--json", "--engine", "docker", "--docker", &docker]), "docker");
}

#[tokio::test]
#[ignore = "needs LB_TEST_DOCKER, LB_TEST_NGINX_IMAGE, LB_TEST_APP_IMAGE (testbed/up)"]
async fn quickstart_does_the_whole_job_on_docker_and_nginx() {
    variable("LB_TEST_APP_IMAGE");
    variable("LB_TEST_NGINX_IMAGE");
    whole_job("docker", "nginx").await;
}

#[tokio::test]
#[ignore = "needs LB_TEST_PODMAN, LB_TEST_HAPROXY_IMAGE, LB_TEST_APP_IMAGE (testbed/up)"]
async fn quickstart_does_the_whole_job_on_podman_and_haproxy() {
    variable("LB_TEST_APP_IMAGE");
    variable("LB_TEST_HAPROXY_IMAGE");
    whole_job("podman", "haproxy").await;
}

#[tokio::test]
#[ignore = "needs LB_TEST_PODMAN, LB_TEST_NGINX_IMAGE, LB_TEST_APP_IMAGE (testbed/up)"]
async fn quickstart_does_the_whole_job_on_podman_and_nginx() {
    variable("LB_TEST_APP_IMAGE");
    variable("LB_TEST_NGINX_IMAGE");
    whole_job("podman", "nginx").await;
}

#[tokio::test]
async fn an_engine_does_not_take_the_balancer_of_this_process() {
    let mut program = std::process::Command::new(example("quickstart"));
    program.args(["--engine", "docker", "--balancer", "in-process", "--image", "app:1"]);
    let output = program.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let right = "it goes with local: an engine takes haproxy or nginx";
    assert!(!output.status.success() && said.contains(right), "{said}");
}

/// Not after all the waiting for what can never run.
#[test]
fn an_engine_that_is_not_there_is_said_in_a_line() {
    for engine in ["docker", "podman"] {
        let nobody = format!("--{engine}=unix:///nowhere/{engine}.sock");
        let mut program = Command::new(example("quickstart"));
        let output = program.args(["--engine", engine, &nobody]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        let begin = format!("error: describe engine unix:///nowhere/{engine}.sock");
        assert!(said.starts_with(&begin), "{said}");
    }
}

#[tokio::test]
#[ignore = "needs LB_TEST_DOCKER, LB_TEST_HAPROXY_IMAGE (testbed/up)"]
async fn a_taken_port_is_said_and_everything_is_cleaned_up() {
    let _one_at_a_time = turn("docker").await;
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let docker = variable("LB_TEST_DOCKER");
    let arguments = ["--json", "--engine", "docker", "--docker", &docker, "--port", &port];
    let mut program = std::process::Command::new(example("quickstart"));
    let output = program.args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(&port), "{said}");
}

/// Two would stop each other's instances.
#[test]
fn a_second_program_in_the_same_place_says_so_and_does_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("first");
    let lock = std::fs::File::create(directory.path().join("first.lock")).unwrap();
    lock.lock().unwrap();
    let output = Command::new(example("quickstart")).arg("--directory").arg(&place).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("first.lock is locked") && said.contains("--cluster"), "{said}");
}

#[tokio::test]
async fn the_small_programs_say_what_they_do() {
    let _one_at_a_time = turn("local").await;
    let plan = run(&example("plan_only"), &[]);
    assert!(plan.contains("on host-1:"), "{plan}");
    let policy = run(&example("custom_policy"), &[]);
    assert!(policy.contains("minute 5: Hold"), "{policy}");
    let renderer = run(&example("custom_renderer"), &[]);
    assert!(renderer.contains("80 shop.example.org /cart -> shop.web"), "{renderer}");
    let runtime = run(&example("custom_runtime"), &[]);
    let answers: BTreeSet<_> = runtime.lines().collect();
    assert!(answers.len() == 3 && runtime.starts_with("hello from 127."), "{runtime}");
    let registry = run(&example("custom_registry"), &[]);
    let said = "h1 announces itself: [\"h1\"]\nh2 announces itself: [\"h1\", \"h2\"]\n\
                h1 withdraws: [\"h2\"]\nh2 falls silent: []\n";
    assert_eq!(registry, said);
}
