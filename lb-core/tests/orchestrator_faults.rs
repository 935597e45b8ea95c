//! Faults and what must happen (faults.md), on in-memory backends in a paused clock.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests, on a paused clock")]

mod orchestrator_support;
#[path = "orchestrator_support/wrap.rs"]
mod wrap;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use lb_core::{
    Behaviour, ClusterSpec, ContainerRuntime, ContainerSpec, Decision, ErrorKind, Happened,
    HostHandle, HostRegistry, ImageDigest, InstanceId, LoadView, MemoryLeadership, MemoryLoadStore,
    Now, Op, Orchestrator, PolicyMemory, RegistryTrust, Replicas, Role, RuntimeEvent, ScalePolicy,
    Scaling, SetAside, Standing, Status, Term, What,
};
use orchestrator_support::{
    FOREVER, Host, PATIENCE, Rig, app, app_with, backend, host_id, name, settled,
};
use wrap::Odd;

fn digest(n: u8) -> ImageDigest {
    ImageDigest::new(format!("sha256:{}", format!("{n:02x}").repeat(32))).unwrap()
}

/// Replaces a host's engine by an odd one.
fn odd(rig: &Rig, n: u8) -> Arc<Odd> {
    let host = rig.host(n);
    let odd = Arc::new(Odd::new(host.engine.clone()));
    let handle = HostHandle { runtime: odd.clone(), balancer: host.handle().balancer };
    rig.connector.insert(host_id(n), handle);
    odd
}

#[tokio::test(start_paused = true)]
async fn f9_of_two_orchestrators_one_acts_and_the_other_takes_over() {
    let rig = Rig::new(1).await;
    let first = rig.start().await;
    first.wait_for(|s| s.standing == Standing::Leader(Term(1)), PATIENCE).await.unwrap();
    let second = rig.start().await;
    second.deploy(&app("shop", "shop:1", 2)).await.unwrap();
    first.wait_for(settled("shop", 2), PATIENCE).await.unwrap();
    assert_eq!(second.status().standing, Standing::Follower);
    assert_eq!(second.preview().await.unwrap_err().kind(), ErrorKind::Unavailable);
    let runs = rig.host(1).engine.faults().calls(Op::Run);
    first.shutdown().await;
    let status = second.wait_for(settled("shop", 2), PATIENCE).await.unwrap();
    assert_eq!(status.standing, Standing::Leader(Term(2)));
    assert_eq!(rig.host(1).engine.faults().calls(Op::Run), runs);
}

#[tokio::test(start_paused = true)]
async fn f9_a_leader_that_hears_of_a_higher_term_steps_down() {
    let rig = Rig::new(1).await;
    let old = rig.start().await;
    old.deploy(&app("shop", "shop:1", 1)).await.unwrap();
    old.wait_for(settled("shop", 1), PATIENCE).await.unwrap();
    let mut rig_of_new = rig.clone();
    rig_of_new.leadership = MemoryLeadership::after(Term(1000));
    let new = rig_of_new.start().await;
    new.wait_for(settled("shop", 1), PATIENCE).await.unwrap();
    old.wait_for(|s| s.standing == Standing::Follower, PATIENCE).await.unwrap();
    new.scale(&name("shop"), 3).await.unwrap();
    new.wait_for(settled("shop", 3), PATIENCE).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(settled("shop", 3)(&new.status()), "the old one does not disturb");
}

#[tokio::test(start_paused = true)]
async fn f11_a_death_nobody_reported_is_found_by_the_resync() {
    let rig = Rig::new(1).await;
    odd(&rig, 1).deaf.store(true, Ordering::SeqCst);
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 1)).await.unwrap();
    let status = platform.wait_for(settled("shop", 1), PATIENCE).await.unwrap();
    let victim = status.apps[&name("shop")].instances[0].id.clone();
    let died = tokio::time::Instant::now();
    rig.host(1).engine.kill(&victim.container_name(&rig.cluster.id)).unwrap();
    let gone = |s: &Status| {
        s.apps[&name("shop")].instances.iter().all(|i| i.id != victim || !i.is_ready())
    };
    platform.wait_for(gone, PATIENCE).await.unwrap();
    assert!(died.elapsed() <= Duration::from_secs(10), "{:?}", died.elapsed());
    platform.wait_for(settled("shop", 1), PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn f11_false_repeated_and_reordered_events_change_nothing() {
    let rig = Rig::new(1).await;
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 2)).await.unwrap();
    let status = platform.wait_for(settled("shop", 2), PATIENCE).await.unwrap();
    let containers = rig.containers().await;
    let engine = &rig.host(1).engine;
    let container = status.apps[&name("shop")].instances[0].id.container_name(&rig.cluster.id);
    for _ in 0..300 {
        engine.emit(RuntimeEvent::Removed(container.clone()));
        engine.emit(RuntimeEvent::Exited(container.clone()));
        engine.emit(RuntimeEvent::Started(container.clone()));
        engine.emit(RuntimeEvent::Resync);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(rig.containers().await, containers);
    assert!(settled("shop", 2)(&platform.status()));
}

#[tokio::test(start_paused = true)]
async fn f12_a_hanging_host_delays_no_other() {
    let rig = Rig::new(3).await;
    rig.host(2).engine.faults().delay(Op::Run, Duration::from_secs(50));
    rig.host(2).engine.faults().delay(Op::EnsureNetwork, Duration::from_secs(25));
    rig.host(3).engine.faults().delay(Op::List, Duration::from_secs(3600));
    let platform = rig.start().await;
    let began = tokio::time::Instant::now();
    platform.deploy(&app("shop", "shop:1", 6)).await.unwrap();
    let host = rig.host(1).clone();
    let two = |_: &Status| host.active(&backend(&name("shop"))).len() >= 2;
    platform.wait_for(two, PATIENCE).await.unwrap();
    // The first pass gives a silent host a second, new instances the planner's recovery time.
    assert!(began.elapsed() < Duration::from_secs(17), "{:?}", began.elapsed());
    let status = platform.status();
    assert!(!status.hosts[&host_id(3)].reachable);
    let victim =
        status.apps[&name("shop")].instances.iter().find(|i| i.host == host_id(1)).unwrap();
    let container = victim.id.container_name(&rig.cluster.id);
    let died = tokio::time::Instant::now();
    host.engine.kill(&container).unwrap();
    let left = |_: &Status| !host.active(&backend(&name("shop"))).contains(container.as_str());
    platform.wait_for(left, PATIENCE).await.unwrap();
    assert!(died.elapsed() < Duration::from_millis(100), "{:?}", died.elapsed());
}

#[tokio::test(start_paused = true)]
async fn f12_an_unreachable_host_is_asked_less_and_less_and_keeps_its_instances() {
    let rig = Rig::new(2).await;
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 4)).await.unwrap();
    platform.wait_for(settled("shop", 4), PATIENCE).await.unwrap();
    let containers = rig.containers().await;
    let odd = odd(&rig, 2);
    odd.panics.store(20, Ordering::SeqCst);
    let began = tokio::time::Instant::now();
    rig.connector.cut(&host_id(2));
    platform.wait_for(|s| !s.hosts[&host_id(2)].reachable, PATIENCE).await.unwrap();
    assert!(platform.status().hosts[&host_id(2)].error.is_some());
    tokio::time::sleep(Duration::from_secs(30)).await;
    rig.connector.mend(&host_id(2));
    platform.wait_for(|s| s.hosts[&host_id(2)].reachable, PATIENCE).await.unwrap();
    assert_eq!(odd.panics.load(Ordering::SeqCst), 0, "its panics are failures like others");
    assert!(began.elapsed() > Duration::from_secs(60), "20 failures back off");
    platform.wait_for(settled("shop", 4), PATIENCE).await.unwrap();
    assert_eq!(rig.containers().await, containers);
}

#[tokio::test(start_paused = true)]
async fn f13_a_ledger_that_cannot_be_saved_is_reported_and_nothing_stops() {
    let rig = Rig::new(1).await;
    rig.ledger.faults().fail(Op::Save, ErrorKind::Unavailable);
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 2)).await.unwrap();
    let told = |s: &Status| s.troubles.contains_key("ledger");
    platform.wait_for(|s| told(s) && settled("shop", 2)(s), PATIENCE).await.unwrap();
    // However long it failed, once there is room again it is saved at once: who is killed now has lost nothing.
    tokio::time::sleep(Duration::from_secs(600)).await;
    rig.ledger.faults().clear();
    let saves = rig.ledger.faults().calls(Op::Save);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(rig.ledger.faults().calls(Op::Save) > saves);
    let healed = |s: &Status| !told(s);
    platform.wait_for(healed, PATIENCE).await.unwrap();
    rig.ledger.faults().delay(Op::Save, Duration::from_secs(3600));
    platform.scale(&name("shop"), 3).await.unwrap();
    platform.wait_for(settled("shop", 3), PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn f14_a_corrupt_ledger_is_done_without_and_a_newer_one_is_refused() {
    let rig = Rig::new(1).await;
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 2)).await.unwrap();
    platform.wait_for(settled("shop", 2), PATIENCE).await.unwrap();
    platform.shutdown().await;
    let containers = rig.containers().await;

    rig.ledger.faults().fail_next(Op::Load, ErrorKind::Corrupt);
    let platform = rig.start().await;
    platform.wait_for(settled("shop", 2), PATIENCE).await.unwrap();
    assert_eq!(rig.containers().await, containers);
    platform.shutdown().await;

    for _ in 0..30 {
        rig.ledger.faults().fail_next(Op::Load, ErrorKind::Unsupported);
    }
    let loads = rig.ledger.faults().calls(Op::Load);
    let platform = rig.start().await;
    platform.remove(&name("shop")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.containers().await, containers, "nothing is guessed");
    assert!((5..30).contains(&(rig.ledger.faults().calls(Op::Load) - loads)), "with back-off");
}

#[tokio::test(start_paused = true)]
async fn f18_what_does_not_fit_is_reported_and_nothing_else_suffers() {
    let mut rig = Rig::new(1).await;
    rig.cluster = ClusterSpec { subnet_prefix: 28, ..rig.cluster };
    let platform = rig.start().await;
    let mut other = app_with("other", "other:1", 1, |_| {});
    platform.deploy(&other).await.unwrap();
    platform.wait_for(settled("other", 1), PATIENCE).await.unwrap();
    platform.deploy(&app("huge", "huge:1", 100)).await.unwrap();
    let full = |s: &Status| {
        s.reasons.iter().any(|r| r.what == What::NoRoom && r.app == Some(name("huge")))
    };
    let status = platform.wait_for(|s| full(s) && s.in_flight == 0, PATIENCE).await.unwrap();
    assert_eq!(status.apps[&name("other")].ready, 1);
    let mut huge = status.apps[&name("huge")].clone();
    huge.instances.retain(|instance| !instance.is_ready());
    assert_eq!(huge.instances, [], "nothing half-made: what has room runs, and no more is begun");
    other = app_with("other", "other:2", 1, |_| {});
    platform.remove(&name("huge")).await.unwrap();
    platform.deploy(&other).await.unwrap();
    platform.wait_for(settled("other", 1), PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn f26_an_image_nobody_has_sets_only_its_app_aside() {
    let rig = Rig::new(2).await;
    for host in rig.hosts.values() {
        host.engine.publish_image(&"shop:1".parse().unwrap(), digest(1));
    }
    let platform = rig.start().await;
    platform.deploy(&app("lost", "lost:1", 2)).await.unwrap();
    platform.deploy(&app("shop", "shop:1", 2)).await.unwrap();
    platform.wait_for(settled("shop", 2), PATIENCE).await.unwrap();
    let told = |s: &Status| {
        s.reasons.iter().any(|r| r.app == Some(name("lost")) && r.what == What::Failed)
    };
    platform.wait_for(told, PATIENCE).await.unwrap();
    let fetches = rig.hosts.values().map(|h| h.engine.faults().calls(Op::EnsureImage)).sum::<u64>();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let more = rig.hosts.values().map(|h| h.engine.faults().calls(Op::EnsureImage)).sum::<u64>();
    assert!(more - fetches <= 60, "{} fetches in 10 minutes", more - fetches);
    for host in rig.hosts.values() {
        host.engine.publish_image(&"lost:1".parse().unwrap(), digest(2));
    }
    platform.wait_for(settled("lost", 2), PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn f26_a_taken_port_is_told_of_its_app_also_after_a_restart_and_served_once_free() {
    let rig = Rig::new(1).await;
    let balancer = &rig.host(1).balancer;
    balancer.take_port(80);
    let told = |s: &Status| {
        let ours = s.reasons.iter().filter(|r| r.app == Some(name("shop")));
        s.hosts[&host_id(1)].set_aside.contains_key(&SetAside::Listener(80))
            && ours.filter(|r| r.what == What::Failed).any(|r| r.text.contains("80"))
    };
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 2)).await.unwrap();
    let runs_unserved = |s: &Status| {
        let app = s.apps.get(&name("shop"));
        app.is_some_and(|app| app.ready == 2 && !app.in_force && !app.is_settled())
    };
    platform.wait_for(|s| runs_unserved(s) && told(s), PATIENCE).await.unwrap();
    platform.shutdown().await;
    let platform = rig.start().await;
    platform.wait_for(|s| runs_unserved(s) && told(s), PATIENCE).await.unwrap();
    balancer.free_port(80);
    let status = platform.wait_for(|s| !told(s), PATIENCE).await.unwrap();
    assert!(status.hosts[&host_id(1)].routing.is_some());
    let calls = balancer.faults().calls(Op::Apply);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(balancer.faults().calls(Op::Apply), calls, "what is whole is left alone");
}

#[tokio::test(start_paused = true)]
async fn f29_hosts_lost_at_once_are_not_replaced_until_an_operator_confirms() {
    let rig = Rig::new(3).await;
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 6)).await.unwrap();
    platform.wait_for(settled("shop", 6), PATIENCE).await.unwrap();
    let containers = rig.containers().await;
    let mut events = platform.events();
    for n in [2, 3] {
        rig.connector.cut(&host_id(n));
        rig.registry.withdraw(&host_id(n)).await.unwrap();
    }
    let doubted = |s: &Status| s.registry == RegistryTrust::Fails;
    let status = platform.wait_for(doubted, PATIENCE).await.unwrap();
    assert!(!status.doubted.is_empty());
    let told = |e: &lb_core::Event| matches!(e.what, Happened::RegistryDoubted(_));
    events.by_ref().filter(|e| std::future::ready(told(e))).next().await.unwrap();
    let doubted = status.doubted.clone();
    platform.confirm_hosts_gone(doubted).await.unwrap();
    let moved = |s: &Status| {
        let app = &s.apps[&name("shop")];
        app.ready == 6 && app.instances.iter().filter(|i| i.host == host_id(1)).count() == 6
    };
    platform.wait_for(moved, PATIENCE).await.unwrap();
    assert!(rig.containers().await.len() > containers.len(), "those cut off still run");
}

#[tokio::test(start_paused = true)]
async fn f29_a_registry_that_fails_moves_nobody() {
    let rig = Rig::new(2).await;
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 4)).await.unwrap();
    platform.wait_for(settled("shop", 4), PATIENCE).await.unwrap();
    let containers = rig.containers().await;
    rig.registry.fail(ErrorKind::Unavailable);
    platform.wait_for(|s| s.troubles.contains_key("registry"), PATIENCE).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(rig.containers().await, containers);
    rig.registry.heal();
    let healed = |s: &Status| s.registry == RegistryTrust::Answers && s.troubles.is_empty();
    platform.wait_for(healed, PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn f30_a_name_taken_by_another_spec_is_left_alone() {
    let rig = Rig::new(1).await;
    let engine = &rig.host(1).engine;
    let image = "shop:1".parse().unwrap();
    engine.publish_image(&image, digest(7));
    let shop = app("shop", "shop:1", 1);
    let taken = InstanceId {
        app: name("shop"),
        revision: shop.revision(&digest(7)),
        slot: 0,
        incarnation: 0,
    };
    let taken = taken.container_name(&rig.cluster.id);
    engine.hold_name(taken.clone());
    let platform = rig.start().await;
    platform.deploy(&shop).await.unwrap();
    let status = platform.wait_for(settled("shop", 1), PATIENCE).await.unwrap();
    let name_now = status.apps[&name("shop")].instances[0].id.container_name(&rig.cluster.id);
    assert_ne!(name_now, taken);
    let foreign = ContainerSpec::new("demo-foreign".parse().unwrap(), Role::Checker, image);
    engine.run(&foreign).await.unwrap();
    platform.remove(&name("shop")).await.unwrap();
    platform.wait_for(orchestrator_support::removed("shop"), PATIENCE).await.unwrap();
    assert_eq!(engine.list().await.unwrap().len(), 1, "what is no instance is not touched");
}

#[tokio::test(start_paused = true)]
async fn f7_a_container_made_but_never_started_is_started_or_replaced() {
    let rig = Rig::new(1).await;
    odd(&rig, 1).half_runs.store(1, Ordering::SeqCst);
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 1)).await.unwrap();
    let made = |s: &Status| s.apps.get(&name("shop")).is_some_and(|a| a.instances.len() == 1);
    // The run hangs: it is seen only when something makes the loop look.
    tokio::time::sleep(Duration::from_secs(5)).await;
    rig.host(1).engine.emit(RuntimeEvent::Resync);
    platform.wait_for(made, PATIENCE).await.unwrap();
    rig.leadership.depose();
    drop(platform);
    let platform = rig.start().await;
    let status = platform.wait_for(settled("shop", 1), PATIENCE).await.unwrap();
    rig.assert_serves(&status, &name("shop"), 1).await;
}

#[tokio::test(start_paused = true)]
async fn two_clusters_on_one_engine_never_touch_one_another() {
    let rig = Rig::new(1).await;
    let mut other = Rig::new(1).await;
    other.cluster = ClusterSpec {
        range: "10.211.0.0/16".parse().unwrap(),
        ..ClusterSpec::new("other".parse().unwrap())
    };
    let host = other.hosts.get_mut(&host_id(1)).unwrap();
    host.engine = rig.host(1).engine.clone();
    other.connector.insert(host_id(1), other.host(1).handle());
    let (one, two) = (rig.start().await, other.start().await);
    one.deploy(&app("shop", "shop:1", 2)).await.unwrap();
    two.deploy(&app("shop", "shop:1", 3)).await.unwrap();
    one.wait_for(settled("shop", 2), PATIENCE).await.unwrap();
    two.wait_for(settled("shop", 3), PATIENCE).await.unwrap();
    one.remove(&name("shop")).await.unwrap();
    one.wait_for(orchestrator_support::removed("shop"), PATIENCE).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let left = rig.containers().await;
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left.iter().all(|(_, c)| c.starts_with("other.")), "{left:?}");
}

/// Wants so many, or panics.
#[derive(Debug)]
struct Wants(Option<u32>);

impl ScalePolicy for Wants {
    fn decide(&self, _: &LoadView<'_>, memory: &PolicyMemory, _: Now) -> (Decision, PolicyMemory) {
        let count = self.0.expect("a policy that fails");
        (Decision::Want { count, reason: "the test wants it".into() }, memory.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn policies_by_name_move_counts_and_a_bad_one_holds_only_its_app() {
    let rig = Rig::new(1).await;
    let with = |policy: &str| {
        let scaling = Scaling { policy: Some(policy.parse().unwrap()), ..Scaling::default() };
        app_with(policy, "any:1", 1, |spec| {
            spec.replicas = Replicas { min: 1, max: 3 };
            spec.scaling = Some(scaling);
        })
    };
    let platform = rig
        .builder()
        .policy("wants".parse().unwrap(), Arc::new(Wants(Some(9))))
        .policy("panics".parse().unwrap(), Arc::new(Wants(None)))
        .start()
        .await
        .unwrap();
    for policy in ["wants", "panics", "unknown"] {
        platform.deploy(&with(policy)).await.unwrap();
    }
    platform.wait_for(settled("wants", 3), PATIENCE).await.unwrap();
    platform.wait_for(settled("panics", 1), PATIENCE).await.unwrap();
    let status = platform.wait_for(settled("unknown", 1), PATIENCE).await.unwrap();
    let about = |app: &str, part: &str| {
        status.reasons.iter().any(|r| r.app == Some(name(app)) && r.text.contains(part))
    };
    assert!(about("unknown", "must be registered"), "{:?}", status.reasons);
    assert!(!about("wants", "must be registered"));
}

#[tokio::test(start_paused = true)]
async fn requests_add_instances_and_their_absence_removes_them_later() {
    let rig = Rig::new(2).await;
    let shop = app_with("shop", "shop:1", 1, |spec| {
        spec.replicas = Replicas { min: 1, max: 4 };
        spec.scaling = Some(Scaling {
            requests: NonZeroU32::new(10),
            scale_in_after: Some(Duration::from_secs(120)),
            ..Scaling::default()
        });
    });
    let platform = rig.start().await;
    platform.deploy(&shop).await.unwrap();
    platform.wait_for(settled("shop", 1), PATIENCE).await.unwrap();
    let served = rig.clone();
    let load = tokio::spawn(async move {
        loop {
            let serving = |h: &&Host| !h.active(&backend(&name("shop"))).is_empty();
            if let Some(host) = served.hosts.values().find(serving) {
                host.balancer.serve(&backend(&name("shop")), 35);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let began = tokio::time::Instant::now();
    platform.wait_for(settled("shop", 4), PATIENCE).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(90), "{:?}", began.elapsed());
    load.abort();
    let quiet = tokio::time::Instant::now();
    platform.wait_for(settled("shop", 1), PATIENCE).await.unwrap();
    assert!(quiet.elapsed() >= Duration::from_secs(120), "{:?}", quiet.elapsed());
}

#[tokio::test(start_paused = true)]
async fn load_is_measured_beside_the_passes_and_stored() {
    let rig = Rig::new(2).await;
    let store = MemoryLoadStore::new();
    let platform = rig.builder().load(Arc::new(store.clone())).start().await.unwrap();
    platform.deploy(&app("shop", "shop:1", 2)).await.unwrap();
    let status = platform.wait_for(settled("shop", 2), PATIENCE).await.unwrap();
    for instance in &status.apps[&name("shop")].instances {
        let container = instance.id.container_name(&rig.cluster.id);
        let engine = &rig.hosts[&instance.host].engine;
        engine.set_usage(&container, 0.25, "1MiB".parse().unwrap());
    }
    for _ in 0..600 {
        for host in rig.hosts.values() {
            host.balancer.serve(&backend(&name("shop")), 5);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let load = platform.status().apps[&name("shop")].load.unwrap();
    assert_eq!(load.instances, 2);
    let near = |value: Option<f64>, want: f64| value.is_some_and(|v| (v / want - 1.0).abs() < 0.1);
    assert!(near(load.cpu, 0.5), "{load:?}");
    assert!(near(load.memory, 2.0 * 1024.0 * 1024.0), "{load:?}");
    assert!(near(load.requests, 100.0), "{load:?}");
    let kept = lb_core::LoadStore::recent(&store, &name("shop"), 5).await.unwrap();
    assert_eq!(kept.len(), 5);

    rig.host(2).balancer.faults().delay(Op::Traffic, Duration::from_secs(3600));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let load = platform.status().apps[&name("shop")].load.unwrap();
    assert_eq!(load.requests, None, "a part of the requests is not shown as all of them");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_registers_later_is_used_and_one_that_leaves_is_replaced() {
    let rig = Rig::new(2).await;
    rig.registry.withdraw(&host_id(2)).await.unwrap();
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 2)).await.unwrap();
    platform.wait_for(settled("shop", 2), PATIENCE).await.unwrap();
    rig.registry.announce(&rig.host(2).facts, FOREVER).await.unwrap();
    platform.wait_for(|s| s.hosts.len() == 2, PATIENCE).await.unwrap();
    platform.scale(&name("shop"), 4).await.unwrap();
    let status = platform.wait_for(settled("shop", 4), PATIENCE).await.unwrap();
    let hosts: BTreeSet<_> = status.apps[&name("shop")].instances.iter().map(|i| &i.host).collect();
    assert_eq!(hosts.len(), 2);
    rig.connector.cut(&host_id(1));
    rig.registry.withdraw(&host_id(1)).await.unwrap();
    let moved = |s: &Status| {
        settled("shop", 4)(s)
            && s.apps[&name("shop")].instances.iter().all(|i| i.host == host_id(2))
    };
    platform.wait_for(moved, PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn f10_an_engine_that_restarts_gets_everything_back() {
    let rig = Rig::new(1).await;
    rig.host(1).engine.behave(Behaviour::ReadyAfter(Duration::from_millis(500)));
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 3)).await.unwrap();
    platform.wait_for(settled("shop", 3), PATIENCE).await.unwrap();
    rig.host(1).engine.restart();
    rig.host(1).balancer.lose_table();
    platform.wait_for(|s| !settled("shop", 3)(s), PATIENCE).await.unwrap();
    let status = platform.wait_for(settled("shop", 3), PATIENCE).await.unwrap();
    rig.assert_serves(&status, &name("shop"), 3).await;
}

#[test]
fn the_handle_is_send_sync_and_clone() {
    fn check<T: Send + Sync + Clone + std::fmt::Debug + 'static>() {}
    check::<Orchestrator>();
}
