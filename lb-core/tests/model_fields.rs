//! Types that are built by their public fields, with values nobody should write: what is accepted can be planned,
//! written and read back; what is refused is refused with the field and the rule.
#![allow(clippy::unwrap_used, reason = "tests, and their helpers")]
#![allow(clippy::too_many_lines, reason = "lists of cases")]

mod plan_sim;

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use lb_core::conformance::strategies::{
    app, env_name, header_name, host_facts, label_key, label_value,
};
use lb_core::*;
use plan_sim::Sim;
use proptest::prelude::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn times() -> impl Strategy<Value = Duration> {
    let ns = Duration::from_nanos(1);
    prop::sample::select(vec![
        Duration::ZERO,
        ns,
        Duration::from_nanos(9_999_999),
        Duration::from_millis(10),
        Duration::new(1, 999_999_999),
        Duration::from_secs(3600) + ns,
        DAY,
        DAY + ns,
        Duration::from_secs(u64::MAX),
        Duration::MAX,
    ])
}

fn numbers() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![0, 1, 2, 99, 100, 9_999, 10_000, 10_001, i32::MAX as u32, u32::MAX])
}

fn sizes() -> impl Strategy<Value = ByteSize> {
    let sizes = [0, 1, (6 << 20) - 1, 6 << 20, 1 << 50, (1 << 50) + 1, i64::MAX as u64, u64::MAX];
    prop::sample::select(sizes.map(ByteSize::new).to_vec())
}

fn texts() -> impl Strategy<Value = String> {
    let texts = [
        "",
        "a",
        "a\0b",
        "a\nb",
        "\u{7f}\u{85}\u{202e}",
        "'\"\\${X}%",
        "UTC",
        "Europe/Berlin",
        "../../etc/passwd",
    ];
    let long = prop_oneof![Just("x".repeat(32 * 1024)), Just("x".repeat(32 * 1024 + 1))];
    prop_oneof![8 => prop::sample::select(texts.to_vec()).prop_map(str::to_owned), 1 => long]
}

fn counts() -> impl Strategy<Value = Option<Count>> {
    let share = (0..=100_u8).prop_map(|p| Count::Share(Percent::new(p).unwrap()));
    prop::option::of(prop_oneof![numbers().prop_map(Count::Exactly), share])
}

/// One field of an app, or a few that go together, set to something.
#[derive(Debug, Clone)]
enum Spoil {
    Replicas(u32, u32),
    Stop(Duration, Duration, Option<Signal>),
    Resources(Option<u32>, Option<ByteSize>),
    Rollout(Option<Count>, Option<Count>, Duration, Option<(u8, u32)>),
    Scaling(Box<Scaling>),
    Floor(String, u32, bool),
    Env(EnvName, String),
    Secret(EnvName, String),
    Many(usize),
    Command(Option<Vec<String>>, Option<Vec<String>>),
    Registry(String, String),
    Volume(&'static str),
    NoPorts,
    Port(u16, Option<u16>, bool, Option<Balance>),
    Limits(Option<u32>, Duration, Option<(u32, Duration)>, Option<ByteSize>, Option<Duration>),
    Timeouts([Duration; 6]),
    Health(Duration, Duration, u32, u32),
    Labels(LabelKey, LabelValue, bool),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    let words = || prop::option::of(prop::collection::vec(texts(), 0..3));
    let percent = || prop::option::of((0..=100_u8).prop_map(|p| Percent::new(p).unwrap()));
    let some = || prop::option::of(numbers().prop_map(|n| NonZeroU32::new(n.max(1)).unwrap()));
    let scaling = (percent(), percent(), some(), some(), some(), prop::option::of(times()));
    let scaling =
        scaling.prop_map(|(cpu, memory, requests, concurrency, largest_step, scale_in_after)| {
            let rest = Scaling::default();
            Scaling { cpu, memory, requests, concurrency, largest_step, scale_in_after, ..rest }
        });
    let targets = ["/", "//", "/./", "/data", "/data/", "//data", "/data/./", "/data/x"];
    let balance = prop_oneof![
        Just(Balance::UriHash),
        Just(Balance::RoundRobin),
        header_name().prop_map(Balance::HeaderHash)
    ];
    prop_oneof![
        (numbers(), numbers()).prop_map(|(a, b)| Spoil::Replicas(a, b)),
        (times(), times(), prop::option::of(Just("SIGRTMAX-1".parse().unwrap())))
            .prop_map(|(a, b, c)| Spoil::Stop(a, b, c)),
        (prop::option::of(numbers()), prop::option::of(sizes()))
            .prop_map(|(a, b)| Spoil::Resources(a, b)),
        (counts(), counts(), times(), prop::option::of((0..=100_u8, numbers())))
            .prop_map(|(a, b, c, d)| Spoil::Rollout(a, b, c, d)),
        scaling.prop_map(|s| Spoil::Scaling(Box::new(s))),
        (texts(), numbers(), any::<bool>()).prop_map(|(a, b, c)| Spoil::Floor(a, b, c)),
        (env_name(), texts()).prop_map(|(a, b)| Spoil::Env(a, b)),
        (env_name(), texts()).prop_map(|(a, b)| Spoil::Secret(a, b)),
        prop::sample::select(vec![512, 513]).prop_map(Spoil::Many),
        (words(), words()).prop_map(|(a, b)| Spoil::Command(a, b)),
        (texts(), texts()).prop_map(|(a, b)| Spoil::Registry(a, b)),
        prop::sample::select(targets.to_vec()).prop_map(Spoil::Volume),
        Just(Spoil::NoPorts),
        (1..=3_u16, prop::option::of(1..=3_u16), any::<bool>(), prop::option::of(balance))
            .prop_map(|(a, b, c, d)| Spoil::Port(a, b, c, d)),
        (
            prop::option::of(numbers()),
            times(),
            prop::option::of((numbers(), times())),
            prop::option::of(sizes()),
            prop::option::of(times())
        )
            .prop_map(|(a, b, c, d, e)| Spoil::Limits(a, b, c, d, e)),
        prop::array::uniform6(times()).prop_map(Spoil::Timeouts),
        (times(), times(), numbers(), numbers()).prop_map(|(a, b, c, d)| Spoil::Health(a, b, c, d)),
        (label_key(), label_value(), any::<bool>()).prop_map(|(a, b, c)| Spoil::Labels(a, b, c)),
    ]
}

fn some(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n.max(1)).unwrap()
}

impl Spoil {
    fn put_into(self, spec: &mut AppSpec) {
        let ports = spec.ports.values_mut();
        match self {
            Self::Replicas(min, max) => spec.replicas = Replicas { min, max },
            Self::Stop(grace, drain, signal) => spec.stop = Stop { signal, grace, drain },
            Self::Resources(cpu, memory) => {
                spec.resources = Resources { cpu: cpu.map(Cpu::from_millis), memory };
            }
            Self::Rollout(max_surge, max_unavailable, ready_within, canary) => {
                let canary = canary.map(|(weight, instances)| Canary {
                    weight: Percent::new(weight).unwrap(),
                    instances: some(instances),
                });
                spec.rollout = Rollout { max_surge, max_unavailable, ready_within, canary };
            }
            Self::Scaling(scaling) => spec.scaling = Some(*scaling),
            Self::Floor(time_zone, min, empty) => {
                let at = |hour| jiff::civil::time(hour, 0, 0, 1);
                let (from, until) = (at(8), at(if empty { 8 } else { 7 }));
                let floor = ScheduledFloor { days: [].into(), from, until, time_zone, min };
                spec.scaling.get_or_insert_default().schedule.push(floor);
            }
            Self::Env(name, value) => drop(spec.env.insert(name, value)),
            Self::Secret(name, value) => drop(spec.secrets.insert(name, Secret::new(value))),
            Self::Many(count) => {
                spec.env =
                    (0..count).map(|n| (format!("V{n}").parse().unwrap(), String::new())).collect();
                spec.placement.labels = (0..count)
                    .map(|n| (format!("l{n}").parse().unwrap(), "x".parse().unwrap()))
                    .collect();
            }
            Self::Command(command, args) => (spec.command, spec.args) = (command, args),
            Self::Registry(username, password) => {
                spec.registry = Some(RegistryAuth { username, password: Secret::new(password) });
            }
            Self::Volume(target) => spec.volumes.push(Volume {
                source: VolumeSource::Name("data".parse().unwrap()),
                target: target.parse().unwrap(),
                access: Access::ReadWrite,
            }),
            Self::NoPorts => spec.ports.clear(),
            Self::Port(container, outside, tcp, balance) => ports.for_each(|port| {
                port.container = NonZeroU16::new(container).unwrap();
                port.outside = outside.and_then(NonZeroU16::new);
                port.protocol = if tcp { Protocol::Tcp } else { Protocol::Http };
                port.balance = balance.clone().unwrap_or_default();
            }),
            Self::Limits(connections, queue, rate, body, slow_start) => ports.for_each(|port| {
                port.limits = PortLimits {
                    connections_per_instance: connections.map(some),
                    queue,
                    rate: rate
                        .map(|(requests, window)| RateLimit { requests: some(requests), window }),
                    body,
                    slow_start,
                };
            }),
            Self::Timeouts([connect, client, server, request, keep_alive, tunnel]) => ports
                .for_each(|port| {
                    port.timeouts =
                        Timeouts { connect, client, server, request, keep_alive, tunnel };
                }),
            Self::Health(interval, timeout, rise, fall) => ports.for_each(|port| {
                let (rise, fall) = (some(rise), some(fall));
                port.health = Health { interval, timeout, rise, fall, ..port.health.clone() };
            }),
            Self::Labels(key, value, exposed) => {
                let labels = [(key, value)].into();
                match exposed {
                    true => spec.placement.exposure = Exposure::Labelled(labels),
                    false => spec.placement.labels = labels,
                }
            }
        }
    }
}

fn spoiled() -> impl Strategy<Value = AppSpec> {
    (app(), prop::collection::vec(spoil(), 0..4)).prop_map(|(app, spoils)| {
        let mut spec = AppSpec::from(app);
        for spoil in spoils {
            spoil.put_into(&mut spec);
        }
        spec
    })
}

fn samples() -> impl Strategy<Value = Vec<LoadSample>> {
    let number = || {
        let numbers =
            vec![0.0, -1.0, 0.1 + 0.2, 1e300, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
        prop::option::of(prop::sample::select(numbers))
    };
    let sample =
        (number(), number(), number(), number(), number(), (0..=u32::MAX, number(), 0..100_u32));
    let sample = sample.prop_map(
        |(cpu, memory, requests, failures, concurrency, (instances, response_time, at))| {
            let (at, over) = (Now::at_seconds(at), Duration::from_secs(5));
            LoadSample {
                at,
                over,
                instances,
                cpu,
                memory,
                requests,
                failures,
                concurrency,
                response_time,
            }
        },
    );
    prop::collection::vec(sample, 0..4)
}

/// It must not panic, whatever becomes of the app.
fn plan_it(app: &App, load: &[LoadSample]) {
    let mut sim = Sim::new(2);
    let view = AppView::new(Arc::new(app.clone()), Generation(1));
    let policy = app.scaling.as_ref().and_then(from_scaling);
    sim.apps.insert(app.name.clone(), AppView { policy, load: load.into(), ..view });
    for _ in 0..4 {
        sim.pass();
        sim.now += Duration::from_secs(20);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn an_app_that_is_accepted_can_be_planned_written_and_read(spec in spoiled(), load in samples()) {
        match App::new(spec.clone()) {
            Ok(app) => {
                prop_assert_eq!(&App::from_json(&serde_json::to_string(&app).unwrap()).unwrap(), &app);
                let text = toml::to_string(&app).unwrap();
                prop_assert_eq!(&App::from_toml(&text).unwrap(), &app, "{}", text);
                // A count beyond what fits is planned in tests of its own.
                if app.replicas.max <= 100 {
                    plan_it(&app, &load);
                }
            }
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::Invalid);
                let (subject, app) = (error.subject(), format!("app \"{}\": ", spec.name));
                prop_assert!(subject.strip_prefix(&app).is_some_and(|field| !field.is_empty()), "{}", error);
                prop_assert!(error.message().contains("must") || error.message().contains("needs")
                    || error.message().contains("already"), "{}", error);
                prop_assert!(!error.to_string().contains(char::is_control), "{:?}", error.to_string());
            }
        }
    }

    #[test]
    fn what_was_measured_comes_back(load in samples()) {
        for sample in load {
            let back: LoadSample = serde_json::from_str(&serde_json::to_string(&sample).unwrap()).unwrap();
            let known = |n: Option<f64>| n.filter(|n| n.is_finite()).map(f64::to_bits);
            let all = |s: &LoadSample| {
                [s.cpu, s.memory, s.requests, s.failures, s.concurrency, s.response_time].map(known)
            };
            prop_assert_eq!((back.at, back.over, back.instances, all(&back)), (sample.at, sample.over, sample.instances, all(&sample)));
        }
    }

    #[test]
    fn every_number_comes_back_to_the_last_bit(bits in any::<u64>()) {
        let number = f64::from_bits(bits);
        prop_assume!(number.is_finite());
        let memory = PolicyMemory(number.into());
        let back: PolicyMemory = serde_json::from_str(&serde_json::to_string(&memory).unwrap()).unwrap();
        prop_assert_eq!(back.0.as_f64().unwrap().to_bits(), bits);
    }

    #[test]
    fn a_host_that_is_accepted_comes_back(facts in host_facts(), cpu in numbers(), memory in sizes(), ip in any::<[u8; 4]>()) {
        let capacity = Resources { cpu: Some(Cpu::from_millis(cpu)), memory: Some(memory) };
        let facts = HostFacts { address: std::net::IpAddr::from(ip), capacity, ..facts };
        match facts.check() {
            Ok(()) => {
                let json = serde_json::to_string(&facts).unwrap();
                prop_assert_eq!(serde_json::from_str::<HostFacts>(&json).unwrap(), facts.clone());
                prop_assert_eq!(toml::from_str::<HostFacts>(&toml::to_string(&facts).unwrap()).unwrap(), facts);
            }
            Err(error) => prop_assert!(error.to_string().contains("address"), "{}", error),
        }
    }

    #[test]
    fn a_cluster_that_is_accepted_can_be_planned_and_comes_back(
        range in any::<[u8; 4]>(), prefix in 0..=32_u8, subnet in prop_oneof![0..=33_u8, 24..=28_u8, any::<u8>()],
        ports in (any::<u16>(), any::<u16>()), address_rest in times(), routed in any::<bool>(),
        inside in any::<bool>(),
    ) {
        let mut cluster = ClusterSpec::new("demo".parse().unwrap());
        if !inside {
            cluster.range = ipnet::Ipv4Net::new(range.into(), prefix).unwrap();
        }
        (cluster.subnet_prefix, cluster.host_ports) = (subnet, ports.0..=ports.1);
        cluster.address_rest = address_rest;
        cluster.reach = if routed { Reach::Routed } else { Reach::HostPort };
        match cluster.check() {
            Ok(()) => {
                let json = serde_json::to_string(&cluster).unwrap();
                prop_assert_eq!(serde_json::from_str::<ClusterSpec>(&json).unwrap(), cluster.clone());
                let mut sim = Sim::new(2);
                sim.cluster = cluster;
                sim.deploy_toml("name = \"shop\"\nimage = \"shop:1\"\nreplicas = 2\nports.web = { container = 80, outside = 80 }");
                sim.run_for(Duration::from_secs(10));
            }
            Err(error) => {
                let text = error.to_string();
                prop_assert!(text.contains("cluster: ") && text.contains("must be"), "{}", text);
            }
        }
    }
}

/// `Replicas { min: 5, max: 2 }` was accepted, and no app of the cluster was planned any more.
#[test]
fn bounds_the_wrong_way_round_are_refused() {
    let spec = |replicas| {
        let mut spec = AppSpec::from(
            App::from_toml("name = \"shop\"\nimage = \"shop:1\"\nports.web = { container = 80 }")
                .unwrap(),
        );
        spec.replicas = replicas;
        App::new(spec).unwrap_err().to_string()
    };
    let text = spec(Replicas { min: 5, max: 2 });
    assert_eq!(
        text,
        "app \"shop\": replicas { min = 5, max = 2 }: min must not exceed max, and max not 10000"
    );
    let text = spec(Replicas::fixed(999_999));
    assert_eq!(text, "app \"shop\": replicas 999999: must be at most 10000");
}

#[tokio::test(start_paused = true)]
async fn settings_that_cannot_hold_are_refused_and_all_others_start() {
    let start = async |settings: LoopSettings| {
        let cluster = ClusterSpec::new("demo".parse().unwrap());
        let started = Orchestrator::builder(cluster).settings(settings).start().await;
        match started {
            Ok(platform) => {
                platform
                    .wait_for(|status| status.passes > 2, Duration::from_secs(72 * 3600))
                    .await
                    .unwrap();
                platform.shutdown().await;
                None
            }
            Err(error) => Some(error.to_string()),
        }
    };
    let all = |time: Duration| LoopSettings {
        resync: time,
        drain_poll: time,
        sample: time,
        lease: time,
        starts_per_host: 1,
        stops_per_host: 4096,
        shutdown: time,
        deadlines: Deadlines {
            list: time,
            traffic: time,
            usage: time,
            image: time,
            network: time,
            run: time,
            stop: time,
            apply: time,
            store: time,
        },
    };
    assert_eq!(start(all(Duration::from_millis(1))).await, None);
    assert_eq!(start(all(DAY)).await, None);
    for time in [Duration::ZERO, DAY + Duration::from_nanos(1), Duration::MAX] {
        let error = start(all(time)).await.unwrap();
        assert_eq!(error, "settings: resync: must be 1ms to 24h");
    }
    let ten = LoopSettings { starts_per_host: usize::MAX, ..LoopSettings::default() };
    assert_eq!(start(ten).await.unwrap(), "settings: starts_per_host: must be 1 to 4096");
    let late = Deadlines { run: Duration::MAX, ..Deadlines::default() };
    let late = LoopSettings { deadlines: late, ..LoopSettings::default() };
    assert_eq!(start(late).await.unwrap(), "settings: deadlines.run: must be 1ms to 24h");
}
