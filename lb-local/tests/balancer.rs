//! The balancer's contract, against servers inside this process.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use lb_core::*;
use lb_local::LocalBalancer;
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

async fn sites<const N: usize>(net: &Net) -> [Site; N] {
    let mut sites = Vec::new();
    for n in 0..N {
        sites.push(Site::start(net.server(n as u8)).await);
    }
    sites.try_into().ok().unwrap()
}

fn addresses(sites: &[Site]) -> Vec<std::net::SocketAddr> {
    sites.iter().map(|s| s.address).collect()
}

#[tokio::test]
async fn apply_is_idempotent_and_reports_what_is_in_force() {
    let net = Net::new();
    let sites: [Site; 2] = sites(&net).await;
    let balancer = LocalBalancer::on(net.ip(1));
    assert_eq!(balancer.traffic().await.unwrap(), Traffic::default());
    let one = http_table(backend(Protocol::Http, &addresses(&sites[..1])));
    let two = http_table(backend(Protocol::Http, &addresses(&sites)));
    assert_eq!(apply(&balancer, &one).await.change, Change::Start);
    assert_eq!(apply(&balancer, &one).await.change, Change::None);
    assert_eq!(apply(&balancer, &two).await.change, Change::Live);
    assert_eq!(balancer.traffic().await.unwrap().table, Some(two.hash()));
    let mut seen = BTreeMap::<String, u32>::new();
    for _ in 0..10 {
        *seen.entry(get(net.listener(), "/").await.text().to_owned()).or_default() += 1;
    }
    assert_eq!(seen.values().copied().collect::<Vec<_>>(), [5, 5]);
    let traffic = traffic(&balancer).await;
    assert_eq!((traffic.requests, traffic.failures, traffic.in_flight), (10, 0, 0));
    assert!(traffic.response_time.unwrap() > 0.0);
    assert!(traffic.servers.values().all(|s| s.up && s.requests == 5));
}

#[tokio::test]
async fn routes_prefixes_and_forwarded_headers() {
    let net = Net::new();
    let sites: [Site; 3] = sites(&net).await;
    let only = |i: usize| backend(Protocol::Http, &[sites[i].address]);
    let table = routed_table(
        [
            route(Some("shop.test"), "/", Prefix::Kept, "shop.web"),
            route(Some("shop.test"), "/cart", Prefix::Stripped, "cart.web"),
            route(Some("*.shop.test"), "/", Prefix::Kept, "tenant.web"),
        ],
        [("shop.web", only(0)), ("cart.web", only(1)), ("tenant.web", only(2))],
    );
    let balancer = LocalBalancer::on(net.ip(1));
    apply(&balancer, &table).await;
    let mut sender = connect(net.listener()).await;
    let cases = [
        ("shop.test", "/a?b=c", 200, format!("{} /a?b=c", sites[0].address.ip())),
        ("shop.test", "/cart/x?y", 200, format!("{} /x?y", sites[1].address.ip())),
        ("shop.test", "/cart?y", 200, format!("{} /?y", sites[1].address.ip())),
        ("shop.test", "/cartoon", 200, format!("{} /cartoon", sites[0].address.ip())),
        ("shop.test", "/cart/../secret", 200, format!("{} /secret", sites[0].address.ip())),
        ("SHOP.test.:8000", "/cart/x", 200, format!("{} /x", sites[1].address.ip())),
        ("eu.shop.test", "/cart", 200, format!("{} /cart", sites[2].address.ip())),
        ("a.eu.shop.test", "/", 404, "no app answers here\n".into()),
        ("[::1]:80", "/", 404, "no app answers here\n".into()),
    ];
    for (host, path, status, expected) in cases {
        let request =
            hyper::Request::builder().uri(path).header("host", host).body(empty()).unwrap();
        let answer = send(&mut sender, request).await.unwrap();
        assert_eq!((answer.status, answer.text()), (status, expected.as_str()), "{host}{path}");
        assert!(!answer.headers.contains_key("keep-alive"));
    }
    let lied = request("GET", "/headers")
        .header("x-forwarded-for", "1.1.1.1")
        .header("x-forwarded-proto", "https")
        .header("connection", "x-hop")
        .header("x-hop", "1");
    let answer = send(&mut sender, lied.body(empty()).unwrap()).await.unwrap();
    let expected = "GET /headers\nhost: shop.test\nx-forwarded-for: 127.0.0.1\n\
                    x-forwarded-proto: http\nx-real-ip: 127.0.0.1\n";
    let sorted = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(sorted(answer.text()), sorted(expected));
}

#[tokio::test]
async fn a_port_that_is_taken_and_tls_are_set_aside_and_tried_again() {
    let net = Net::new();
    let sites: [Site; 1] = sites(&net).await;
    let taken = TcpListener::bind((net.ip(1), 8001)).await.unwrap();
    let mut table = http_table(backend(Protocol::Http, &addresses(&sites)));
    let listener = table.listeners[&PORT].clone();
    table.listeners.insert(8001, listener.clone());
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let mut tls = listener;
    if let Listener::Http { certificates, .. } = &mut tls {
        certificates.insert(backend_name("shop.web"), CertificatePem::new(pem).unwrap());
    }
    table.listeners.insert(8002, tls);
    let balancer = LocalBalancer::on(net.ip(1));
    let applied = balancer.apply(&table).await.unwrap();
    let aside: Vec<_> = applied.set_aside.keys().cloned().collect();
    assert_eq!(aside, [SetAside::Listener(8001), SetAside::Listener(8002)]);
    assert_eq!(get(net.listener(), "/").await.status, 200);
    let files = balancer.files().await.unwrap();
    let text = &files[&FileName::new("table.json").unwrap()];
    assert!(!text.contains("PRIVATE"));
    assert!(text.contains(&sites[0].address.to_string()));
    drop(taken);
    let applied = balancer.apply(&table).await.unwrap();
    assert_eq!(applied.change, Change::None);
    assert_eq!(applied.set_aside.len(), 1);
    assert_eq!(get((net.ip(1), 8001).into(), "/").await.status, 200);
}

#[tokio::test]
async fn a_table_that_breaks_a_rule_leaves_the_old_one_in_force() {
    let net = Net::new();
    let sites: [Site; 1] = sites(&net).await;
    let balancer = LocalBalancer::on(net.ip(1));
    let good = http_table(backend(Protocol::Http, &addresses(&sites)));
    apply(&balancer, &good).await;
    let mut bad = good.clone();
    bad.backends.clear();
    let error = balancer.apply(&bad).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(balancer.traffic().await.unwrap().table, Some(good.hash()));
    assert_eq!(get(net.listener(), "/").await.status, 200);
}

/// 200 changes of the set of servers under load; servers that leave are stopped once drained.
async fn changes_lose_nothing(net: &Net, keep_alive: bool) -> u64 {
    let mut sites: Vec<Site> = Vec::new();
    for n in 0..3 {
        sites.push(Site::start(net.server(n)).await);
    }
    let balancer = LocalBalancer::on(net.ip(1));
    apply(&balancer, &http_table(backend(Protocol::Http, &addresses(&sites)))).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let clients: Vec<_> = (0..16)
        .map(|n| tokio::spawn(client(net.listener(), keep_alive, n % 4 == 0, stop.clone())))
        .collect();
    for change in 0..200u8 {
        let next = Site::start(net.server(3 + change)).await;
        sites.push(next);
        apply(&balancer, &http_table(backend(Protocol::Http, &addresses(&sites)))).await;
        let mut table = backend(Protocol::Http, &addresses(&sites));
        let leaving = sites.remove(0);
        let name =
            table.servers.iter().find(|(_, s)| s.address == leaving.address).unwrap().0.clone();
        table.servers.get_mut(&name).unwrap().state = ServerState::Draining;
        apply(&balancer, &http_table(table)).await;
        until("drained", async || {
            (traffic(&balancer).await.servers[&name].open == 0).then_some(())
        })
        .await;
        leaving.kill();
        apply(&balancer, &http_table(backend(Protocol::Http, &addresses(&sites)))).await;
    }
    stop.cancel();
    let mut answered = 0;
    for client in clients {
        answered += client.await.unwrap();
    }
    assert_eq!(traffic(&balancer).await.failures, 0);
    answered
}

async fn client(
    to: std::net::SocketAddr,
    keep_alive: bool,
    posts: bool,
    stop: tokio_util::sync::CancellationToken,
) -> u64 {
    let mut answered = 0;
    let mut kept = None;
    while !stop.is_cancelled() {
        let mut sender: Sender = match kept.take() {
            Some(sender) => sender,
            None => connect(to).await,
        };
        let request = match posts {
            true => request("POST", "/post").body(full("0123456789")).unwrap(),
            false => request("GET", "/get").body(empty()).unwrap(),
        };
        let answer = send(&mut sender, request).await.expect("lost");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answered += 1;
        if keep_alive {
            kept = Some(sender);
        }
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_lose_nothing_with_kept_connections() {
    let answered = changes_lose_nothing(&Net::new(), true).await;
    assert!(answered > 1000, "{answered}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_lose_nothing_with_short_connections() {
    let answered = changes_lose_nothing(&Net::new(), false).await;
    assert!(answered > 500, "{answered}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_no_idempotent_request() {
    let net = Net::new();
    let sites: [Site; 3] = sites(&net).await;
    let balancer = LocalBalancer::on(net.ip(1));
    apply(&balancer, &http_table(backend(Protocol::Http, &addresses(&sites)))).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let clients: Vec<_> =
        (0..8).map(|_| tokio::spawn(client(net.listener(), true, false, stop.clone()))).collect();
    until("load", async || (sites[0].hits() > 200).then_some(())).await;
    sites[0].kill();
    let before = sites[1].hits();
    until("load", async || (sites[1].hits() > before + 500).then_some(())).await;
    stop.cancel();
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(traffic(&balancer).await.failures, 0);
}

#[tokio::test]
async fn what_was_sent_is_repeated_only_if_idempotent() {
    let net = Net::new();
    let sites: [Site; 3] = sites(&net).await;
    let balancer = LocalBalancer::on(net.ip(1));
    apply(&balancer, &http_table(backend(Protocol::Http, &addresses(&sites)))).await;
    let hits = || sites.iter().map(Site::hits).sum::<u64>();
    let mut sender = connect(net.listener()).await;
    // A GET that breaks every server it meets is tried on each, once.
    let answer = send(&mut sender, request("GET", "/break").body(empty()).unwrap()).await.unwrap();
    assert_eq!((answer.status, hits()), (502, 3));
    let post = request("POST", "/break").body(full("order")).unwrap();
    assert_eq!(send(&mut sender, post).await.unwrap().status, 502);
    assert_eq!(hits(), 4);
    // A small PUT is idempotent and kept, so that it can be repeated.
    let put = request("PUT", "/break").body(full("order")).unwrap();
    assert_eq!(send(&mut sender, put).await.unwrap().status, 502);
    assert_eq!(hits(), 7);
    assert_eq!(traffic(&balancer).await.failures, 3);
}

#[tokio::test]
async fn a_post_that_was_never_sent_goes_to_another_server() {
    let net = Net::new();
    let [site] = sites(&net).await;
    // Nobody listens at the others.
    let table = backend(Protocol::Http, &[net.server(7), site.address, net.server(8)]);
    let balancer = LocalBalancer::on(net.ip(1));
    apply(&balancer, &http_table(table)).await;
    let mut sender = connect(net.listener()).await;
    for n in 0..20 {
        let chunks = futures_util::stream::iter([Ok(Frame::data(Bytes::from("stream")))]);
        let body = StreamBody::new(chunks).boxed_unsync();
        let answer = send(&mut sender, request("POST", "/echo").body(body).unwrap()).await.unwrap();
        assert_eq!((answer.status, answer.text()), (200, "stream"), "{n}");
    }
    let traffic = traffic(&balancer).await;
    assert_eq!(traffic.servers.values().filter(|s| s.up).count(), 1, "the dead ones are put aside");
    let dead = http_table(backend(Protocol::Http, &[net.server(7)]));
    apply(&balancer, &dead).await;
    assert_eq!(get(net.listener(), "/").await.status, 503);
    apply(&balancer, &http_table(backend(Protocol::Http, &[]))).await;
    assert_eq!(get(net.listener(), "/").await.status, 503);
}

#[tokio::test]
async fn draining_keeps_what_is_in_flight_and_leaving_cuts_it() {
    let net = Net::new();
    let sites: [Site; 2] = sites(&net).await;
    let balancer = LocalBalancer::on(net.ip(1));
    let only_first = backend(Protocol::Http, &addresses(&sites[..1]));
    apply(&balancer, &http_table(only_first)).await;
    let held = tokio::spawn({
        let to = net.listener();
        async move { get(to, "/hold").await }
    });
    until("held", async || (sites[0].hits() == 1).then_some(())).await;
    let mut both = backend(Protocol::Http, &addresses(&sites));
    let first = both.servers.keys().next().unwrap().clone();
    both.servers.get_mut(&first).unwrap().state = ServerState::Draining;
    apply(&balancer, &http_table(both.clone())).await;
    assert_eq!(traffic(&balancer).await.servers[&first].open, 1);
    for _ in 0..6 {
        let answer = get(net.listener(), "/").await;
        assert_eq!(answer.text(), format!("{} /", sites[1].address.ip()));
    }
    sites[0].release.notify_one();
    assert_eq!(held.await.unwrap().text(), sites[0].address.ip().to_string());
    until("free", async || (traffic(&balancer).await.servers[&first].open == 0).then_some(()))
        .await;
    // Now the other way: what a removed server still holds is cut, and a GET moves on.
    let moved = tokio::spawn({
        let to = net.listener();
        async move { get(to, "/hold").await }
    });
    until("held", async || (sites[1].hits() == 7).then_some(())).await;
    apply(&balancer, &http_table(backend(Protocol::Http, &addresses(&sites[..1])))).await;
    until("moved", async || (sites[0].hits() == 2).then_some(())).await;
    sites[0].release.notify_one();
    assert_eq!(moved.await.unwrap().text(), sites[0].address.ip().to_string());
}

#[tokio::test]
async fn a_full_instance_queues_and_the_queue_has_an_end() {
    let net = Net::new();
    let sites: [Site; 1] = sites(&net).await;
    let mut spec = backend(Protocol::Http, &addresses(&sites));
    spec.limits.connections_per_instance = NonZeroU32::new(1);
    spec.limits.queue = Duration::from_millis(300);
    let balancer = LocalBalancer::on(net.ip(1));
    apply(&balancer, &http_table(spec.clone())).await;
    let to = net.listener();
    let held = tokio::spawn(async move { get(to, "/hold").await });
    until("held", async || (sites[0].hits() == 1).then_some(())).await;
    let late = tokio::spawn(async move { get(to, "/late").await });
    until("queued", async || (traffic(&balancer).await.queued == 1).then_some(())).await;
    assert_eq!(late.await.unwrap().status, 503);
    let next = tokio::spawn(async move { get(to, "/next").await });
    until("queued", async || (traffic(&balancer).await.queued == 1).then_some(())).await;
    sites[0].release.notify_one();
    assert_eq!(next.await.unwrap().status, 200);
    assert_eq!(held.await.unwrap().status, 200);
    // A new server frees those who wait.
    let held = tokio::spawn(async move { get(to, "/hold").await });
    until("held", async || (sites[0].hits() == 3).then_some(())).await;
    let next = tokio::spawn(async move { get(to, "/next").await });
    until("queued", async || (traffic(&balancer).await.queued == 1).then_some(())).await;
    let more = Site::start(net.server(5)).await;
    let mut wider = backend(Protocol::Http, &[sites[0].address, more.address]);
    wider.limits = spec.limits.clone();
    apply(&balancer, &http_table(wider)).await;
    assert_eq!(next.await.unwrap().text(), format!("{} /next", more.address.ip()));
    sites[0].release.notify_one();
    assert_eq!(held.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_sticky_client_stays_until_its_server_drains() {
    let net = Net::new();
    let sites: [Site; 3] = sites(&net).await;
    let mut spec = backend(Protocol::Http, &addresses(&sites));
    spec.sticky = Some(Sticky { cookie: CookieName::new("lb").unwrap() });
    let balancer = LocalBalancer::on(net.ip(1));
    apply(&balancer, &http_table(spec.clone())).await;
    let first = get(net.listener(), "/").await;
    let set = first.headers["set-cookie"].to_str().unwrap().to_owned();
    let cookie = set.split(';').next().unwrap().to_owned();
    let mut sender = connect(net.listener()).await;
    let again = |path: &str| request("GET", path).header("cookie", &cookie).body(empty()).unwrap();
    for _ in 0..5 {
        let answer = send(&mut sender, again("/")).await.unwrap();
        assert_eq!(answer.text(), first.text());
        assert!(!answer.headers.contains_key("set-cookie"));
    }
    assert!(!send(&mut sender, again("/headers")).await.unwrap().text().contains("cookie"));
    let stuck =
        spec.servers.values_mut().find(|s| first.text().starts_with(&s.address.ip().to_string()));
    stuck.unwrap().state = ServerState::Draining;
    apply(&balancer, &http_table(spec)).await;
    let moved = send(&mut sender, again("/")).await.unwrap();
    assert_ne!(moved.text(), first.text());
    assert_ne!(moved.headers["set-cookie"], set.as_str());
}

#[tokio::test]
async fn rate_and_body_limits() {
    let net = Net::new();
    let sites: [Site; 1] = sites(&net).await;
    let mut spec = backend(Protocol::Http, &addresses(&sites));
    spec.limits.body = Some(ByteSize::new(1000));
    let balancer = LocalBalancer::on(net.ip(1));
    apply(&balancer, &http_table(spec.clone())).await;
    let post = async |body: AnyBody| {
        let mut sender = connect(net.listener()).await;
        send(&mut sender, request("POST", "/count").body(body).unwrap()).await.unwrap()
    };
    let chunks = |n: usize| {
        let frames = (0..n).map(|_| Ok(Frame::data(Bytes::from(vec![0; 100]))));
        StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
    };
    assert_eq!(post(full(vec![0; 1000])).await.text(), "1000");
    assert_eq!(post(full(vec![0; 1001])).await.status, 413);
    assert_eq!(post(chunks(10)).await.text(), "1000");
    assert_eq!(post(chunks(11)).await.status, 413);
    spec.limits.rate = Some(RateLimit {
        requests: NonZeroU32::new(5).unwrap(),
        window: Duration::from_secs(3600),
    });
    apply(&balancer, &http_table(spec)).await;
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.push(get(net.listener(), "/").await.status);
    }
    assert_eq!(seen, [200, 200, 200, 200, 200, 429, 429]);
}

#[tokio::test]
async fn a_silent_server_and_a_silent_client_have_an_end() {
    let net = Net::new();
    let sites: [Site; 2] = sites(&net).await;
    let mut spec = backend(Protocol::Http, &addresses(&sites));
    spec.timeouts.server = Duration::from_millis(200);
    spec.timeouts.client = Duration::from_millis(400);
    let balancer = LocalBalancer::on(net.ip(1));
    apply(&balancer, &http_table(spec)).await;
    assert_eq!(get(net.listener(), "/never").await.status, 504);
    assert_eq!(sites[0].hits() + sites[1].hits(), 1, "what may still be at work is not repeated");
    // A slow client is not a silent server: 6 chunks, 100 ms apart.
    let slow = futures_util::stream::iter(0..6).then(|_| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(Frame::data(Bytes::from("0123456789")))
    });
    let mut sender = connect(net.listener()).await;
    let body = StreamBody::new(slow).boxed_unsync();
    let answer = send(&mut sender, request("POST", "/count").body(body).unwrap()).await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "60"));
    let silent = StreamBody::new(futures_util::stream::pending()).boxed_unsync();
    let answer = send(&mut sender, request("POST", "/count").body(silent).unwrap()).await.unwrap();
    assert_eq!(answer.status, 408);
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    let net = Net::new();
    let sites: [Site; 1] = sites(&net).await;
    let balancer = LocalBalancer::on(net.ip(1));
    apply(&balancer, &http_table(backend(Protocol::Http, &addresses(&sites)))).await;
    let answer = get(net.listener(), "/big").await;
    assert_eq!(answer.body.len(), 20 << 20);
    let chunk = Bytes::from(vec![b'y'; 64 << 10]);
    let frames = (0..320).map(move |_| Ok(Frame::data(chunk.clone())));
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    let mut sender = connect(net.listener()).await;
    let answer = send(&mut sender, request("POST", "/count").body(body).unwrap()).await.unwrap();
    assert_eq!(answer.text(), (20 << 20).to_string());
    let head = send(&mut sender, request("HEAD", "/x").body(empty()).unwrap()).await.unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(head.headers["content-length"].to_str().unwrap().parse::<usize>().unwrap() > 0);
}

#[tokio::test]
async fn websockets_stay_up_through_changes_of_others_and_end_with_their_server() {
    let net = Net::new();
    let sites: [Site; 2] = sites(&net).await;
    let balancer = LocalBalancer::on(net.ip(1));
    apply(&balancer, &http_table(backend(Protocol::Http, &addresses(&sites[..1])))).await;
    let mut stream = TcpStream::connect(net.listener()).await.unwrap();
    stream
        .write_all(b"GET /ws HTTP/1.1\r\nhost: shop.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("upgrade: websocket"), "{head}");
    let mut echo = async |text: &[u8]| {
        stream.write_all(text).await.unwrap();
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).await.map(|_| back)
    };
    assert_eq!(echo(b"one").await.unwrap(), b"one");
    for n in 0..50 {
        let with_other = if n % 2 == 0 { &sites[..] } else { &sites[..1] };
        apply(&balancer, &http_table(backend(Protocol::Http, &addresses(with_other)))).await;
        assert_eq!(echo(b"still here").await.unwrap(), b"still here");
    }
    let first =
        backend(Protocol::Http, &addresses(&sites[..1])).servers.keys().next().unwrap().clone();
    assert_eq!(traffic(&balancer).await.servers[&first].open, 1);
    apply(&balancer, &http_table(backend(Protocol::Http, &addresses(&sites[1..])))).await;
    let ended = until("cut", async || {
        let mut byte = [0; 1];
        matches!(stream.read(&mut byte).await, Ok(0) | Err(_)).then_some(true)
    });
    assert!(ended.await);
}

async fn echo_server(address: std::net::SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                stream.write_all(format!("{address}\n").as_bytes()).await.unwrap();
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                // Half closed by the client: we still have a word to say.
                let _ = write.write_all(b"bye").await;
                let _ = write.shutdown().await;
            });
        }
    });
}

#[tokio::test]
async fn tcp_streams_flow_half_close_and_avoid_dead_servers() {
    let net = Net::new();
    echo_server(net.server(0)).await;
    let spec = backend(Protocol::Tcp, &[net.server(0), net.server(1)]);
    let balancer = LocalBalancer::on(net.ip(1));
    apply(&balancer, &tcp_table(spec)).await;
    for _ in 0..6 {
        let mut stream = TcpStream::connect(net.listener()).await.unwrap();
        stream.write_all(&vec![b'z'; 100_000]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        let hello = format!("{}\n", net.server(0));
        assert!(all.starts_with(hello.as_bytes()));
        assert!(all.ends_with(b"zzbye"));
        assert_eq!(all.len(), hello.len() + 100_000 + 3);
    }
    let seen = traffic(&balancer).await;
    assert_eq!((seen.requests, seen.failures), (6, 0));
    until("free", async || (traffic(&balancer).await.in_flight == 0).then_some(())).await;
}

#[tokio::test]
async fn a_tcp_stream_survives_a_drain_and_other_apps_changes() {
    let net = Net::new();
    echo_server(net.server(0)).await;
    let mut spec = backend(Protocol::Tcp, &[net.server(0)]);
    let balancer = LocalBalancer::on(net.ip(1));
    apply(&balancer, &tcp_table(spec.clone())).await;
    let mut stream = TcpStream::connect(net.listener()).await.unwrap();
    let mut hello = vec![0; format!("{}\n", net.server(0)).len()];
    stream.read_exact(&mut hello).await.unwrap();
    for server in spec.servers.values_mut() {
        server.state = ServerState::Draining;
    }
    apply(&balancer, &tcp_table(spec.clone())).await;
    stream.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.unwrap();
    let mut refused = TcpStream::connect(net.listener()).await.unwrap();
    assert_eq!(refused.read(&mut back).await.unwrap(), 0, "a draining server takes nothing new");
    spec.servers.clear();
    apply(&balancer, &tcp_table(spec)).await;
    assert!(matches!(stream.read(&mut back).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn http2_clients_are_served() {
    let net = Net::new();
    let sites: [Site; 2] = sites(&net).await;
    let balancer = LocalBalancer::on(net.ip(1));
    apply(&balancer, &http_table(backend(Protocol::Http, &addresses(&sites)))).await;
    let stream = TcpStream::connect(net.listener()).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, AnyBody>(executor, io).await.unwrap();
    tokio::spawn(connection);
    let many = (0..50).map(|n| {
        let mut sender = sender.clone();
        async move {
            let request = hyper::Request::builder()
                .method("POST")
                .uri(format!("http://shop.test/echo?{n}"))
                .header("cookie", "a=1")
                .header("cookie", "b=2")
                .body(full(n.to_string()))
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), n.to_string());
        }
    });
    futures_util::future::join_all(many).await;
    let request = hyper::Request::builder().uri("http://shop.test/headers");
    let mut sender = sender.clone();
    let response = sender.send_request(request.body(empty()).unwrap()).await.unwrap();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert!(text.windows(16).any(|w| w == b"host: shop.test\n"), "{text:?}");
}

#[tokio::test]
async fn of_two_calls_the_later_table_stays() {
    let net = Net::new();
    let sites: [Site; 2] = sites(&net).await;
    let balancer = LocalBalancer::on(net.ip(1));
    let tables: Vec<_> = (0..20u16)
        .map(|n| {
            let mut spec = backend(Protocol::Http, &addresses(&sites));
            spec.servers.values_mut().for_each(|s| s.weight = n + 1);
            http_table(spec)
        })
        .collect();
    let calls = tables.iter().map(|table| balancer.apply(table));
    for applied in futures_util::future::join_all(calls).await {
        applied.unwrap();
    }
    assert_eq!(balancer.traffic().await.unwrap().table, Some(tables[19].hash()));
    // A call whose caller went away is done all the same.
    let other = http_table(backend(Protocol::Http, &addresses(&sites[..1])));
    let mut call = Box::pin(balancer.apply(&other));
    assert!(futures_util::poll!(call.as_mut()).is_pending());
    drop(call);
    until("applied", async || {
        (balancer.traffic().await.unwrap().table == Some(other.hash())).then_some(())
    })
    .await;
}

#[tokio::test]
async fn shutting_down_closes_ports_and_it_can_start_again() {
    let net = Net::new();
    let sites: [Site; 1] = sites(&net).await;
    let balancer = LocalBalancer::on(net.ip(1));
    let table = http_table(backend(Protocol::Http, &addresses(&sites)));
    apply(&balancer, &table).await;
    let mut idle = connect(net.listener()).await;
    assert_eq!(
        send(&mut idle, request("GET", "/").body(empty()).unwrap()).await.unwrap().status,
        200
    );
    balancer.shutdown().await.unwrap();
    balancer.shutdown().await.unwrap();
    assert!(TcpStream::connect(net.listener()).await.is_err());
    assert_eq!(balancer.traffic().await.unwrap().table, None);
    assert_eq!(apply(&balancer, &table).await.change, Change::Start);
    assert_eq!(get(net.listener(), "/").await.status, 200);
    drop(balancer);
    until("closed", async || TcpStream::connect(net.listener()).await.is_err().then_some(())).await;
}

#[tokio::test]
async fn hashes_keep_a_client_a_path_and_a_header_on_their_server() {
    let net = Net::new();
    let sites: [Site; 4] = sites(&net).await;
    let balancer = LocalBalancer::on(net.ip(1));
    let mut spec = backend(Protocol::Http, &addresses(&sites));
    let mut sender = None;
    let mut by = async |balance: Balance, path: &str, user: &str| {
        spec.balance = balance;
        apply(&balancer, &http_table(spec.clone())).await;
        let request = request("GET", path).header("x-user", user).body(empty()).unwrap();
        let sender: &mut Sender = match &mut sender {
            Some(sender) => sender,
            none => none.insert(connect(net.listener()).await),
        };
        let answer = send(sender, request).await.unwrap();
        answer.text().split(' ').next().unwrap().to_owned()
    };
    let header = || Balance::HeaderHash(HeaderName::new("x-user").unwrap());
    let mut distinct: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for n in 0..12 {
        let (path, user) = (format!("/p{n}?q={n}"), format!("u{n}"));
        let first = [
            by(Balance::SourceHash, &path, &user).await,
            by(Balance::UriHash, &path, "x").await,
            by(header(), "/same", &user).await,
        ];
        let again = [
            by(Balance::SourceHash, "/other", "y").await,
            by(Balance::UriHash, &format!("/p{n}?other"), "y").await,
            by(header(), "/more", &user).await,
        ];
        assert_eq!(first, again);
        for (kind, server) in ["source", "uri", "header"].into_iter().zip(first) {
            distinct.entry(kind).or_default().insert(server);
        }
    }
    assert_eq!(distinct["source"].len(), 1);
    assert!(distinct["uri"].len() > 1);
    assert!(distinct["header"].len() > 1);
}

#[tokio::test]
async fn contracts_are_objects() {
    let balancer: Arc<dyn LoadBalancer> = Arc::new(LocalBalancer::new());
    let info = balancer.describe().await.unwrap();
    assert!(info.servers_without_reload);
}
