//! Connections to servers: HTTP/1.1, kept alive, one pool for each server.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::http::request::Parts;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lb_core::Timeouts;
use lb_core::balancer::HEADER_FIELDS;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::body::{BodyFault, Outgoing, Watch};
use super::patient::Patient;
use super::server::ServerState;

/// Idle connections kept for each server.
const IDLE: usize = 256;
/// How long one is kept.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// How long it may have been idle to carry what cannot be sent twice: servers close idle connections,
/// and a request that meets the close is lost.
const SAFE_IDLE: Duration = Duration::from_millis(500);
/// How long a connection may take to be ready again after an answer.
const READY_AGAIN: Duration = Duration::from_secs(5);

/// The sending half of a connection.
pub(crate) type Outward = SendRequest<Outgoing>;

/// A connection nobody uses.
pub(crate) struct Idle {
    sender: Outward,
    since: Instant,
}

/// A request that can be sent again if its body can.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) head: Parts,
    pub(crate) body: Outgoing,
    pub(crate) watch: Option<Arc<Watch>>,
    pub(crate) repeatable: bool,
}

/// Why no answer came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It was never sent: no connection.
    Unreachable,
    /// It was never sent: a kept connection had been closed.
    Stale,
    /// It was sent, at least in part, and the connection broke before an answer.
    Broken {
        /// On a connection that had served before.
        kept: bool,
    },
    /// It was sent, and no answer came in time.
    Silent,
    /// The client's fault.
    Client(BodyFault),
}

impl Outbound {
    /// The request for one attempt; a body that cannot be had twice goes with it.
    fn attempt(&mut self) -> Request<Outgoing> {
        let body = match &self.body {
            Outgoing::Empty | Outgoing::Sent => Outgoing::Empty,
            Outgoing::Whole(bytes) => Outgoing::Whole(bytes.clone()),
            Outgoing::Stream(_) => std::mem::replace(&mut self.body, Outgoing::Sent),
        };
        Request::from_parts(self.head.clone(), body)
    }

    /// Takes back what was not sent.
    fn restore(&mut self, request: Request<Outgoing>) {
        if matches!(self.body, Outgoing::Sent) {
            self.body = request.into_body();
        }
    }

    /// Whether it may be sent again after `fault`.
    pub(crate) fn may_repeat(&self, fault: &Fault) -> bool {
        match fault {
            Fault::Unreachable | Fault::Stale => !matches!(self.body, Outgoing::Sent),
            Fault::Broken { .. } => self.repeatable && !matches!(self.body, Outgoing::Sent),
            Fault::Silent | Fault::Client(_) => false,
        }
    }
}

/// Whether kept connections may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connections {
    Kept,
    Fresh,
}

/// Sends the request and waits for the head of the answer.
pub(crate) async fn send(
    server: &Arc<ServerState>,
    outbound: &mut Outbound,
    connections: Connections,
    timeouts: &Timeouts,
) -> Result<(Response<Incoming>, Outward), Fault> {
    let age = if outbound.repeatable { IDLE_FOR } else { SAFE_IDLE };
    let kept = match connections {
        Connections::Kept => checkout(server, age),
        Connections::Fresh => None,
    };
    let was_kept = kept.is_some();
    let mut sender = match kept {
        Some(sender) => sender,
        None => connect(server, timeouts.connect).await?,
    };
    let sent = sender.try_send_request(outbound.attempt());
    let answer = answered(sent, timeouts.server, outbound.watch.as_deref()).await;
    match answer.ok_or(Fault::Silent)? {
        Ok(response) => Ok((response, sender)),
        Err(mut error) => {
            if let Some(fault) = outbound.watch.as_ref().and_then(|w| w.fault()) {
                return Err(Fault::Client(fault));
            }
            match error.take_message() {
                Some(request) => {
                    outbound.restore(request);
                    Err(if was_kept { Fault::Stale } else { Fault::Unreachable })
                }
                None => Err(Fault::Broken { kept: was_kept }),
            }
        }
    }
}

/// `None` when the server was silent for so long while it was its turn.
async fn answered<T>(
    answer: impl Future<Output = T>,
    silence: Duration,
    watch: Option<&Watch>,
) -> Option<T> {
    let Some(watch) = watch else { return timeout(silence, answer).await.ok() };
    let mut deadline = Instant::now() + silence;
    tokio::pin!(answer);
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return Some(answer),
            () = sleep_until(deadline) => {}
        }
        let later = watch.servers_turn() + silence;
        match later > deadline {
            true => deadline = later,
            false => return None,
        }
    }
}

/// Opens a connection. It is driven on a task of its own and shut when the server leaves the table.
async fn connect(server: &Arc<ServerState>, most: Duration) -> Result<Outward, Fault> {
    let opened = async {
        let stream = TcpStream::connect(server.address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let builder = http1::Builder::new().max_headers(HEADER_FIELDS as usize).clone();
        builder.handshake(TokioIo::new(Patient::new(stream))).await.ok()
    };
    let Ok(Some((sender, connection))) = timeout(most, opened).await else {
        return Err(Fault::Unreachable);
    };
    let gone = server.gone.clone();
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = gone.cancelled_owned() => {}
            // Its error reaches the request that waits for an answer.
            _ = connection.with_upgrades() => {}
        }
    });
    Ok(sender)
}

/// The latest used kept connection that is still open.
fn checkout(server: &ServerState, age: Duration) -> Option<Outward> {
    let mut idle = server.idle.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(Idle { sender, since }) = idle.pop() {
        if since.elapsed() > age {
            idle.push(Idle { sender, since });
            break;
        }
        if sender.is_ready() {
            return Some(sender);
        }
    }
    // What lies below is older still.
    idle.retain(|i| i.since.elapsed() <= IDLE_FOR && !i.sender.is_closed());
    None
}

/// Keeps the connection for the next request, once it is ready for one.
pub(crate) fn recycle(server: &Arc<ServerState>, mut sender: Outward) {
    if sender.is_ready() {
        keep(server, sender);
        return;
    }
    if sender.is_closed() {
        return;
    }
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let server = server.clone();
    runtime.spawn(async move {
        if matches!(timeout(READY_AGAIN, sender.ready()).await, Ok(Ok(()))) {
            keep(&server, sender);
        }
    });
}

fn keep(server: &ServerState, sender: Outward) {
    let mut idle = server.idle.lock().unwrap_or_else(PoisonError::into_inner);
    let of_use = !server.draining.load(Relaxed) && !server.gone.is_cancelled();
    if of_use && idle.len() < IDLE {
        idle.push(Idle { sender, since: Instant::now() });
    }
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle").field("since", &self.since).finish_non_exhaustive()
    }
}
