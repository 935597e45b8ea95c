//! The engine restarts under its users. A suite of its own: put it into a test binary that runs alone.

use std::future::Future;
use std::time::Duration;

use super::super::{eventually, in_time};
pub use super::bed::Bed;
use super::watching::Ear;
use crate::error::{ErrorKind, Result};
use crate::runtime::{ContainerSpec, Restart, RuntimeEvent};

/// Calls in the meantime work or say that they may be repeated, and none hangs; repeated afterwards each reaches
/// its end, once. Events say `Resync` and go on; what restarts always is
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

    let second = bed.second_network(bed.setup.subnet());
    let churned = [bed.at(12, bed.sleeper("one")), bed.at(13, bed.sleeper("two"))];
    let restart = tokio::spawn({
        let setup = bed.setup.clone();
        async move { setup.restart().await }
    });
    let over = || restart.is_finished();
    tokio::join!(
        meanwhile(over, async || ends(bed.runtime.list()).await),
        meanwhile(over, async || ends(bed.runtime.ensure_network(&second)).await),
        meanwhile(over, async || churn(bed, &churned[0]).await),
        meanwhile(over, async || churn(bed, &churned[1]).await),
    );
    restart.await.unwrap();

    let resynced = async || ear.heard()[before..].contains(&RuntimeEvent::Resync);
    eventually("Resync after the gap", resynced).await;
    eventually("what restarts always is back", async || bed.runs("always").await).await;

    for network in [&bed.network, &second] {
        bed.runtime.ensure_network(network).await.unwrap();
    }
    for spec in churned.iter().chain([&instance]) {
        bed.runtime.stop(&spec.name, Duration::ZERO).await.unwrap();
        bed.runtime.run(spec).await.unwrap();
    }
    ear.wakes(bed, "after").await;
    assert_eq!(bed.names().await, ["after", "always", "before", "instance", "one", "two"]);
    for taken in 10..=13 {
        assert!(bed.holds_address(taken).await, "the address {taken}");
    }
}

/// Again and again until it is over, so that one is in flight when the engine ends.
async fn meanwhile<T>(over: impl Fn() -> bool, call: impl AsyncFn() -> T) {
    while !over() {
        call().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Stops the container and makes it anew.
async fn churn(bed: &Bed, spec: &ContainerSpec) {
    if ends(bed.runtime.stop(&spec.name, Duration::ZERO)).await {
        ends(bed.runtime.run(spec)).await;
    }
}

/// Whether the call came through; if not, it says that it may be repeated.
async fn ends<T>(call: impl Future<Output = Result<T>>) -> bool {
    let retry = [ErrorKind::Unavailable, ErrorKind::Timeout];
    match in_time(call).await {
        Ok(_) => true,
        Err(error) if retry.contains(&error.kind()) => false,
        Err(error) => panic!("neither done nor to be repeated: {error}"),
    }
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
