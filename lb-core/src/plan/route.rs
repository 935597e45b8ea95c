//! Last step: what each host's balancer serves.
//!
//! Every app's backends are made once and shared by all tables; a table's hash is made from its parts, and
//! the table itself only where it has to be put in force.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use super::What;
use super::memo::{AppMemo, AppRoutes, NamedBackend, RouteInputs};
use super::pass::{AppState, Condition, HostState, Pass};
use super::place::has_labels;
use crate::ledger::{Closing, InstanceLedger, Phase};
use crate::model::{App, BackendName, Balance, Exposure, HostId, PortName, Protocol, ServerName};
use crate::routing::{Backend, FULL_WEIGHT, Server, ServerState};

/// How long tables wait for adopted instances to be probed, after a ledger was lost.
const ADOPTION: Duration = Duration::from_secs(10);

/// Server ids from here on are those of a slot's second instances.
const FIRST_ID_BEYOND_SLOTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(1 << 20);

/// A server to be, without its strings.
#[derive(Debug, Clone, Copy)]
struct Entry {
    instance: u32,
    state: ServerState,
    weight: u16,
}

/// Makes the app's backends, as far as they changed, and hangs them on the hosts that have them.
pub(super) fn app(pass: &mut Pass<'_>, app: &mut AppState<'_>, index: u32) {
    let entries = entries(pass, app);
    let exposed = exposed(pass, app, &entries);
    expose(pass, app, &exposed, entries.is_empty());
    let closing = close(pass, app, entries.is_empty());
    let leading = exposed.len();
    let mut serving = exposed;
    serving.extend(&closing);
    let routes = routes(pass, app, &entries, &serving);
    if routes.backends.is_empty() && routes.partial.is_empty() {
        return;
    }
    for host in &serving {
        pass.hosts[*host as usize].parts.push(index);
    }
    for host in &closing {
        pass.hosts[*host as usize].closing.push(index);
    }
    hold(pass, app, &serving[..leading]);
}

/// Ready instances take traffic, draining ones keep theirs. When checks fail on all that served, they stay:
/// a backend is never emptied by failing checks alone.
fn entries(pass: &mut Pass<'_>, app: &AppState<'_>) -> Vec<Entry> {
    let records = app.ledger.instances.iter().zip(&app.facts).zip(0..);
    let mut entries = Vec::with_capacity(app.facts.len());
    let mut failing = Vec::new();
    for ((record, fact), instance) in records {
        let state = match (&record.phase, fact.condition) {
            (Phase::Serving { .. }, condition) if condition.fails(record) => {
                failing.push(Entry { instance, state: ServerState::Active, weight: FULL_WEIGHT });
                continue;
            }
            (Phase::Serving { .. }, _) => ServerState::Active,
            (Phase::Draining { .. }, _) => ServerState::Draining,
            _ => continue,
        };
        entries.push(Entry { instance, state, weight: FULL_WEIGHT });
    }
    let active = entries.iter().any(|e| e.state == ServerState::Active);
    if !active && !failing.is_empty() {
        let text = "checks fail on all instances that served: they are kept in the balancer";
        pass.say(Some(&app.name), None, What::Health, text.to_owned());
        entries.append(&mut failing);
        entries.sort_unstable_by_key(|e| e.instance);
    }
    weigh(app, &mut entries);
    entries
}

/// Shares requests between a canary and the version beside it.
fn weigh(app: &AppState<'_>, entries: &mut [Entry]) {
    let (Some(view), Some(version)) = (app.view, &app.effective) else { return };
    let Some(canary) = &view.app.rollout.canary else { return };
    let is_new = |e: &Entry| app.ledger.instances[e.instance as usize].revision == version.revision;
    let active = |e: &&Entry| e.state == ServerState::Active;
    let new = entries.iter().filter(active).filter(|e| is_new(e)).count() as u64;
    let old = entries.iter().filter(active).filter(|e| !is_new(e)).count() as u64;
    let judged = app.target.as_ref().is_none_or(|t| t.revision != version.revision);
    if new == 0 || old == 0 || judged {
        return;
    }
    let share = u64::from(canary.weight.get());
    let (for_new, for_old) = (share * old, (100 - share) * new);
    let most = for_new.max(for_old);
    let scaled = |part: u64| (part * 256).div_ceil(most).clamp(1, 256) as u16;
    for entry in entries {
        entry.weight = scaled(if is_new(entry) { for_new } else { for_old });
    }
}

/// Hosts whose table has the app, in order.
fn exposed(pass: &Pass<'_>, app: &AppState<'_>, entries: &[Entry]) -> Vec<u32> {
    let registered = |h: &u32| pass.hosts[*h as usize].view.is_some();
    let all = (0..pass.hosts.len() as u32).filter(registered);
    let before = || {
        let ids = app.ledger.exposed.iter();
        let found = ids.filter_map(|id| pass.hosts.binary_search_by(|h| h.id.cmp(id)).ok());
        found.map(|h| h as u32).filter(registered).collect()
    };
    let Some(view) = app.view else {
        return if entries.is_empty() { Vec::new() } else { before() };
    };
    match &view.app.placement.exposure {
        Exposure::EveryHost => all.collect(),
        Exposure::Labelled(labels) => {
            all.filter(|h| has_labels(&pass.hosts[*h as usize], labels)).collect()
        }
        Exposure::RunningHosts => {
            let runs =
                |r: &InstanceLedger| r.is_live() || matches!(r.phase, Phase::Draining { .. });
            let running = app.ledger.instances.iter().zip(&app.facts).filter(|(r, _)| runs(r));
            let mut hosts: Vec<u32> =
                running.filter_map(|(_, f)| f.spot.host).filter(registered).collect();
            hosts.sort_unstable();
            hosts.dedup();
            // While it crashes everywhere its listeners stay and answer 503.
            if hosts.is_empty() { before() } else { hosts }
        }
    }
}

/// Keeps the names of the hosts that have the app, and of those that had it until they acknowledge.
fn expose(pass: &Pass<'_>, app: &mut AppState<'_>, exposed: &[u32], is_empty: bool) {
    let done = |id: &HostId, seq: u64| match pass.hosts.binary_search_by(|h| h.id.cmp(id)) {
        Ok(h) => pass.hosts[h].view.is_some() && pass.hosts[h].ack >= seq,
        Err(_) => true,
    };
    if app.ledger.leaving.iter().any(|(id, seq)| done(id, *seq)) {
        app.edit().leaving.retain(|id, seq| !done(id, *seq));
    }
    if pass.same_hosts && app.memo.exposed == exposed && app.memo.inputs.is_some() {
        return;
    }
    app.memo = Arc::new(AppMemo { exposed: exposed.to_vec(), ..AppMemo::clone(&app.memo) });
    let now: BTreeSet<HostId> =
        exposed.iter().map(|h| pass.hosts[*h as usize].id.clone()).collect();
    if now == app.ledger.exposed {
        return;
    }
    let seq = pass.seq;
    let drain = app.drain();
    let ledger = app.edit();
    let gone: Vec<HostId> = ledger.exposed.difference(&now).cloned().collect();
    if is_empty {
        ledger.leaving.extend(gone.into_iter().map(|id| (id, seq)));
    } else {
        let until = pass.now.monotonic + drain;
        ledger.closing.extend(gone.into_iter().map(|id| (id, Closing { seq, until })));
    }
    ledger.closing.retain(|id, _| !now.contains(id));
    ledger.leaving.retain(|id, _| !now.contains(id));
    ledger.exposed = now;
}

/// Hosts without the app's listeners whose backends stay, because requests through them may be in flight at
/// instances that go on serving elsewhere. Those that show none, or are at their deadline, leave.
fn close(pass: &mut Pass<'_>, app: &mut AppState<'_>, is_empty: bool) -> Vec<u32> {
    if app.ledger.closing.is_empty() {
        return Vec::new();
    }
    let now = pass.now.monotonic;
    let servers = app.ledger.instances.iter().map(|r| r.id(&app.name));
    let servers: Vec<_> =
        servers.map(|id| ServerName::from(&id.container_name(&pass.cluster.id))).collect();
    let (mut stay, mut leave) = (Vec::new(), Vec::new());
    for (id, closing) in &app.ledger.closing {
        let found = pass.hosts.binary_search_by(|h| h.id.cmp(id)).ok();
        let host = found.map(|h| &pass.hosts[h]).filter(|h| h.view.is_some());
        let idle = |h: &HostState<'_>| {
            let open = h.view.and_then(|v| Some(&v.seen.as_ref()?.balancer.as_ref()?.open));
            let idle = open.is_some_and(|open| !servers.iter().any(|s| open.contains_key(s)));
            idle && h.reachable() && h.ack >= closing.seq
        };
        match (found, host) {
            (Some(index), Some(host)) if !is_empty && now < closing.until && !idle(host) => {
                stay.push((index as u32, closing.until));
            }
            _ => leave.push(id.clone()),
        }
    }
    if !leave.is_empty() {
        let seq = pass.seq;
        let ledger = app.edit();
        ledger.closing.retain(|id, _| !leave.contains(id));
        ledger.leaving.extend(leave.into_iter().map(|id| (id, seq)));
    }
    for (host, until) in &stay {
        pass.wake(*until);
        let id = pass.hosts[*host as usize].id.clone();
        pass.watch.insert(id);
    }
    stay.into_iter().map(|(host, _)| host).collect()
}

/// After a loss of the ledger nobody knows which of the adopted instances served: the tables in force stay
/// until the instances were probed.
fn hold(pass: &mut Pass<'_>, app: &AppState<'_>, exposed: &[u32]) {
    let until = pass.began + ADOPTION;
    let unasked = |r: &InstanceLedger| matches!(r.phase, Phase::Starting { running: Some(_) });
    let mut records = app.ledger.instances.iter().zip(&app.facts);
    if pass.now.monotonic >= until
        || !records.any(|(r, f)| unasked(r) && f.condition == Condition::Unasked)
    {
        return;
    }
    for host in exposed {
        let host = &mut pass.hosts[*host as usize];
        let balancer = host.balancer();
        host.hold |= host.ack == 0 && balancer.is_some_and(|b| b.table.is_some());
    }
    pass.wake(until);
}

fn routes(
    pass: &Pass<'_>,
    app: &mut AppState<'_>,
    entries: &[Entry],
    exposed: &[u32],
) -> Arc<AppRoutes> {
    let published = |e: &Entry| app.facts[e.instance as usize].spot.published;
    let confined = pass.publishes() && !entries.iter().all(published);
    let settings = app.settings().cloned();
    let servers = fingerprint(pass, app, entries);
    if let (Some(inputs), Some(settings), false) = (&app.memo.inputs, &settings, confined)
        && Arc::ptr_eq(&inputs.settings, settings)
        && (inputs.wanted, inputs.servers) == (app.view.is_some(), servers)
        && app.memo.routes.partial.is_empty()
    {
        return app.memo.routes.clone();
    }
    let mut routes = AppRoutes { backends: backends(pass, app, entries, None), ..<_>::default() };
    if confined {
        let partial =
            |h: &u32| (*h, backends(pass, app, entries, Some(&pass.hosts[*h as usize].id)));
        routes.partial = exposed.iter().map(partial).collect();
    }
    routes.front = front(app);
    routes.key = key(app, &routes);
    let routes = Arc::new(routes);
    let inputs =
        settings.map(|settings| RouteInputs { settings, wanted: app.view.is_some(), servers });
    let memo = AppMemo { inputs, routes: routes.clone(), ..AppMemo::clone(&app.memo) };
    app.memo = Arc::new(memo);
    routes
}

/// Only its own host reaches it.
fn is_confined(record: &InstanceLedger) -> bool {
    record.assignment.published.is_empty()
}

/// A hash of all that servers are made from.
fn fingerprint(pass: &Pass<'_>, app: &AppState<'_>, entries: &[Entry]) -> u128 {
    let mut bytes = Vec::with_capacity(entries.len() * 20);
    for entry in entries {
        let spot = &app.facts[entry.instance as usize].spot;
        let place = spot.host.map_or(0, |h| pass.places[h as usize]);
        bytes.extend_from_slice(&spot.mark.to_le_bytes());
        bytes.extend_from_slice(&place.to_le_bytes());
        bytes.extend_from_slice(&entry.weight.to_le_bytes());
        bytes.push(entry.state as u8);
    }
    xxh3_128(&bytes)
}

/// The backends of the app's outside ports, for all hosts, or as one host reaches them.
fn backends(
    pass: &Pass<'_>,
    app: &AppState<'_>,
    entries: &[Entry],
    only: Option<&HostId>,
) -> Vec<NamedBackend> {
    let make = |port: &PortName, mut backend: Backend| {
        backend.servers = servers(pass, app, entries, port, only);
        keep_shares(&mut backend);
        let name = BackendName::of(&app.name, port);
        let hash = backend.hash();
        NamedBackend { name, backend: Arc::new(backend), hash }
    };
    if let Some(settings) = app.settings() {
        let outside = settings.ports.iter().filter(|(_, p)| p.outside.is_some());
        return outside.map(|(name, _)| make(name, shape(settings, name))).collect();
    }
    // What it was is forgotten; its instances drain.
    let records = entries.iter().map(|e| &app.ledger.instances[e.instance as usize]);
    let ports: BTreeSet<&PortName> = records.flat_map(|r| r.assignment.ports.keys()).collect();
    let bare = || Backend::new(app.name.clone(), Protocol::Tcp);
    ports.into_iter().map(|port| make(port, bare())).collect()
}

/// By open connections, servers that have none are alike whatever their weights, and at little load that is all of
/// them: where weights differ each has its turns by weight.
fn keep_shares(backend: &mut Backend) {
    let mut weights = backend.servers.values().map(|server| server.weight);
    let first = weights.next();
    let by_load = matches!(backend.balance, Balance::LeastConnections | Balance::RandomTwo);
    if by_load && weights.any(|weight| Some(weight) != first) {
        backend.balance = Balance::RoundRobin;
    }
}

fn shape(settings: &App, name: &PortName) -> Backend {
    let port = &settings.ports[name];
    Backend {
        app: settings.name.clone(),
        protocol: port.protocol,
        balance: port.balance.clone(),
        sticky: port.sticky.clone(),
        health: port.health.clone(),
        limits: port.limits.clone(),
        timeouts: port.timeouts.clone(),
        servers: BTreeMap::new(),
    }
}

fn servers(
    pass: &Pass<'_>,
    app: &AppState<'_>,
    entries: &[Entry],
    port: &PortName,
    only: Option<&HostId>,
) -> BTreeMap<ServerName, Server> {
    let mut ids = BTreeSet::new();
    let mut servers = BTreeMap::new();
    // The younger first: in order of slot and incarnation they come last.
    for entry in entries.iter().rev() {
        let record = &app.ledger.instances[entry.instance as usize];
        let assignment = &record.assignment;
        let reached = only.is_none_or(|host| assignment.host == *host || !is_confined(record));
        let Some(inside) = assignment.ports.get(port).filter(|_| reached) else { continue };
        let host = app.facts[entry.instance as usize].spot.host;
        let address = host.and_then(|h| pass.hosts[h as usize].ledger.address);
        let published = assignment.published.get(port);
        let server = Server {
            id: server_id(record, &mut ids),
            host: Some(assignment.host.clone()),
            address: SocketAddr::new(assignment.address.into(), *inside),
            published: published.and_then(|p| Some(SocketAddr::new(address?, *p))),
            state: entry.state,
            weight: entry.weight,
        };
        let name = record.id(&app.name).container_name(&pass.cluster.id);
        servers.insert(ServerName::from(&name), server);
    }
    servers
}

/// Stable while the server exists, and kept by whoever fills its slot next. Two of one slot meet when one was
/// given up and came back; the older then has an id beyond all slots'.
fn server_id(record: &InstanceLedger, taken: &mut BTreeSet<NonZeroU32>) -> NonZeroU32 {
    let of_slot = NonZeroU32::MIN.saturating_add(record.slot);
    let beyond = FIRST_ID_BEYOND_SLOTS.saturating_add(record.slot);
    let mut id = of_slot;
    while !taken.insert(id) {
        id = id.max(beyond).saturating_add(1);
    }
    id
}

/// Names what listeners lead to the app by.
fn front(app: &AppState<'_>) -> u128 {
    let leads = app.view.map(|v| {
        let ports = v.app.ports.iter();
        let leads = ports
            .map(|(name, p)| (name, p.outside, p.protocol, &p.hosts, &p.path, p.prefix, &p.tls));
        leads.collect::<Vec<_>>()
    });
    hash(&(&app.name, leads))
}

/// Names everything the app brings into a table.
fn key(app: &AppState<'_>, routes: &AppRoutes) -> u128 {
    let named =
        |list: &[NamedBackend]| list.iter().map(|b| (b.name.clone(), b.hash)).collect::<Vec<_>>();
    let partial: Vec<_> = routes.partial.iter().map(|(h, list)| (*h, named(list))).collect();
    hash(&(&app.name, routes.front, named(&routes.backends), partial))
}

fn hash(all: &impl Serialize) -> u128 {
    let bytes = serde_json::to_vec(all).unwrap_or_else(|e| unreachable!("routes are JSON: {e}"));
    xxh3_128(&bytes)
}
