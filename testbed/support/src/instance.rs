//! A small server that says who it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// An instance, which dies when dropped: HTTP with `/slow-MILLISECONDS` and websocket upgrades, or an echo of bytes.
pub struct Instance {
    pub address: SocketAddr,
    pub connections: Arc<AtomicU64>,
    pub requests: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Instance {
    pub async fn http(name: &str) -> Self {
        Self::serve(name, Speaks::Http).await
    }

    pub async fn echo(name: &str) -> Self {
        Self::serve(name, Speaks::Echo).await
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    async fn serve(name: &str, speaks: Speaks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (opened, asked, name) = (connections.clone(), requests.clone(), name.to_owned());
        let task = tokio::spawn(async move {
            // Dropped with this task, and all connections with it.
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                opened.fetch_add(1, Ordering::Relaxed);
                while connections.try_join_next().is_some() {}
                match speaks {
                    Speaks::Http => connections.spawn(http(stream, name.clone(), asked.clone())),
                    Speaks::Echo => connections.spawn(echo(stream)),
                };
            }
        });
        Self { address, connections, requests, task }
    }
}

#[derive(Clone, Copy)]
enum Speaks {
    Http,
    Echo,
}

async fn echo(stream: TcpStream) -> Option<()> {
    let (mut read, mut write) = stream.into_split();
    tokio::io::copy(&mut read, &mut write).await.ok()?;
    None
}

async fn http(stream: TcpStream, name: String, requests: Arc<AtomicU64>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let (mut body, mut upgrade) = (0, false);
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).await.ok()?;
            let header = header.trim().to_ascii_lowercase();
            match header.split_once(':') {
                Some(("content-length", n)) => body = n.trim().parse().ok()?,
                Some(("upgrade", _)) => upgrade = true,
                Some(_) => {}
                None => break,
            }
        }
        let mut bytes = vec![0; body];
        stream.read_exact(&mut bytes).await.ok()?;
        requests.fetch_add(1, Ordering::Relaxed);
        if upgrade {
            let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            stream.write_all(head.as_bytes()).await.ok()?;
            let (mut read, mut write) = tokio::io::split(stream);
            tokio::io::copy(&mut read, &mut write).await.ok()?;
            return None;
        }
        if let Some((_, rest)) = line.split_once("/slow-") {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            tokio::time::sleep(Duration::from_millis(digits.parse().ok()?)).await;
        }
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        stream.write_all(text.as_bytes()).await.ok()?;
    }
}

/// Somewhere connections are neither accepted nor refused, as at the address of a container that is gone.
pub struct Unreachable {
    pub address: SocketAddr,
    _filled: (TcpListener, [TcpStream; 2]),
}

impl Unreachable {
    pub async fn new() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        // Linux queues one more than asked for, and lets those after them try again and again.
        let queued = [TcpStream::connect(address).await, TcpStream::connect(address).await];
        Self { address, _filled: (listener, queued.map(Result::unwrap)) }
    }
}
