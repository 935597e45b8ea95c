//! Registries, stores, leadership, policies and connectors pass the suites of their contracts: in memory,
//! across a wire, behind wrappers that could fail, and in files.
#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lb_core::conformance::app_store::AppStoreSetup;
use lb_core::conformance::connector::ConnectorSetup;
use lb_core::conformance::leadership::LeadershipSetup;
use lb_core::conformance::ledger_store::LedgerStoreSetup;
use lb_core::conformance::load_store::LoadStoreSetup;
use lb_core::conformance::registry::RegistrySetup;
use lb_core::conformance::scale_policy::PolicySetup;
use lb_core::conformance::{Faulty, Wire, Wrapped};
use lb_core::*;
use tempfile::TempDir;

/// Everything in memory; each case makes its own.
#[derive(Debug, Default)]
struct Memory {
    registry: MemoryRegistry,
    apps: MemoryAppStore,
    ledger: MemoryLedgerStore,
    loads: MemoryLoadStore,
    seat: MemoryLeadership,
}

#[async_trait]
impl RegistrySetup for Memory {
    async fn registry(&self) -> Arc<dyn HostRegistry> {
        Arc::new(self.registry.clone())
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn fail(&self) {
        self.registry.fail(ErrorKind::Unavailable);
    }

    async fn heal(&self) {
        self.registry.heal();
    }
}

#[async_trait]
impl AppStoreSetup for Memory {
    async fn store(&self) -> Arc<dyn AppStore> {
        Arc::new(self.apps.clone())
    }
}

#[async_trait]
impl LedgerStoreSetup for Memory {
    async fn store(&self) -> Arc<dyn LedgerStore> {
        Arc::new(self.ledger.clone())
    }
}

#[async_trait]
impl LoadStoreSetup for Memory {
    async fn store(&self) -> Arc<dyn LoadStore> {
        Arc::new(self.loads.clone())
    }
}

#[async_trait]
impl LeadershipSetup for Memory {
    async fn leadership(&self) -> Arc<dyn Leadership> {
        Arc::new(self.seat.clone())
    }
}

#[async_trait]
impl ConnectorSetup for Memory {
    async fn connector(&self) -> Arc<dyn HostConnector> {
        let connector = MemoryConnector::new();
        let runtime = Arc::new(MemoryRuntime::new());
        let balancer = Arc::new(MemoryBalancer::new());
        connector.insert(ConnectorSetup::host(self), HostHandle { runtime, balancer });
        Arc::new(connector)
    }

    fn host(&self) -> HostId {
        HostId::new("h1").unwrap()
    }
}

/// Files of a directory of the case's own.
#[derive(Debug)]
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

#[async_trait]
impl AppStoreSetup for Files {
    async fn store(&self) -> Arc<dyn AppStore> {
        Arc::new(FileAppStore::open(self.0.path()).await.unwrap())
    }
}

#[async_trait]
impl LedgerStoreSetup for Files {
    async fn store(&self) -> Arc<dyn LedgerStore> {
        Arc::new(FileLedgerStore::new(self.0.path()))
    }
}

#[async_trait]
impl LeadershipSetup for Files {
    async fn leadership(&self) -> Arc<dyn Leadership> {
        Arc::new(FileLeadership::new(self.0.path()))
    }
}

/// The suite over memory, across a wire, and behind a wrapper that could fail.
macro_rules! in_memory {
    ($suite:ident, $contract:ident) => {
        mod memory {
            lb_core::$suite! { setup: crate::Memory::default() }
        }
        mod memory_over_the_wire {
            use crate::*;
            lb_core::$suite! {
                setup: Wrapped::<_, dyn $contract>::new(Memory::default(), |inner| {
                    Arc::new(Wire::new(inner))
                }),
            }
        }
    };
    ($suite:ident, $contract:ident, and faulty) => {
        in_memory!($suite, $contract);
        mod memory_behind_a_wrapper_that_could_fail {
            use crate::*;
            lb_core::$suite! {
                setup: Wrapped::<_, dyn $contract>::new(Memory::default(), |inner| {
                    Arc::new(Faulty::new(inner))
                }),
            }
        }
    };
}

mod host_registry {
    in_memory!(host_registry_suite, HostRegistry, and faulty);
}

mod app_store {
    in_memory!(app_store_suite, AppStore, and faulty);
    mod files {
        lb_core::app_store_suite! { setup: crate::Files::new() }
    }
}

mod ledger_store {
    in_memory!(ledger_store_suite, LedgerStore, and faulty);
    mod files {
        lb_core::ledger_store_suite! { setup: crate::Files::new() }
    }
}

mod load_store {
    in_memory!(load_store_suite, LoadStore, and faulty);
}

mod leadership {
    in_memory!(leadership_suite, Leadership);
    mod files {
        lb_core::leadership_suite! { setup: crate::Files::new() }
    }
}

mod host_connector {
    in_memory!(host_connector_suite, HostConnector);
}

/// The built-in policy of an app with this `[scaling]`.
#[derive(Debug)]
struct BuiltIn(&'static str);

impl PolicySetup for BuiltIn {
    fn policy(&self) -> Arc<dyn ScalePolicy> {
        let app = format!(
            "name = \"shop\"\nimage = \"shop:1\"\nports.web = {{ container = 80 }}\n\
             resources = {{ cpu = 0.5, memory = \"100MB\" }}\n\
             replicas = {{ min = 1, max = 1000 }}\n[scaling]\n{}",
            self.0
        );
        from_scaling(App::from_toml(&app).unwrap().scaling.as_ref().unwrap()).unwrap()
    }
}

mod policy_cpu {
    lb_core::scale_policy_suite! { setup: super::BuiltIn("cpu = 60") }
}

mod policy_of_all_targets {
    lb_core::scale_policy_suite! {
        setup: super::BuiltIn("cpu = 60\nmemory = 80\nrequests = 100\nconcurrency = 10"),
    }
}

mod policy_over_the_wire {
    use super::*;
    lb_core::scale_policy_suite! {
        setup: Wrapped::<_, dyn ScalePolicy>::new(BuiltIn("requests = 100"), |inner| {
            Arc::new(Wire::new(inner))
        }),
    }
}
