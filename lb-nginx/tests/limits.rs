//! What NGINX does with rendered bounds: body size, rate, retries, stickiness, streams.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::io::Write as _;
use std::process::{Command, Stdio};

use common::{cases, serving};
use lb_core::{Backend, ByteSize, Protocol::Http};
use lb_test_support::Routes;
use lb_test_support::live::{App, Manner::Echo, free_ports};

lb_test_support::limits_cases!(cases);

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
    let [port] = free_ports();
    let app = App::start("shop", Echo).await;
    let limited = |b: &mut Backend| b.limits.body = Some(ByteSize::new(1000));
    let table = Routes::new().backend_with("shop.web", Http, &[app.address], limited);
    let table = table.route(port, "/", "shop.web").tls(port, "shop.web");
    let _nginx = serving(&table.0).await;
    assert_eq!(h2_post(port, 1), "2 200");
    assert_eq!(h2_post(port, 1000), "2 200");
    assert_eq!(h2_post(port, 1001), "2 413");
    assert_eq!(h2_post(port, 300_000), "2 413");
    assert_eq!(app.seen().len(), 2);
}
