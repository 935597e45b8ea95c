//! One engine: its client, and the API version agreed with it.

use std::future::Future;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use lb_core::Result;
use lb_core::engine::Failure;
use tokio::sync::mpsc;

use crate::endpoint::Endpoint;
use crate::error::failure;
use crate::transport::{Taken, Transport};

/// bollard's own deadline, until an answer's head. Ours are shorter; a stop's grace may be an hour.
pub(crate) const TRANSPORT_DEADLINE: Duration = Duration::from_secs(2 * 3600);

/// Never resolved: the transport knows the way, this only fills the URL.
const ADDRESS: &str = "http://docker";

#[derive(Debug)]
pub(crate) struct Engine {
    docker: Docker,
    transport: Transport,
}

impl Engine {
    pub(crate) fn new(endpoint: &Endpoint) -> Result<Self> {
        let transport = Transport::new(endpoint)?;
        let docker = client(transport.clone())
            .map_err(|e| failure(e).into_error("connect to", format!("engine {endpoint}")))?;
        Ok(Self { docker, transport })
    }

    /// bollard's client. Futures made with it go through [`ask`](Self::ask).
    pub(crate) const fn docker(&self) -> &Docker {
        &self.docker
    }

    /// One request, once the API version is agreed.
    pub(crate) async fn ask<T>(
        &self,
        work: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Failure> {
        self.agreed().await?;
        work.await.map_err(failure)
    }

    /// A client of its own for a stream; `taken` hears when the engine has begun to answer.
    pub(crate) async fn listener(&self, taken: mpsc::Sender<Taken>) -> Result<Docker, Failure> {
        self.agreed().await?;
        client(self.transport.telling(taken)).map_err(failure)
    }

    /// The engine may have gone away.
    pub(crate) fn forget_version(&self) {
        self.transport.forget_version();
    }

    /// The lower of the engine's version and ours, asked once until the engine goes away.
    pub(crate) async fn agreed(&self) -> Result<(), Failure> {
        if self.transport.is_agreed() {
            return Ok(());
        }
        let unversioned = client(self.transport.unversioned()).map_err(failure)?;
        let asking = unversioned.negotiate_version().await.map_err(failure)?;
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
