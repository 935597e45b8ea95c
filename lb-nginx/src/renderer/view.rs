//! What the templates see: plain values, no decisions left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use lb_core::{
    AppName, Backend, BackendName, ByteSize, CertificatePem, CookieName, DomainName, Listener,
    PathPrefix, Prefix, Protocol, RateLimit, Result, Route, RoutingTable, Sticky, Timeouts,
};
use serde::Serialize;

use super::maps::{Maps, Stage};
use super::names::names;
use crate::layout;

/// What the defaults template sees: times of [`Timeouts::default`], in milliseconds.
#[derive(Debug, Clone, Serialize)]
#[allow(clippy::struct_field_names)] // the unit stands in each, for authors of templates
pub(super) struct DefaultsView {
    connect_ms: u128,
    retry_ms: u128,
    client_ms: u128,
    server_ms: u128,
    request_ms: u128,
    keep_alive_ms: u128,
}

impl DefaultsView {
    pub(super) fn new() -> Self {
        let t = Timeouts::default();
        Self {
            connect_ms: t.connect.as_millis(),
            retry_ms: retried_for(t.connect).as_millis(),
            client_ms: t.client.as_millis(),
            server_ms: t.server.as_millis(),
            request_ms: t.request.as_millis(),
            keep_alive_ms: t.keep_alive.as_millis(),
        }
    }
}

/// How long a request may be passed on to a next server: past a few that nobody can connect to, and not past one that
/// has it and does not answer.
pub(super) fn retried_for(connect: Duration) -> Duration {
    connect * 5
}

/// What the frontend template sees.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FrontendView {
    /// The outside port.
    port: u16,
    /// Address and port.
    bind: String,
    /// Options of the first `listen` with that address.
    bind_options: &'static str,
    /// Whether it carries a byte stream.
    tcp: bool,
    /// The server blocks of an HTTP listener: one, or one for each certificate.
    servers: Vec<ServerView>,
    /// The certificate of a byte stream.
    certificates: Vec<FileView>,
    /// Times in milliseconds where they differ from the defaults: the longest of the apps behind.
    client_ms: Option<u128>,
    request_ms: Option<u128>,
    keep_alive_ms: Option<u128>,
    /// Times of a byte stream, in milliseconds.
    connect_ms: u128,
    tunnel_ms: u128,
    /// Lookups in order.
    stages: Vec<Stage>,
    /// What they find: a variable, or nothing where there is no route.
    routed: String,
    /// Whether any route has a path.
    paths: bool,
    /// Whether a found route may say that its prefix is stripped.
    strips: bool,
    /// The backend: a variable's name, or for a byte stream its own.
    backend: String,
    /// The variable with the number of segments to strip.
    strip: String,
}

#[derive(Debug, Clone, Serialize)]
struct ServerView {
    names: Vec<String>,
    certificate: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct FileView {
    file: String,
}

impl FrontendView {
    pub(super) fn new(
        port: u16,
        address: IpAddr,
        listener: &Listener,
        maps: Option<&Maps>,
        behind: &[&Backend],
    ) -> Result<Self> {
        let (times, usual) = (longest(behind), Timeouts::default());
        let unusual = |time: Duration, usual| (time != usual).then_some(time.as_millis());
        let mut view = Self {
            port,
            bind: match address {
                IpAddr::V4(one) => format!("{one}:{port}"),
                IpAddr::V6(one) => format!("[{one}]:{port}"),
            },
            bind_options: if address.is_ipv6() && address.is_unspecified() {
                " ipv6only=off"
            } else {
                ""
            },
            tcp: matches!(listener, Listener::Tcp { .. }),
            servers: Vec::new(),
            certificates: Vec::new(),
            client_ms: unusual(times.client, usual.client),
            request_ms: unusual(times.request, usual.request),
            keep_alive_ms: unusual(times.keep_alive, usual.keep_alive),
            connect_ms: times.connect.as_millis(),
            tunnel_ms: times.tunnel.as_millis(),
            stages: maps.map(|m| m.stages.clone()).unwrap_or_default(),
            routed: "\"\"".to_owned(),
            paths: maps.is_some_and(|m| m.paths),
            strips: maps.is_some_and(|m| m.strips),
            backend: format!("lb_{port}_backend"),
            strip: format!("lb_{port}_strip"),
        };
        if let Some(first) = view.stages.first() {
            view.routed = format!("${}", first.variable);
        }
        match listener {
            Listener::Http { certificates, .. } => view.servers = servers(port, certificates)?,
            Listener::Tcp { backend, certificate } => {
                view.backend = backend.to_string();
                let file = || FileView { file: layout::pem_file(port, backend).into() };
                view.certificates = certificate.iter().map(|_| file()).collect();
            }
        }
        Ok(view)
    }

    pub(super) const fn is_stream(&self) -> bool {
        self.tcp
    }
}

/// One server for each certificate, chosen by the names it is for. The first is also for all other names; a
/// name belongs to the first certificate that has it.
fn servers(
    port: u16,
    certificates: &BTreeMap<BackendName, CertificatePem>,
) -> Result<Vec<ServerView>> {
    if certificates.is_empty() {
        return Ok(vec![ServerView { names: Vec::new(), certificate: None }]);
    }
    let mut taken = BTreeSet::new();
    let server = |(backend, pem): (&BackendName, &CertificatePem)| {
        let mut names = names(pem).map_err(|e| e.within(format!("backend \"{backend}\"")))?;
        names.retain(|name| taken.insert(name.clone()));
        let certificate = Some(layout::pem_file(port, backend).into());
        Ok(ServerView { names: names.iter().map(DomainName::to_string).collect(), certificate })
    };
    certificates.iter().map(server).collect()
}

/// The longest of each time that belongs to the client's side: a shared listener cuts no app short.
fn longest(behind: &[&Backend]) -> Timeouts {
    let times = behind.iter().map(|b| b.timeouts.clone());
    times
        .reduce(|a, b| Timeouts {
            client: a.client.max(b.client),
            request: a.request.max(b.request),
            keep_alive: a.keep_alive.max(b.keep_alive),
            ..a
        })
        .unwrap_or_default()
}

/// What the backend template sees beside its name: backends that are alike in it share one rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct BodyView {
    /// Whether it carries byte streams.
    tcp: bool,
}

/// Fields of [`BodyView`], for templates that must be told from those that look at names.
pub(super) const BACKEND_FIELDS: [&str; 1] = ["tcp"];

impl BodyView {
    pub(super) fn new(backend: &Backend) -> Self {
        Self { tcp: backend.protocol == Protocol::Tcp }
    }
}

/// A backend as its template sees it.
#[derive(Debug, Serialize)]
pub(super) struct BackendView<'a> {
    /// The block's name.
    pub(super) name: &'a str,
    /// The app's name.
    pub(super) app: &'a str,
    /// Stands where the server lines go.
    pub(super) servers: &'a str,
    #[serde(flatten)]
    pub(super) body: BodyView,
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
    full.sticky = CookieName::new("s").ok().map(|cookie| Sticky { cookie });
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
