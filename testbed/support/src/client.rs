//! Clients that never try again: whatever is refused, reset, short, late or not 200 is a failure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longest time any request may take.
const DEADLINE: Duration = Duration::from_secs(15);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    pub cookie: Option<String>,
    pub closes: bool,
}

/// A connection that asks again and again.
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub async fn open(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    pub async fn ask(&mut self, head: &str, body: &str) -> Result<Answer, String> {
        match timeout(DEADLINE, self.exchange(head, body)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err("late".to_owned()),
        }
    }

    async fn exchange(&mut self, head: &str, body: &str) -> std::io::Result<Answer> {
        let text = format!("{head}Host: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        self.0.get_mut().write_all(text.as_bytes()).await?;
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        let wrong = |what: &str| std::io::Error::other(format!("{what}: {line:?}"));
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
        let mut answer = Answer {
            status: status.ok_or_else(|| wrong("no status"))?,
            body: String::new(),
            cookie: None,
            closes: false,
        };
        let mut length = 0;
        loop {
            let mut header = String::new();
            if self.0.read_line(&mut header).await? == 0 {
                return Err(wrong("cut in the headers"));
            }
            let lower = header.trim().to_ascii_lowercase();
            match lower.split_once(": ") {
                Some(("content-length", n)) => length = n.parse().unwrap_or(0),
                Some(("connection", "close")) => answer.closes = true,
                Some(("set-cookie", _)) => {
                    let value = header.trim().split_once(": ").map(|(_, v)| v);
                    answer.cookie = value.and_then(|v| v.split(';').next()).map(str::to_owned);
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).await?;
        answer.body = String::from_utf8_lossy(&bytes).into_owned();
        Ok(answer)
    }
}

/// One request on a connection of its own.
pub async fn get(port: u16, path: &str) -> Result<Answer, String> {
    get_with(port, path, "").await
}

/// The same with further headers, each ended.
pub async fn get_with(port: u16, path: &str, headers: &str) -> Result<Answer, String> {
    let mut client = Client::open(port).await.map_err(|e| e.to_string())?;
    client.ask(&format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}"), "").await
}

/// Load that goes on until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    pub sent: Arc<AtomicU64>,
    pub failures: Arc<Mutex<Vec<String>>>,
    pub by_server: Arc<Mutex<BTreeMap<String, u64>>>,
    tasks: Vec<JoinHandle<()>>,
}

/// How a load's connections are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    KeepAlive,
    Close,
}

impl Load {
    /// `connections` clients in each of the modes. One request in 8 is a POST with a body.
    pub fn start(port: u16, path: &str, connections: usize, modes: &[Mode]) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            sent: Arc::default(),
            failures: Arc::default(),
            by_server: Arc::default(),
            tasks: Vec::new(),
        };
        for mode in modes {
            for _ in 0..connections {
                let task = run(
                    port,
                    path.to_owned(),
                    *mode,
                    load.stop.clone(),
                    load.sent.clone(),
                    load.failures.clone(),
                    load.by_server.clone(),
                );
                load.tasks.push(tokio::spawn(task));
            }
        }
        load
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits for so many further requests.
    pub async fn more(&self, requests: u64) {
        let goal = self.sent() + requests;
        crate::eventually("more requests", async || self.sent() >= goal).await;
    }

    /// Ends it: how many requests there were. Panics if one failed.
    pub async fn finish(self) -> u64 {
        let (sent, failures) = self.end().await;
        assert!(
            failures.is_empty(),
            "{} of {sent} failed: {:?}",
            failures.len(),
            &failures[..failures.len().min(5)]
        );
        sent
    }

    /// Ends it: how many requests there were, and those that failed, in words.
    pub async fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let failures = self.failures.lock().unwrap().clone();
        (self.sent.load(Ordering::Relaxed), failures)
    }
}

async fn run(
    port: u16,
    path: String,
    mode: Mode,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    by_server: Arc<Mutex<BTreeMap<String, u64>>>,
) {
    let mut open: Option<Client> = None;
    while !stop.load(Ordering::Relaxed) {
        let number = sent.fetch_add(1, Ordering::Relaxed);
        let method = if number.is_multiple_of(8) { "POST" } else { "GET" };
        let body = if number.is_multiple_of(8) { "x".repeat(2_000) } else { String::new() };
        let head = match mode {
            Mode::KeepAlive => format!("{method} {path} HTTP/1.1\r\n"),
            Mode::Close => format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n"),
        };
        let mut client = match open.take() {
            Some(client) => client,
            None => match Client::open(port).await {
                Ok(client) => client,
                Err(e) => {
                    failures.lock().unwrap().push(format!("{mode:?} connect: {e}"));
                    continue;
                }
            },
        };
        match client.ask(&head, &body).await {
            Ok(answer) if answer.status == 200 => {
                *by_server.lock().unwrap().entry(answer.body).or_default() += 1;
                if mode == Mode::KeepAlive && !answer.closes {
                    open = Some(client);
                }
            }
            Ok(answer) => {
                failures.lock().unwrap().push(format!("{mode:?} {method} {}", answer.status));
            }
            Err(e) => failures.lock().unwrap().push(format!("{mode:?} {method} {e}")),
        }
    }
}

/// A stream that stays open and is asked for an echo now and then.
pub struct Stream(TcpStream);

impl Stream {
    /// Bytes to an echo.
    pub async fn tcp(port: u16) -> Self {
        Self(TcpStream::connect(("127.0.0.1", port)).await.unwrap())
    }

    /// A websocket (its handshake; what follows are bytes to HAProxy).
    pub async fn websocket(port: u16, path: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            text.push(timeout(DEADLINE, stream.read_u8()).await.unwrap().unwrap());
        }
        assert!(text.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&text));
        Self(stream)
    }

    pub async fn echoes(&mut self, text: &str) -> bool {
        let work = async {
            self.0.write_all(text.as_bytes()).await?;
            let mut back = vec![0; text.len()];
            self.0.read_exact(&mut back).await?;
            std::io::Result::Ok(back == text.as_bytes())
        };
        matches!(timeout(DEADLINE, work).await, Ok(Ok(true)))
    }
}
