//! One check of one port.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;

use crate::get;
use crate::model::{Check, Health};

/// Who asks: gives the answer to a check of an address; the error is the reason, for people.
pub(crate) type Asker =
    Arc<dyn Fn(SocketAddr, Check) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Asks once, within the rules' timeout.
pub(super) async fn ask(asker: &Asker, address: SocketAddr, rules: &Health) -> Result<(), String> {
    let late = |_| Err(format!("no answer within {:?}", rules.timeout));
    let answer = asker(address, rules.check.clone());
    tokio::time::timeout(rules.timeout, answer).await.unwrap_or_else(late)
}

/// Asks over the network.
pub(super) async fn over_network(address: SocketAddr, check: Check) -> Result<(), String> {
    let mut stream =
        TcpStream::connect(address).await.map_err(|e| format!("connect: {}", e.kind()))?;
    let Check::Http(path) = check else { return Ok(()) };
    let status = get::status(&mut stream, address, &path).await?;
    match (200..400).contains(&status) {
        true => Ok(()),
        false => Err(format!("GET {path}: status {status}, must be 200 to 399")),
    }
}
