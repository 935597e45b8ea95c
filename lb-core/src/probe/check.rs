//! One check of one port.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::get;
use crate::model::{Check, Health};

/// Asks once, within the rules' timeout; the error is the reason, for people.
pub(super) async fn ask(address: SocketAddr, rules: &Health) -> Result<(), String> {
    let check = async {
        let mut stream =
            TcpStream::connect(address).await.map_err(|e| format!("connect: {}", e.kind()))?;
        match &rules.check {
            Check::Tcp => Ok(()),
            Check::Http(path) => {
                let status = get::status(&mut stream, address, path).await?;
                match (200..400).contains(&status) {
                    true => Ok(()),
                    false => Err(format!("GET {path}: status {status}, must be 200 to 399")),
                }
            }
        }
    };
    let late = |_| Err(format!("no answer within {:?}", rules.timeout));
    tokio::time::timeout(rules.timeout, check).await.unwrap_or_else(late)
}
