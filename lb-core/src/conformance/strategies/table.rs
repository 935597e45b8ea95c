//! Routing tables.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::SBoxedStrategy;

use super::name::{app_name, backend_name, domain_name, host_id, path_prefix, server_name};
use super::port::{balance, health, port_limits, prefix, sticky, timeouts};
use crate::model::{
    BackendName, CertificatePem, DomainName, HostId, PathPrefix, Prefix, Protocol, ServerName,
};
use crate::routing::{Backend, FULL_WEIGHT, Listener, Route, RoutingTable, Server, ServerState};

/// A table that [`RoutingTable::check`] accepts: up to six backends, listeners of both kinds, some with
/// certificates. Those are such in form with [`certificate`](super::certificate); a balancer that loads
/// them needs real ones, such as `Just(mine)`.
pub fn table(
    certificates: impl Strategy<Value = CertificatePem> + Send + Sync + 'static,
) -> SBoxedStrategy<RoutingTable> {
    let backends = |protocol, most| btree_map(backend_name(), backend(protocol), 0..=most);
    let listener = listener(certificates.sboxed());
    (
        option::of(host_id()),
        backends(Protocol::Http, 4),
        backends(Protocol::Tcp, 2),
        btree_map(prop_oneof![80..84_u16, 1..=u16::MAX], listener, 0..=5),
    )
        .prop_map(|(host, http, mut tcp, drafts)| {
            tcp.retain(|name, _| !http.contains_key(name));
            let names = Names { http: http.keys().collect(), tcp: tcp.keys().collect() };
            let listeners = drafts.into_iter().filter_map(|(p, d)| Some((p, d.listener(&names)?)));
            let listeners = listeners.collect();
            let shared = |(name, backend)| (name, Arc::new(backend));
            RoutingTable {
                host,
                listeners,
                backends: http.into_iter().chain(tcp).map(shared).collect(),
            }
        })
        .sboxed()
}

/// Backends a listener can lead to.
struct Names<'a> {
    http: Vec<&'a BackendName>,
    tcp: Vec<&'a BackendName>,
}

/// A listener that does not know its backends yet.
#[derive(Debug, Clone)]
enum Draft {
    Http { routes: Vec<RouteDraft>, certificates: Vec<(Index, CertificatePem)> },
    Tcp { backend: Index, certificate: Option<CertificatePem> },
}

type RouteDraft = (Option<DomainName>, PathPrefix, Prefix, Index);

fn listener(certificates: SBoxedStrategy<CertificatePem>) -> SBoxedStrategy<Draft> {
    let route = (option::of(domain_name()), path_prefix(), prefix(), any::<Index>());
    let owned = vec((any::<Index>(), certificates.clone()), 1..3);
    let some = prop_oneof![2 => Just(Vec::new()), 1 => owned];
    let http = (vec(route, 0..10), some)
        .prop_map(|(routes, certificates)| Draft::Http { routes, certificates });
    let tcp = (any::<Index>(), option::weighted(0.3, certificates))
        .prop_map(|(backend, certificate)| Draft::Tcp { backend, certificate });
    prop_oneof![3 => http, 1 => tcp].sboxed()
}

impl Draft {
    /// `None`: nowhere to lead to.
    fn listener(self, names: &Names<'_>) -> Option<Listener> {
        match self {
            Self::Tcp { backend, certificate } => {
                let backend = pick(&names.tcp, backend)?;
                Some(Listener::Tcp { backend, certificate })
            }
            Self::Http { routes, certificates } => {
                let certificates = certificates.into_iter();
                let certificates =
                    certificates.filter_map(|(i, c)| Some((pick(&names.http, i)?, c)));
                Some(Listener::Http {
                    routes: self::routes(routes, names),
                    certificates: certificates.collect(),
                })
            }
        }
    }
}

/// Each host name and path leads to one backend.
fn routes(drafts: Vec<RouteDraft>, names: &Names<'_>) -> BTreeSet<Route> {
    let placed = drafts.into_iter().filter_map(|(host, path, prefix, i)| {
        Some(((host, path), (prefix, pick(&names.http, i)?)))
    });
    let unique: BTreeMap<_, _> = placed.collect();
    let route = |((host, path), (prefix, backend))| Route { host, path, prefix, backend };
    unique.into_iter().map(route).collect()
}

fn pick(names: &[&BackendName], index: Index) -> Option<BackendName> {
    (!names.is_empty()).then(|| (*index.get(names)).clone())
}

/// A backend of up to four servers, each with an id and an address of its own.
pub fn backend(protocol: Protocol) -> SBoxedStrategy<Backend> {
    let sticky = match protocol {
        Protocol::Http => option::weighted(0.3, sticky()).sboxed(),
        Protocol::Tcp => Just(None).sboxed(),
    };
    let settings =
        (app_name(), balance(protocol), sticky, health(), port_limits(protocol), timeouts());
    let servers = btree_map(server_name(), server(), 0..=4);
    (settings, servers, prop_oneof![Just(1), 1..=MOST_ID])
        .prop_map(move |((app, balance, sticky, health, limits, timeouts), servers, first)| {
            let servers = numbered(servers, first);
            Backend { app, protocol, balance, sticky, health, limits, timeouts, servers }
        })
        .sboxed()
}

/// Largest id of a first server.
const MOST_ID: u32 = 20_000;

fn numbered(servers: BTreeMap<ServerName, Server>, first: u32) -> BTreeMap<ServerName, Server> {
    let number = |((name, server), n): ((ServerName, Server), u16)| {
        let id = NonZeroU32::MIN.saturating_add(first - 1 + u32::from(n));
        let address = nth(server.address, n);
        let published = server.published.map(|address| nth(address, n));
        (name, Server { id, address, published, ..server })
    };
    servers.into_iter().zip(0..).map(number).collect()
}

/// The same address moved on by `n`, of a range that ends below the next.
fn nth(address: SocketAddr, n: u16) -> SocketAddr {
    let ip: IpAddr = match address.ip() {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip) & !0x7 | u32::from(n)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) & !0x7 | u128::from(n)).into(),
    };
    SocketAddr::new(ip, address.port())
}

/// A server: reached from everywhere or published by its host, active or draining. In a backend it gets an
/// id and an address of its own.
pub fn server() -> SBoxedStrategy<Server> {
    let state = prop_oneof![Just(ServerState::Active), Just(ServerState::Draining)];
    let weight = prop_oneof![Just(FULL_WEIGHT), 1..=256_u16];
    let place: SBoxedStrategy<Option<(HostId, Option<SocketAddr>)>> =
        option::of((host_id(), option::of(address()))).sboxed();
    (address(), place, state, weight)
        .prop_map(|(address, place, state, weight)| {
            let (host, published) = place.map_or((None, None), |(h, p)| (Some(h), p));
            Server { host, published, state, weight, ..Server::new(NonZeroU32::MIN, address) }
        })
        .sboxed()
}

/// Private addresses of both families, in groups of eight.
fn address() -> SBoxedStrategy<SocketAddr> {
    let ip = prop_oneof![
        3 => (0..1_u32 << 16).prop_map(|n| IpAddr::from(Ipv4Addr::from(0x0a00_0000 | n << 3))),
        1 => any::<u32>().prop_map(|n| {
            let local = 0xfd00_u128 << 112;
            IpAddr::from(Ipv6Addr::from(local | u128::from(n) << 3))
        }),
    ];
    (ip, prop_oneof![Just(8080), 1..=u16::MAX])
        .prop_map(|(ip, port)| SocketAddr::new(ip, port))
        .sboxed()
}
