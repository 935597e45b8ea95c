//! Which table is in force, and how it comes to be.

use std::collections::BTreeMap;
use std::net::TcpListener;

use futures_util::future::join_all;

use super::super::certificate::{certificate, shows_key};
use super::super::{at_each_await, eventually, poll_times, refused};
use super::bed::{Bed, add_http, change, dead, put, shop};
use super::client::get;
use super::site::Site;
use crate::balancer::{Applied, Change, SetAside};
use crate::error::{ErrorKind, Result};
use crate::model::Protocol;
use crate::routing::{Listener, RoutingTable};

/// `describe` gives a name, and a version once it has started.
pub async fn it_says_who_it_is(bed: &Bed) {
    let before = bed.balancer.describe().await.unwrap();
    assert!(!before.name.is_empty(), "{before:?}");
    bed.apply(&bed.http(&[])).await;
    let after = bed.balancer.describe().await.unwrap();
    assert!(!after.version.is_empty(), "{after:?}");
    assert_eq!((before.name, before.reloads), (after.name, after.reloads));
}

/// It says so, or that it does not run.
pub async fn nothing_is_in_force_before_the_first_table(bed: &Bed) {
    assert!(is_down(bed).await);
    bed.balancer.shutdown().await.expect("absent is success");
}

/// And `traffic` names it, with its backends and servers.
pub async fn a_table_comes_in_force_and_again_changes_nothing(bed: &Bed) {
    let site = Site::http(1).await;
    let table = bed.http(&[&site]);
    assert_eq!(bed.apply(&table).await.change, Change::Start);
    let reloads = bed.balancer.describe().await.unwrap().reloads;
    let traffic = bed.balancer.traffic().await.unwrap();
    assert_eq!(traffic.table, Some(table.hash()));
    assert_eq!(traffic.backends.keys().collect::<Vec<_>>(), [&shop()]);
    assert_eq!(traffic.backends[&shop()].servers.keys().collect::<Vec<_>>(), [&site.name]);
    for _ in 0..3 {
        assert_eq!(bed.apply(&table).await.change, Change::None);
    }
    assert_eq!(bed.balancer.describe().await.unwrap().reloads, reloads);
}

/// Without a reload where the balancer says that it can.
pub async fn servers_come_and_go(bed: &Bed) {
    let sites = [Site::http(1).await, Site::http(2).await, Site::http(3).await];
    bed.apply(&bed.http(&[])).await;
    let info = bed.balancer.describe().await.unwrap();
    let [a, b, c] = &sites;
    let mut heavier = bed.http(&[b, c]);
    change(&mut heavier, |backend| backend.servers.get_mut(&b.name).unwrap().weight = 7);
    for table in [bed.http(&[a]), bed.http(&[a, b, c]), bed.http(&[b, c]), heavier, bed.http(&[])] {
        let applied = bed.apply(&table).await;
        match info.servers_without_reload {
            true => assert_eq!(applied.change, Change::Live),
            false => assert!(matches!(applied.change, Change::Live | Change::Reload)),
        }
        assert!(bed.serves(&table).await);
    }
    let reloads = bed.balancer.describe().await.unwrap().reloads;
    assert!(!info.servers_without_reload || reloads == info.reloads, "{reloads} reloads");
}

/// Others stay.
pub async fn listeners_come_and_go(bed: &Bed) {
    let site = Site::http(1).await;
    let one = bed.http(&[&site]);
    let mut two = one.clone();
    add_http(&mut two, bed.setup.port(), None, "/", "shop");
    for table in [&one, &two, &one] {
        bed.apply(table).await;
        assert!(bed.serves(table).await);
    }
    assert_eq!(bed.apply(&one).await.change, Change::None);
}

/// Neither what is in force nor what is on disk.
pub async fn a_table_that_breaks_a_rule_changes_nothing(bed: &Bed) {
    let good = bed.http(&[&Site::http(1).await]);
    bed.apply(&good).await;
    let files = bed.balancer.files().await.unwrap();
    let mut nowhere = good.clone();
    nowhere.backends.clear();
    let mut weightless = good.clone();
    change(&mut weightless, |b| b.servers.values_mut().for_each(|s| s.weight = 0));
    for bad in [nowhere, weightless] {
        refused(bed.balancer.apply(&bad).await, ErrorKind::Invalid);
        assert!(bed.serves(&good).await);
        assert_eq!(bed.balancer.files().await.unwrap(), files);
    }
    assert_eq!(bed.apply(&good).await.change, Change::None);
}

/// Tables that differ in one server's weight.
fn weights(bed: &Bed, range: std::ops::Range<u16>) -> Vec<RoutingTable> {
    let table = |weight| {
        let mut table = bed.http(&[]);
        let (name, server) = dead(1);
        change(&mut table, |b| drop(b.servers.insert(name, server)));
        change(&mut table, |b| b.servers.values_mut().for_each(|s| s.weight = weight));
        table
    };
    range.map(table).collect()
}

/// Each call succeeds, whether its table came in force or a later one did.
pub async fn of_calls_at_once_the_last_table_stays(bed: &Bed) {
    let tables = weights(bed, 1..21);
    bed.apply(&tables[0]).await;
    let calls = join_all(tables.iter().map(|table| bed.balancer.apply(table))).await;
    let applied: Vec<Applied> = calls.into_iter().collect::<Result<_>>().unwrap();
    let last = tables.last().unwrap();
    assert_eq!(applied.last().unwrap().table, last.hash());
    assert!(bed.serves(last).await);
    assert_eq!(bed.apply(last).await.change, Change::None);
}

/// At whichever await it is cut.
pub async fn a_cut_apply_goes_on_and_the_next_call_waits(bed: &Bed) {
    let tables = weights(bed, 1..250);
    let mut tables = tables.iter();
    let mut next = || tables.next().unwrap();
    bed.apply(next()).await;
    at_each_await(async |polls| {
        let table = next();
        let ended = poll_times(bed.balancer.apply(table), polls).await.is_some();
        eventually("the abandoned table comes in force", async || bed.serves(table).await).await;

        let (first, second) = (next(), next());
        let _ = poll_times(bed.balancer.apply(first), polls).await;
        bed.apply(second).await;
        assert!(bed.serves(second).await, "the later one stays, after {polls} polls");
        assert_eq!(bed.apply(second).await.change, Change::None);
        ended
    })
    .await;
}

/// At whichever await it is cut: an abandoned one ends the balancer, and a table behind it starts it again.
pub async fn a_cut_shutdown_goes_on_and_the_next_call_waits(bed: &Bed) {
    let table = bed.http(&[]);
    at_each_await(async |polls| {
        bed.apply(&table).await;
        let ended = poll_times(bed.balancer.shutdown(), polls).await.is_some();
        eventually("the abandoned shutdown ends", async || is_down(bed).await).await;
        drop(TcpListener::bind(bed.at(bed.port)).expect("nobody is bound to it"));

        bed.apply(&table).await;
        let _ = poll_times(bed.balancer.shutdown(), polls).await;
        assert_eq!(bed.apply(&table).await.change, Change::Start, "after {polls} polls");
        assert!(bed.serves(&table).await, "the later one stays, after {polls} polls");
        bed.balancer.shutdown().await.unwrap();
        ended
    })
    .await;
}

/// Nothing is in force, or it says that it does not run.
async fn is_down(bed: &Bed) -> bool {
    match bed.balancer.traffic().await {
        Ok(traffic) => traffic.table.is_none(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            true
        }
    }
}

/// Whatever was in force between.
pub async fn equal_tables_give_equal_files(bed: &Bed) {
    let (a, b) = (Site::http(1).await, Site::http(2).await);
    let table = bed.http(&[&a, &b]);
    let copy: RoutingTable = serde_json::from_str(&serde_json::to_string(&table).unwrap()).unwrap();
    let mut other = bed.http(&[&b]);
    add_http(&mut other, bed.setup.port(), None, "/", "shop");
    bed.apply(&table).await;
    let files = bed.balancer.files().await.unwrap();
    assert!(!files.is_empty());
    bed.apply(&copy).await;
    assert_eq!(bed.balancer.files().await.unwrap(), files);
    bed.apply(&bed.http(&[&b])).await;
    bed.apply(&other).await;
    assert_ne!(bed.balancer.files().await.unwrap(), files);
    bed.apply(&copy).await;
    assert_eq!(bed.balancer.files().await.unwrap(), files);
}

/// Also those of listeners that are set aside, as by a balancer without TLS.
pub async fn files_hide_private_keys(bed: &Bed) {
    let mut table = bed.http(&[]);
    let mut secure = table.listeners[&bed.port].clone();
    if let Listener::Http { certificates, .. } = &mut secure {
        certificates.insert(shop(), certificate());
    }
    table.listeners.insert(bed.setup.port(), secure);
    bed.balancer.apply(&table).await.unwrap();
    for (name, text) in bed.balancer.files().await.unwrap() {
        assert!(!shows_key(&text), "{name}: {text}");
    }
}

/// As after a restart of the platform: it knows what is in force, and goes on from there.
pub async fn another_value_takes_over_what_is_in_force(bed: &Bed) {
    let (a, b) = (Site::http(1).await, Site::http(2).await);
    let table = bed.http(&[&a]);
    bed.apply(&table).await;
    let other = bed.setup.balancer().await;
    assert_eq!(other.traffic().await.unwrap().table, Some(table.hash()));
    assert_eq!(other.apply(&table).await.unwrap().change, Change::None);
    let more = bed.http(&[&a, &b]);
    let change = other.apply(&more).await.unwrap().change;
    assert!(matches!(change, Change::Live | Change::Reload), "{change:?}");
    other.shutdown().await.unwrap();
}

/// Ports are free again; ending it twice is success.
pub async fn a_shutdown_ends_it_and_it_can_start_again(bed: &Bed) {
    let table = bed.http(&[&Site::http(1).await]);
    bed.apply(&table).await;
    for _ in 0..2 {
        bed.balancer.shutdown().await.unwrap();
    }
    drop(TcpListener::bind(bed.at(bed.port)).expect("nobody is bound to it"));
    assert!(is_down(bed).await);
    assert_eq!(bed.apply(&table).await.change, Change::Start);
    assert!(bed.serves(&table).await);
}

/// All others serve meanwhile. Needs listeners that are bound.
pub async fn a_port_somebody_holds_is_set_aside_until_it_is_free(bed: &Bed) {
    let site = Site::http(1).await;
    let mut table = bed.http(&[&site]);
    let taken = bed.setup.port();
    add_http(&mut table, taken, None, "/", "late");
    put(&mut table, "late", super::bed::backend(Protocol::Http, &[&site]));
    let holder = TcpListener::bind(bed.at(taken)).unwrap();
    for _ in 0..2 {
        let applied = bed.balancer.apply(&table).await.unwrap();
        assert_eq!(applied.set_aside.keys().collect::<Vec<_>>(), [&SetAside::Listener(taken)]);
        assert_eq!(bed.get("/").await.status, 200);
        assert!(bed.serves(&table).await);
    }
    drop(holder);
    let applied = bed.balancer.apply(&table).await.unwrap();
    assert_eq!(applied.set_aside, BTreeMap::new());
    let answers =
        async || get(bed.at(taken), "shop.test", "/").await.is_ok_and(|a| a.status == 200);
    eventually("it serves", answers).await;
}
