//! What NGINX does with rendered bounds: body size, rate, retries, stickiness, streams.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::io::Write as _;
use std::process::{Command, Stdio};

use common::{WAYS, cases, serving};
use lb_core::{Backend, ByteSize, Protocol::Http};
use lb_test_support::Routes;
use lb_test_support::live::{App, Manner::Echo, free_ports};

cases! { limits:
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

/// A POST over HTTP/2 and TLS by curl, of so many bytes: the version spoken and the status.
fn h2_post(port: u16, length: usize) -> String {
    let mut curl = Command::new("curl")
        .args(["-sk", "--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}"])
        .args([
            "-H",
            "Content-Length:",
            "--data-binary",
            "@-",
            &format!("https://127.0.0.1:{port}/x"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Refused, it need not read all.
    let _ = curl.stdin.take().unwrap().write_all(&vec![b'x'; length]);
    String::from_utf8(curl.wait_with_output().unwrap().stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn http2_clients_are_served_and_bounded_too() {
    for way in WAYS {
        let [port] = free_ports();
        let app = App::start("shop", Echo).await;
        let limited = |b: &mut Backend| b.limits.body = Some(ByteSize::new(1000));
        let table = Routes::new().backend_with("shop.web", Http, &[app.address], limited);
        let table = table.route(port, "/", "shop.web").tls(port, "shop.web");
        let _nginx = serving(&table.0, way).await;
        assert_eq!(h2_post(port, 1), "2 200");
        assert_eq!(h2_post(port, 1000), "2 200");
        assert_eq!(h2_post(port, 1001), "2 413");
        assert_eq!(h2_post(port, 300_000), "2 413");
        assert_eq!(app.seen().len(), 2);
    }
}
