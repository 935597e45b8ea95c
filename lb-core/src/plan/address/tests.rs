//! The allocator against a model that only counts: a small range, driven to exhaustion and back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::super::pass;
use super::*;
use crate::ledger::{HostLedger, Ledger, Resting};
use crate::model::{ClusterId, HostFacts, HostId, InstanceId, Revision};
use crate::plan::{HostView, InstanceState, Observation, ObservedInstance, RegistryTrust, World};
use crate::runtime::{Readiness, SpecHash};
use crate::time::Now;

const HOSTS: usize = 5;
/// One fewer than hosts.
const SUBNETS: usize = 4;
/// Of 16 addresses the network's, the host's, and the engine's quarter are not given out.
const ADDRESSES: usize = 10;
const PORTS: RangeInclusive<u16> = 20_000..=20_008;
const REST: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
enum Step {
    /// In one pass, instances with so many outside ports each.
    Assign(usize, Vec<usize>),
    /// An instance of the host ends; what it had rests.
    Release(usize, prop::sample::Index),
    Wait(Duration),
    /// Every balancer obeys all that was decided.
    Acknowledge,
    /// The ledger of a host on which nothing rests is lost.
    Forget(usize),
}

#[derive(Debug, Clone, Default)]
struct HostModel {
    has_subnet: bool,
    /// Outside ports of each instance.
    used: Vec<usize>,
    resting: Vec<(Duration, u64, usize)>,
}

#[derive(Debug, Clone)]
struct Model {
    hosts: Vec<HostModel>,
    now: Duration,
    seq: u64,
    acknowledged: u64,
    /// What each of the last assignments must give.
    answers: Vec<Option<Full>>,
}

impl Model {
    fn new() -> Self {
        let hosts = vec![HostModel::default(); HOSTS];
        let now = Duration::from_secs(1000);
        Self { hosts, now, seq: 0, acknowledged: 0, answers: Vec::new() }
    }

    fn assign(&mut self, host: usize, ports: usize) -> Option<Full> {
        let subnets = self.hosts.iter().filter(|h| h.has_subnet).count();
        let host = &mut self.hosts[host];
        if !host.has_subnet && subnets == SUBNETS {
            return Some(Full::Subnets);
        }
        host.has_subnet = true;
        if host.used.len() + host.resting.len() == ADDRESSES {
            return Some(Full::Addresses);
        }
        let resting: usize = host.resting.iter().map(|(.., ports)| ports).sum();
        let taken = host.used.iter().sum::<usize>() + resting;
        if taken + ports > PORTS.len() {
            return Some(Full::Ports);
        }
        host.used.push(ports);
        None
    }

    fn end_rests(&mut self) {
        let (now, acknowledged) = (self.now, self.acknowledged);
        for host in &mut self.hosts {
            host.resting.retain(|(until, seq, _)| *until > now || *seq > acknowledged);
        }
    }
}

struct Allocator;

impl ReferenceStateMachine for Allocator {
    type State = Model;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Model> {
        Just(Model::new()).boxed()
    }

    fn transitions(_: &Model) -> BoxedStrategy<Step> {
        let ports = prop::collection::vec(0..3_usize, 1..4);
        prop_oneof![
            8 => (0..HOSTS, ports).prop_map(|(host, ports)| Step::Assign(host, ports)),
            4 => (0..HOSTS, any::<prop::sample::Index>()).prop_map(|(h, i)| Step::Release(h, i)),
            2 => (1..90_u64).prop_map(|s| Step::Wait(Duration::from_secs(s))),
            2 => Just(Step::Acknowledge),
            1 => (0..HOSTS).prop_map(Step::Forget),
        ]
        .boxed()
    }

    fn preconditions(model: &Model, step: &Step) -> bool {
        match step {
            Step::Release(host, _) => !model.hosts[*host].used.is_empty(),
            Step::Forget(host) => {
                let host = &model.hosts[*host];
                host.resting.is_empty() && !host.used.is_empty()
            }
            _ => true,
        }
    }

    fn apply(mut model: Model, step: &Step) -> Model {
        match step {
            Step::Assign(host, ports) => {
                model.end_rests();
                model.seq += 1;
                model.answers = ports.iter().map(|n| model.assign(*host, *n)).collect();
            }
            Step::Release(host, index) => {
                model.seq += 1;
                let (until, seq) = (model.now + REST, model.seq);
                let host = &mut model.hosts[*host];
                let ports = host.used.remove(index.index(host.used.len()));
                host.resting.push((until, seq, ports));
            }
            Step::Wait(time) => model.now += *time,
            Step::Acknowledge => model.acknowledged = model.seq,
            // The next pass finds its instances.
            Step::Forget(_) => {
                model.end_rests();
                model.seq += 1;
            }
        }
        model
    }
}

/// The allocator's own state, and what it gave out.
#[derive(Debug)]
struct Given {
    cluster: Arc<ClusterSpec>,
    ledger: Ledger,
    used: Vec<Vec<Arc<Assignment>>>,
    subnets: BTreeMap<usize, Ipv4Net>,
}

impl Given {
    fn world(&self) -> World {
        let hosts = self.used.iter().enumerate().map(|(host, used)| {
            let instances = used.iter().zip(0..).map(|(a, slot)| seen(slot, a.clone())).collect();
            let seen = Observation { instances, ..Observation::default() };
            let view = HostView {
                facts: Arc::new(HostFacts::new(id(host), Ipv4Addr::LOCALHOST)),
                seen: Some(Arc::new(seen)),
                fresh: true,
                reachable: true,
                on_their_way: Vec::new(),
                outcomes: Vec::new(),
            };
            (id(host), view)
        });
        World {
            cluster: self.cluster.clone(),
            apps: BTreeMap::new(),
            hosts: hosts.collect(),
            registry: RegistryTrust::Answers,
        }
    }

    /// One pass. Gives what each instance got.
    fn assign(&mut self, model: &Model, host: usize, ports: &[usize]) -> Vec<Option<Full>> {
        let world = self.world();
        let now = Now { wall: jiff::Timestamp::UNIX_EPOCH, monotonic: model.now };
        let (mut pass, _) = pass::open(&world, &self.ledger, now);
        pass.hosts.iter_mut().for_each(|h| h.ack = model.acknowledged);
        recover_subnets(&mut pass);
        end_rests(&mut pass);
        let mut answers = Vec::new();
        let mut made = Vec::new();
        for n in ports {
            match assign(&mut pass, host as u32, &app(*n)) {
                Ok(assignment) => {
                    assert_eq!(assignment.published.len(), *n);
                    made.push(assignment);
                    answers.push(None);
                }
                Err(full) => answers.push(Some(full)),
            }
        }
        let hosts: BTreeMap<HostId, Arc<HostLedger>> =
            pass.hosts.iter().map(|h| (h.id.clone(), h.ledger.clone())).collect();
        self.ledger.hosts = hosts;
        self.ledger.seq += 1;
        self.used[host].extend(made);
        answers
    }

    fn release(&mut self, model: &Model, host: usize, index: prop::sample::Index) {
        self.ledger.seq += 1;
        let used = &mut self.used[host];
        let gone = used.remove(index.index(used.len()));
        let ledger = self.ledger.hosts.get_mut(&id(host)).unwrap();
        Arc::make_mut(ledger).resting.push(Resting {
            address: gone.address,
            ports: gone.published.values().copied().collect(),
            until: model.now + REST,
            seq: self.ledger.seq,
        });
    }

    fn resting(&self, host: usize) -> &[Resting] {
        self.ledger.hosts.get(&id(host)).map_or(&[], |h| &h.resting)
    }
}

fn id(host: usize) -> HostId {
    HostId::new(format!("h{host}")).unwrap()
}

fn seen(slot: u32, assignment: Arc<Assignment>) -> ObservedInstance {
    let app = crate::model::AppName::new("a").unwrap();
    ObservedInstance {
        id: InstanceId { app, revision: Revision::from_hash(b"r"), slot, incarnation: 0 },
        assignment,
        image: Arc::new("a:1".parse().unwrap()),
        spec: SpecHash::from_label("s"),
        state: InstanceState::Running(Readiness::Ready),
    }
}

/// An app with so many outside ports.
fn app(ports: usize) -> App {
    let port = |n: usize| {
        let outside = if n < ports { format!("outside = {}", 80 + n) } else { String::new() };
        format!("[ports.p{n}]\ncontainer = {}\n{outside}\n", 8080 + n)
    };
    let ports: String = (0..=ports).map(port).collect();
    App::from_toml(&format!("name = \"a\"\nimage = \"a:1\"\n{ports}")).unwrap()
}

impl StateMachineTest for Allocator {
    type SystemUnderTest = Given;
    type Reference = Self;

    fn init_test(_: &Model) -> Given {
        let cluster = ClusterSpec {
            range: "10.210.0.0/26".parse().unwrap(),
            subnet_prefix: 28,
            host_ports: PORTS,
            ..ClusterSpec::new(ClusterId::new("c").unwrap())
        };
        Given {
            cluster: Arc::new(cluster),
            ledger: Ledger::default(),
            used: vec![Vec::new(); HOSTS],
            subnets: BTreeMap::new(),
        }
    }

    fn apply(mut given: Given, model: &Model, step: Step) -> Given {
        match step {
            Step::Assign(host, ports) => {
                let answers = given.assign(model, host, &ports);
                assert_eq!(answers, model.answers);
            }
            Step::Release(host, index) => given.release(model, host, index),
            Step::Forget(host) => {
                given.ledger.hosts.remove(&id(host));
                given.assign(model, host, &[]);
            }
            Step::Wait(_) | Step::Acknowledge => {}
        }
        given.note_subnets();
        given
    }

    /// Nothing is given out twice, nothing that rests, nothing that is the host's or the engine's.
    fn check_invariants(given: &Given, _: &Model) {
        let mut subnets: Vec<_> = given.subnets.values().collect();
        subnets.sort();
        subnets.dedup();
        assert_eq!(subnets.len(), given.subnets.len(), "a subnet twice");
        for (host, used) in given.used.iter().enumerate().filter(|(_, used)| !used.is_empty()) {
            let subnet = given.subnets[&host];
            let network = network(&given.cluster, subnet);
            let resting = given.resting(host);
            let used_addresses = used.iter().map(|a| a.address);
            let addresses: Vec<_> =
                used_addresses.chain(resting.iter().map(|r| r.address)).collect();
            let unique: BTreeSet<_> = addresses.iter().collect();
            assert_eq!(unique.len(), addresses.len(), "an address twice: {addresses:?}");
            for address in addresses {
                assert!(subnet.contains(&address) && address != subnet.network());
                assert!(address != gateway(subnet), "{address} is the host's");
                assert!(!network.engine_range.contains(&address), "{address} is the engine's");
            }
            let ports: Vec<_> = used
                .iter()
                .flat_map(|a| a.published.values())
                .chain(resting.iter().flat_map(|r| &r.ports))
                .collect();
            let unique: BTreeSet<_> = ports.iter().collect();
            assert_eq!(unique.len(), ports.len(), "a port twice: {ports:?}");
            assert!(ports.iter().all(|p| PORTS.contains(p)));
        }
    }
}

impl Given {
    /// A host keeps its subnet, also when its ledger was lost.
    fn note_subnets(&mut self) {
        for host in 0..HOSTS {
            let Some(subnet) = self.ledger.hosts.get(&id(host)).and_then(|h| h.subnet) else {
                continue;
            };
            assert_eq!(*self.subnets.entry(host).or_insert(subnet), subnet, "h{host} keeps it");
        }
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_free_is_given_out_and_nothing_else(sequential 1..80 => Allocator);
}

/// Once the app that could not be placed took the last port with it, each pass anew.
#[test]
fn an_instance_without_room_leaves_the_last_port_to_others() {
    let model = Model::new();
    let mut given = Allocator::init_test(&model);
    let answers = given.assign(&model, 0, &[2, 2, 2, 2, 2, 1]);
    assert_eq!(answers, [None, None, None, None, Some(Full::Ports), None]);
}
