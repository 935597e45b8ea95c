//! A client's first question to a listener.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use crate::error::{Error, ErrorKind, Result};
use crate::get;
use crate::model::{DomainName, PathPrefix};

/// Longest wait for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A listener as a client sees it, and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerProbe {
    /// The host's registered address.
    pub address: IpAddr,
    /// The outside port.
    pub port: u16,
    /// What is asked.
    pub ask: Ask,
}

/// What a client asks of a listener.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// A connection: all that can be asked where the protocol is not known, or is spoken within TLS.
    Connection,
    /// `GET` of a path.
    Get {
        /// The host name asked for; `None`: the address.
        host: Option<DomainName>,
        /// The path.
        path: PathPrefix,
    },
}

/// What a listener answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeAnswer {
    /// It took the connection.
    Connected,
    /// An HTTP status.
    Status(u16),
}

/// Asks over the network, as any client does.
///
/// # Errors
/// `Unavailable` when the connection is refused or cut; `Timeout` without an answer in 2 s.
pub async fn ask(probe: &ListenerProbe) -> Result<ProbeAnswer> {
    let address = SocketAddr::new(probe.address, probe.port);
    let fail = |kind, text: String| Error::new(kind, "ask", format!("listener {address}"), text);
    let asked = tokio::time::timeout(ANSWER_WITHIN, answer(address, &probe.ask)).await;
    match asked {
        Ok(answer) => answer.map_err(|why| fail(ErrorKind::Unavailable, why)),
        Err(_) => Err(fail(ErrorKind::Timeout, format!("no answer within {ANSWER_WITHIN:?}"))),
    }
}

async fn answer(address: SocketAddr, ask: &Ask) -> std::result::Result<ProbeAnswer, String> {
    let connected = TcpStream::connect(address).await;
    let mut stream = connected.map_err(|e| format!("connect: {}", e.kind()))?;
    let Ask::Get { host, path } = ask else { return Ok(ProbeAnswer::Connected) };
    let host = host.as_ref().map_or_else(|| address.to_string(), ToString::to_string);
    get::status(&mut stream, host, path).await.map(ProbeAnswer::Status)
}
