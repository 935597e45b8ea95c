//! Every path of the app, asked over loopback.
#![allow(clippy::unwrap_used)] // helpers of tests

use std::time::{Duration, Instant, SystemTime};

use demo_app::{App, Config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

struct Started {
    http: std::net::SocketAddr,
    tcp: std::net::SocketAddr,
}

async fn start(config: Config) -> Started {
    let app = App::bind(Config {
        bind: [127, 0, 0, 1].into(),
        http_port: Some(0),
        tcp_port: Some(0),
        version: "7".into(),
        instance: "one".into(),
        ..config
    });
    let app = app.await.unwrap();
    let started = Started { http: app.http_address().unwrap(), tcp: app.tcp_address().unwrap() };
    tokio::spawn(app.serve_until(std::future::pending()));
    started
}

impl Started {
    async fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// The whole answer: status line, headers and body.
    async fn ask(&self, line: &str, rest: &str) -> String {
        let request = format!("{line} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n{rest}");
        let mut answer = Vec::new();
        self.send(&request).await.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path}"), "\r\n").await
    }

    async fn status(&self, path: &str) -> u16 {
        self.get(path).await[9..12].parse().unwrap()
    }
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn every_answer_names_the_instance_the_version_and_when_it_began_to_listen() {
    let before = SystemTime::now();
    let app = start(Config::default()).await;
    for path in ["/", "/healthz", "/nothing", "/fail?status=500"] {
        let answer = app.get(path).await;
        assert!(answer.contains("\r\nx-instance: one\r\nx-version: 7\r\n"), "{answer}");
        let since = answer.split("x-listening-since-us: ").nth(1).unwrap();
        let since: u64 = since.split("\r\n").next().unwrap().parse().unwrap();
        let since = SystemTime::UNIX_EPOCH + Duration::from_micros(since + 1);
        assert!(before <= since && since <= SystemTime::now() + Duration::from_micros(1));
    }
    assert_eq!(body(&app.get("/").await), "instance one version 7\n");
}

#[tokio::test]
async fn each_path_answers_with_its_status() {
    let app = start(Config::default()).await;
    for (path, status) in [
        ("/healthz", 200),
        ("/slow?ms=1", 200),
        ("/fail?status=418", 418),
        ("/fail?status=101", 400),
        ("/fail", 400),
        ("/slow?ms=x", 400),
        ("/bytes?n=99999999999", 400),
        ("/hog?mib=1", 200),
        ("/hog?mib=4097", 400),
        ("/echo", 405),
        ("/ws", 400),
        ("/nothing", 404),
    ] {
        assert_eq!(app.status(path).await, status, "{path}");
    }
}

#[tokio::test]
async fn slow_and_burn_take_their_time() {
    let app = start(Config { work: Duration::from_millis(20), ..Config::default() }).await;
    for path in ["/slow?ms=20", "/burn?ms=20", "/"] {
        let asked = Instant::now();
        assert_eq!(app.status(path).await, 200);
        assert!(asked.elapsed() >= Duration::from_millis(20), "{path}");
    }
}

#[tokio::test]
async fn echo_and_bytes_are_whole() {
    let app = start(Config::default()).await;
    let sent = "0123456789".repeat(300_000);
    let rest = format!("Content-Length: {}\r\n\r\n{sent}", sent.len());
    let answer = app.ask("POST /echo", &rest).await;
    assert!(body(&answer) == sent, "the body came back changed");

    let answer = app.get("/bytes?n=100000").await;
    assert!(answer.contains("\r\ncontent-length: 100000\r\n"));
    assert_eq!(body(&answer).len(), 100_000);
}

#[tokio::test]
async fn headers_are_shown_as_they_arrived() {
    let app = start(Config::default()).await;
    let answer = app.ask("GET /headers?a=1", "X-Forwarded-For: 192.0.2.1\r\n\r\n").await;
    let expected = "GET /headers?a=1 HTTP/1.1\nhost: shop.test\nconnection: close\n\
                    x-forwarded-for: 192.0.2.1\n";
    assert_eq!(body(&answer), expected);
}

#[tokio::test]
async fn a_hanging_path_accepts_and_says_nothing() {
    let app = start(Config::default()).await;
    let mut stream = app.send("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let read = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
    assert!(read.is_err(), "got {read:?}");
}

#[tokio::test]
async fn nothing_is_served_before_it_is_ready() {
    let later = start(Config { ready_delay: Duration::from_hours(1), ..Config::default() }).await;
    for path in ["/healthz", "/", "/nothing"] {
        assert_eq!(later.status(path).await, 503, "{path}");
    }
    let soon = start(Config { ready_delay: Duration::from_millis(50), ..Config::default() }).await;
    while soon.status("/healthz").await != 200 {}
    assert_eq!(soon.status("/").await, 200);
}

#[tokio::test]
async fn a_websocket_sends_back_what_it_gets() {
    let app = start(Config::default()).await;
    let mut stream = app
        .send(
            "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    assert!(head.contains("x-instance: one\r\n"), "{head}");
    assert_echo(&mut stream).await;
}

#[tokio::test]
async fn tcp_bytes_come_back_after_the_hello() {
    let plain = start(Config::default()).await;
    assert_echo(&mut TcpStream::connect(plain.tcp).await.unwrap()).await;

    let polite = start(Config { tcp_hello: true, ..Config::default() }).await;
    let mut stream = TcpStream::connect(polite.tcp).await.unwrap();
    let mut hello = [0; 6];
    stream.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"one 7\n");
    assert_echo(&mut stream).await;
}

async fn assert_echo(stream: &mut TcpStream) {
    for sent in [*b"\x81\x85\0\xff\r\n", *b"second"] {
        stream.write_all(&sent).await.unwrap();
        let mut got = [0; 6];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(got, sent);
    }
}
