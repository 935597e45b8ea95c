//! One engine: its client, the API version agreed with it, and the bounds on calling it.

use std::future::Future;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use lb_core::Result;
use tokio::sync::{Semaphore, mpsc};

use crate::endpoint::Endpoint;
use crate::error::Failure;
use crate::transport::{Taken, Transport};

/// bollard's own deadline, until an answer's head. Ours are shorter; a stop's grace may be an hour.
pub(crate) const TRANSPORT_DEADLINE: Duration = Duration::from_secs(2 * 3600);

/// Never resolved: the transport knows the way, this only fills the URL.
const ADDRESS: &str = "http://docker";

#[derive(Debug)]
pub(crate) struct Engine {
    docker: Docker,
    transport: Transport,
    calls: Semaphore,
}

impl Engine {
    pub(crate) fn new(endpoint: &Endpoint, max_calls: usize) -> Result<Self> {
        let transport = Transport::new(endpoint)?;
        let docker = client(transport.clone())
            .map_err(|e| Failure::from(e).into_error("connect to", format!("engine {endpoint}")))?;
        Ok(Self { docker, transport, calls: Semaphore::new(max_calls.max(1)) })
    }

    /// bollard's client. Futures made with it go through [`call`](Self::call) or [`wait`](Self::wait).
    pub(crate) const fn docker(&self) -> &Docker {
        &self.docker
    }

    /// A call that the engine answers soon: takes one of the bounded places, and ends at the deadline,
    /// which counts from now, the wait for a place included.
    pub(crate) async fn call<T>(
        &self,
        deadline: Duration,
        work: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Failure> {
        let bounded = async {
            let _place = self.calls.acquire().await;
            self.agreed().await?;
            Ok(work.await?)
        };
        self.within(deadline, bounded).await
    }

    /// A call that lasts as long as a container takes; it holds no place meanwhile.
    pub(crate) async fn wait<T>(
        &self,
        deadline: Duration,
        work: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Failure> {
        let unbounded = async {
            self.agreed().await?;
            Ok(work.await?)
        };
        self.within(deadline, unbounded).await
    }

    /// A client of its own for a stream; `taken` hears when the engine has begun to answer.
    pub(crate) async fn listener(&self, taken: mpsc::Sender<Taken>) -> Result<Docker, Failure> {
        self.agreed().await?;
        Ok(client(self.transport.telling(taken))?)
    }

    /// A stream broke: the engine may have gone away.
    pub(crate) fn forget_version(&self) {
        self.transport.forget_version();
    }

    async fn within<T>(
        &self,
        deadline: Duration,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let result =
            tokio::time::timeout(deadline, work).await.unwrap_or(Err(Failure::Late(deadline)));
        if matches!(result, Err(Failure::Unreachable(_))) {
            self.transport.forget_version();
        }
        result
    }

    /// The lower of the engine's version and ours, asked once until the engine goes away.
    async fn agreed(&self) -> Result<(), Failure> {
        if self.transport.is_agreed() {
            return Ok(());
        }
        let asking = client(self.transport.unversioned())?.negotiate_version().await?;
        let version = asking.client_version();
        tracing::debug!(%version, "engine API version agreed");
        self.transport.agree(version);
        Ok(())
    }
}

fn client(transport: Transport) -> Result<Docker, bollard::errors::Error> {
    let seconds = TRANSPORT_DEADLINE.as_secs();
    let send = move |request: BollardRequest| transport.clone().send(request);
    Docker::connect_with_custom_transport(send, Some(ADDRESS), seconds, API_DEFAULT_VERSION)
}
