//! The engine restarts under its users. A suite of its own: put it into a test binary that runs alone.

use std::time::Duration;

use super::super::{PATIENCE, eventually};
pub use super::bed::Bed;
use super::watching::Ear;
use crate::runtime::{ContainerSpec, Restart, RuntimeEvent};

/// Calls in the meantime fail or work and none hangs; events say `Resync` and go on; what restarts always is
/// back, and the desired state can be made again. Needs `restart` of the setup.
pub async fn a_restart_of_the_engine_is_survived(bed: &Bed) {
    bed.runtime.ensure_network(&bed.network).await.unwrap();
    let instance = bed.at(10, bed.sleeper("instance"));
    let always = ContainerSpec { restart: Restart::Always, ..bed.at(11, bed.sleeper("always")) };
    bed.runtime.run(&instance).await.unwrap();
    bed.runtime.run(&always).await.unwrap();
    let ear = Ear::of(&*bed.runtime);
    ear.wakes(bed, "before").await;
    let before = ear.heard().len();

    let restart = tokio::spawn({
        let setup = bed.setup.clone();
        async move { setup.restart().await }
    });
    while !restart.is_finished() {
        let _ = tokio::time::timeout(PATIENCE, bed.runtime.list()).await.expect("list ends");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    restart.await.unwrap();

    let resynced = async || ear.heard()[before..].contains(&RuntimeEvent::Resync);
    eventually("Resync after the gap", resynced).await;
    eventually("what restarts always is back", async || bed.runs("always").await).await;

    bed.runtime.ensure_network(&bed.network).await.unwrap();
    bed.stop("instance").await;
    bed.runtime.run(&instance).await.unwrap();
    ear.wakes(bed, "after").await;
    assert_eq!(bed.names().await, ["after", "always", "before", "instance"]);
}

/// One test of each case about restarts of the engine, from a
/// [`RuntimeSetup`](crate::conformance::runtime::RuntimeSetup).
#[macro_export]
macro_rules! container_runtime_restart_suite {
    ($($given:tt)*) => {
        $crate::__conformance_cases! {
            ($) runtime_restart [a_restart_of_the_engine_is_survived]
            $($given)*
        }
    };
}
