//! What a port claims of the outside: a listener, or host name and path on one. Nobody shares a claim.

use std::fmt;

use super::names::{DomainName, PathPrefix};
use super::port::{Port, Protocol};

/// One claim on the outside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The listener.
    pub outside: u16,
    /// What of it.
    pub scope: ClaimScope,
}

/// What of a listener is claimed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimScope {
    /// All of it, for a TCP port.
    Whole,
    /// Requests to a host name (`None`: any) below a path, in clear or over TLS.
    Route {
        /// The host name.
        host: Option<DomainName>,
        /// The path.
        path: PathPrefix,
        /// Whether the listener must speak TLS.
        tls: bool,
    },
}

impl Claim {
    /// Whether both cannot be had at once.
    pub fn clashes(&self, other: &Self) -> bool {
        use ClaimScope::{Route, Whole};
        self.outside == other.outside
            && match (&self.scope, &other.scope) {
                (Route { tls: a, .. }, Route { tls: b, .. }) if a != b => true,
                (Route { host: h, path: p, .. }, Route { host, path, .. }) => {
                    (h, p) == (host, path)
                }
                (Whole, _) | (_, Whole) => true,
            }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            ClaimScope::Whole => write!(f, "outside port {}", self.outside),
            ClaimScope::Route { host: Some(host), path, .. } => {
                write!(f, "{host}{path} on outside port {}", self.outside)
            }
            ClaimScope::Route { host: None, path, .. } => {
                write!(f, "any host{path} on outside port {}", self.outside)
            }
        }
    }
}

impl Port {
    /// What this port claims; nothing without an outside port.
    pub fn claims(&self) -> impl Iterator<Item = Claim> + use<> {
        let outside = self.outside.map(u16::from);
        let scopes: Vec<ClaimScope> = match self.protocol {
            Protocol::Tcp => vec![ClaimScope::Whole],
            Protocol::Http if self.hosts.is_empty() => vec![self.route(None)],
            Protocol::Http => self.hosts.iter().map(|h| self.route(Some(h.clone()))).collect(),
        };
        outside.into_iter().flat_map(move |outside| {
            scopes.clone().into_iter().map(move |scope| Claim { outside, scope })
        })
    }

    fn route(&self, host: Option<DomainName>) -> ClaimScope {
        ClaimScope::Route { host, path: self.path.clone(), tls: self.tls.is_some() }
    }
}
