//! What HAProxy does with requests between clients and apps: fields, targets, tunnels.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use bytes::Bytes;
use common::{Proxy, cases};
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lb_core::Protocol::Http;
use lb_test_support::Routes;
use lb_test_support::live::{App, DEADLINE, Manner, free_ports, local};
use tokio::net::TcpStream;
use tokio::time::timeout;

lb_test_support::tunnels_cases!(cases);
lb_test_support::forwarding_cases!(cases);
cases! { tunnels: a_stream_of_further_requests_is_none }
cases! { forwarding: whatever_begins_with_x_forwarded_is_dropped }

/// `CONNECT` over HTTP/2, also the extended one (RFC 8441), which HAProxy makes an upgrade of.
#[tokio::test]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn no_tunnel_opens_over_http2_either() {
    let [port] = free_ports();
    let app = App::start("shop", Manner::TakeUp).await;
    let table = Routes::new().backend("shop.web", Http, &[app.address]);
    let _proxy = Proxy::start(&table.route(port, "/", "shop.web").0).await;
    for protocol in [None, Some("h2c"), Some("H2C"), Some("h2"), Some("TLS/1.0")] {
        let stream = TokioIo::new(TcpStream::connect(local(port)).await.unwrap());
        let made = http2::handshake(TokioExecutor::new(), stream).await;
        let (mut sender, connection) = made.unwrap();
        tokio::spawn(connection);
        // Behind the first answer stands what the other side speaks.
        let get = hyper::Request::get("http://shop.example.org/").body(Empty::<Bytes>::new());
        assert_eq!(sender.send_request(get.unwrap()).await.unwrap().status(), 200);
        let before = app.seen().len();
        let target =
            if protocol.is_some() { "http://shop.example.org/x" } else { "shop.example.org:443" };
        let mut connect = hyper::Request::connect(target).body(Empty::new()).unwrap();
        if let Some(protocol) = protocol {
            connect.extensions_mut().insert(Protocol::from_static(protocol));
        }
        // Refused, or the stream is reset.
        let answer = timeout(DEADLINE, sender.send_request(connect)).await.expect("in time");
        let opened = answer.is_ok_and(|answer| answer.status().is_success());
        assert!(!opened, "{protocol:?}");
        assert_eq!(app.seen().len(), before, "{protocol:?}");
    }
}
