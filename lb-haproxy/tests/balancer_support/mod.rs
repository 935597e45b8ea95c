//! What the balancer's tests share: a real HAProxy as a process, small servers behind it, and clients that
//! never try again.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod app;
pub mod client;
pub mod renderer;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use lb_core::{
    AppName, Backend, BackendName, Change, Listener, LoadBalancer, PathPrefix, Prefix, Protocol,
    Route, RoutingTable, Server, ServerName, Traffic,
};
use lb_haproxy::HaproxyBalancer;
use tempfile::TempDir;

use self::renderer::PlainRenderer;

/// The binary the tests run.
pub fn haproxy() -> PathBuf {
    std::env::var_os("LB_TEST_HAPROXY").expect("LB_TEST_HAPROXY must name a haproxy binary").into()
}

/// A balancer and its directory; ends HAProxy when dropped, also after a panic.
pub struct Bench {
    pub dir: TempDir,
    pub balancer: HaproxyBalancer,
}

impl Bench {
    pub fn new() -> Self {
        Self::rendered_by(Arc::new(PlainRenderer))
    }

    pub fn rendered_by(renderer: Arc<dyn lb_core::ConfigRenderer>) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let dir = tempfile::Builder::new().prefix("lbh").tempdir_in("/tmp").unwrap();
        let balancer = balancer(dir.path(), renderer);
        Self { dir, balancer }
    }

    /// A second balancer on the same directory.
    pub fn again(&self) -> HaproxyBalancer {
        balancer(self.dir.path(), Arc::new(PlainRenderer))
    }

    pub fn again_rendered_by(&self, renderer: Arc<dyn lb_core::ConfigRenderer>) -> HaproxyBalancer {
        balancer(self.dir.path(), renderer)
    }

    pub async fn apply(&self, table: &RoutingTable) -> Change {
        let applied = self.balancer.apply(table).await.unwrap();
        assert_eq!(applied.table, table.hash());
        assert!(applied.set_aside.is_empty(), "{:?}", applied.set_aside);
        applied.change
    }

    pub async fn traffic(&self) -> Traffic {
        self.balancer.traffic().await.unwrap()
    }

    pub async fn reloads(&self) -> u64 {
        self.balancer.describe().await.unwrap().reloads
    }

    pub fn config(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("haproxy.cfg")).unwrap()
    }

    /// A command to the worker, as somebody else would give it.
    pub fn runtime(&self, command: &str) -> String {
        say(&self.dir.path().join("admin.sock"), command).unwrap()
    }

    pub fn master(&self, command: &str) -> std::io::Result<String> {
        say(&self.dir.path().join("master.sock"), command)
    }

    /// The master's and the workers' process ids.
    pub fn pids(&self) -> Vec<u32> {
        let text = self.master("show proc").unwrap_or_default();
        text.lines()
            .filter(|l| l.contains("master") || l.contains("worker"))
            .filter_map(|l| l.split_whitespace().next()?.parse().ok())
            .collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for pid in self.pids() {
            let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    }
}

fn balancer(dir: &Path, renderer: Arc<dyn lb_core::ConfigRenderer>) -> HaproxyBalancer {
    HaproxyBalancer::builder(dir).renderer(renderer).as_process(haproxy()).build().unwrap()
}

fn say(socket: &Path, command: &str) -> std::io::Result<String> {
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// A port nobody listens on, outside the range the kernel takes client ports from.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 21_000 + (std::process::id() % 400) as u16 * 20;
    loop {
        let port = start + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

pub fn backend_name(app: &str) -> BackendName {
    BackendName::new(format!("{app}.web")).unwrap()
}

pub fn server_name(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

/// A table with HTTP apps by path and TCP apps by port.
#[derive(Clone)]
pub struct Table(pub RoutingTable);

impl Table {
    pub fn new() -> Self {
        Self(RoutingTable::default())
    }

    /// An HTTP app below a path.
    pub fn http(mut self, port: u16, path: &str, app: &str) -> Self {
        let name = backend_name(app);
        let listener = self.0.listeners.entry(port).or_insert_with(|| Listener::Http {
            routes: BTreeSet::default(),
            certificates: BTreeMap::default(),
        });
        let Listener::Http { routes, .. } = listener else { panic!("{port} is a TCP port") };
        routes.insert(Route {
            host: None,
            path: PathPrefix::new(path).unwrap(),
            prefix: Prefix::Kept,
            backend: name.clone(),
        });
        let mut backend = Backend::new(AppName::new(app).unwrap(), Protocol::Http);
        backend.health.interval = Duration::from_millis(500);
        self.0.backends.insert(name, Arc::new(backend));
        self
    }

    pub fn tcp(mut self, port: u16, app: &str) -> Self {
        let backend = backend_name(app);
        let listener = Listener::Tcp { backend: backend.clone(), certificate: None };
        self.0.listeners.insert(port, listener);
        let new = Backend::new(AppName::new(app).unwrap(), Protocol::Tcp);
        self.0.backends.insert(backend, Arc::new(new));
        self
    }

    pub fn server(mut self, app: &str, name: &str, id: u32, address: SocketAddr) -> Self {
        self.change(app, |b| {
            b.servers.insert(server_name(name), Server::new(NonZeroU32::new(id).unwrap(), address));
        });
        self
    }

    pub fn change(&mut self, app: &str, change: impl FnOnce(&mut Backend)) {
        change(Arc::make_mut(self.0.backends.get_mut(&backend_name(app)).unwrap()));
    }

    pub fn with(mut self, app: &str, change: impl FnOnce(&mut Backend)) -> Self {
        self.change(app, change);
        self
    }

    pub fn without(mut self, app: &str, server: &str) -> Self {
        self.change(app, |b| drop(b.servers.remove(&server_name(server))));
        self
    }

    pub fn draining(mut self, app: &str, server: &str) -> Self {
        self.change(app, |b| {
            b.servers.get_mut(&server_name(server)).unwrap().state = lb_core::ServerState::Draining;
        });
        self
    }
}

/// Looks until it holds; fails with `what` after 10 s.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
