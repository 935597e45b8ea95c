//! Apps and their parts.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::SBoxedStrategy;

use super::host::labels;
use super::name::{
    absolute_path, app_name, env_name, image_ref, policy_name, port_name, signal, text, user_name,
    volume_name,
};
use super::port::port;
use super::{count, millis, written};
use crate::model::{
    Access, App, AppSpec, ByteSize, Canary, Count, Cpu, Day, Exposure, MAX_INSTANCES, MIN_MEMORY,
    Percent, Placement, Port, PortName, RegistryAuth, Replicas, Resources, Rollout, Scaling,
    ScheduledFloor, Secret, Stop, Volume, VolumeSource,
};

/// An app, valid in all its parts: one to four ports, everything else by default or not. Its certificates
/// are such in form only.
pub fn app() -> SBoxedStrategy<App> {
    let ports = btree_map(port_name(), port(), 1..=4);
    let counts = (replicas(), option::of(scaling()), rollout(), placement());
    ((app_name(), image_ref()), process(), resources(), ports, counts)
        .prop_map(|((name, image), process, resources, ports, counts)| {
            let mut spec = AppSpec { resources, ..AppSpec::new(name, image) };
            process.put_into(&mut spec);
            spec.ports = reconciled(ports);
            (spec.replicas, spec.scaling, spec.rollout, spec.placement) = counts;
            let most = if spec.replicas.is_fixed() { MAX_INSTANCES } else { spec.replicas.max };
            if let Some(scaling) = &mut spec.scaling {
                scaling.memory = scaling.memory.filter(|_| resources.memory.is_some());
                scaling.schedule.iter_mut().for_each(|floor| floor.min = floor.min.min(most));
            }
            App::new(spec).unwrap_or_else(|e| unreachable!("valid by construction: {e}"))
        })
        .sboxed()
}

/// Gives each port another number inside, and takes back what two ports claim of the outside.
fn reconciled(mut ports: BTreeMap<PortName, Port>) -> BTreeMap<PortName, Port> {
    let (mut inside, mut claims) = (Vec::new(), Vec::new());
    for port in ports.values_mut() {
        while inside.contains(&port.container) {
            port.container = port.container.checked_add(1).unwrap_or(NonZeroU16::MIN);
        }
        inside.push(port.container);
        if port.claims().any(|claim| claims.iter().any(|c| claim.clashes(c))) {
            port.outside = None;
        }
        claims.extend(port.claims());
    }
    ports
}

/// What an instance's process gets.
#[derive(Debug, Clone)]
struct Process {
    registry: Option<RegistryAuth>,
    command: Option<Vec<String>>,
    args: Option<Vec<String>>,
    user: Option<crate::model::UserName>,
    env: BTreeMap<crate::model::EnvName, String>,
    secrets: BTreeMap<crate::model::EnvName, Secret>,
    volumes: Vec<Volume>,
    stop: Stop,
}

impl Process {
    /// A variable is plain or secret, and each place is mounted once.
    fn put_into(self, spec: &mut AppSpec) {
        let Self { registry, command, args, user, env, mut secrets, mut volumes, stop } = self;
        secrets.retain(|name, _| !env.contains_key(name));
        let mut places = BTreeSet::new();
        volumes.retain(|v| places.insert(v.target.parts().collect::<Vec<_>>().join("/")));
        (spec.registry, spec.command, spec.args, spec.user) = (registry, command, args, user);
        (spec.env, spec.secrets, spec.volumes, spec.stop) = (env, secrets, volumes, stop);
    }
}

fn process() -> SBoxedStrategy<Process> {
    let program = (written::<String>(&["a", "[!-~]{1,20}"]), vec(text(), 0..3));
    let command = program.prop_map(|(program, rest)| [vec![program], rest].concat());
    let secret = text().prop_map(Secret::new);
    (
        (option::weighted(0.2, registry_auth()), option::of(command)),
        (option::of(vec(text(), 0..3)), option::of(user_name())),
        (btree_map(env_name(), text(), 0..4), btree_map(env_name(), secret, 0..3)),
        (vec(volume(), 0..3), stop()),
    )
        .prop_map(|((registry, command), (args, user), (env, secrets), (volumes, stop))| Process {
            registry,
            command,
            args,
            user,
            env,
            secrets,
            volumes,
            stop,
        })
        .sboxed()
}

/// Logins at a registry.
pub fn registry_auth() -> SBoxedStrategy<RegistryAuth> {
    (written::<String>(&["[a-c]", "[ -~]{1,60}"]), text())
        .prop_map(|(username, password)| RegistryAuth { username, password: Secret::new(password) })
        .sboxed()
}

/// Directories and volumes in an instance.
pub fn volume() -> SBoxedStrategy<Volume> {
    let source = prop_oneof![
        volume_name().prop_map(VolumeSource::Name),
        absolute_path().prop_map(VolumeSource::Path),
    ];
    let access = prop_oneof![Just(Access::ReadWrite), Just(Access::ReadOnly)];
    (source, absolute_path(), access)
        .prop_map(|(source, target, access)| Volume { source, target, access })
        .sboxed()
}

/// How an instance is ended: the default, then any.
pub fn stop() -> SBoxedStrategy<Stop> {
    let any = (option::of(signal()), millis(0..=3_600_000), millis(0..=86_400_000))
        .prop_map(|(signal, grace, drain)| Stop { signal, grace, drain });
    prop_oneof![Just(Stop::default()), any].sboxed()
}

/// Limits of an instance, or capacity of a host: none, then any.
pub fn resources() -> SBoxedStrategy<Resources> {
    let cpu = (10..=1_024_000_u32).prop_map(Cpu::from_millis);
    let memory = (MIN_MEMORY.get()..=1 << 44).prop_map(ByteSize::new);
    (option::of(cpu), option::of(memory))
        .prop_map(|(cpu, memory)| Resources { cpu, memory })
        .sboxed()
}

/// Bounds of the instance count.
pub fn replicas() -> SBoxedStrategy<Replicas> {
    prop_oneof![
        (0..4_u32, 0..4_u32),
        (0..=MAX_INSTANCES).prop_flat_map(|min| (Just(min), 0..=MAX_INSTANCES - min)),
    ]
    .prop_map(|(min, more)| Replicas { min, max: min + more })
    .sboxed()
}

/// What moves the count. A target for memory needs [`Resources::memory`]; [`app`] sees to that.
pub fn scaling() -> SBoxedStrategy<Scaling> {
    let share = || option::of(percent(1..=100));
    (
        (share(), share(), option::of(count(u32::MAX)), option::of(count(u32::MAX))),
        (option::of(policy_name()), vec(floor(), 0..3), option::of(count(MAX_INSTANCES))),
        option::of(millis(0..=86_400_000)),
    )
        .prop_map(
            |(
                (cpu, memory, requests, concurrency),
                (policy, schedule, largest_step),
                scale_in_after,
            )| Scaling {
                cpu,
                memory,
                requests,
                concurrency,
                policy,
                schedule,
                largest_step,
                scale_in_after,
            },
        )
        .sboxed()
}

fn floor() -> SBoxedStrategy<ScheduledFloor> {
    let days = [Day::Monday, Day::Tuesday, Day::Wednesday, Day::Thursday, Day::Friday]
        .into_iter()
        .chain([Day::Saturday, Day::Sunday])
        .collect::<Vec<_>>();
    let zone = prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York"]);
    let minutes = 24 * 60;
    let window = (0..minutes, 1..minutes).prop_map(move |(from, long)| {
        let at = |minute: i32| jiff::civil::time((minute / 60) as i8, (minute % 60) as i8, 0, 0);
        (at(from), at((from + long) % minutes))
    });
    (btree_set(prop::sample::select(days), 0..4), window, zone, 0..100_u32)
        .prop_map(|(days, (from, until), zone, min)| ScheduledFloor {
            days,
            from,
            until,
            time_zone: zone.to_owned(),
            min,
        })
        .sboxed()
}

/// How a revision replaces another: the default, then any.
pub fn rollout() -> SBoxedStrategy<Rollout> {
    let share = prop_oneof![
        (0..5_u32).prop_map(Count::Exactly),
        percent(0..=100).prop_map(Count::Share),
        any::<u32>().prop_map(Count::Exactly),
    ]
    .sboxed();
    let canary = (percent(1..=99), count(MAX_INSTANCES))
        .prop_map(|(weight, instances)| Canary { weight, instances });
    let any =
        (option::of(share.clone()), option::of(share), millis(0..=3_600_000), option::of(canary))
            .prop_map(|(surge, max_unavailable, ready_within, canary)| {
                let none = |count: Option<Count>| count.is_some_and(|c| c.of_rounded_up(100) == 0);
                let stuck = none(surge) && none(max_unavailable);
                let max_surge = if stuck { Some(Count::Exactly(1)) } else { surge };
                Rollout { max_surge, max_unavailable, ready_within, canary }
            });
    prop_oneof![Just(Rollout::default()), any].sboxed()
}

/// Which hosts run an app, and where its listeners are.
pub fn placement() -> SBoxedStrategy<Placement> {
    let exposure = prop_oneof![
        Just(Exposure::RunningHosts),
        Just(Exposure::EveryHost),
        labels().prop_map(Exposure::Labelled),
    ];
    (labels(), exposure).prop_map(|(labels, exposure)| Placement { labels, exposure }).sboxed()
}

fn percent(range: std::ops::RangeInclusive<u8>) -> SBoxedStrategy<Percent> {
    range
        .prop_map(|n| Percent::new(n).unwrap_or_else(|e| unreachable!("at most 100: {e}")))
        .sboxed()
}
