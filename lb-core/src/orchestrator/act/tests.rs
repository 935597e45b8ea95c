//! What begins, what waits and what is left out.

use std::net::Ipv4Addr;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::error::ErrorKind;
use crate::host::HostHandle;
use crate::ledger::Ledger;
use crate::memory::{MemoryBalancer, MemoryLedgerStore, MemoryRuntime, Op};
use crate::model::{InstanceId, NetworkName, Revision};
use crate::orchestrator::keeper::{self, Keeper};
use crate::routing::RoutingTable;
use crate::runtime::{Attachment, NetworkSpec, Role};
use crate::store::Term;
use crate::time::SystemClock;

struct Rig {
    engine: MemoryRuntime,
    balancer: MemoryBalancer,
    ledger: MemoryLedgerStore,
    keeper: Keeper,
    hands: Hands,
    desk: Desk,
}

impl Rig {
    fn new() -> Self {
        let (engine, balancer) = (MemoryRuntime::new(), MemoryBalancer::new());
        let handle =
            HostHandle { runtime: Arc::new(engine.clone()), balancer: Arc::new(balancer.clone()) };
        let hands = Hands {
            cluster: "demo".parse().unwrap(),
            settings: Arc::default(),
            inbox: Arc::default(),
            events: Events::new(),
            time: Arc::new(Ticker::new(Arc::new(SystemClock::new()))),
            tasks: TaskTracker::new(),
        };
        let ledger = MemoryLedgerStore::new();
        let desk = keeper::Desk {
            store: Arc::new(ledger.clone()),
            term: Term(1),
            inbox: hands.inbox.clone(),
            events: hands.events.clone(),
            time: hands.time.clone(),
            deadline: hands.settings.deadlines.store,
        };
        let link = Link::new("h1".parse().unwrap(), handle, CancellationToken::new());
        let keeper = Keeper::start(desk, Arc::default());
        Self { engine, balancer, ledger, keeper, hands, desk: Desk::new(Arc::new(link)) }
    }

    fn dispatch(&mut self, actions: Vec<Action>) {
        self.desk.dispatch(actions, &self.hands, &self.keeper.remembered());
    }

    /// Waits until nothing is in flight, and hands the results over as the loop does.
    async fn finish(&mut self) -> Vec<Ended> {
        while !self.hands.tasks.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.collect()
    }

    fn collect(&mut self) -> Vec<Ended> {
        let news = self.hands.inbox.take();
        let ended: Vec<Ended> = news.hosts.into_values().flat_map(|h| h.ended).collect();
        for e in &ended {
            self.desk.ended(e);
        }
        ended
    }

    fn calls(&self, op: Op) -> u64 {
        self.engine.faults().calls(op)
    }
}

fn network() -> NetworkSpec {
    NetworkSpec {
        name: NetworkName::new("demo").unwrap(),
        subnet: "10.210.1.0/24".parse().unwrap(),
        engine_range: "10.210.1.240/28".parse().unwrap(),
    }
}

fn run(slot: u32) -> Action {
    let app = "shop".parse().unwrap();
    let id = InstanceId { app, revision: Revision::from_hash(&[1]), slot, incarnation: 0 };
    let name = id.container_name(&"demo".parse().unwrap());
    let mut spec = ContainerSpec::new(name, Role::Instance, "shop:1".parse().unwrap());
    let address = Ipv4Addr::new(10, 210, 1, 10 + slot as u8);
    spec.network = Attachment::Network { name: network().name, address };
    Action::Run { id, spec: Box::new(spec), auth: None }
}

fn stop(slot: u32) -> Action {
    let Action::Run { id, .. } = run(slot) else { unreachable!() };
    Action::Stop { id, grace: Duration::from_secs(1) }
}

#[tokio::test(start_paused = true)]
async fn a_run_waits_for_its_network_and_a_table_for_neither() {
    let mut rig = Rig::new();
    rig.engine.faults().delay(Op::EnsureNetwork, Duration::from_secs(10));
    let table = Action::Apply(Arc::new(RoutingTable::default()));
    rig.dispatch(vec![Action::EnsureNetwork(network()), run(0), table]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((rig.calls(Op::Run), rig.balancer.table().is_some()), (0, true));
    rig.dispatch(vec![run(1)]);
    let ended = rig.finish().await;
    assert!(ended.iter().all(|e| e.result.is_ok()), "{ended:?}");
    assert_eq!(rig.calls(Op::Run), 2, "a later run waits for the same network");
}

#[tokio::test(start_paused = true)]
async fn one_action_a_key_is_in_flight_and_a_success_is_not_repeated_before_it_is_seen() {
    let mut rig = Rig::new();
    rig.dispatch(vec![Action::EnsureNetwork(network())]);
    rig.finish().await;
    rig.engine.faults().delay(Op::Run, Duration::from_secs(1));
    rig.dispatch(vec![run(0), run(0)]);
    rig.dispatch(vec![run(0), stop(0)]);
    assert_eq!(rig.desk.in_flight(), 1, "neither twice nor against each other");
    let ended = rig.finish().await;
    assert_eq!(ended.len(), 1);

    rig.dispatch(vec![run(0)]);
    assert_eq!(rig.desk.in_flight(), 0, "done, and not yet seen");
    let before = ended[0].at.checked_sub(Duration::from_millis(1)).unwrap();
    rig.desk.observed(before);
    assert!(!rig.desk.shown_by(before));
    rig.dispatch(vec![run(0)]);
    assert_eq!(rig.desk.in_flight(), 0, "that observation began before");
    rig.dispatch(vec![stop(0)]);
    assert_eq!(rig.desk.in_flight(), 1, "another action on the key is no repetition");
    rig.finish().await;
    rig.desk.observed(rig.hands.time.now().monotonic);
    rig.dispatch(vec![run(0)]);
    assert_eq!(rig.desk.in_flight(), 1, "an observation shows that it has to be done again");
    rig.finish().await;
}

/// An app that was deployed while its host was cleared lost the network its first instances were in.
#[tokio::test(start_paused = true)]
async fn a_clear_and_what_makes_something_do_not_cross() {
    let mut rig = Rig::new();
    let clear = || Action::Clear(network().name);
    let make = || vec![Action::EnsureNetwork(network()), run(0)];
    rig.engine.faults().delay(Op::RemoveNetwork, Duration::from_secs(1));
    rig.dispatch(vec![clear()]);
    rig.dispatch(make());
    assert_eq!(rig.desk.in_flight(), 1, "what is made waits for the clear");
    assert_eq!(rig.finish().await[0].result, Ok(Done::Cleared));
    rig.dispatch(make());
    assert_eq!(rig.desk.in_flight(), 2);
    rig.dispatch(vec![clear()]);
    assert_eq!(rig.desk.in_flight(), 2, "and a clear for what is made");
    assert!(rig.finish().await.iter().all(|ended| ended.result.is_ok()));
}

#[tokio::test(start_paused = true)]
async fn a_failure_may_be_repeated_at_once() {
    let mut rig = Rig::new();
    rig.engine.faults().fail_next(Op::EnsureNetwork, ErrorKind::Unavailable);
    for want in [Err(ErrorKind::Unavailable), Ok(Done::Plain)] {
        rig.dispatch(vec![Action::EnsureNetwork(network())]);
        let ended = rig.finish().await;
        assert_eq!(ended[0].result.clone().map_err(|e| e.kind()), want);
    }
}

#[tokio::test(start_paused = true)]
async fn starts_and_stops_are_bounded_apart() {
    let mut rig = Rig::new();
    rig.dispatch(vec![Action::EnsureNetwork(network())]);
    rig.finish().await;
    for op in [Op::Run, Op::Stop] {
        rig.engine.faults().delay(op, Duration::from_secs(1));
    }
    let (starts, stops) = (rig.hands.settings.starts_per_host, rig.hands.settings.stops_per_host);
    rig.dispatch((0..100).map(run).collect());
    assert_eq!(rig.desk.in_flight(), starts);
    rig.dispatch((100..200).map(stop).collect());
    assert_eq!(rig.desk.in_flight(), starts + stops, "full starts do not hold stops up");
    assert_eq!(rig.finish().await.len(), starts + stops, "the rest is left to later passes");
}

#[tokio::test(start_paused = true)]
async fn a_hanging_backend_ends_at_the_deadline() {
    let mut rig = Rig::new();
    rig.engine.faults().delay(Op::EnsureNetwork, Duration::from_secs(3600));
    rig.dispatch(vec![Action::EnsureNetwork(network())]);
    let began = rig.hands.time.now();
    let ended = rig.finish().await;
    assert_eq!(ended[0].result.as_ref().unwrap_err().kind(), ErrorKind::Timeout);
    assert!(
        rig.hands.time.now().since(began.monotonic)
            <= rig.hands.settings.deadlines.network + Duration::from_secs(1)
    );
}

#[tokio::test(start_paused = true)]
async fn what_makes_or_leads_to_something_waits_for_the_ledger_but_not_for_one_that_fails() {
    let mut rig = Rig::new();
    rig.ledger.faults().delay(Op::Save, Duration::from_secs(2));
    let ledger = Ledger { seq: 1, ..Ledger::default() };
    rig.keeper.save(&ledger);
    rig.dispatch(vec![
        Action::EnsureNetwork(network()),
        Action::Apply(Arc::new(RoutingTable::default())),
    ]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.calls(Op::EnsureNetwork), 0, "not remembered yet");
    assert!(rig.balancer.table().is_none(), "a table nobody remembers would be a stranger's");
    rig.finish().await;
    assert_eq!(rig.calls(Op::EnsureNetwork), 1);
    assert!(rig.balancer.table().is_some());

    rig.ledger.faults().delay(Op::Save, Duration::ZERO);
    for _ in 0..100 {
        rig.ledger.faults().fail_next(Op::Save, ErrorKind::Unavailable);
    }
    let ledger = Ledger { seq: 2, ..ledger };
    rig.keeper.save(&ledger);
    rig.dispatch(vec![Action::Clear(network().name)]);
    rig.finish().await;
    assert_eq!(rig.calls(Op::RemoveNetwork), 1);
    assert!(rig.keeper.failure().is_some(), "and it is reported");
}
