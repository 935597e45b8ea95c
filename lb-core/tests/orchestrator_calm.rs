//! No fault acts, and balancers take as long over a table as a reload does: whatever is being changed, what
//! dies is replaced at once and what is asked for is served soon.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests, on a paused clock")]

mod orchestrator_support;

use std::time::Duration;

use lb_core::{Op, Orchestrator, RuntimeEvent, Status};
use orchestrator_support::{PATIENCE, Rig, app, app_with, name, removed, settled};

/// A table takes so long to come in force: a reload of a busy balancer.
const RELOAD: Duration = Duration::from_millis(700);
/// A killed instance is replaced within this: what a look, a pass, a start and two tables (without the dead
/// one, with the new one) take, behind one that is on its way, and as much again.
const REPLACED: Duration = Duration::from_secs(5);

async fn calm() -> (Rig, Orchestrator) {
    let rig = Rig::new(1).await;
    let platform = rig.start().await;
    platform.deploy(&app("base", "shop:1", 2)).await.unwrap();
    platform.wait_for(settled("base", 2), PATIENCE).await.unwrap();
    rig.host(1).balancer.faults().delay(Op::Apply, RELOAD);
    (rig, platform)
}

/// Waits until the balancer is at work on a table that is not in force yet.
async fn applying<T>(rig: &Rig, change: impl Future<Output = T>) {
    let faults = rig.host(1).balancer.faults().clone();
    let before = faults.calls(Op::Apply);
    change.await;
    while faults.calls(Op::Apply) == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The engine is looked at, and the loop passes, several times while a table is on its way.
async fn look_again(rig: &Rig) {
    for _ in 0..4 {
        rig.host(1).engine.emit(RuntimeEvent::Resync);
        tokio::time::sleep(RELOAD / 12).await;
    }
}

/// One of base's instances is killed: it must be replaced, and served, in time.
async fn assert_replaces(rig: &Rig, platform: &Orchestrator) {
    let status = platform.status();
    let victim = status.apps[&name("base")].instances[0].id.clone();
    rig.host(1).engine.kill(&victim.container_name(&rig.cluster.id)).unwrap();
    let replaced = move |s: &Status| {
        settled("base", 2)(s) && s.apps[&name("base")].instances.iter().all(|i| i.id != victim)
    };
    let result = platform.wait_for(replaced, REPLACED).await;
    let status = result.unwrap_or_else(|e| panic!("{e}"));
    rig.assert_serves(&status, &name("base"), 2).await;
}

/// The last look shows the table before the one on its way, and that one is wanted again.
#[tokio::test(start_paused = true)]
async fn a_deploy_that_is_undone_while_it_comes_in_force_stops_no_replacement() {
    let (rig, platform) = calm().await;
    let with_x = app("x", "shop:1", 1);
    applying(&rig, async { platform.deploy(&with_x).await.unwrap() }).await;
    platform.remove(&with_x.name).await.unwrap();
    look_again(&rig).await;
    platform.wait_for(removed("x"), PATIENCE).await.unwrap();
    assert_replaces(&rig, &platform).await;
}

/// The same by a route that flips, for each number of flips: no table that may come in force is forgotten.
#[tokio::test(start_paused = true)]
async fn routes_that_flip_while_they_come_in_force_stop_no_replacement() {
    for flips in 1..=6 {
        let (rig, platform) = calm().await;
        let at = |path: &'static str| {
            app_with("base", "shop:1", 2, |spec| {
                let port = spec.ports.values_mut().next().unwrap();
                port.path = path.parse().unwrap();
            })
        };
        for flip in 0..flips {
            let next = at(if flip % 2 == 0 { "/a" } else { "/b" });
            platform.deploy(&next).await.unwrap();
            look_again(&rig).await;
        }
        assert_replaces(&rig, &platform).await;
    }
}

/// More tables are decided than anybody would remember, while one is on its way.
#[tokio::test(start_paused = true)]
async fn fifty_apps_in_a_row_are_served_soon_and_stop_no_replacement() {
    const APPS: usize = 50;
    let (rig, platform) = calm().await;
    rig.host(1).balancer.faults().delay(Op::Apply, RELOAD * 4);
    for n in 0..APPS {
        platform.deploy(&app(&format!("app{n}"), "shop:1", 2)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let all = |status: &Status| (0..APPS).all(|n| settled(&format!("app{n}"), 2)(status));
    platform.wait_for(all, Duration::from_secs(30)).await.unwrap_or_else(|e| panic!("{e}"));
    rig.host(1).balancer.faults().delay(Op::Apply, RELOAD);
    assert_replaces(&rig, &platform).await;
}
