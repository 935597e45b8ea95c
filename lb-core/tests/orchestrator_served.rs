//! What a deploy's handle says, and what the status says for as long as something is down.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests, on a paused clock")]

mod orchestrator_support;

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lb_core::{
    Behaviour, Ending, Error, ErrorKind, Exit, Happened, InstanceState, Op, Orchestrator,
    ProbeAnswer, Readiness, SetAside, What,
};
use orchestrator_support::{PATIENCE, Rig, app, app_with, backend, host_id, name, settled};

const SECOND: Duration = Duration::from_secs(1);

async fn deployed(platform: &Orchestrator, image: &str, count: u32) {
    let change = platform.deploy(&app("shop", image, count)).await.unwrap();
    change.served(PATIENCE).await.unwrap();
}

fn text(error: &Error) -> String {
    error.to_string()
}

/// Ten versions in turn: each wait returned with the version before still in the balancer, because the status
/// knew that one alone, and called it settled (Dokploy/Dokploy#5496).
#[tokio::test(start_paused = true)]
async fn served_means_that_every_balancer_has_the_new_version_alone() {
    let rig = Rig::new(2).await;
    let platform = rig.start().await;
    for version in 1..=10 {
        let image = format!("shop:{version}");
        let change = platform.deploy(&app("shop", &image, 4)).await.unwrap();
        let served = change.served(PATIENCE).await.unwrap();
        let status = platform.status();
        let of_version = status.apps[&name("shop")].instances.iter();
        let new: BTreeSet<String> = of_version
            .filter(|i| i.id.revision == served.revision)
            .map(|i| i.id.container_name(&rig.cluster.id).to_string())
            .collect();
        assert_eq!(new.len(), 4);
        for (id, host) in &rig.hosts {
            assert_eq!(host.active(&backend(&name("shop"))), new, "version {version} on {id}");
            assert_eq!(served.answers[id][&80], ProbeAnswer::Status(200));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_takes_no_table_is_not_served_and_says_why() {
    let rig = Rig::new(1).await;
    rig.host(1).balancer.faults().fail(Op::Apply, ErrorKind::Unavailable);
    let platform = rig.start().await;
    let change = platform.deploy(&app("shop", "shop:1", 2)).await.unwrap();
    let error = change.served(300 * SECOND).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(text(&error).contains("the balancer does not take its table"), "{error}");
    let status = platform.status();
    assert_eq!(status.apps[&name("shop")].ready, 2);
    assert!(!status.apps[&name("shop")].is_settled());
    assert!(status.reasons.iter().any(|r| r.what == What::Failed), "{:?}", status.reasons);

    rig.host(1).balancer.faults().clear();
    change.served(PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_is_set_aside_is_not_served_and_says_why() {
    let rig = Rig::new(1).await;
    rig.host(1).balancer.take_port(80);
    let platform = rig.start().await;
    let change = platform.deploy(&app("shop", "shop:1", 2)).await.unwrap();
    let error = change.served(120 * SECOND).await.unwrap_err();
    assert!(text(&error).contains("listener 80 is set aside"), "{error}");
    assert!(platform.status().hosts[&host_id(1)].set_aside.contains_key(&SetAside::Listener(80)));
    rig.host(1).balancer.free_port(80);
    change.served(15 * SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_does_not_answer_is_not_served() {
    let rig = Rig::new(1).await;
    let platform = rig.start().await;
    rig.host(1).balancer.faults().fail(Op::Probe, ErrorKind::Unavailable);
    let change = platform.deploy(&app("shop", "shop:1", 1)).await.unwrap();
    let error = change.served(60 * SECOND).await.unwrap_err();
    assert!(text(&error).contains("listener 80 on host \"h1\""), "{error}");
    rig.host(1).balancer.faults().clear();
    change.served(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_given_up_is_told_with_what_it_wrote() {
    let rig = Rig::new(1).await;
    let platform = rig.start().await;
    deployed(&platform, "shop:1", 2).await;
    rig.host(1).engine.behave_as(&"shop:2".parse().unwrap(), Behaviour::NeverReady);
    let change = platform.deploy(&app("shop", "shop:2", 2)).await.unwrap();
    let waits = change.served(PATIENCE);
    let kill = async {
        let all = platform.status().apps[&name("shop")].instances.len();
        let starts = |s: &lb_core::Status| s.apps[&name("shop")].instances.len() > all;
        let status = platform.wait_for(starts, PATIENCE).await.unwrap();
        let new = |i: &&lb_core::InstanceStatus| {
            i.state == InstanceState::Running(Readiness::NotReady("starting".into()))
        };
        let id = status.apps[&name("shop")].instances.iter().find(new).unwrap().id.clone();
        let output = "FATAL: DATABASE_URL is not set".to_owned();
        let exit = Exit { code: 3, out_of_memory: false, output };
        rig.host(1).engine.end(&id.container_name(&rig.cluster.id), &exit).unwrap();
    };
    let (served, ()) = tokio::join!(waits, kill);
    let error = served.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RolledBack);
    assert!(text(&error).contains("is given up"), "{error}");
    assert!(text(&error).contains("exit code 3"), "{error}");
    assert!(text(&error).contains("DATABASE_URL is not set"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_later_change_and_a_removal_end_the_wait() {
    let rig = Rig::new(1).await;
    rig.host(1).engine.behave(Behaviour::NeverReady);
    let platform = rig.start().await;
    let first = platform.deploy(&app("shop", "shop:1", 1)).await.unwrap();
    let second = platform.deploy(&app("shop", "shop:2", 1)).await.unwrap();
    assert_eq!(first.served(PATIENCE).await.unwrap_err().kind(), ErrorKind::Conflict);
    let scaled = platform.scale(&name("shop"), 2).await.unwrap();
    let (second, scaled, removal) =
        tokio::join!(second.served(PATIENCE), scaled.served(PATIENCE), async {
            tokio::time::sleep(SECOND).await;
            platform.remove(&name("shop")).await.unwrap()
        });
    assert_eq!(second.unwrap_err().kind(), ErrorKind::NotFound, "a count set by hand is no deploy");
    assert_eq!(scaled.unwrap_err().kind(), ErrorKind::NotFound);
    removal.gone(PATIENCE).await.unwrap();
    assert_eq!(rig.containers().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_follower_says_that_another_leads() {
    let rig = Rig::new(1).await;
    let leader = rig.start().await;
    deployed(&leader, "shop:1", 1).await;
    let follower = rig.start().await;
    let change = follower.deploy(&app("shop", "shop:2", 1)).await.unwrap();
    let error = change.served(5 * SECOND).await.unwrap_err();
    assert!(text(&error).contains("this process does not lead"), "{error}");
}

/// In every look while it is down: what it is, how it ended, what it wrote, and when it is tried again.
#[tokio::test(start_paused = true)]
async fn while_an_app_crashes_the_status_says_why() {
    let rig = Rig::new(1).await;
    let platform = rig.start().await;
    rig.host(1).engine.behave(Behaviour::NeverReady);
    platform.deploy(&app("shop", "shop:1", 1)).await.unwrap();
    let mut died = platform
        .events()
        .filter_map(|event| async move {
            match event.what {
                Happened::Died { id, exit, .. } => Some((id, exit)),
                _ => None,
            }
        })
        .boxed();
    for crash in 1..=5 {
        let runs = |s: &lb_core::Status| {
            s.apps.get(&name("shop")).is_some_and(|a| {
                a.instances.iter().any(|i| matches!(i.state, InstanceState::Running(_)))
            })
        };
        let status = platform.wait_for(runs, PATIENCE).await.unwrap();
        let id = status.apps[&name("shop")].instances[0].id.clone();
        let output = format!("listening\nPORT=abc: must be a port ({crash})");
        let exit = Exit { code: 1, out_of_memory: false, output: output.clone() };
        rig.host(1).engine.end(&id.container_name(&rig.cluster.id), &exit).unwrap();
        let (dead, told) = died.next().await.unwrap();
        assert_eq!((dead, told), (id.clone(), exit.clone()), "the event has its last words");
        let gone = |s: &lb_core::Status| s.apps[&name("shop")].instances.is_empty();
        if crash == 1 {
            continue; // Replaced at once.
        }
        platform.wait_for(gone, PATIENCE).await.unwrap();
        // Looked at throughout the wait, with passes that have nothing to do between.
        for _ in 0..3 {
            let status = platform.status();
            let shop = &status.apps[&name("shop")];
            if !shop.instances.is_empty() {
                break;
            }
            let reason = status.reasons.iter().find(|r| r.what == What::CrashLoop);
            let reason = &reason.unwrap_or_else(|| panic!("crash {crash}: {status:#?}")).text;
            assert!(reason.contains("exit code 1") && reason.contains("next try"), "{reason}");
            let end = shop.last_end.clone().unwrap();
            assert_eq!((end.id, end.how), (id.clone(), Ending::Exited(exit.clone())));
            platform.preview().await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn planned_stops_are_no_deaths() {
    let rig = Rig::new(1).await;
    let platform = rig.start().await;
    let mut events = platform.events();
    deployed(&platform, "shop:1", 3).await;
    deployed(&platform, "shop:2", 3).await;
    platform.scale(&name("shop"), 1).await.unwrap().served(PATIENCE).await.unwrap();
    platform.remove(&name("shop")).await.unwrap().gone(PATIENCE).await.unwrap();
    let mut stopped = 0;
    while let Some(Some(event)) = events.next().now_or_never() {
        assert!(!matches!(event.what, Happened::Died { .. }), "{event:?}");
        stopped += u32::from(matches!(event.what, Happened::Stopped { .. }));
    }
    assert_eq!(stopped, 6);
}

/// It ran and answered no check any more: it stayed where it was for ever.
#[tokio::test(start_paused = true)]
async fn an_instance_that_hangs_is_replaced_and_the_others_serve_on() {
    let rig = Rig::new(1).await;
    let platform = rig.start().await;
    deployed(&platform, "shop:1", 4).await;
    let status = platform.status();
    let hung = status.apps[&name("shop")].instances[1].id.clone();
    let container = hung.container_name(&rig.cluster.id);
    rig.host(1).engine.set_ready(&container, Readiness::NotReady("no answer".into()));
    let replaced = |s: &lb_core::Status| {
        let app = &s.apps[&name("shop")];
        app.is_settled() && app.instances.iter().all(|i| i.id != hung)
    };
    let said = |s: &lb_core::Status| s.reasons.iter().any(|r| r.text.contains("fails its checks"));
    platform.wait_for(said, 10 * SECOND).await.unwrap();
    // The default bound, a start, and its drain.
    platform.wait_for(replaced, 45 * SECOND).await.unwrap();
    rig.assert_serves(&platform.status(), &name("shop"), 4).await;
}

/// What all of them lean on is down: each gets at most one beside it, and none that served is given up.
#[tokio::test(start_paused = true)]
async fn when_checks_fail_on_all_nothing_that_served_is_given_up() {
    let rig = Rig::new(1).await;
    let platform = rig.start().await;
    deployed(&platform, "shop:1", 3).await;
    let before = rig.containers().await;
    rig.host(1).engine.behave(Behaviour::NeverReady);
    for (_, container) in &before {
        let container = container.parse().unwrap();
        rig.host(1).engine.set_ready(&container, Readiness::NotReady("database".into()));
    }
    tokio::time::sleep(Duration::from_secs(1800)).await;
    let now = rig.containers().await;
    assert!(before.iter().all(|c| now.contains(c)), "{now:?}");
    assert!(now.len() <= before.len() + 1, "{now:?}");
    for (_, container) in &before {
        rig.host(1).engine.set_ready(&container.parse().unwrap(), Readiness::Ready);
    }
    platform.wait_for(settled("shop", 3), PATIENCE).await.unwrap();
}

/// Stopped first where two must not run side by side.
#[tokio::test(start_paused = true)]
async fn a_hung_instance_that_must_be_alone_is_stopped_first() {
    let rig = Rig::new(1).await;
    let platform = rig.start().await;
    let alone = app_with("shop", "shop:1", 1, |spec| {
        spec.rollout.max_surge = Some(lb_core::Count::Exactly(0));
        spec.rollout.max_unavailable = Some(lb_core::Count::Exactly(1));
        let port = spec.ports.get_mut(&"web".parse().unwrap()).unwrap();
        port.health.replace_after = 5 * SECOND;
        port.outside = NonZeroU16::new(81);
    });
    platform.deploy(&alone).await.unwrap().served(PATIENCE).await.unwrap();
    let hung = platform.status().apps[&name("shop")].instances[0].id.clone();
    let container = hung.container_name(&rig.cluster.id);
    rig.host(1).engine.set_ready(&container, Readiness::NotReady("no answer".into()));
    let mut most = 0;
    let replaced = |s: &lb_core::Status| {
        let app = &s.apps[&name("shop")];
        let live = app.instances.iter().filter(|i| matches!(i.state, InstanceState::Running(_)));
        most = most.max(live.count());
        app.is_settled() && app.instances[0].id != hung
    };
    platform.wait_for(replaced, 45 * SECOND).await.unwrap();
    assert_eq!(most, 1);
}

/// Never ready, and nothing to go back to: it is tried again, with more time each time, and said.
#[tokio::test(start_paused = true)]
async fn what_never_gets_ready_is_tried_again_and_said() {
    let rig = Rig::new(1).await;
    rig.host(1).engine.behave(Behaviour::NeverReady);
    let platform = rig.start().await;
    let change = platform.deploy(&app("shop", "shop:1", 1)).await.unwrap();
    let error = change.served(30 * SECOND).await.unwrap_err();
    assert!(text(&error).contains("is not ready yet: starting"), "{error}");
    let first = platform.status().apps[&name("shop")].instances[0].id.clone();
    let another = |s: &lb_core::Status| {
        s.apps[&name("shop")].instances.iter().any(|i| i.id.incarnation > first.incarnation)
    };
    platform.wait_for(another, 120 * SECOND).await.unwrap();
    let end = platform.status().apps[&name("shop")].last_end.clone().unwrap();
    assert_eq!(end.how, Ending::NeverReady(90 * SECOND));
    rig.host(1).engine.behave(Behaviour::ReadyAfter(100 * SECOND));
    change.served(Duration::from_secs(900)).await.unwrap();
}
