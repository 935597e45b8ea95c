//! Specs to request bodies as golden JSON; answers of Podman 4 and 5 to the core's words.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_core::{
    Access, Attachment, ByteSize, Capability, ClusterId, ContainerSpec, ContainerState, Cpu,
    ErrorKind, Exit, NetworkSpec, Privileges, Publish, RegistryAuth, Resources, Restart, Role,
    RuntimeEvent, Secret, Volume, VolumeSource,
};
use serde_json::{Value, json};

use super::*;
use crate::runtime::Logs;

fn cluster() -> ClusterId {
    ClusterId::new("shop").unwrap()
}

fn info(rootless: bool, controllers: &[&str]) -> Abilities {
    abilities(&json!({
        "host": {"security": {"rootless": rootless}, "cgroupControllers": controllers},
        "version": {"Version": "4.3.1"},
    }))
}

fn root() -> Abilities {
    info(false, &["cpu", "memory", "pids"])
}

fn body_on(spec: &ContainerSpec, abilities: &Abilities) -> Result<Value, lb_core::engine::Failure> {
    let settings = Settings { logs: Logs::default(), pids: 100 };
    create_body(&cluster(), spec, "cart:1", &settings, abilities)
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
        env: BTreeMap::from([("A".parse().unwrap(), "x=y z".into())]),
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
        resources: Resources { cpu: Some(Cpu::from_millis(250)), memory: Some(ByteSize::mib(64)) },
        network: Attachment::Network {
            name: "shop.h1".parse().unwrap(),
            address: [10, 1, 2, 3].into(),
        },
        hosts: BTreeMap::from([("db.internal".parse().unwrap(), [10, 9, 9, 9].into())]),
        publish: vec![Publish { address: [127, 0, 0, 1].into(), host: 18080, container: 8080 }],
        restart: Restart::Always,
        privileges: Privileges {
            capabilities: Some([Capability::NetBindService, Capability::Kill].into()),
            read_only_root: true,
        },
        stop_signal: Some("SIGQUIT".parse().unwrap()),
        stop_grace: Duration::from_millis(1500),
        labels: BTreeMap::from([("tier".parse().unwrap(), "web".into())]),
        ..plain()
    }
}

#[test]
fn a_spec_that_sets_everything() {
    let spec = full();
    let wanted = json!({
        "name": "shop.cart.1",
        "image": "cart:1",
        "entrypoint": ["/bin/cart"],
        "command": ["--serve", "a b"],
        "user": "app:app",
        "env": {"A": "x=y z", "B": "hidden"},
        "labels": {"lb.cluster": "shop", "lb.role": "instance", "lb.spec": spec.hash().as_str(), "tier": "web"},
        "netns": {"nsmode": "bridge"},
        "Networks": {"shop.h1": {"static_ips": ["10.1.2.3"]}},
        "portmappings": [
            {"host_ip": "127.0.0.1", "host_port": 18080, "container_port": 8080, "protocol": "tcp"},
        ],
        "hostadd": ["db.internal:10.9.9.9"],
        "mounts": [
            {"type": "bind", "source": "/srv/data", "destination": "/data", "options": ["rbind", "ro"]},
            {"type": "tmpfs", "source": "tmpfs", "destination": "/run",
             "options": ["rw", "nosuid", "nodev", "noexec", "size=16m", "mode=755"]},
        ],
        "volumes": [{"Name": "keep", "Dest": "/tmp", "Options": ["rw"]}],
        "resource_limits": {
            "cpu": {"quota": 25_000, "period": 100_000},
            "memory": {"limit": 67_108_864, "swap": 67_108_864},
            "pids": {"limit": 100},
        },
        "restart_policy": "always",
        "read_only_filesystem": true,
        "no_new_privileges": true,
        "privileged": false,
        "cap_add": ["KILL", "NET_BIND_SERVICE"],
        "cap_drop": ["ALL"],
        "stop_signal": 3,
        "stop_timeout": 2,
        "healthconfig": {"Test": ["NONE"]},
        "log_configuration": {"driver": "k8s-file", "size": 31_457_280},
        "httpproxy": false,
        "systemd": "false",
    });
    assert_eq!(body_on(&spec, &root()).unwrap(), wanted);
}

#[test]
fn a_spec_that_sets_nothing() {
    let body = body_on(&plain(), &root()).unwrap();
    assert_eq!(body["netns"], json!({"nsmode": "none"}));
    assert_eq!(body["cap_drop"], json!(["NET_RAW"]));
    assert_eq!((&body["restart_policy"], &body["stop_signal"]), (&json!("no"), &Value::Null));
    assert_eq!(body["resource_limits"], json!({"pids": {"limit": 100}}));
    for absent in ["entrypoint", "command", "user", "cap_add", "Networks"] {
        assert!(body.get(absent).is_none(), "{absent}");
    }
    let on_host = ContainerSpec { network: Attachment::Host, ..plain() };
    assert_eq!(body_on(&on_host, &root()).unwrap()["netns"], json!({"nsmode": "host"}));
}

#[test]
fn what_a_rootless_engine_cannot_do_is_refused_by_name() {
    let limited = |cpu, memory| ContainerSpec { resources: Resources { cpu, memory }, ..plain() };
    let bare = info(true, &[]);
    for (spec, word) in [
        (ContainerSpec { resources: Resources::default(), ..full() }, "network: rootless Podman"),
        (limited(Some(Cpu::from_millis(100)), None), "no cpu controller (it has: none)"),
        (limited(None, Some(ByteSize::mib(9))), "no memory controller (it has: none)"),
    ] {
        let failure = body_on(&spec, &bare).unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Unsupported, "{failure}");
        assert!(failure.to_string().contains(word), "{failure}");
    }
    let failure =
        body_on(&limited(Some(Cpu::from_millis(1)), None), &info(true, &["memory", "pids"]));
    assert!(failure.unwrap_err().to_string().contains("(it has: memory, pids)"));
    assert_eq!(body_on(&plain(), &bare).unwrap()["resource_limits"], json!({}));
    assert!(body_on(&limited(None, Some(ByteSize::mib(9))), &info(true, &["memory"])).is_ok());
    let known = |abilities: Abilities| {
        let info = abilities.engine_info();
        (info.addresses, info.limits)
    };
    assert_eq!(known(bare), (false, false));
    assert_eq!(known(info(true, &["cpu", "memory"])), (false, true));
    assert_eq!(known(root()), (true, true));
}

#[test]
fn small_shares_of_a_cpu_have_a_long_period() {
    for (millis, quota, period) in [(1, 1000, 1_000_000), (9, 9000, 1_000_000), (10, 1000, 100_000)]
    {
        let resources = Resources { cpu: Some(Cpu::from_millis(millis)), memory: None };
        let body = body_on(&ContainerSpec { resources, ..plain() }, &root()).unwrap();
        assert_eq!(body["resource_limits"]["cpu"], json!({"quota": quota, "period": period}));
    }
}

#[test]
fn signals_are_told_by_number_and_the_images_own_by_none() {
    let told = |signal: Option<&str>| {
        let stop_signal = signal.map(|name| name.parse().unwrap());
        let spec = ContainerSpec { stop_signal, ..plain() };
        body_on(&spec, &root()).unwrap()["stop_signal"].clone()
    };
    assert_eq!(told(Some("SIGTERM")), json!(15));
    assert_eq!(told(Some("SIGRTMIN+3")), json!(37));
    assert_eq!(told(None), Value::Null);
}

#[test]
fn a_network() {
    let spec = |subnet: &str, range: &str| NetworkSpec {
        name: "shop.h1".parse().unwrap(),
        subnet: subnet.parse().unwrap(),
        engine_range: range.parse().unwrap(),
    };
    let request = network_request(&cluster(), &spec("10.1.2.0/24", "10.1.2.240/28"));
    let wanted = json!({
        "name": "shop.h1",
        "driver": "bridge",
        "subnets": [{
            "subnet": "10.1.2.0/24",
            "gateway": "10.1.2.1",
            "lease_range": {"start_ip": "10.1.2.240", "end_ip": "10.1.2.254"},
        }],
        "ipv6_enabled": false,
        "internal": false,
        "dns_enabled": false,
        "labels": {"lb.cluster": "shop"},
    });
    assert_eq!(request, wanted);
    let whole = network_request(&cluster(), &spec("10.1.2.0/24", "10.1.2.0/24"));
    let lease = json!({"start_ip": "10.1.2.1", "end_ip": "10.1.2.254"});
    assert_eq!(whole["subnets"][0]["lease_range"], lease);
}

#[test]
fn a_network_by_itself_4_and_5() {
    let four = json!({
        "name": "shop.h1", "id": "n1", "driver": "bridge", "network_interface": "podman1",
        "created": "2026-11-25T03:22:37.013449782Z",
        "subnets": [{"subnet": "10.1.2.0/24", "gateway": "10.1.2.1",
            "lease_range": {"start_ip": "10.1.2.240", "end_ip": "10.1.2.254"}}],
        "labels": {"lb.cluster": "shop"}, "ipam_options": {"driver": "host-local"},
    });
    let mut five = four.clone();
    five["containers"] = json!({"c1": {"name": "x", "interfaces": {}}});
    five["network_dns_servers"] = json!(["1.1.1.1"]);
    five["created"] = json!(17);
    for answer in [four, five] {
        let seen = seen_network(&answer);
        assert_eq!((seen.id.as_str(), seen.name.as_str()), ("shop.h1", "shop.h1"));
        assert_eq!(seen.labels["lb.cluster"], "shop");
        assert_eq!(seen.subnet, Some("10.1.2.0/24".parse().unwrap()));
        assert_eq!(seen.range, Some([10, 1, 2, 240].into()..=[10, 1, 2, 254].into()));
    }
    let bare = seen_network(&json!({"name": "podman", "subnets": null, "labels": null}));
    assert_eq!((bare.id.as_str(), bare.subnet, bare.range), ("podman", None, None));
}

/// An `inspect` with what differs between the two: entry point and stop signal, of other types in 5.
fn inspected(version: u8, state: &Value, policy: &str) -> Value {
    let config = match version {
        4 => json!({"Labels": {"lb.spec": "abc"}, "Entrypoint": "sh -c", "StopSignal": 9}),
        _ => {
            json!({"Labels": {"lb.spec": "abc"}, "Entrypoint": ["sh", "-c"], "StopSignal": "SIGKILL"})
        }
    };
    json!({
        "Id": "f00", "Name": "cafe", "State": state, "Config": config, "New": [1],
        "HostConfig": {"RestartPolicy": {"Name": policy}},
    })
}

#[test]
fn a_container_by_itself_4_and_5() {
    for version in [4, 5] {
        let answer = inspected(version, &json!({"Status": "running", "Running": true}), "no");
        let container = seen(&answer).unwrap();
        assert_eq!((container.id.as_str(), container.name.as_str()), ("f00", "cafe"));
        assert_eq!(container.labels["lb.spec"], "abc");
        assert_eq!(container.state, ContainerState::Running);
    }
    assert_eq!(seen(&json!({"Name": "x"})).unwrap_err().kind(), ErrorKind::Unexpected);
    assert!(seen(&json!({"Id": "f00", "Config": {"Labels": null}})).unwrap().labels.is_empty());
}

#[test]
fn states() {
    let exited = |code, out_of_memory| {
        ContainerState::Exited(Exit { code, out_of_memory, output: String::new() })
    };
    let cases = [
        (json!({"Status": "configured"}), "no", ContainerState::Created),
        (json!({"Status": "created"}), "no", ContainerState::Created),
        (json!({"Status": "initialized"}), "no", ContainerState::Created),
        (json!({"Status": "running"}), "no", ContainerState::Running),
        (json!({"Status": "stopping"}), "no", ContainerState::Running),
        (json!({"Status": "paused"}), "no", ContainerState::Running),
        (json!({"Status": "stopped", "ExitCode": 1}), "always", ContainerState::Running),
        (json!({"Status": "stopped", "ExitCode": 1}), "no", exited(1, false)),
        (json!({"Status": "exited", "ExitCode": 1}), "always", exited(1, false)),
        (json!({"Running": true}), "no", ContainerState::Running),
        (json!({"Status": "exited", "ExitCode": 137, "OOMKilled": true}), "no", exited(137, true)),
        (json!({"Status": "removing"}), "no", exited(0, false)),
    ];
    for (answer, policy, wanted) in cases {
        assert_eq!(
            seen(&inspected(4, &answer, policy)).unwrap().state,
            wanted,
            "{answer} {policy}"
        );
    }
}

#[test]
fn a_list_4_and_5() {
    let entry = |created: Value, state: &str| {
        json!({
            "Id": "1", "Names": ["c1"], "Labels": {"lb.cluster": "shop"}, "State": state,
            "Created": created, "Command": null, "ExitCode": 3, "Networks": ["n"],
        })
    };
    let four = json!([entry(json!("2026-11-25T03:24:37.7Z"), "running")]);
    let five = json!([entry(json!(1_795_577_077), "running")]);
    for answer in [four, five] {
        let listed = summaries(&answer).unwrap();
        assert_eq!(listed[0].name.as_ref().unwrap().as_str(), "c1");
        assert_eq!(listed[0].labels["lb.cluster"], "shop");
        assert_eq!(listed[0].state, Some(ContainerState::Running));
    }
    let one = |state| summaries(&json!([entry(Value::Null, state)])).unwrap().remove(0).state;
    assert_eq!(one("created"), Some(ContainerState::Created));
    assert_eq!((one("exited"), one("stopped"), one("new")), (None, None, None));
    let nameless = json!([{"Id": "1", "Names": ["Not_Ours"]}, {"Names": ["no-id"]}, 7]);
    let listed = summaries(&nameless).unwrap();
    assert_eq!((listed.len(), &listed[0].name), (1, &None));
    assert!(summaries(&Value::Null).unwrap().is_empty());
    assert_eq!(summaries(&json!({"cause": "x"})).unwrap_err().kind(), ErrorKind::Unexpected);
}

#[test]
fn usage_4_and_5() {
    let four = json!({"Error": null, "Stats": [{
        "ContainerID": "1", "CPUNano": 37_419_080, "SystemNano": 1_795_577_145_154_625_772_i64,
        "MemUsage": 1_089_536, "NetInput": 796,
    }]});
    let mut five = four.clone();
    five["Stats"][0]["NetInput"] = Value::Null;
    five["Stats"][0]["Network"] = json!({"eth0": {"RxBytes": 796}});
    for answer in [four, five] {
        let read = usage(&answer).unwrap();
        assert_eq!((read.cpu, read.memory.get()), (Duration::from_nanos(37_419_080), 1_089_536));
        assert_eq!(read.at.as_nanosecond(), 1_795_577_145_154_625_772);
    }
    for nothing in
        [json!({"Error": null, "Stats": null}), json!({"Stats": []}), json!({"Stats": [{}]})]
    {
        assert_eq!(usage(&nothing), None, "{nothing}");
    }
}

#[test]
fn events_are_hints_about_containers() {
    let event = |action: &str, name: &str| {
        json!({
            "status": action, "Type": "container", "Action": action, "timeNano": 7,
            "Actor": {"ID": "1", "Attributes": {"name": name, "containerExitCode": "0"}},
        })
    };
    let of = |action, name| hint(&event(action, name)).event;
    let name = || "c1".parse().unwrap();
    assert_eq!(of("start", "c1"), Some(RuntimeEvent::Started(name())));
    assert_eq!(of("died", "c1"), Some(RuntimeEvent::Exited(name())));
    assert_eq!(of("remove", "c1"), Some(RuntimeEvent::Removed(name())));
    assert_eq!((of("init", "c1"), of("start", "Not_Ours")), (None, None));
    assert_eq!(hint(&event("start", "c1")).at, Some(7));
    assert_eq!(hint(&json!({"new": 1})), lb_core::engine::Hint { at: None, event: None });
}

#[test]
fn an_image_has_an_id_and_its_registries_digests() {
    let digest = |n: u8| format!("sha256:{}", format!("{n:02x}").repeat(32));
    let image = |id: &str| {
        json!({
            "Id": id, "Digest": digest(9), "RepoTags": null,
            "RepoDigests": [
                format!("127.0.0.1:5000/cart@{}", digest(9)), format!("localhost/cart@{}", digest(8)), "broken", 7,
            ],
        })
    };
    for id in [digest(1), digest(1)[7..].to_owned()] {
        let seen = seen_image(&image(&id)).unwrap();
        assert_eq!(seen.id.as_str(), digest(1));
        assert_eq!(seen.digests, [("127.0.0.1:5000/cart".to_owned(), digest(9).parse().unwrap())]);
        assert_eq!(seen.single.unwrap().as_str(), digest(9));
    }
    assert_eq!(seen_image(&image("strange")).unwrap_err().kind(), ErrorKind::Unexpected);
}

#[test]
fn an_image_means_the_same_as_on_docker() {
    let path = |image: &str, which: &str| pull_path(&image.parse().unwrap(), which);
    let reference = |path: String| path.rsplit_once("reference=").unwrap().1.to_owned();
    assert!(path("cart", "1").starts_with("/libpod/images/pull?policy=always&"));
    assert_eq!(reference(path("cart", "1")), "docker.io%2Flibrary%2Fcart%3A1");
    assert_eq!(reference(path("team/cart", "1")), "docker.io%2Fteam%2Fcart%3A1");
    assert_eq!(reference(path("r.example.org/cart", "1")), "r.example.org%2Fcart%3A1");
    let digest = format!("sha256:{}", "ab".repeat(32));
    let wanted = format!("r.example.org%2Fcart%40{}", digest.replace(':', "%3A"));
    assert_eq!(reference(path("r.example.org/cart", &digest)), wanted);
}

#[test]
fn a_pull_line_is_a_step_or_a_refusal() {
    let hoping = pull_line(&json!({"stream": "Trying to pull r/x:1...\n"})).unwrap();
    assert!(!hoping.answered);
    let blob = format!("sha256:{}", "ab".repeat(32));
    let copying = pull_line(&json!({ "stream": format!("Copying blob {blob}\n") })).unwrap();
    assert!(copying.answered);
    assert_eq!((copying.step.what.as_str(), copying.step.item), ("Copying blob", blob));
    let failure = pull_line(&json!({"error": "reading manifest: manifest unknown"})).unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::NotFound);
}

#[test]
fn a_login_is_url_safe() {
    let auth = RegistryAuth { username: "u".into(), password: Secret::new("?>~?>~?>~ÿÿÿ") };
    let login = login(&auth);
    assert!(login.contains(['-', '_']) && !login.contains(['+', '/']), "{login}");
}

#[test]
fn times_are_written_with_all_nine_digits() {
    assert_eq!(unix_time(1_700_000_000_000_000_001), "1700000000.000000001");
}
