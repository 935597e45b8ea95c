//! The engine restarts under us (F10). Named to run last: it disturbs whoever else uses the engine.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod common;

use std::time::Duration;

use futures_util::StreamExt;
use lb_core::{ContainerRuntime, ContainerSpec, ContainerState, Restart, RuntimeEvent};

use common::{PATIENCE, eventually, on_bed, variable};

/// One test only, so that nothing runs beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_DOCKER (testbed/up)"]
async fn a_restart_is_survived() {
    on_bed(|bed| Box::pin(case(&bed.runtime, bed))).await;
}

async fn case(runtime: &dyn ContainerRuntime, bed: &common::Bed) {
    runtime.ensure_network(&bed.network).await.unwrap();
    let instance = bed.at(10, bed.sleeper("instance"));
    let always = ContainerSpec { restart: Restart::Always, ..bed.at(11, bed.sleeper("always")) };
    let made = bed.at(12, bed.sleeper("later"));
    runtime.run(&instance).await.unwrap();
    runtime.run(&always).await.unwrap();
    let mut events = runtime.events();
    assert_eq!(events.next().await.unwrap().unwrap(), RuntimeEvent::Resync);

    let restart = tokio::spawn(restart());
    // Calls in the meantime fail or work, and none hangs or panics.
    while !restart.is_finished() {
        let _ = tokio::time::timeout(PATIENCE, runtime.list()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    restart.await.unwrap();

    let resynced =
        async { while !matches!(events.next().await, Some(Ok(RuntimeEvent::Resync))) {} };
    tokio::time::timeout(PATIENCE, resynced).await.expect("Resync after the gap");
    eventually("what restarts always is back", async || {
        bed.listed("always").await.unwrap().state == ContainerState::Running
    })
    .await;
    let state = bed.listed("instance").await.unwrap().state;
    assert!(
        matches!(state, ContainerState::Exited(_)),
        "no restart policy, no live-restore: {state:?}"
    );

    // The desired state comes back: network as it was, instance anew, and events tell of it.
    runtime.ensure_network(&bed.network).await.unwrap();
    runtime.stop(&instance.name, Duration::ZERO).await.unwrap();
    runtime.run(&instance).await.unwrap();
    runtime.run(&made).await.unwrap();
    let started = async {
        while !matches!(events.next().await, Some(Ok(RuntimeEvent::Started(name))) if name == made.name)
        {
        }
    };
    tokio::time::timeout(PATIENCE, started).await.expect("events after the restart");
}

async fn restart() {
    let command = variable("LB_TEST_ENGINE_RESTART");
    let status = tokio::process::Command::new("sh").args(["-c", &command]).status().await.unwrap();
    assert!(status.success(), "{command}");
}
