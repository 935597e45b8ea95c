//! Health checks on a real HAProxy: what is asked, what an answer means, and who gets requests meanwhile (F25).
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod balancer_support;

use std::future::pending;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use balancer_support::Bench;
use lb_core::{Backend, Check, HealthPath};
use lb_test_support::client::get;
use lb_test_support::live::{Message, read_message};
use lb_test_support::{Apps as Table, backend_name, eventually, free_port, server_name};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The status of an app that accepts and never answers.
const SILENT: u16 = 0;

/// An app that answers health checks as told, and refuses what is not HTTP/1.1 with a host.
#[derive(Clone)]
struct Patient {
    address: SocketAddr,
    name: &'static str,
    health: Arc<AtomicU16>,
    /// What everything but the checks is answered with.
    status: Arc<AtomicU16>,
    checks: Arc<Mutex<Vec<Message>>>,
    requests: Arc<Mutex<u64>>,
}

impl Patient {
    async fn start(name: &'static str, at: &str) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let ok = || Arc::new(AtomicU16::new(200));
        let app = Self {
            address: listener.local_addr().unwrap(),
            name,
            health: ok(),
            status: ok(),
            checks: Arc::default(),
            requests: Arc::default(),
        };
        let serving = app.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        app
    }

    async fn serve(self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read_message(&mut stream).await {
            let status = match (request.start.ends_with(" HTTP/1.1"), request.header("host")) {
                (false, _) => 426,
                (true, None) => 400,
                (true, Some(_)) if request.start.starts_with("GET /health") => {
                    self.checks.lock().unwrap().push(request);
                    self.health.load(Ordering::Relaxed)
                }
                (true, Some(_)) => {
                    *self.requests.lock().unwrap() += 1;
                    self.status.load(Ordering::Relaxed)
                }
            };
            if status == SILENT {
                pending::<()>().await;
            }
            let name = self.name;
            let text =
                format!("HTTP/1.1 {status} -\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            if stream.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn is(&self, health: u16) {
        self.health.store(health, Ordering::Relaxed);
    }

    /// It accepts, reads, and answers nothing any more.
    fn falls_silent(&self) {
        self.health.store(SILENT, Ordering::Relaxed);
        self.status.store(SILENT, Ordering::Relaxed);
    }

    fn recovers(&self) {
        self.health.store(200, Ordering::Relaxed);
        self.status.store(200, Ordering::Relaxed);
    }

    fn requests(&self) -> u64 {
        *self.requests.lock().unwrap()
    }
}

fn checked(backend: &mut Backend) {
    backend.health.check = Check::Http(HealthPath::new("/health?deep=1").unwrap());
    backend.health.interval = Duration::from_millis(100);
    backend.health.timeout = Duration::from_millis(500);
}

/// An app that is checked, behind its own HAProxy at a port.
async fn one() -> (Bench, u16, Patient) {
    let (bench, port) = (Bench::new(), free_port());
    let app = Patient::start("app", "127.0.0.1:0").await;
    let table = Table::new().http(port, "/", "shop").with("shop", checked);
    bench.apply(&table.server("shop", "app", 1, app.address).0).await;
    (bench, port, app)
}

async fn up(bench: &Bench, server: &str) -> bool {
    bench.traffic().await.backends[&backend_name("shop")].servers[&server_name(server)].up
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_check_is_the_request_of_the_readiness_probe() {
    let (bench, port) = (Bench::new(), free_port());
    let apps = [
        Patient::start("filed", "127.0.0.1:0").await,
        Patient::start("six", "[::1]:0").await,
        Patient::start("added", "127.0.0.1:0").await,
    ];
    let table = Table::new()
        .http(port, "/", "shop")
        .with("shop", checked)
        .server("shop", "filed", 1, apps[0].address)
        .server("shop", "six", 2, apps[1].address);
    bench.apply(&table.0).await;
    bench.apply(&table.server("shop", "added", 3, apps[2].address).0).await;
    for app in apps {
        // More than `fall`: one that is refused would be down by now.
        eventually("checked", async || app.checks.lock().unwrap().len() > 5).await;
        for check in app.checks.lock().unwrap().iter() {
            assert_eq!(check.start, "GET /health?deep=1 HTTP/1.1", "{}", app.name);
            let host = app.address.to_string();
            for (name, value) in [
                ("host", host.as_str()),
                ("user-agent", "lb-probe"),
                ("accept", "*/*"),
                ("connection", "close"),
            ] {
                assert_eq!(check.header(name), Some(value), "{}", app.name);
            }
            assert_eq!(check.headers.len(), 4, "{check:?}");
        }
        assert!(up(&bench, app.name).await, "{}", app.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_server_is_up_while_its_check_answers_200_to_399() {
    let (bench, port, app) = one().await;
    for (bad, good) in [(500, 200), (400, 204), (426, 302), (503, 399), (SILENT, 200)] {
        app.is(bad);
        eventually("it is down", async || !up(&bench, "app").await).await;
        assert_eq!(get(port, "/").await.unwrap().status, 503, "{bad}");
        app.is(good);
        eventually("it is up", async || up(&bench, "app").await).await;
        assert_eq!(get(port, "/").await.unwrap().status, 200, "{good}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_server_that_accepts_and_never_answers_gets_no_more_requests_until_it_does() {
    let (bench, port) = (Bench::new(), free_port());
    let (well, ill) =
        (Patient::start("well", "127.0.0.1:0").await, Patient::start("ill", "127.0.0.1:0").await);
    let table = Table::new()
        .http(port, "/", "shop")
        .with("shop", checked)
        .with("shop", |shop| shop.timeouts.server = Duration::from_millis(500))
        .server("shop", "well", 1, well.address);
    bench.apply(&table.0).await;
    bench.apply(&table.server("shop", "ill", 2, ill.address).0).await;
    eventually("both serve", async || {
        get(port, "/").await.unwrap();
        well.requests() > 0 && ill.requests() > 0
    })
    .await;
    ill.falls_silent();
    eventually("it is taken for down", async || {
        let status = get(port, "/").await.unwrap().status;
        assert!([200, 504].contains(&status), "{status}");
        !up(&bench, "ill").await
    })
    .await;
    let before = ill.requests();
    for _ in 0..50 {
        assert_eq!(get(port, "/").await.unwrap().body, "well");
    }
    assert_eq!(ill.requests(), before);
    ill.recovers();
    eventually("it serves again", async || {
        assert_eq!(get(port, "/").await.unwrap().status, 200);
        ill.requests() > before
    })
    .await;
}

/// What HAProxy's `observe layer7` would do: it takes an app's own 5xx for the server's failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn an_apps_own_5xx_takes_nobody_out() {
    let (_bench, port, app) = one().await;
    app.status.store(500, Ordering::Relaxed);
    for n in 1..=50 {
        assert_eq!(get(port, "/").await.unwrap().status, 500, "request {n}");
    }
    assert_eq!(app.requests(), 50, "each asked the app, once");
}
