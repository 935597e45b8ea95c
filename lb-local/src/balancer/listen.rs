//! Outside ports: accepting connections, and letting them go.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use lb_core::balancer::HEADER_FIELDS;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::live::ListenerLive;
use super::shared::Shared;
use super::{http, tcp};

/// Pause after the system refused a connection, for want of file descriptors mostly.
const PAUSE: Duration = Duration::from_millis(50);
/// Header fields of a request; more get 431.
const FIELDS: usize = HEADER_FIELDS as usize;
/// How long a client's connection may take to finish when its listener closes.
const LINGER: Duration = Duration::from_secs(60);

/// An open port. Dropping it closes the port; open connections finish what they are at.
#[derive(Debug)]
pub(crate) struct Listening {
    closed: CancellationToken,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

/// Opens a port and serves what comes in by the table then in force.
pub(crate) async fn open(shared: &Arc<Shared>, ip: IpAddr, port: u16) -> io::Result<Listening> {
    let listener = TcpListener::bind(SocketAddr::new(ip, port)).await?;
    let closed = CancellationToken::new();
    shared.tasks.spawn(accept(shared.clone(), listener, port, closed.clone()));
    Ok(Listening { closed })
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, port: u16, closed: CancellationToken) {
    loop {
        let room = shared.clients.clone().acquire_owned();
        let accepted = async {
            let room = room.await;
            (listener.accept().await, room)
        };
        let (accepted, room) = tokio::select! {
            biased;
            () = closed.cancelled() => return,
            both = accepted => both,
        };
        match accepted {
            Ok((stream, client)) => {
                let (shared, closed) = (shared.clone(), closed.clone());
                shared.tasks.clone().spawn(async move {
                    connection(shared, stream, client, port, closed).await;
                    drop(room);
                });
            }
            Err(error) => {
                tracing::warn!(port, %error, "not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(
    shared: Arc<Shared>,
    stream: TcpStream,
    client: SocketAddr,
    port: u16,
    closed: CancellationToken,
) {
    // Only a hint to the kernel.
    let _ = stream.set_nodelay(true);
    let listener = shared.live().listeners.get(&port).cloned();
    let hard = shared.hard();
    match listener.as_deref() {
        None => {}
        Some(ListenerLive::Tcp(backend)) => tcp::serve(&shared, backend, stream, client).await,
        Some(ListenerLive::Http(_)) => tokio::select! {
            biased;
            () = hard.cancelled() => {}
            () = requests(shared, stream, client, port, closed) => {}
        },
    }
}

/// Serves a client's requests, HTTP/1.1 or HTTP/2 as it begins.
async fn requests(
    shared: Arc<Shared>,
    stream: TcpStream,
    client: SocketAddr,
    port: u16,
    closed: CancellationToken,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    let idle = shared.idle_timeout(port);
    let mut http1 = builder.http1();
    http1.timer(TokioTimer::new()).header_read_timeout(idle).max_headers(FIELDS);
    // HTTP/2 counts 32 bytes more for each field; what is too long by our count is refused by us.
    let most = shared.header_bytes + 32 * HEADER_FIELDS;
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(idle).max_header_list_size(most);
    let service = service_fn(move |request| http::serve(shared.clone(), client, port, request));
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(served);
    tokio::select! {
        biased;
        () = closed.cancelled() => {}
        // Its error is the client's: it broke off, or it spoke something else.
        _ = served.as_mut() => return,
    }
    served.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(LINGER, served).await;
}
