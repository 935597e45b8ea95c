//! What HAProxy does with rendered bounds: body size, rate, retries, stickiness, streams.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use common::{Proxy, cases};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lb_core::{
    Backend, Balance, ByteSize, CookieName,
    Protocol::{Http, Tcp},
    Sticky,
};
use lb_test_support::Routes;
use lb_test_support::limits::{announced, chunked, one, rate};
use lb_test_support::live::{App, Client, DEADLINE, Manner::Echo, ask, free_ports, get, local};
use tokio::net::TcpStream;

lb_test_support::limits_cases!(cases);
cases! { limits: apps_of_one_site_keep_their_own_cookies }

#[tokio::test]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn clients_without_a_cookie_take_turns() {
    let [port] = free_ports();
    let apps = [App::start("a", Echo).await, App::start("b", Echo).await];
    let sticky = |b: &mut Backend| {
        b.balance = Balance::RoundRobin;
        b.sticky = Some(Sticky { cookie: CookieName::new("LB").unwrap() });
    };
    let servers = [apps[0].address, apps[1].address];
    let table = Routes::new().backend_with("shop.web", Http, &servers, sticky);
    let _proxy = Proxy::start(&table.route(port, "/", "shop.web").0).await;
    let answers = [get(port, "h", "/").await, get(port, "h", "/").await];
    assert_ne!(answers[0].app(), answers[1].app());
}

#[tokio::test]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_streamed_body_has_room_beside_the_longest_headers() {
    let limit = |b: &mut Backend| b.limits.body = Some(ByteSize::new(100_000));
    let (port, app, _proxy) = one(Proxy::start, limit).await;
    assert_eq!(ask(port, chunked(4000, 15_500)).await.status(), 200);
    assert_eq!(ask(port, chunked(500, 17_000)).await.status(), 431);
    assert_eq!(ask(port, chunked(50_000, 15_500)).await.status(), 411);
    assert_eq!(app.seen().len(), 1);
}

/// Over HTTP/2 the connection died of them.
#[tokio::test]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn http2_headers_are_bounded_alike() {
    let (port, app, _proxy) = one(Proxy::start, |_| {}).await;
    for (fields, length, status) in
        [(14, 1000, 200), (15, 1000, 200), (700, 10, 200), (18, 1000, 431), (20, 1000, 431)]
    {
        let mut request = hyper::Request::get("http://h/x");
        for n in 0..fields {
            request = request.header(format!("x-{n:03}"), "v".repeat(length - 9));
        }
        let request = request.body(http_body_util::Empty::<Bytes>::new().boxed()).unwrap();
        assert_eq!(h2_ask(port, request).await, status, "{fields} of {length} bytes");
    }
    assert_eq!(app.seen().len(), 3);
}

#[tokio::test]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_long_body_must_announce_its_length_where_a_limit_is_set() {
    let (port, app, _proxy) =
        one(Proxy::start, |b| b.limits.body = Some(ByteSize::new(100_000))).await;
    for (request, status) in [
        (announced(100_000, &vec![b'x'; 100_000]), 200),
        (announced(100_001, b""), 413),
        (chunked(4000, 0), 200),
        (chunked(4000, 8000), 200),
        (chunked(5000, 0), 411),
        (chunked(200_000, 0), 411),
    ] {
        assert_eq!(ask(port, &request).await.status(), status, "{} bytes", request.len());
    }
    assert_eq!(app.seen().len(), 3);
}

/// The status of an answer over HTTP/2 in clear.
async fn h2_ask(port: u16, request: hyper::Request<BoxBody<Bytes, Infallible>>) -> u16 {
    let stream = TokioIo::new(TcpStream::connect(local(port)).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let answer = tokio::time::timeout(DEADLINE, sender.send_request(request)).await;
    answer.expect("an answer in time").unwrap().status().as_u16()
}

/// A POST of a body without announced length.
async fn h2_post(port: u16, length: usize) -> u16 {
    let frames = vec![b'x'; length]
        .chunks(100)
        .map(|chunk| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(chunk))))
        .collect::<Vec<_>>();
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
    h2_ask(port, hyper::Request::post("http://h/x").body(body).unwrap()).await
}

#[tokio::test]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn http2_clients_are_served_and_bounded_too() {
    let (port, app, _proxy) =
        one(Proxy::start, |b| b.limits.body = Some(ByteSize::new(1000))).await;
    assert_eq!(h2_post(port, 0).await, 200);
    assert_eq!(h2_post(port, 1000).await, 200);
    assert_eq!(h2_post(port, 1001).await, 413);
    assert_eq!(h2_post(port, 30_000).await, 413);
    assert_eq!(app.seen().len(), 2);
}

#[tokio::test]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_tcp_client_over_its_rate_is_closed() {
    let [port] = free_ports();
    let app = App::start("shop", Echo).await;
    let limit = |b: &mut Backend| b.limits.rate = Some(rate(4, Duration::from_secs(60)));
    let table = Routes::new().backend_with("db.sql", Tcp, &[app.address], limit);
    let _proxy = Proxy::start(&table.tcp(port, "db.sql").0).await;
    let (mut served, mut closed) = (0, 0);
    for _ in 0..10 {
        let mut client = Client::connect_from(Ipv4Addr::new(127, 0, 0, 7), port).await;
        match client.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await {
            Some(_) => served += 1,
            None => closed += 1,
        }
    }
    assert_eq!((served, closed), (4, 6));
}
