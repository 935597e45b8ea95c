//! A port of an app: protocol, how it is reached from outside, and how it is balanced.

use std::collections::BTreeSet;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::app::{DAY, MAX_ENTRIES, MAX_MEMORY};
use super::names::{BackendName, CookieName, DomainName, HeaderName, HealthPath, PathPrefix};
use super::pem::CertificatePem;
use super::units::{ByteSize, friendly};
use crate::error::{Error, Result};

/// What a port speaks.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 with websocket; clients may use HTTP/2.
    #[default]
    Http,
    /// Any byte stream.
    Tcp,
}

/// One port of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The port inside the container.
    pub container: NonZeroU16,
    /// What it speaks. Default: HTTP.
    #[serde(default)]
    pub protocol: Protocol,
    /// The listener clients connect to. Without it the port is reached by other containers only, through
    /// nothing but its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<NonZeroU16>,
    /// Host names this port answers to; empty: any. HTTP only.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hosts: BTreeSet<DomainName>,
    /// The path below which this port answers. HTTP only. Default `/`.
    #[serde(default, skip_serializing_if = "PathPrefix::is_root")]
    pub path: PathPrefix,
    /// Whether the app sees the path with its prefix. Default: kept.
    #[serde(default)]
    pub prefix: Prefix,
    /// When an instance takes traffic, and when it stops taking it.
    #[serde(default)]
    pub health: Health,
    /// How requests are spread. Default: least connections.
    #[serde(default)]
    pub balance: Balance,
    /// Keeps a client on its server by a cookie. HTTP only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// TLS towards clients, chosen by SNI among the listener's certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<CertificatePem>,
    /// Bounds on what one client or one instance gets.
    #[serde(default)]
    pub limits: PortLimits,
    /// How long each step may take.
    #[serde(default)]
    pub timeouts: Timeouts,
}

/// What happens to a route's path prefix on the way to the app.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Prefix {
    /// `/cart/list` arrives as `/cart/list`.
    #[default]
    Kept,
    /// `/cart/list` arrives as `/list`.
    Stripped,
}

/// Readiness and health of an instance's port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// What is asked. Default: a TCP connect.
    pub check: Check,
    /// Time between checks. Default 1 s.
    #[serde(with = "friendly::required")]
    pub interval: Duration,
    /// Time an answer may take. Default 2 s.
    #[serde(with = "friendly::required")]
    pub timeout: Duration,
    /// Good answers in a row to become ready. Default 1.
    pub rise: NonZeroU32,
    /// Bad answers in a row to lose readiness. Default 3.
    pub fall: NonZeroU32,
    /// How long an instance that has served may fail its checks before it is replaced, at most 24 h. Default 30 s.
    #[serde(with = "friendly::required", skip_serializing_if = "is_default_replace_after")]
    pub replace_after: Duration,
}

/// [`Health::replace_after`] where nothing is said. It is left out of what revisions are made from then.
const REPLACE_AFTER: Duration = Duration::from_secs(30);

fn is_default_replace_after(after: &Duration) -> bool {
    *after == REPLACE_AFTER
}

/// What a health check asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// A TCP connection is accepted.
    #[default]
    Tcp,
    /// `GET` of this path answers 200 to 399.
    Http(HealthPath),
}

impl Default for Health {
    fn default() -> Self {
        Self {
            check: Check::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            rise: NonZeroU32::MIN,
            fall: NonZeroU32::MIN.saturating_add(2),
            replace_after: REPLACE_AFTER,
        }
    }
}

/// How requests or connections are spread over servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Each in turn, by weight.
    RoundRobin,
    /// The one with the fewest connections for its weight.
    #[default]
    LeastConnections,
    /// The less loaded of two drawn at random.
    RandomTwo,
    /// By the client's address, consistent.
    SourceHash,
    /// By the request's path, consistent. HTTP only.
    UriHash,
    /// By a header's value, consistent; without the header, round robin. HTTP only.
    HeaderHash(HeaderName),
}

/// Stickiness by a cookie the balancer sets; the app never sees it. `Secure` where it is set over TLS, and of the same
/// site only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sticky {
    /// What the cookie's name begins with: cookies are of a host, whatever its ports and paths, so that apps of one host
    /// would take each other's. See [`cookie_of`](Self::cookie_of).
    pub cookie: CookieName,
}

impl Sticky {
    /// The name of a backend's cookie: `COOKIE.APP.PORT`.
    pub fn cookie_of(&self, backend: &BackendName) -> String {
        format!("{}.{backend}", self.cookie)
    }
}

/// Bounds on what one client or one instance gets. Absent: no bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PortLimits {
    /// Concurrent requests (HTTP) or connections (TCP) one instance gets from one balancer; more wait.
    pub connections_per_instance: Option<NonZeroU32>,
    /// Longest wait for a free instance before 503. Default 5 s.
    #[serde(with = "friendly::required")]
    pub queue: Duration,
    /// Requests (HTTP) or connections (TCP) one client address may make; more get 429 or are closed.
    pub rate: Option<RateLimit>,
    /// Largest request body; a larger one gets 413. HTTP only.
    pub body: Option<ByteSize>,
    /// Time over which a new server's share rises to its full weight.
    #[serde(with = "friendly::optional")]
    pub slow_start: Option<Duration>,
}

impl Default for PortLimits {
    fn default() -> Self {
        Self {
            connections_per_instance: None,
            queue: Duration::from_secs(5),
            rate: None,
            body: None,
            slow_start: None,
        }
    }
}

/// So many requests in so long, for each client address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Requests allowed in the window.
    pub requests: NonZeroU32,
    /// The window. 1 s to 1 h.
    #[serde(with = "friendly::required")]
    pub window: Duration,
}

/// How long each step may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// Connecting to an instance. Default 2 s.
    #[serde(with = "friendly::required")]
    pub connect: Duration,
    /// Silence of the client. Default 60 s.
    #[serde(with = "friendly::required")]
    pub client: Duration,
    /// Silence of the instance. Default 60 s.
    #[serde(with = "friendly::required")]
    pub server: Duration,
    /// A request's headers. Default 10 s. HTTP only.
    #[serde(with = "friendly::required")]
    pub request: Duration,
    /// Waiting for a connection's next request. Default 60 s. HTTP only.
    #[serde(with = "friendly::required")]
    pub keep_alive: Duration,
    /// Silence of a websocket or TCP stream in both directions. Default 1 h.
    #[serde(with = "friendly::required")]
    pub tunnel: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            client: Duration::from_secs(60),
            server: Duration::from_secs(60),
            request: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            tunnel: Duration::from_secs(3600),
        }
    }
}

impl Port {
    /// An HTTP port with defaults: reached by other containers only, until `outside` is set.
    pub fn http(container: NonZeroU16) -> Self {
        Self {
            container,
            protocol: Protocol::Http,
            outside: None,
            hosts: BTreeSet::new(),
            path: PathPrefix::root(),
            prefix: Prefix::Kept,
            health: Health::default(),
            balance: Balance::default(),
            sticky: None,
            tls: None,
            limits: PortLimits::default(),
            timeouts: Timeouts::default(),
        }
    }

    /// A TCP port with defaults.
    pub fn tcp(container: NonZeroU16) -> Self {
        Self { protocol: Protocol::Tcp, ..Self::http(container) }
    }

    /// Rules between the fields.
    pub(super) fn check(&self) -> Result<()> {
        if self.protocol == Protocol::Tcp {
            self.check_tcp()?;
        }
        if self.hosts.len() > MAX_ENTRIES {
            return Err(Error::invalid("hosts", format!("must be at most {MAX_ENTRIES}")));
        }
        if self.limits.body.is_some_and(|most| most > MAX_MEMORY) {
            return Err(Error::invalid("limits.body", format!("must be at most {MAX_MEMORY}")));
        }
        self.check_times()
    }

    fn check_tcp(&self) -> Result<()> {
        let http_only = [
            ("hosts", !self.hosts.is_empty()),
            ("path", !self.path.is_root()),
            ("prefix", self.prefix != Prefix::Kept),
            ("sticky", self.sticky.is_some()),
            ("limits.body", self.limits.body.is_some()),
            ("balance", matches!(self.balance, Balance::UriHash | Balance::HeaderHash(_))),
        ];
        match http_only.into_iter().find(|(_, set)| *set) {
            Some((field, _)) => Err(Error::invalid(field, "must not be set with protocol \"tcp\"")),
            None => Ok(()),
        }
    }

    fn check_times(&self) -> Result<()> {
        const LEAST: Duration = Duration::from_millis(10);
        const MOST: Duration = DAY;
        let t = &self.timeouts;
        let times = [
            ("health.interval", self.health.interval),
            ("health.timeout", self.health.timeout),
            ("health.replace_after", self.health.replace_after),
            ("limits.queue", self.limits.queue),
            ("limits.slow_start", self.limits.slow_start.unwrap_or(LEAST)),
            ("timeouts.connect", t.connect),
            ("timeouts.client", t.client),
            ("timeouts.server", t.server),
            ("timeouts.request", t.request),
            ("timeouts.keep_alive", t.keep_alive),
            ("timeouts.tunnel", t.tunnel),
        ];
        if let Some((field, _)) = times.into_iter().find(|(_, d)| !(LEAST..=MOST).contains(d)) {
            return Err(Error::invalid(field, "must be 10ms to 24h"));
        }
        let windows = Duration::from_secs(1)..=Duration::from_secs(3600);
        match self.limits.rate.as_ref().is_some_and(|rate| !windows.contains(&rate.window)) {
            true => Err(Error::invalid("limits.rate.window", "must be 1s to 1h")),
            false => Ok(()),
        }
    }
}
