//! The engine does not answer for a while, and then goes on.

use std::time::Duration;

use super::super::{in_time, refused};
use super::Bed;
use crate::error::ErrorKind;
use crate::runtime::Quiet;

/// How long a caller waits before it gives a stalled engine up.
const WAIT: Duration = Duration::from_millis(500);

/// Repeated once the engine goes on, each reaches its end, once. Needs `stallable` and `stall` of the setup.
pub async fn calls_on_a_stalled_engine_time_out(bed: &Bed) {
    bed.runtime.ensure_network(&bed.network).await.unwrap();
    bed.runtime.run(&bed.at(10, bed.sleeper("leaves"))).await.unwrap();
    let (comes, leaves) = (bed.at(11, bed.sleeper("comes")), bed.name("leaves"));
    let second = bed.second_network(bed.setup.subnet());
    let runtime = bed.setup.stallable(&bed.cluster).await;
    runtime.list().await.unwrap();

    let stalled = bed.setup.stall().await;
    let (run, stop, network, image, list, usage, logs) = in_time(async {
        tokio::join!(
            runtime.run(&comes),
            runtime.stop(&leaves, Duration::ZERO),
            runtime.ensure_network(&second),
            runtime.ensure_image(&comes.image, None, &Quiet),
            runtime.list(),
            runtime.usage(),
            runtime.logs(&leaves, 1),
        )
    })
    .await;
    drop(stalled);
    refused(run, ErrorKind::Timeout);
    refused(stop, ErrorKind::Timeout);
    refused(network, ErrorKind::Timeout);
    refused(image, ErrorKind::Timeout);
    refused(list, ErrorKind::Timeout);
    refused(usage, ErrorKind::Timeout);
    refused(logs, ErrorKind::Timeout);

    bed.runtime.ensure_network(&second).await.unwrap();
    bed.stop("leaves").await;
    let id = bed.runtime.run(&comes).await.unwrap();
    assert_eq!(bed.listed("comes").await.unwrap().id, id);
    assert_eq!(bed.names().await, ["comes"]);
    assert!(bed.holds_address(11).await && !bed.holds_address(10).await);
}

/// The wait ended and the work did not: the next call waits behind it. Needs `stallable` and `stall` of the
/// setup.
pub async fn a_call_dropped_on_a_stalled_engine_is_done_once_it_goes_on(bed: &Bed) {
    bed.runtime.ensure_network(&bed.network).await.unwrap();
    bed.runtime.run(&bed.at(10, bed.sleeper("leaves"))).await.unwrap();
    let (comes, leaves) = (bed.at(11, bed.sleeper("comes")), bed.name("leaves"));
    let runtime = bed.setup.stallable(&bed.cluster).await;
    runtime.list().await.unwrap();

    let stalled = bed.setup.stall().await;
    let calls = async { tokio::join!(runtime.run(&comes), runtime.stop(&leaves, Duration::ZERO)) };
    let dropped = tokio::time::timeout(WAIT, calls).await;
    assert!(dropped.is_err(), "they wait for the engine: {dropped:?}");
    drop(stalled);
    let again = async { tokio::join!(runtime.run(&comes), runtime.stop(&leaves, Duration::ZERO)) };
    let (run, stop) = in_time(again).await;
    stop.unwrap();
    assert_eq!(bed.listed("comes").await.unwrap().id, run.unwrap());
    assert_eq!(bed.names().await, ["comes"]);
    assert!(bed.holds_address(11).await && !bed.holds_address(10).await);
}
