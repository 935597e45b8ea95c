//! What a balancer is told: listeners, routes, backends, servers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::error::{Error, Result};
use crate::model::{
    AppName, BackendName, Balance, CertificatePem, Check, DomainName, Health, HostId, PathPrefix,
    PortLimits, Prefix, Protocol, ServerName, Sticky, Timeouts,
};

/// Everything one host's balancer serves.
///
/// Equal tables are equal byte for byte once rendered. Backends are shared: a table of many hosts holds
/// each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutingTable {
    /// The balancer's host: servers there are reached inside, others outside. `None`: all inside.
    pub host: Option<HostId>,
    /// By outside port.
    pub listeners: BTreeMap<u16, Listener>,
    /// By name. A backend no listener leads to is allowed.
    pub backends: BTreeMap<BackendName, Arc<Backend>>,
}

/// An outside port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listener {
    /// HTTP requests, by host name and path.
    Http {
        /// Who gets what. The longest path of the most specific host name wins: exact, wildcard, any.
        routes: BTreeSet<Route>,
        /// With certificates the listener speaks TLS only, and SNI chooses; the first in order is the
        /// default for clients that name no host.
        certificates: BTreeMap<BackendName, CertificatePem>,
    },
    /// A byte stream to one backend.
    Tcp {
        /// Who gets the connections.
        backend: BackendName,
        /// TLS towards clients.
        certificate: Option<CertificatePem>,
    },
}

/// A host name and path that lead to a backend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// The host name; `None`: any.
    pub host: Option<DomainName>,
    /// The path prefix, in whole segments.
    pub path: PathPrefix,
    /// Whether the app sees the prefix.
    pub prefix: Prefix,
    /// Who gets the requests.
    pub backend: BackendName,
}

/// The instances of one app port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// The app it belongs to, for messages.
    pub app: AppName,
    /// What it speaks.
    pub protocol: Protocol,
    /// How requests are spread.
    pub balance: Balance,
    /// Stickiness by cookie.
    pub sticky: Option<Sticky>,
    /// How the balancer checks servers while they serve.
    pub health: Health,
    /// Bounds.
    pub limits: PortLimits,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// The servers, by name.
    pub servers: BTreeMap<ServerName, Server>,
}

/// One instance as the balancer sees it: nothing here needs a reload to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Stable while the server exists and unique in the backend: consistent hashing depends on it.
    pub id: NonZeroU32,
    /// Where it runs; `None`: reached at `address` from everywhere.
    pub host: Option<HostId>,
    /// Its address inside the cluster.
    pub address: SocketAddr,
    /// Its address for balancers of other hosts; `None`: `address` is routed there.
    pub published: Option<SocketAddr>,
    /// Whether it takes new connections.
    pub state: ServerState,
    /// Its share, 1 to 256, against the other servers'.
    pub weight: u16,
}

/// Whether a server takes new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// New connections and requests.
    Active,
    /// No new ones; open ones go on. A server that leaves the table has its open ones shut.
    Draining,
}

/// The weight of a server among equals.
pub const FULL_WEIGHT: u16 = 100;

impl Server {
    /// An active server of full weight, reached at `address` from everywhere.
    pub const fn new(id: NonZeroU32, address: SocketAddr) -> Self {
        Self {
            id,
            host: None,
            address,
            published: None,
            state: ServerState::Active,
            weight: FULL_WEIGHT,
        }
    }

    /// Where a balancer on `from` connects to.
    pub fn address_from(&self, from: Option<&HostId>) -> SocketAddr {
        match self.published {
            Some(published) if from != self.host.as_ref() => published,
            _ => self.address,
        }
    }
}

impl Backend {
    /// A backend without servers, by defaults.
    pub fn new(app: AppName, protocol: Protocol) -> Self {
        Self {
            app,
            protocol,
            balance: Balance::default(),
            sticky: None,
            health: Health { check: Check::Tcp, ..Health::default() },
            limits: PortLimits::default(),
            timeouts: Timeouts::default(),
            servers: BTreeMap::new(),
        }
    }

    /// The same without servers: what a change of needs a reload.
    #[must_use]
    pub fn shape(&self) -> Self {
        Self { servers: BTreeMap::new(), ..self.clone() }
    }

    /// The hash of everything in it.
    pub fn hash(&self) -> TableHash {
        TableHash::of(self)
    }
}

impl RoutingTable {
    /// The hash that names this table: of its host, its listeners and its backends' hashes.
    pub fn hash(&self) -> TableHash {
        let backends = self.backends.iter().map(|(name, backend)| (name, backend.hash()));
        Self::hash_of_parts(Self::hash_of_front(self.host.as_ref(), &self.listeners), backends)
    }

    /// The hash of a table's host and listeners.
    pub(crate) fn hash_of_front(
        host: Option<&HostId>,
        listeners: &BTreeMap<u16, Listener>,
    ) -> TableHash {
        TableHash::of(&(host, listeners))
    }

    /// [`hash`](Self::hash) from parts, for a caller that keeps their hashes.
    pub(crate) fn hash_of_parts<'a>(
        front: TableHash,
        backends: impl Iterator<Item = (&'a BackendName, TableHash)>,
    ) -> TableHash {
        let mut bytes = Vec::with_capacity(1024);
        bytes.extend_from_slice(&front.0.to_le_bytes());
        for (name, hash) in backends {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.push(b'\n');
            bytes.extend_from_slice(&hash.0.to_le_bytes());
        }
        TableHash(xxh3_128(&bytes))
    }

    /// The same without servers: what a change of needs a reload.
    #[must_use]
    pub fn shape(&self) -> Self {
        let backends = self.backends.iter().map(|(name, b)| (name.clone(), Arc::new(b.shape())));
        Self {
            host: self.host.clone(),
            listeners: self.listeners.clone(),
            backends: backends.collect(),
        }
    }

    /// Rules between the parts: every route leads to a backend of the listener's protocol; server ids and
    /// addresses are unique in a backend; weights are 1 to 256.
    ///
    /// # Errors
    /// `Invalid` naming the listener or backend.
    pub fn check(&self) -> Result<()> {
        for (port, listener) in &self.listeners {
            let leads = |backend: &BackendName, protocol| match self.backends.get(backend) {
                Some(b) if b.protocol == protocol => Ok(()),
                Some(_) => Err(Error::invalid(
                    format!("listener {port}"),
                    format!("backend \"{backend}\" must speak {protocol:?}"),
                )),
                None => Err(Error::invalid(
                    format!("listener {port}"),
                    format!("backend \"{backend}\" must be in the table"),
                )),
            };
            match listener {
                Listener::Http { routes, .. } => {
                    routes.iter().try_for_each(|r| leads(&r.backend, Protocol::Http))?;
                    let mut claims = BTreeSet::new();
                    if let Some(twice) = routes.iter().find(|r| !claims.insert((&r.host, &r.path)))
                    {
                        return Err(Error::invalid(
                            format!("listener {port}"),
                            format!(
                                "route {:?}{} must lead to one backend",
                                twice.host, twice.path
                            ),
                        ));
                    }
                }
                Listener::Tcp { backend, .. } => leads(backend, Protocol::Tcp)?,
            }
        }
        self.backends.iter().try_for_each(|(name, backend)| {
            backend.check().map_err(|e| e.within(format!("backend \"{name}\"")))
        })
    }
}

impl Backend {
    fn check(&self) -> Result<()> {
        let mut ids = BTreeSet::new();
        for (name, server) in &self.servers {
            let wrong = |rule: &str| Error::invalid(format!("server \"{name}\""), rule);
            if !ids.insert(server.id) {
                return Err(wrong("id must be unique in the backend"));
            }
            if !(1..=256).contains(&server.weight) {
                return Err(wrong("weight must be 1 to 256"));
            }
        }
        Ok(())
    }
}

/// Names a table or backend by its contents: 128 bits of XXH3 over its JSON, as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableHash(u128);

impl TableHash {
    fn of(value: &impl Serialize) -> Self {
        let bytes =
            serde_json::to_vec(value).unwrap_or_else(|e| unreachable!("a table is JSON: {e}"));
        Self(xxh3_128(&bytes))
    }
}

impl fmt::Display for TableHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for TableHash {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        // The standard library takes a sign before them, too.
        let digits = s.len() == 32 && s.bytes().all(|b| b.is_ascii_hexdigit());
        match u128::from_str_radix(s, 16) {
            Ok(n) if digits => Ok(Self(n)),
            _ => Err(Error::invalid(
                crate::model::shown("table hash", s),
                "must be 32 hexadecimal digits",
            )),
        }
    }
}

impl TryFrom<String> for TableHash {
    type Error = Error;
    fn try_from(s: String) -> Result<Self> {
        s.parse()
    }
}

impl From<TableHash> for String {
    fn from(hash: TableHash) -> Self {
        hash.to_string()
    }
}
