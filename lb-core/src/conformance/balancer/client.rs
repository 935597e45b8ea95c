//! Clients before the balancer: they never try again, and what is refused, cut or late is a failure.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest a request may take.
const LONGEST: Duration = Duration::from_secs(15);

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: String,
}

/// A `GET` on a connection of its own.
///
/// # Errors
/// When it is refused, cut, late, or no HTTP.
pub async fn get(to: SocketAddr, host: &str, path: &str) -> io::Result<Answer> {
    timeout(LONGEST, exchange(to, host, path)).await?
}

async fn exchange(to: SocketAddr, host: &str, path: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(to).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let wrong = || io::Error::other(format!("no whole answer: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(wrong)?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(wrong)?;
    match head.lines().find_map(content_length) {
        Some(length) if length != body.len() => Err(wrong()),
        _ => Ok(Answer { status, body: body.to_owned() }),
    }
}

/// A client that keeps its connection.
#[derive(Debug)]
pub struct Kept {
    stream: BufReader<TcpStream>,
}

impl Kept {
    /// Connects.
    ///
    /// # Errors
    /// When it is refused or late.
    pub async fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = timeout(LONGEST, TcpStream::connect(to)).await??;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// The answer to a `GET` of `/`, whose length must be told.
    ///
    /// # Errors
    /// When the connection is shut, or the answer late or no HTTP.
    pub async fn get(&mut self, host: &str) -> io::Result<Answer> {
        timeout(LONGEST, self.exchange(host)).await?
    }

    async fn exchange(&mut self, host: &str) -> io::Result<Answer> {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).await?;
        let (mut status, mut length) = (None, None);
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match (line.trim_end(), status) {
                ("", _) => break,
                (line, None) => status = line.split(' ').nth(1).and_then(|s| s.parse().ok()),
                (line, _) => length = content_length(line).or(length),
            }
        }
        let wrong = || io::Error::other("no answer with a length");
        let (status, length) = status.zip(length).ok_or_else(wrong)?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        let body = String::from_utf8(body).map_err(io::Error::other)?;
        Ok(Answer { status, body })
    }
}

fn content_length(line: &str) -> Option<usize> {
    let (name, value) = line.split_once(':')?;
    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
}

/// A byte stream through the balancer to a [`Site::echo`](super::Site::echo).
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    /// Who greeted.
    pub server: String,
}

impl Connection {
    /// Connects and waits for the greeting.
    ///
    /// # Errors
    /// When it is refused, cut or late.
    pub async fn open(to: SocketAddr) -> io::Result<Self> {
        let greeted = async {
            let mut stream = BufReader::new(TcpStream::connect(to).await?);
            let mut server = String::new();
            match stream.read_line(&mut server).await? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(Self { stream, server: server.trim().to_owned() }),
            }
        };
        timeout(LONGEST, greeted).await?
    }

    /// Whether what is sent comes back.
    pub async fn echoes(&mut self) -> bool {
        let exchange = async {
            self.stream.get_mut().write_all(b"ping").await?;
            let mut back = [0; 4];
            self.stream.read_exact(&mut back).await?;
            io::Result::Ok(back == *b"ping")
        };
        matches!(timeout(LONGEST, exchange).await, Ok(Ok(true)))
    }
}
