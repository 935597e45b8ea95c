//! Servers and clients for balancer tests: inside this process, on loopback addresses of their own.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use lb_core::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub type AnyBody = UnsyncBoxBody<Bytes, Infallible>;
pub const PORT: u16 = 8000;

/// A /24 of loopback of its own for each test, also across test processes.
pub struct Net([u8; 3]);

impl Net {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed) as u8;
        Self([127, 20 + (std::process::id() % 200) as u8, nth])
    }

    pub fn ip(&self, last: u8) -> IpAddr {
        Ipv4Addr::new(self.0[0], self.0[1], self.0[2], last).into()
    }

    pub fn listener(&self) -> SocketAddr {
        SocketAddr::new(self.ip(1), PORT)
    }

    pub fn server(&self, n: u8) -> SocketAddr {
        SocketAddr::new(self.ip(10 + n), 9000)
    }
}

/// An HTTP server that knows a few tricks.
pub struct Site {
    pub address: SocketAddr,
    pub hits: Arc<AtomicU64>,
    /// Lets `/hold` answer.
    pub release: Arc<Notify>,
    killed: CancellationToken,
}

impl Site {
    pub async fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let site = Self {
            address,
            hits: Arc::default(),
            release: Arc::default(),
            killed: CancellationToken::new(),
        };
        let (hits, release, killed) =
            (site.hits.clone(), site.release.clone(), site.killed.clone());
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    () = killed.cancelled() => return,
                    accepted = listener.accept() => accepted.unwrap().0,
                };
                stream.set_nodelay(true).unwrap();
                let (hits, release, killed) = (hits.clone(), release.clone(), killed.clone());
                let connection = CancellationToken::new();
                let closing = connection.clone();
                let service = service_fn(move |request| {
                    hits.fetch_add(1, Ordering::Relaxed);
                    answer(request, address, release.clone(), closing.clone())
                });
                tokio::spawn(async move {
                    let serve = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    tokio::select! {
                        _ = serve => {}
                        () = connection.cancelled() => {}
                        () = killed.cancelled() => {}
                    }
                });
            }
        });
        site
    }

    /// As SIGKILL: connections break, the port refuses.
    pub fn kill(&self) {
        self.killed.cancel();
    }

    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn answer(
    request: Request<Incoming>,
    me: SocketAddr,
    release: Arc<Notify>,
    close: CancellationToken,
) -> Result<Response<AnyBody>, Infallible> {
    let text = |text: String| Response::new(Full::from(text).boxed_unsync());
    let path = request.uri().path_and_query().unwrap().to_string();
    Ok(match request.uri().path() {
        "/hold" => {
            release.notified().await;
            text(me.ip().to_string())
        }
        // Breaks the connection instead of answering.
        "/break" => {
            close.cancel();
            std::future::pending().await
        }
        "/never" => std::future::pending().await,
        "/echo" => {
            let body = request.into_body().collect().await;
            match body {
                Ok(body) => Response::new(Full::new(body.to_bytes()).boxed_unsync()),
                Err(_) => text("broken".into()),
            }
        }
        "/count" => {
            let mut body = request.into_body();
            let mut total = 0;
            while let Some(Ok(frame)) = body.frame().await {
                total += frame.data_ref().map_or(0, Bytes::len);
            }
            text(total.to_string())
        }
        "/big" => {
            let chunk = Bytes::from(vec![b'x'; 64 << 10]);
            let frames = (0..320).map(move |_| Ok::<_, Infallible>(Frame::data(chunk.clone())));
            Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync())
        }
        "/ws" => {
            let protocol = request.headers().get("upgrade").cloned().unwrap();
            tokio::spawn(async move {
                let upgraded = hyper::upgrade::on(request).await.unwrap();
                let mut io = TokioIo::new(upgraded);
                let mut buffer = [0; 64];
                while let Ok(n @ 1..) = io.read(&mut buffer).await {
                    io.write_all(&buffer[..n]).await.unwrap();
                }
            });
            let mut response = Response::new(Empty::new().boxed_unsync());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("connection", "upgrade".parse().unwrap());
            response.headers_mut().insert("upgrade", protocol);
            response
        }
        "/headers" => {
            let fields = request.headers().iter();
            let lines = fields.map(|(n, v)| format!("{n}: {}\n", v.to_str().unwrap()));
            text(format!("{} {path}\n{}", request.method(), lines.collect::<String>()))
        }
        _ => {
            // The whole request is taken first, as a real app would.
            let _ = request.into_body().collect().await;
            let mut response = text(format!("{} {path}", me.ip()));
            response.headers_mut().insert("keep-alive", "timeout=5".parse().unwrap());
            response
        }
    })
}

pub fn backend_name(name: &str) -> BackendName {
    BackendName::new(name).unwrap()
}

/// A backend of servers `s1..` at these addresses, with ids 1 up.
pub fn backend(protocol: Protocol, servers: &[SocketAddr]) -> Backend {
    let mut backend = Backend::new(AppName::new("shop").unwrap(), protocol);
    backend.balance = Balance::RoundRobin;
    backend.servers = servers
        .iter()
        .map(|address| {
            let last = address.to_string().replace([':', '.'], "-");
            let id = match address.ip() {
                IpAddr::V4(ip) => u32::from(ip.octets()[3]),
                IpAddr::V6(_) => 1,
            };
            let name = ServerName::new(format!("s{last}")).unwrap();
            (name, Server::new(NonZeroU32::new(id).unwrap(), *address))
        })
        .collect();
    backend
}

pub fn route(host: Option<&str>, path: &str, prefix: Prefix, to: &str) -> Route {
    Route {
        host: host.map(|h| DomainName::new(h).unwrap()),
        path: PathPrefix::new(path).unwrap(),
        prefix,
        backend: backend_name(to),
    }
}

/// One HTTP listener that leads everything to one backend.
pub fn http_table(backend: Backend) -> RoutingTable {
    routed_table([route(None, "/", Prefix::Kept, "shop.web")], [("shop.web", backend)])
}

pub fn routed_table<const R: usize, const B: usize>(
    routes: [Route; R],
    backends: [(&str, Backend); B],
) -> RoutingTable {
    let listener = Listener::Http { routes: routes.into(), certificates: BTreeMap::new() };
    RoutingTable {
        host: None,
        listeners: BTreeMap::from([(PORT, listener)]),
        backends: backends.into_iter().map(|(n, b)| (backend_name(n), Arc::new(b))).collect(),
    }
}

pub fn tcp_table(backend: Backend) -> RoutingTable {
    let listener = Listener::Tcp { backend: backend_name("shop.web"), certificate: None };
    RoutingTable {
        host: None,
        listeners: BTreeMap::from([(PORT, listener)]),
        backends: BTreeMap::from([(backend_name("shop.web"), Arc::new(backend))]),
    }
}

/// Puts the table in force and expects nothing to be set aside.
pub async fn apply(balancer: &dyn LoadBalancer, table: &RoutingTable) -> Applied {
    let applied = balancer.apply(table).await.unwrap();
    assert_eq!(applied.set_aside, BTreeMap::new());
    assert_eq!(applied.table, table.hash());
    applied
}

pub type Sender = SendRequest<AnyBody>;

/// A connection that never retries.
pub async fn connect(to: SocketAddr) -> Sender {
    let stream = TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

pub fn request(method: &str, path: &str) -> hyper::http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "shop.test")
}

pub fn empty() -> AnyBody {
    Empty::new().boxed_unsync()
}

pub fn full(bytes: impl Into<Bytes>) -> AnyBody {
    Full::new(bytes.into()).boxed_unsync()
}

pub struct Answer {
    pub status: u16,
    pub headers: hyper::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub async fn send(sender: &mut Sender, request: Request<AnyBody>) -> Result<Answer, hyper::Error> {
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}

pub async fn get(to: SocketAddr, path: &str) -> Answer {
    let mut sender = connect(to).await;
    send(&mut sender, request("GET", path).body(empty()).unwrap()).await.unwrap()
}

/// Polls until `check` gives something; fails after ten seconds.
pub async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let found = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if let Some(found) = check().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

pub async fn traffic(balancer: &dyn LoadBalancer) -> BackendTraffic {
    balancer.traffic().await.unwrap().backends.remove(&backend_name("shop.web")).unwrap()
}

pub fn body_is_send<B: Body + Send>(_: &B) {}
