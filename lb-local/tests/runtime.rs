//! The runtime's contract, with shell scripts as programs. The cases take any runtime that has an image
//! `test:1` whose arguments are a shell script.

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

async fn run_is_idempotent(runtime: &dyn ContainerRuntime) {
    let spec = sleeper("c1.a");
    let id = runtime.run(&spec).await.unwrap();
    assert_eq!(runtime.run(&spec).await.unwrap(), id);
    let list = runtime.list().await.unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!((&list[0].id, &list[0].spec), (&id, &spec.hash()));
    assert_eq!(list[0].state, ContainerState::Running);
    assert_eq!(list[0].readiness, Readiness::Unknown);
    runtime.stop(&spec.name, GRACE).await.unwrap();
    runtime.stop(&spec.name, GRACE).await.unwrap();
    assert_eq!(runtime.list().await.unwrap(), []);
}

async fn another_spec_or_an_exited_one_is_a_conflict(runtime: &dyn ContainerRuntime) {
    runtime.run(&sleeper("c1.a")).await.unwrap();
    let mut other = sleeper("c1.a");
    other.env.insert(EnvName::new("X").unwrap(), "1".into());
    assert_eq!(runtime.run(&other).await.unwrap_err().kind(), ErrorKind::Conflict);
    let ends = script("c1.b", "exit 7");
    runtime.run(&ends).await.unwrap();
    assert_eq!(exit_code(runtime, "c1.b").await, 7);
    assert_eq!(runtime.run(&ends).await.unwrap_err().kind(), ErrorKind::Conflict);
    for container in ["c1.a", "c1.b"] {
        runtime.stop(&name(container), Duration::ZERO).await.unwrap();
    }
    assert_eq!(runtime.list().await.unwrap(), []);
}

async fn failures_leave_nothing_behind(runtime: &dyn ContainerRuntime) {
    let mut spec = sleeper("c1.a");
    spec.image = ImageRef::new("nobody:1").unwrap();
    assert_eq!(runtime.run(&spec).await.unwrap_err().kind(), ErrorKind::NotFound);
    spec.image = ImageRef::new("gone:1").unwrap();
    assert_eq!(runtime.run(&spec).await.unwrap_err().kind(), ErrorKind::NotFound);
    let mut spec = sleeper("c1.a");
    spec.network = Attachment::Network {
        name: NetworkName::new("none").unwrap(),
        address: Ipv4Addr::new(127, 9, 0, 2),
    };
    assert_eq!(runtime.run(&spec).await.unwrap_err().kind(), ErrorKind::NotFound);
    let mut spec = sleeper("c1.a");
    spec.command = Some(vec!["relative".into()]);
    assert_eq!(runtime.run(&spec).await.unwrap_err().kind(), ErrorKind::Invalid);
    let mut spec = sleeper("c1.a");
    spec.command = Some(vec!["/etc/hostname".into()]);
    assert_eq!(runtime.run(&spec).await.unwrap_err().kind(), ErrorKind::Invalid);
    let mut spec = sleeper("c1.a");
    spec.publish.push(Publish { address: Ipv4Addr::LOCALHOST.into(), host: 1, container: 1 });
    assert_eq!(runtime.run(&spec).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(runtime.list().await.unwrap(), []);
    // The name is free.
    runtime.run(&sleeper("c1.a")).await.unwrap();
    runtime.stop(&name("c1.a"), GRACE).await.unwrap();
}

async fn stopping_asks_waits_and_kills(runtime: &dyn ContainerRuntime) {
    let mut polite = script(
        "c1.polite",
        "trap 'echo bye >$OUT; exit 0' USR1; echo up; while :; do sleep 0.01; done",
    );
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("bye");
    polite.env.insert(EnvName::new("OUT").unwrap(), file.display().to_string());
    polite.stop_signal = Signal::new("SIGUSR1").unwrap();
    runtime.run(&polite).await.unwrap();
    logs_have(runtime, "c1.polite", "up").await;
    runtime.stop(&polite.name, GRACE).await.unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap(), "bye\n");
    // One that does not listen, with a child of its own.
    let stubborn = script(
        "c1.stubborn",
        "trap '' TERM; sleep 1000 & echo child $!; while :; do sleep 0.01; done",
    );
    runtime.run(&stubborn).await.unwrap();
    logs_have(runtime, "c1.stubborn", "child").await;
    let logs = runtime.logs(&stubborn.name, 1).await.unwrap();
    let child: i32 = logs.trim().strip_prefix("child ").unwrap().parse().unwrap();
    let begun = std::time::Instant::now();
    runtime.stop(&stubborn.name, Duration::from_millis(200)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(runtime.list().await.unwrap(), []);
    until("the child is gone", async || (!alive(child)).then_some(())).await;
}

fn alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "))
}

async fn calls_outlive_their_callers(runtime: &dyn ContainerRuntime) {
    let spec = sleeper("c1.a");
    let mut call = runtime.run(&spec);
    assert!(futures_util::poll!(call.as_mut()).is_pending());
    drop(call);
    until("started", async || {
        (state(runtime, "c1.a").await == Some(ContainerState::Running)).then_some(())
    })
    .await;
    let mut call = runtime.stop(&spec.name, GRACE);
    assert!(futures_util::poll!(call.as_mut()).is_pending());
    drop(call);
    until("removed", async || state(runtime, "c1.a").await.is_none().then_some(())).await;
}

async fn many_at_once_make_one(runtime: &dyn ContainerRuntime) {
    let spec = sleeper("c1.a");
    let runs = (0..8).map(|_| runtime.run(&spec));
    let ids = futures_util::future::join_all(runs).await;
    let first = ids[0].as_ref().unwrap();
    assert!(ids.iter().all(|id| id.as_ref().unwrap() == first));
    let specs: Vec<_> = (0..8).map(|n| sleeper(&format!("c1.m{n}"))).collect();
    for result in futures_util::future::join_all(specs.iter().map(|s| runtime.run(s))).await {
        result.unwrap();
    }
    let list = runtime.list().await.unwrap();
    let names: Vec<_> = list.iter().map(|c| c.name.as_str().to_owned()).collect();
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!((names.len(), &names), (9, &sorted));
    let stops = list.iter().map(|c| runtime.stop(&c.name, Duration::ZERO));
    for result in futures_util::future::join_all(stops).await {
        result.unwrap();
    }
    assert_eq!(runtime.list().await.unwrap(), []);
}

async fn networks_and_addresses_have_one_owner(runtime: &dyn ContainerRuntime) {
    let network = |name: &str, subnet: &str| NetworkSpec {
        name: NetworkName::new(name).unwrap(),
        subnet: subnet.parse().unwrap(),
        engine_range: "127.99.1.240/28".parse().unwrap(),
    };
    let ours = network("n1", "127.99.1.0/24");
    runtime.ensure_network(&ours).await.unwrap();
    runtime.ensure_network(&ours).await.unwrap();
    let kind = |e: Result<()>| e.unwrap_err().kind();
    assert_eq!(
        kind(runtime.ensure_network(&network("n1", "127.99.2.0/24")).await),
        ErrorKind::Conflict
    );
    assert_eq!(
        kind(runtime.ensure_network(&network("n2", "127.99.0.0/16")).await),
        ErrorKind::Conflict
    );
    assert_eq!(
        kind(runtime.ensure_network(&network("n3", "10.0.0.0/24")).await),
        ErrorKind::Invalid
    );
    assert_eq!(
        kind(runtime.ensure_network(&network("n3", "127.0.0.0/24")).await),
        ErrorKind::Invalid
    );
    let at = |container: &str, last: u8| {
        let address = Ipv4Addr::new(127, 99, 1, last);
        let network = Attachment::Network { name: ours.name.clone(), address };
        ContainerSpec { network, ..sleeper(container) }
    };
    runtime.run(&at("c1.a", 2)).await.unwrap();
    assert_eq!(runtime.run(&at("c1.b", 2)).await.unwrap_err().kind(), ErrorKind::Conflict);
    runtime.run(&at("c1.b", 3)).await.unwrap();
    let mut outside = at("c1.c", 0);
    outside.network =
        Attachment::Network { name: ours.name.clone(), address: Ipv4Addr::new(127, 98, 0, 1) };
    assert_eq!(runtime.run(&outside).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(kind(runtime.remove_network(&ours.name).await), ErrorKind::Conflict);
    for container in ["c1.a", "c1.b"] {
        runtime.stop(&name(container), Duration::ZERO).await.unwrap();
    }
    runtime.remove_network(&ours.name).await.unwrap();
    runtime.remove_network(&ours.name).await.unwrap();
}

async fn checkers_run_to_their_end(runtime: &dyn ContainerRuntime) {
    let check = script("c1.check", "echo out; echo err >&2; exit 3");
    let exit = runtime.run_to_end(&check, GRACE).await.unwrap();
    assert_eq!(exit, Exit { code: 3, out_of_memory: false, output: "out\nerr\n".into() });
    assert_eq!(runtime.list().await.unwrap(), []);
    let killed = script("c1.check", "kill -9 $$");
    assert_eq!(runtime.run_to_end(&killed, GRACE).await.unwrap().code, 128 + 9);
    let hangs = sleeper("c1.check");
    let error = runtime.run_to_end(&hangs, Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(runtime.list().await.unwrap(), []);
}

async fn usage_grows_and_events_tell(runtime: &dyn ContainerRuntime) {
    let mut events = runtime.events();
    let spec = script("c1.busy", "while :; do :; done");
    runtime.run(&spec).await.unwrap();
    let first = until("cpu", async || {
        let usage = runtime.usage().await.unwrap().remove(&spec.name)?;
        (usage.cpu > Duration::ZERO && usage.memory.get() > 100_000).then_some(usage)
    })
    .await;
    until("more cpu", async || {
        let usage = runtime.usage().await.unwrap().remove(&spec.name)?;
        (usage.cpu > first.cpu && usage.at > first.at).then_some(())
    })
    .await;
    runtime.stop(&spec.name, Duration::ZERO).await.unwrap();
    assert_eq!(runtime.usage().await.unwrap(), BTreeMap::new());
    let mut wanted = vec![
        RuntimeEvent::Started(spec.name.clone()),
        RuntimeEvent::Exited(spec.name.clone()),
        RuntimeEvent::Removed(spec.name.clone()),
    ];
    while !wanted.is_empty() {
        let next = tokio::time::timeout(GRACE, events.next()).await;
        let event = next.expect("an event").unwrap().unwrap();
        wanted.retain(|w| *w != event);
    }
}

async fn images_have_digests(runtime: &dyn ContainerRuntime) {
    let image = |text: &str| ImageRef::new(text).unwrap();
    let digest = runtime.ensure_image(&image("test:1"), None, &Quiet).await.unwrap();
    assert_eq!(runtime.ensure_image(&image("test:1"), None, &Quiet).await.unwrap(), digest);
    let mut pinned = sleeper("c1.a");
    pinned.image = image("test:1").with_digest(digest.clone());
    assert_eq!(runtime.ensure_image(&pinned.image, None, &Quiet).await.unwrap(), digest);
    runtime.run(&pinned).await.unwrap();
    runtime.stop(&pinned.name, GRACE).await.unwrap();
    let other = ImageDigest::new(format!("sha256:{}", "0".repeat(64))).unwrap();
    for missing in [image("test:2"), image("gone:1"), image("test:1").with_digest(other)] {
        let error = runtime.ensure_image(&missing, None, &Quiet).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}

macro_rules! cases {
    ($($case:ident),* $(,)?) => {$(
        mod $case {
            #[tokio::test]
            async fn local() {
                let (_dir, runtime) = super::fresh();
                super::$case(&runtime).await;
            }
        }
    )*};
}

cases! {
    run_is_idempotent,
    another_spec_or_an_exited_one_is_a_conflict,
    failures_leave_nothing_behind,
    stopping_asks_waits_and_kills,
    calls_outlive_their_callers,
    many_at_once_make_one,
    networks_and_addresses_have_one_owner,
    checkers_run_to_their_end,
    usage_grows_and_events_tell,
    images_have_digests,
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
async fn clusters_in_one_directory_leave_each_other_alone() {
    let (dir, ours) = fresh();
    let theirs = runtime_of("c2", dir.path());
    let spec = sleeper("c1.a");
    ours.run(&spec).await.unwrap();
    assert_eq!(theirs.list().await.unwrap(), []);
    assert_eq!(theirs.usage().await.unwrap(), BTreeMap::new());
    assert_eq!(theirs.run(&spec).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(theirs.stop(&spec.name, GRACE).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(theirs.logs(&spec.name, 1).await.unwrap_err().kind(), ErrorKind::NotFound);
    let network = NetworkSpec {
        name: NetworkName::new("n1").unwrap(),
        subnet: "127.96.1.0/24".parse().unwrap(),
        engine_range: "127.96.1.240/28".parse().unwrap(),
    };
    ours.ensure_network(&network).await.unwrap();
    assert_eq!(theirs.ensure_network(&network).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(theirs.remove_network(&network.name).await.unwrap_err().kind(), ErrorKind::Conflict);
    ours.stop(&spec.name, GRACE).await.unwrap();
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
