//! Which server gets a request: the same for every balancer. Each case is given a way to have one that serves a
//! table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use lb_core::{Balance, HeaderName, Protocol::Http, RoutingTable};

use super::live::{Client, free_ports};
use super::{Instance, Routes, eventually};

/// Who a request comes from and what it says beside its path.
type Asker = fn(u8) -> (Ipv4Addr, String);

async fn answered_by(port: u16, from: Ipv4Addr, headers: &str) -> String {
    let mut client = Client::connect_from(from, port).await;
    let request = format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n");
    let answer = client.ask(request).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    String::from_utf8(answer.body).unwrap()
}

/// Three instances behind `/`, spread over in this way.
async fn behind(balance: &Balance) -> (u16, RoutingTable, Vec<Instance>) {
    let [port] = free_ports();
    let mut instances = Vec::new();
    for name in ["a", "b", "c"] {
        instances.push(Instance::http(name).await);
    }
    let addresses: Vec<_> = instances.iter().map(|i| i.address).collect();
    let spread = |b: &mut lb_core::Backend| b.balance = balance.clone();
    let table = Routes::new().backend_with("shop.web", Http, &addresses, spread);
    (port, table.route(port, "/", "shop.web").0, instances)
}

pub async fn a_hash_keeps_its_keys_together_and_uses_all_servers<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let by_source: Asker = |n| (Ipv4Addr::new(127, 0, 1, n), String::new());
    let by_header: Asker = |n| (Ipv4Addr::LOCALHOST, format!("X-Tenant: t{n}\r\n"));
    let header = Balance::HeaderHash(HeaderName::new("x-tenant").unwrap());
    for (balance, asker) in [(Balance::SourceHash, by_source), (header, by_header)] {
        let (port, table, _instances) = behind(&balance).await;
        let _balancer = start(&table).await;
        let mut used = BTreeSet::new();
        for key in 1..=40 {
            let (from, headers) = asker(key);
            let first = answered_by(port, from, &headers).await;
            let again = answered_by(port, from, &headers).await;
            assert_eq!(first, again, "{balance:?}: key {key}");
            used.insert(first);
        }
        assert_eq!(used.len(), 3, "{balance:?}: forty keys for three servers");
    }
}

/// In turn or drawn: sixty draws leave one of three out once in ten thousand million times.
pub async fn without_the_header_all_are_used<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let header = Balance::HeaderHash(HeaderName::new("x-tenant").unwrap());
    let (port, table, _instances) = behind(&header).await;
    let _balancer = start(&table).await;
    let mut used = BTreeSet::new();
    for _ in 0..60 {
        used.insert(answered_by(port, Ipv4Addr::LOCALHOST, "").await);
    }
    assert_eq!(used.len(), 3);
}

/// One server holds requests while others are asked for. Least connections leaves it alone; of two drawn at random
/// (the same one twice, where the balancer may draw so) it is the one taken in a quarter of the cases at most (a plain draw: a third).
pub async fn a_busy_server_gets_less<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    const ASKED: u32 = 300;
    for (balance, most) in [(Balance::LeastConnections, 0), (Balance::RandomTwo, ASKED / 4)] {
        let (port, table, instances) = behind(&balance).await;
        let _balancer = start(&table).await;
        let slow = tokio::spawn(async move {
            let mut client = Client::connect_from(Ipv4Addr::LOCALHOST, port).await;
            client.ask("GET /slow-8000 HTTP/1.1\r\nHost: h\r\n\r\n").await
        });
        let busy = async || instances.iter().position(|i| i.requests() == 1);
        eventually("one is busy", async || busy().await.is_some()).await;
        let busy = ["a", "b", "c"][busy().await.unwrap()];
        let mut shares = BTreeMap::<String, u32>::new();
        for _ in 0..ASKED {
            *shares.entry(answered_by(port, Ipv4Addr::LOCALHOST, "").await).or_default() += 1;
        }
        assert!(!slow.is_finished(), "still busy");
        let got = shares.remove(busy).unwrap_or_default();
        assert!(got <= most, "{balance:?}: {got} of {ASKED} for the busy one");
        assert_eq!(shares.len(), 2, "{balance:?}: the others share: {shares:?}");
    }
}

/// A canary's fifth of the requests of one client after another: nobody is ever busy.
pub async fn a_share_holds_while_nobody_is_busy<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    const ASKED: u32 = 200;
    let [port] = free_ports();
    let (old, new) = (Instance::http("old").await, Instance::http("new").await);
    let shared = |b: &mut lb_core::Backend| {
        b.balance = Balance::RoundRobin;
        for (server, weight) in b.servers.values_mut().zip([256, 64]) {
            server.weight = weight;
        }
    };
    let servers = [old.address, new.address];
    let table = Routes::new().backend_with("shop.web", Http, &servers, shared);
    let _balancer = start(&table.route(port, "/", "shop.web").0).await;
    let mut got = 0;
    for _ in 0..ASKED {
        got += u32::from(answered_by(port, Ipv4Addr::LOCALHOST, "").await == "new");
    }
    assert!((ASKED / 5 - 4..=ASKED / 5 + 4).contains(&got), "{got} of {ASKED}");
}

/// Gives the cases that hold for every balancer to a macro that makes a test of each. Beside them, where all workers count
/// together: `cases! { spreading: a_busy_server_gets_less a_share_holds_while_nobody_is_busy }`.
#[macro_export]
macro_rules! spreading_cases {
    ($make:ident) => {
        $make! { spreading:
            a_hash_keeps_its_keys_together_and_uses_all_servers
            without_the_header_all_are_used
        }
    };
}
