//! A balancer and a renderer across the wire.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Wire, answer, sent};
use crate::balancer::{Applied, BalancerInfo, ListenerProbe, LoadBalancer, ProbeAnswer, Traffic};
use crate::config::{ConfigRenderer, RenderedConfig};
use crate::error::Result;
use crate::model::FileName;
use crate::routing::RoutingTable;

/// The table as it arrives, known by the same hash.
fn sent_table(table: &RoutingTable) -> RoutingTable {
    let arrived = sent(table);
    assert_eq!(arrived.hash(), table.hash(), "the same table on both sides");
    arrived
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LoadBalancer for Wire<dyn LoadBalancer> {
    async fn describe(&self) -> Result<BalancerInfo> {
        answer(self.0.describe().await)
    }

    async fn apply(&self, table: &RoutingTable) -> Result<Applied> {
        answer(self.0.apply(&sent_table(table)).await)
    }

    async fn traffic(&self) -> Result<Traffic> {
        answer(self.0.traffic().await)
    }

    async fn probe(&self, listener: &ListenerProbe) -> Result<ProbeAnswer> {
        answer(self.0.probe(&sent(listener)).await)
    }

    async fn files(&self) -> Result<BTreeMap<FileName, String>> {
        answer(self.0.files().await)
    }

    async fn shutdown(&self) -> Result<()> {
        answer(self.0.shutdown().await)
    }
}

#[deny(clippy::missing_trait_methods)]
impl ConfigRenderer for Wire<dyn ConfigRenderer> {
    fn render(&self, table: &RoutingTable) -> Result<RenderedConfig> {
        answer(self.0.render(&sent_table(table)))
    }
}
