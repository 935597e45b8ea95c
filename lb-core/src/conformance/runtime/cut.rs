//! Dropping a call's future abandons the wait, not the work, at whichever await it is dropped.

use std::time::Duration;

use super::super::{PATIENCE, at_each_await, eventually, poll_times, refused};
use super::Bed;
use crate::error::ErrorKind;
use crate::runtime::{ContainerSpec, Quiet, Role};

/// Each abandoned `run` ends in a running container, and the next call finds it so.
pub async fn a_cut_run_goes_on_and_the_next_call_waits(bed: &Bed) {
    at_each_await(async |polls| {
        let alone = bed.sleeper("alone");
        let ended = poll_times(bed.runtime.run(&alone), polls).await.is_some();
        eventually("the abandoned run ends", async || bed.runs("alone").await).await;

        let followed = bed.sleeper("followed");
        let _ = poll_times(bed.runtime.run(&followed), polls).await;
        let id = bed.runtime.run(&followed).await.unwrap();
        assert_eq!(bed.listed("followed").await.unwrap().id, id, "{polls} polls");

        let undone = bed.sleeper("undone");
        let _ = poll_times(bed.runtime.run(&undone), polls).await;
        bed.stop("undone").await;
        assert_eq!(bed.names().await, ["alone", "followed"], "stop waits, after {polls} polls");

        bed.stop("alone").await;
        bed.stop("followed").await;
        ended
    })
    .await;
}

/// Each abandoned `stop` removes the container, and a `run` behind it makes another.
pub async fn a_cut_stop_goes_on_and_the_next_call_waits(bed: &Bed) {
    at_each_await(async |polls| {
        let spec = bed.sleeper("gone");
        bed.runtime.run(&spec).await.unwrap();
        let stop = bed.runtime.stop(&spec.name, Duration::from_secs(1));
        let ended = poll_times(stop, polls).await.is_some();
        eventually("the abandoned stop ends", async || bed.listed("gone").await.is_none()).await;

        let spec = bed.sleeper("again");
        let first = bed.runtime.run(&spec).await.unwrap();
        let _ = poll_times(bed.runtime.stop(&spec.name, Duration::from_secs(1)), polls).await;
        let second = bed.runtime.run(&spec).await.unwrap();
        assert_ne!(first, second, "the run waits behind the stop, after {polls} polls");
        assert_eq!(bed.listed("again").await.unwrap().id, second);
        assert!(bed.runs("again").await);

        bed.stop("again").await;
        ended
    })
    .await;
}

/// Networks alike.
pub async fn a_cut_network_call_goes_on_and_the_next_call_waits(bed: &Bed) {
    at_each_await(async |polls| {
        let _ = poll_times(bed.runtime.ensure_network(&bed.network), polls).await;
        bed.runtime.ensure_network(&bed.network).await.unwrap();
        bed.runtime.run(&bed.at(10, bed.sleeper("on-it"))).await.unwrap();
        bed.stop("on-it").await;

        let remove = bed.runtime.remove_network(&bed.network.name);
        let ended = poll_times(remove, polls).await.is_some();
        bed.runtime.ensure_network(&bed.network).await.unwrap();
        let there = bed.runtime.run(&bed.at(11, bed.sleeper("on-it"))).await;
        there.expect("it was made anew behind the removal");
        bed.stop("on-it").await;

        bed.runtime.remove_network(&bed.network.name).await.unwrap();
        ended
    })
    .await;
}

/// Images alike: the name is found by whoever asks next, and leads to the same digest.
pub async fn a_cut_image_call_goes_on_and_the_next_call_waits(bed: &Bed) {
    let image = bed.sleeper("x").image;
    let digest = bed.runtime.ensure_image(&image, None, &Quiet).await.unwrap();
    at_each_await(async |polls| {
        let call = bed.runtime.ensure_image(&image, None, &Quiet);
        let ended = poll_times(call, polls).await.is_some();
        let absent = bed.setup.absent_image();
        let _ = poll_times(bed.runtime.ensure_image(&absent, None, &Quiet), polls).await;

        let next = bed.runtime.ensure_image(&image, None, &Quiet).await;
        assert_eq!(next.unwrap(), digest, "after {polls} polls");
        refused(bed.runtime.ensure_image(&absent, None, &Quiet).await, ErrorKind::NotFound);
        ended
    })
    .await;
}

/// An abandoned checker still ends, and is removed.
pub async fn a_cut_checker_leaves_nothing(bed: &Bed) {
    at_each_await(async |polls| {
        let check = bed.failing("check");
        let ended = poll_times(bed.runtime.run_to_end(&check, PATIENCE), polls).await.is_some();
        bed.runtime.run_to_end(&check, PATIENCE).await.expect("it waits behind the first");
        assert!(bed.names().await.is_empty(), "{polls} polls");
        ended
    })
    .await;
}

/// A process that is killed while it checks leaves its checker, which must not stand in the way of the next one.
pub async fn a_checker_left_behind_gives_way(bed: &Bed) {
    let checker = |spec| ContainerSpec { role: Role::Checker, ..spec };
    bed.runtime.run(&checker(bed.sleeper("check"))).await.unwrap();
    let next = checker(bed.failing("check"));
    bed.runtime.run_to_end(&next, PATIENCE).await.unwrap();
    assert!(bed.names().await.is_empty());

    let other = bed.sleeper("other");
    bed.runtime.run(&other).await.unwrap();
    let next = checker(bed.failing("other"));
    refused(bed.runtime.run_to_end(&next, PATIENCE).await, ErrorKind::Conflict);
    assert_eq!(bed.names().await, ["other"]);
}
