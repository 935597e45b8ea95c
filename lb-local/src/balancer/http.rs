//! One request: its route, its bounds, its server, and back.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::uri::{PathAndQuery, Uri};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use lb_core::Balance;
use tokio::time::Instant;

use super::body::{BodyFault, ClientBody, Outgoing, Reply, ServerBody, linger};
use super::headers::{self, Asker};
use super::live::{BackendLive, Choice, ListenerLive};
use super::refused::Refused;
use super::route::{Router, host_of, normalise};
use super::server::Lease;
use super::shared::Shared;
use super::tcp;
use super::upstream::{Connections, Fault, Outbound, Outward, send};
use crate::hash::hash_bytes;

/// How often one request is tried, on different servers where there are.
const ATTEMPTS: usize = 5;
/// Bodies up to this size are read before they are sent, so that an idempotent request can be repeated.
const WHOLE: u64 = 64 << 10;

/// Answers one request.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    client: SocketAddr,
    port: u16,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    let listener = shared.live().listeners.get(&port).cloned();
    let Some(ListenerLive::Http(router)) = listener.as_deref() else {
        return Ok(refuse(request, Refused::Nobody));
    };
    if shared.too_long(request.headers()) {
        return Ok(refuse(request, Refused::Headers));
    }
    let Led { backend, target, authority, prefix } = match led(router, &request) {
        Ok(led) => led,
        Err(refused) => return Ok(refuse(request, refused)),
    };
    backend.state.stats.request();
    let exchange = Exchange { shared: &shared, backend, client, authority, prefix };
    let answer = exchange.answer(request, target).await.unwrap_or_else(Refused::response);
    if answer.status().is_server_error() {
        backend.state.stats.failure();
    }
    Ok(answer)
}

/// Where a request is led, and as what.
struct Led<'r> {
    backend: &'r BackendLive,
    target: Uri,
    authority: Option<HeaderValue>,
    prefix: String,
}

fn led<'r>(
    router: &'r Router<Arc<BackendLive>>,
    request: &Request<Incoming>,
) -> Result<Led<'r>, Refused> {
    if request.method() == Method::CONNECT {
        return Err(Refused::Method);
    }
    let authority = authority(request);
    if !is_served(request.uri(), authority.as_ref()) {
        return Err(Refused::Malformed);
    }
    let host = authority.as_ref().and_then(|v| v.to_str().ok()).map(host_of).unwrap_or_default();
    let path = normalise(request.uri().path()).ok_or(Refused::Malformed)?;
    let found = router.find(&host, &path).ok_or(Refused::NoRoute)?;
    let target = target(request.uri(), found.path).ok_or(Refused::Malformed)?;
    Ok(Led { backend: found.to, target, authority, prefix: found.stripped.to_owned() })
}

/// Answers instead of a server, and takes what the client still sends.
fn refuse(request: Request<Incoming>, refused: Refused) -> Response<Reply> {
    linger(request.into_body());
    refused.response()
}

/// One request on its way.
struct Exchange<'a> {
    shared: &'a Arc<Shared>,
    backend: &'a BackendLive,
    client: SocketAddr,
    authority: Option<HeaderValue>,
    prefix: String,
}

/// What a server answered, and what goes on while its body does.
struct Answer {
    response: Response<Incoming>,
    connection: Outward,
    lease: Lease,
    cookie: Option<String>,
}

impl Exchange<'_> {
    async fn answer(
        &self,
        mut request: Request<Incoming>,
        target: Uri,
    ) -> Result<Response<Reply>, Refused> {
        if let Err(refused) = self.admit(&request) {
            linger(request.into_body());
            return Err(refused);
        }
        let protocol = headers::upgrade(request.headers());
        let client_side = protocol.as_ref().map(|_| hyper::upgrade::on(&mut request));
        let choice = self.choice(&request);
        let mut outbound = self.outbound(request, target, protocol.clone()).await?;
        let begun = Instant::now();
        let answer = self.attempts(&mut outbound, choice).await?;
        self.backend.state.stats.answered(begun.elapsed());
        if self.shared.too_long(answer.response.headers()) {
            return Err(Refused::BadAnswer);
        }
        match answer.response.status() {
            StatusCode::SWITCHING_PROTOCOLS => self.switched(answer, protocol.zip(client_side)),
            _ => Ok(self.reply(answer)),
        }
    }

    fn admit(&self, request: &Request<Incoming>) -> Result<(), Refused> {
        let limits = &self.backend.spec.limits;
        let admits = |rate| self.backend.state.rates.admits(self.client.ip(), rate, Instant::now());
        if !limits.rate.as_ref().is_none_or(admits) {
            return Err(Refused::TooMany);
        }
        let declared = request.body().size_hint().lower();
        match limits.body.is_some_and(|most| declared > most.get()) {
            true => Err(Refused::TooLarge),
            false => Ok(()),
        }
    }

    fn choice(&self, request: &Request<Incoming>) -> Choice {
        let spec = &self.backend.spec;
        let key = match &spec.balance {
            Balance::SourceHash => Some(hash_bytes(self.client.ip().to_string().as_bytes())),
            Balance::UriHash => Some(hash_bytes(request.uri().path().as_bytes())),
            Balance::HeaderHash(name) => {
                request.headers().get(name.as_str()).map(|value| hash_bytes(value.as_bytes()))
            }
            Balance::RoundRobin | Balance::LeastConnections | Balance::RandomTwo => None,
        };
        let sticky = spec.sticky.as_ref();
        let name = sticky.map(|s| s.cookie_of(&self.backend.name));
        let cookie = name.and_then(|name| headers::cookie(request.headers(), &name));
        Choice { key, cookie, tried: Vec::new() }
    }

    async fn outbound(
        &self,
        request: Request<Incoming>,
        target: Uri,
        upgrade: Option<HeaderValue>,
    ) -> Result<Outbound, Refused> {
        let (mut head, body) = request.into_parts();
        let repeatable = head.method.is_idempotent() && upgrade.is_none();
        let body = self.body(body, repeatable).await?;
        let watch = match &body {
            Outgoing::Stream(body) => Some(body.watch()),
            Outgoing::Empty | Outgoing::Whole(_) | Outgoing::Sent => None,
        };
        let authority = self.authority.as_ref();
        let asker = Asker { client: self.client.ip(), authority, prefix: &self.prefix };
        let sticky = self.backend.spec.sticky.as_ref().map(|s| s.cookie_of(&self.backend.name));
        headers::to_server(&mut head.headers, asker, upgrade, sticky.as_deref());
        head.uri = target;
        head.version = Version::HTTP_11;
        head.extensions.clear();
        Ok(Outbound { head, body, watch, repeatable })
    }

    async fn body(&self, body: Incoming, repeatable: bool) -> Result<Outgoing, Refused> {
        if body.is_end_stream() {
            return Ok(Outgoing::Empty);
        }
        let small = body.size_hint().upper().is_some_and(|size| size <= WHOLE);
        let most = self.backend.spec.limits.body.map(lb_core::ByteSize::get);
        let body = ClientBody::new(body, most, self.backend.spec.timeouts.client);
        if !(small && repeatable) {
            return Ok(Outgoing::Stream(body));
        }
        let watch = body.watch();
        match body.collect().await {
            Ok(whole) => Ok(Outgoing::Whole(whole.to_bytes())),
            Err(_) => Err(watch.fault().unwrap_or(BodyFault::Broken).into()),
        }
    }

    /// Tries until a server answers or nothing more may be tried.
    async fn attempts(
        &self,
        outbound: &mut Outbound,
        mut choice: Choice,
    ) -> Result<Answer, Refused> {
        let mut connections = Connections::Kept;
        let mut refused = Refused::Nobody;
        for _ in 0..ATTEMPTS {
            let place = self.shared.place(&self.backend.name, &choice).await;
            let (lease, cookie) = match place {
                Ok(place) => place,
                Err(Refused::Nobody) => break,
                Err(other) => return Err(other),
            };
            let timeouts = &self.backend.spec.timeouts;
            let fault = match send(&lease.server, outbound, connections, timeouts).await {
                Ok((response, connection)) => {
                    lease.server.succeeded();
                    return Ok(Answer { response, connection, lease, cookie });
                }
                Err(fault) => fault,
            };
            match &fault {
                Fault::Client(_) => return Err(fault.into()),
                // The connection's end, not the server's: the same server may do.
                Fault::Stale | Fault::Broken { kept: true } => connections = Connections::Fresh,
                Fault::Unreachable | Fault::Broken { kept: false } | Fault::Silent => {
                    tracing::debug!(server = %lease.server.name, ?fault, "failed");
                    lease.server.failed();
                    choice.tried.push(lease.server.clone());
                }
            }
            let again = outbound.may_repeat(&fault);
            refused = fault.into();
            if !again {
                break;
            }
        }
        Err(refused)
    }

    fn reply(&self, answer: Answer) -> Response<Reply> {
        let Answer { response, connection, lease, cookie } = answer;
        let (mut head, body) = response.into_parts();
        headers::to_client(&mut head.headers, None);
        head.version = Version::HTTP_11;
        if let (Some(sticky), Some(value)) = (&self.backend.spec.sticky, cookie) {
            let name = sticky.cookie_of(&self.backend.name);
            let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax");
            if let Ok(value) = HeaderValue::try_from(text) {
                head.headers.append(header::SET_COOKIE, value);
            }
        }
        let silence = self.backend.spec.timeouts.server;
        let body = ServerBody::new(body, silence, lease, connection);
        Response::from_parts(head, Reply::Server(Box::new(body)))
    }

    /// Hands both connections to each other.
    fn switched(
        &self,
        answer: Answer,
        asked: Option<(HeaderValue, OnUpgrade)>,
    ) -> Result<Response<Reply>, Refused> {
        let Answer { mut response, lease, .. } = answer;
        let (asked, client_side) = asked.ok_or(Refused::BadAnswer)?;
        let protocol = response.headers().get(header::UPGRADE).cloned().unwrap_or(asked);
        if protocol.to_str().is_ok_and(headers::carries_requests) {
            return Err(Refused::BadAnswer);
        }
        let server_side = hyper::upgrade::on(&mut response);
        let silence = self.backend.spec.timeouts.tunnel;
        let hard = self.shared.hard();
        self.shared.tasks.spawn(async move {
            let Ok((client, server)) = futures_util::try_join!(client_side, server_side) else {
                return;
            };
            tcp::tunnel(TokioIo::new(client), TokioIo::new(server), silence, lease, hard).await;
        });
        let (mut head, _) = response.into_parts();
        headers::to_client(&mut head.headers, Some(protocol));
        Ok(Response::from_parts(head, Reply::Own(Bytes::new())))
    }
}

/// Whether a target is a path, alone or behind a host, and the host one that nothing stands beside (RFC 9112, 3.2).
fn is_served(target: &Uri, authority: Option<&HeaderValue>) -> bool {
    let scheme = target.scheme_str().unwrap_or("http");
    let beside = |value: &HeaderValue| value.as_bytes().iter().any(|b| b"/@".contains(b));
    let alone = !authority.is_some_and(beside);
    target.path().starts_with('/') && alone && ["http", "https"].contains(&scheme)
}

/// The host a request is for: of its target, else of its `Host` field (RFC 9112, 3.2.2).
fn authority(request: &Request<Incoming>) -> Option<HeaderValue> {
    match request.uri().authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => request.headers().get(header::HOST).cloned(),
    }
}

/// The target in origin form, with the path the app is to see.
fn target(uri: &Uri, path: &str) -> Option<Uri> {
    let same = uri.path() == path;
    let target: PathAndQuery = match (same, uri.path_and_query(), uri.query()) {
        (true, Some(target), _) => target.clone(),
        (_, _, Some(query)) => format!("{path}?{query}").parse().ok()?,
        (_, _, None) => path.parse().ok()?,
    };
    Some(Uri::from(target))
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unreachable | Fault::Stale => Self::Unreachable,
            Fault::Broken { .. } => Self::BadAnswer,
            Fault::Silent => Self::Silent,
            Fault::Client(fault) => fault.into(),
        }
    }
}

impl From<BodyFault> for Refused {
    fn from(fault: BodyFault) -> Self {
        match fault {
            BodyFault::TooLarge => Self::TooLarge,
            BodyFault::Silent => Self::ClientSilent,
            BodyFault::Broken => Self::Malformed,
        }
    }
}
