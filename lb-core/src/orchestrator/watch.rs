//! Follows the registry and the apps, and keeps static hosts registered.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt};

use super::inbox::{Inbox, News};
use super::link::bounded;
use crate::backoff::Backoff;
use crate::error::Result;
use crate::model::HostFacts;
use crate::registry::HostRegistry;

/// Renewals in the time of one lease: two may be lost.
const RENEWALS: u32 = 3;

/// Leaves each item in the inbox, the latest only. A stream that fails or ends is not asked again at once.
pub(super) async fn follow<T>(
    seed: &str,
    open: impl Fn() -> BoxStream<'static, Result<T>>,
    inbox: Arc<Inbox>,
    leave: impl Fn(&mut News, Result<T>),
) {
    let mut backoff = Backoff::new(seed);
    let mut stream = open();
    loop {
        let item = stream.next().await;
        let pause = match &item {
            Some(Ok(_)) => {
                backoff.reset();
                None
            }
            Some(Err(_)) | None => Some(backoff.next()),
        };
        match item {
            Some(item) => inbox.put(|news| leave(news, item)),
            None => stream = open(),
        }
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Renews the leases of static hosts.
pub(super) async fn renew(registry: Arc<dyn HostRegistry>, hosts: Vec<HostFacts>, lease: Duration) {
    loop {
        tokio::time::sleep(lease / RENEWALS).await;
        for facts in &hosts {
            let announce = registry.announce(facts, lease);
            if let Err(error) = bounded("renew", &facts.id, lease / RENEWALS, announce).await {
                tracing::warn!(host = %facts.id, %error, "lease not renewed");
            }
        }
    }
}
