//! The cost of a pass against hosts and instances, on one core.
//!
//! `cargo bench -p lb-benches --bench plan`. Names read `HOSTSxINSTANCES/what`:
//! - `world`: the World from fresh, unsorted container lists (labels parsed anew), without planning;
//! - `nothing`, `one_change`, `ten_percent`: a pass in which nothing, one instance or every tenth instance
//!   (each of another app) has just died;
//! - `world_and_nothing`: both, from lists to plan.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use lb_core::{
    Action, App, AppName, AppView, ClusterId, ClusterSpec, Container, ContainerId, ContainerState,
    Done, Exit, Generation, HostFacts, HostId, HostView, ImageDigest, InstanceId, InstanceState,
    Ledger, Now, Observation, ObservedBalancer, ObservedInstance, Outcome, Readiness,
    RegistryTrust, TableHash, World, plan,
};

/// Hosts, apps, and instances of each app.
#[derive(Clone, Copy)]
struct Size {
    hosts: u32,
    apps: u32,
    each: u32,
}

const SIZES: [Size; 3] = [
    Size { hosts: 1, apps: 1, each: 10 },
    Size { hosts: 100, apps: 100, each: 100 },
    Size { hosts: 1000, apps: 1000, each: 100 },
];

impl Size {
    fn name(self) -> String {
        format!("{}x{}", self.hosts, self.apps * self.each)
    }
}

/// A cluster at rest: what a pass over it plans is nothing.
struct Cluster {
    spec: Arc<ClusterSpec>,
    apps: BTreeMap<AppName, AppView>,
    facts: BTreeMap<HostId, Arc<HostFacts>>,
    containers: BTreeMap<HostId, BTreeMap<InstanceId, Container>>,
    tables: BTreeMap<HostId, TableHash>,
    ledger: Ledger,
    now: Duration,
}

impl Cluster {
    fn new(size: Size) -> Self {
        let mut spec = ClusterSpec::new(ClusterId::new("bench").unwrap());
        (spec.range, spec.subnet_prefix) = ("10.0.0.0/8".parse().unwrap(), 22);
        let hosts = (0..size.hosts).map(|n| {
            let id = HostId::new(format!("h{n:04}")).unwrap();
            let address = Ipv4Addr::from(0xC612_0000 + n);
            (id.clone(), Arc::new(HostFacts::new(id, address)))
        });
        let apps = (0..size.apps).map(|n| {
            let app = Arc::new(app(n, size.each));
            (app.name.clone(), AppView::new(app, Generation(1)))
        });
        Self {
            spec: Arc::new(spec),
            apps: apps.collect(),
            facts: hosts.collect(),
            containers: BTreeMap::new(),
            tables: BTreeMap::new(),
            ledger: Ledger::default(),
            now: Duration::from_secs(1000),
        }
    }

    /// Passes and acts until nothing is left to do.
    fn settled(size: Size) -> Self {
        let mut cluster = Self::new(size);
        let mut outcomes = BTreeMap::new();
        for _ in 0..20 {
            let mut world = cluster.world();
            for (id, list) in std::mem::take(&mut outcomes) {
                world.hosts.get_mut(&id).unwrap().outcomes = list;
            }
            let made = plan(&world, &cluster.ledger, cluster.at());
            cluster.now += Duration::from_secs(1);
            cluster.ledger = made.ledger;
            if made.actions.is_empty() {
                return cluster;
            }
            for (id, actions) in made.actions {
                let done = actions.iter().map(|a| cluster.act(&id, a)).collect::<Vec<_>>();
                outcomes.insert(id, done);
            }
        }
        panic!("no end of planning");
    }

    fn act(&mut self, host: &HostId, action: &Action) -> Outcome {
        let mut done = Done::Plain;
        match action {
            Action::ResolveImage { .. } => {
                done = Done::Digest(ImageDigest::new(format!("sha256:{:064x}", 1)).unwrap());
            }
            Action::Run { id, spec, .. } => {
                let container = Container {
                    name: spec.name.clone(),
                    id: ContainerId(spec.name.to_string()),
                    role: spec.role,
                    spec: spec.hash(),
                    labels: spec.labels.clone(),
                    state: ContainerState::Running,
                    readiness: Readiness::Ready,
                };
                self.containers.entry(host.clone()).or_default().insert(id.clone(), container);
            }
            Action::Apply(table) => drop(self.tables.insert(host.clone(), table.hash())),
            _ => {}
        }
        Outcome::of(action, self.now, Ok(done))
    }

    fn at(&self) -> Now {
        Now::at_seconds(self.now.as_secs() as u32)
    }

    /// What engines answer, in no useful order.
    fn lists(&self) -> Vec<Vec<Container>> {
        let none = BTreeMap::new();
        let of = |id| self.containers.get(id).unwrap_or(&none).values().rev().cloned().collect();
        self.facts.keys().map(of).collect()
    }

    fn world(&self) -> World {
        self.world_of(self.lists())
    }

    fn world_of(&self, lists: Vec<Vec<Container>>) -> World {
        let hosts = self.facts.iter().zip(lists).map(|((id, facts), list)| {
            let observed = |c| ObservedInstance::from_container(&self.spec.id, c);
            let mut instances: Vec<_> = list.iter().filter_map(observed).collect();
            instances.sort_unstable_by(|a, b| a.id.cmp(&b.id));
            let table = self.tables.get(id).copied();
            let balancer = Some(ObservedBalancer { table, ..ObservedBalancer::default() });
            let seen = Arc::new(Observation { began: self.now, instances, balancer });
            let view = HostView {
                facts: facts.clone(),
                seen: Some(seen),
                fresh: true,
                reachable: true,
                on_their_way: Vec::new(),
                outcomes: Vec::new(),
            };
            (id.clone(), view)
        });
        World {
            cluster: self.spec.clone(),
            apps: self.apps.clone(),
            hosts: hosts.collect(),
            registry: RegistryTrust::Answers,
        }
    }

    /// The world in which every `step`th instance, of `most` at most, has died.
    fn with_dead(&self, step: usize, most: usize) -> World {
        let mut world = self.world();
        let (mut n, mut dead) = (0, 0);
        for view in world.hosts.values_mut() {
            let mut seen = Observation::clone(view.seen.as_ref().unwrap());
            for instance in &mut seen.instances {
                n += 1;
                if n % step == 0 && dead < most {
                    dead += 1;
                    let exit = Exit { code: 137, out_of_memory: false, output: String::new() };
                    instance.state = InstanceState::Exited(exit);
                }
            }
            view.seen = Some(Arc::new(seen));
        }
        world
    }
}

fn app(n: u32, each: u32) -> App {
    let text = format!(
        r#"
        name = "app-{n}"
        image = "registry.example.org/team/app-{n}:1.0"
        replicas = {each}
        [env]
        MODE = "production"
        [ports.web]
        container = 8080
        outside = 80
        hosts = ["app-{n}.example.org"]
        "#
    );
    App::from_toml(&text).unwrap()
}

fn passes(criterion: &mut Criterion) {
    for size in SIZES {
        let cluster = Cluster::settled(size);
        let mut group = criterion.benchmark_group(size.name());
        // The memo of the pass before is part of the ledger the loop keeps.
        let pass = |world: &World| plan(black_box(world), &cluster.ledger, cluster.at());
        assert!(pass(&cluster.world()).actions.is_empty(), "nothing is to do");
        let worlds = [
            ("nothing", cluster.world()),
            ("one_change", cluster.with_dead(5, 1)),
            ("ten_percent", cluster.with_dead(10, usize::MAX)),
        ];
        for (what, world) in &worlds {
            group.bench_function(*what, |b| b.iter(|| pass(world)));
        }
        for (what, planned) in [("world", false), ("world_and_nothing", true)] {
            let build = |lists| {
                let world = cluster.world_of(lists);
                (planned.then(|| pass(&world)), world)
            };
            group.bench_function(what, |b| {
                b.iter_batched(|| cluster.lists(), build, BatchSize::LargeInput);
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4));
    targets = passes
}
criterion_main!(benches);
