//! The suite of [`HostConnector`].

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Ground, PATIENCE, Wrapped, refused};
use crate::error::ErrorKind;
use crate::host::HostConnector;
use crate::model::{ContainerName, HostId};
use crate::routing::RoutingTable;
use crate::store::Term;

/// What a connector's tests give the suite. Made anew for each case.
#[async_trait]
pub trait ConnectorSetup: Debug + Send + Sync + 'static {
    /// The connector of this case.
    async fn connector(&self) -> Arc<dyn HostConnector>;

    /// A host that it reaches, with an engine and a balancer.
    fn host(&self) -> HostId;
}

/// A connector under test.
#[derive(Debug)]
pub struct Bed {
    /// The setup.
    pub setup: Arc<dyn ConnectorSetup>,
    /// Its connector.
    pub connector: Arc<dyn HostConnector>,
}

impl Bed {
    /// A bed with one host.
    pub async fn new(setup: impl ConnectorSetup) -> Self {
        let connector = setup.connector().await;
        Self { setup: Arc::new(setup), connector }
    }
}

/// Both halves.
pub async fn a_handle_reaches_its_host(bed: &Bed) {
    let handle = bed.connector.connect(&bed.setup.host(), Term(1));
    handle.runtime.describe().await.unwrap();
    assert_eq!(handle.runtime.list().await.unwrap(), []);
    handle.balancer.describe().await.unwrap();
}

/// Each call, soon; connecting itself never fails.
pub async fn calls_to_an_unknown_host_are_unavailable(bed: &Bed) {
    let handle = bed.connector.connect(&HostId::new("nobody").unwrap(), Term(1));
    let name = ContainerName::new("nobody").unwrap();
    let calls = async {
        refused(handle.runtime.list().await, ErrorKind::Unavailable);
        refused(handle.runtime.stop(&name, Duration::ZERO).await, ErrorKind::Unavailable);
        refused(handle.balancer.traffic().await, ErrorKind::Unavailable);
        refused(handle.balancer.apply(&RoutingTable::default()).await, ErrorKind::Unavailable);
    };
    tokio::time::timeout(PATIENCE, calls).await.expect("no call hangs");
}

/// Once a call of it has come through; the same term goes on. Not for hosts that cannot fence.
pub async fn a_higher_term_fences_the_lower(bed: &Bed) {
    let host = bed.setup.host();
    let [old, same, new] = [1, 1, 2].map(|term| bed.connector.connect(&host, Term(term)));
    old.runtime.list().await.unwrap();
    same.runtime.list().await.unwrap();
    new.runtime.list().await.unwrap();
    for handle in [&old, &same] {
        refused(handle.runtime.list().await, ErrorKind::Fenced);
        refused(handle.balancer.apply(&RoutingTable::default()).await, ErrorKind::Fenced);
    }
    new.runtime.list().await.unwrap();
}

/// One test of each case of a [`HostConnector`](crate::HostConnector), from a
/// [`ConnectorSetup`](crate::conformance::connector::ConnectorSetup). See
/// [`conformance`](crate::conformance).
#[macro_export]
macro_rules! host_connector_suite {
    ($($given:tt)*) => {
        $crate::__conformance_cases! {
            ($) connector [
                a_handle_reaches_its_host
                calls_to_an_unknown_host_are_unavailable
                a_higher_term_fences_the_lower
            ]
            $($given)*
        }
    };
}

impl Ground for Bed {}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: ConnectorSetup> ConnectorSetup for Wrapped<S, dyn HostConnector> {
    async fn connector(&self) -> Arc<dyn HostConnector> {
        self.wrap(self.setup.connector().await)
    }

    fn host(&self) -> HostId {
        self.setup.host()
    }
}
