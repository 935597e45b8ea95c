//! What turns a request into a stream the balancer no longer sees, past its routes, limits and fields: only where
//! there is a rule that it may. The same for every balancer; each case is given a way to have one that serves a table.

use std::time::Duration;

use lb_core::Protocol::Http;
use lb_core::{Backend, RoutingTable};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::Routes;
use super::limits::{echoes, rate};
use super::live::{App, Client, DEADLINE, Manner, ask, free_ports, get};

/// What a client may send once it has a stream: a request to another tenant, from somebody else.
const THROUGH: &str =
    "GET /through HTTP/1.1\r\nHost: other-tenant.example\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
/// The fields of a websocket's handshake but for `Upgrade` and `Connection` (RFC 6455, 1.3).
const KEY: &str = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// One app of `shop.example.org`, with three requests a minute.
async fn shop<P>(manner: Manner, start: impl AsyncFn(&RoutingTable) -> P) -> (u16, App, P) {
    let [port] = free_ports();
    let app = App::start("shop", manner).await;
    let few = |b: &mut Backend| b.limits.rate = Some(rate(3, Duration::from_secs(60)));
    let table = Routes::new().backend_with("shop.web", Http, &[app.address], few);
    let balancer = start(&table.route(port, "shop.example.org/", "shop.web").0).await;
    (port, app, balancer)
}

/// The same without bounds, for any host.
async fn open<P>(manner: Manner, start: impl AsyncFn(&RoutingTable) -> P) -> (u16, App, P) {
    let [port] = free_ports();
    let app = App::start("shop", manner).await;
    let table = Routes::new().backend("shop.web", Http, &[app.address]);
    let balancer = start(&table.route(port, "/", "shop.web").0).await;
    (port, app, balancer)
}

/// Through a tunnel eight requests named another tenant and another client, with no rate.
pub async fn connect_opens_no_tunnel<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let (port, app, _balancer) = shop(Manner::TakeUp, start).await;
    for request in [
        "CONNECT shop.example.org:443 HTTP/1.1\r\nHost: shop.example.org:443\r\n\r\n",
        "CONNECT shop.example.org:443 HTTP/1.1\r\nHost: shop.example.org\r\n\r\n",
        "CONNECT shop.example.org HTTP/1.1\r\nHost: shop.example.org\r\n\r\n",
        "CONNECT / HTTP/1.1\r\nHost: shop.example.org\r\n\r\n",
        "CONNECT http://shop.example.org/ HTTP/1.1\r\nHost: shop.example.org\r\n\r\n",
        "CONNECT shop.example.org:443 HTTP/1.0\r\nHost: shop.example.org\r\n\r\n",
    ] {
        let mut client = Client::connect(port).await;
        let answer = client.ask(request).await.expect("an answer");
        assert!([400, 405, 501].contains(&answer.status()), "{request:?}: {answer:?}");
        // Closed, or with no route for any of it.
        let _ = client.0.write_all(THROUGH.repeat(8).as_bytes()).await;
        let _ = client.0.get_mut().shutdown().await;
        rest(&mut client).await;
        assert_eq!(app.seen(), [], "{request:?}");
    }
}

/// HTTP/2 in the clear is offered by Java's clients by default; TLS inside HTTP by RFC 2817.
pub async fn an_upgrade_to_further_requests_is_not_passed_on<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let (port, app, _balancer) = open(Manner::TakeUp, start).await;
    for (asked, upgrade) in [
        (
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
        ),
        ("Connection: upgrade", "Upgrade: h2c"),
        ("connection: keep-alive, UPGRADE", "UPGRADE: H2C"),
        ("Connection: Upgrade", "Upgrade: h2"),
        ("Connection: Upgrade", "Upgrade: h2c-14"),
        ("Connection: Upgrade", "Upgrade: HTTP/2.0"),
        ("Connection: Upgrade", "Upgrade: TLS/1.0"),
        ("Connection: Upgrade", "Upgrade: tls/1.2, http/1.1"),
        ("Connection: Upgrade", "Upgrade: websocket, h2c"),
        ("Connection: Upgrade", "Upgrade:  h2c , websocket"),
        ("Connection: Upgrade", "Upgrade: websocket\r\nUpgrade: h2c"),
        ("Connection: close\r\nConnection: Upgrade", "Upgrade: TLS/1.0\r\nUpgrade: websocket"),
    ] {
        let before = app.seen().len();
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{asked}\r\n{upgrade}\r\n{KEY}\r\n");
        let answer = ask(port, request).await;
        let seen = &app.seen()[before];
        if upgrade.contains("websocket") && answer.status() == 101 {
            // Handed on alone: of fields that stand twice NGINX before 1.23 knows the first, and HAProxy 3.4 drops
            // the other word before anyone sees it.
            assert_eq!(seen.header("upgrade"), Some("websocket"), "{upgrade:?}");
            continue;
        }
        assert_eq!((answer.status(), answer.app()), (200, Some("shop")), "{upgrade:?}");
        for field in ["upgrade", "http2-settings"] {
            assert!(!seen.headers.contains_key(field), "{upgrade:?}: {seen:?}");
        }
        let connection = seen.header("connection").unwrap_or_default().to_ascii_lowercase();
        assert!(
            ["", "close", "keep-alive"].contains(&connection.as_str()),
            "{upgrade:?}: {seen:?}"
        );
    }
}

/// Such as Tailscale's, `docker attach`, `kubectl exec`.
pub async fn any_other_protocol_is_a_stream_after_its_handshake<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let (port, app, _balancer) = open(Manner::TakeUp, start).await;
    for (method, protocol) in [
        ("GET", "websocket"),
        ("GET", "WebSocket"),
        ("POST", "tailscale-control-protocol"),
        ("POST", "tcp"),
        ("POST", "SPDY/3.1"),
    ] {
        let mut client = Client::connect(port).await;
        let answer = client
            .ask(format!(
                "{method} /ts2021 HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n\
                 Upgrade: {protocol}\r\nContent-Length: 0\r\n{KEY}\r\n"
            ))
            .await
            .expect("an answer");
        assert_eq!((answer.status(), answer.header("upgrade")), (101, Some(protocol)));
        let seen = app.seen().pop().unwrap();
        assert_eq!(seen.header("upgrade"), Some(protocol));
        let connection = seen.header("connection").unwrap_or_default().to_ascii_lowercase();
        assert_eq!(connection, "upgrade", "{protocol}");
        echoes(&mut client.0.into_inner(), 20_000).await;
    }
}

pub async fn an_upgrade_is_asked_for_by_both_fields<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let (port, app, _balancer) = open(Manner::TakeUp, start).await;
    for fields in ["Upgrade: tcp", "Upgrade: tcp\r\nConnection: x-upgrade", "Connection: Upgrade"] {
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n");
        assert_eq!(ask(port, request).await.status(), 200, "{fields:?}");
        assert_eq!(app.seen().pop().unwrap().header("upgrade"), None, "{fields:?}");
    }
}

/// An app that answers 101 unasked gets no stream.
pub async fn a_stream_nobody_asked_for_is_none<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    for manner in [Manner::Upgrade, Manner::Usurp] {
        gets_no_stream(manner, request, &start).await;
    }
}

/// Nor does one that changes to another protocol than it was asked for, where that carries requests.
pub async fn a_stream_of_further_requests_is_none<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{KEY}\r\n"
    );
    gets_no_stream(Manner::Usurp, &request, &start).await;
}

async fn gets_no_stream<P>(manner: Manner, request: &str, start: impl AsyncFn(&RoutingTable) -> P) {
    let (port, app, _balancer) = open(manner, start).await;
    let mut client = Client::connect(port).await;
    let status = client.ask(request).await.map(|answer| answer.status());
    assert!([None, Some(101), Some(502)].contains(&status), "{manner:?}: {status:?}");
    let _ = client.0.write_all(b"through\r\n\r\n").await;
    let answered = rest(&mut client).await;
    assert!(!answered.contains("through"), "{manner:?}: {answered}");
    assert_eq!(app.seen().len(), 1, "{manner:?}");
    // And the app is asked as before.
    let again = get(port, "h", "/").await.status();
    assert!([101, 502].contains(&again), "{manner:?}: {again}");
}

/// What comes until the balancer closes.
async fn rest(client: &mut Client) -> String {
    let mut bytes = Vec::new();
    // Its error is an end, too.
    let read = timeout(DEADLINE, client.0.read_to_end(&mut bytes)).await;
    assert!(read.is_ok(), "left open after {:?}", String::from_utf8_lossy(&bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Gives the cases that hold for every balancer to a macro that makes a test of each: `tunnels_cases!(cases);` beside
/// the `cases!` of a crate's tests. Beside them, where a balancer can refuse an app's 101:
/// `cases! { tunnels: a_stream_of_further_requests_is_none }`.
#[macro_export]
macro_rules! tunnels_cases {
    ($make:ident) => {
        $make! { tunnels:
            connect_opens_no_tunnel
            an_upgrade_to_further_requests_is_not_passed_on
            any_other_protocol_is_a_stream_after_its_handshake
            an_upgrade_is_asked_for_by_both_fields
            a_stream_nobody_asked_for_is_none
        }
    };
}
