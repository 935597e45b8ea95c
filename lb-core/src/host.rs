//! A host as the loop holds it.

use std::fmt::Debug;
use std::sync::Arc;

use crate::balancer::LoadBalancer;
use crate::model::HostId;
use crate::runtime::ContainerRuntime;
use crate::store::Term;

/// The two halves of a host: its engine and its balancer, here or across the network.
#[derive(Debug, Clone)]
pub struct HostHandle {
    /// Its engine, with readiness probed beside the containers.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// Its balancer.
    pub balancer: Arc<dyn LoadBalancer>,
}

/// Gives handles to registered hosts.
///
/// # Contract
/// `connect` never blocks and never fails: an unreachable or unknown host gives a handle whose calls fail
/// with `Unavailable`. Calls carry `term`; a host that has seen a higher one refuses with `Fenced`. A host
/// without an agent cannot fence: there names and the engine's own refusal make double action harmless.
pub trait HostConnector: Debug + Send + Sync + 'static {
    /// A handle to the host for a leader's term.
    fn connect(&self, host: &HostId, term: Term) -> HostHandle;
}
