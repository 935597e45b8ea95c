//! Servers behind the balancer: they say who they are.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::model::ServerName;

/// A server on a loopback port of its own: HTTP that answers `NAME PATH`, or a byte stream that greets with
/// its name in a line and echoes. Dropped, it takes no more connections.
#[derive(Debug)]
pub struct Site {
    /// What it is called in tables and answers.
    pub name: ServerName,
    /// Its id in tables.
    pub id: NonZeroU32,
    /// Where it listens.
    pub address: SocketAddr,
    requests: Arc<AtomicU64>,
    task: AbortHandle,
}

#[derive(Clone, Copy)]
enum Speaks {
    Http,
    Echo,
}

impl Site {
    /// An HTTP/1.1 server named `s` and the id.
    pub async fn http(id: u32) -> Self {
        Self::start(id, Speaks::Http).await
    }

    /// A server of byte streams.
    pub async fn echo(id: u32) -> Self {
        Self::start(id, Speaks::Echo).await
    }

    /// Requests it has answered.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    async fn start(id: u32, speaks: Speaks) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let name = ServerName::new(format!("s{id}")).unwrap();
        let requests = Arc::<AtomicU64>::default();
        let (who, count) = (name.to_string(), requests.clone());
        let serve = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                match speaks {
                    Speaks::Http => drop(tokio::spawn(http(stream, who.clone(), count.clone()))),
                    Speaks::Echo => drop(tokio::spawn(echo(stream, who.clone()))),
                }
            }
        };
        let id = NonZeroU32::new(id).unwrap();
        Self { name, id, address, requests, task: tokio::spawn(serve).abort_handle() }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers requests without a body until the client goes.
async fn http(stream: TcpStream, name: String, requests: Arc<AtomicU64>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if stream.read_line(&mut request).await.ok()? == 0 {
            return None;
        }
        let mut header = String::new();
        while header != "\r\n" {
            header.clear();
            if stream.read_line(&mut header).await.ok()? == 0 {
                return None;
            }
        }
        requests.fetch_add(1, Ordering::Relaxed);
        let body = format!("{name} {}", request.split(' ').nth(1)?);
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.get_mut().write_all(answer.as_bytes()).await.ok()?;
    }
}

async fn echo(mut stream: TcpStream, name: String) -> Option<()> {
    stream.write_all(format!("{name}\n").as_bytes()).await.ok()?;
    let mut bytes = [0; 256];
    loop {
        match stream.read(&mut bytes).await.ok()? {
            0 => return None,
            n => stream.write_all(&bytes[..n]).await.ok()?,
        }
    }
}
