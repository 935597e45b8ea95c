//! What is particular to processes, beyond what every engine owes (`conformance.rs`).

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use lb_core::*;
use lb_local::{LocalRuntime, Program};
use tempfile::TempDir;

const GRACE: Duration = Duration::from_secs(10);

fn runtime_of(cluster: &str, dir: &Path) -> LocalRuntime {
    LocalRuntime::builder(ClusterId::new(cluster).unwrap(), dir)
        .image("test:1", Program::new("/bin/sh").args(["-c", "exec sleep 1000"]))
        .image("gone:1", Program::new("/nonexistent/program"))
        .build()
        .unwrap()
}

fn fresh() -> (TempDir, LocalRuntime) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime_of("c1", dir.path());
    (dir, runtime)
}

fn name(text: &str) -> ContainerName {
    ContainerName::new(text).unwrap()
}

fn script(container: &str, script: &str) -> ContainerSpec {
    let image = ImageRef::new("test:1").unwrap();
    let mut spec = ContainerSpec::new(name(container), Role::Instance, image);
    spec.args = Some(vec!["-c".into(), script.into()]);
    spec
}

fn sleeper(container: &str) -> ContainerSpec {
    script(container, "exec sleep 1000")
}

async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let found = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Some(found) = check().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

async fn state(runtime: &dyn ContainerRuntime, container: &str) -> Option<ContainerState> {
    let list = runtime.list().await.unwrap();
    list.into_iter().find(|c| c.name.as_str() == container).map(|c| c.state)
}

async fn exit_code(runtime: &dyn ContainerRuntime, container: &str) -> i64 {
    until("exited", async || match state(runtime, container).await {
        Some(ContainerState::Exited(exit)) => Some(exit.code),
        _ => None,
    })
    .await
}

async fn logs_have(runtime: &dyn ContainerRuntime, container: &str, text: &str) {
    until(text, async || {
        runtime.logs(&name(container), 100).await.unwrap().contains(text).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_process_cannot_be_given_is_refused_and_leaves_nothing() {
    let (_dir, runtime) = fresh();
    let path = |command: &str| Some(vec![command.to_owned()]);
    let publish = Publish { address: Ipv4Addr::LOCALHOST.into(), host: 1, container: 1 };
    let cases = [
        (
            ContainerSpec { image: ImageRef::new("gone:1").unwrap(), ..sleeper("c1.a") },
            ErrorKind::NotFound,
        ),
        (ContainerSpec { command: path("relative"), ..sleeper("c1.a") }, ErrorKind::Invalid),
        (ContainerSpec { command: path("/etc/hostname"), ..sleeper("c1.a") }, ErrorKind::Invalid),
        (ContainerSpec { publish: vec![publish], ..sleeper("c1.a") }, ErrorKind::Unsupported),
        (ContainerSpec { restart: Restart::Always, ..sleeper("c1.a") }, ErrorKind::Unsupported),
    ];
    for (spec, kind) in cases {
        assert_eq!(runtime.run(&spec).await.unwrap_err().kind(), kind);
        assert_eq!(runtime.list().await.unwrap(), []);
    }
    let gone = ImageRef::new("gone:1").unwrap();
    let error = runtime.ensure_image(&gone, None, &Quiet).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "its program is not there: {error}");
}

/// One that does not listen, with a child of its own.
#[tokio::test]
async fn the_children_of_a_process_end_with_it() {
    let (_dir, runtime) = fresh();
    let stubborn = script(
        "c1.stubborn",
        "trap '' TERM; sleep 1000 & echo child $!; while :; do sleep 0.01; done",
    );
    runtime.run(&stubborn).await.unwrap();
    logs_have(&runtime, "c1.stubborn", "child").await;
    let logs = runtime.logs(&stubborn.name, 1).await.unwrap();
    let child: i32 = logs.trim().strip_prefix("child ").unwrap().parse().unwrap();
    runtime.stop(&stubborn.name, Duration::from_millis(200)).await.unwrap();
    until("the child is gone", async || (!alive(child)).then_some(())).await;
}

#[tokio::test]
async fn a_signal_is_an_exit_code() {
    let (_dir, runtime) = fresh();
    let killed = script("c1.check", "kill -9 $$");
    assert_eq!(runtime.run_to_end(&killed, GRACE).await.unwrap().code, 128 + 9);
}

#[tokio::test]
async fn networks_lie_on_loopback_and_leave_its_own_address_alone() {
    let (_dir, runtime) = fresh();
    for subnet in ["10.0.0.0/24", "127.0.0.0/24"] {
        let subnet: ipnet::Ipv4Net = subnet.parse().unwrap();
        let name = NetworkName::new("n1").unwrap();
        let network = NetworkSpec { name, subnet, engine_range: subnet };
        let error = runtime.ensure_network(&network).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}

fn alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "))
}

#[tokio::test]
async fn a_process_is_told_its_place_and_nothing_else() {
    let (_dir, runtime) = fresh();
    let network = NetworkSpec {
        name: NetworkName::new("n1").unwrap(),
        subnet: "127.97.1.0/24".parse().unwrap(),
        engine_range: "127.97.1.240/28".parse().unwrap(),
    };
    runtime.ensure_network(&network).await.unwrap();
    let address = Ipv4Addr::new(127, 97, 1, 7);
    let ports = [("web", 8080), ("admin", 9090)];
    let assignment = Assignment {
        host: HostId::new("h1").unwrap(),
        address,
        ports: ports.into_iter().map(|(n, p)| (PortName::new(n).unwrap(), p)).collect(),
        published: BTreeMap::new(),
    };
    let mut spec = script("c1.a", "echo {address} {port} {port:web}; env; pwd; exec sleep 1000");
    spec.network = Attachment::Network { name: network.name, address };
    let label = serde_json::to_string(&assignment).unwrap();
    spec.labels.insert(LabelKey::new(label::ASSIGNMENT).unwrap(), label);
    spec.env.insert(EnvName::new("MODE").unwrap(), "test".into());
    spec.secrets.insert(EnvName::new("TOKEN").unwrap(), Secret::new("hush"));
    runtime.run(&spec).await.unwrap();
    logs_have(&runtime, "c1.a", "containers/c1.a\n").await;
    let logs = runtime.logs(&spec.name, 1000).await.unwrap();
    for line in [
        "127.97.1.7 9090 8080",
        "HOST=127.97.1.7",
        "BIND=127.97.1.7",
        "PORT=9090",
        "MODE=test",
        "TOKEN=hush",
    ] {
        assert!(logs.lines().any(|l| l == line), "{line} in {logs}");
    }
    assert!(!logs.contains("CARGO"), "{logs}");
    assert_eq!(runtime.list().await.unwrap()[0].labels, spec.labels);
    runtime.stop(&spec.name, GRACE).await.unwrap();
}

#[tokio::test]
async fn the_host_image_runs_what_the_app_names() {
    let (_dir, runtime) = fresh();
    let image = ImageRef::new("host").unwrap();
    let digest = runtime.ensure_image(&image, None, &Quiet).await.unwrap();
    let mut spec = ContainerSpec::new(name("c1.a"), Role::Instance, image.with_digest(digest));
    assert_eq!(runtime.run(&spec).await.unwrap_err().kind(), ErrorKind::Invalid);
    spec.command = Some(vec!["/bin/sh".into(), "-c".into(), "echo hello".into()]);
    let exit = runtime.run_to_end(&spec, GRACE).await.unwrap();
    assert_eq!((exit.code, exit.output.as_str()), (0, "hello\n"));
}

#[tokio::test]
async fn a_new_runtime_adopts_what_runs() {
    let (dir, runtime) = fresh();
    let spec = sleeper("c1.a");
    let id = runtime.run(&spec).await.unwrap();
    let ends = script("c1.b", "exit 5");
    runtime.run(&ends).await.unwrap();
    assert_eq!(exit_code(&runtime, "c1.b").await, 5);
    drop(runtime);
    let runtime = runtime_of("c1", dir.path());
    assert_eq!(runtime.run(&spec).await.unwrap(), id);
    assert_eq!(exit_code(&runtime, "c1.b").await, 5);
    assert_eq!(runtime.usage().await.unwrap().len(), 1);
    let mut events = runtime.events();
    // Somebody else ends it: its new keeper notices.
    let record = std::fs::read_to_string(dir.path().join("containers/c1.a/record.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let pid = record["process"]["pid"].as_i64().unwrap();
    let kill = std::process::Command::new("/bin/kill").args(["-9", &pid.to_string()]).status();
    assert!(kill.unwrap().success());
    let gone = RuntimeEvent::Exited(spec.name.clone());
    let told = async { while events.next().await.unwrap().unwrap() != gone {} };
    tokio::time::timeout(GRACE, told).await.unwrap();
    assert!(matches!(state(&runtime, "c1.a").await, Some(ContainerState::Exited(_))));
    for container in ["c1.a", "c1.b"] {
        runtime.stop(&name(container), GRACE).await.unwrap();
    }
    assert_eq!(runtime.list().await.unwrap(), []);
}

/// An orchestrator that died between starting a process and writing that down.
#[tokio::test]
async fn a_process_nobody_wrote_down_is_found_again() {
    let (dir, runtime) = fresh();
    let spec = sleeper("c1.a");
    let id = runtime.run(&spec).await.unwrap();
    let path = dir.path().join("containers/c1.a/record.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    let pid = record["process"]["pid"].clone();
    record["process"] = serde_json::Value::Null;
    std::fs::write(&path, record.to_string()).unwrap();
    let later = runtime_of("c1", dir.path());
    assert_eq!(state(&later, "c1.a").await, Some(ContainerState::Created));
    assert_eq!(later.run(&spec).await.unwrap(), id);
    let text = std::fs::read_to_string(&path).unwrap();
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found["process"]["pid"], pid, "no second process");
    later.stop(&spec.name, GRACE).await.unwrap();
    assert!(!alive(pid.as_i64().unwrap() as i32));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_left_alone_and_others_go_on() {
    let (dir, runtime) = fresh();
    runtime.run(&sleeper("c1.a")).await.unwrap();
    runtime.run(&sleeper("c1.b")).await.unwrap();
    let path = dir.path().join("containers/c1.a/record.json");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let names = async || -> Vec<_> {
        runtime.list().await.unwrap().into_iter().map(|c| c.name.to_string()).collect()
    };
    assert_eq!(names().await, ["c1.b"]);
    assert_eq!(runtime.run(&sleeper("c1.a")).await.unwrap_err().kind(), ErrorKind::Corrupt);
    std::fs::write(
        &path,
        String::from_utf8(whole.clone()).unwrap().replace("\"schema\":1", "\"schema\":2"),
    )
    .unwrap();
    assert_eq!(runtime.run(&sleeper("c1.a")).await.unwrap_err().kind(), ErrorKind::Corrupt);
    std::fs::write(&path, whole).unwrap();
    assert_eq!(names().await, ["c1.a", "c1.b"]);
    for container in ["c1.a", "c1.b"] {
        runtime.stop(&name(container), Duration::ZERO).await.unwrap();
    }
}
