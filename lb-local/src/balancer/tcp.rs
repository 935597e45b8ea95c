//! Byte streams: TCP listeners, and what is left of a request that changed its protocol.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use lb_core::Balance;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::live::{BackendLive, Choice};
use super::refused::Refused;
use super::server::Lease;
use super::shared::Shared;
use crate::hash::hash_bytes;

/// Servers one connection is tried on.
const ATTEMPTS: usize = 5;
/// Bytes on their way in each direction of a stream.
const BUFFER: usize = 16 << 10;

/// Carries one client's connection.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    backend: &BackendLive,
    client: TcpStream,
    from: SocketAddr,
) {
    let stats = &backend.state.stats;
    let limits = &backend.spec.limits;
    let admits = |rate| backend.state.rates.admits(from.ip(), rate, Instant::now());
    if !limits.rate.as_ref().is_none_or(admits) {
        return;
    }
    stats.request();
    let begun = Instant::now();
    match connect(shared, backend, from).await {
        Ok((server, lease)) => {
            stats.answered(begun.elapsed());
            tunnel(client, server, backend.spec.timeouts.tunnel, lease, shared.hard()).await;
        }
        Err(reason) => {
            tracing::debug!(backend = %backend.name, ?reason, "connection refused");
            stats.failure();
        }
    }
}

async fn connect(
    shared: &Shared,
    backend: &BackendLive,
    from: SocketAddr,
) -> Result<(TcpStream, Lease), Refused> {
    let source = matches!(backend.spec.balance, Balance::SourceHash);
    let key = source.then(|| hash_bytes(from.ip().to_string().as_bytes()));
    let mut choice = Choice { key, ..Choice::default() };
    for _ in 0..ATTEMPTS {
        let (lease, _) = shared.place(&backend.name, &choice).await?;
        let opened = TcpStream::connect(lease.server.address);
        if let Ok(Ok(stream)) = timeout(backend.spec.timeouts.connect, opened).await {
            lease.server.succeeded();
            // Only a hint to the kernel.
            let _ = stream.set_nodelay(true);
            return Ok((stream, lease));
        }
        lease.server.failed();
        choice.tried.push(lease.server.clone());
    }
    Err(Refused::Unreachable)
}

/// Carries bytes both ways until both ends are done, one breaks, both are silent for too long, or the
/// server leaves the table.
pub(crate) async fn tunnel<A, B>(
    client: A,
    server: B,
    silence: Duration,
    lease: Lease,
    hard: CancellationToken,
) where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let latest = Latest { begun: Instant::now(), millis: AtomicU64::new(0) };
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    let both = async {
        tokio::try_join!(
            flow(from_client, to_server, &latest),
            flow(from_server, to_client, &latest)
        )
    };
    tokio::select! {
        biased;
        () = lease.server.gone.cancelled() => lease.backend.stats.failure(),
        () = hard.cancelled() => lease.backend.stats.failure(),
        // A broken end is an end: whose it was cannot be told.
        _ = both => {}
        () = latest.silent_for(silence) => {}
    }
}

async fn flow<R, W>(mut from: R, mut to: W, latest: &Latest) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        latest.mark();
        to.write_all(&buffer[..read]).await?;
    }
}

/// When a stream last carried something.
struct Latest {
    begun: Instant,
    millis: AtomicU64,
}

impl Latest {
    fn mark(&self) {
        let since = self.begun.elapsed().as_millis();
        self.millis.store(since.try_into().unwrap_or(u64::MAX), Relaxed);
    }

    async fn silent_for(&self, most: Duration) {
        loop {
            let seen = self.millis.load(Relaxed);
            sleep_until(self.begun + Duration::from_millis(seen) + most).await;
            if self.millis.load(Relaxed) == seen {
                return;
            }
        }
    }
}
