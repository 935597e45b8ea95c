//! The loop on in-memory backends: what a user of the library does, in a paused clock.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests, on a paused clock")]

mod orchestrator_support;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use lb_core::{
    App, AppChange, AppName, AppSet, AppStore, Behaviour, ContainerRuntime, ErrorKind, Event,
    Generation, Happened, Membership, MemoryAppStore, Op, Orchestrator, Result, ServerState,
};
use orchestrator_support::{PATIENCE, Rig, app, backend, host_id, name, removed, settled};

#[tokio::test(start_paused = true)]
async fn an_app_is_started_made_ready_and_routed() {
    let rig = Rig::new(2).await;
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 3)).await.unwrap();
    let status = platform.wait_for(settled("shop", 3), PATIENCE).await.unwrap();
    rig.assert_serves(&status, &name("shop"), 3).await;
    assert!(status.hosts.values().all(|h| h.reachable && h.routing.is_some()));
    let files = platform.files(&host_id(1)).await.unwrap();
    assert!(files.values().any(|text| text.contains("listener 80")), "{files:?}");
    serde_json::to_string(&*status).unwrap();
}

/// It says how servers come and go, and what that has cost: asked anew after each reload.
#[tokio::test(start_paused = true)]
async fn the_status_tells_what_the_balancer_is() {
    let rig = Rig::new(1).await;
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 1)).await.unwrap();
    platform.wait_for(settled("shop", 1), PATIENCE).await.unwrap();
    let balancer = |status: &lb_core::Status| status.hosts[&host_id(1)].balancer.clone();
    let known = move |status: &lb_core::Status| balancer(status).is_some();
    let status = platform.wait_for(known, PATIENCE).await.unwrap();
    let info = balancer(&status).unwrap();
    assert_eq!((info.name.as_str(), info.membership), ("memory", Membership::RunTime));

    platform.deploy(&app("late", "shop:1", 1)).await.unwrap();
    let reloaded = move |status: &lb_core::Status| {
        balancer(status).is_some_and(|now| now.reloads == info.reloads + 1)
    };
    platform.wait_for(reloaded, PATIENCE).await.unwrap();
    rig.host(1).balancer.faults().delay(Op::Traffic, Duration::from_secs(3600));
    platform.wait_for(move |s| balancer(s).is_none(), PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_instance_gets_traffic_only_when_ready_and_soon_after() {
    let rig = Rig::new(1).await;
    let host = rig.host(1);
    host.engine.behave(Behaviour::ReadyAfter(Duration::from_secs(5)));
    let platform = rig.start().await;
    let mut events = platform.events();
    platform.deploy(&app("shop", "shop:1", 1)).await.unwrap();
    let started = |e: &Event| matches!(e.what, Happened::Started { .. });
    events.by_ref().filter(|e| std::future::ready(started(e))).next().await.unwrap();
    let started = tokio::time::Instant::now();
    tokio::time::timeout(PATIENCE, async {
        while host.active(&backend(&name("shop"))).is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    let after_ready = started.elapsed().saturating_sub(Duration::from_secs(5));
    assert!(started.elapsed() >= Duration::from_secs(5), "not before it is ready");
    assert!(after_ready <= Duration::from_millis(30), "routed {after_ready:?} after ready");
}

#[tokio::test(start_paused = true)]
async fn a_dead_instance_leaves_the_table_and_is_replaced() {
    let rig = Rig::new(1).await;
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 2)).await.unwrap();
    let status = platform.wait_for(settled("shop", 2), PATIENCE).await.unwrap();
    let victim = status.apps[&name("shop")].instances[0].id.clone();
    let container = victim.container_name(&rig.cluster.id);
    rig.host(1).engine.kill(&container).unwrap();
    let replaced = move |s: &lb_core::Status| {
        settled("shop", 2)(s) && s.apps[&name("shop")].instances.iter().all(|i| i.id != victim)
    };
    let status = platform.wait_for(replaced, PATIENCE).await.unwrap();
    rig.assert_serves(&status, &name("shop"), 2).await;
}

#[tokio::test(start_paused = true)]
async fn scale_in_drains_and_cuts_nothing() {
    let rig = Rig::new(1).await;
    let host = rig.host(1);
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 2)).await.unwrap();
    let status = platform.wait_for(settled("shop", 2), PATIENCE).await.unwrap();
    let servers = status.apps[&name("shop")].instances.iter();
    let servers: Vec<lb_core::ServerName> =
        servers.map(|i| (&i.id.container_name(&rig.cluster.id)).into()).collect();
    for server in &servers {
        host.balancer.set_open(&backend(&name("shop")), server, 3);
    }
    platform.scale(&name("shop"), 1).await.unwrap();
    let draining = |s: &lb_core::Status| {
        s.apps[&name("shop")].instances.iter().any(|i| i.server == Some(ServerState::Draining))
    };
    let status = platform.wait_for(draining, PATIENCE).await.unwrap();
    let victim = status.apps[&name("shop")]
        .instances
        .iter()
        .find(|i| i.server == Some(ServerState::Draining))
        .map(|i| lb_core::ServerName::from(&i.id.container_name(&rig.cluster.id)))
        .unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(host.engine.list().await.unwrap().len(), 2, "it still has connections");
    host.balancer.set_expected(&backend(&name("shop")), &victim, 1);
    host.balancer.set_open(&backend(&name("shop")), &victim, 0);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(host.engine.list().await.unwrap().len(), 2, "a client may still come to it");
    host.balancer.set_expected(&backend(&name("shop")), &victim, 0);
    let idle = tokio::time::Instant::now();
    let status = platform.wait_for(settled("shop", 1), PATIENCE).await.unwrap();
    assert!(idle.elapsed() < Duration::from_secs(2), "the drain is polled");
    assert_eq!(host.balancer.cut(), 0);
    rig.assert_serves(&status, &name("shop"), 1).await;
}

/// Apps whose watchers hear late.
#[derive(Debug)]
struct Late(MemoryAppStore);

#[async_trait]
impl AppStore for Late {
    async fn put(&self, app: &App, change: AppChange) -> Result<Generation> {
        self.0.put(app, change).await
    }

    async fn remove(&self, name: &AppName) -> Result<()> {
        self.0.remove(name).await
    }

    fn watch(&self) -> BoxStream<'static, Result<Arc<AppSet>>> {
        let late = |apps| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            apps
        };
        self.0.watch().then(late).boxed()
    }
}

/// A count set by hand was stored with the app as it had been read: a version deployed meanwhile was undone.
#[tokio::test(start_paused = true)]
async fn a_scale_undoes_no_deploy() {
    let rig = Rig::new(1).await;
    let apps = Arc::new(Late(rig.apps.clone()));
    let platform = rig.builder().apps(apps).start().await.unwrap();
    platform.deploy(&app("shop", "shop:1", 1)).await.unwrap();
    let (shop, next) = (name("shop"), app("shop", "shop:2", 3));
    let deploy = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        platform.deploy(&next).await
    };
    let (scaled, deployed) = tokio::join!(platform.scale(&shop, 2), deploy);
    scaled.and(deployed).unwrap();
    let apps = rig.apps.watch().next().await.unwrap().unwrap();
    assert_eq!(*apps[&shop].app, next);
}

#[tokio::test(start_paused = true)]
async fn a_new_version_replaces_the_old_one_without_a_gap() {
    let rig = Rig::new(2).await;
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 3)).await.unwrap();
    let first = platform.wait_for(settled("shop", 3), PATIENCE).await.unwrap();
    let before = rig.host(1).balancer.tables().len();
    platform.deploy(&app("shop", "shop:2", 3)).await.unwrap();
    let old = first.apps[&name("shop")].revision;
    let renewed =
        move |s: &lb_core::Status| settled("shop", 3)(s) && s.apps[&name("shop")].revision != old;
    let status = platform.wait_for(renewed, PATIENCE).await.unwrap();
    rig.assert_serves(&status, &name("shop"), 3).await;
    for table in rig.host(1).balancer.tables().iter().skip(before) {
        let servers = &table.backends[&backend(&name("shop"))].servers;
        let active = servers.values().filter(|s| s.state == ServerState::Active).count();
        assert!(active >= 3, "never fewer than wanted: {servers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn removing_an_app_removes_everything_made_for_it() {
    let rig = Rig::new(2).await;
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 4)).await.unwrap();
    platform.wait_for(settled("shop", 4), PATIENCE).await.unwrap();
    platform.remove(&name("shop")).await.unwrap();
    platform.wait_for(removed("shop"), PATIENCE).await.unwrap();
    let gone =
        |s: &lb_core::Status| s.in_flight == 0 && s.hosts.values().all(|h| h.table.is_none());
    platform.wait_for(gone, PATIENCE).await.unwrap();
    assert_eq!(rig.containers().await, []);
    for host in rig.hosts.values() {
        assert_eq!(host.balancer.table(), None);
        assert!(host.engine.faults().calls(Op::RemoveNetwork) >= 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_preview_acts_on_nothing() {
    let rig = Rig::new(1).await;
    let host = rig.host(1);
    let platform = rig.start().await;
    let cleared = || host.engine.faults().calls(Op::RemoveNetwork) == 1;
    let seen = |s: &lb_core::Status| s.hosts.values().all(|h| h.fresh);
    platform.wait_for(|s| cleared() && s.in_flight == 0 && seen(s), PATIENCE).await.unwrap();
    host.engine.faults().delay(Op::EnsureImage, Duration::from_secs(30));
    platform.deploy(&app("shop", "shop:1", 1)).await.unwrap();
    platform.wait_for(|s| s.in_flight == 1, PATIENCE).await.unwrap();
    let ops = [Op::EnsureImage, Op::EnsureNetwork, Op::Run, Op::Stop];
    let calls = || ops.map(|op| host.engine.faults().calls(op));
    let (before, status) = (calls(), platform.status());
    for _ in 0..10 {
        let plan = platform.preview().await.unwrap();
        serde_json::to_string(&plan).unwrap();
    }
    assert_eq!(calls(), before);
    let after = platform.status();
    assert_eq!((&after.apps, &after.hosts), (&status.apps, &status.hosts));
    platform.wait_for(settled("shop", 1), PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn shutdown_leaves_the_apps_serving_and_the_next_loop_adopts_them() {
    let rig = Rig::new(2).await;
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 3)).await.unwrap();
    let before = platform.wait_for(settled("shop", 3), PATIENCE).await.unwrap();
    platform.shutdown().await;
    let error = platform.wait_for(|_| false, PATIENCE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let containers = rig.containers().await;
    let reloads: Vec<u64> = rig.hosts.values().map(|h| h.balancer.reloads()).collect();
    rig.assert_serves(&before, &name("shop"), 3).await;

    let platform = rig.start().await;
    let after = platform.wait_for(settled("shop", 3), PATIENCE).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.containers().await, containers, "adopted, not started again");
    assert_eq!(rig.hosts.values().map(|h| h.balancer.reloads()).collect::<Vec<_>>(), reloads);
    rig.assert_serves(&after, &name("shop"), 3).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_ends_the_loop() {
    let rig = Rig::new(1).await;
    let platform = rig.start().await;
    let clone = platform.clone();
    drop(platform);
    clone.deploy(&app("shop", "shop:1", 1)).await.unwrap();
    clone.wait_for(settled("shop", 1), PATIENCE).await.unwrap();
    let mut events = clone.events();
    drop(clone);
    while tokio::time::timeout(PATIENCE, events.next()).await.unwrap().is_some() {}
    let lists = rig.host(1).engine.faults().calls(Op::List);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.host(1).engine.faults().calls(Op::List), lists, "nobody looks any more");
}

#[tokio::test(start_paused = true)]
async fn a_look_begun_before_an_action_ended_allows_nothing_destructive() {
    let rig = Rig::new(1).await;
    let engine = rig.host(1).engine.clone();
    engine.faults().delay(Op::List, Duration::from_millis(700));
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 1)).await.unwrap();
    let mut unshown = 0;
    let settles = |status: &lb_core::Status| {
        let ran = engine.faults().calls(Op::Run) > 0 && status.in_flight == 0;
        let shown = status.apps.get(&name("shop")).is_some_and(|a| !a.instances.is_empty());
        if ran && !shown {
            unshown += 1;
            assert!(!status.hosts[&host_id(1)].fresh, "the container is there and was not seen");
        }
        settled("shop", 1)(status) && status.hosts[&host_id(1)].fresh
    };
    platform.wait_for(settles, PATIENCE).await.unwrap();
    assert!(unshown > 0, "the case came up");
    engine.faults().delay(Op::List, Duration::from_secs(3600));
    let blind = |s: &lb_core::Status| !s.hosts[&host_id(1)].fresh;
    platform.wait_for(blind, PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_quiet_cluster_is_left_alone_but_for_the_resync() {
    let rig = Rig::new(1).await;
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 2)).await.unwrap();
    let status = platform.wait_for(settled("shop", 2), PATIENCE).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let lists = rig.host(1).engine.faults().calls(Op::List);
    let applies = rig.host(1).balancer.faults().calls(Op::Apply);
    let runs = rig.host(1).engine.faults().calls(Op::Run);
    tokio::time::sleep(Duration::from_secs(100)).await;
    let listed = rig.host(1).engine.faults().calls(Op::List) - lists;
    assert!((10..=15).contains(&listed), "a resync each 7 to 10 s, not {listed} in 100 s");
    assert_eq!(rig.host(1).balancer.faults().calls(Op::Apply), applies);
    assert_eq!(rig.host(1).engine.faults().calls(Op::Run), runs);
    assert!(platform.status().passes - status.passes < 60, "{}", platform.status().passes);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_changes_a_second_are_few_tables() {
    let rig = Rig::new(1).await;
    let host = rig.host(1);
    let platform = rig.start().await;
    platform.deploy(&app("shop", "shop:1", 2)).await.unwrap();
    let status = platform.wait_for(settled("shop", 2), PATIENCE).await.unwrap();
    let container = status.apps[&name("shop")].instances[0].id.container_name(&rig.cluster.id);
    let (lists, applies) =
        (host.engine.faults().calls(Op::List), host.balancer.faults().calls(Op::Apply));
    for n in 0..1000 {
        let readiness = match n % 2 {
            0 => lb_core::Readiness::NotReady("flaps".into()),
            _ => lb_core::Readiness::Ready,
        };
        host.engine.set_ready(&container, readiness);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    platform.wait_for(settled("shop", 2), PATIENCE).await.unwrap();
    let lists = host.engine.faults().calls(Op::List) - lists;
    let applies = host.balancer.faults().calls(Op::Apply) - applies;
    assert!(lists <= 110, "{lists} listings in a second");
    assert!(applies <= 60, "{applies} tables in a second");
}

#[tokio::test(start_paused = true)]
async fn static_hosts_need_no_registry_and_stay_registered() {
    let rig = Rig::new(1).await;
    let host = rig.host(1);
    let platform = Orchestrator::builder(rig.cluster.clone())
        .host(host.facts.clone(), host.handle())
        .start()
        .await
        .unwrap();
    platform.deploy(&app("shop", "shop:1", 1)).await.unwrap();
    platform.wait_for(settled("shop", 1), PATIENCE).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(platform.status().hosts.contains_key(&host_id(1)), "its lease is renewed");
    let refused = Orchestrator::builder(rig.cluster.clone())
        .host(host.facts.clone(), host.handle())
        .connector(std::sync::Arc::new(rig.connector.clone()))
        .start()
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}
