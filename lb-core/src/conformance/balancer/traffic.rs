//! What goes through is spread, counted and survives. These cases need a balancer that carries traffic.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::eventually;
use super::bed::{Bed, add_http, change, dead};
use super::site::Site;
use crate::model::ServerName;

const MANY: u64 = 20;
/// Requests between two changes.
const EACH: u64 = 5;

/// Over all servers; the counts may come a little later.
pub async fn requests_are_spread_and_counted(bed: &Bed) {
    let (a, b) = (Site::http(1).await, Site::http(2).await);
    bed.apply(&bed.http(&[&a, &b])).await;
    for _ in 0..MANY {
        assert_eq!(bed.get("/").await.status, 200);
    }
    assert!(a.requests() > 0 && b.requests() > 0, "{} and {}", a.requests(), b.requests());
    let counted = async || {
        let traffic = bed.traffic().await;
        let servers: u64 = traffic.servers.values().map(|s| s.requests).sum();
        traffic.requests == MANY && servers == MANY
    };
    eventually("each request is counted once", counted).await;
    let traffic = bed.traffic().await;
    assert_eq!((traffic.failures, traffic.queued), (0, 0));
    assert!(traffic.servers.values().all(|server| server.up), "{traffic:?}");
}

/// Connections to servers that are kept for later requests are not open.
pub async fn nothing_is_open_when_all_is_answered(bed: &Bed) {
    let site = Site::http(1).await;
    bed.apply(&bed.http(&[&site])).await;
    let none_open = async || {
        // Often enough that a kept connection never ends for being idle, and seldom enough that none wears out.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(bed.get("/").await.status, 200);
        bed.server(&site).await.open == 0
    };
    eventually("none is open after its answer", none_open).await;
    assert_eq!(bed.traffic().await.in_flight, 0);
}

/// It goes to another server, as nothing was sent yet.
pub async fn a_server_that_refuses_costs_no_request(bed: &Bed) {
    let site = Site::http(1).await;
    let mut table = bed.http(&[&site]);
    let (name, server) = dead(2);
    change(&mut table, |b| drop(b.servers.insert(name, server)));
    bed.apply(&table).await;
    for _ in 0..MANY {
        assert_eq!(bed.get("/x").await.body, "s1 /x");
    }
    assert_eq!(bed.traffic().await.failures, 0);
}

/// Whatever changes, while one value lives: neither the backend's nor those of servers that stay.
pub async fn counters_never_go_back(bed: &Bed) {
    let (a, b) = (Site::http(1).await, Site::http(2).await);
    let mut more = bed.http(&[&a, &b]);
    add_http(&mut more, bed.setup.port(), None, "/", "shop");
    let mut before = Counts::default();
    for table in [bed.http(&[&a]), bed.http(&[&a, &b]), more, bed.http(&[&a, &b])] {
        bed.apply(&table).await;
        let wanted = before.requests + EACH;
        before = before.then(bed).await;
        for _ in 0..EACH {
            assert_eq!(bed.get("/").await.status, 200);
        }
        let counted = async || {
            let now = before.then(bed).await;
            now.requests >= wanted && now.servers.values().sum::<u64>() >= wanted
        };
        eventually("all are counted", counted).await;
        before = before.then(bed).await;
        assert_eq!(before.requests, wanted);
        assert_eq!(before.servers.values().sum::<u64>(), wanted, "{:?}", before.servers);
    }
    assert!(a.requests() > 0 && b.requests() > 0, "{} and {}", a.requests(), b.requests());
}

/// Requests of a backend and of each of its servers.
#[derive(Debug, Clone, Default)]
struct Counts {
    requests: u64,
    servers: BTreeMap<ServerName, u64>,
}

impl Counts {
    /// Those of now, of which none is less.
    async fn then(&self, bed: &Bed) -> Self {
        let traffic = bed.traffic().await;
        let servers = traffic.servers.into_iter().map(|(name, server)| (name, server.requests));
        let now = Self { requests: traffic.requests, servers: servers.collect() };
        assert!(now.requests >= self.requests, "{now:?} after {self:?}");
        for (name, before) in &self.servers {
            assert!(now.servers.get(name) >= Some(before), "{name}: {now:?} after {self:?}");
        }
        now
    }
}
