//! The contracts as tests: suites that any backend runs against itself (feature `conformance`).
//!
//! # Writing an adapter, and knowing that it is right
//!
//! 1. Read the contract: the docs of the trait, such as [`ContainerRuntime`](crate::ContainerRuntime).
//!    The in-memory backend of the same trait is its reference, and short.
//! 2. Implement the trait. [`Keyed`](crate::Keyed) gives a mutating call its task, its turn and its
//!    deadline.
//! 3. Say what the cases need to know of the backend: a *setup*, such as [`runtime::RuntimeSetup`], which
//!    makes backends of a cluster and names images, subnets or ports that are free to use.
//! 4. Let a macro make a test of each case, in a module or test binary of their own:
//!
//! ```
//! # use std::sync::Arc;
//! # use lb_core::conformance::app_store::AppStoreSetup;
//! # use lb_core::{AppStore, MemoryAppStore};
//! #[derive(Debug, Default)]
//! struct Mine(MemoryAppStore);
//!
//! #[async_trait::async_trait]
//! impl AppStoreSetup for Mine {
//!     async fn store(&self) -> Arc<dyn AppStore> {
//!         Arc::new(self.0.clone())
//!     }
//! }
//!
//! mod mine {
//!     lb_core::app_store_suite! { setup: super::Mine::default() }
//! }
//! # fn main() {}
//! ```
//!
//! 5. Run the suite again over the backend behind [`Wire`], which encodes and decodes every argument and
//!    result, if it will ever be reached over a network: [`Wrapped`] is the setup for that. [`Faulty`] is the
//!    other wrapper: the same backend until its faults are asked for.
//!
//! It is right when every case passes. Each is also a public function (`runtime::running_twice_is_success`)
//! whose name and docs say what is owed. `custom_runtime` and `custom_registry` among the examples are whole
//! adapters made this way, each under 150 lines.
//!
//! # The suites
//!
//! | contract | setup | macro |
//! |---|---|---|
//! | [`ContainerRuntime`](crate::ContainerRuntime) | [`runtime::RuntimeSetup`] | [`container_runtime_suite`](crate::container_runtime_suite), [`container_runtime_restart_suite`](crate::container_runtime_restart_suite) |
//! | [`LoadBalancer`](crate::LoadBalancer) | [`balancer::BalancerSetup`] | [`load_balancer_suite`](crate::load_balancer_suite) |
//! | [`ConfigRenderer`](crate::ConfigRenderer) | [`renderer::RendererSetup`] | [`config_renderer_suite`](crate::config_renderer_suite) |
//! | [`HostRegistry`](crate::HostRegistry) | [`registry::RegistrySetup`] | [`host_registry_suite`](crate::host_registry_suite) |
//! | [`HostConnector`](crate::HostConnector) | [`connector::ConnectorSetup`] | [`host_connector_suite`](crate::host_connector_suite) |
//! | [`AppStore`](crate::AppStore) | [`app_store::AppStoreSetup`] | [`app_store_suite`](crate::app_store_suite) |
//! | [`LedgerStore`](crate::LedgerStore) | [`ledger_store::LedgerStoreSetup`] | [`ledger_store_suite`](crate::ledger_store_suite) |
//! | [`LoadStore`](crate::LoadStore) | [`load_store::LoadStoreSetup`] | [`load_store_suite`](crate::load_store_suite) |
//! | [`Leadership`](crate::Leadership) | [`leadership::LeadershipSetup`] | [`leadership_suite`](crate::leadership_suite) |
//! | [`ScalePolicy`](crate::ScalePolicy) | [`scale_policy::PolicySetup`] | [`scale_policy_suite`](crate::scale_policy_suite) |
//!
//! All hold the backend as `Arc<dyn ...>`, as the loop does, and give each case a runtime of several threads.
//! Cases wait for conditions, at most [`PATIENCE`]; none counts on a machine being fast.
//!
//! [`strategies`] draws valid values and histories, for properties of an adapter's own.
//!
//! # What the macros take
//!
//! ```text
//! lb_core::container_runtime_suite! {
//!     setup: Docker::new(),                             // an expression; may use .await
//!     ignore: "needs LB_TEST_DOCKER (testbed/up)",      // every test is ignored, for this reason
//!     left_out: {                                       // cases the backend cannot pass, each with why
//!         want_of_memory_is_told: "it does not enforce limits",
//!     },
//! }
//! ```
//!
//! A case that is left out stays as an ignored test that shows the reason. Run with `--include-ignored` it
//! checks that the case does fail, by the bounds of any other: one that would pass must be put back. Over a
//! backend in memory, whose setup says so, the clock runs ahead meanwhile.
#![allow(clippy::unwrap_used, reason = "a case fails by panicking")]

pub mod app_store;
pub mod balancer;
mod cases;
mod certificate;
pub mod connector;
mod faulty;
pub mod leadership;
pub mod ledger_store;
pub mod load_store;
pub mod registry;
pub mod renderer;
pub mod runtime;
pub mod scale_policy;
pub mod strategies;
mod wire;
mod wrapped;

pub use self::cases::{
    Ground, MOST_CUTS, PATIENCE, Stalled, at_each_await, check, eventually, in_time, left_out,
    poll_times, refused,
};
pub use self::faulty::Faulty;
#[doc(hidden)]
pub use self::runtime::restart as runtime_restart;
pub use self::wire::Wire;
pub use self::wrapped::Wrapped;
