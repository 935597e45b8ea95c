//! Registries, stores, leadership, policies and connectors across the wire.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde::Deserialize;

use super::{Wire, answer, answers, sent};
use crate::error::Result;
use crate::host::{HostConnector, HostHandle};
use crate::ledger::Ledger;
use crate::model::{App, AppName, HostFacts, HostId, HostSet};
use crate::registry::HostRegistry;
use crate::scale::{Decision, LoadSample, LoadView, PolicyMemory, ScalePolicy};
use crate::store::{
    AppChange, AppSet, AppStore, Generation, Leadership, LedgerStore, LoadStore, Standing, Term,
};
use crate::time::Now;

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl HostRegistry for Wire<dyn HostRegistry> {
    async fn announce(&self, host: &HostFacts, ttl: Duration) -> Result<()> {
        answer(self.0.announce(&sent(host), sent(&ttl)).await)
    }

    async fn withdraw(&self, id: &HostId) -> Result<()> {
        answer(self.0.withdraw(&sent(id)).await)
    }

    fn watch(&self) -> BoxStream<'static, Result<Arc<HostSet>>> {
        answers(self.0.watch())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl AppStore for Wire<dyn AppStore> {
    async fn put(&self, app: &App, change: AppChange) -> Result<Generation> {
        answer(self.0.put(&sent(app), sent(&change)).await)
    }

    async fn remove(&self, name: &AppName) -> Result<()> {
        answer(self.0.remove(&sent(name)).await)
    }

    fn watch(&self) -> BoxStream<'static, Result<Arc<AppSet>>> {
        answers(self.0.watch())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LedgerStore for Wire<dyn LedgerStore> {
    async fn load(&self) -> Result<Option<Ledger>> {
        answer(self.0.load().await)
    }

    async fn save(&self, ledger: &Ledger, term: Term) -> Result<()> {
        answer(self.0.save(&sent(ledger), sent(&term)).await)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LoadStore for Wire<dyn LoadStore> {
    async fn append(&self, app: &AppName, sample: &LoadSample) -> Result<()> {
        answer(self.0.append(&sent(app), &sent(sample)).await)
    }

    async fn recent(&self, app: &AppName, most: usize) -> Result<Vec<LoadSample>> {
        answer(self.0.recent(&sent(app), sent(&most)).await)
    }
}

#[deny(clippy::missing_trait_methods)]
impl Leadership for Wire<dyn Leadership> {
    fn campaign(&self) -> BoxStream<'static, Result<Standing>> {
        answers(self.0.campaign())
    }
}

/// A [`LoadView`] as it arrives.
#[derive(Deserialize)]
struct ArrivedView {
    app: App,
    wanted: u32,
    ready: u32,
    starting: u32,
    samples: Vec<LoadSample>,
}

#[deny(clippy::missing_trait_methods)]
impl ScalePolicy for Wire<dyn ScalePolicy> {
    fn decide(
        &self,
        load: &LoadView<'_>,
        memory: &PolicyMemory,
        now: Now,
    ) -> (Decision, PolicyMemory) {
        let json = serde_json::to_vec(load).unwrap_or_else(|e| panic!("a view must encode: {e}"));
        let arrived: ArrivedView =
            serde_json::from_slice(&json).unwrap_or_else(|e| panic!("a view must decode: {e}"));
        let ArrivedView { app, wanted, ready, starting, samples } = &arrived;
        let (wanted, ready, starting) = (*wanted, *ready, *starting);
        let view = LoadView { app, wanted, ready, starting, samples };
        let (decision, memory) = self.0.decide(&view, &sent(memory), sent(&now));
        (sent(&decision), sent(&memory))
    }
}

/// The handles it gives are wired as well.
#[deny(clippy::missing_trait_methods)]
impl HostConnector for Wire<dyn HostConnector> {
    fn connect(&self, host: &HostId, term: Term) -> HostHandle {
        let HostHandle { runtime, balancer } = self.0.connect(&sent(host), sent(&term));
        let (runtime, balancer) = (Arc::new(Wire(runtime)), Arc::new(Wire(balancer)));
        HostHandle { runtime, balancer }
    }
}
