#![forbid(unsafe_code)]
//! A load generator that never retries.
//!
//! It offers a fixed rate over a fixed number of connections and counts as failed whatever a strict client
//! would: a refused or reset connection, a short or wrong body, a late answer, a status other than 2xx. It
//! speaks over single HTTP/1.1 connections without a pool, so no library retries behind its back.
//!
//! A keep-alive connection that the other side closed *between* two requests is opened again and counted in
//! [`Counts::idle_closes`], not as a failure: no request was on it.

mod client;
mod counts;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use self::client::Client;
use self::counts::Recorder;
pub use self::counts::{Arrival, Counts, Failure, MAX_FAILURES};

/// Whether a connection carries many requests or one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Many, one after the other.
    KeepAlive,
    /// One, asked for with `Connection: close`.
    Close,
}

/// What to send where.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The balancer.
    pub target: SocketAddr,
    /// The `Host` header.
    pub host: String,
    /// Connections for short requests.
    pub connections: usize,
    /// Further connections that carry requests of two seconds (`/slow?ms=2000`), one after the other.
    pub slow_connections: usize,
    /// How connections are used.
    pub mode: Mode,
    /// Short requests a second over all connections.
    pub rate: f64,
    /// Of one hundred short requests, those that are `POST /echo` with a body.
    pub posts: u32,
    /// Longest wait for a whole answer, beyond what a slow request takes.
    pub timeout: Duration,
}

impl Plan {
    /// 32 keep-alive connections with 400 requests a second, a tenth of them with bodies, and 4 slow ones.
    pub fn new(target: SocketAddr, host: impl Into<String>) -> Self {
        Self {
            target,
            host: host.into(),
            connections: 32,
            slow_connections: 4,
            mode: Mode::KeepAlive,
            rate: 400.0,
            posts: 10,
            timeout: Duration::from_secs(10),
        }
    }
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    recorder: Arc<Recorder>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts sending.
    pub fn start(plan: &Plan) -> Self {
        let recorder = Arc::new(Recorder::default());
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        let every = Duration::from_secs_f64(plan.connections as f64 / plan.rate);
        for number in 0..plan.connections {
            let client = Client::new(plan, &recorder, &stop);
            clients.spawn(client.send_short(number, every));
        }
        for _ in 0..plan.slow_connections {
            clients.spawn(Client::new(plan, &recorder, &stop).send_slow());
        }
        Self { recorder, stop, clients }
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.recorder.counts()
    }

    /// The counts for somebody else to look at.
    pub fn watch(&self) -> Watch {
        Watch(self.recorder.clone())
    }

    /// Sends no more, waits for what is in flight, and gives the counts.
    pub async fn stop(mut self) -> Counts {
        self.stop.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        self.recorder.counts()
    }
}

/// Shows a running load's counts.
#[derive(Debug, Clone)]
pub struct Watch(Arc<Recorder>);

impl Watch {
    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.0.counts()
    }
}
