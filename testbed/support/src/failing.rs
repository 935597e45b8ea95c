//! What a request that fails costs others, and apps that close first: the same for every balancer. Each case is given a
//! way to have one that serves a table.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lb_core::{
    Balance,
    Protocol::{Http, Tcp},
    RoutingTable,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep_until, timeout};

use super::Routes;
use super::live::{Client, DEADLINE, free_ports, local, read_message};

/// The longest a balancer may keep an idle connection to an app: no app that keeps them at all gives up sooner.
const MOST_IDLE: Duration = Duration::from_millis(900);

/// An app that fails as the last part of the path says, and otherwise answers 200.
async fn spoilt() -> SocketAddr {
    let listener = TcpListener::bind(local(0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(fail(BufReader::new(stream)));
        }
    });
    address
}

async fn fail(mut stream: BufReader<TcpStream>) -> Option<()> {
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            stream.read_line(&mut head).await.ok().filter(|read| *read > 0)?;
        }
        let path = head.split(' ').nth(1)?;
        let answer = match path.rsplit('/').next()? {
            "huge" => format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(200_000)),
            "nothing" => String::new(),
            "nonsense" => "\0\r\n\r\n".to_owned(),
            "half" => "HTTP/1.1 200 OK\r\nContent-".to_owned(),
            "odd" => "HTTP/1.1 2x0 OK\r\n\r\n".to_owned(),
            // Without a look at the body.
            "early" => "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                .to_owned(),
            _ => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.ok()?;
                continue;
            }
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
        return None;
    }
}

const WAYS_TO_FAIL: [&str; 6] = ["huge", "nothing", "nonsense", "half", "odd", "early"];

/// Whatever it is that fails: an app that is asked for it by one client serves all others as before.
pub async fn a_request_that_fails_takes_the_app_from_nobody<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let [port] = free_ports();
    let (mut table, mut apps) = (Routes::new(), Vec::new());
    let ways =
        [Balance::LeastConnections, Balance::RoundRobin, Balance::RandomTwo, Balance::SourceHash];
    for instances in 1..=3 {
        for balance in &ways {
            let app = format!("app{}", apps.len());
            let mut servers = Vec::new();
            for _ in 0..instances {
                servers.push(spoilt().await);
            }
            let spread = |b: &mut lb_core::Backend| {
                b.balance = balance.clone();
                b.limits.connections_per_instance = NonZeroU32::new(50).filter(|_| instances == 2);
            };
            table = table.backend_with(&format!("{app}.web"), Http, &servers, spread).route(
                port,
                &format!("/{app}"),
                &format!("{app}.web"),
            );
            apps.push((app, instances, balance.clone()));
        }
    }
    let _balancer = start(&table.0).await;
    for (app, instances, balance) in apps {
        for way in WAYS_TO_FAIL {
            for _ in 0..8 {
                provoke(port, &format!("GET /{app}/{way} HTTP/1.1\r\nHost: h\r\n\r\n"), 0).await;
                let post = format!(
                    "POST /{app}/{way} HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n"
                );
                provoke(port, &post, 200_000).await;
            }
            for _ in 0..4 {
                let mut other = Client::connect(port).await;
                let request =
                    format!("GET /{app}/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
                let status = other.ask(request).await.map(|answer| answer.status());
                assert_eq!(status, Some(200), "{instances} of {balance:?}, after {way}");
            }
        }
    }
}

/// Sends it with a body of so many bytes, and waits for whatever becomes of it.
async fn provoke(port: u16, head: &str, body: usize) {
    let mut stream = TcpStream::connect(local(port)).await.unwrap();
    let request = [head.as_bytes(), &vec![b'x'; body]].concat();
    // Its answer may come before it was sent, and end the connection.
    let mut first = [0];
    let (mut from, mut to) = stream.split();
    let both = async { tokio::join!(to.write_all(&request), from.read(&mut first)) };
    let _ = timeout(DEADLINE, both).await.expect("an answer or an end in time");
}

/// An app closes what is idle, gunicorn after 2 s: a request that is on its way then is lost, and nobody may repeat it
/// unless it is idempotent. So the balancer closes first.
pub async fn an_idle_connection_ends_before_an_app_would_end_it<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let [port] = free_ports();
    let listener = TcpListener::bind(local(0)).await.unwrap();
    let table = Routes::new().backend("shop.web", Http, &[listener.local_addr().unwrap()]);
    let (idle, mut ended) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let idle = idle.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                while read_message(&mut stream).await.is_some() {
                    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    let since = Instant::now();
                    let end = timeout(DEADLINE, stream.fill_buf()).await;
                    if end.is_ok_and(|bytes| bytes.map_or(true, <[u8]>::is_empty)) {
                        idle.send(since.elapsed()).unwrap();
                    }
                }
            });
        }
    });
    let _balancer = start(&table.route(port, "/", "shop.web").0).await;
    let mut client = Client::connect(port).await;
    for method in ["GET", "POST", "POST"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.ask(request).await.unwrap().status(), 200);
    }
    // The client stays: its connection has a longer life.
    let idle = timeout(DEADLINE, ended.recv()).await.expect("closed in time").unwrap();
    assert!(idle < MOST_IDLE, "kept for {idle:?}");
    let request = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(client.ask(request).await.unwrap().status(), 200);
}

/// How many of `clients` x `posts` are not answered 200, each client's being `limit` apart on one connection, where the
/// app closes connections that are idle for `limit`.
pub async fn posts_lost<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
    clients: u32,
    posts: u32,
    limit: Duration,
) -> usize {
    let [port] = free_ports();
    let app = closes_after(limit).await;
    let table = Routes::new().backend("shop.web", Http, &[app]).route(port, "/", "shop.web").0;
    let _balancer = start(&table).await;
    let lost = Arc::<AtomicUsize>::default();
    let clients: Vec<_> = (0..clients)
        .map(|number| {
            let lost = lost.clone();
            tokio::spawn(async move {
                let mut client = None;
                let mut next = tokio::time::Instant::now() + limit * number / clients;
                for post in 0..posts {
                    sleep_until(next).await;
                    let mut open = match client.take() {
                        Some(open) => open,
                        None => Client::connect(port).await,
                    };
                    let request = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
                    // Around the moment in which the app closes: 6 ms before it to 6 ms after it.
                    next = tokio::time::Instant::now() + limit - Duration::from_millis(6);
                    next += Duration::from_millis(u64::from((number * 7 + post * 5) % 13));
                    match open.ask(request).await.map(|answer| answer.status()) {
                        Some(200) => client = Some(open),
                        _ => {
                            lost.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    lost.load(Ordering::Relaxed)
}

/// An app that answers 200 and closes what is idle for so long.
async fn closes_after(limit: Duration) -> SocketAddr {
    let listener = TcpListener::bind(local(0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                while let Ok(Some(_)) = timeout(limit, read_message(&mut stream)).await {
                    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

pub async fn posts_survive_an_app_that_closes_idle_connections<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    for limit in [Duration::from_secs(1), Duration::from_secs(2)] {
        assert_eq!(posts_lost(&start, 100, 4, limit).await, 0, "closed after {limit:?}");
    }
}

/// A client that has said all there is still waits for the answer.
pub async fn a_stream_that_its_client_ended_is_answered<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let [port] = free_ports();
    let listener = TcpListener::bind(local(0)).await.unwrap();
    let table = Routes::new().backend("nc.raw", Tcp, &[listener.local_addr().unwrap()]);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                // Who looks whether somebody accepts may be gone by a reset.
                if stream.read_to_end(&mut all).await.is_ok() {
                    let _ = stream.write_all(format!("got {}", all.len()).as_bytes()).await;
                }
            });
        }
    });
    let _balancer = start(&table.tcp(port, "nc.raw").0).await;
    for length in [0, 10, 300_000] {
        let mut client = TcpStream::connect(local(port)).await.unwrap();
        client.write_all(&vec![b'x'; length]).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        timeout(DEADLINE, client.read_to_string(&mut answer)).await.expect("an end").unwrap();
        assert_eq!(answer, format!("got {length}"));
    }
}

/// Nor does an app that has said all there is want to hear no more.
pub async fn a_stream_that_its_app_ended_is_heard<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let [port] = free_ports();
    let listener = TcpListener::bind(local(0)).await.unwrap();
    let table = Routes::new().backend("nc.raw", Tcp, &[listener.local_addr().unwrap()]);
    let (heard, mut lengths) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let heard = heard.clone();
            tokio::spawn(async move {
                // Who looks whether somebody accepts says nothing.
                let mut all = vec![0];
                if stream.read(&mut all).await.is_ok_and(|read| read > 0) {
                    stream.write_all(b"that is all").await.unwrap();
                    stream.shutdown().await.unwrap();
                    stream.read_to_end(&mut all).await.unwrap();
                    heard.send(all.len()).unwrap();
                }
            });
        }
    });
    let _balancer = start(&table.tcp(port, "nc.raw").0).await;
    let mut client = TcpStream::connect(local(port)).await.unwrap();
    client.write_all(b"x").await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, client.read_to_string(&mut answer)).await.expect("an end").unwrap();
    assert_eq!(answer, "that is all");
    client.write_all(&vec![b'x'; 300_000]).await.unwrap();
    client.shutdown().await.unwrap();
    let length = timeout(DEADLINE, lengths.recv()).await.expect("all is heard").unwrap();
    assert_eq!(length, 300_001);
}

/// Gives the cases that hold for every balancer to a macro that makes a test of each.
#[macro_export]
macro_rules! failing_cases {
    ($make:ident) => {
        $make! { failing:
            a_request_that_fails_takes_the_app_from_nobody
            a_stream_that_its_client_ended_is_answered
            a_stream_that_its_app_ended_is_heard
        }
    };
}
