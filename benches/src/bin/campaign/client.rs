//! A client that never tries again: HTTP/1.1, TLS, websockets and plain TCP over single connections.

use std::fmt::Debug;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

use super::trust::Anybody;

/// Longest time for a connection to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// Largest body that is read.
const MOST: usize = 8 << 20;

/// Where an app is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub port: u16,
    pub host: String,
    pub tls: bool,
}

/// An answer.
#[derive(Debug, Default)]
pub struct Reply {
    pub status: u16,
    /// Empty where the app did not say.
    pub version: String,
    pub instance: String,
    pub body: Vec<u8>,
    /// Whether the connection may carry another request.
    pub kept: bool,
}

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// An open connection.
pub struct Connection {
    stream: BufReader<Box<dyn Stream>>,
    /// What the listener showed.
    pub certificate: Option<CertificateDer<'static>>,
    /// Requests it has carried.
    pub carried: u32,
}

impl Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("carried", &self.carried).finish_non_exhaustive()
    }
}

impl Connection {
    pub async fn open(target: &Target) -> Result<Self, String> {
        let opened = tokio::time::timeout(CONNECT, Self::connect(target)).await;
        opened.map_err(|_| "connect: timed out".to_owned())?.map_err(|e| format!("connect: {e}"))
    }

    async fn connect(target: &Target) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, target.port));
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        if !target.tls {
            return Ok(Self::over(stream, None));
        }
        let name = ServerName::try_from(target.host.clone()).map_err(io::Error::other)?;
        let tls = TlsConnector::from(config()?).connect(name, stream).await?;
        let shown = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let shown = shown.map(|certificate| certificate.clone().into_owned());
        Ok(Self::over(tls, shown))
    }

    fn over(stream: impl Stream + 'static, certificate: Option<CertificateDer<'static>>) -> Self {
        Self { stream: BufReader::new(Box::new(stream)), certificate, carried: 0 }
    }

    /// Whether the other side has not closed it between two requests.
    pub async fn is_open(&mut self) -> bool {
        tokio::select! {
            biased;
            _ = self.stream.fill_buf() => false,
            () = std::future::ready(()) => true,
        }
    }

    /// Sends a request and reads its answer.
    pub async fn ask(
        &mut self,
        target: &Target,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<Reply, String> {
        let first = self.carried == 0;
        self.carried += 1;
        let length = match (method, body.len()) {
            ("GET", 0) => String::new(),
            (_, length) => format!("Content-Length: {length}\r\n"),
        };
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}{length}\r\n", target.host);
        let sent = self.send(head.as_bytes(), body).await;
        // An answer may be there although not all was taken.
        match (self.read().await, sent) {
            (Ok(reply), _) => Ok(reply),
            (Err(_), Err(error)) => Err(format!("send: {error}")),
            (Err(error), Ok(())) if first => Err(error.to_string()),
            (Err(error), Ok(())) => Err(format!("{error} on a kept connection")),
        }
    }

    async fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        self.stream.write_all(head).await?;
        self.stream.write_all(body).await?;
        self.stream.flush().await
    }

    async fn read(&mut self) -> io::Result<Reply> {
        let start = self.line().await?;
        let status = start.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no answer: {start}")))?;
        let mut reply = Reply { status, kept: true, ..Reply::default() };
        let (mut length, mut chunked) = (None, false);
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { break };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "x-version" => value.clone_into(&mut reply.version),
                "x-instance" => value.clone_into(&mut reply.instance),
                "content-length" => length = value.parse::<usize>().ok(),
                "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                "connection" => reply.kept = !value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        if status == 101 {
            return Ok(reply);
        }
        reply.body = match (chunked, length) {
            (true, _) => self.chunks().await?,
            (false, Some(length)) => self.exactly(length).await?,
            (false, None) => {
                reply.kept = false;
                self.rest().await?
            }
        };
        Ok(reply)
    }

    /// A line without its end.
    pub async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line).await? {
            0 => Err(io::Error::other("closed without an answer")),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut body = vec![0; length.min(MOST)];
        self.stream.read_exact(&mut body).await?;
        Ok(body)
    }

    async fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        (&mut self.stream).take(MOST as u64).read_to_end(&mut body).await?;
        Ok(body)
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(&self.line().await?, 16).map_err(io::Error::other)?;
            body.extend(self.exactly(size).await?);
            self.line().await?;
            if size == 0 || body.len() > MOST {
                return Ok(body);
            }
        }
    }

    /// Sends a line on a stream that sends back what it gets, and reads it.
    pub async fn echo(&mut self, text: &str) -> Result<(), String> {
        let sent = self.send(text.as_bytes(), b"\n").await;
        sent.map_err(|e| format!("send: {e}"))?;
        let got = self.line().await.map_err(|e| format!("read: {e}"))?;
        match got == text {
            true => Ok(()),
            false => Err(format!("sent {text:?}, got {got:?}")),
        }
    }
}

fn config() -> io::Result<Arc<ClientConfig>> {
    let anybody = Anybody::default();
    let builder = ClientConfig::builder_with_provider(anybody.provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(anybody));
    Ok(Arc::new(builder.with_no_client_auth()))
}
