//! An engine that answers as it is told, over a unix socket or any stream: HTTP/1.1 by hand. It knows no
//! engine's API.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// With the version and the query.
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Asked {
    /// `GET /containers/json`, without version and query.
    pub fn call(&self) -> String {
        let path = self.path.split('?').next().unwrap();
        let rest = path.strip_prefix("/v").and_then(|p| p.find('/').map(|i| &p[i..]));
        format!("{} {}", self.method, rest.filter(|r| *r != "ersion").unwrap_or(path))
    }
}

/// What to answer.
#[derive(Debug, Clone)]
pub enum Reply {
    Json(u16, Value),
    Text(u16, &'static str),
    /// After so long.
    Late(Duration, Value),
    /// Never.
    Hang,
    /// The connection is closed without a word.
    Close,
    /// 200, these lines, then silence; or the end of the stream.
    Lines(Vec<Value>, Then),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Silence,
    End,
}

type Answer = dyn Fn(&Asked, usize) -> Reply + Send + Sync;

/// The state behind the socket.
pub struct Engine {
    answer: Box<Answer>,
    asked: Mutex<Vec<Asked>>,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Engine {
    /// `answer` gets each request and how often the same call came before.
    pub fn new(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            answer: Box::new(answer),
            asked: Mutex::default(),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        })
    }

    /// All calls so far, `GET /version` left out.
    pub fn calls(&self) -> Vec<String> {
        self.asked().iter().map(Asked::call).filter(|c| c != "GET /version").collect()
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The most requests that were being answered at once.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    fn take(&self, asked: &Asked) -> Reply {
        let mut all = self.asked.lock().unwrap();
        let before = all.iter().filter(|a| a.call() == asked.call()).count();
        all.push(asked.clone());
        drop(all);
        (self.answer)(asked, before)
    }

    /// One connection, one request.
    pub async fn serve(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut stream = BufReader::new(stream);
        let Some(asked) = read(&mut stream).await else { return };
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        write(&mut stream, self.take(&asked)).await;
        self.now.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn read(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
    let mut words = line.split_ascii_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Asked { method, path, headers, body: String::from_utf8(body).unwrap() })
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), reply: Reply) {
    let whole = |status: u16, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let text = match reply {
        Reply::Json(204, _) => "HTTP/1.1 204 X\r\n\r\n".to_owned(),
        Reply::Json(status, body) => whole(status, &body.to_string()),
        Reply::Text(status, body) => whole(status, body),
        Reply::Late(time, body) => {
            tokio::time::sleep(time).await;
            whole(200, &body.to_string())
        }
        Reply::Hang => std::future::pending().await,
        Reply::Close => return,
        Reply::Lines(lines, then) => {
            let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
            let lines = lines.join("\n") + "\n";
            let head = "HTTP/1.1 200 X\r\nDate: Mon, 02 Mar 2026 10:00:00 GMT\r\n\r\n";
            let _ = stream.write_all(format!("{head}{lines}").as_bytes()).await;
            if then == Then::Silence {
                std::future::pending::<()>().await;
            }
            return;
        }
    };
    // The client may have gone: that is its right.
    let _ = stream.write_all(text.as_bytes()).await;
}

/// A unix socket of its own that an engine listens on, or does not.
pub struct Listening {
    folder: tempfile::TempDir,
    server: Option<JoinHandle<()>>,
}

impl Listening {
    /// Not listening yet.
    pub fn silent() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), server: None }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    pub fn start(&mut self, engine: &Arc<Engine>) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let engine = engine.clone();
        self.server = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(engine.clone().serve(stream));
            }
        }));
    }

    /// Ends every connection, as the death of an engine does.
    pub async fn stop(&mut self) {
        let server = self.server.take().unwrap();
        server.abort();
        drop(server.await);
        std::fs::remove_file(self.socket()).unwrap();
    }
}

pub fn refuse(status: u16, message: &str) -> Reply {
    Reply::Json(status, json!({ "message": message }))
}

/// An engine on a socket of its own, and a runtime that speaks to it.
pub struct Fake<R> {
    pub engine: Arc<Engine>,
    pub runtime: R,
    pub socket: PathBuf,
    listening: Listening,
}

impl<R> Fake<R> {
    /// `runtime` connects to a socket. Not listening yet.
    pub fn down(
        runtime: impl FnOnce(&Path) -> R,
        answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let (engine, listening) = (Engine::new(answer), Listening::silent());
        let socket = listening.socket();
        Self { engine, runtime: runtime(&socket), socket, listening }
    }

    pub fn start(&mut self) {
        self.listening.start(&self.engine);
    }

    /// Ends every connection, as the death of an engine does.
    pub async fn stop(&mut self) {
        self.listening.stop().await;
    }
}
