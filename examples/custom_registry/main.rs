//! A host registry of one's own: hosts are files in a directory that all machines see.
//!
//! `cargo run --example custom_registry` lets hosts come and go. A platform hands the registry to
//! `Orchestrator::builder(..).registry(..)`. The adapter is [`directory`]; that it is right is said by the suite
//! of its contract, which `tests/conformance.rs` runs over it.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a program for people")]

mod directory;

use std::sync::Arc;
use std::time::Duration;

use directory::Directory;
use futures_util::StreamExt as _;
use lb_core::{HostFacts, HostId, HostRegistry as _, HostSet, Result};

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    // As two processes hold it: a host's, and the platform's.
    let (host, platform) = (Directory::new(directory.path()), Directory::new(directory.path()));
    let mut watch = platform.watch();
    let one = HostFacts::new("h1".parse()?, [192, 0, 2, 1]);
    let two = HostFacts::new("h2".parse()?, [192, 0, 2, 2]);
    for facts in [&one, &two] {
        host.announce(facts, Duration::from_secs(60)).await?;
        println!("{} announces itself: {}", facts.id, members(watch.next().await));
    }
    host.withdraw(&one.id).await?;
    println!("h1 withdraws: {}", members(watch.next().await));
    host.announce(&two, Duration::from_secs(1)).await?;
    println!("h2 falls silent: {}", members(watch.next().await));
    Ok(())
}

fn members(set: Option<Result<Arc<HostSet>>>) -> String {
    match set {
        Some(Ok(set)) => format!("{:?}", set.hosts.keys().map(HostId::as_str).collect::<Vec<_>>()),
        Some(Err(error)) => format!("not to be believed: {error}"),
        None => unreachable!("a watch never ends"),
    }
}
