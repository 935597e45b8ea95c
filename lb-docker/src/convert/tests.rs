//! Specs to request bodies as golden JSON; answers of engines, old and new, to the core's words.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, ContainerStatsResponse, ContainerSummary, EventMessage, ImageInspect,
    NetworkInspect,
};
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
    serde_json::to_value(create_body(&cluster(), spec, &settings).unwrap()).unwrap()
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
        stop_signal: "SIGQUIT".parse().unwrap(),
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
        "StopSignal": "SIGTERM",
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

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let publish = vec![Publish { address: [127, 0, 0, 1].into(), host: 1, container: 1 }];
    let on_host = ContainerSpec { network: Attachment::Host, publish: publish.clone(), ..plain() };
    let alone = ContainerSpec { publish, ..plain() };
    let wildcard = ContainerSpec {
        hosts: BTreeMap::from([("*.example.org".parse().unwrap(), [1, 1, 1, 1].into())]),
        ..plain()
    };
    let settings = Settings { logs: Logs::Engine, pids: 1 };
    for spec in [on_host, alone, wildcard] {
        let failure = create_body(&cluster(), &spec, &settings).unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Invalid, "{failure}");
    }
}

#[test]
fn a_pinned_image_has_two_names_and_a_tagged_one_its_own() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let pinned = format!("r.example.org:5000/cart:1@{digest}").parse().unwrap();
    assert_eq!(image_names(&pinned), [format!("r.example.org:5000/cart@{digest}"), digest]);
    assert_eq!(image_names(&"cart:1".parse().unwrap()), ["cart:1"]);
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
fn a_network_that_is_there_must_be_ours_and_the_same() {
    let there = |owner: &str, subnet: &str, range: &str| -> NetworkInspect {
        serde_json::from_value(json!({
            "Name": "shop.h1",
            "Labels": {"lb.cluster": owner},
            "IPAM": {"Config": [{"Subnet": subnet, "IPRange": range, "Gateway": "x"}]},
            "SomethingNew": {"a": 1},
        }))
        .unwrap()
    };
    let check = |network_there| existing_matches(&cluster(), &network(), &network_there);
    assert!(check(there("shop", "10.1.2.0/24", "10.1.2.240/28")).is_ok());
    for (owner, subnet, range, word) in [
        ("other", "10.1.2.0/24", "10.1.2.240/28", "belongs to cluster \"other\""),
        ("shop", "10.1.3.0/24", "10.1.3.240/28", "exists with subnet 10.1.3.0/24"),
        ("shop", "10.1.2.0/24", "10.1.2.0/28", "exists with the engine's range 10.1.2.0/28"),
        ("shop", "fd00::/64", "", "exists with subnet none"),
    ] {
        let failure = check(there(owner, subnet, range)).unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Conflict);
        assert!(failure.to_string().starts_with(word), "{failure}");
    }
    let unlabelled: NetworkInspect = serde_json::from_value(json!({"Name": "shop.h1"})).unwrap();
    assert_eq!(check(unlabelled).unwrap_err().kind(), ErrorKind::Conflict);
}

#[cfg(target_endian = "little")]
#[test]
fn routes_in_the_way_are_found_and_defaults_are_not() {
    // 0.0.0.0/0, 128.0.0.0/1 (a VPN's half), 10.1.0.0/16, 198.18.0.0/24
    let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t010012C6\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        tun0\t00000080\t00000000\t0003\t0\t0\t0\t00000080\t0\t0\t0\n\
        eth1\t0000010A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
        eth0\t000012C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        broken line\n";
    let blocked = |subnet: &str| host_route_in_the_way(table, subnet.parse().unwrap());
    assert_eq!(blocked("10.1.2.0/24").as_deref(), Some("10.1.0.0/16 on eth1"));
    assert_eq!(blocked("10.0.0.0/8").as_deref(), Some("10.1.0.0/16 on eth1"));
    assert_eq!(blocked("198.18.0.128/25").as_deref(), Some("198.18.0.0/24 on eth0"));
    assert_eq!(blocked("10.2.0.0/16"), None);
    assert_eq!(blocked("192.168.0.0/16"), None);
}

fn inspected(name: &str, cluster: Option<&str>, state: &Value) -> ContainerInspectResponse {
    let mut labels = json!({"lb.spec": "abc"});
    if let Some(cluster) = cluster {
        labels["lb.cluster"] = cluster.into();
    }
    serde_json::from_value(json!({
        "Id": "f00", "Name": name, "State": state, "Config": {"Labels": labels}, "New": [1],
    }))
    .unwrap()
}

#[test]
fn a_container_is_found_by_its_exact_name_and_owner_only() {
    let name = "cafe".parse().unwrap();
    let running = json!({"Status": "running", "Running": true});
    let look = |answer| found(&cluster(), &name, answer);
    let ours = look(inspected("/cafe", Some("shop"), &running)).unwrap().unwrap();
    assert_eq!((ours.id.as_str(), ours.spec.as_str()), ("f00", "abc"));
    assert_eq!(ours.state, ContainerState::Running);
    assert!(look(inspected("/other-whose-id-begins-cafe", None, &running)).unwrap().is_none());
    for owner in [Some("else"), None] {
        let failure = look(inspected("/cafe", owner, &running)).unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Conflict, "{failure}");
    }
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
        assert_eq!(state(&answer), wanted, "{answer:?}");
    }
}

#[test]
fn what_carries_our_labels_but_is_not_of_our_making_is_not_listed() {
    let summary = |name: &str, labels: &Value| -> ContainerSummary {
        serde_json::from_value(json!({"Id": "1", "Names": [name], "Labels": labels})).unwrap()
    };
    let ours = json!({"lb.cluster": "shop", "lb.spec": "h", "lb.role": "checker", "a b": "bad key", "tier": "web"});
    let container = listed(summary("/c1", &ours), ContainerState::Running).unwrap();
    assert_eq!(container.role, Role::Checker);
    let labels: Vec<_> = container.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(labels, [("tier", "web")]);
    let unknown_role = json!({"lb.cluster": "shop", "lb.spec": "h", "lb.role": "king"});
    assert!(listed(summary("/c1", &unknown_role), ContainerState::Running).is_none());
    assert!(listed(summary("/Not_Ours", &ours), ContainerState::Running).is_none());
    assert!(
        listed(summary("/c1", &json!({"lb.cluster": "shop"})), ContainerState::Running).is_none()
    );
    assert_eq!(container_name(&["/web/db".into(), "/db".into()]).unwrap().as_str(), "db");
}

#[test]
fn roles_have_labels_that_come_back() {
    for role in [Role::Instance, Role::Balancer, Role::Agent, Role::Checker] {
        assert_eq!(role_of(role_text(role)), Some(role));
        assert_eq!(json!(role), json!(role_text(role)), "the label is the serde form");
    }
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
    assert_eq!(event(&message("start", "c1")), Some(RuntimeEvent::Started(name())));
    assert_eq!(event(&message("die", "c1")), Some(RuntimeEvent::Exited(name())));
    assert_eq!(event(&message("destroy", "c1")), Some(RuntimeEvent::Removed(name())));
    assert_eq!(event(&message("exec_start: sh", "c1")), None);
    assert_eq!(event(&message("start", "Not_Ours")), None);
}

#[test]
fn an_images_digest_is_its_repositorys() {
    let digest = |n: u8| format!("sha256:{}", format!("{n:02x}").repeat(32));
    let local: ImageInspect = serde_json::from_value(json!({
        "Id": digest(1),
        "RepoDigests": [
            format!("127.0.0.1:5000/cart@{}", digest(9)),
            format!("127.0.0.1:5000/cart@{}", digest(2)),
            format!("cart@{}", digest(3)),
            format!("team/cart@{}", digest(4)),
        ],
    }))
    .unwrap();
    let of = |image: &str| -> Vec<String> {
        registry_digests(&image.parse().unwrap(), &local).iter().map(ToString::to_string).collect()
    };
    assert_eq!(of("127.0.0.1:5000/cart:1"), [digest(2), digest(9)]);
    assert_eq!(of("cart"), [digest(3)]);
    assert_eq!(of("docker.io/library/cart:7"), [digest(3)]);
    assert_eq!(of("docker.io/team/cart"), [digest(4)]);
    assert!(of("127.0.0.1:5001/cart").is_empty());
    assert_eq!(local_digest(&local).unwrap().as_str(), digest(1));
    let line = format!("Digest: {}", digest(5));
    assert_eq!(pulled_digest(&line).unwrap().as_str(), digest(5));
    assert_eq!(pulled_digest("Status: Image is up to date"), None);
}
