//! Small apps on loopback and a client, both of which see every byte.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How long anything here may take.
pub const DEADLINE: Duration = Duration::from_secs(10);

pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Ports nobody listens on now.
pub fn free_ports<const N: usize>() -> [u16; N] {
    std::array::from_fn(|_| crate::free_port())
}

/// Waits until somebody accepts there.
pub async fn accepting(address: SocketAddr) {
    let end = Instant::now() + DEADLINE;
    while TcpStream::connect(address).await.is_err() {
        assert!(Instant::now() < end, "{address} does not accept");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What an app does with a request it has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Answers 200 with the request as the app saw it.
    Echo,
    /// The same, and asks NGINX to go elsewhere and to be slow.
    Direct,
    /// Closes the connection without a byte.
    Die,
    /// Answers 101 and sends back whatever comes.
    Upgrade,
    /// The same where it is asked to: 101 to an `Upgrade`, of the first protocol named, and 200 to a `CONNECT`.
    /// Else as `Echo`.
    TakeUp,
    /// Answers 101 with HTTP/2 in the clear, whatever was asked for, and sends back what comes.
    Usurp,
    /// As `Echo`, with fields that are between it and who is connected to it.
    Hops,
    /// As `Echo`, after a 103.
    Hint,
    /// As `Echo`, with so many cookies of 1,000 bytes as the path says.
    Bake,
}

/// A small HTTP/1.1 app.
#[derive(Debug, Clone)]
pub struct App {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Message>>>,
}

impl App {
    /// An app whose answers carry its name.
    pub async fn start(name: &'static str, manner: Manner) -> Self {
        let listener = TcpListener::bind(local(0)).await.unwrap();
        let app = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let seen = Arc::clone(&app.seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, name, manner, Arc::clone(&seen)));
            }
        });
        app
    }

    /// Requests read so far, health checks (by TCP connect) not among them.
    pub fn seen(&self) -> Vec<Message> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(stream: TcpStream, name: &str, manner: Manner, seen: Arc<Mutex<Vec<Message>>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_message(&mut stream).await {
        seen.lock().unwrap().push(request.clone());
        if manner == Manner::Die {
            return;
        }
        if let Some(head) = switch(manner, &request) {
            stream.write_all(head.as_bytes()).await.unwrap();
            let (mut from, mut to) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut from, &mut to).await;
            return;
        }
        let length = request.body.len();
        let before = match manner {
            Manner::Hint => "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n",
            _ => "",
        };
        let more = match manner {
            Manner::Direct => "X-Accel-Redirect: /elsewhere\r\nX-Accel-Limit-Rate: 1\r\n",
            Manner::Hops => {
                "Connection: Upgrade, X-Own\r\nUpgrade: h2,h2c\r\nKeep-Alive: timeout=5\r\n\
                 Proxy-Connection: keep-alive\r\nX-Own: 1\r\n"
            }
            _ => "",
        };
        let cookies = match manner {
            Manner::Bake => cookies(&request),
            _ => String::new(),
        };
        let head = format!(
            "{before}HTTP/1.1 200 OK\r\nX-App: {name}\r\n{more}{cookies}Content-Length: {length}\r\n\r\n"
        );
        let answer = [head.as_bytes(), &request.body].concat();
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// As many as the last segment of the path says.
fn cookies(request: &Message) -> String {
    let path = request.start.split(' ').nth(1).unwrap_or_default();
    let count = path.rsplit('/').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let cookie = |n: usize| format!("Set-Cookie: c{n:02}={}\r\n", "v".repeat(982));
    (0..count).map(cookie).collect::<Vec<_>>().concat()
}

/// The head of an answer after which the connection is a stream; `None`: this one has another.
fn switch(manner: Manner, request: &Message) -> Option<String> {
    let asked = || request.header("upgrade")?.split(',').next();
    let protocol = match manner {
        Manner::Upgrade => "websocket",
        Manner::Usurp => "h2c",
        Manner::TakeUp if request.start.starts_with("CONNECT") => {
            return Some("HTTP/1.1 200 OK\r\n\r\n".to_owned());
        }
        Manner::TakeUp => asked()?.trim(),
        _ => return None,
    };
    // The answer to the key of RFC 6455, 1.3; HAProxy checks it.
    Some(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\
         Sec-WebSocket-Accept: s3pPLBMiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    ))
}

/// A request or an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The first line.
    pub start: String,
    /// Names in lower case; values of equal names in order.
    pub headers: BTreeMap<String, Vec<String>>,
    pub body: Vec<u8>,
}

impl Message {
    /// The value of a header that stands once.
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.headers.get(name).map(Vec::as_slice) {
            None => None,
            Some([one]) => Some(one),
            Some(many) => panic!("{name} stands {} times: {many:?}", many.len()),
        }
    }

    /// The status of an answer.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_default()
    }

    /// Which app answered.
    pub fn app(&self) -> Option<&str> {
        self.header("x-app")
    }
}

/// Reads one message; `None` when the other side closed before it was whole.
pub async fn read_message(stream: &mut BufReader<TcpStream>) -> Option<Message> {
    let mut message = Message { start: read_line(stream).await?, ..Message::default() };
    loop {
        let line = read_line(stream).await?;
        let Some((name, value)) = line.split_once(':') else { break };
        let values = message.headers.entry(name.to_ascii_lowercase()).or_default();
        values.push(value.trim().to_owned());
    }
    if message.header("transfer-encoding") == Some("chunked") {
        loop {
            let size = usize::from_str_radix(&read_line(stream).await?, 16).ok()?;
            let mut chunk = vec![0; size];
            stream.read_exact(&mut chunk).await.ok()?;
            read_line(stream).await?;
            message.body.extend(chunk);
            if size == 0 {
                return Some(message);
            }
        }
    }
    let length = message.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    message.body = vec![0; length];
    stream.read_exact(&mut message.body).await.ok()?;
    Some(message)
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    match stream.read_line(&mut line).await {
        Ok(n) if n > 0 => Some(line.trim_end().to_owned()),
        _ => None,
    }
}

/// A connection to the proxy.
#[derive(Debug)]
pub struct Client(pub BufReader<TcpStream>);

impl Client {
    pub async fn connect(port: u16) -> Self {
        Self::connect_from(Ipv4Addr::LOCALHOST, port).await
    }

    /// From another loopback address.
    pub async fn connect_from(from: Ipv4Addr, port: u16) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        Self(BufReader::new(socket.connect(local(port)).await.unwrap()))
    }

    /// Sends bytes and reads one answer; `None` when the proxy closed without a whole one.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> Option<Message> {
        // A refusal may close before all was sent; its answer is then there to read all the same.
        let _ = self.0.write_all(request.as_ref()).await;
        tokio::time::timeout(DEADLINE, read_message(&mut self.0)).await.expect("an answer in time")
    }
}

/// One request on its own connection.
pub async fn ask(port: u16, request: impl AsRef<[u8]>) -> Message {
    Client::connect(port).await.ask(request).await.expect("an answer")
}

/// `GET` of a path (sent as it is) with a `Host` header (sent as it is).
pub async fn get(port: u16, host: &str, path: &str) -> Message {
    ask(port, format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await
}
