//! TLS that a real HAProxy ends: what clients and apps speak over it.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod balancer_support;

use std::time::Duration;

use balancer_support::Bench;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lb_core::{Backend, CookieName, Listener, Sticky};
use lb_test_support::live::get;
use lb_test_support::{Apps, Instance, free_port, tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(10);

async fn body_of(answer: hyper::Response<hyper::body::Incoming>) -> Bytes {
    assert_eq!(answer.status(), 200);
    answer.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn clients_speak_http2_or_http1_as_they_offer() {
    let (bench, port) = (Bench::new(), free_port());
    let a = Instance::http("a").await;
    let table = Apps::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&table.certified(port, "shop", tls::SHOP).0).await;
    let request = |uri: &str| {
        let host = ("host", "shop.example.org");
        hyper::Request::get(uri).header(host.0, host.1).body(Empty::<Bytes>::new()).unwrap()
    };
    let serves = async {
        let stream = tls::connect(port, "shop.example.org", tls::SHOP, &["h2", "http/1.1"]).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let made = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = made.unwrap();
        tokio::spawn(connection);
        let answer = sender.send_request(request("https://shop.example.org/")).await.unwrap();
        assert_eq!((answer.version(), body_of(answer).await), (hyper::Version::HTTP_2, "a".into()));

        for offered in [&["http/1.1"][..], &[]] {
            let stream = tls::connect(port, "shop.example.org", tls::SHOP, offered).await;
            let chosen = stream.get_ref().1.alpn_protocol();
            assert_eq!(chosen, offered.first().map(|p| p.as_bytes()));
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let answer = sender.send_request(request("/")).await.unwrap();
            assert_eq!(body_of(answer).await, "a");
        }
    };
    timeout(DEADLINE, serves).await.unwrap();
    assert_eq!(a.requests(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_sticky_cookie_is_secure_where_it_is_set_over_tls() {
    let (bench, port, clear) = (Bench::new(), free_port(), free_port());
    let a = Instance::http("a").await;
    let sticky = |b: &mut Backend| {
        b.sticky = Some(Sticky { cookie: CookieName::new("SRV").unwrap() });
    };
    let table = Apps::new().http(port, "/", "shop").with("shop", sticky);
    let table = table.server("shop", "a", 1, a.address).certified(port, "shop", tls::SHOP);
    let mut table = table.0;
    bench.apply(&table).await;
    let set = cookie_over_tls(port).await;
    assert!(set.starts_with("SRV.shop.web=") && set.contains("; Secure"), "{set}");
    // Reached in the clear as well, it must serve there.
    let Listener::Http { routes, .. } = &table.listeners[&port] else { panic!("HTTP") };
    let listener = Listener::Http { routes: routes.clone(), certificates: [].into() };
    table.listeners.insert(clear, listener);
    bench.apply(&table).await;
    assert_eq!(set.replace("; Secure", ""), cookie_over_tls(port).await);
    let in_clear = get(clear, "h", "/").await;
    assert_eq!(in_clear.header("set-cookie"), Some(cookie_over_tls(port).await.as_str()));
}

/// The cookie a client without one is given.
async fn cookie_over_tls(port: u16) -> String {
    let asked = async {
        let stream = tls::connect(port, "shop.example.org", tls::SHOP, &["http/1.1"]).await;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = hyper::Request::get("/").header("host", "h").body(Empty::<Bytes>::new());
        let answer = sender.send_request(request.unwrap()).await.unwrap();
        answer.headers()["set-cookie"].to_str().unwrap().to_owned()
    };
    timeout(DEADLINE, asked).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_byte_stream_in_tls_reaches_the_app_in_the_clear() {
    let (bench, port) = (Bench::new(), free_port());
    let echo = Instance::echo("e").await;
    let table = Apps::new().tcp(port, "mail").server("mail", "e", 1, echo.address);
    bench.apply(&table.certified(port, "mail", tls::SHOP).0).await;
    let echoes = async {
        let mut stream = tls::connect(port, "shop.example.org", tls::SHOP, &[]).await;
        stream.write_all(b"in and out").await.unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"in and out");
    };
    timeout(DEADLINE, echoes).await.unwrap();
}
