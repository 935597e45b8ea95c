//! The balancer does not answer for a while, and then goes on.

use std::time::Duration;

use super::super::{eventually, in_time, refused};
use super::bed::Bed;
use super::site::Site;
use crate::balancer::Change;
use crate::error::ErrorKind;

/// How long a caller waits before it gives a stalled balancer up.
const WAIT: Duration = Duration::from_millis(500);

/// What was in force stays, and what was asked for meanwhile does no harm later. Needs `stall` of the setup.
pub async fn calls_on_a_stalled_balancer_time_out(bed: &Bed) {
    let (a, b) = (Site::http(1).await, Site::http(2).await);
    let (one, both) = (bed.http(&[&a]), bed.http(&[&a, &b]));
    bed.apply(&one).await;
    let stalled = bed.setup.stall().await;
    refused(in_time(bed.balancer.traffic()).await, ErrorKind::Timeout);
    refused(in_time(bed.balancer.apply(&both)).await, ErrorKind::Timeout);
    drop(stalled);
    bed.apply(&one).await;
    assert_eq!(bed.servers().await, std::slice::from_ref(&a.name));
    bed.apply(&both).await;
    assert_eq!(bed.servers().await, [a.name.clone(), b.name.clone()]);
}

/// The wait ended and the work did not: the next call finds it done, or waits behind it. Needs `stall` of the
/// setup.
pub async fn a_call_dropped_on_a_stalled_balancer_is_done_once_it_goes_on(bed: &Bed) {
    let (a, b) = (Site::http(1).await, Site::http(2).await);
    let (one, both) = (bed.http(&[&a]), bed.http(&[&a, &b]));
    bed.apply(&one).await;
    let stalled = bed.setup.stall().await;
    let dropped = tokio::time::timeout(WAIT, bed.balancer.apply(&both)).await;
    assert!(dropped.is_err(), "it waits for the balancer: {dropped:?}");
    drop(stalled);
    eventually("the abandoned table comes in force", async || bed.serves(&both).await).await;
    assert_eq!(bed.apply(&both).await.change, Change::None);

    let stalled = bed.setup.stall().await;
    let dropped = tokio::time::timeout(WAIT, bed.balancer.apply(&one)).await;
    assert!(dropped.is_err(), "it waits for the balancer: {dropped:?}");
    drop(stalled);
    bed.apply(&both).await;
    assert!(bed.serves(&both).await, "the later one stays");
    assert_eq!(bed.servers().await, [a.name.clone(), b.name.clone()]);
}
