//! A runtime lists, changes and removes nothing but its cluster's.

use std::time::Duration;

use super::super::{PATIENCE, refused};
use super::Bed;
use crate::error::ErrorKind;
use crate::model::ContainerName;

async fn touches_nothing(bed: &Bed, theirs: &ContainerName) {
    let spec = crate::runtime::ContainerSpec { name: theirs.clone(), ..bed.sleeper("x") };
    let error = refused(bed.runtime.run(&spec).await, ErrorKind::Conflict).to_string();
    assert!(error.contains(theirs.as_str()), "{error}");
    refused(bed.runtime.run_to_end(&spec, PATIENCE).await, ErrorKind::Conflict);
    refused(bed.runtime.stop(theirs, Duration::ZERO).await, ErrorKind::Conflict);
    refused(bed.runtime.logs(theirs, 1).await, ErrorKind::NotFound);
    assert!(bed.runtime.list().await.unwrap().is_empty());
    assert!(bed.runtime.usage().await.unwrap().is_empty());
}

/// Whatever it is called. Needs `make_foreign` of the setup.
pub async fn a_foreign_container_is_neither_listed_nor_touched(bed: &Bed) {
    let name = bed.name("foreign");
    bed.setup.make_foreign(&name).await;
    touches_nothing(bed, &name).await;
    assert!(bed.setup.foreign_runs(&name).await);
}

/// Two platforms share an engine.
pub async fn clusters_on_one_engine_do_not_meet(bed: &Bed) {
    let other = bed.beside().await;
    let theirs = other.sleeper("theirs");
    let id = other.runtime.run(&theirs).await.unwrap();
    touches_nothing(bed, &theirs.name).await;
    bed.runtime.run(&bed.sleeper("ours")).await.unwrap();
    assert_eq!(bed.names().await, ["ours"]);
    assert_eq!(other.names().await, ["theirs"]);
    let there = other.listed("theirs").await.unwrap();
    assert_eq!((&there.id, there.spec), (&id, theirs.hash()));
    assert!(other.runs("theirs").await);
    assert_eq!(other.runtime.usage().await.unwrap().into_keys().collect::<Vec<_>>(), [theirs.name]);
}

/// Neither taken over nor removed.
pub async fn a_network_of_another_cluster_is_a_conflict(bed: &Bed) {
    let other = bed.beside().await;
    bed.runtime.ensure_network(&bed.network).await.unwrap();
    refused(other.runtime.ensure_network(&bed.network).await, ErrorKind::Conflict);
    refused(other.runtime.remove_network(&bed.network.name).await, ErrorKind::Conflict);
    let within = other.second_network(bed.network.subnet);
    refused(other.runtime.ensure_network(&within).await, ErrorKind::Conflict);
    bed.runtime.run(&bed.at(10, bed.sleeper("on-it"))).await.expect("it is still there");
}
