//! Connections through changes: none is lost, draining keeps them, leaving shuts them. These cases need a
//! balancer that carries traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::super::{PATIENCE, eventually};
use super::bed::{Bed, add_http, backend, change, dead, draining, put, server};
use super::client::{Connection, Kept, get};
use super::site::Site;
use crate::model::{Balance, Protocol};

const CLIENTS: usize = 4;
const KEPT_CLIENTS: usize = 8;
const CHANGES: u32 = 20;
const TRIES: u32 = 10;
/// Where a change is a reload, of which there is one a second at most.
const RELOADS: u32 = 5;

/// Servers come, drain and go under clients that open a connection for each request.
pub async fn changes_lose_no_request(bed: &Bed) {
    let stays = Site::http(1).await;
    let table = bed.http(&[&stays]);
    bed.apply(&table).await;
    let load = Load::start(bed);
    let without_reload = bed.balancer.describe().await.unwrap().servers_without_reload;
    let changes = if without_reload { CHANGES } else { RELOADS };
    for round in 0..changes {
        let comes = Site::http(2 + round).await;
        let both = bed.http(&[&stays, &comes]);
        bed.apply(&both).await;
        eventually("the new server is used", async || comes.requests() > 0).await;
        bed.apply(&draining(&both, &comes)).await;
        bed.open_at(&comes, 0).await;
        bed.apply(&table).await;
    }
    let answered = load.finish().await;
    assert!(answered > u64::from(changes), "{answered} requests");
    assert_eq!(bed.traffic().await.failures, 0);
}

/// Another server takes the place of one that nobody listens behind, while the balancer still tries that one for
/// clients: each gets an answer, and what goes elsewhere goes on.
///
/// HAProxy forgets a server that a request will try again, and then sends it to whatever has taken the memory: the
/// request hangs, or the worker crashes.
pub async fn a_server_that_leaves_while_it_is_tried_again_does_no_harm(bed: &Bed) {
    let stays = Site::http(1).await;
    let mut table = bed.http(&[]);
    add_http(&mut table, bed.port, None, "/other", "other");
    put(&mut table, "other", backend(Protocol::Http, &[&stays]));
    let without_reload = bed.balancer.describe().await.unwrap().servers_without_reload;
    for round in 0..if without_reload { TRIES } else { RELOADS } {
        let mut refuses = table.clone();
        change(&mut refuses, |b| b.servers.extend([dead(100 + round)]));
        bed.apply(&refuses).await;
        let to = bed.at(bed.port);
        let ask = |_| tokio::spawn(async move { get(to, "shop.test", "/").await });
        let asked: Vec<_> = (0..CLIENTS).map(ask).collect();
        eventually("each is tried or answered", async || {
            let tried = bed.traffic().await.in_flight;
            asked.iter().filter(|asked| !asked.is_finished()).count() as u64 <= tried
        })
        .await;
        let comes = Site::http(2 + round).await;
        let mut serves = table.clone();
        change(&mut serves, |b| b.servers.extend([(comes.name.clone(), server(&comes))]));
        bed.apply(&serves).await;
        for asked in asked {
            let answer = asked.await.unwrap().expect("each is answered");
            assert!([200, 502, 503].contains(&answer.status), "round {round}: {answer:?}");
        }
        assert_eq!(bed.get("/").await.body, format!("s{} /", 2 + round));
        assert_eq!(bed.get("/other").await.body, "s1 /other");
    }
}

/// Clients that ask without pause; each answer must be 200.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(bed: &Bed) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let to = bed.at(bed.port);
        let client = |_| {
            let (stop, answered) = (stop.clone(), answered.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = get(to, "shop.test", "/").await.expect("no request is lost");
                    assert_eq!(answer.status, 200, "{answer:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { stop, answered, clients }
    }

    async fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.await.unwrap();
        }
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.clients.iter().for_each(JoinHandle::abort);
    }
}

/// A change of servers never, and one of listeners not either.
pub async fn streams_outlive_changes_of_others(bed: &Bed) {
    let (echo, http) = (Site::echo(1).await, Site::http(2).await);
    let mut table = bed.tcp(&[&echo]);
    let web = bed.setup.port();
    add_http(&mut table, web, None, "/", "web");
    put(&mut table, "web", backend(Protocol::Http, &[]));
    bed.apply(&table).await;
    let mut stream = Connection::open(bed.at(bed.port)).await.unwrap();
    let mut with = table.clone();
    put(&mut with, "web", backend(Protocol::Http, &[&http]));
    let mut more = with.clone();
    add_http(&mut more, bed.setup.port(), None, "/", "web");
    for table in [&with, &table, &more, &with] {
        bed.apply(table).await;
        assert!(stream.echoes().await);
    }
    bed.open_at(&echo, 1).await;
}

/// Open connections go on; new ones go elsewhere, or nowhere when it is the only one.
pub async fn a_draining_server_keeps_what_it_has_and_takes_nothing_new(bed: &Bed) {
    let (a, b) = (Site::echo(1).await, Site::echo(2).await);
    bed.apply(&bed.tcp(&[&a])).await;
    let mut kept = Connection::open(bed.at(bed.port)).await.unwrap();
    assert_eq!(kept.server, "s1");
    let both = bed.tcp(&[&a, &b]);
    bed.apply(&draining(&both, &a)).await;
    for _ in 0..6 {
        assert_eq!(Connection::open(bed.at(bed.port)).await.unwrap().server, "s2");
    }
    assert!(kept.echoes().await);
    bed.open_at(&a, 1).await;
    bed.apply(&draining(&bed.tcp(&[&a]), &a)).await;
    assert!(Connection::open(bed.at(bed.port)).await.is_err(), "nobody takes it");
    assert!(kept.echoes().await);
    drop(kept);
    bed.open_at(&a, 0).await;
}

/// A balancer that changes by new workers lets the old ones keep idle clients: where the next request of one may
/// still be led to a server that drains, that server is not idle.
pub async fn a_draining_server_is_not_idle_while_a_kept_client_may_come_to_it(bed: &Bed) {
    let (a, b) = (Site::http(1).await, Site::http(2).await);
    let table = bed.http(&[&a, &b]);
    bed.apply(&table).await;
    let mut clients = Vec::new();
    for _ in 0..KEPT_CLIENTS {
        let mut client = Kept::open(bed.at(bed.port)).await.unwrap();
        client.get("shop.test").await.unwrap();
        clients.push(client);
    }
    let mut drained = draining(&table, &b);
    change(&mut drained, |backend| backend.balance = Balance::RoundRobin);
    bed.apply(&drained).await;
    let server = bed.server(&b).await;
    let before = b.requests();
    for mut client in clients {
        // A reload that shuts idle connections leads nobody anywhere.
        drop(client.get("shop.test").await);
    }
    let came = b.requests() - before;
    assert!(
        came == 0 || server.open + server.expected > 0,
        "{came} requests came to an idle server: {server:?}"
    );
    let idle = async || {
        let server = bed.server(&b).await;
        server.open + server.expected == 0
    };
    eventually("its drain can end", idle).await;
}

/// Others stay.
pub async fn a_server_that_left_has_its_connections_shut(bed: &Bed) {
    let (a, b) = (Site::echo(1).await, Site::echo(2).await);
    let both = bed.tcp(&[&a, &b]);
    bed.apply(&bed.tcp(&[&a])).await;
    let mut cut = Connection::open(bed.at(bed.port)).await.unwrap();
    bed.apply(&draining(&both, &a)).await;
    let mut stays = Connection::open(bed.at(bed.port)).await.unwrap();
    assert!(cut.echoes().await && stays.echoes().await);
    bed.apply(&bed.tcp(&[&b])).await;
    let shut = async {
        while cut.echoes().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, shut).await.expect("its connections are shut");
    assert!(stays.echoes().await);
}
