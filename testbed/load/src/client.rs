//! One connection's worth of load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, HOST};
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::counts::{Answer, Recorder};
use super::{Mode, Plan};

/// How long a slow request takes at the app.
const SLOW: Duration = Duration::from_secs(2);
/// Largest body of a `POST`.
const LARGEST_BODY: usize = 48 * 1024;

type Sender = SendRequest<Full<Bytes>>;

pub(crate) struct Client {
    plan: Plan,
    recorder: Arc<Recorder>,
    stop: Arc<AtomicBool>,
    connection: Option<Sender>,
}

struct Ask {
    method: Method,
    path: &'static str,
    body: Bytes,
    within: Duration,
}

impl Client {
    pub(crate) fn new(plan: &Plan, recorder: &Arc<Recorder>, stop: &Arc<AtomicBool>) -> Self {
        Self {
            plan: plan.clone(),
            recorder: recorder.clone(),
            stop: stop.clone(),
            connection: None,
        }
    }

    /// Sends short requests, one each `every`; late ones follow at once, so that the offered rate holds.
    pub(crate) async fn send_short(mut self, number: usize, every: Duration) {
        let mut due = Instant::now() + every.mul_f64(number as f64 / self.plan.connections as f64);
        let mut count = number;
        while !self.stop.load(Ordering::Relaxed) {
            sleep_until(due).await;
            due += every;
            count += 1;
            let ask = self.short(count);
            self.ask(&ask).await;
        }
    }

    /// Sends requests of two seconds, one after the other.
    pub(crate) async fn send_slow(mut self) {
        let within = SLOW + self.plan.timeout;
        let ask = Ask { method: Method::GET, path: "/slow?ms=2000", body: Bytes::new(), within };
        while !self.stop.load(Ordering::Relaxed) {
            self.ask(&ask).await;
        }
    }

    fn short(&self, count: usize) -> Ask {
        let within = self.plan.timeout;
        // Spreads the posts among the requests: 37 and 100 have no common divisor.
        if (count * 37 % 100) < self.plan.posts as usize {
            let body = vec![b'a' + (count % 26) as u8; 1 + count * 7919 % LARGEST_BODY];
            return Ask { method: Method::POST, path: "/echo", body: body.into(), within };
        }
        Ask { method: Method::GET, path: "/", body: Bytes::new(), within }
    }

    async fn ask(&mut self, ask: &Ask) {
        let result = match timeout(ask.within, self.exchange(ask)).await {
            Ok(result) => result,
            Err(_) => Err("timed out".to_owned()),
        };
        if result.is_err() || self.plan.mode == Mode::Close {
            self.connection = None;
        }
        let pause = result.is_err();
        self.recorder.record(&format!("{} {}", ask.method, ask.path), result);
        if pause {
            // A refused connection fails at once: without a pause one client would count thousands.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn exchange(&mut self, ask: &Ask) -> Result<Answer, String> {
        let mut sender = self.connected().await?;
        let response =
            sender.send_request(self.request(ask)?).await.map_err(|e| format!("send: {e:?}"))?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|e| format!("short body: {e:?}"))?.to_bytes();
        if !head.status.is_success() {
            return Err(format!("status {}", head.status));
        }
        if ask.method == Method::POST && body != ask.body {
            return Err(format!("wrong body: sent {} bytes, got {}", ask.body.len(), body.len()));
        }
        let closing = head.headers.get(CONNECTION).is_some_and(|v| v == "close");
        self.connection = (!closing).then_some(sender);
        Ok(answer(&head.headers))
    }

    async fn connected(&mut self) -> Result<Sender, String> {
        if let Some(mut sender) = self.connection.take() {
            match sender.ready().await {
                Ok(()) => return Ok(sender),
                Err(_) => self.recorder.idle_close(),
            }
        }
        let stream =
            TcpStream::connect(self.plan.target).await.map_err(|e| format!("connect: {e}"))?;
        stream.set_nodelay(true).map_err(|e| format!("connect: {e}"))?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|e| format!("connect: {e}"))?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn request(&self, ask: &Ask) -> Result<Request<Full<Bytes>>, String> {
        let request =
            Request::builder().method(&ask.method).uri(ask.path).header(HOST, &self.plan.host);
        let request = match self.plan.mode {
            Mode::KeepAlive => request,
            Mode::Close => request.header(CONNECTION, "close"),
        };
        request.body(Full::new(ask.body.clone())).map_err(|e| format!("request: {e}"))
    }
}

fn answer(headers: &HeaderMap) -> Answer {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    Answer {
        instance: text("x-instance"),
        version: text("x-version"),
        listening_us: text("x-listening-since-us").and_then(|v| v.parse().ok()),
    }
}
