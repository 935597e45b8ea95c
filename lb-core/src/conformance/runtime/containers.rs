//! Containers run, are listed, and stop.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;

use super::super::{eventually, refused};
use super::Bed;
use crate::error::{ErrorKind, Result};
use crate::model::LabelKey;
use crate::runtime::{ContainerSpec, ContainerState, Quiet, Readiness, Role};

/// `describe` gives a name and a version, and the same each time.
pub async fn it_says_who_it_is(bed: &Bed) {
    let info = bed.runtime.describe().await.unwrap();
    assert!(!info.name.is_empty() && !info.version.is_empty(), "{info:?}");
    assert_eq!(bed.runtime.describe().await.unwrap(), info);
}

/// An image that is here keeps its digest, and runs by it.
pub async fn an_image_that_is_here_has_a_digest_and_runs_by_it(bed: &Bed) {
    let spec = bed.sleeper("pinned");
    let digest = bed.runtime.ensure_image(&spec.image, None, &Quiet).await.unwrap();
    assert_eq!(bed.runtime.ensure_image(&spec.image, None, &Quiet).await.unwrap(), digest);
    let pinned = spec.image.clone().with_digest(digest.clone());
    assert_eq!(bed.runtime.ensure_image(&pinned, None, &Quiet).await.unwrap(), digest);
    bed.runtime.run(&ContainerSpec { image: pinned, ..spec }).await.unwrap();
    assert!(bed.runs("pinned").await);
}

/// `ensure_image` of an image that is nowhere names it.
pub async fn an_image_that_is_nowhere_is_not_found(bed: &Bed) {
    let image = bed.setup.absent_image();
    let result = bed.runtime.ensure_image(&image, None, &Quiet).await;
    let error = refused(result, ErrorKind::NotFound).to_string();
    assert!(error.contains(image.repository()), "{error}");
}

/// What `run` was given is what `list` shows; `stop` removes it, and absent is success.
pub async fn a_container_runs_is_listed_and_stops(bed: &Bed) {
    bed.runtime.ensure_network(&bed.network).await.unwrap();
    let tier = LabelKey::new("tier").unwrap();
    let spec = ContainerSpec {
        labels: BTreeMap::from([(tier.clone(), "web \"quoted\" = {1}".to_owned())]),
        ..bed.at(10, bed.sleeper("one"))
    };
    let checker = ContainerSpec { role: Role::Checker, ..bed.sleeper("two") };
    let id = bed.runtime.run(&spec).await.unwrap();
    bed.runtime.run(&checker).await.unwrap();

    let one = bed.listed("one").await.unwrap();
    assert_eq!((&one.id, &one.spec, one.role), (&id, &spec.hash(), spec.role));
    assert_eq!(one.state, ContainerState::Running);
    assert_eq!(one.labels.get(&tier), spec.labels.get(&tier));
    assert!(!matches!(one.readiness, Readiness::NotReady(_)), "it has no check to fail");
    assert_eq!(bed.listed("two").await.unwrap().role, Role::Checker);

    for what in ["one", "two", "one", "never"] {
        bed.stop(what).await;
    }
    assert!(bed.names().await.is_empty());
}

/// Repeating `run` gives the same container.
pub async fn running_twice_is_success(bed: &Bed) {
    let spec = bed.sleeper("one");
    let id = bed.runtime.run(&spec).await.unwrap();
    assert_eq!(bed.runtime.run(&spec).await.unwrap(), id);
    assert_eq!(bed.names().await, ["one"]);
    bed.stop("one").await;
    assert_ne!(bed.runtime.run(&spec).await.unwrap(), id, "another container of the same name");
}

/// A container that was made and never started is started. Needs `make_only` of the setup.
pub async fn one_made_but_never_started_is_started(bed: &Bed) {
    let spec = bed.sleeper("made");
    bed.setup.make_only(&bed.cluster, &spec).await;
    assert_eq!(bed.listed("made").await.unwrap().state, ContainerState::Created);
    bed.runtime.run(&spec).await.unwrap();
    assert!(bed.runs("made").await);
    bed.setup.make_only(&bed.cluster, &bed.sleeper("other")).await;
    bed.stop("other").await;
    assert_eq!(bed.names().await, ["made"]);
}

/// Concurrent calls on one name make one container; on many names, many.
pub async fn many_at_once_make_one_each(bed: &Bed) {
    let spec = bed.sleeper("same");
    let ids = join_all((0..8).map(|_| bed.runtime.run(&spec))).await;
    let ids: BTreeSet<_> = ids.into_iter().map(Result::unwrap).collect();
    assert_eq!(ids.len(), 1);

    let specs: Vec<_> = (0..8).map(|n| bed.sleeper(&format!("m{n}"))).collect();
    let ids = join_all(specs.iter().map(|spec| bed.runtime.run(spec))).await;
    let ids: BTreeSet<_> = ids.into_iter().map(Result::unwrap).collect();
    assert_eq!((ids.len(), bed.names().await.len()), (8, 9));

    let names = bed.runtime.list().await.unwrap().into_iter().map(|c| c.name);
    let twice: Vec<_> = names.flat_map(|name| [name.clone(), name]).collect();
    let stops = join_all(twice.iter().map(|name| bed.runtime.stop(name, Duration::ZERO))).await;
    stops.into_iter().for_each(Result::unwrap);
    assert!(bed.names().await.is_empty());
}

/// Two values for one cluster, as two processes hold them, do no harm to each other.
pub async fn two_values_on_one_engine_agree(bed: &Bed) {
    let other = bed.setup.runtime(&bed.cluster).await;
    let spec = bed.sleeper("twice");
    let (one, two) = tokio::join!(bed.runtime.run(&spec), other.run(&spec));
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(other.list().await.unwrap(), bed.runtime.list().await.unwrap());
    let (one, two) = tokio::join!(
        bed.runtime.stop(&spec.name, Duration::ZERO),
        other.stop(&spec.name, Duration::ZERO)
    );
    one.unwrap();
    two.unwrap();
    assert!(bed.names().await.is_empty());
    let (one, two) =
        tokio::join!(bed.runtime.ensure_network(&bed.network), other.ensure_network(&bed.network));
    one.unwrap();
    two.unwrap();
}

/// Whatever the order of starting.
pub async fn the_list_is_in_order_of_name(bed: &Bed) {
    for what in ["m", "a10", "z", "a-b", "a2", "a.b"] {
        bed.runtime.run(&bed.sleeper(what)).await.unwrap();
    }
    bed.stop("m").await;
    let names: Vec<_> = bed.runtime.list().await.unwrap().into_iter().map(|c| c.name).collect();
    assert_eq!(names.len(), 5);
    assert!(names.is_sorted(), "{names:?}");
}

/// The one that runs is left alone.
pub async fn another_spec_is_a_conflict(bed: &Bed) {
    let spec = bed.sleeper("one");
    let id = bed.runtime.run(&spec).await.unwrap();
    let mut other = spec.clone();
    other.env.insert("OTHER".parse().unwrap(), "1".to_owned());
    let error = refused(bed.runtime.run(&other).await, ErrorKind::Conflict).to_string();
    assert!(error.contains(spec.name.as_str()), "{error}");
    let there = bed.listed("one").await.unwrap();
    assert_eq!((there.id, there.state), (id, ContainerState::Running));
}

/// An ended container is listed with its code, and in the way until it is stopped.
pub async fn an_exited_one_is_a_conflict_until_it_is_removed(bed: &Bed) {
    let spec = bed.failing("short");
    let first = bed.runtime.run(&spec).await.unwrap();
    let exited =
        async || matches!(bed.listed("short").await.unwrap().state, ContainerState::Exited(_));
    eventually("it exits", exited).await;
    let ContainerState::Exited(exit) = bed.listed("short").await.unwrap().state else {
        unreachable!("it has exited")
    };
    assert_eq!((exit.code, exit.out_of_memory, exit.output.as_str()), (1, false, ""));
    refused(bed.runtime.run(&spec).await, ErrorKind::Conflict);
    refused(bed.runtime.run(&bed.sleeper("short")).await, ErrorKind::Conflict);
    bed.stop("short").await;
    assert!(bed.names().await.is_empty());
    assert_ne!(bed.runtime.run(&spec).await.unwrap(), first);
}
