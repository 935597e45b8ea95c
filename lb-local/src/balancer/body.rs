//! Bodies on their way through: bounded in size and silence, and followed to their end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::server::Lease;
use super::upstream::{Outward, recycle};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body on its way to a server.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Empty,
    /// All of it is here, so that it can be sent again.
    Whole(Bytes),
    Stream(ClientBody),
    /// It has been handed to a server.
    Sent,
}

/// How long the rest of a body nobody waits for is taken from a client, and its silence meanwhile: closed at once, its
/// connection would take the answer with it.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_SILENCE: Duration = Duration::from_secs(5);

/// A request's body as the client sends it. The rest of one that is dropped is taken and forgotten.
#[derive(Debug)]
pub(crate) struct ClientBody {
    /// There until it is dropped.
    inner: Option<Incoming>,
    left: u64,
    silence: Silence,
    watch: Arc<Watch>,
}

/// What is seen of a client's body while a server has it.
#[derive(Debug)]
pub(crate) struct Watch {
    begun: Instant,
    /// Milliseconds from `begun` to the latest frame.
    latest: AtomicU64,
    /// The server has all that came, and more is to come.
    waiting: AtomicBool,
    fault: AtomicU8,
}

/// Why a client's body was not taken to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyFault {
    #[error("request body too large")]
    TooLarge,
    #[error("client silent")]
    Silent,
    #[error("client broke off")]
    Broken,
}

impl Watch {
    /// Since when it is the server's turn: now, while the client's next frame is waited for.
    pub(crate) fn servers_turn(&self) -> Instant {
        match self.waiting.load(Relaxed) {
            true => Instant::now(),
            false => self.begun + Duration::from_millis(self.latest.load(Relaxed)),
        }
    }

    pub(crate) fn fault(&self) -> Option<BodyFault> {
        match self.fault.load(Relaxed) {
            0 => None,
            1 => Some(BodyFault::TooLarge),
            2 => Some(BodyFault::Silent),
            _ => Some(BodyFault::Broken),
        }
    }

    fn fail(&self, fault: BodyFault) -> BoxError {
        let code = match fault {
            BodyFault::TooLarge => 1,
            BodyFault::Silent => 2,
            BodyFault::Broken => 3,
        };
        self.fault.store(code, Relaxed);
        fault.into()
    }
}

impl ClientBody {
    pub(crate) fn new(inner: Incoming, most: Option<u64>, silence: Duration) -> Self {
        let watch = Watch {
            begun: Instant::now(),
            latest: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
            fault: AtomicU8::new(0),
        };
        let left = most.unwrap_or(u64::MAX);
        let (inner, silence) = (Some(inner), Silence::new(silence));
        Self { inner, left, silence, watch: Arc::new(watch) }
    }

    pub(crate) fn watch(&self) -> Arc<Watch> {
        self.watch.clone()
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) else {
            this.watch.waiting.store(true, Relaxed);
            ready!(this.silence.poll(cx));
            return Poll::Ready(Some(Err(this.watch.fail(BodyFault::Silent))));
        };
        this.silence.broken();
        this.watch.waiting.store(false, Relaxed);
        let since = this.watch.begun.elapsed().as_millis();
        this.watch.latest.store(since.try_into().unwrap_or(u64::MAX), Relaxed);
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                match this.left.checked_sub(size) {
                    Some(left) => {
                        this.left = left;
                        Some(Ok(frame))
                    }
                    None => Some(Err(this.watch.fail(BodyFault::TooLarge))),
                }
            }
            Some(Err(_)) => Some(Err(this.watch.fail(BodyFault::Broken))),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(Incoming::size_hint).unwrap_or_default()
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        if let Some(rest) = self.inner.take() {
            linger(rest);
        }
    }
}

/// Takes what a client still sends, so that it gets to read its answer (as NGINX's `lingering_close`).
pub(crate) fn linger(mut rest: Incoming) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    if rest.is_end_stream() {
        return;
    }
    runtime.spawn(timeout(LINGER, async move {
        while let Ok(Some(Ok(_))) = timeout(LINGER_SILENCE, rest.frame()).await {}
    }));
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Stream(body) => Pin::new(body).poll_frame(cx),
            Self::Whole(bytes) if !bytes.is_empty() => {
                let frame = Frame::data(std::mem::take(bytes));
                Poll::Ready(Some(Ok(frame)))
            }
            Self::Empty | Self::Whole(_) | Self::Sent => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Stream(body) => body.is_end_stream(),
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Empty | Self::Sent => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Stream(body) => body.size_hint(),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Empty | Self::Sent => SizeHint::with_exact(0),
        }
    }
}

/// An answer's body on its way to the client.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Our own words.
    Own(Bytes),
    Server(Box<ServerBody>),
}

/// An answer's body as a server sends it. Holds the place at the server until it ends.
#[derive(Debug)]
pub(crate) struct ServerBody {
    inner: Incoming,
    silence: Silence,
    rest: Option<(Lease, Outward)>,
}

impl ServerBody {
    pub(crate) fn new(inner: Incoming, silence: Duration, lease: Lease, by: Outward) -> Self {
        Self { inner, silence: Silence::new(silence), rest: Some((lease, by)) }
    }

    /// The connection serves again, the place is free.
    fn ended(&mut self) {
        if let Some((lease, connection)) = self.rest.take() {
            recycle(&lease.server, connection);
        }
    }

    fn broke(&mut self) {
        if let Some((lease, _)) = self.rest.take() {
            lease.backend.stats.failure();
        }
    }
}

impl Drop for ServerBody {
    fn drop(&mut self) {
        if self.inner.is_end_stream() {
            self.ended();
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let body = match &mut *self {
            Self::Own(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Self::Own(bytes) => {
                let frame = Frame::data(std::mem::take(bytes));
                return Poll::Ready(Some(Ok(frame)));
            }
            Self::Server(body) => &mut **body,
        };
        let Poll::Ready(frame) = Pin::new(&mut body.inner).poll_frame(cx) else {
            ready!(body.silence.poll(cx));
            body.broke();
            return Poll::Ready(Some(Err("server silent".into())));
        };
        body.silence.broken();
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(e)) => {
                body.broke();
                Some(Err(e.into()))
            }
            None => {
                body.ended();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_empty(),
            Self::Server(body) => body.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Server(body) => body.inner.size_hint(),
        }
    }
}

/// A timer that runs only while nothing comes.
#[derive(Debug)]
struct Silence {
    most: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    const fn new(most: Duration) -> Self {
        Self { most, timer: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let most = self.most;
        self.timer.get_or_insert_with(|| Box::pin(sleep(most))).as_mut().poll(cx)
    }

    fn broken(&mut self) {
        self.timer = None;
    }
}
