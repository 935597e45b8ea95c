//! The contract of `ContainerRuntime`, point by point, on a real engine.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use lb_core::{
    Access, Attachment, ByteSize, Capability, ContainerRuntime, ContainerSpec, ContainerState, Cpu,
    ErrorKind, Privileges, Publish, Readiness, Resources, Restart, Role, Secret, Volume,
    VolumeSource,
};
use serde_json::json;

use common::{Bed, PATIENCE, engine, eventually, foreign, on_bed, remove_foreign, runtime};

macro_rules! cases {
    ($($name:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "needs LB_TEST_DOCKER (testbed/up)"]
        async fn $name() {
            on_bed(|bed| Box::pin(cases::$name(&bed.runtime, bed))).await;
        }
    )*};
}

cases! {
    describe_names_the_engine
    a_container_runs_is_listed_and_stops
    one_made_but_never_started_is_started
    another_spec_or_an_exited_one_is_a_conflict
    what_is_not_ours_is_not_listed_nor_touched
    a_taken_address_is_a_conflict_and_leaves_nothing
    a_taken_port_is_a_conflict_and_leaves_nothing
    what_is_missing_is_named_and_leaves_nothing
    a_published_port_leads_in_at_its_address_only
    privileges_are_dropped
    a_read_only_root_has_its_writable_places
    settings_reach_the_process
    run_to_end_gives_code_and_output_and_removes
    run_to_end_kills_at_its_deadline
    output_keeps_its_end
    want_of_memory_is_told
    cpu_and_memory_are_limited
    stop_signals_then_kills
    dropping_a_call_abandons_the_wait_not_the_work
    calls_on_one_key_queue
    usage_counts_up
    logs_have_both_streams_and_a_tail
    an_always_restarted_container_comes_back
}

/// Plain functions of a runtime: what any backend owes.
mod cases {
    use super::*;

    pub(super) async fn describe_names_the_engine(runtime: &dyn ContainerRuntime, _: &Bed) {
        let info = runtime.describe().await.unwrap();
        assert_eq!(info.name, "docker");
        assert!(info.version.split('.').next().unwrap().parse::<u32>().unwrap() >= 20, "{info:?}");
        assert!(info.addresses && info.limits, "{info:?}");
    }

    pub(super) async fn a_container_runs_is_listed_and_stops(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        runtime.ensure_network(&bed.network).await.unwrap();
        let first = bed.at(
            10,
            ContainerSpec {
                labels: BTreeMap::from([("tier".parse().unwrap(), "web \"quoted\"".into())]),
                ..bed.sleeper("b")
            },
        );
        let second = ContainerSpec { role: Role::Checker, ..bed.sleeper("a") };
        let id = runtime.run(&first).await.unwrap();
        assert_eq!(runtime.run(&first).await.unwrap(), id, "running already is success");
        runtime.run(&second).await.unwrap();

        let listed = runtime.list().await.unwrap();
        let names: Vec<_> = listed.iter().map(|c| c.name.clone()).collect();
        assert_eq!(names, [bed.name("a"), bed.name("b")], "in order of name");
        assert_eq!((listed[0].role, listed[1].role), (Role::Checker, Role::Instance));
        assert_eq!((&listed[1].id, &listed[1].spec), (&id, &first.hash()));
        assert_eq!(
            (&listed[1].state, &listed[1].readiness),
            (&ContainerState::Running, &Readiness::Unknown)
        );
        assert_eq!(listed[1].labels[&"tier".parse().unwrap()], "web \"quoted\"");
        let (_, inspected) = engine("GET", &format!("/containers/{id}/json"), &json!(null)).await;
        assert!(
            inspected.contains(&format!("\"IPAddress\":\"{}\"", bed.address(10))),
            "its fixed address"
        );

        for name in ["a", "b", "a", "never"] {
            runtime.stop(&bed.name(name), Duration::ZERO).await.unwrap();
        }
        assert!(runtime.list().await.unwrap().is_empty());
    }

    pub(super) async fn one_made_but_never_started_is_started(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let spec = bed.sleeper("made");
        let labels =
            json!({"lb.cluster": bed.cluster, "lb.spec": spec.hash(), "lb.role": "instance"});
        foreign(spec.name.as_str(), &labels, &[]).await;
        assert_eq!(bed.listed("made").await.unwrap().state, ContainerState::Created);
        runtime.run(&spec).await.unwrap();
        assert_eq!(bed.listed("made").await.unwrap().state, ContainerState::Running);
    }

    pub(super) async fn another_spec_or_an_exited_one_is_a_conflict(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let spec = bed.sleeper("one");
        let id = runtime.run(&spec).await.unwrap();
        let other = ContainerSpec { restart: Restart::Always, ..spec.clone() };
        let error = runtime.run(&other).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(
            (error.operation(), error.subject()),
            ("run", &*format!("container {:?}", spec.name))
        );
        assert!(error.message().contains("another spec"), "{error}");
        assert_eq!(bed.listed("one").await.unwrap().id, id, "the first runs on");

        let short = bed.shell("short", "exit 3");
        runtime.run(&short).await.unwrap();
        eventually("it exits", async || {
            matches!(bed.listed("short").await.unwrap().state, ContainerState::Exited(_))
        })
        .await;
        let ContainerState::Exited(exit) = bed.listed("short").await.unwrap().state else {
            panic!()
        };
        assert_eq!((exit.code, exit.out_of_memory, exit.output.as_str()), (3, false, ""));
        let error = runtime.run(&short).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains("exited with code 3"), "{error}");
    }

    pub(super) async fn what_is_not_ours_is_not_listed_nor_touched(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let other = Bed::new();
        let (plain, theirs) = (bed.name("plain"), bed.name("theirs"));
        foreign(plain.as_str(), &json!({}), &["start"]).await;
        foreign(
            theirs.as_str(),
            &json!({"lb.cluster": other.cluster, "lb.spec": "x", "lb.role": "instance"}),
            &["start"],
        )
        .await;
        assert!(runtime.list().await.unwrap().is_empty());
        assert!(runtime.usage().await.unwrap().is_empty());
        for name in [&plain, &theirs] {
            let spec = ContainerSpec::new(name.clone(), Role::Instance, bed.busybox.clone());
            assert_eq!(runtime.run(&spec).await.unwrap_err().kind(), ErrorKind::Conflict);
            assert_eq!(
                runtime.run_to_end(&spec, PATIENCE).await.unwrap_err().kind(),
                ErrorKind::Conflict
            );
            let error = runtime.stop(name, Duration::ZERO).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
            assert_eq!(runtime.logs(name, 1).await.unwrap_err().kind(), ErrorKind::NotFound);
            let (status, answer) =
                engine("GET", &format!("/containers/{name}/json"), &json!(null)).await;
            assert!(status == 200 && answer.contains("\"Running\":true"), "{name} runs on");
        }
        assert_eq!(common::runtime(&other.cluster).list().await.unwrap().len(), 1);
        remove_foreign(plain.as_str()).await;
        remove_foreign(theirs.as_str()).await;
    }

    pub(super) async fn a_taken_address_is_a_conflict_and_leaves_nothing(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        runtime.ensure_network(&bed.network).await.unwrap();
        runtime.run(&bed.at(10, bed.sleeper("first"))).await.unwrap();
        let second = bed.at(10, bed.sleeper("second"));
        let error = runtime.run(&second).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(bed.listed("second").await.is_none(), "nothing half-made");
        runtime.stop(&bed.name("first"), Duration::ZERO).await.unwrap();
        runtime.run(&second).await.unwrap();
    }

    pub(super) async fn a_taken_port_is_a_conflict_and_leaves_nothing(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        runtime.ensure_network(&bed.network).await.unwrap();
        // A socket of this process keeps the port from the container.
        let held = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = held.local_addr().unwrap().port();
        let publish = |spec| ContainerSpec {
            publish: vec![Publish { address: [127, 0, 0, 1].into(), host: port, container: 80 }],
            ..spec
        };
        let first = publish(bed.at(10, bed.sleeper("first")));
        let error = runtime.run(&first).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(bed.listed("first").await.is_none(), "nothing half-made");
        drop(held);
        runtime.run(&first).await.unwrap();
        let error = runtime.run(&publish(bed.at(11, bed.sleeper("second")))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(bed.listed("second").await.is_none(), "nothing half-made");
    }

    pub(super) async fn what_is_missing_is_named_and_leaves_nothing(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let sleeper = || bed.sleeper("x");
        let path = |p: &str| p.parse().unwrap();
        let volume = Volume {
            source: VolumeSource::Path(path("/no/such/folder")),
            target: path("/data"),
            access: Access::ReadOnly,
        };
        let digest = format!("{}@sha256:{}", bed.busybox.repository(), "0".repeat(64));
        let cases = [
            (
                ContainerSpec { image: "no.such/image:1".parse().unwrap(), ..sleeper() },
                ErrorKind::NotFound,
                "no.such/image",
            ),
            (
                ContainerSpec { image: digest.parse().unwrap(), ..sleeper() },
                ErrorKind::NotFound,
                "sha256:000",
            ),
            (bed.at(10, sleeper()), ErrorKind::NotFound, bed.network.name.as_str()),
            (
                ContainerSpec { volumes: vec![volume], ..sleeper() },
                ErrorKind::Invalid,
                "/no/such/folder",
            ),
            (
                ContainerSpec { command: Some(vec!["/no/such/program".into()]), ..sleeper() },
                ErrorKind::Invalid,
                "/no/such/program",
            ),
            (
                ContainerSpec { user: Some("nobody-here".parse().unwrap()), ..sleeper() },
                ErrorKind::Invalid,
                "nobody-here",
            ),
            (
                ContainerSpec {
                    resources: Resources { cpu: None, memory: Some(ByteSize::new(4096)) },
                    ..sleeper()
                },
                ErrorKind::Invalid,
                "emory",
            ),
        ];
        for (spec, kind, word) in cases {
            let error = runtime.run(&spec).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains(word), "{word:?} in {error}");
            assert!(runtime.list().await.unwrap().is_empty(), "nothing half-made after {error}");
        }
    }

    pub(super) async fn a_published_port_leads_in_at_its_address_only(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        runtime.ensure_network(&bed.network).await.unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let serve = "while :; do echo hello | nc -l -p 80; done";
        let spec = ContainerSpec {
            publish: vec![Publish { address: [127, 0, 0, 3].into(), host: free, container: 80 }],
            stop_signal: "SIGKILL".parse().unwrap(),
            ..bed.at(10, bed.shell("web", serve))
        };
        runtime.run(&spec).await.unwrap();
        eventually("it answers", async || {
            let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.3", free)).await else {
                return false;
            };
            let mut text = String::new();
            let read = tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text);
            matches!(tokio::time::timeout(Duration::from_secs(2), read).await, Ok(Ok(_)))
                && text == "hello\n"
        })
        .await;
        let elsewhere = tokio::net::TcpStream::connect(("127.0.0.1", free)).await;
        assert!(elsewhere.is_err(), "bound to its address and no other");
    }

    pub(super) async fn privileges_are_dropped(runtime: &dyn ContainerRuntime, bed: &Bed) {
        let of = |set: Option<&[Capability]>| Privileges {
            capabilities: set.map(|s| s.iter().copied().collect::<BTreeSet<_>>()),
            read_only_root: false,
        };
        // Bits of capabilities(7): KILL 5, NET_BIND_SERVICE 10; the last is Docker's set without NET_RAW, 13.
        let cases = [
            (of(Some(&[])), "0000000000000000"),
            (of(Some(&[Capability::Kill, Capability::NetBindService])), "0000000000000420"),
            (of(None), "00000000a80405fb"),
        ];
        for (privileges, mask) in cases {
            let spec = ContainerSpec {
                privileges,
                ..bed.shell("caps", "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status")
            };
            let exit = runtime.run_to_end(&spec, PATIENCE).await.unwrap();
            let wanted = format!("CapEff:\t{mask}\nCapBnd:\t{mask}\nNoNewPrivs:\t1\n");
            assert_eq!(exit.output, wanted);
        }
    }

    pub(super) async fn a_read_only_root_has_its_writable_places(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let spec = ContainerSpec {
            privileges: Privileges { capabilities: Some(BTreeSet::new()), read_only_root: true },
            ..bed.shell(
                "ro",
                "echo 1 >/tmp/a && echo 2 >/run/b && cat /tmp/a /run/b; touch /c 2>/dev/null || echo refused",
            )
        };
        let exit = runtime.run_to_end(&spec, PATIENCE).await.unwrap();
        assert_eq!(exit.output, "1\n2\nrefused\n");
    }

    pub(super) async fn settings_reach_the_process(runtime: &dyn ContainerRuntime, bed: &Bed) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("f"), "from the host\n").unwrap();
        let path = |p: &str| p.parse().unwrap();
        let spec = ContainerSpec {
            args: Some(vec!["zero".into(), "one two".into()]),
            env: BTreeMap::from([("PLAIN".parse().unwrap(), "a=b \"c\" $d".into())]),
            secrets: BTreeMap::from([("HIDDEN".parse().unwrap(), Secret::new("s3cret"))]),
            user: Some("99:98".parse().unwrap()),
            hosts: BTreeMap::from([("db.internal".parse().unwrap(), [10, 9, 8, 7].into())]),
            volumes: vec![Volume {
                source: VolumeSource::Path(path(folder.path().to_str().unwrap())),
                target: path("/data"),
                access: Access::ReadOnly,
            }],
            network: Attachment::Host,
            ..bed.shell("set", "echo \"$1|$PLAIN|$HIDDEN\"; id -u; id -g; grep db.internal /etc/hosts; cat /data/f; touch /data/g 2>/dev/null || echo refused; ip -o link show eth0 >/dev/null && echo host network")
        };
        let exit = runtime.run_to_end(&spec, PATIENCE).await.unwrap();
        let wanted = "one two|a=b \"c\" $d|s3cret\n99\n98\n10.9.8.7\tdb.internal\nfrom the host\nrefused\nhost network\n";
        assert_eq!(exit.output, wanted);
    }

    pub(super) async fn run_to_end_gives_code_and_output_and_removes(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let spec = ContainerSpec {
            restart: Restart::Always, // a checker ends for good all the same
            ..bed.shell("check", "echo out; echo err >&2; exit 7")
        };
        for _ in 0..2 {
            let exit = runtime.run_to_end(&spec, PATIENCE).await.unwrap();
            assert_eq!((exit.code, exit.out_of_memory), (7, false));
            let lines: BTreeSet<_> = exit.output.lines().collect();
            assert_eq!(lines, BTreeSet::from(["err", "out"]));
            assert!(runtime.list().await.unwrap().is_empty());
        }
        let good = runtime.run_to_end(&bed.shell("check", "true"), PATIENCE).await.unwrap();
        assert_eq!((good.code, good.output.as_str()), (0, ""));
    }

    pub(super) async fn run_to_end_kills_at_its_deadline(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let started = Instant::now();
        let error =
            runtime.run_to_end(&bed.sleeper("long"), Duration::from_millis(700)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        assert!(runtime.list().await.unwrap().is_empty());
    }

    pub(super) async fn output_keeps_its_end(runtime: &dyn ContainerRuntime, bed: &Bed) {
        let spec = bed.shell("chatty", "seq 1 50000");
        let exit = runtime.run_to_end(&spec, PATIENCE).await.unwrap();
        assert!(
            exit.output.len() <= 64 * 1024 && exit.output.len() > 60 * 1024,
            "{}",
            exit.output.len()
        );
        assert!(exit.output.ends_with("49999\n50000\n"));
        let first: u32 = exit.output.lines().next().unwrap().parse().unwrap();
        assert_eq!(exit.output.lines().count() as u32, 50000 - first + 1, "whole lines");
    }

    pub(super) async fn want_of_memory_is_told(runtime: &dyn ContainerRuntime, bed: &Bed) {
        let spec = ContainerSpec {
            resources: Resources { cpu: None, memory: Some(ByteSize::mib(12)) },
            ..bed.shell("hungry", "a=0123456789abcdef; while :; do a=$a$a; done")
        };
        runtime.run(&spec).await.unwrap();
        eventually("it exits", async || {
            matches!(bed.listed("hungry").await.unwrap().state, ContainerState::Exited(_))
        })
        .await;
        let ContainerState::Exited(exit) = bed.listed("hungry").await.unwrap().state else {
            panic!()
        };
        assert_eq!((exit.code, exit.out_of_memory), (137, true));
        runtime.stop(&spec.name, Duration::ZERO).await.unwrap();
        let exit = runtime.run_to_end(&spec, PATIENCE).await.unwrap();
        assert_eq!((exit.code, exit.out_of_memory), (137, true));
    }

    pub(super) async fn cpu_and_memory_are_limited(runtime: &dyn ContainerRuntime, bed: &Bed) {
        let spec = ContainerSpec {
            resources: Resources {
                cpu: Some(Cpu::from_millis(150)),
                memory: Some(ByteSize::mib(32)),
            },
            ..bed.sleeper("small")
        };
        let id = runtime.run(&spec).await.unwrap();
        let (_, inspected) = engine("GET", &format!("/containers/{id}/json"), &json!(null)).await;
        for set in [
            "\"NanoCpus\":150000000",
            "\"Memory\":33554432",
            "\"MemorySwap\":33554432",
            "\"PidsLimit\":4096",
        ] {
            assert!(inspected.contains(set), "{set}");
        }
    }

    pub(super) async fn stop_signals_then_kills(runtime: &dyn ContainerRuntime, bed: &Bed) {
        let polite = ContainerSpec {
            stop_signal: "SIGUSR1".parse().unwrap(),
            ..bed.shell("polite", "trap 'exit 0' USR1; echo ready; while :; do sleep 0.05; done")
        };
        runtime.run(&polite).await.unwrap();
        eventually("its trap is set", async || {
            runtime.logs(&polite.name, 1).await.unwrap() == "ready\n"
        })
        .await;
        let started = Instant::now();
        runtime.stop(&polite.name, PATIENCE).await.unwrap();
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "asked by its signal: {:?}",
            started.elapsed()
        );

        let deaf = bed.shell("deaf", "trap '' TERM; while :; do sleep 1; done");
        runtime.run(&deaf).await.unwrap();
        let started = Instant::now();
        runtime.stop(&deaf.name, Duration::from_millis(1500)).await.unwrap();
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(1500) && took < Duration::from_secs(8), "{took:?}");
        assert!(runtime.list().await.unwrap().is_empty());
    }

    pub(super) async fn dropping_a_call_abandons_the_wait_not_the_work(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let spec = bed.sleeper("abandoned");
        let wait = tokio::time::timeout(Duration::from_millis(1), runtime.run(&spec)).await;
        assert!(wait.is_err(), "the wait was meant to be cut");
        // The next call on the key waits behind the abandoned one and finds its work done.
        let id = runtime.run(&spec).await.unwrap();
        assert_eq!(bed.listed("abandoned").await.unwrap().id, id);
        drop(
            tokio::time::timeout(
                Duration::from_millis(1),
                runtime.stop(&spec.name, Duration::ZERO),
            )
            .await,
        );
        eventually("the abandoned stop ends", async || bed.listed("abandoned").await.is_none())
            .await;
    }

    pub(super) async fn calls_on_one_key_queue(runtime: &dyn ContainerRuntime, bed: &Bed) {
        let spec = bed.sleeper("busy");
        let ids = futures_util::future::join_all((0..5).map(|_| runtime.run(&spec))).await;
        let ids: BTreeSet<_> = ids.into_iter().map(Result::unwrap).collect();
        assert_eq!(ids.len(), 1);
        // Two processes, two queues: the engine's own refusal makes it harmless.
        let other = super::runtime(&bed.cluster);
        let twice = bed.sleeper("twice");
        let (one, two) = tokio::join!(runtime.run(&twice), other.run(&twice));
        assert_eq!(one.unwrap(), two.unwrap());
        let name = bed.name("busy");
        let stops = (0..3).map(|n| {
            if n == 1 {
                other.stop(&name, Duration::ZERO)
            } else {
                runtime.stop(&name, Duration::ZERO)
            }
        });
        futures_util::future::join_all(stops).await.into_iter().for_each(Result::unwrap);
        assert!(bed.listed("busy").await.is_none());
    }

    pub(super) async fn usage_counts_up(runtime: &dyn ContainerRuntime, bed: &Bed) {
        runtime.run(&bed.shell("burns", "while :; do :; done")).await.unwrap();
        runtime.run(&bed.sleeper("sleeps")).await.unwrap();
        runtime.run(&bed.shell("ends", "true")).await.unwrap();
        let (burns, sleeps) = (bed.name("burns"), bed.name("sleeps"));
        let before = runtime.usage().await.unwrap();
        let after = runtime.usage().await.unwrap();
        assert!(!after.contains_key(&bed.name("ends")), "running ones only");
        let spent = |name| after[name].cpu.checked_sub(before[name].cpu).unwrap();
        let passed = after[&burns].at.duration_since(before[&burns].at);
        assert!(spent(&burns) > Duration::from_millis(100), "{:?}", spent(&burns));
        assert!(spent(&burns) <= passed.unsigned_abs().mul_f64(1.5), "one busy process");
        assert!(spent(&sleeps) < Duration::from_millis(100), "{:?}", spent(&sleeps));
        let memory = after[&sleeps].memory.get();
        assert!((10 << 10..64 << 20).contains(&memory), "{memory}");
        runtime.stop(&burns, Duration::ZERO).await.unwrap();
    }

    pub(super) async fn logs_have_both_streams_and_a_tail(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let spec = bed.shell("talks", "echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three");
        runtime.run(&spec).await.unwrap();
        eventually("it has said it all", async || {
            runtime.logs(&spec.name, 100).await.unwrap() == "one\ntwo\nthree\n"
        })
        .await;
        assert_eq!(runtime.logs(&spec.name, 2).await.unwrap(), "two\nthree\n");
        assert_eq!(runtime.logs(&spec.name, 0).await.unwrap(), "");
        let error = runtime.logs(&bed.name("nobody"), 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    pub(super) async fn an_always_restarted_container_comes_back(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let spec = ContainerSpec {
            restart: Restart::Always,
            ..bed.shell("phoenix", "echo up; sleep 0.3")
        };
        let id = runtime.run(&spec).await.unwrap();
        eventually("it has come back", async || {
            runtime.logs(&spec.name, 9).await.unwrap().lines().count() >= 2
        })
        .await;
        let there = bed.listed("phoenix").await.unwrap();
        assert_eq!((there.id, there.state), (id.clone(), ContainerState::Running));
        assert_eq!(runtime.run(&spec).await.unwrap(), id);
        runtime.stop(&spec.name, Duration::ZERO).await.unwrap();
        assert!(bed.listed("phoenix").await.is_none());
    }
}
