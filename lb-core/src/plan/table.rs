//! The tables of the hosts: put together from the apps' parts, asked for where another one is in force.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use super::memo::{AppRoutes, Inputs, NamedBackend, TableMemo};
use super::pass::{AppState, HostState, Pass};
use super::{Action, ActionKey, What, address};
use crate::ledger::{NetworkLedger, TableLedger};
use crate::model::{BackendName, Protocol};
use crate::routing::{Listener, Route, RoutingTable, TableHash};

/// Most tables remembered of a host. Beyond them those go that were never handed to its balancer or are known
/// to have given way; the few that may still come in force are always kept.
const MAX_TABLES: usize = 32;

/// Asks for each host's table where it is not in force. Gives what was derived.
pub(super) fn all(
    pass: &mut Pass<'_>,
    apps: &[AppState<'_>],
    before: &[Option<TableMemo>],
) -> Vec<Option<TableMemo>> {
    let keys: Vec<_> = apps.iter().map(|app| Part::of(&app.memo.routes)).collect();
    (0..pass.hosts.len() as u32)
        .map(|host| {
            let known = before.get(host as usize).copied().flatten().filter(|_| pass.same_hosts);
            pass.hosts[host as usize].view?;
            set_aside(pass, host, apps);
            let Some(memo) =
                wanted(&pass.hosts[host as usize], host, Parts { apps, keys: &keys }, known)
            else {
                clear(pass, host);
                return None;
            };
            remember(pass, host, memo.hash);
            apply(pass, host, apps, memo.hash);
            Some(memo)
        })
        .collect()
}

/// What tables are made from: the apps, and what each brings, by index.
#[derive(Clone, Copy)]
struct Parts<'a> {
    apps: &'a [AppState<'a>],
    /// It lies together, and every host looks at it.
    keys: &'a [Part],
}

/// What an app brings into tables.
struct Part {
    key: u128,
    front: u128,
    /// Whether not every host has the same of it.
    partial: bool,
}

impl Part {
    fn of(routes: &AppRoutes) -> Self {
        Self { key: routes.key, front: routes.front, partial: !routes.partial.is_empty() }
    }
}

/// The host's table, by hash; `None` where there is nothing to serve
/// and nothing to take back.
fn wanted(
    host: &HostState<'_>,
    index: u32,
    Parts { apps, keys }: Parts<'_>,
    known: Option<TableMemo>,
) -> Option<TableMemo> {
    if host.parts.is_empty() && !must_be_emptied(host) {
        return None;
    }
    let inputs = inputs(host, index, keys);
    if known.is_some_and(|k| k.inputs == inputs) {
        return known;
    }
    let front = match known.filter(|k| k.inputs.front == inputs.front) {
        Some(known) => known.front,
        None => RoutingTable::hash_of_front(Some(&host.id), &listeners(host, apps).0),
    };
    let backends = host.parts.iter().flat_map(|a| backends(&apps[*a as usize], index));
    let mut parts: Vec<_> = backends.map(|b| (&b.name, b.hash)).collect();
    parts.sort_unstable();
    let hash = RoutingTable::hash_of_parts(front, parts.into_iter());
    Some(TableMemo { inputs, front, hash })
}

/// Instances are left here that a balancer may still lead to.
fn must_be_emptied(host: &HostState<'_>) -> bool {
    let balancer = host.balancer();
    let serves = balancer.is_some_and(|b| b.table.is_some());
    host.used.instances > 0 && (serves || !host.ledger.tables.is_empty())
}

fn inputs(host: &HostState<'_>, index: u32, keys: &[Part]) -> Inputs {
    let mut all = Vec::with_capacity(host.parts.len() * 21);
    let mut fronts = Vec::with_capacity(host.parts.len() * 16);
    for part in &host.parts {
        let Part { key, front, partial } = &keys[*part as usize];
        all.extend_from_slice(&key.to_le_bytes());
        if *partial {
            all.extend_from_slice(&index.to_le_bytes());
        }
        let closing = host.closing.contains(part);
        all.push(u8::from(closing));
        if !closing {
            fronts.extend_from_slice(&front.to_le_bytes());
        }
    }
    Inputs { all: xxh3_128(&all), front: xxh3_128(&fronts) }
}

fn backends<'a>(app: &'a AppState<'_>, host: u32) -> &'a [NamedBackend] {
    let routes = &app.memo.routes;
    routes.partial.get(&host).unwrap_or(&routes.backends)
}

/// A port of an app whose listener is another app's.
struct Clash {
    app: u32,
    port: u16,
}

fn listeners(host: &HostState<'_>, apps: &[AppState<'_>]) -> (BTreeMap<u16, Listener>, Vec<Clash>) {
    let mut listeners = BTreeMap::<u16, Listener>::new();
    let mut clashes = Vec::new();
    for part in &host.parts {
        let app = &apps[*part as usize];
        let Some(view) = app.view.filter(|_| !host.closing.contains(part)) else { continue };
        for (name, port) in &view.app.ports {
            let Some(outside) = port.outside.map(u16::from) else { continue };
            let backend = BackendName::of(&app.name, name);
            if port.protocol == Protocol::Tcp {
                let certificate = port.tls.clone();
                match listeners.entry(outside) {
                    Entry::Occupied(_) => clashes.push(Clash { app: *part, port: outside }),
                    Entry::Vacant(free) => {
                        free.insert(Listener::Tcp { backend, certificate });
                    }
                }
                continue;
            }
            let http = || Listener::Http { routes: [].into(), certificates: [].into() };
            let Listener::Http { routes, certificates } =
                listeners.entry(outside).or_insert_with(http)
            else {
                clashes.push(Clash { app: *part, port: outside });
                continue;
            };
            certificates.extend(port.tls.clone().map(|pem| (backend.clone(), pem)));
            let route = |host| Route {
                host,
                path: port.path.clone(),
                prefix: port.prefix,
                backend: backend.clone(),
            };
            if port.hosts.is_empty() {
                routes.insert(route(None));
            }
            routes.extend(port.hosts.iter().cloned().map(|h| route(Some(h))));
        }
    }
    (listeners, clashes)
}

fn remember(pass: &mut Pass<'_>, host: u32, hash: TableHash) {
    let seq = pass.seq;
    let state = &mut pass.hosts[host as usize];
    if state.ledger.clearing {
        state.edit().clearing = false;
    }
    if state.ledger.tables.last().is_some_and(|t| t.hash == hash) {
        // Once it is in force and nothing is on its way, nothing before it can be.
        if state.ledger.tables.len() > 1 && is_in_force(state, hash) && is_quiet(state) {
            let keep = state.ledger.tables.len() - 1;
            state.edit().tables.drain(..keep);
        }
        return;
    }
    let tables = &mut state.edit().tables;
    // Wanted before: who still has the table before that one was not told what was decided since.
    if let Some(before) = tables.iter().position(|t| t.hash == hash) {
        forget(tables, before);
    }
    tables.push(TableLedger { hash, seq });
    if state.ledger.tables.len() > MAX_TABLES
        && let Some(least) = least_needed(state)
    {
        forget(&mut state.edit().tables, least);
    }
}

/// Who has the table before it obeys no more than before: the one after it answers for its decisions too.
fn forget(tables: &mut Vec<TableLedger>, at: usize) {
    let TableLedger { seq, .. } = tables.remove(at);
    if let Some(next) = tables.get_mut(at) {
        next.seq = seq;
    }
}

/// Whether nothing was handed to the balancer that what was seen of it may not show.
fn is_quiet(host: &HostState<'_>) -> bool {
    host.view.is_some_and(|view| view.fresh && view.on_their_way.is_empty())
}

/// The oldest table that is neither wanted, nor in force, nor on its way.
fn least_needed(host: &HostState<'_>) -> Option<usize> {
    let on_their_way = host.view.map_or(&[][..], |view| &view.on_their_way);
    let needed = |hash| is_in_force(host, hash) || on_their_way.contains(&hash);
    let (_wanted, others) = host.ledger.tables.split_last()?;
    others.iter().position(|table| !needed(table.hash))
}

fn is_in_force(host: &HostState<'_>, hash: TableHash) -> bool {
    host.balancer().is_some_and(|b| b.table == Some(hash))
}

/// Asks for the table unless it is in force, as a whole and by us, or has just failed.
fn apply(pass: &mut Pass<'_>, host: u32, apps: &[AppState<'_>], hash: TableHash) {
    let state = &pass.hosts[host as usize];
    let failed = state.ledger.retries.iter().any(|r| r.table == Some(hash));
    // Another one failed, and its call may be going on: only a later one that succeeds ends that.
    let unsure = state.ledger.retries.iter().any(|r| r.key == ActionKey::Table);
    let inherited = state.balancer().is_some_and(|b| b.inherited);
    let served = is_in_force(state, hash) && !unsure && !inherited;
    if served || !state.reachable() || state.hold {
        return;
    }
    if failed && pass.must_wait(host, &ActionKey::Table) {
        return refused(pass, host);
    }
    let table = materialise(pass, host, apps);
    pass.hosts[host as usize].table = Some(Action::Apply(Arc::new(table)));
}

/// What the balancer refused stands in the way until it is tried again, of no app alone.
fn refused(pass: &mut Pass<'_>, host: u32) {
    let state = &pass.hosts[host as usize];
    let Some(retry) = state.ledger.retries.iter().find(|r| r.key == ActionKey::Table) else {
        return;
    };
    if state.balancer().is_some_and(|b| !b.set_aside.is_empty()) {
        return; // Said of each part.
    }
    let text = format!("the balancer does not take its table, and is asked again: {}", retry.error);
    let id = state.id.clone();
    pass.say(None, Some(&id), What::Failed, text);
}

fn materialise(pass: &mut Pass<'_>, host: u32, apps: &[AppState<'_>]) -> RoutingTable {
    let state = &pass.hosts[host as usize];
    let (listeners, clashes) = listeners(state, apps);
    let parts = state.parts.iter().flat_map(|a| backends(&apps[*a as usize], host));
    let backends = parts.map(|b| (b.name.clone(), b.backend.clone())).collect();
    let table = RoutingTable { host: Some(state.id.clone()), listeners, backends };
    let id = state.id.clone();
    for Clash { app, port } in clashes {
        let text = format!("outside port {port} is another app's: not listened on");
        pass.say(Some(&apps[app as usize].name), Some(&id), What::Failed, text);
    }
    table
}

fn set_aside(pass: &mut Pass<'_>, host: u32, apps: &[AppState<'_>]) {
    let state = &pass.hosts[host as usize];
    let Some(balancer) = state.balancer().filter(|b| !b.set_aside.is_empty()) else { return };
    let id = state.id.clone();
    let mut owners = Vec::new();
    for (part, why) in &balancer.set_aside {
        let text = format!("{} is set aside: {why}", String::from(part.clone()));
        let owner = |app: &&AppState<'_>| app.view.is_some_and(|view| part.is_of(&view.app));
        let before = owners.len();
        let of_apps = apps.iter().filter(owner).map(|app| (Some(&app.name), text.clone()));
        owners.extend(of_apps);
        if owners.len() == before {
            owners.push((None, text));
        }
    }
    for (app, text) in owners {
        pass.say(app, Some(&id), What::Failed, text);
    }
}

/// Nothing is left to serve or run: the balancer is ended and the network removed.
fn clear(pass: &mut Pass<'_>, host: u32) {
    let state = &mut pass.hosts[host as usize];
    let balancer = state.balancer();
    let serves = balancer.is_some_and(|b| b.table.is_some());
    // A balancer that was ended answers nobody, unlike one that is down and comes up with its table again.
    let cleared = state.ledger.clearing && state.ledger.network == NetworkLedger::Absent;
    let ended = balancer.is_none() && cleared && state.fresh();
    if ((balancer.is_some() && !serves) || ended) && !state.ledger.tables.is_empty() {
        state.edit().tables.clear();
    }
    let made = state.ledger.network != NetworkLedger::Absent;
    // A table was decided for it that it may have: a balancer that does not answer does not say.
    let unsure = balancer.is_none() && !state.ledger.tables.is_empty();
    let empty = state.used.instances == 0 && state.fresh();
    if !empty || !(serves || made || unsure) || pass.must_wait(host, &ActionKey::Table) {
        return;
    }
    let Some(subnet) = address::likely_subnet(pass, host) else { return };
    let name = address::network_name(pass.cluster, subnet);
    let state = &mut pass.hosts[host as usize];
    state.stops.push(Action::Clear(name));
    // Its answer may be lost: from now on the network is not known to be there.
    if !state.ledger.clearing || state.ledger.network == NetworkLedger::Made {
        let ledger = state.edit();
        ledger.clearing = true;
        if made || unsure {
            ledger.network = NetworkLedger::Asked;
        }
    }
}
