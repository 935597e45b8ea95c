//! The whole stack on real engines, by what a client sees: an app is described, and whatever happens to its
//! instances, its versions or its orchestrator, no request fails.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod support;

use std::time::Duration;

use lb_core::{App, AppSpec, AppStatus, Replicas};
use lb_examples::Engine;
use support::{Platform, STEP, each_engine, restart_engine};

each_engine! {
    an_instance_that_crashes_costs_no_request,
    a_bad_version_goes_back_and_nobody_notices,
    an_orchestrator_that_ends_midway_is_taken_over,
}

async fn an_instance_that_crashes_costs_no_request(engine: Engine) {
    let platform = Platform::with(engine, 3).await;
    let load = platform.load();
    for _ in 0..3 {
        let victim = platform.crash_one().await;
        let gone = |app: &AppStatus| app.instances.iter().all(|i| i.id != victim);
        platform.until("its replacement", |app| gone(app) && app.is_settled()).await;
    }
    platform.end(load, 100).await;
}

async fn a_bad_version_goes_back_and_nobody_notices(engine: Engine) {
    let platform = Platform::with(engine, 2).await;
    let good = platform.app_status().revision;
    let load = platform.load();
    let mut bad = AppSpec::from(platform.app("2", 2));
    // It listens and never becomes ready.
    bad.env.insert("READY_DELAY_MS".parse().unwrap(), "3600000".to_owned());
    bad.rollout.ready_within = Duration::from_secs(2);
    platform.orchestrator.deploy(&App::new(bad).unwrap()).await.unwrap();
    let back = |app: &AppStatus| app.failed.is_some() && app.revision == good && app.is_settled();
    platform.until("the version before", back).await;
    let counts = platform.end(load, 100).await;
    assert_eq!(counts.by_version.keys().collect::<Vec<_>>(), ["1"], "nobody met version 2");
}

async fn an_orchestrator_that_ends_midway_is_taken_over(engine: Engine) {
    let mut platform = Platform::with(engine, 2).await;
    let load = platform.load();
    for (version, count) in [("1", 4), ("2", 4), ("2", 2), ("3", 3)] {
        platform.deploy(version, count).await;
        // As soon as it has begun, it is gone; the next one knows what the files and the engine say.
        platform.until("something to do", |app| !app.is_settled()).await;
        platform.replace_orchestrator().await;
        platform.until("all as asked", |app| app.wanted == count && app.is_settled()).await;
        let instances = platform.app_status().instances;
        assert_eq!(platform.containers().await.len(), instances.len(), "no orphan, no duplicate");
    }
    platform.end(load, 100).await;
}

#[tokio::test]
#[ignore = "needs LB_TEST_DOCKER, LB_TEST_ENGINE_RESTART (testbed/up)"]
async fn f10_everything_comes_back_after_the_engine_was_restarted() {
    let _one_at_a_time = support::turn("docker").await;
    let platform = Platform::with(Engine::Docker, 3).await;
    restart_engine().await;
    // What stopped with the engine is replaced, and the balancer is up again with what is ready.
    platform.until("all as before", AppStatus::is_settled).await;
    platform.answers().await;
    let load = platform.load();
    platform.deploy("1", 5).await;
    platform.until("5 instances", |app| app.wanted == 5 && app.is_settled()).await;
    platform.end(load, 20).await;
}

#[tokio::test]
#[ignore = "needs LB_TEST_DOCKER (testbed/up)"]
async fn from_deploy_to_the_first_answer_on_docker() {
    let _one_at_a_time = support::turn("docker").await;
    let start = std::time::Instant::now();
    let platform = Platform::with(Engine::Docker, 2).await;
    // 3 s is the figure on a quiet machine; a test must not fail for want of a quiet one.
    assert!(start.elapsed() < STEP, "{:?}", start.elapsed());
    let spec = AppSpec { replicas: Replicas::fixed(0), ..AppSpec::from(platform.app("1", 1)) };
    platform.orchestrator.deploy(&App::new(spec).unwrap()).await.unwrap();
    platform.until("none", |app| app.wanted == 0 && app.instances.is_empty()).await;
    platform.clean_up().await;
}
