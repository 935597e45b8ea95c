//! The in-memory backends keep the contracts they are the reference of.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lb_core::*;

const SECOND: Duration = Duration::from_secs(1);

fn host(id: &str) -> HostFacts {
    HostFacts::new(HostId::new(id).unwrap(), Ipv4Addr::new(192, 0, 2, 1))
}

fn image() -> ImageRef {
    ImageRef::new("registry.example.org/shop:1").unwrap()
}

fn network(name: &str, subnet: &str) -> NetworkSpec {
    let subnet: ipnet::Ipv4Net = subnet.parse().unwrap();
    NetworkSpec { name: NetworkName::new(name).unwrap(), subnet, engine_range: subnet }
}

fn name(text: &str) -> ContainerName {
    ContainerName::new(text).unwrap()
}

fn spec(text: &str, last: u8) -> ContainerSpec {
    let mut spec = ContainerSpec::new(name(text), Role::Instance, image());
    spec.network = Attachment::Network {
        name: NetworkName::new("lb").unwrap(),
        address: Ipv4Addr::new(10, 210, 0, last),
    };
    spec
}

async fn engine() -> MemoryRuntime {
    let runtime = MemoryRuntime::new();
    runtime.ensure_image(&image(), None, &Quiet).await.unwrap();
    runtime.ensure_network(&network("lb", "10.210.0.0/24")).await.unwrap();
    runtime
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_unrenewed_and_a_renewal_is_no_change() {
    let registry = MemoryRegistry::new();
    let mut watch = registry.watch();
    assert!(watch.next().await.unwrap().unwrap().hosts.is_empty());
    registry.announce(&host("h1"), 10 * SECOND).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().hosts.len(), 1);

    tokio::time::sleep(9 * SECOND).await;
    registry.announce(&host("h1"), 10 * SECOND).await.unwrap();
    tokio::time::sleep(9 * SECOND).await;
    assert!(watch.next().now_or_never().is_none(), "a renewal is no change");
    tokio::time::sleep(2 * SECOND).await;
    let set = watch.next().now_or_never().unwrap().unwrap().unwrap();
    assert!(set.hosts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_failed_tells_the_whole_set_again() {
    let registry = MemoryRegistry::new();
    registry.announce(&host("h1"), 10 * SECOND).await.unwrap();
    let mut watch = registry.watch();
    assert!(watch.next().await.unwrap().is_ok());
    registry.fail(ErrorKind::Unavailable);
    assert_eq!(kind(watch.next().await.unwrap()), ErrorKind::Unavailable);
    registry.heal();
    assert_eq!(watch.next().await.unwrap().unwrap().hosts.len(), 1);
    registry.withdraw(&host("h1").id).await.unwrap();
    registry.withdraw(&host("h1").id).await.unwrap();
    assert!(watch.next().await.unwrap().unwrap().hosts.is_empty());
    assert_eq!(kind(registry.announce(&host("h1"), Duration::ZERO).await), ErrorKind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn what_others_hold_is_refused_and_an_ended_container_holds_nothing() {
    let runtime = engine().await;
    for reserved in [0, 1, 255] {
        assert_eq!(kind(runtime.run(&spec("c.shop", reserved)).await), ErrorKind::Invalid);
    }
    runtime.hold_port(20_000);
    let mut bound = spec("c.shop", 16);
    bound.publish.push(Publish {
        address: Ipv4Addr::LOCALHOST.into(),
        host: 20_000,
        container: 80,
    });
    assert_eq!(kind(runtime.run(&bound).await), ErrorKind::Conflict);
    runtime.hold_subnet("10.211.0.0/16".parse().unwrap());
    let overlapping = network("lb2", "10.211.3.0/24");
    assert_eq!(kind(runtime.ensure_network(&overlapping).await), ErrorKind::Conflict);

    runtime.run(&spec("c.shop", 16)).await.unwrap();
    runtime.kill(&name("c.shop")).unwrap();
    runtime.run(&spec("c.other", 16)).await.expect("an exited container has lost its address");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_its_time_goes_on_without_its_caller() {
    let runtime = engine().await;
    runtime.faults().delay(Op::Run, 5 * SECOND);
    let spec = spec("c.shop", 16);
    let abandoned = tokio::time::timeout(SECOND, runtime.run(&spec)).await;
    assert!(abandoned.is_err());
    runtime.stop(&spec.name, SECOND).await.unwrap();
    assert_eq!(runtime.list().await.unwrap(), Vec::new(), "the stop waited behind the start");
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_the_behaviour_and_events_tell_of_it() {
    let runtime = engine().await;
    runtime.behave(Behaviour::ReadyAfter(3 * SECOND));
    let mut events = runtime.events();
    runtime.run(&spec("c.shop", 16)).await.unwrap();
    let ready = || async { runtime.list().await.unwrap()[0].readiness.clone() };
    assert_eq!(events.next().await.unwrap().unwrap(), RuntimeEvent::Started(name("c.shop")));
    assert!(matches!(ready().await, Readiness::NotReady(_)));
    assert_eq!(events.next().await.unwrap().unwrap(), RuntimeEvent::ReadyChanged(name("c.shop")));
    assert_eq!(ready().await, Readiness::Ready);

    runtime.set_ready(&name("c.shop"), Readiness::NotReady("told so".into()));
    assert_eq!(events.next().await.unwrap().unwrap(), RuntimeEvent::ReadyChanged(name("c.shop")));
    assert_eq!(ready().await, Readiness::NotReady("told so".into()));

    runtime.behave_as(&image(), Behaviour::ExitsAfter(SECOND));
    runtime.run(&spec("c.next", 17)).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap(), RuntimeEvent::Started(name("c.next")));
    assert_eq!(events.next().await.unwrap().unwrap(), RuntimeEvent::Exited(name("c.next")));
}

#[tokio::test(start_paused = true)]
async fn a_slow_listener_hears_resync() {
    let runtime = engine().await;
    let mut events = runtime.events();
    for _ in 0..=EVENTS_KEPT {
        runtime.emit(RuntimeEvent::Started(name("c.shop")));
    }
    assert_eq!(events.next().await.unwrap().unwrap(), RuntimeEvent::Resync);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_has_done_its_work() {
    let runtime = engine().await;
    runtime.faults().lose_next_answer(Op::Run);
    assert_eq!(kind(runtime.run(&spec("c.shop", 16)).await), ErrorKind::Timeout);
    assert_eq!(runtime.list().await.unwrap().len(), 1);
    runtime.faults().fail_next(Op::List, ErrorKind::Unavailable);
    assert_eq!(kind(runtime.list().await), ErrorKind::Unavailable);
    assert_eq!(runtime.list().await.unwrap().len(), 1);
    assert_eq!(runtime.faults().calls(Op::List), 3);
}

#[tokio::test(start_paused = true)]
async fn a_failure_lasts_until_it_is_cleared() {
    let runtime = engine().await;
    runtime.faults().fail(Op::List, ErrorKind::Unavailable);
    runtime.faults().fail_next(Op::List, ErrorKind::Timeout);
    assert_eq!(kind(runtime.list().await), ErrorKind::Timeout);
    for _ in 0..3 {
        assert_eq!(kind(runtime.list().await), ErrorKind::Unavailable);
    }
    assert!(runtime.usage().await.is_ok(), "another call goes well");
    runtime.faults().clear();
    assert!(runtime.list().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn usage_counts_on_the_paused_clock() {
    let runtime = engine().await;
    runtime.run(&spec("c.shop", 16)).await.unwrap();
    runtime.set_usage(&name("c.shop"), 0.5, ByteSize::mib(64));
    let before = runtime.usage().await.unwrap()[&name("c.shop")];
    tokio::time::sleep(10 * SECOND).await;
    let after = runtime.usage().await.unwrap()[&name("c.shop")];
    assert_eq!(after.cpu.checked_sub(before.cpu).unwrap(), 5 * SECOND);
    assert_eq!(after.at.duration_since(before.at).as_secs(), 10);
    assert_eq!(after.memory, ByteSize::mib(64));
}

fn table(servers: &[(&str, ServerState)], outside: u16) -> RoutingTable {
    let app = AppName::new("shop").unwrap();
    let backend_name = backend();
    let mut backend = Backend::new(app, Protocol::Tcp);
    for (i, (name, state)) in (1u8..).zip(servers) {
        let address = SocketAddr::from(([10, 210, 0, 15 + i], 80));
        let mut server = Server::new(NonZeroU32::new(u32::from(i)).unwrap(), address);
        server.state = *state;
        backend.servers.insert(ServerName::new(name).unwrap(), server);
    }
    let listener = Listener::Tcp { backend: backend_name.clone(), certificate: None };
    RoutingTable {
        host: None,
        listeners: BTreeMap::from([(outside, listener)]),
        backends: BTreeMap::from([(backend_name, Arc::new(backend))]),
    }
}

fn backend() -> BackendName {
    BackendName::new("shop.web").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_balancer_tells_how_a_table_came_in_force_and_cuts_what_left_it() {
    let balancer = MemoryBalancer::new();
    let two = [("a", ServerState::Active), ("b", ServerState::Active)];
    let change = |table| {
        let balancer = balancer.clone();
        async move { balancer.apply(&table).await.unwrap().change }
    };
    assert_eq!(change(table(&two, 80)).await, Change::Start);
    assert_eq!(change(table(&two, 80)).await, Change::None);
    let b = ServerName::new("b").unwrap();
    balancer.set_open(&backend(), &b, 3);
    let draining = [("a", ServerState::Active), ("b", ServerState::Draining)];
    assert_eq!(change(table(&draining, 80)).await, Change::Live);
    let traffic = balancer.traffic().await.unwrap();
    assert_eq!(traffic.backends[&backend()].servers[&b].open, 3, "draining keeps what is open");
    balancer.serve(&backend(), 10);
    let traffic = balancer.traffic().await.unwrap();
    assert_eq!(traffic.backends[&backend()].servers[&b].requests, 0, "draining gets nothing new");
    assert_eq!(change(table(&two[..1], 80)).await, Change::Live);
    assert_eq!(balancer.cut(), 3);
    assert_eq!(change(table(&two[..1], 81)).await, Change::Reload);
    assert_eq!(balancer.reloads(), 1);
    let listed = &balancer.files().await.unwrap()[&FileName::new("table.txt").unwrap()];
    assert!(listed.starts_with("listener 81\nbackend shop.web Tcp LeastConnections\n  a 10."));

    balancer.take_port(82);
    let applied = balancer.apply(&table(&two, 82)).await.unwrap();
    assert_eq!(applied.set_aside.keys().collect::<Vec<_>>(), [&SetAside::Listener(82)]);
    balancer.shutdown().await.unwrap();
    assert_eq!(balancer.traffic().await.unwrap(), Traffic::default());
}

#[tokio::test(start_paused = true)]
async fn of_tables_that_wait_the_latest_wins() {
    let balancer = MemoryBalancer::new();
    balancer.faults().delay(Op::Apply, SECOND);
    let tables = [80, 81, 82].map(|port| table(&[], port));
    let [a, b, c] = &tables;
    let all = futures_util::join!(balancer.apply(a), balancer.apply(b), balancer.apply(c));
    assert_eq!(all.2.unwrap().table, c.hash());
    assert_eq!(balancer.table().unwrap().hash(), c.hash());
    assert_eq!(balancer.reloads(), 0, "the ones between were never put in force");
}

fn app(name: &str, hosts: &[&str], outside: u16) -> App {
    let mut spec = AppSpec::new(AppName::new(name).unwrap(), image());
    let mut port = Port::http(NonZeroU16::new(8080).unwrap());
    port.outside = NonZeroU16::new(outside);
    port.hosts = hosts.iter().map(|h| DomainName::new(h).unwrap()).collect();
    spec.ports.insert(PortName::new("web").unwrap(), port);
    App::new(spec).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_claim_clash_is_refused_naming_the_owner() {
    let store = MemoryAppStore::new();
    let mut watch = store.watch();
    store.put(&app("shop", &["shop.example.org"], 80), AppChange::Deploy).await.unwrap();
    store.put(&app("blog", &["blog.example.org"], 80), AppChange::Deploy).await.unwrap();
    let error = store
        .put(&app("rival", &["x.org", "shop.example.org"], 80), AppChange::Deploy)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        error.to_string(),
        "put app \"rival\": port \"web\": shop.example.org/ on outside port 80 \
         is already claimed by app \"shop\""
    );
    store
        .put(&app("shop", &["shop.example.org"], 81), AppChange::Deploy)
        .await
        .expect("an app may move");
    store.put(&app("rival", &["shop.example.org"], 80), AppChange::Deploy).await.unwrap();
    store.remove(&AppName::new("blog").unwrap()).await.unwrap();
    let apps = watch.next().await.unwrap().unwrap();
    assert_eq!(apps.keys().map(AppName::as_str).collect::<Vec<_>>(), ["rival", "shop"]);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_of_a_lower_term_is_fenced() {
    let store = MemoryLedgerStore::new();
    assert_eq!(store.load().await.unwrap(), None);
    store.save(&Ledger::default(), Term(2)).await.unwrap();
    assert_eq!(kind(store.save(&Ledger::default(), Term(1)).await), ErrorKind::Fenced);
    store.save(&Ledger::default(), Term(2)).await.unwrap();
    assert_eq!(store.load().await.unwrap(), Some(Ledger::default()));
}

#[tokio::test(start_paused = true)]
async fn samples_are_bounded_and_oldest_first() {
    let store = MemoryLoadStore::new();
    let shop = AppName::new("shop").unwrap();
    let sample = |i: usize| LoadSample {
        at: Now::at_seconds(u32::try_from(i).unwrap()),
        over: SECOND,
        instances: 1,
        cpu: None,
        memory: None,
        requests: None,
        failures: None,
        concurrency: None,
        response_time: None,
    };
    for i in 0..SAMPLES_KEPT + 5 {
        store.append(&shop, &sample(i)).await.unwrap();
    }
    let all = store.recent(&shop, usize::MAX).await.unwrap();
    assert_eq!((all.len(), all[0].at), (SAMPLES_KEPT, Now::at_seconds(5)));
    let last = store.recent(&shop, 2).await.unwrap();
    assert_eq!(last, [sample(SAMPLES_KEPT + 3), sample(SAMPLES_KEPT + 4)]);
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_terms_only_rise() {
    let seat = MemoryLeadership::new();
    let (mut first, mut second) = (seat.campaign(), seat.clone().campaign());
    assert_eq!(first.next().await.unwrap().unwrap(), Standing::Leader(Term(1)));
    assert_eq!(second.next().await.unwrap().unwrap(), Standing::Follower);
    assert!(second.next().now_or_never().is_none());
    drop(first);
    assert_eq!(second.next().await.unwrap().unwrap(), Standing::Leader(Term(2)));
    seat.depose();
    assert_eq!(second.next().await.unwrap().unwrap(), Standing::Leader(Term(3)));
}

#[tokio::test(start_paused = true)]
async fn a_link_is_cut_mended_and_fenced() {
    let connector = MemoryConnector::new();
    let id = HostId::new("h1").unwrap();
    let early = connector.connect(&id, Term(1));
    assert_eq!(kind(early.runtime.list().await), ErrorKind::Unavailable);
    let runtime = engine().await;
    let handle = HostHandle {
        runtime: Arc::new(runtime.clone()),
        balancer: Arc::new(MemoryBalancer::new()),
    };
    connector.insert(id.clone(), handle);
    early.runtime.list().await.expect("a handle given early works once the host is there");

    let mut events = early.runtime.events();
    connector.cut(&id);
    assert_eq!(kind(early.balancer.traffic().await), ErrorKind::Unavailable);
    assert!(events.next().now_or_never().is_none());
    runtime.emit(RuntimeEvent::Started(name("c.shop")));
    connector.mend(&id);
    assert_eq!(events.next().await.unwrap().unwrap(), RuntimeEvent::Resync);

    let late = connector.connect(&id, Term(2));
    early.runtime.list().await.expect("no call of the next term has come through yet");
    late.runtime.list().await.unwrap();
    assert_eq!(kind(early.runtime.list().await), ErrorKind::Fenced);
    connector.remove(&id);
    assert_eq!(kind(late.runtime.list().await), ErrorKind::Unavailable);
}
