//! A faulty balancer.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::Faulty;
use crate::balancer::{Applied, BalancerInfo, ListenerProbe, LoadBalancer, ProbeAnswer, Traffic};
use crate::error::Result;
use crate::memory::Op;
use crate::model::FileName;
use crate::routing::RoutingTable;

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LoadBalancer for Faulty<dyn LoadBalancer> {
    async fn describe(&self) -> Result<BalancerInfo> {
        self.faults.around(Op::Describe, "balancer", self.inner.describe()).await
    }

    async fn apply(&self, table: &RoutingTable) -> Result<Applied> {
        self.faults.around(Op::Apply, "routing table", self.inner.apply(table)).await
    }

    async fn traffic(&self) -> Result<Traffic> {
        self.faults.around(Op::Traffic, "balancer", self.inner.traffic()).await
    }

    async fn probe(&self, listener: &ListenerProbe) -> Result<ProbeAnswer> {
        self.faults.around(Op::Probe, "listener", self.inner.probe(listener)).await
    }

    async fn files(&self) -> Result<BTreeMap<FileName, String>> {
        self.faults.around(Op::Files, "balancer", self.inner.files()).await
    }

    async fn shutdown(&self) -> Result<()> {
        self.faults.around(Op::Shutdown, "balancer", self.inner.shutdown()).await
    }
}
