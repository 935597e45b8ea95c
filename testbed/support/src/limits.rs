//! What a balancer does with the bounds of a backend: body size, rate, retries, stickiness, streams. The same for
//! every balancer; each case is given a way to have one that serves a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use lb_core::{
    Backend, Balance, ByteSize, CookieName,
    Protocol::{Http, Tcp},
    RateLimit, RoutingTable, Sticky,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Routes;
use super::live::{
    App, Client, DEADLINE,
    Manner::{Die, Echo, Upgrade},
    ask, free_ports, get, local,
};

/// One app behind `/`, its backend changed.
pub async fn one<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
    change: impl FnOnce(&mut Backend),
) -> (u16, App, P) {
    let [port] = free_ports();
    let app = App::start("shop", Echo).await;
    let table = Routes::new().backend_with("shop.web", Http, &[app.address], change);
    let balancer = start(&table.route(port, "/", "shop.web").0).await;
    (port, app, balancer)
}

/// A POST with this body that says it has so many bytes.
pub fn announced(length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A body in chunks of at most 100 bytes, after so many bytes of further headers.
pub fn chunked(length: usize, headers: usize) -> Vec<u8> {
    let mut request = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n".to_owned();
    for n in 0..headers.div_ceil(500) {
        write!(request, "X-{n}: {}\r\n", "x".repeat(494)).unwrap();
    }
    request += "\r\n";
    for chunk in "b".repeat(length).as_bytes().chunks(100) {
        write!(request, "{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)).unwrap();
    }
    (request + "0\r\n\r\n").into_bytes()
}

/// So many requests of a client in each window.
pub fn rate(requests: u32, window: Duration) -> RateLimit {
    RateLimit { requests: NonZeroU32::new(requests).unwrap(), window }
}

/// Whether a body is announced or streamed.
pub async fn a_body_over_the_limit_gets_413<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let (port, app, _balancer) = one(start, |b| b.limits.body = Some(ByteSize::new(1000))).await;
    for (request, status) in [
        (announced(1000, &[b'x'; 1000]), 200),
        (announced(0, b""), 200),
        (announced(1001, b""), 413),
        (announced(99_999_999_999, b"x"), 413),
        (chunked(0, 0), 200),
        (chunked(1000, 0), 200),
        (chunked(1001, 0), 413),
        (chunked(50_000, 0), 413),
    ] {
        let answer = ask(port, &request).await;
        let begin = String::from_utf8_lossy(&request[..120.min(request.len())]);
        assert_eq!(answer.status(), status, "{begin:?}");
    }
    assert_eq!(app.seen().len(), 4, "what was refused never reached the app");
}

pub async fn a_client_over_its_rate_gets_429_until_the_window_has_passed<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let (port, app, _balancer) =
        one(start, |b| b.limits.rate = Some(rate(5, Duration::from_secs(2)))).await;
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(get(port, "h", "/").await.status());
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429, 429]);
    assert_eq!(app.seen().len(), 5);
    let mut other = Client::connect_from(Ipv4Addr::new(127, 0, 0, 9), port).await;
    let answer = other.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    assert_eq!(answer.status(), 200, "another client has its own rate");
    // What was refused does not count: asking on does not keep the client out.
    let end = Instant::now() + DEADLINE;
    while get(port, "h", "/").await.status() != 200 {
        assert!(Instant::now() < end, "the window never passes");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Two servers of one backend, the first of which dies with each request it has read.
async fn half_dead<P>(port: u16, start: impl AsyncFn(&RoutingTable) -> P) -> (App, App, P) {
    let (dying, living) = (App::start("dying", Die).await, App::start("living", Echo).await);
    let servers = [dying.address, living.address];
    let turns = |b: &mut Backend| b.balance = Balance::RoundRobin;
    let table = Routes::new().backend_with("shop.web", Http, &servers, turns);
    let balancer = start(&table.route(port, "/", "shop.web").0).await;
    (dying, living, balancer)
}

pub async fn an_idempotent_request_survives_its_servers_death<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let [port] = free_ports();
    let (dying, living, _balancer) = half_dead(port, start).await;
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        for _ in 0..10 {
            let request = format!("{method} /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
            let answer = ask(port, request).await;
            assert_eq!((answer.status(), answer.app()), (200, Some("living")), "{method}");
        }
    }
    assert!(!dying.seen().is_empty(), "some requests met the death");
    assert_eq!(living.seen().len(), 50);
}

pub async fn a_post_once_sent_is_never_sent_again<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let [port] = free_ports();
    let (dying, living, _balancer) = half_dead(port, start).await;
    let mut failed = 0;
    for n in 0..20 {
        let body = format!("{n:04}");
        let answer = ask(port, announced(4, body.as_bytes())).await;
        failed += usize::from(answer.status() == 502);
    }
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    bodies.extend(dying.seen().into_iter().chain(living.seen()).map(|seen| seen.body));
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 20, "each was sent");
    assert_eq!(dying.seen().len() + living.seen().len(), 20, "and none twice");
    assert_eq!(dying.seen().len(), failed);
    assert!(failed > 0, "some requests met the death");
}

pub async fn a_post_never_sent_goes_to_another_server<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let [port, nobody] = free_ports();
    let living = App::start("living", Echo).await;
    let slow_check = |b: &mut Backend| {
        b.balance = Balance::RoundRobin;
        b.health.interval = Duration::from_secs(3600);
    };
    let servers = [local(nobody), living.address];
    let table = Routes::new().backend_with("shop.web", Http, &servers, slow_check);
    let _balancer = start(&table.route(port, "/", "shop.web").0).await;
    for _ in 0..10 {
        assert_eq!(ask(port, announced(4, b"body")).await.status(), 200);
    }
    assert_eq!(living.seen().len(), 10);
}

pub async fn a_cookie_keeps_a_client_on_its_server_and_off_the_app<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let [port] = free_ports();
    let apps = [App::start("a", Echo).await, App::start("b", Echo).await];
    let sticky = |b: &mut Backend| {
        b.balance = Balance::RoundRobin;
        b.sticky = Some(Sticky { cookie: CookieName::new("LB").unwrap() });
    };
    let servers = [apps[0].address, apps[1].address];
    let table = Routes::new().backend_with("shop.web", Http, &servers, sticky);
    let _balancer = start(&table.route(port, "/", "shop.web").0).await;
    let first = get(port, "h", "/").await;
    let cookie = first.header("set-cookie").expect("a cookie");
    assert!(cookie.to_ascii_lowercase().contains("httponly"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    for _ in 0..10 {
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\nCookie: own=1; {pair}\r\n\r\n");
        let answer = ask(port, request).await;
        assert_eq!((answer.status(), answer.app()), (200, first.app()));
        assert_eq!(answer.header("set-cookie"), None, "set once");
    }
    for seen in apps.iter().flat_map(App::seen).skip(1) {
        assert_eq!(seen.header("cookie").unwrap_or("own=1"), "own=1");
    }
    let mut others = BTreeSet::new();
    for _ in 0..30 {
        others.insert(get(port, "h", "/").await.app().map(str::to_owned));
    }
    assert_eq!(others.len(), 2, "clients without a cookie are spread");
}

/// Apps at `/a` and `/b` of one host and one at another of its ports, whose cookies begin alike: a client with a cookie
/// jar asks them by turns.
pub async fn apps_of_one_site_keep_their_own_cookies<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let [port, beside] = free_ports();
    let sticky = |b: &mut Backend| {
        b.balance = Balance::RoundRobin;
        b.sticky = Some(Sticky { cookie: CookieName::new("SRV").unwrap() });
    };
    let (mut table, mut running) = (Routes::new(), Vec::new());
    for backend in ["a.web", "b.web", "c.web"] {
        let mut servers = Vec::new();
        for name in ["one", "two", "three"] {
            let app = App::start(name, Echo).await;
            servers.push(app.address);
            running.push(app);
        }
        table = table.backend_with(backend, Http, &servers, sticky);
    }
    let table = table.route(port, "/a", "a.web").route(port, "/b", "b.web");
    let _balancer = start(&table.route(beside, "/", "c.web").0).await;
    let mut jar = BTreeMap::<String, String>::new();
    let mut kept = BTreeMap::new();
    for turn in 0..8 {
        for (port, path) in [(port, "/a"), (port, "/b"), (beside, "/")] {
            let cookies: Vec<_> =
                jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: h\r\nCookie: {}\r\n\r\n", cookies.join("; "));
            let answer = ask(port, request).await;
            assert_eq!(answer.status(), 200);
            if let Some(set) = answer.header("set-cookie") {
                assert_eq!(turn, 0, "{path}: set again: {set}");
                let (name, rest) = set.split_once('=').unwrap();
                let (value, attributes) = rest.split_once(';').unwrap();
                jar.insert(name.to_owned(), value.to_owned());
                let attributes = attributes.to_ascii_lowercase();
                assert!(
                    attributes.contains("httponly") && attributes.contains("samesite=lax"),
                    "{set}"
                );
                assert!(!attributes.contains("secure"), "{set}: over a listener in the clear");
            }
            let instance = answer.app().unwrap().to_owned();
            assert_eq!(
                kept.entry(path).or_insert(instance.clone()),
                &instance,
                "{path}: turn {turn}"
            );
        }
    }
}

pub async fn equal_paths_go_to_one_server_where_the_uri_is_hashed<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let [port] = free_ports();
    let apps =
        [App::start("a", Echo).await, App::start("b", Echo).await, App::start("c", Echo).await];
    let servers: Vec<_> = apps.iter().map(|app| app.address).collect();
    let hashed = |b: &mut Backend| b.balance = Balance::UriHash;
    let table = Routes::new().backend_with("shop.web", Http, &servers, hashed);
    let _balancer = start(&table.route(port, "/", "shop.web").0).await;
    for path in 0..30 {
        let first = get(port, "h", &format!("/{path}")).await;
        let again = get(port, "other", &format!("/{path}?q=1")).await;
        assert_eq!(first.app(), again.app(), "/{path}");
    }
    for app in apps {
        assert!(app.seen().len() >= 4, "all servers get paths: {}", app.seen().len());
    }
}

pub async fn a_websocket_is_a_stream_after_its_handshake_whatever_the_body_limit<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let [port] = free_ports();
    let app = App::start("chat", Upgrade).await;
    let limited = |b: &mut Backend| b.limits.body = Some(ByteSize::new(10));
    let table = Routes::new().backend_with("chat.ws", Http, &[app.address], limited);
    let _balancer = start(&table.route(port, "/", "chat.ws").0).await;
    let mut client = Client::connect(port).await;
    let request = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(client.ask(request).await.unwrap().status(), 101);
    echoes(&mut client.0.into_inner(), 20_000).await;
}

pub async fn a_tcp_listener_carries_bytes_as_they_are<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let [port] = free_ports();
    let listener = tokio::net::TcpListener::bind(local(0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (mut from, mut to) = stream.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from, &mut to).await });
        }
    });
    let table = Routes::new().backend("db.sql", Tcp, &[address]).tcp(port, "db.sql");
    let _balancer = start(&table.0).await;
    echoes(&mut TcpStream::connect(local(port)).await.unwrap(), 300_000).await;
}

/// Sends bytes of every value and reads the same back.
pub async fn echoes(stream: &mut TcpStream, length: usize) {
    let sent: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
    let mut got = vec![0; length];
    let (mut from, mut to) = stream.split();
    let both = async { tokio::join!(to.write_all(&sent), from.read_exact(&mut got)) };
    let (written, read) = tokio::time::timeout(DEADLINE, both).await.expect("an echo in time");
    written.unwrap();
    read.unwrap();
    assert!(sent == got);
}

/// Gives the cases that hold for every balancer to a macro that makes a test of each. Beside them, where a balancer's
/// cookie names the server: `cases! { limits: apps_of_one_site_keep_their_own_cookies }`.
#[macro_export]
macro_rules! limits_cases {
    ($make:ident) => {
        $make! { limits:
            a_body_over_the_limit_gets_413
            a_client_over_its_rate_gets_429_until_the_window_has_passed
            an_idempotent_request_survives_its_servers_death
            a_post_once_sent_is_never_sent_again
            a_post_never_sent_goes_to_another_server
            a_cookie_keeps_a_client_on_its_server_and_off_the_app
            equal_paths_go_to_one_server_where_the_uri_is_hashed
            a_websocket_is_a_stream_after_its_handshake_whatever_the_body_limit
            a_tcp_listener_carries_bytes_as_they_are
        }
    };
}
