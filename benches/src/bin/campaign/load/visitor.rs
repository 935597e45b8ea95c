//! One client with its way of asking.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::apps::{CERTIFICATES, Name, Wanted};
use crate::bounds::{PATIENCE, SLOW};
use crate::client::{Connection, Reply, Target};
use crate::desk::Desk;
use crate::judge::{Answer, At};

/// Between two requests of one visitor.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two echoes on a stream.
const BEAT: Duration = Duration::from_millis(200);
/// Bytes of an upload.
const UPLOAD: usize = 200 * 1024;

/// How a visitor asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Many requests on one connection.
    Kept,
    /// One request on each.
    Closed,
    /// The app takes its time.
    Slow,
    /// With a body, which must come back.
    Upload,
    /// A websocket for as long as it lasts.
    Websocket,
    /// A TCP connection for a line and its echo.
    Knock,
    /// A TCP connection for as long as it lasts.
    Raw,
}

#[derive(Debug)]
pub(super) struct Visitor {
    desk: Arc<Desk>,
    app: Name,
    route: u32,
    target: Target,
    manner: Manner,
    leave: Arc<AtomicBool>,
    connection: Option<Connection>,
}

/// Version and instance of who answered.
type Who = (String, String);

impl Visitor {
    pub(super) fn new(
        desk: Arc<Desk>,
        wanted: &Wanted,
        target: Target,
        manner: Manner,
        leave: Arc<AtomicBool>,
    ) -> Self {
        let (app, route) = (wanted.name, wanted.route);
        Self { desk, app, route, target, manner, leave, connection: None }
    }

    /// Asks until it is told to leave.
    pub(super) async fn visit(mut self) {
        while !self.leave.load(Ordering::Relaxed) {
            let good = match self.manner {
                Manner::Websocket | Manner::Raw => self.stay().await,
                _ => self.ask_once().await,
            };
            sleep(if good { PAUSE } else { PAUSE * 2 }).await;
        }
    }

    async fn ask_once(&mut self) -> bool {
        if let Some(connection) = &mut self.connection
            && !connection.is_open().await
        {
            // Closed between two requests: none was on it.
            self.connection = None;
        }
        let sent = self.desk.now();
        let more = if self.manner == Manner::Slow { SLOW } else { Duration::ZERO };
        let result = match timeout(PATIENCE + more, self.exchange()).await {
            Ok(result) => result,
            Err(_) => Err("no answer in time".to_owned()),
        };
        if result.is_err() {
            self.connection = None;
        }
        self.report(sent, result)
    }

    fn report(&self, sent: At, result: Result<Who, String>) -> bool {
        let good = result.is_ok();
        let (app, route, what) = (self.app, self.route, self.what());
        let ended = self.desk.now();
        self.desk.judge().answered(&Answer { app, route, sent, ended, what, result });
        good
    }

    const fn what(&self) -> &'static str {
        match self.manner {
            Manner::Kept => "GET, kept alive",
            Manner::Closed => "GET, closed",
            Manner::Slow => "slow GET",
            Manner::Upload => "upload",
            Manner::Websocket => "websocket",
            Manner::Knock => "TCP connection",
            Manner::Raw => "TCP stream",
        }
    }

    async fn exchange(&mut self) -> Result<Who, String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open().await?,
        };
        if self.manner == Manner::Knock {
            let who = hello(&mut connection).await?;
            connection.echo("knock").await?;
            return Ok(who);
        }
        let reply = self.request(&mut connection).await?;
        if reply.kept && self.manner != Manner::Closed {
            self.connection = Some(connection);
        }
        who(&reply)
    }

    async fn request(&self, connection: &mut Connection) -> Result<Reply, String> {
        let target = &self.target;
        match self.manner {
            Manner::Upload => {
                let body = vec![b'u'; UPLOAD];
                let reply = connection.ask(target, "POST", "/echo", "", &body).await?;
                match reply.status == 200 && reply.body != body {
                    true => Err(format!("sent {UPLOAD} bytes, got {} back", reply.body.len())),
                    false => Ok(reply),
                }
            }
            Manner::Slow => {
                let path = format!("/slow?ms={}", SLOW.as_millis());
                connection.ask(target, "GET", &path, "", b"").await
            }
            Manner::Closed => {
                connection.ask(target, "GET", "/", "Connection: close\r\n", b"").await
            }
            _ => connection.ask(target, "GET", "/", "", b"").await,
        }
    }

    async fn open(&self) -> Result<Connection, String> {
        let connection = Connection::open(&self.target).await?;
        if let Some(shown) = &connection.certificate {
            let known = CERTIFICATES.iter().position(|pem| crate::trust::is_of(shown, pem));
            let at = self.desk.now();
            self.desk.judge().shown(at, self.app, known);
        }
        Ok(connection)
    }

    /// A stream from its beginning to its end.
    async fn stay(&mut self) -> bool {
        let sent = self.desk.now();
        let opened = match timeout(PATIENCE, self.begin()).await {
            Ok(opened) => opened,
            Err(_) => Err("not open in time".to_owned()),
        };
        let (mut connection, who) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.report(sent, Err(error)),
        };
        self.report(sent, Ok(who.clone()));
        let open = self.desk.now();
        for beat in 0_u64.. {
            if self.leave.load(Ordering::Relaxed) {
                break;
            }
            let echoed = match timeout(PATIENCE, connection.echo(&format!("beat {beat}"))).await {
                Ok(echoed) => echoed,
                Err(_) => Err("silent".to_owned()),
            };
            if let Err(error) = echoed {
                if !self.leave.load(Ordering::Relaxed) {
                    let why = format!("{error} ({} of {})", who.1, who.0);
                    self.desk.judge().cut(self.desk.now(), self.app, self.what(), open, &why);
                }
                return false;
            }
            sleep(BEAT).await;
        }
        true
    }

    async fn begin(&self) -> Result<(Connection, Who), String> {
        let mut connection = self.open().await?;
        if self.manner == Manner::Raw {
            let who = hello(&mut connection).await?;
            return Ok((connection, who));
        }
        let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let reply = connection.ask(&self.target, "GET", "/ws", headers, b"").await?;
        match reply.status {
            101 => Ok((connection, (reply.version, reply.instance))),
            status => Err(format!("status {status}")),
        }
    }
}

/// The first line of a TCP connection: instance and version.
async fn hello(connection: &mut Connection) -> Result<Who, String> {
    let line = connection.line().await.map_err(|e| format!("no hello: {e}"))?;
    let (instance, version) = line.split_once(' ').ok_or_else(|| format!("hello: {line}"))?;
    Ok((version.to_owned(), instance.to_owned()))
}

/// An answer that is none of the app's has no version.
fn who(reply: &Reply) -> Result<Who, String> {
    match (reply.status, reply.version.as_str()) {
        (200, version) if !version.is_empty() => Ok((version.to_owned(), reply.instance.clone())),
        (status, "") => Err(format!("status {status} of the balancer's")),
        (status, version) => Err(format!("status {status} of {version} ({})", reply.instance)),
    }
}
