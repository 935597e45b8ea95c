//! Specs to request bodies as golden JSON; answers of engines, old and new, to the core's words.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, ContainerStatsResponse, ContainerSummary, EventMessage, ImageInspect,
    NetworkInspect,
};
use lb_core::engine::Summary;
use lb_core::{
    Access, Attachment, ByteSize, Capability, ClusterId, ContainerSpec, ContainerState, Cpu,
    ErrorKind, Exit, NetworkSpec, Privileges, Publish, Restart, Role, RuntimeEvent, Secret, Volume,
    VolumeSource,
};
use serde_json::{Value, json};

use super::*;
use crate::runtime::Logs;

fn cluster() -> ClusterId {
    ClusterId::new("shop").unwrap()
}

fn body(spec: &ContainerSpec) -> Value {
    let settings = Settings { logs: Logs::default(), pids: 100 };
    serde_json::to_value(create_body(&cluster(), spec, &settings)).unwrap()
}

fn plain() -> ContainerSpec {
    ContainerSpec::new("shop.cart.1".parse().unwrap(), Role::Instance, "cart:1".parse().unwrap())
}

/// A spec that sets everything.
fn full() -> ContainerSpec {
    let path = |p: &str| p.parse().unwrap();
    ContainerSpec {
        command: Some(vec!["/bin/cart".into()]),
        args: Some(vec!["--serve".into(), "a b".into()]),
        user: Some("app:app".parse().unwrap()),
        env: BTreeMap::from([
            ("A".parse().unwrap(), "x=y z".into()),
            ("B".parse().unwrap(), "plain".into()),
        ]),
        secrets: BTreeMap::from([("B".parse().unwrap(), Secret::new("hidden"))]),
        volumes: vec![
            Volume {
                source: VolumeSource::Path(path("/srv/data")),
                target: path("/data"),
                access: Access::ReadOnly,
            },
            Volume {
                source: VolumeSource::Name("keep".parse().unwrap()),
                target: path("/tmp"),
                access: Access::ReadWrite,
            },
        ],
        resources: lb_core::Resources {
            cpu: Some(Cpu::from_millis(250)),
            memory: Some(ByteSize::mib(64)),
        },
        network: Attachment::Network {
            name: "shop.h1".parse().unwrap(),
            address: [10, 1, 2, 3].into(),
        },
        hosts: BTreeMap::from([("db.internal".parse().unwrap(), [10, 9, 9, 9].into())]),
        publish: vec![
            Publish { address: [127, 0, 0, 1].into(), host: 18080, container: 8080 },
            Publish { address: [127, 0, 0, 2].into(), host: 18080, container: 8080 },
        ],
        restart: Restart::Always,
        privileges: Privileges {
            capabilities: Some([Capability::NetBindService, Capability::Kill].into()),
            read_only_root: true,
        },
        stop_signal: Some("SIGQUIT".parse().unwrap()),
        stop_grace: Duration::from_millis(1500),
        labels: BTreeMap::from([
            ("lb.cluster".parse().unwrap(), "thief".into()),
            ("tier".parse().unwrap(), "web".into()),
        ]),
        ..plain()
    }
}

#[test]
fn a_spec_that_sets_everything() {
    let spec = full();
    let wanted = json!({
        "User": "app:app",
        "ExposedPorts": {"8080/tcp": {}},
        "Env": ["A=x=y z", "B=hidden"],
        "Cmd": ["--serve", "a b"],
        "Healthcheck": {"Test": ["NONE"]},
        "Entrypoint": ["/bin/cart"],
        "Labels": {"lb.cluster": "shop", "lb.role": "instance", "lb.spec": spec.hash().as_str(), "tier": "web"},
        "StopSignal": "SIGQUIT",
        "StopTimeout": 2,
        "HostConfig": {
            "NetworkMode": "shop.h1",
            "PortBindings": {"8080/tcp": [
                {"HostIp": "127.0.0.1", "HostPort": "18080"},
                {"HostIp": "127.0.0.2", "HostPort": "18080"},
            ]},
            "ExtraHosts": ["db.internal:10.9.9.9"],
            "NanoCpus": 250_000_000,
            "Memory": 67_108_864,
            "MemorySwap": 67_108_864,
            "PidsLimit": 100,
            "RestartPolicy": {"Name": "always"},
            "Mounts": [
                {"Type": "bind", "Source": "/srv/data", "Target": "/data", "ReadOnly": true},
                {"Type": "volume", "Source": "keep", "Target": "/tmp", "ReadOnly": false,
                 "VolumeOptions": {"Labels": {"lb.cluster": "shop"}}},
            ],
            "ReadonlyRootfs": true,
            "Tmpfs": {"/run": "rw,nosuid,nodev,noexec,size=16m,mode=755"},
            "SecurityOpt": ["no-new-privileges:true"],
            "CapAdd": ["KILL", "NET_BIND_SERVICE"],
            "CapDrop": ["ALL"],
            "Privileged": false,
            "Init": false,
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10485760", "max-file": "3"}},
        },
        "NetworkingConfig": {"EndpointsConfig": {"shop.h1": {"IPAMConfig": {"IPv4Address": "10.1.2.3"}}}},
    });
    assert_eq!(body(&spec), wanted);
}

#[test]
fn a_spec_that_sets_nothing() {
    let wanted = json!({
        "ExposedPorts": {},
        "Env": [],
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": {"lb.cluster": "shop", "lb.role": "instance", "lb.spec": plain().hash().as_str()},
        "StopTimeout": 10,
        "HostConfig": {
            "NetworkMode": "none",
            "PortBindings": {},
            "ExtraHosts": [],
            "PidsLimit": 100,
            "RestartPolicy": {"Name": "no"},
            "Mounts": [],
            "ReadonlyRootfs": false,
            "SecurityOpt": ["no-new-privileges:true"],
            "CapDrop": ["NET_RAW"],
            "Privileged": false,
            "Init": false,
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10485760", "max-file": "3"}},
        },
    });
    assert_eq!(body(&plain()), wanted);
}

fn network() -> NetworkSpec {
    NetworkSpec {
        name: "shop.h1".parse().unwrap(),
        subnet: "10.1.2.0/24".parse().unwrap(),
        engine_range: "10.1.2.240/28".parse().unwrap(),
    }
}

#[test]
fn a_network() {
    let wanted = json!({
        "Name": "shop.h1",
        "Driver": "bridge",
        "IPAM": {"Driver": "default", "Config": [
            {"Subnet": "10.1.2.0/24", "IPRange": "10.1.2.240/28", "Gateway": "10.1.2.1"},
        ]},
        "EnableIPv6": false,
        "Labels": {"lb.cluster": "shop"},
    });
    assert_eq!(serde_json::to_value(network_request(&cluster(), &network())).unwrap(), wanted);
}

#[test]
fn a_container_by_itself() {
    let answer = |id: Option<&str>| -> ContainerInspectResponse {
        serde_json::from_value(json!({
            "Id": id, "Name": "/cafe", "State": {"Status": "running", "Running": true},
            "Config": {"Labels": {"lb.spec": "abc"}}, "New": [1],
        }))
        .unwrap()
    };
    let seen = super::seen(answer(Some("f00"))).unwrap();
    assert_eq!((seen.id.as_str(), seen.name.as_str()), ("f00", "cafe"));
    assert_eq!((seen.labels["lb.spec"].as_str(), seen.state), ("abc", ContainerState::Running));
    assert_eq!(super::seen(answer(None)).unwrap_err().kind(), ErrorKind::Unexpected);
}

#[test]
fn a_network_by_itself() {
    let answer = |ipam: &Value| -> NetworkInspect {
        serde_json::from_value(json!({
            "Id": "n1", "Name": "shop.h1", "Labels": {"lb.cluster": "shop"}, "IPAM": ipam, "New": {"a": 1},
        }))
        .unwrap()
    };
    let full = json!({"Config": [{"Subnet": "10.1.2.0/24", "IPRange": "10.1.2.240/28"}]});
    let seen = seen_network(answer(&full));
    assert_eq!((seen.id.as_str(), seen.name.as_str()), ("n1", "shop.h1"));
    assert_eq!(seen.labels["lb.cluster"], "shop");
    assert_eq!(seen.subnet, Some("10.1.2.0/24".parse().unwrap()));
    assert_eq!(seen.range, Some([10, 1, 2, 240].into()..=[10, 1, 2, 255].into()));
    let six = seen_network(answer(&json!({"Config": [{"Subnet": "fd00::/64"}]})));
    assert_eq!((six.subnet, six.range), (None, None));
}

#[test]
fn states() {
    let exited = |code, out_of_memory| {
        ContainerState::Exited(Exit { code, out_of_memory, output: String::new() })
    };
    let cases = [
        (json!({"Status": "created"}), ContainerState::Created),
        (json!({"Status": "running"}), ContainerState::Running),
        (json!({"Status": "paused"}), ContainerState::Running),
        (json!({"Status": "restarting", "ExitCode": 1}), ContainerState::Running),
        (json!({"Running": true}), ContainerState::Running),
        (json!({"Status": "exited", "ExitCode": 137, "OOMKilled": true}), exited(137, true)),
        (json!({"Status": "dead", "ExitCode": 3}), exited(3, false)),
        (json!({"Status": "removing"}), exited(0, false)),
    ];
    for (answer, wanted) in cases {
        let answer = serde_json::from_value(answer).unwrap();
        assert_eq!(observe::state(&answer), wanted, "{answer:?}");
    }
}

#[test]
fn a_container_in_a_list() {
    let listed = |names: &[&str], state: &str| -> Summary {
        let answer = json!({"Id": "1", "Names": names, "Labels": {"a": "b"}, "State": state});
        super::summary(serde_json::from_value::<ContainerSummary>(answer).unwrap()).unwrap()
    };
    let running = listed(&["/web/db", "/db"], "running");
    assert_eq!((running.name.unwrap().as_str(), running.labels["a"].as_str()), ("db", "b"));
    assert_eq!(running.state, Some(ContainerState::Running));
    assert_eq!(listed(&["/Not_Ours"], "created").name, None);
    assert_eq!(listed(&["/c1"], "created").state, Some(ContainerState::Created));
    assert_eq!(listed(&["/c1"], "exited").state, None, "how, the list does not say");
}

#[test]
fn usage_counts_as_docker_stats_does() {
    let stats = |stats: &Value| -> ContainerStatsResponse {
        serde_json::from_value(json!({
            "read": "2026-01-02T03:04:05.123456789Z",
            "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000_u64}},
            "memory_stats": {"usage": 1000, "stats": stats},
        }))
        .unwrap()
    };
    let memory = |s: &Value| usage(&stats(s)).unwrap().memory.get();
    assert_eq!(memory(&json!({"total_inactive_file": 300, "inactive_file": 1})), 700, "cgroup v1");
    assert_eq!(memory(&json!({"inactive_file": 400})), 600, "cgroup v2");
    assert_eq!(memory(&json!({"inactive_file": 4000})), 1000, "absurd");
    assert_eq!(memory(&json!({})), 1000);
    let read = usage(&stats(&json!({}))).unwrap();
    assert_eq!(read.cpu, Duration::from_millis(1500));
    assert_eq!(read.at.to_string(), "2026-01-02T03:04:05.123456789Z");
}

#[test]
fn an_ended_container_has_no_usage() {
    for answer in [
        json!({"read": "0001-01-01T00:00:00Z", "cpu_stats": {"cpu_usage": {"total_usage": 0}}, "memory_stats": {}}),
        json!({"read": "2026-01-02T03:04:05Z", "cpu_stats": {"cpu_usage": {"total_usage": 5}}, "memory_stats": {}}),
        json!({}),
    ] {
        assert_eq!(usage(&serde_json::from_value(answer).unwrap()), None);
    }
}

#[test]
fn events_are_hints_about_containers() {
    let message = |action: &str, name: &str| -> EventMessage {
        serde_json::from_value(json!({
            "Type": "container", "Action": action, "Actor": {"ID": "1", "Attributes": {"name": name}},
        }))
        .unwrap()
    };
    let name = || "c1".parse().unwrap();
    assert_eq!(hint(&message("start", "c1")).event, Some(RuntimeEvent::Started(name())));
    assert_eq!(hint(&message("die", "c1")).event, Some(RuntimeEvent::Exited(name())));
    assert_eq!(hint(&message("destroy", "c1")).event, Some(RuntimeEvent::Removed(name())));
    assert_eq!(hint(&message("exec_start: sh", "c1")).event, None);
    assert_eq!(hint(&message("start", "Not_Ours")).event, None);
}

#[test]
fn an_image_has_an_id_and_its_registries_digests() {
    let digest = |n: u8| format!("sha256:{}", format!("{n:02x}").repeat(32));
    let image = |id: &str| -> ImageInspect {
        let digests = [format!("127.0.0.1:5000/cart@{}", digest(9)), "broken".into()];
        serde_json::from_value(json!({"Id": id, "RepoDigests": digests})).unwrap()
    };
    let seen = seen_image(image(&digest(1))).unwrap();
    assert_eq!(seen.id.as_str(), digest(1));
    assert_eq!(seen.digests, [("127.0.0.1:5000/cart".to_owned(), digest(9).parse().unwrap())]);
    assert_eq!(seen_image(image("strange")).unwrap_err().kind(), ErrorKind::Unexpected);
}

#[test]
fn a_pull_ends_with_its_digest() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let line = |answer: Value| pull_line(serde_json::from_value(answer).unwrap());
    let last = line(json!({ "status": format!("Digest: {digest}") }));
    assert_eq!(last.digest.unwrap().as_str(), digest);
    let progress = line(
        json!({"status": "Downloading", "id": "l1", "progressDetail": {"current": 3, "total": 9}}),
    );
    assert_eq!(
        (progress.step.item.as_str(), progress.step.done, progress.step.total),
        ("l1", 3, 9)
    );
    assert_eq!(progress.digest, None);
}

#[test]
fn times_are_written_with_all_nine_digits() {
    assert_eq!(unix_time(1_700_000_000_000_000_001), "1700000000.000000001");
}

#[test]
fn signals_are_told_as_docker_knows_them_and_the_images_own_by_none() {
    let told = |signal: Option<&str>| {
        let stop_signal = signal.map(|name| name.parse().unwrap());
        let settings = Settings { logs: Logs::default(), pids: 100 };
        create_body(&cluster(), &ContainerSpec { stop_signal, ..plain() }, &settings).stop_signal
    };
    assert_eq!(told(Some("SIGTERM")).unwrap(), "SIGTERM");
    assert_eq!(told(Some("SIGRTMIN+3")).unwrap(), "37");
    assert_eq!(told(Some("SIGRTMAX-20")).unwrap(), "44");
    assert_eq!(told(None), None);
}
