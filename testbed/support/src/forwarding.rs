//! What a request and its answer are on the other side of a balancer: fields, targets, and who is still there. The same
//! for every balancer; each case is given a way to have one that serves a table.

use std::time::Duration;

use lb_core::Protocol::Http;
use lb_core::RoutingTable;
use lb_core::balancer::CLAIMED_FIELDS;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::Routes;
use super::live::{
    App, Client, DEADLINE, Manner, Message, ask, free_ports, get, local, read_message,
};

/// One app of `shop.example.org` and another of all other names.
async fn two<P>(start: impl AsyncFn(&RoutingTable) -> P) -> (u16, App, App, P) {
    let [port] = free_ports();
    let shop = App::start("shop", Manner::Echo).await;
    let other = App::start("other", Manner::Echo).await;
    let table = Routes::new()
        .backend("shop.web", Http, &[shop.address])
        .backend("other.web", Http, &[other.address])
        .route(port, "shop.example.org/", "shop.web")
        .route(port, "/", "other.web");
    let balancer = start(&table.0).await;
    (port, shop, other, balancer)
}

/// One app behind `/`.
async fn one<P>(manner: Manner, start: impl AsyncFn(&RoutingTable) -> P) -> (u16, App, P) {
    let [port] = free_ports();
    let app = App::start("shop", manner).await;
    let table = Routes::new().backend("shop.web", Http, &[app.address]);
    let balancer = start(&table.route(port, "/", "shop.web").0).await;
    (port, app, balancer)
}

/// What the balancer says of who asks, and that the client's own name for it is gone.
fn tells_the_truth(seen: &Message) {
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"), "{seen:?}");
    assert_eq!(seen.header("x-real-ip"), Some("127.0.0.1"), "{seen:?}");
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"), "{seen:?}");
    let lie = |value: &String| value.contains("6.6.6.6");
    assert!(!seen.headers.values().flatten().any(lie), "{seen:?}");
}

/// Each name as it is, in capitals, with `_`, with both, and twice.
pub async fn what_a_client_claims_to_be_is_dropped<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let (port, app, _balancer) = one(Manner::Echo, start).await;
    for name in CLAIMED_FIELDS {
        let (capitals, cgi) = (name.to_uppercase(), name.replace('-', "_"));
        let mixed = name.replacen('-', "_", 1);
        let request = format!(
            "GET / HTTP/1.1\r\nHost: h\r\n{name}: 6.6.6.6\r\n{capitals}: 6.6.6.6\r\n{name}: 6.6.6.6\r\n\
             {cgi}: 6.6.6.6\r\n{mixed}: 6.6.6.6\r\nX-Request-Id: 7\r\n\r\n"
        );
        assert_eq!(ask(port, request).await.status(), 200, "{name}");
        let seen = app.seen().pop().unwrap();
        tells_the_truth(&seen);
        assert_eq!(seen.header("x-request-id"), Some("7"), "{name}");
    }
}

/// Also by names nobody has thought of, where a balancer can go by prefix.
pub async fn whatever_begins_with_x_forwarded_is_dropped<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let (port, app, _balancer) = one(Manner::Echo, start).await;
    for name in ["X-Forwarded-Nobody-Thought-Of", "x-forwarded-2", "X-ForwardedFor", "X-Forwarded-"]
    {
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{name}: 6.6.6.6\r\n\r\n");
        assert_eq!(ask(port, request).await.status(), 200, "{name}");
        tells_the_truth(&app.seen().pop().unwrap());
    }
}

pub async fn any_other_field_passes<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let (port, app, _balancer) = one(Manner::Echo, start).await;
    let fields = [
        ("authorization", "Bearer x"),
        ("cookie", "a=1; b=2"),
        ("origin", "https://shop.example.org"),
        ("referer", "https://shop.example.org/"),
        ("via", "1.1 other"),
        ("x-client-version", "7"),
        ("x-csrf-token", "t"),
        ("x-original-file-name", "a.png"),
        ("x-real-estate", "house"),
        ("x-requested-with", "XMLHttpRequest"),
    ];
    let lines = fields.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
    let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
    assert_eq!(ask(port, request).await.status(), 200);
    let seen = app.seen().pop().unwrap();
    for (name, value) in fields {
        assert_eq!(seen.header(name), Some(value));
    }
}

/// An app that is a proxy itself would drop what `Connection` names.
pub async fn what_is_between_client_and_balancer_ends_there<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let (port, app, _balancer) = one(Manner::Echo, start).await;
    for listed in [
        "Connection: close, X-Forwarded-For, X-Forwarded-Proto, Host, Cookie, Authorization",
        "Connection: X-Forwarded-For\r\nconnection: X-Real-IP,Host\r\nCONNECTION: Content-Length, close",
        "Connection: x-forwarded-for ,, keep-alive,x-real-ip",
        "Connection: TE, close, Keep-Alive, Transfer-Encoding, Proxy-Connection",
        "Connection: HTTP2-Settings",
    ] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: shop.example.org\r\n{listed}\r\nKeep-Alive: timeout=5, max=100\r\n\
             TE: trailers, deflate;q=0.5\r\nProxy-Connection: keep-alive\r\n\
             Proxy-Authorization: Basic eDp5\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\
             Content-Length: 5\r\n\r\nhello"
        );
        let answer = ask(port, request).await;
        assert_eq!((answer.status(), answer.body.as_slice()), (200, &b"hello"[..]), "{listed:?}");
        let seen = app.seen().pop().unwrap();
        tells_the_truth(&seen);
        assert_eq!(seen.header("host"), Some("shop.example.org"), "{listed:?}");
        let connection = seen.header("connection").unwrap_or_default().to_ascii_lowercase();
        assert!(["", "close", "keep-alive"].contains(&connection.as_str()), "{listed:?}: {seen:?}");
        for name in ["keep-alive", "proxy-connection", "proxy-authorization", "http2-settings"] {
            assert!(!seen.headers.contains_key(name), "{listed:?}: {seen:?}");
        }
        let te = seen.header("te").unwrap_or("trailers");
        assert_eq!(te, "trailers", "{listed:?}");
    }
}

/// Apache offers `Upgrade: h2,h2c` with its answers, Node.js says how long it keeps a connection.
pub async fn what_is_between_app_and_balancer_ends_there<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let (port, _app, _balancer) = one(Manner::Hops, start).await;
    let answer = get(port, "h", "/").await;
    assert_eq!((answer.status(), answer.app()), (200, Some("shop")));
    for name in ["upgrade", "keep-alive", "proxy-connection"] {
        assert!(!answer.headers.contains_key(name), "{answer:?}");
    }
    let connection = answer.header("connection").unwrap_or_default().to_ascii_lowercase();
    assert!(["", "close", "keep-alive"].contains(&connection.as_str()), "{answer:?}");
}

/// A client may get them or not; the answer and those after it are what they are.
pub async fn what_an_app_says_before_its_answer_is_not_taken_for_it<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let (port, app, _balancer) = one(Manner::Hint, start).await;
    let mut client = Client::connect(port).await;
    for n in 1..=3 {
        let mut answer = client.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("an answer");
        if answer.status() == 103 {
            answer = timeout(DEADLINE, read_message(&mut client.0)).await.unwrap().unwrap();
        }
        assert_eq!((answer.status(), answer.app(), app.seen().len()), (200, Some("shop"), n));
    }
}

/// Express, WSGI and PHP's front controllers route by the target as it came.
pub async fn an_absolute_target_reaches_the_app_as_a_path<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let (port, app, _other, _balancer) = two(start).await;
    for (target, seen) in [
        ("http://shop.example.org/api/x?y=1", "/api/x?y=1"),
        ("http://shop.example.org", "/"),
        ("http://shop.example.org/", "/"),
        ("http://shop.example.org/?q=http://a/b", "/?q=http://a/b"),
        ("http://shop.example.org//x", "//x"),
        ("HTTP://shop.example.org/x", "/x"),
        ("hTtP://SHOP.example.org/X", "/X"),
        ("http://shop.example.org/x@y:z", "/x@y:z"),
        ("https://shop.example.org/x", "/x"),
    ] {
        let before = app.seen().len();
        let request = format!("GET {target} HTTP/1.1\r\nHost: shop.example.org\r\n\r\n");
        assert_eq!(ask(port, request).await.app(), Some("shop"), "{target}");
        let got = app.seen();
        assert_eq!(got.len(), before + 1, "{target}");
        assert_eq!(got[before].start, format!("GET {seen} HTTP/1.1"), "{target}");
        let host = got[before].header("host").map(str::to_ascii_lowercase);
        assert_eq!(host.as_deref(), Some("shop.example.org"), "{target}");
    }
    let with_port =
        "GET http://shop.example.org:8080/x HTTP/1.1\r\nHost: shop.example.org:8080\r\n\r\n";
    assert_eq!(ask(port, with_port).await.app(), Some("shop"));
    assert_eq!(app.seen().pop().unwrap().start, "GET /x HTTP/1.1");
    for method in ["POST", "OPTIONS", "DELETE"] {
        let request = format!(
            "{method} http://shop.example.org HTTP/1.1\r\nHost: shop.example.org\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(ask(port, request).await.app(), Some("shop"), "{method}");
        assert_eq!(app.seen().pop().unwrap().start, format!("{method} / HTTP/1.1"));
    }
    // A query without a path (RFC 3986, 3) is understood or refused.
    let bare =
        ask(port, "GET http://shop.example.org?q=1 HTTP/1.1\r\nHost: shop.example.org\r\n\r\n")
            .await;
    match bare.status() {
        200 => assert_eq!(app.seen().pop().unwrap().start, "GET /?q=1 HTTP/1.1"),
        status => assert_eq!(status, 400),
    }
}

/// An absolute target names the host (RFC 9112, 3.2.2); a field that names another is refused or overruled.
pub async fn a_host_is_the_targets_before_it_is_the_fields<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let (port, shop, other, _balancer) = two(start).await;
    for (target, host, others) in [
        ("http://shop.example.org/x", "other.example.org", false),
        ("http://other.example.org/x", "shop.example.org", true),
        ("http://shop.example.org/x", "shop.example.org.evil.example", false),
    ] {
        let (app, stranger) = if others { (&other, &shop) } else { (&shop, &other) };
        let strangers = stranger.seen().len();
        let answer = ask(port, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(stranger.seen().len(), strangers, "{target} with {host}");
        if answer.status() != 400 {
            let seen = app.seen().pop().unwrap();
            assert!(
                target.contains(seen.header("host").unwrap()),
                "{target} with {host}: {seen:?}"
            );
        }
    }
    let alone =
        ask(port, "GET http://shop.example.org/x HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    if alone.status() != 400 {
        assert_eq!(alone.app(), Some("shop"));
        assert_eq!(shop.seen().pop().unwrap().header("host"), Some("shop.example.org"));
    }
}

pub async fn a_target_that_is_no_path_is_refused<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let (port, shop, other, _balancer) = two(start).await;
    for line in [
        "OPTIONS *",
        "GET *",
        "GET x",
        "GET ?x=1",
        "GET shop.example.org:80",
        "GET http://user:password@shop.example.org/x",
        "GET http://shop.example.org@evil.example/x",
        "GET http:///x",
        "GET http:/x",
        "GET ",
    ] {
        let request =
            format!("{line} HTTP/1.1\r\nHost: shop.example.org\r\nConnection: close\r\n\r\n");
        let status = ask(port, request).await.status();
        assert!([400, 404].contains(&status), "{line}: {status}");
        assert_eq!((shop.seen().len(), other.seen().len()), (0, 0), "{line}");
    }
}

/// Long polls and reports would go on for nobody, and count as in flight.
pub async fn an_app_is_told_that_its_client_has_gone<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let [port] = free_ports();
    let listener = TcpListener::bind(local(0)).await.unwrap();
    let table = Routes::new().backend("shop.web", Http, &[listener.local_addr().unwrap()]);
    let _balancer = start(&table.route(port, "/", "shop.web").0).await;
    for request in [
        "GET /hang HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /hang HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
        "POST /hang HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let mut client = Client::connect(port).await;
        client.0.write_all(request.as_bytes()).await.unwrap();
        let mut asked = timeout(DEADLINE, request_of(&listener)).await.expect("asked in time");
        drop(client);
        let told = timeout(DEADLINE, asked.read(&mut [0])).await;
        // A close or a reset.
        assert!(matches!(told, Ok(Ok(0) | Err(_))), "{request:?}: {told:?}");
    }
}

/// As long as the bound allows they pass, to the app and back; much longer ones do not.
pub async fn header_fields_are_bounded<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let (port, app, _balancer) = one(Manner::Bake, start).await;
    for (fields, length) in [(14, 1000), (15, 1000), (150, 20), (700, 20), (1, 15_500)] {
        let before = app.seen().len();
        assert_eq!(
            ask(port, with_fields(fields, length)).await.status(),
            200,
            "{fields} of {length}"
        );
        let seen = &app.seen()[before];
        let theirs = seen.headers.keys().filter(|name| name.starts_with("x-long-")).count();
        assert_eq!(theirs, fields, "{fields} of {length}");
    }
    let before = app.seen().len();
    for (fields, length) in [(64, 1000), (2, 40_000), (1, 100_000), (3000, 20)] {
        let status = ask(port, with_fields(fields, length)).await.status();
        assert!([400, 431].contains(&status), "{fields} of {length}: {status}");
    }
    assert_eq!(app.seen().len(), before);
    for cookies in [14, 15] {
        let answer = get(port, "h", &format!("/{cookies}")).await;
        assert_eq!((answer.status(), answer.headers["set-cookie"].len()), (200, cookies));
    }
    assert_eq!(get(port, "h", "/100").await.status(), 502);
}

/// A request with so many fields of so many bytes each.
fn with_fields(fields: usize, length: usize) -> String {
    let name = "X-Long-0000: \r\n".len();
    let field =
        |n: usize| format!("X-Long-{n:04}: {}\r\n", "v".repeat(length.saturating_sub(name)));
    let fields = (0..fields).map(field).collect::<Vec<_>>().concat();
    format!("GET /0 HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

/// Login walls, quotas and body limits of frameworks answer and close before they have it all.
pub async fn an_early_answer_reaches_its_client<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let [port] = free_ports();
    let listener = TcpListener::bind(local(0)).await.unwrap();
    let table = Routes::new().backend("shop.web", Http, &[listener.local_addr().unwrap()]);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // Part of the head at least; a check says nothing.
                if matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {
                    let refusal = "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge";
                    let _ = stream.write_all(refusal.as_bytes()).await;
                }
            });
        }
    });
    let _balancer = start(&table.route(port, "/", "shop.web").0).await;
    for length in [200_000, 5_000_000] {
        for n in 0..20 {
            let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
            let answer = ask(port, [head.into_bytes(), vec![b'x'; length]].concat()).await;
            assert_eq!(
                (answer.status(), answer.body.as_slice()),
                (413, &b"large"[..]),
                "{length}: {n}"
            );
        }
    }
}

/// The connection that brings a request: checks bring none.
async fn request_of(listener: &TcpListener) -> BufReader<TcpStream> {
    loop {
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        let request = timeout(Duration::from_secs(1), read_message(&mut stream)).await;
        if matches!(request, Ok(Some(_))) {
            return stream;
        }
    }
}

/// Gives the cases that hold for every balancer to a macro that makes a test of each: `forwarding_cases!(cases);` beside
/// the `cases!` of a crate's tests. Beside them, where a balancer can go by part of a name, and where it reads on for
/// an answer: `cases! { forwarding: whatever_begins_with_x_forwarded_is_dropped an_early_answer_reaches_its_client }`.
#[macro_export]
macro_rules! forwarding_cases {
    ($make:ident) => {
        $make! { forwarding:
            what_a_client_claims_to_be_is_dropped
            any_other_field_passes
            what_is_between_client_and_balancer_ends_there
            what_is_between_app_and_balancer_ends_there
            what_an_app_says_before_its_answer_is_not_taken_for_it
            an_absolute_target_reaches_the_app_as_a_path
            a_host_is_the_targets_before_it_is_the_fields
            a_target_that_is_no_path_is_refused
            an_app_is_told_that_its_client_has_gone
            header_fields_are_bounded
        }
    };
}
