//! The way to the engine: one connection a call, over a unix socket, TCP or TLS.
//!
//! bollard's own transports refuse a socket that is not there yet, take the TLS provider from a process
//! global, send no API version, and encode registry logins so that Docker drops some of them. This one
//! connects when asked, carries its provider, and mends the other two on the way out. A connection per
//! call costs 0.1 ms on a unix socket and leaves no pool to go stale when the engine restarts.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bollard::errors::Error as BollardError;
use bollard::{BollardRequest, ClientVersion};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{DATE, HOST, HeaderValue};
use hyper::rt::{Read, Write};
use hyper::{Response, Uri};
use hyper_util::rt::TokioIo;
use jiff::fmt::rfc2822;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::endpoint::{Endpoint, authority};
use lb_core::{Error, Result};

/// Longest wait for a connection, TLS included.
pub(crate) const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// A transport for bollard.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    way: Arc<Way>,
    version: Arc<Version>,
    taken: Option<mpsc::Sender<Taken>>,
}

/// The engine has taken a request.
#[derive(Debug)]
pub(crate) struct Taken {
    /// When, by its own clock, in whole seconds.
    pub(crate) at: Option<jiff::Timestamp>,
}

/// The API version to ask for, once agreed.
#[derive(Debug, Default)]
struct Version {
    /// 0 while not agreed; there is no API 0.x.
    major: AtomicUsize,
    minor: AtomicUsize,
}

enum Way {
    Unix(std::path::PathBuf),
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16, name: ServerName<'static>, config: Arc<ClientConfig> },
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix {}", path.display()),
            Self::Tcp { host, port } => write!(f, "tcp {}", authority(host, *port)),
            Self::Tls { host, port, .. } => write!(f, "tls {}", authority(host, *port)),
        }
    }
}

impl Transport {
    /// Reads the certificates where there are any; connects to nothing.
    pub(crate) fn new(endpoint: &Endpoint) -> Result<Self> {
        let way = match endpoint {
            Endpoint::Unix(path) => Way::Unix(path.clone()),
            Endpoint::Tcp { host, port } => Way::Tcp { host: host.clone(), port: *port },
            Endpoint::Tls { host, port, certificates } => {
                let rule = "must be a DNS name or an address";
                let name = ServerName::try_from(host.clone()).map_err(|e| {
                    Error::invalid(format!("engine host {host:?}"), rule).with_source(e)
                })?;
                let config = Arc::new(tls_config(certificates)?);
                Way::Tls { host: host.clone(), port: *port, name, config }
            }
        };
        Ok(Self { way: Arc::new(way), version: Arc::default(), taken: None })
    }

    /// The same way, telling `taken` when the engine has begun to answer a request.
    pub(crate) fn telling(&self, taken: mpsc::Sender<Taken>) -> Self {
        Self { taken: Some(taken), ..self.clone() }
    }

    /// The same way without a version, to agree on one.
    pub(crate) fn unversioned(&self) -> Self {
        Self { version: Arc::default(), ..self.clone() }
    }

    pub(crate) fn is_agreed(&self) -> bool {
        self.version.major.load(Ordering::Acquire) != 0
    }

    pub(crate) fn agree(&self, version: ClientVersion) {
        self.version.minor.store(version.minor_version, Ordering::Release);
        self.version.major.store(version.major_version, Ordering::Release);
    }

    /// The engine went away: it may come back as another version.
    pub(crate) fn forget_version(&self) {
        self.version.major.store(0, Ordering::Release);
    }

    /// Path and query with the agreed version in front, as an HTTP/1.1 client sends them to a server.
    fn target(&self, uri: &Uri) -> Result<Uri, BollardError> {
        let rest = uri.path_and_query().map_or("/", |p| p.as_str());
        let major = self.version.major.load(Ordering::Acquire);
        let minor = self.version.minor.load(Ordering::Acquire);
        let text = match major {
            0 => rest.to_owned(),
            _ => format!("/v{major}.{minor}{rest}"),
        };
        Ok(text.parse::<Uri>()?)
    }

    /// Sends one request on a connection of its own.
    pub(crate) async fn send(
        self,
        mut request: BollardRequest,
    ) -> Result<Response<Incoming>, BollardError> {
        *request.uri_mut() = self.target(request.uri())?;
        request.headers_mut().insert(HOST, self.way.host());
        mend_registry_login(&mut request);
        let response = self.way.send(request).await?;
        if let Some(taken) = self.taken.filter(|_| response.status().is_success()) {
            let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
            let at = date.and_then(|date| rfc2822::parse(date).ok()).map(|zoned| zoned.timestamp());
            // Full or closed: nobody waits for it any more.
            drop(taken.try_send(Taken { at }));
        }
        Ok(response)
    }
}

/// Docker decodes the login as URL-safe base64 and takes what does not decode for no login at all
/// (moby `api/server/router/image/image_routes.go`); bollard writes the standard alphabet.
fn mend_registry_login(request: &mut BollardRequest) {
    let Some(login) = request.headers_mut().get_mut("x-registry-auth") else { return };
    let mended: Vec<u8> = login.as_bytes().iter().map(|b| url_safe(*b)).collect();
    if let Ok(mut value) = HeaderValue::from_bytes(&mended) {
        value.set_sensitive(true);
        *login = value;
    }
}

const fn url_safe(byte: u8) -> u8 {
    match byte {
        b'+' => b'-',
        b'/' => b'_',
        other => other,
    }
}

impl Way {
    fn host(&self) -> HeaderValue {
        let text = match self {
            Self::Unix(_) => "docker".to_owned(),
            Self::Tcp { host, port } | Self::Tls { host, port, .. } => authority(host, *port),
        };
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("docker"))
    }

    async fn send(&self, request: BollardRequest) -> Result<Response<Incoming>, BollardError> {
        let connect = async {
            match self {
                Self::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
                Self::Tcp { host, port } => Ok(Stream::Tcp(dial(host, *port).await?)),
                Self::Tls { host, port, name, config } => {
                    let plain = dial(host, *port).await?;
                    let tls = TlsConnector::from(config.clone()).connect(name.clone(), plain).await;
                    Ok(Stream::Tls(Box::new(tls.map_err(|e| no_tls(&e))?)))
                }
            }
        };
        let late = || {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection within {CONNECT_DEADLINE:?}"),
            )
        };
        let stream = tokio::time::timeout(CONNECT_DEADLINE, connect)
            .await
            .unwrap_or_else(|_| Err(late()))
            .map_err(|e| io::Error::new(e.kind(), NotConnected(e)))?;
        match stream {
            Stream::Unix(io) => exchange(TokioIo::new(io), request).await,
            Stream::Tcp(io) => exchange(TokioIo::new(io), request).await,
            Stream::Tls(io) => exchange(TokioIo::new(*io), request).await,
        }
    }
}

/// Marks an error as "nothing was sent".
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotConnected(io::Error);

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Says what rustls only hints at: which side did not believe which.
fn no_tls(error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!(
            "TLS with the engine failed (its certificate against ca.pem, or ours against its own authority): {error}"
        ),
    )
}

/// One request on a connection of its own, which a task drives until the answer's body ends or is dropped.
async fn exchange<T>(io: T, request: BollardRequest) -> Result<Response<Incoming>, BollardError>
where
    T: Read + Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(io).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "engine connection ended");
        }
    });
    Ok(sender.send_request(request).await?)
}

fn tls_config(directory: &Path) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&directory.join("ca.pem"))? {
        roots.add(certificate).map_err(|e| bad_pem(&directory.join("ca.pem"), e))?;
    }
    let own = certificates(&directory.join("cert.pem"))?;
    let path = directory.join("key.pem");
    let key = PrivateKeyDer::from_pem_slice(&read(&path)?).map_err(|e| bad_pem(&path, e))?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| bad_pem(directory, e))?;
    builder
        .with_root_certificates(roots)
        .with_client_auth_cert(own, key)
        .map_err(|e| bad_pem(&path, e))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|e| bad_pem(path, e))?;
    match certificates.is_empty() {
        true => Err(Error::invalid(file(path), "must hold at least one PEM certificate")),
        false => Ok(certificates),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| {
        Error::invalid(file(path), format!("must be readable for TLS with the engine: {e}"))
            .with_source(e)
    })
}

fn bad_pem(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::invalid(file(path), format!("must be PEM that TLS can use: {error}")).with_source(error)
}

fn file(path: &Path) -> String {
    format!("file {:?}", path.display().to_string())
}
