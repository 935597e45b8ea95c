//! Changing the servers of a running HAProxy without a reload.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use lb_core::balancer::Failure;
use lb_core::{BackendName, ServerName};
use tokio::time::{Instant, sleep};

use super::server::{BackendServers, ServerEntry, Servers};
use crate::control::{Change, RowKind, Session, SessionEntry, Sessions, Stat, Verdict, sessions};
use crate::layout;

/// How long a server that stands in the way of another is tried to be deleted: longer than the default `timeout
/// connect`, so that requests which still try to reach it have gone to another one.
const REPLACE_WITHIN: Duration = Duration::from_secs(3);
/// Time between two looks at all sessions.
const LIST_PAUSE: Duration = Duration::from_millis(25);

/// A server that leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub backend: BackendName,
    pub server: ServerName,
    pub id: u32,
}

impl Member {
    /// What sessions that lead to it have as their target.
    pub(super) fn target(&self) -> (&str, &str) {
        (self.backend.as_str(), self.server.as_str())
    }
}

/// Servers as a running HAProxy shows them.
pub(crate) type Running = BTreeMap<BackendName, BTreeMap<ServerName, RunningServer>>;

/// A server as a running HAProxy shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunningServer {
    address: Option<SocketAddr>,
    id: u32,
    weight: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Maint,
    /// Drained by somebody else: not a state this crate puts servers in.
    Other,
}

impl From<&ServerEntry> for RunningServer {
    fn from(entry: &ServerEntry) -> Self {
        Self {
            address: Some(entry.address),
            id: entry.id,
            weight: entry.weight.into(),
            state: if entry.draining { State::Maint } else { State::Ready },
        }
    }
}

/// The servers of all backends a table could have named, from statistics.
pub(crate) fn running(stat: &Stat) -> Running {
    let mut running = Running::new();
    for row in &stat.rows {
        let RowKind::Server { name, id, address, weight, status } = &row.kind else { continue };
        let (Ok(backend), Ok(name)) = (BackendName::new(&row.backend), ServerName::new(name))
        else {
            continue;
        };
        let state = match status.split_whitespace().next() {
            Some("MAINT") => State::Maint,
            Some("DRAIN") => State::Other,
            _ => State::Ready,
        };
        let server = RunningServer { address: *address, id: *id, weight: *weight, state };
        running.entry(backend).or_default().insert(name, server);
    }
    running
}

/// What is to be done, in this order: the way is cleared, new servers come, old ones go.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Steps {
    /// Servers whose name or id a new one takes: deleted before it comes.
    replaced: Vec<Member>,
    /// New servers.
    added: Vec<Change>,
    /// Weights, and servers that take requests again.
    opened: Vec<Change>,
    /// Servers that take no more.
    closed: Vec<Change>,
    /// Servers that leave.
    removed: Vec<Member>,
}

impl Steps {
    /// From servers as last written to servers wanted. Servers in `lingering` are still there as well.
    pub(crate) fn between(before: &Servers, wanted: &Servers, lingering: &[Member]) -> Self {
        let (mut steps, none) = (Self::default(), BackendServers::default());
        let lingers: BTreeSet<_> = lingering.iter().map(|member| &member.backend).collect();
        let left = before.keys().chain(lingers.into_iter().filter(|n| !before.contains_key(*n)));
        let left = left.filter(|name| !wanted.contains_key(*name)).map(|name| (name, &none));
        for (name, backend) in wanted.iter().chain(left) {
            let had = before.get(name);
            let lingers: Vec<_> = lingering.iter().filter(|m| m.backend == *name).collect();
            if had == Some(backend) && lingers.is_empty() {
                continue;
            }
            let mut running: BTreeMap<_, RunningServer> = had
                .into_iter()
                .flat_map(|b| &b.servers)
                .map(|(server, entry)| (server.clone(), entry.into()))
                .collect();
            let leaving = |m: &Member| (m.server.clone(), RunningServer::leaving(m.id));
            running.extend(lingers.into_iter().map(leaving));
            steps.backend(name, &running, backend);
        }
        steps
    }

    /// From servers as they run to servers wanted.
    pub(crate) fn from_running(running: &Running, wanted: &Servers) -> Self {
        let mut steps = Self::default();
        let (nobody, none) = (BTreeMap::new(), BackendServers::default());
        for (name, backend) in wanted {
            steps.backend(name, running.get(name).unwrap_or(&nobody), backend);
        }
        for (name, servers) in running.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
            steps.backend(name, servers, &none);
        }
        steps
    }

    /// Whether nothing is to be done.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether nothing is to be done but to forget servers that take no requests.
    pub(crate) fn only_forgets(&self, lingering: &[Member]) -> bool {
        self.replaced.is_empty()
            && self.added.is_empty()
            && self.opened.is_empty()
            && self.closed.is_empty()
            && self.removed.iter().all(|member| lingering.contains(member))
    }

    /// The servers that go.
    pub(crate) fn gone(&self) -> impl Iterator<Item = &Member> {
        self.replaced.iter().chain(&self.removed)
    }

    fn backend(
        &mut self,
        name: &BackendName,
        running: &BTreeMap<ServerName, RunningServer>,
        wanted: &BackendServers,
    ) {
        let (mut adds, mut enables) = (Vec::new(), Vec::new());
        let mut new_ids = BTreeSet::new();
        let leaves =
            |server: &ServerName, id| Member { backend: name.clone(), server: server.clone(), id };
        for (server, entry) in &wanted.servers {
            match running.get(server) {
                Some(now) if now.is_same(entry) => self.update(name, server, now, entry),
                found => {
                    self.replaced.extend(found.map(|now| leaves(server, now.id)));
                    add(name, server, entry, &mut adds, &mut enables);
                    new_ids.insert(entry.id);
                }
            }
        }
        for (server, now) in running.iter().filter(|(s, _)| !wanted.servers.contains_key(*s)) {
            match new_ids.contains(&now.id) {
                true => self.replaced.push(leaves(server, now.id)),
                false => self.removed.push(leaves(server, now.id)),
            }
        }
        if wanted.sticky && !adds.is_empty() {
            adds.push(Change::CookieKey(name.clone(), layout::cookie_key(name).to_owned()));
        }
        self.added.extend(adds);
        self.added.extend(enables);
    }

    fn update(
        &mut self,
        backend: &BackendName,
        server: &ServerName,
        now: &RunningServer,
        wanted: &ServerEntry,
    ) {
        let wanted_state = if wanted.draining { State::Maint } else { State::Ready };
        if now.weight != u32::from(wanted.weight) {
            let weight = wanted.weight;
            self.opened.push(Change::Weight(backend.clone(), server.clone(), weight));
        }
        if now.state != wanted_state {
            let (backend, server) = (backend.clone(), server.clone());
            match wanted_state {
                State::Maint => self.closed.push(Change::Maint(backend, server)),
                _ => self.opened.push(Change::Ready(backend, server)),
            }
        }
    }
}

impl RunningServer {
    fn leaving(id: u32) -> Self {
        Self { address: None, id, weight: 0, state: State::Maint }
    }

    fn is_same(&self, entry: &ServerEntry) -> bool {
        self.address == Some(entry.address) && self.id == entry.id
    }
}

/// A server comes in maintenance; it is enabled by a command of its own (`enabled` in `add server` breaks
/// a later maintenance in 2.6.12).
fn add(
    backend: &BackendName,
    server: &ServerName,
    entry: &ServerEntry,
    adds: &mut Vec<Change>,
    enables: &mut Vec<Change>,
) {
    adds.push(Change::Add(backend.clone(), server.clone(), entry.to_string()));
    enables.push(Change::EnableHealth(backend.clone(), server.clone()));
    if !entry.draining {
        enables.push(Change::Ready(backend.clone(), server.clone()));
    }
}

/// Carries the steps out: [`come`], then [`go`].
///
/// # Errors
/// At the first answer that is not known to mean success; some steps may have been done.
pub(crate) async fn carry_out(
    session: &mut Session,
    steps: &Steps,
    lingering: &[Member],
) -> Result<Vec<Member>, Failure> {
    come(session, steps).await?;
    go(session, steps, lingering).await
}

/// The steps that bring servers.
pub(crate) async fn come(session: &mut Session, steps: &Steps) -> Result<(), Failure> {
    let stuck = clear(session, &steps.replaced).await?;
    if let Some(Member { backend, server, .. }) = stuck.first() {
        let delete = Change::Delete(backend.clone(), server.clone());
        return Err(Failure::reply(delete.to_string(), "Server still has connections attached"));
    }
    run(session, &steps.added).await?;
    run(session, &steps.opened).await
}

/// The steps that take servers away: requests may have to go elsewhere first. Gives those that are still there; they
/// take no requests, and belong into `lingering` of the next call, which may forget them.
pub(crate) async fn go(
    session: &mut Session,
    steps: &Steps,
    lingering: &[Member],
) -> Result<Vec<Member>, Failure> {
    run(session, &steps.closed).await?;
    remove(session, &steps.removed, lingering).await
}

/// Each command's answer means that it was done, or [`Verdict::Busy`].
pub(crate) async fn run(session: &mut Session, changes: &[Change]) -> Result<(), Failure> {
    if changes.is_empty() {
        return Ok(());
    }
    let commands: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let replies = session.run(&commands).await?;
    changes.iter().zip(&replies).try_for_each(|(change, reply)| change.judge(reply).map(drop))
}

/// Servers that leave: no new requests, open ones shut. Of those that were told so before (`closed`), the ones that
/// nothing leads to are forgotten. Gives the others.
///
/// HAProxy refuses to delete a server that has connections, but not one that a request has failed to reach: until
/// that request tries again, after a second where there is no other server, it holds on to memory that would be
/// free. What is put there next brings the worker down (2.6 to 3.4; mended in 3.5-dev3, "server: Properly check for
/// streams before deletion"). The list of sessions names the server that each holds on to, and a server in maintenance
/// gets no new ones.
async fn remove(
    session: &mut Session,
    members: &[Member],
    closed: &[Member],
) -> Result<Vec<Member>, Failure> {
    if members.is_empty() {
        return Ok(Vec::new());
    }
    run(session, &each(members, Change::Maint)).await?;
    let open = sessions(session).await?;
    let led_to: BTreeSet<_> = open.entries.iter().map(SessionEntry::target).collect();
    let is_led_to = |m: &Member| led_to.contains(&m.target());
    shut(session, members, &open).await?;
    let (free, mut left): (Vec<_>, Vec<_>) =
        members.iter().cloned().partition(|m| open.whole && closed.contains(m) && !is_led_to(m));
    left.extend(forget(session, free).await?);
    Ok(left)
}

/// The way for others: gone within [`REPLACE_WITHIN`], or given back.
async fn clear(session: &mut Session, members: &[Member]) -> Result<Vec<Member>, Failure> {
    let until = Instant::now() + REPLACE_WITHIN;
    let mut left = members.to_vec();
    loop {
        left = remove(session, &left, &left).await?;
        if left.is_empty() || Instant::now() >= until {
            return Ok(left);
        }
        sleep(LIST_PAUSE).await;
    }
}

/// Shuts the connections the servers hold. A request that still tries to connect is left to find out: the
/// server may be dead, and another one answers it.
async fn shut(session: &mut Session, members: &[Member], open: &Sessions) -> Result<(), Failure> {
    let servers: BTreeSet<_> = members.iter().map(Member::target).collect();
    let held = open.entries.iter().filter(|s| servers.contains(&s.target()));
    let (connecting, established): (Vec<_>, Vec<_>) = held.partition(|s| s.connecting);
    if connecting.is_empty() && !(established.is_empty() && open.whole) {
        return run(session, &each(members, Change::Shut)).await;
    }
    let shut: Vec<Change> = established.iter().map(|s| Change::ShutOne(s.id.clone())).collect();
    run(session, &shut).await
}

/// Deletes them, with their idle connections. Gives those that HAProxy keeps: something has come to an end there that it
/// has not seen.
async fn forget(session: &mut Session, mut members: Vec<Member>) -> Result<Vec<Member>, Failure> {
    members = delete(session, members).await?;
    // To stay where it is would close nothing.
    for port in [1, 2] {
        let purge = |m: &Member| Change::Purge(m.backend.clone(), m.server.clone(), port);
        run(session, &members.iter().map(purge).collect::<Vec<_>>()).await?;
    }
    delete(session, members).await
}

fn each(members: &[Member], change: fn(BackendName, ServerName) -> Change) -> Vec<Change> {
    members.iter().map(|m| change(m.backend.clone(), m.server.clone())).collect()
}

async fn delete(session: &mut Session, members: Vec<Member>) -> Result<Vec<Member>, Failure> {
    let changes = each(&members, Change::Delete);
    let commands: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let replies = session.run(&commands).await?;
    let mut busy = Vec::new();
    for ((member, change), reply) in members.into_iter().zip(&changes).zip(&replies) {
        if change.judge(reply)? == Verdict::Busy {
            busy.push(member);
        }
    }
    Ok(busy)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::UnixListener;

    use super::*;
    use crate::control::Socket;

    fn name(name: &str) -> ServerName {
        ServerName::new(name).unwrap()
    }

    fn entry(id: u32) -> ServerEntry {
        let address = SocketAddr::from(([10, 0, 0, 1], 1000 + id as u16));
        ServerEntry { address, id, weight: 100, draining: false, settings: Arc::from("check") }
    }

    fn servers(entries: &[(&str, ServerEntry)]) -> Servers {
        let servers = entries.iter().map(|(n, e)| (name(n), e.clone())).collect();
        let backend = BackendName::new("shop.web").unwrap();
        Servers::from([(backend, BackendServers { sticky: true, servers })])
    }

    fn commands(changes: &[Change]) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    fn names(members: &[Member]) -> Vec<&str> {
        members.iter().map(|m| m.server.as_str()).collect()
    }

    #[test]
    fn a_new_server_is_added_given_its_cookie_and_only_then_enabled() {
        let (one, two) =
            (servers(&[("a", entry(1))]), servers(&[("a", entry(1)), ("b", entry(2))]));
        let steps = Steps::between(&one, &two, &[]);
        assert_eq!(
            commands(&steps.added),
            [
                "add server shop.web/b 10.0.0.1:1002 id 2 weight 100 check",
                "set dynamic-cookie-key backend shop.web shop.web",
                "enable health shop.web/b",
                "set server shop.web/b state ready",
            ]
        );
        assert_eq!(steps, Steps { added: steps.added.clone(), ..Steps::default() });
        let back = Steps::between(&two, &one, &[]);
        assert_eq!(names(&back.removed), ["b"]);
        assert!(Steps::between(&two, &two, &[]).is_empty());
    }

    #[test]
    fn the_commands_of_one_change_do_not_grow_with_the_servers() {
        let names: Vec<_> = (1..=10_000).map(|id| format!("s{id}")).collect();
        let all: Vec<_> = names.iter().map(String::as_str).zip((1..).map(entry)).collect();
        for count in [4, 10_000] {
            let before = servers(&all[..count - 1]);
            let steps = Steps::between(&before, &servers(&all[..count]), &[]);
            assert_eq!(
                (steps.added.len(), steps.opened.len() + steps.closed.len()),
                (4, 0),
                "{count} servers"
            );
            assert_eq!(steps.gone().count(), 0);
            let back = Steps::between(&servers(&all[..count]), &before, &[]);
            assert_eq!(back, Steps { removed: back.removed.clone(), ..Steps::default() });
            assert_eq!(back.gone().count(), 1);
        }
    }

    #[test]
    fn a_draining_server_comes_in_maintenance_and_goes_there() {
        let draining = ServerEntry { draining: true, weight: 7, ..entry(1) };
        let steps = Steps::between(&servers(&[]), &servers(&[("a", draining.clone())]), &[]);
        assert!(commands(&steps.added).iter().all(|c| !c.contains("ready")));
        let steps = Steps::between(&servers(&[("a", entry(1))]), &servers(&[("a", draining)]), &[]);
        assert_eq!(commands(&steps.opened), ["set server shop.web/a weight 7"]);
        assert_eq!(commands(&steps.closed), ["set server shop.web/a state maint"]);
    }

    #[test]
    fn a_server_in_the_way_goes_before_the_new_one_comes() {
        let moved = ServerEntry { address: "10.9.9.9:9".parse().unwrap(), ..entry(1) };
        let steps = Steps::between(&servers(&[("a", entry(1))]), &servers(&[("a", moved)]), &[]);
        assert_eq!((names(&steps.replaced), steps.added.len()), (vec!["a"], 4));
        let steps = Steps::between(&servers(&[("a", entry(1))]), &servers(&[("b", entry(1))]), &[]);
        assert_eq!((names(&steps.replaced), steps.removed.len()), (vec!["a"], 0));
    }

    #[test]
    fn a_backend_that_leaves_loses_its_servers() {
        let before = servers(&[("a", entry(1))]);
        let [lingers, other] = ["shop.web", "gone.web"].map(|backend| Member {
            backend: BackendName::new(backend).unwrap(),
            server: name("old"),
            id: 9,
        });
        let steps = Steps::between(&before, &Servers::new(), &[lingers, other]);
        assert_eq!(names(&steps.removed), ["a", "old", "old"]);
        let running = before.iter().map(|(name, backend)| {
            let servers = backend.servers.iter().map(|(name, entry)| (name.clone(), entry.into()));
            (name.clone(), servers.collect())
        });
        let steps = Steps::from_running(&running.collect(), &Servers::new());
        assert_eq!(names(&steps.removed), ["a"]);
    }

    #[test]
    fn one_that_lingers_is_in_the_way_only_of_its_own_id() {
        let lingering =
            [Member { backend: BackendName::new("shop.web").unwrap(), server: name("old"), id: 9 }];
        let none = servers(&[]);
        let steps = Steps::between(&none, &servers(&[("b", entry(2))]), &lingering);
        assert_eq!((names(&steps.removed), steps.replaced.len()), (vec!["old"], 0));
        let steps = Steps::between(&none, &servers(&[("c", entry(9))]), &lingering);
        assert_eq!((names(&steps.replaced), steps.removed.len()), (vec!["old"], 0));
        assert!(Steps::between(&none, &none, &lingering).only_forgets(&lingering));
    }

    /// A worker that holds these sessions and does whatever it is told; what it was told.
    async fn worker(list: &'static str) -> (Session, Arc<Mutex<Vec<String>>>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let told = Arc::<Mutex<Vec<String>>>::default();
        let commands = told.clone();
        tokio::spawn(async move {
            let _directory = directory;
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            let mut line = String::new();
            while let Ok(1..) = stream.read_line(&mut line).await {
                let command = std::mem::take(&mut line).trim().to_owned();
                let answer = match command.split(' ').next() {
                    Some("show") => list,
                    Some("del") => "Server deleted.\n",
                    _ => "",
                };
                commands.lock().unwrap().push(command);
                stream.write_all(format!("{answer}\n> ").as_bytes()).await.unwrap();
            }
        });
        (Socket::new(path).session().await.unwrap(), told)
    }

    /// HAProxy deletes it when it is told so, and the request that will try it again crashes the worker.
    #[tokio::test]
    async fn a_server_is_not_forgotten_while_a_request_may_try_it_again() {
        const ASKING: &str = "0x1: proto=unix_stream fe=GLOBAL be=<NONE> srv=<none> ts=00\n";
        const WAITS: &str = "0x1: proto=unix_stream fe=GLOBAL be=<NONE> srv=<none> ts=00\n\
            0x2: proto=tcpv4 fe=f be=shop.web srv=a ts=00 epoch=0 scb=[2,11h,fd=-1] exp=1s\n";
        const UNKNOWN: &str = "0x1: a line of a later version\n";
        let leaves = |server: &str| Member {
            backend: BackendName::new("shop.web").unwrap(),
            server: name(server),
            id: 1,
        };
        let both = [leaves("a"), leaves("b")];
        let deleted = |told: &Arc<Mutex<Vec<String>>>| {
            let told = told.lock().unwrap();
            told.iter().filter_map(|c| c.strip_prefix("del server ").map(str::to_owned)).collect()
        };
        for (list, closed, left, forgotten) in [
            // In the call that closed it, nothing is forgotten: requests may be on their way to it.
            (ASKING, &both[..0], &both[..], vec![]),
            (WAITS, &both[..], &both[..1], vec!["shop.web/b"]),
            (ASKING, &both[..], &both[..0], vec!["shop.web/a", "shop.web/b"]),
            (UNKNOWN, &both[..], &both[..], vec![]),
        ] {
            let (mut session, told) = worker(list).await;
            assert_eq!(remove(&mut session, &both, closed).await.unwrap(), left, "{list}");
            let deleted: Vec<String> = deleted(&told);
            assert_eq!(deleted, forgotten, "{list}");
        }
        // What stands in the way of another is tried until no request holds on to it.
        let (mut session, told) = worker(ASKING).await;
        let replaced = Steps { replaced: both.to_vec(), ..Steps::default() };
        come(&mut session, &replaced).await.unwrap();
        let deleted: Vec<String> = deleted(&told);
        assert_eq!(deleted, ["shop.web/a", "shop.web/b"]);
    }
}
