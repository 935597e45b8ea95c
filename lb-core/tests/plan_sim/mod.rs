#![allow(dead_code, unreachable_pub)] // Each test file uses a part of it.

//! A cluster for the planner's tests: engines, balancers and readiness by their contracts, in memory, with
//! faults on request. It acts on plans as the loop does and checks the invariants after every pass.

mod story;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use lb_core::conformance::strategies::Failing;
use lb_core::*;

const A_DAY: Duration = Duration::from_secs(86_400);
/// So long after an action failed its failure can still be felt: the longest wait before it is tried again,
/// and as long again.
const FELT: Duration = Duration::from_secs(120);

/// The cluster and the planner's state.
#[derive(Debug)]
pub struct Sim {
    pub cluster: ClusterSpec,
    pub apps: BTreeMap<AppName, AppView>,
    pub hosts: BTreeMap<HostId, SimHost>,
    pub trust: RegistryTrust,
    pub ledger: Ledger,
    pub now: Duration,
    /// Time a container takes to become ready; absent: at once. By image tag.
    pub ready_after: BTreeMap<String, Option<Duration>>,
    /// What each digest question answers.
    pub pushed: u8,
    /// How often apps were deployed.
    pub deploys: u64,
    /// How the next actions fail, in their order; then all go well.
    pub faults: VecDeque<Option<Failing>>,
    pub last: Vec<Reason>,
    pub again: Option<Duration>,
    pub passes: u32,
    /// Whether every balancer that holds an address is known: no ledger and no host was lost.
    pub strict: bool,
    /// When each address was last served by any balancer.
    served: BTreeMap<Ipv4Addr, Duration>,
    /// When an action last failed.
    failed: Option<Duration>,
}

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a state of its own")]
pub struct SimHost {
    pub facts: HostFacts,
    pub registered: bool,
    pub reachable: bool,
    pub balancer: Manner,
    pub containers: BTreeMap<InstanceId, SimContainer>,
    pub networks: BTreeMap<NetworkName, NetworkSpec>,
    pub table: Option<Arc<RoutingTable>>,
    /// Whether the balancer was ended: until it is given a table again it answers nobody.
    ended: bool,
    pub open: BTreeMap<ServerName, u64>,
    pub seen: Option<Arc<Observation>>,
    /// What a slow balancer is applying.
    pub under_way: Option<Arc<RoutingTable>>,
    pub outcomes: Vec<Outcome>,
    pub applies: u32,
    /// Ports somebody else listens on.
    pub taken: BTreeSet<u16>,
    set_aside: BTreeMap<SetAside, String>,
    inherited: bool,
    acted: Duration,
    /// Whether nobody has asked the containers yet: the prober has just begun.
    pub unasked: bool,
}

/// How a balancer behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Sound,
    /// It does not answer.
    Silent,
    /// It says that it applies tables, and does not.
    Deceitful,
    /// It applies a table until it is told to [`land`](Sim::land) it, and takes no other meanwhile.
    Slow,
}

#[derive(Debug, Clone)]
pub struct SimContainer {
    pub container: Container,
    pub spec: ContainerSpec,
    pub started: Duration,
    /// It runs and answers nobody.
    pub hangs: bool,
}

impl Sim {
    pub fn new(hosts: u8) -> Self {
        let mut sim = Self {
            cluster: ClusterSpec::new(ClusterId::new("t").unwrap()),
            apps: BTreeMap::new(),
            hosts: BTreeMap::new(),
            trust: RegistryTrust::Answers,
            ledger: Ledger::default(),
            now: Duration::from_secs(1000),
            ready_after: BTreeMap::new(),
            deploys: 0,
            pushed: 1,
            faults: VecDeque::new(),
            last: Vec::new(),
            again: None,
            passes: 0,
            strict: true,
            served: BTreeMap::new(),
            failed: None,
        };
        (1..=hosts).for_each(|n| sim.add_host(n));
        sim
    }

    pub fn add_host(&mut self, n: u8) {
        let id = HostId::new(format!("h{n}")).unwrap();
        let facts = HostFacts::new(id.clone(), Ipv4Addr::new(192, 0, 2, n));
        let host = SimHost {
            facts,
            registered: true,
            reachable: true,
            balancer: Manner::Sound,
            containers: BTreeMap::new(),
            networks: BTreeMap::new(),
            table: None,
            ended: false,
            open: BTreeMap::new(),
            seen: None,
            under_way: None,
            outcomes: Vec::new(),
            applies: 0,
            taken: BTreeSet::new(),
            set_aside: BTreeMap::new(),
            inherited: false,
            acted: Duration::ZERO,
            unasked: false,
        };
        self.hosts.insert(id, host);
    }

    pub fn deploy_toml(&mut self, toml: &str) {
        self.deploy(App::from_toml(toml).unwrap());
    }

    pub fn deploy(&mut self, app: App) {
        let app = Arc::new(app);
        let old = self.apps.remove(&app.name);
        self.deploys += 1;
        let new = AppView::new(app.clone(), Generation(self.deploys));
        let view = match old {
            Some(AppView { policy, load, .. }) => AppView { policy, load, asked_here: true, ..new },
            None => AppView { asked_here: true, ..new },
        };
        self.apps.insert(app.name.clone(), view);
    }

    pub fn host(&mut self, n: u8) -> &mut SimHost {
        self.hosts.get_mut(&HostId::new(format!("h{n}")).unwrap()).unwrap()
    }

    /// All containers.
    pub fn containers(&self) -> impl Iterator<Item = &SimContainer> {
        self.hosts.values().flat_map(|h| h.containers.values())
    }

    pub fn running(&self) -> usize {
        self.containers().filter(|c| c.container.state == ContainerState::Running).count()
    }

    /// Ready containers made from an image of this tag.
    pub fn ready_with_tag(&self, tag: &str) -> usize {
        let is = |c: &&SimContainer| c.spec.image.tag() == Some(tag) && self.is_ready(c);
        self.containers().filter(is).count()
    }

    pub fn kill(&mut self, id: &InstanceId) {
        for host in self.hosts.values_mut() {
            if let Some(c) = host.containers.get_mut(id) {
                let exit = Exit { code: 137, out_of_memory: false, output: String::new() };
                c.container.state = ContainerState::Exited(exit);
                c.container.readiness = Readiness::Unknown;
            }
        }
    }

    pub fn is_ready(&self, c: &SimContainer) -> bool {
        let tag = c.spec.image.tag().unwrap_or_default();
        let after = self.ready_after.get(tag).copied().unwrap_or(Some(Duration::ZERO));
        c.container.state == ContainerState::Running
            && !c.hangs
            && after.is_some_and(|after| self.now >= c.started + after)
    }

    fn observe(&mut self) {
        let now = self.now;
        let ready: BTreeSet<ContainerName> = self
            .containers()
            .filter(|c| self.is_ready(c))
            .map(|c| c.container.name.clone())
            .collect();
        for host in self.hosts.values_mut().filter(|h| h.reachable) {
            let instances = host.containers.values_mut().filter_map(|c| {
                if c.container.state == ContainerState::Running {
                    c.container.readiness = match ready.contains(&c.container.name) {
                        _ if host.unasked => Readiness::Unknown,
                        true => Readiness::Ready,
                        false => Readiness::NotReady("refused".into()),
                    };
                }
                ObservedInstance::from_container(&self.cluster.id, &c.container)
            });
            let mut instances: Vec<_> = instances.collect();
            host.unasked = false;
            instances.sort_by(|a, b| a.id.cmp(&b.id));
            let table = host.table.as_ref().map(|t| t.hash());
            let balancer = ObservedBalancer {
                table,
                open: host.open.clone(),
                set_aside: host.set_aside.clone(),
                inherited: host.inherited,
            };
            let answers = host.balancer != Manner::Silent && !host.ended;
            let balancer = answers.then_some(balancer);
            host.seen = Some(Arc::new(Observation { began: now, instances, balancer }));
        }
    }

    pub fn world(&mut self) -> World {
        let hosts = self.hosts.iter_mut().filter(|(_, h)| h.registered).map(|(id, h)| {
            let fresh = h.seen.as_ref().is_some_and(|s| s.began > h.acted);
            let view = HostView {
                facts: Arc::new(h.facts.clone()),
                seen: h.seen.clone(),
                fresh,
                reachable: h.reachable,
                on_their_way: h.under_way.iter().map(|t| t.hash()).collect(),
                outcomes: std::mem::take(&mut h.outcomes),
            };
            (id.clone(), view)
        });
        World {
            cluster: Arc::new(self.cluster.clone()),
            apps: self.apps.clone(),
            hosts: hosts.collect(),
            registry: self.trust.clone(),
        }
    }

    fn now(&self) -> Now {
        Now { wall: jiff::Timestamp::UNIX_EPOCH + self.now, monotonic: self.now }
    }

    /// One pass: observe, plan, act. Gives the actions.
    pub fn pass(&mut self) -> BTreeMap<HostId, Vec<Action>> {
        self.now += Duration::from_millis(50);
        self.observe();
        let world = self.world();
        let plan = lb_core::plan(&world, &self.ledger, self.now());
        self.check_pure(&world, &plan);
        self.check_sleep(&world, &plan);
        self.check_plan(&plan);
        self.last = plan.reasons;
        self.again = plan.again;
        self.ledger = plan.ledger;
        self.passes += 1;
        self.now += Duration::from_millis(50);
        for (id, actions) in &plan.actions {
            for action in actions {
                self.act(id, action);
            }
        }
        plan.actions
    }

    /// Passes until nothing is to do, jumping to the time the plan asks for where only time is missing.
    pub fn settle(&mut self) {
        self.settle_with(|_| ());
    }

    /// As [`settle`](Self::settle), with a check after each pass.
    pub fn settle_with(&mut self, check: impl Fn(&Self)) {
        for _ in 0..2000 {
            let seq = self.ledger.seq;
            let actions = self.pass();
            check(self);
            if !actions.is_empty() || seq != self.ledger.seq {
                continue;
            }
            match self.again {
                Some(again) => self.now = self.now.max(again),
                None => return,
            }
        }
        panic!(
            "no end of planning: {:#?}\n{}",
            self.last,
            serde_json::to_string_pretty(&self.ledger).unwrap()
        );
    }

    /// As [`settle`](Self::settle), for some time.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.pass();
            self.now += Duration::from_millis(400);
        }
    }

    /// Waits until `done`, at most so many seconds of the cluster's time.
    pub fn until(&mut self, seconds: u64, what: &str, done: impl Fn(&Self) -> bool) {
        let end = self.now + Duration::from_secs(seconds);
        while !done(self) {
            assert!(
                self.now < end,
                "never: {what}: {:#?}\n{}",
                self.last,
                serde_json::to_string_pretty(&self.ledger).unwrap()
            );
            self.pass();
            self.now += Duration::from_millis(200);
        }
    }

    fn act(&mut self, id: &HostId, action: &Action) {
        let fault = self.faults.pop_front().flatten();
        if let Some(Failing::Late(delay)) = fault {
            self.now += delay;
        }
        let (now, pushed) = (self.now, self.pushed);
        let others = if self.strict { self.addresses_of_others(id) } else { BTreeSet::new() };
        let host = self.hosts.get_mut(id).unwrap();
        assert!(host.registered && host.reachable, "an action on {id}, which is out of reach");
        if let (Manner::Slow, Action::Apply(table)) = (host.balancer, action) {
            host.under_way.get_or_insert_with(|| table.clone());
            return;
        }
        host.acted = now;
        let result = match fault {
            Some(Failing::Undone(kind)) => Err(kind),
            Some(Failing::AnswerLost) => {
                drop(host.act(action, pushed, &others, now));
                Err(ErrorKind::Timeout)
            }
            Some(Failing::Late(_)) | None => host.act(action, pushed, &others, now),
        };
        let result = result.map_err(|kind| Error::new(kind, "act", id.as_str(), "as injected"));
        if result.is_err() {
            self.failed = Some(now);
        }
        host.outcomes.push(Outcome {
            at: now,
            action: action.key(),
            table: action.table(),
            result,
        });
        self.note_served();
    }

    /// A slow balancer ends what it is applying.
    pub fn land(&mut self, n: u8) {
        let (now, pushed) = (self.now, self.pushed);
        let host = self.host(n);
        let Some(table) = host.under_way.take() else { return };
        let action = Action::Apply(table);
        let result = host.act(&action, pushed, &BTreeSet::new(), now);
        let result = result.map_err(|kind| Error::new(kind, "act", "host", "as injected"));
        host.acted = now;
        host.outcomes.push(Outcome {
            at: now,
            action: action.key(),
            table: action.table(),
            result,
        });
        self.note_served();
    }

    /// Whether an action that failed may still be waited for.
    fn feels_faults(&self) -> bool {
        self.failed.is_some_and(|at| self.now < at + FELT)
    }

    fn addresses_of_others(&self, id: &HostId) -> BTreeSet<Ipv4Addr> {
        let others = self.hosts.iter().filter(|(other, _)| *other != id);
        others.flat_map(|(_, h)| h.containers.values()).map(SimContainer::address).collect()
    }

    fn note_served(&mut self) {
        for host in self.hosts.values().filter(|h| h.registered) {
            let tables = host.table.iter().flat_map(|t| t.backends.values());
            for server in tables.flat_map(|b| b.servers.values()) {
                if let IpAddr::V4(address) = server.address.ip() {
                    self.served.insert(address, self.now);
                }
            }
        }
    }

    /// Equal snapshots give equal plans, with and without what was derived before.
    fn check_pure(&self, world: &World, plan: &Plan) {
        let again = lb_core::plan(world, &self.ledger, self.now());
        assert_eq!(again.actions, plan.actions, "planned twice");
        let json = serde_json::to_string(&self.ledger).unwrap();
        let bare: Ledger = serde_json::from_str(&json).unwrap();
        let bare = lb_core::plan(world, &bare, self.now());
        assert_eq!(bare.actions, plan.actions, "planned from the saved ledger");
        assert_eq!(bare.reasons, plan.reasons);
        assert!(bare.ledger == plan.ledger, "{}", differing(&bare.ledger, &plan.ledger));
        assert_eq!((bare.again, &bare.watch), (plan.again, &plan.watch));
    }

    /// A plan that does nothing and waits for no host sleeps no longer than until something is due.
    fn check_sleep(&self, world: &World, plan: &Plan) {
        let at_once = plan.again.is_some_and(|again| again <= self.now);
        if at_once || !plan.actions.is_empty() || !plan.watch.is_empty() {
            return;
        }
        let mut world = world.clone();
        world.hosts.values_mut().for_each(|h| h.outcomes.clear());
        let again = plan.again.unwrap_or(self.now + A_DAY);
        let due = again.saturating_sub(Duration::from_millis(1)).max(self.now);
        let now = Now { wall: self.now().wall + due.saturating_sub(self.now), monotonic: due };
        let later = lb_core::plan(&world, &plan.ledger, now);
        assert!(
            later.actions.is_empty(),
            "asleep until {due:?} since {:?}, and these were due: {:#?}\n{:#?}",
            self.now,
            later.actions,
            plan.reasons,
        );
    }

    fn check_plan(&self, plan: &Plan) {
        for (id, actions) in &plan.actions {
            let host = &self.hosts[id];
            let mut keys = BTreeSet::new();
            for action in actions {
                assert!(keys.insert(action.key()), "two actions with key {:?}", action.key());
                match action {
                    Action::Apply(table) => self.check_table(id, table),
                    Action::Stop { id: instance, .. } => self.check_stop(host, instance),
                    Action::Clear(_) => {
                        assert!(host.containers.is_empty(), "cleared with instances");
                    }
                    Action::Run { id: instance, spec, .. } => {
                        self.check_run(host, instance, spec);
                    }
                    _ => {}
                }
            }
        }
    }

    fn check_table(&self, id: &HostId, table: &RoutingTable) {
        table.check().unwrap();
        assert_eq!(table.host.as_ref(), Some(id));
        let all: BTreeMap<_, _> = self.hosts.values().flat_map(|h| &h.containers).collect();
        let backends = table.backends.values();
        for (name, server) in backends.flat_map(|b| &b.servers) {
            if server.state != ServerState::Active {
                continue;
            }
            let container = ContainerName::new(name.as_str()).unwrap();
            let instance = InstanceId::from_container_name(&self.cluster.id, &container).unwrap();
            let host = &self.hosts[server.host.as_ref().unwrap()];
            if !host.reachable || !host.registered {
                continue;
            }
            let c = all
                .get(&instance)
                .unwrap_or_else(|| panic!("{instance} is routed and is not there"));
            assert_eq!(c.container.state, ContainerState::Running, "{instance} is routed and dead");
            let failing = self.last_says(What::Health);
            assert!(
                self.is_ready(c) || failing || self.serves_all(&instance.app),
                "{instance} is routed and not ready"
            );
            if server.host.as_ref() != Some(id) && self.cluster.reach == Reach::HostPort {
                assert!(server.published.is_some(), "{instance} cannot be reached from {id}");
            }
        }
    }

    /// Whether no instance of the app is ready, so that those that served are kept.
    fn serves_all(&self, app: &AppName) -> bool {
        let prefix = format!("{}.{app}.", self.cluster.id);
        let mut of_app =
            self.containers().filter(|c| c.container.name.as_str().starts_with(&prefix));
        !of_app.any(|c| self.is_ready(c))
    }

    pub fn last_says(&self, what: What) -> bool {
        self.last.iter().any(|r| r.what == what)
    }

    fn check_stop(&self, host: &SimHost, instance: &InstanceId) {
        let Some(c) = host.containers.get(instance) else { return };
        if c.container.state != ContainerState::Running {
            return;
        }
        let server = ServerName::from(&c.container.name);
        for other in self.hosts.values().filter(|h| h.registered && h.reachable) {
            let tables = other.table.iter().flat_map(|t| t.backends.values());
            let of_here = |b: &&Arc<Backend>| {
                b.servers.get(&server).is_some_and(|s| s.host.as_ref() == Some(&host.facts.id))
            };
            // A balancer that cannot be brought to obey is waited for up to a limit, which faults reach.
            assert!(
                self.feels_faults() || !tables.into_iter().any(|b| of_here(&b)),
                "{instance} is stopped while {} serves it",
                other.facts.id
            );
        }
    }

    fn check_run(&self, host: &SimHost, instance: &InstanceId, spec: &ContainerSpec) {
        let Attachment::Network { name, address } = &spec.network else { panic!("no network") };
        let network = &host.networks[name];
        assert!(network.subnet.contains(address), "{address} is outside {}", network.subnet);
        assert!(!network.engine_range.contains(address), "{address} is the engine's");
        assert!(u32::from(*address) > u32::from(network.subnet.network()) + 1, "the host's own");
        assert_eq!(spec.name, instance.container_name(&self.cluster.id));
        assert!(spec.image.digest().is_some(), "the image is not pinned");
        // A host whose lease and ledger were both lost may bring an address back that another has got.
        let all: Vec<_> = match self.strict {
            true => self.containers().collect(),
            false => host.containers.values().collect(),
        };
        for c in all.into_iter().filter(|c| c.container.name != spec.name) {
            assert_ne!(c.address(), *address, "{} has the address of {instance}", c.container.name);
        }
        let rest = self.cluster.address_rest;
        if !self.strict {
            return;
        }
        if let Some(at) =
            self.served.get(address).filter(|_| !host.containers.contains_key(instance))
        {
            assert!(self.now >= *at + rest, "{address} is used again too early for {instance}");
        }
    }

    /// Puts requests in flight to a container, at every balancer that leads to it.
    pub fn occupy(&mut self, n: usize) {
        let names: Vec<_> = self.containers().map(|c| c.container.name.clone()).collect();
        let Some(name) = names.get(n % names.len().max(1)) else { return };
        let server = ServerName::from(name);
        for host in self.hosts.values_mut() {
            let mut tables = host.table.iter().flat_map(|t| t.backends.values());
            if tables.any(|b| b.servers.contains_key(&server)) {
                host.open.insert(server.clone(), 1);
            }
        }
    }

    /// Ready instances that take traffic on this port, over the balancers: at least so many on each.
    pub fn served_at_least(&self, port: &str) -> u32 {
        let ready: BTreeSet<_> = self
            .containers()
            .filter(|c| self.is_ready(c))
            .map(|c| ServerName::from(&c.container.name))
            .collect();
        let tables = self.hosts.values().filter_map(|h| h.table.as_ref());
        let backends = tables
            .flat_map(|t| &t.backends)
            .filter(|(name, _)| name.as_str().ends_with(port))
            .map(|(_, b)| b);
        let active = |b: &Arc<Backend>| {
            let up = |(name, s): &(&ServerName, &Server)| {
                s.state == ServerState::Active && ready.contains(*name)
            };
            b.servers.iter().filter(up).count() as u32
        };
        backends.map(active).min().unwrap_or(0)
    }

    /// Instances that neither drain nor were left.
    pub fn live(&self) -> u32 {
        let instances = self.ledger.apps.values().flat_map(|a| &a.instances);
        instances.filter(|i| i.is_live()).count() as u32
    }

    /// What holds whenever nothing is left to do.
    pub fn check_settled(&self) {
        for (name, view) in &self.apps {
            let ledger = &self.ledger.apps[name];
            let wanted = ledger.wanted.unwrap();
            let limits = view.app.replicas;
            assert!((limits.min..=limits.max).contains(&wanted));
            let ids: BTreeSet<_> = self
                .hosts
                .values()
                .flat_map(|h| &h.containers)
                .filter(|(id, _)| id.app == *name)
                .collect::<BTreeMap<_, _>>()
                .into_keys()
                .collect();
            assert_eq!(ids.len() as u32, wanted, "{name}: {ids:?} {:#?}", self.last);
        }
        let addresses: BTreeSet<_> = self.containers().map(SimContainer::address).collect();
        assert_eq!(addresses.len(), self.containers().count(), "an address twice");
        for host in self.hosts.values().filter(|h| h.registered && h.reachable) {
            let wanted = self.ledger.hosts[&host.facts.id].tables.last().map(|t| t.hash);
            let in_force = host.table.as_ref().map(|t| t.hash());
            assert_eq!(wanted, in_force, "the table of {}", host.facts.id);
        }
        let forgotten = |name: &&AppName| !self.apps.contains_key(*name);
        let left: Vec<_> = self.ledger.apps.keys().filter(forgotten).collect();
        assert!(left.is_empty(), "remembered though nothing is left of them: {left:?}");
        let known = |id: &InstanceId| self.apps.contains_key(&id.app);
        for host in self.hosts.values() {
            assert!(host.containers.keys().all(known), "orphans: {:?}", host.containers.keys());
        }
    }
}

/// The first lines in which two ledgers differ.
fn differing(a: &Ledger, b: &Ledger) -> String {
    let [a, b] = [a, b].map(|l| serde_json::to_string_pretty(l).unwrap());
    let lines = a.lines().zip(b.lines()).filter(|(a, b)| a != b).take(10);
    lines.map(|(a, b)| format!("{a}  |  {b}")).collect::<Vec<_>>().join("\n")
}

impl SimContainer {
    pub fn address(&self) -> Ipv4Addr {
        match &self.spec.network {
            Attachment::Network { address, .. } => *address,
            _ => panic!("no network"),
        }
    }
}

impl SimHost {
    fn act(
        &mut self,
        action: &Action,
        pushed: u8,
        others: &BTreeSet<Ipv4Addr>,
        now: Duration,
    ) -> std::result::Result<Done, ErrorKind> {
        match action {
            Action::ResolveImage { image, .. } => {
                let tag = image.tag().unwrap_or("latest");
                let first = tag.bytes().fold(pushed, |n, b| n.wrapping_mul(31).wrapping_add(b));
                let digest = ImageDigest::new(format!("sha256:{first:064x}")).unwrap();
                return Ok(Done::Digest(digest));
            }
            Action::EnsureNetwork(spec) => {
                if self.networks.get(&spec.name).is_some_and(|n| n.subnet != spec.subnet) {
                    return Err(ErrorKind::Conflict);
                }
                self.networks.insert(spec.name.clone(), spec.clone());
            }
            Action::Run { id, spec, .. } => return self.run(id, spec, others, now),
            Action::Stop { id, .. } => {
                self.containers.remove(id);
            }
            Action::Apply(table) => {
                self.applies += 1;
                self.ended = false;
                if self.balancer != Manner::Deceitful {
                    self.table = Some(table.clone());
                }
                self.inherited = false;
                let aside = self.taken.iter().filter(|port| table.listeners.contains_key(port));
                let aside = aside.map(|port| (SetAside::Listener(*port), "it is taken".to_owned()));
                self.set_aside = aside.collect();
                let whole = self.set_aside.is_empty();
                return Ok(Done::Applied { table: table.hash(), whole });
            }
            Action::Clear(network) => {
                (self.table, self.inherited, self.ended) = (None, false, true);
                self.set_aside.clear();
                self.open.clear();
                self.networks.remove(network);
                return Ok(Done::Cleared);
            }
        }
        Ok(Done::Plain)
    }

    fn run(
        &mut self,
        id: &InstanceId,
        spec: &ContainerSpec,
        others: &BTreeSet<Ipv4Addr>,
        now: Duration,
    ) -> std::result::Result<Done, ErrorKind> {
        let Attachment::Network { name, address } = &spec.network else { panic!("no network") };
        if !self.networks.contains_key(name) {
            return Err(ErrorKind::NotFound);
        }
        if let Some(there) = self.containers.get(id) {
            let same = there.container.spec == spec.hash()
                && there.container.state == ContainerState::Running;
            return if same { Ok(Done::Plain) } else { Err(ErrorKind::Conflict) };
        }
        assert!(!others.contains(address), "{address} is on two hosts");
        let ports = self.containers.values().flat_map(|c| &c.spec.publish).map(|p| p.host);
        let ports: BTreeSet<u16> = ports.collect();
        assert!(spec.publish.iter().all(|p| !ports.contains(&p.host)), "a host port twice");
        let container = Container {
            name: spec.name.clone(),
            id: ContainerId(spec.name.to_string()),
            role: spec.role,
            spec: spec.hash(),
            labels: spec.labels.clone(),
            state: ContainerState::Running,
            readiness: Readiness::Unknown,
        };
        let made = SimContainer { container, spec: spec.clone(), started: now, hangs: false };
        self.containers.insert(id.clone(), made);
        Ok(Done::Plain)
    }
}
