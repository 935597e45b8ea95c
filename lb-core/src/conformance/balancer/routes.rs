//! Who gets a request. These cases need a balancer that carries traffic.

use std::net::SocketAddr;

use super::bed::{Bed, add_http, backend, name_of, put, server};
use super::client::get;
use super::site::Site;
use crate::model::{HostId, Prefix, Protocol};
use crate::routing::{Listener, Route, RoutingTable, Server};

/// In whole segments; exact names before wildcards before any.
pub async fn routes_choose_the_longest_path_of_the_most_specific_name(bed: &Bed) {
    let sites =
        [Site::http(1).await, Site::http(2).await, Site::http(3).await, Site::http(4).await];
    let mut table = RoutingTable::default();
    let routes = [
        (None, "/", "any"),
        (Some("shop.test"), "/", "shop"),
        (Some("shop.test"), "/cart", "cart"),
        (Some("*.shop.test"), "/", "tenant"),
    ];
    for (site, (host, path, app)) in sites.iter().zip(routes) {
        add_http(&mut table, bed.port, host, path, app);
        put(&mut table, app, backend(Protocol::Http, &[site]));
    }
    bed.apply(&table).await;
    let wanted = [
        ("shop.test", "/a?b=c", "s2 /a?b=c"),
        ("shop.test", "/cart", "s3 /cart"),
        ("shop.test", "/cart/x?y", "s3 /cart/x?y"),
        ("shop.test", "/cartoon", "s2 /cartoon"),
        ("SHOP.test:8000", "/cart", "s3 /cart"),
        ("eu.shop.test", "/cart", "s4 /cart"),
        ("other.test", "/cart", "s1 /cart"),
    ];
    for (host, path, body) in wanted {
        let answer = get(bed.at(bed.port), host, path).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{host}{path}");
    }
}

/// By the app; all others stay as they are.
pub async fn a_stripped_prefix_is_not_seen(bed: &Bed) {
    let site = Site::http(1).await;
    let mut table = bed.http(&[&site]);
    let stripped = Route {
        host: None,
        path: "/cart".parse().unwrap(),
        prefix: Prefix::Stripped,
        backend: name_of("shop"),
    };
    if let Some(Listener::Http { routes, .. }) = table.listeners.get_mut(&bed.port) {
        routes.insert(stripped);
    }
    bed.apply(&table).await;
    for (path, seen) in [("/cart/x?y", "/x?y"), ("/cart", "/"), ("/cartoon", "/cartoon")] {
        assert_eq!(bed.get(path).await.body, format!("s1 {seen}"));
    }
}

/// At their published address; those of the balancer's own host inside.
pub async fn servers_of_other_hosts_are_reached_from_outside(bed: &Bed) {
    let (near, far) = (Site::http(1).await, Site::http(2).await);
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let host = |name: &str| Some(HostId::new(name).unwrap());
    let mut table = bed.http(&[]);
    table.host = host("h1");
    let published = Some(far.address);
    let far_server = Server { host: host("h2"), address: nowhere, published, ..server(&far) };
    let published = Some(nowhere);
    let near_server = Server { host: host("h1"), published, ..server(&near) };
    super::bed::change(&mut table, |b| {
        b.servers.insert(near.name.clone(), near_server);
        b.servers.insert(far.name.clone(), far_server);
    });
    bed.apply(&table).await;
    for _ in 0..10 {
        assert_eq!(bed.get("/").await.status, 200);
    }
    assert!(near.requests() > 0 && far.requests() > 0, "both are used");
}

/// With 503.
pub async fn a_backend_without_servers_refuses_and_others_go_on(bed: &Bed) {
    let site = Site::http(1).await;
    let mut table = bed.http(&[&site]);
    add_http(&mut table, bed.port, None, "/empty", "empty");
    put(&mut table, "empty", backend(Protocol::Http, &[]));
    bed.apply(&table).await;
    assert_eq!(bed.get("/empty").await.status, 503);
    assert_eq!(bed.get("/full").await.body, "s1 /full");
    put(&mut table, "empty", backend(Protocol::Http, &[&site]));
    bed.apply(&table).await;
    assert_eq!(bed.get("/empty").await.body, "s1 /empty");
}
