//! What goes through is spread, counted and survives. These cases need a balancer that carries traffic.

use super::super::eventually;
use super::bed::{Bed, add_http, change, dead};
use super::site::Site;

const MANY: u64 = 20;

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
    assert_eq!(bed.get("/").await.status, 200);
    bed.open_at(&site, 0).await;
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

/// Whatever changes, while one value lives.
pub async fn counters_never_go_back(bed: &Bed) {
    let (a, b) = (Site::http(1).await, Site::http(2).await);
    let (mut requests, mut sent) = (0, 0);
    for round in 0..4 {
        let mut table = if round % 2 == 0 { bed.http(&[&a]) } else { bed.http(&[&a, &b]) };
        if round >= 2 {
            add_http(&mut table, bed.setup.port(), None, "/", "shop");
        }
        bed.apply(&table).await;
        let now = bed.traffic().await.requests;
        assert!(now >= requests, "{now} requests after {requests}");
        for _ in 0..5 {
            assert_eq!(bed.get("/").await.status, 200);
            sent += 1;
        }
        eventually("all are counted", async || bed.traffic().await.requests >= sent).await;
        requests = bed.traffic().await.requests;
        assert_eq!(requests, sent);
    }
}
