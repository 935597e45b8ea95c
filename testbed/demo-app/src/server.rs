//! The listeners and their connections.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::http::Site;
use crate::{Config, Stop};

/// Wait after an accept that failed (no descriptor left): without it the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// An instance whose listeners are bound.
#[derive(Debug)]
pub struct App {
    config: Config,
    site: Arc<Site>,
    http: Option<TcpListener>,
    tcp: Option<TcpListener>,
}

impl App {
    /// Waits for the start delay, then binds what `config` asks for.
    ///
    /// # Errors
    /// When an address cannot be bound, or a text cannot stand in a header.
    pub async fn bind(config: Config) -> io::Result<Self> {
        tokio::time::sleep(config.start_delay).await;
        let http = bind(&config, config.http_port).await?;
        let tcp = bind(&config, config.tcp_port).await?;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let site = Arc::new(Site::new(&config, since.as_micros())?);
        Ok(Self { config, site, http, tcp })
    }

    /// Where HTTP is served.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref()?.local_addr().ok()
    }

    /// Where raw bytes are sent back.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref()?.local_addr().ok()
    }

    /// Serves until `stop` resolves, and then ends as the configuration's `stop` says.
    pub async fn serve_until(self, stop: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        // Each TCP connection holds a sender: the channel closes when the last has ended.
        let (open, mut closed) = mpsc::channel::<Infallible>(1);
        let hello = self
            .config
            .tcp_hello
            .then(|| Arc::from(format!("{} {}\n", self.config.instance, self.config.version)));
        tokio::select! {
            biased;
            () = stop => {}
            () = accept(self.http.as_ref(), |stream| {
                tokio::spawn(http_connection(stream, self.site.clone(), graceful.watcher()));
            }) => {}
            () = accept(self.tcp.as_ref(), |stream| {
                tokio::spawn(echo_connection(stream, hello.clone(), open.clone()));
            }) => {}
        }
        drop((self.http, self.tcp, open));
        if self.config.stop == Stop::Graceful {
            graceful.shutdown().await;
            closed.recv().await;
        }
    }
}

async fn bind(config: &Config, port: Option<u16>) -> io::Result<Option<TcpListener>> {
    let Some(port) = port else { return Ok(None) };
    let address = SocketAddr::new(config.bind, port);
    let listener = TcpListener::bind(address).await;
    listener.map(Some).map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}

async fn accept(listener: Option<&TcpListener>, serve: impl Fn(TcpStream)) {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Only a hint: without it answers are merely slower.
                let _ = stream.set_nodelay(true);
                serve(stream);
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn http_connection(stream: TcpStream, site: Arc<Site>, watcher: Watcher) {
    let service = service_fn(|request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(site.answer(request).await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    // An error is the client's going away: no one is left to hear of it.
    let _ = watcher.watch(connection.into_owned()).await;
}

async fn echo_connection(
    mut stream: TcpStream,
    hello: Option<Arc<str>>,
    _open: mpsc::Sender<Infallible>,
) {
    if let Some(hello) = hello
        && stream.write_all(hello.as_bytes()).await.is_err()
    {
        return;
    }
    let (mut read, mut write) = stream.split();
    let _ = tokio::io::copy(&mut read, &mut write).await;
}
