//! Outside ports: found out who holds them, and held until the balancer does.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::time::sleep;

use super::{Aside, SetAside};

/// Time between two tries while a port may yet become free.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// Whose process a balancer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A child with our own rights: what we may not bind it may not either.
    OursAlike,
    /// Started by us, with rights of its own.
    Ours,
    /// The platform's: never started or ended here.
    Platform,
}

/// Ports bound, not listening, for as long as this lives. The balancer must bind with `SO_REUSEPORT`.
///
/// A port that cannot be bound fails a whole reload, and with HAProxy worse: while it tries for a second,
/// the old worker's listeners are paused and refuse connections (2.6.12: 2,350 refused of 7,700).
#[derive(Debug, Default)]
pub struct Held(BTreeMap<u16, Option<TcpSocket>>);

impl Held {
    /// Holds the ports that can be had; gives the others with the reason. One that is taken is tried again
    /// for as long as `patience`.
    pub async fn take(
        &mut self,
        ports: &BTreeMap<u16, SocketAddr>,
        owner: Owner,
        patience: Duration,
    ) -> Aside {
        let mut aside = Aside::new();
        let mut tries = patience.as_millis() / TRY_AGAIN.as_millis();
        for (port, address) in ports {
            if self.0.contains_key(port) {
                continue;
            }
            let bound = loop {
                match bind(*address) {
                    Err(e) if e.kind() == ErrorKind::AddrInUse && tries > 0 => {
                        tries -= 1;
                        sleep(TRY_AGAIN).await;
                    }
                    bound => break bound,
                }
            };
            let error = match bound {
                Ok(socket) => {
                    self.0.insert(*port, socket);
                    continue;
                }
                Err(error) => error,
            };
            let Some(reason) = refusal(*address, owner, &error) else {
                // Not ours to judge: the balancer will.
                tracing::debug!(port, %error, "port not probed");
                continue;
            };
            aside.insert(SetAside::Listener(*port), reason);
        }
        aside
    }
}

fn refusal(address: SocketAddr, owner: Owner, error: &io::Error) -> Option<String> {
    match (error.kind(), owner) {
        (ErrorKind::AddrInUse, _) => {
            Some(format!("{address} is held by another process: it must be free"))
        }
        (ErrorKind::PermissionDenied, Owner::OursAlike) => {
            Some(format!("{address} may not be bound by this user: {error}"))
        }
        _ => None,
    }
}

/// First alone, which finds every other holder; then so that the balancer can bind it beside us (the same user,
/// `SO_REUSEPORT`) and nobody else can: with `SO_REUSEADDR` everybody could, as long as we do not listen.
/// Without it, what is left of a holder that just went can stand in the way (`None`): then it is not held.
fn bind(address: SocketAddr) -> io::Result<Option<TcpSocket>> {
    let new = || match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let alone = new()?;
    alone.set_reuseaddr(true)?;
    alone.bind(address)?;
    drop(alone);
    let shared = new()?;
    shared.set_reuseport(true)?;
    Ok(shared.bind(address).is_ok().then_some(shared))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_port_of_somebody_else_is_told_and_a_free_one_is_held() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let at = |port| (port, SocketAddr::from(([0, 0, 0, 0], port)));
        let ports = BTreeMap::from([at(taken.local_addr().unwrap().port()), at(free.port())]);
        let mut held = Held::default();
        let aside = held.take(&ports, Owner::Ours, Duration::ZERO).await;
        assert_eq!(aside.len(), 1);
        assert!(TcpListener::bind(free).is_err(), "nobody else can take it");
        drop(held);
        assert!(TcpListener::bind(free).is_ok());
    }
}
