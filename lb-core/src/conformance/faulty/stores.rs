//! Faulty registries and stores.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::Faulty;
use crate::error::Result;
use crate::ledger::Ledger;
use crate::memory::Op;
use crate::model::{App, AppName, HostFacts, HostId, HostSet};
use crate::registry::HostRegistry;
use crate::scale::LoadSample;
use crate::store::{AppChange, AppSet, AppStore, Generation, LedgerStore, LoadStore, Term};

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl HostRegistry for Faulty<dyn HostRegistry> {
    async fn announce(&self, host: &HostFacts, ttl: Duration) -> Result<()> {
        let call = self.inner.announce(host, ttl);
        self.faults.around(Op::Announce, host.id.as_str(), call).await
    }

    async fn withdraw(&self, id: &HostId) -> Result<()> {
        self.faults.around(Op::Withdraw, id.as_str(), self.inner.withdraw(id)).await
    }

    fn watch(&self) -> BoxStream<'static, Result<Arc<HostSet>>> {
        self.inner.watch()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl AppStore for Faulty<dyn AppStore> {
    async fn put(&self, app: &App, change: AppChange) -> Result<Generation> {
        self.faults.around(Op::Put, app.name.as_str(), self.inner.put(app, change)).await
    }

    async fn remove(&self, name: &AppName) -> Result<()> {
        self.faults.around(Op::Remove, name.as_str(), self.inner.remove(name)).await
    }

    fn watch(&self) -> BoxStream<'static, Result<Arc<AppSet>>> {
        self.inner.watch()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LedgerStore for Faulty<dyn LedgerStore> {
    async fn load(&self) -> Result<Option<Ledger>> {
        self.faults.around(Op::Load, "ledger", self.inner.load()).await
    }

    async fn save(&self, ledger: &Ledger, term: Term) -> Result<()> {
        self.faults.around(Op::Save, "ledger", self.inner.save(ledger, term)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LoadStore for Faulty<dyn LoadStore> {
    async fn append(&self, app: &AppName, sample: &LoadSample) -> Result<()> {
        self.faults.around(Op::Append, app.as_str(), self.inner.append(app, sample)).await
    }

    async fn recent(&self, app: &AppName, most: usize) -> Result<Vec<LoadSample>> {
        self.faults.around(Op::Recent, app.as_str(), self.inner.recent(app, most)).await
    }
}
