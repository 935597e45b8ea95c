//! What a deploy looks up, and what it leaves as it is.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests, on a paused clock")]

mod orchestrator_support;

use std::num::NonZeroU32;
use std::sync::Arc;

use lb_core::{
    AppChange, AppStore, ClusterSpec, ErrorKind, FileAppStore, ImageDigest, MemoryLedgerStore,
    Orchestrator, Replicas, Revision, Scaling, Status,
};
use orchestrator_support::{PATIENCE, Rig, app, app_with, name, settled};

/// What `shop:latest` means from now on.
fn push(rig: &Rig, version: u8) {
    let digest = ImageDigest::new(format!("sha256:{version:064x}")).unwrap();
    rig.host(1).engine.publish_image(&"shop:latest".parse().unwrap(), digest);
}

async fn deploy(platform: &Orchestrator) {
    platform.deploy(&app("shop", "shop:latest", 2)).await.unwrap();
}

fn revisions(status: &Status) -> Vec<Revision> {
    let app = status.apps.get(&name("shop"));
    app.into_iter().flat_map(|app| &app.instances).map(|i| i.id.revision).collect()
}

/// So many instances, all of one revision, which is not this one.
async fn another(platform: &Orchestrator, count: u32, old: Option<Revision>) -> Revision {
    let mut is_settled = settled("shop", count);
    let done = |status: &Status| is_settled(status) && !revisions(status).contains(&old.unwrap());
    let status = match old {
        Some(_) => platform.wait_for(done, PATIENCE).await,
        None => platform.wait_for(is_settled, PATIENCE).await,
    };
    let mut found = revisions(&status.unwrap());
    found.dedup();
    assert_eq!(found.len(), 1);
    found[0]
}

#[tokio::test(start_paused = true)]
async fn each_deploy_of_one_tag_serves_what_it_means_then() {
    let rig = Rig::new(1).await;
    push(&rig, 1);
    let platform = rig.start().await;
    deploy(&platform).await;
    let first = another(&platform, 2, None).await;
    push(&rig, 2);
    deploy(&platform).await;
    let second = another(&platform, 2, Some(first)).await;
    push(&rig, 3);
    platform.scale(&name("shop"), 3).await.unwrap();
    let status = platform.wait_for(settled("shop", 3), PATIENCE).await.unwrap();
    assert_eq!(revisions(&status), [second; 3], "a count set by hand is no deploy");
    platform.shutdown().await;

    let platform = rig.start().await;
    let status = platform.wait_for(settled("shop", 3), PATIENCE).await.unwrap();
    assert_eq!(revisions(&status), [second; 3], "nor is another process");
    deploy(&platform).await;
    another(&platform, 2, Some(second)).await;
}

/// The program starts again and deploys what it deployed before.
#[tokio::test(start_paused = true)]
async fn a_platform_that_keeps_nothing_looks_tags_up_at_each_start() {
    let rig = Rig::new(1).await;
    push(&rig, 1);
    let forgetful = async || {
        let connector = std::sync::Arc::new(rig.connector.clone());
        let ledger = std::sync::Arc::new(MemoryLedgerStore::new());
        let registry = std::sync::Arc::new(rig.registry.clone());
        let builder = Orchestrator::builder(rig.cluster.clone()).registry(registry);
        builder.connector(connector).ledger(ledger).start().await.unwrap()
    };
    let platform = forgetful().await;
    deploy(&platform).await;
    let first = another(&platform, 2, None).await;
    platform.shutdown().await;
    push(&rig, 2);
    let platform = forgetful().await;
    deploy(&platform).await;
    another(&platform, 2, Some(first)).await;
}

/// It was stored, and at the next start the file was taken for damaged: this change and its neighbour were lost.
#[tokio::test(start_paused = true)]
async fn a_count_beyond_all_bounds_is_refused() {
    let rig = Rig::new(1).await;
    let platform = rig.start().await;
    deploy(&platform).await;
    platform.wait_for(settled("shop", 2), PATIENCE).await.unwrap();
    let error = platform.scale(&name("shop"), 999_999).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "scale app \"shop\": replicas 999999: must be at most 10000");
    platform.wait_for(settled("shop", 2), PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_has_no_effect_is_said_for_as_long_as_it_is_deployed() {
    let rig = Rig::new(1).await;
    let platform = rig.start().await;
    let scaling = Scaling { requests: NonZeroU32::new(5), ..Scaling::default() };
    let fixed = app_with("shop", "shop:1", 2, |spec| spec.scaling = Some(scaling.clone()));
    platform.deploy(&fixed).await.unwrap();
    let says = |status: &Status| status.reasons.iter().any(|r| r.text.contains("scaling rests"));
    let mut is_settled = settled("shop", 2);
    platform.wait_for(|s| is_settled(s) && says(s), PATIENCE).await.unwrap();
    let moves = app_with("shop", "shop:1", 2, |spec| {
        (spec.scaling, spec.replicas) = (Some(scaling), Replicas { min: 1, max: 3 });
    });
    platform.deploy(&moves).await.unwrap();
    platform.wait_for(|status| !says(status), PATIENCE).await.unwrap();
}

/// The last deploy was undone without a word.
#[tokio::test]
async fn apps_that_were_lost_with_a_damaged_file_are_a_trouble_of_the_status() {
    let directory = tempfile::tempdir().unwrap();
    let open = async || Arc::new(FileAppStore::open(directory.path()).await.unwrap());
    let store = open().await;
    store.put(&app("shop", "shop:1", 1), AppChange::Deploy).await.unwrap();
    store.put(&app("blog", "blog:1", 1), AppChange::Deploy).await.unwrap();
    let file = directory.path().join("apps.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &text[..text.len() - 4]).unwrap();
    let cluster = ClusterSpec::new("demo".parse().unwrap());
    let platform = Orchestrator::builder(cluster).apps(open().await).start().await.unwrap();
    let told = |status: &Status| status.troubles.contains_key("apps");
    let status = platform.wait_for(told, PATIENCE).await.unwrap();
    let text = status.troubles["apps"].to_string();
    assert!(text.contains("\"blog\"") || text.contains("cannot be read"), "{text}");
    std::fs::remove_file(&file).unwrap();
    let gone = |status: &Status| !status.troubles.contains_key("apps");
    platform.wait_for(gone, PATIENCE).await.unwrap();
    platform.shutdown().await;
}
