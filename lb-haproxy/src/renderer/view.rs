//! What the templates see: plain values, no decisions left.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use lb_core::{
    AppName, Backend, BackendName, Balance, ByteSize, Check, CookieName, DomainName, Health,
    HealthPath, Listener, PathPrefix, PortLimits, Prefix, Protocol, RateLimit, Route, RoutingTable,
    Sticky, Timeouts,
};
use serde::Serialize;

use super::drops::dropped;
use super::maps::{Stage, Strip};
use crate::layout;

/// Client addresses one rate-limit table remembers; the oldest make room. About 100 bytes each, taken as
/// they come.
pub const RATE_TABLE_SIZE: u32 = 102_400;

/// Bytes of a streamed body (of unannounced length) that are waited for: a buffer has room for it beside the headers
/// ([`BESIDE_HEADERS`](layout::BESIDE_HEADERS)).
pub const STREAMED_BODY_BYTES: u64 = 4096;

/// What the defaults template sees: times of [`Timeouts::default`] and its kin, in milliseconds.
#[derive(Debug, Clone, Serialize)]
#[allow(clippy::struct_field_names)] // the unit stands in each, for authors of templates
pub(super) struct DefaultsView {
    connect_ms: u64,
    client_ms: u64,
    server_ms: u64,
    request_ms: u64,
    keep_alive_ms: u64,
    tunnel_ms: u64,
    queue_ms: u64,
    check_ms: u64,
}

impl DefaultsView {
    pub(super) fn new() -> Self {
        let t = Timeouts::default();
        Self {
            connect_ms: millis(t.connect),
            client_ms: millis(t.client),
            server_ms: millis(t.server),
            request_ms: millis(t.request),
            keep_alive_ms: millis(t.keep_alive),
            tunnel_ms: millis(t.tunnel),
            queue_ms: millis(PortLimits::default().queue),
            check_ms: millis(Health::default().timeout),
        }
    }
}

/// What the frontend template sees.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FrontendView {
    /// The section's name.
    pub(super) name: String,
    /// The outside port.
    pub(super) port: u16,
    /// Address and port, and `v4v6` where needed.
    pub(super) bind: String,
    /// Whether it carries a byte stream.
    pub(super) tcp: bool,
    /// The certificates' file, with TLS.
    pub(super) crt_list: Option<String>,
    /// `http` or `https`.
    pub(super) scheme: &'static str,
    /// Times in milliseconds where they differ from the defaults: the longest of the apps behind.
    pub(super) client_ms: Option<u64>,
    pub(super) request_ms: Option<u64>,
    pub(super) keep_alive_ms: Option<u64>,
    /// Lookups in order; the first that finds a route wins.
    pub(super) stages: Vec<Stage>,
    /// Whether a route has a path, so that a request's is brought into its usual form and looked at.
    pub(super) paths: bool,
    /// A regular expression for the names of a request's fields that end here, in lower case.
    pub(super) drops: String,
    /// Numbers of segments that routes strip.
    pub(super) strips: Vec<Strip>,
    /// Who gets what no lookup finds.
    pub(super) default_backend: String,
}

impl FrontendView {
    /// A frontend that leads everything to `default_backend`; `behind` are the backends it can lead to.
    pub(super) fn new<'a>(
        port: u16,
        bind: String,
        listener: &Listener,
        behind: impl Iterator<Item = &'a Backend>,
    ) -> Self {
        let (tcp, tls) = match listener {
            Listener::Http { certificates, .. } => (false, !certificates.is_empty()),
            Listener::Tcp { certificate, .. } => (true, certificate.is_some()),
        };
        let times = longest(behind.map(|b| &b.timeouts));
        let usual = Timeouts::default();
        let http = |value, usual| unusual(value, usual).filter(|_| !tcp);
        Self {
            name: layout::frontend(port),
            port,
            bind,
            tcp,
            crt_list: tls.then(|| layout::crt_list_file(port).into()),
            scheme: if tls { "https" } else { "http" },
            client_ms: unusual(times.client, usual.client),
            request_ms: http(times.request, usual.request),
            keep_alive_ms: http(times.keep_alive, usual.keep_alive),
            stages: Vec::new(),
            paths: false,
            drops: dropped(),
            strips: Vec::new(),
            default_backend: layout::NO_ROUTE.to_owned(),
        }
    }
}

/// The longest of each client-side time: a shared listener cuts no app short.
fn longest<'a>(all: impl Iterator<Item = &'a Timeouts>) -> Timeouts {
    all.cloned()
        .reduce(|a, b| Timeouts {
            client: a.client.max(b.client),
            request: a.request.max(b.request),
            keep_alive: a.keep_alive.max(b.keep_alive),
            ..a
        })
        .unwrap_or_default()
}

/// What the backend template sees beside its name: backends that are alike in it share one rendering.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct BodyView<'a> {
    /// Whether it carries byte streams.
    tcp: bool,
    /// The algorithm as HAProxy writes it.
    balance: BalanceView<'a>,
    /// Whether it hashes.
    hash: bool,
    /// What the cookie's name begins with, with stickiness; the backend's name follows.
    cookie: Option<&'a str>,
    /// Whether the cookie is for TLS alone: no listener leads here in the clear.
    secure: bool,
    /// Times in milliseconds where they differ from the defaults.
    connect_ms: Option<u64>,
    server_ms: Option<u64>,
    queue_ms: Option<u64>,
    tunnel_ms: Option<u64>,
    check_ms: Option<u64>,
    /// The path health checks ask for; absent: a TCP connect. The request is the probe's, header by header:
    /// what is ready for the one must not be down for the other. An IPv6 address stands in brackets.
    check_path: Option<&'a str>,
    rate: Option<RateView>,
    body: Option<BodyLimitView>,
}

/// Fields of [`BodyView`], for templates that must be told from those that look at names.
pub(super) const BODY_FIELDS: [&str; 13] = [
    "tcp",
    "balance",
    "hash",
    "cookie",
    "secure",
    "connect_ms",
    "server_ms",
    "queue_ms",
    "tunnel_ms",
    "check_ms",
    "check_path",
    "rate",
    "body",
];

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum BalanceView<'a> {
    Plain(&'static str),
    Header(&'a str),
}

impl Serialize for BalanceView<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(text) => serializer.serialize_str(text),
            Self::Header(name) => serializer.collect_str(&format_args!("hdr({name})")),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct RateView {
    requests: u32,
    window_ms: u64,
    table_size: u32,
    peers: &'static str,
}

/// A body is measured by its announced length. A streamed one is let through when it ends within
/// `sample_bytes`, else answered by `status`: 413 where that proves it too large, else 411.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct BodyLimitView {
    bytes: u64,
    sample_bytes: u64,
    wait_ms: u64,
    status: u16,
}

impl<'a> BodyView<'a> {
    /// `over_tls`: no request comes here in the clear.
    pub(super) fn new(backend: &'a Backend, over_tls: bool) -> Self {
        let (balance, hash) = balance(&backend.balance);
        let (times, usual) = (&backend.timeouts, Timeouts::default());
        let tcp = backend.protocol == Protocol::Tcp;
        Self {
            tcp,
            balance,
            hash,
            cookie: backend.sticky.as_ref().map(|s| s.cookie.as_str()),
            secure: over_tls && backend.sticky.is_some(),
            connect_ms: unusual(times.connect, usual.connect),
            server_ms: unusual(times.server, usual.server),
            queue_ms: unusual(backend.limits.queue, PortLimits::default().queue),
            tunnel_ms: unusual(times.tunnel, usual.tunnel),
            check_ms: unusual(backend.health.timeout, Health::default().timeout),
            check_path: match &backend.health.check {
                Check::Http(path) => Some(path.as_str()),
                Check::Tcp => None,
            },
            rate: backend.limits.rate.as_ref().map(|rate| RateView {
                requests: rate.requests.get(),
                window_ms: millis(rate.window),
                table_size: RATE_TABLE_SIZE,
                peers: layout::PEERS,
            }),
            body: backend.limits.body.map(|most| body_limit(most.get(), times.request)),
        }
    }
}

/// A backend as its template sees it.
#[derive(Debug, Serialize)]
pub(super) struct BackendView<'a> {
    /// The section's name.
    pub(super) name: &'a str,
    /// The app's name.
    pub(super) app: &'a str,
    /// Stands where the server lines go.
    pub(super) servers: &'a str,
    #[serde(flatten)]
    pub(super) body: &'a BodyView<'a>,
}

fn balance(balance: &Balance) -> (BalanceView<'_>, bool) {
    match balance {
        Balance::RoundRobin => (BalanceView::Plain("roundrobin"), false),
        Balance::LeastConnections => (BalanceView::Plain("leastconn"), false),
        Balance::RandomTwo => (BalanceView::Plain("random(2)"), false),
        Balance::SourceHash => (BalanceView::Plain("source"), true),
        Balance::UriHash => (BalanceView::Plain("uri path-only"), true),
        Balance::HeaderHash(name) => (BalanceView::Header(name.as_str()), true),
    }
}

/// Largest number HAProxy compares with is a signed 64-bit one; no length it accepts is larger.
const MOST_BYTES: u64 = i64::MAX as u64 - 1;

fn body_limit(bytes: u64, wait: Duration) -> BodyLimitView {
    let bytes = bytes.min(MOST_BYTES);
    let sample_bytes = bytes.saturating_add(1).min(STREAMED_BODY_BYTES);
    BodyLimitView {
        bytes,
        sample_bytes,
        wait_ms: millis(wait),
        status: if sample_bytes > bytes { 413 } else { 411 },
    }
}

fn unusual(value: Duration, usual: Duration) -> Option<u64> {
    (value != usual).then(|| millis(value))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A table with every setting and one with none, to try templates on.
pub(super) fn sample_table() -> RoutingTable {
    let [full, bare] = sample_backends();
    let name = |text| BackendName::new(text).unwrap_or_else(|e| unreachable!("a name: {e}"));
    let (web, raw) = (name("sample.web"), name("sample.raw"));
    let route = |host: &str, path: &str, prefix| Route {
        host: DomainName::new(host).ok(),
        path: PathPrefix::new(path).unwrap_or_default(),
        prefix,
        backend: web.clone(),
    };
    let full_routes = [
        route("a.example", "/", Prefix::Kept),
        route("*.example", "/a", Prefix::Stripped),
        route("", "/", Prefix::Kept),
    ];
    let http = |routes| Listener::Http { routes, certificates: BTreeMap::new() };
    let tcp = Listener::Tcp { backend: raw.clone(), certificate: None };
    let simple = BTreeSet::from([route("", "/", Prefix::Kept)]);
    RoutingTable {
        host: None,
        listeners: [(1, http(full_routes.into())), (2, http(simple)), (3, tcp)].into(),
        backends: [(web, Arc::new(full)), (raw, Arc::new(bare))].into(),
    }
}

fn sample_backends() -> [Backend; 2] {
    let app = AppName::new("sample").unwrap_or_else(|e| unreachable!("a name: {e}"));
    let bare = Backend::new(app.clone(), Protocol::Tcp);
    let mut full = Backend::new(app, Protocol::Http);
    let second = Duration::from_secs(1);
    full.balance = Balance::SourceHash;
    full.sticky = CookieName::new("s").ok().map(|cookie| Sticky { cookie });
    full.health.timeout = second / 2;
    full.health.check = HealthPath::new("/").map_or(Check::Tcp, Check::Http);
    full.limits.queue = second;
    full.limits.body = Some(ByteSize::new(1));
    full.limits.rate = Some(RateLimit { requests: NonZeroU32::MIN, window: second });
    full.timeouts = Timeouts {
        connect: second,
        client: second,
        server: second,
        request: second,
        keep_alive: second,
        tunnel: second,
    };
    [full, bare]
}
