//! The paths of the app.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full, Limited, combinators::BoxBody};
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode, body::Incoming};

use crate::body::{Filler, MAX_BYTES};
use crate::burn::burn;
use crate::{Config, websocket};

/// The largest body `/echo` takes, in bytes.
pub const MAX_BODY: usize = 64 << 20;

/// The most that `/hog` holds, in MiB.
pub const MAX_HOG: u64 = 4096;

pub(crate) type Reply = Response<BoxBody<Bytes, std::convert::Infallible>>;

/// What one instance's requests share.
#[derive(Debug)]
pub(crate) struct Site {
    ready_at: Instant,
    work: Duration,
    greeting: String,
    marks: [(&'static str, HeaderValue); 3],
}

impl Site {
    /// Fails when the instance or version text cannot stand in a header.
    pub(crate) fn new(config: &Config, listening_since_us: u128) -> std::io::Result<Self> {
        let header = |value: &str| HeaderValue::from_str(value).map_err(std::io::Error::other);
        Ok(Self {
            ready_at: Instant::now() + config.ready_delay,
            work: config.work,
            greeting: format!("instance {} version {}\n", config.instance, config.version),
            marks: [
                ("x-instance", header(&config.instance)?),
                ("x-version", header(&config.version)?),
                ("x-listening-since-us", header(&listening_since_us.to_string())?),
            ],
        })
    }

    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Reply {
        let mut reply = if Instant::now() < self.ready_at {
            text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n".into())
        } else {
            self.route(request).await.unwrap_or_else(|wanted| {
                text(StatusCode::BAD_REQUEST, format!("must be given as {wanted}\n"))
            })
        };
        for (name, value) in &self.marks {
            reply.headers_mut().insert(*name, value.clone());
        }
        reply
    }

    /// An error is the form of a query argument that was missing or not a number.
    async fn route(&self, request: Request<Incoming>) -> Result<Reply, &'static str> {
        let path = request.uri().path().to_owned();
        Ok(match path.as_str() {
            "/" => {
                burn(self.work);
                ok(self.greeting.clone())
            }
            "/healthz" => ok("ok\n".into()),
            "/headers" => ok(request_text(&request)),
            "/slow" => {
                tokio::time::sleep(Duration::from_millis(number(&request, "ms=N")?)).await;
                ok("slow\n".into())
            }
            "/burn" => {
                let work = Duration::from_millis(number(&request, "ms=N")?);
                let burnt = tokio::task::spawn_blocking(move || burn(work)).await;
                burnt.map_or_else(
                    |error| text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
                    |()| ok("burnt\n".into()),
                )
            }
            "/bytes" => {
                let left = number(&request, "n=N").ok().filter(|&n| n <= MAX_BYTES);
                Response::new(Filler { left: left.ok_or("n=N, up to 1073741824")? }.boxed())
            }
            "/fail" => {
                let status = u16::try_from(number(&request, "status=N")?).ok();
                // hyper takes 1xx for an interim answer, after which the final one must come.
                let status = status.filter(|status| *status >= 200);
                let status = status.and_then(|status| StatusCode::from_u16(status).ok());
                text(status.ok_or("status=N, 200 to 999")?, "failed as asked\n".into())
            }
            "/hog" => {
                let mib = number(&request, "mib=N").ok().filter(|&mib| mib <= MAX_HOG);
                hog(mib.ok_or("mib=N, up to 4096")?);
                ok("held\n".into())
            }
            "/echo" => echo(request).await,
            "/ws" => websocket::upgrade(request),
            "/hang" => std::future::pending().await,
            // As a process that crashes: nothing is finished, nothing is closed in order.
            "/crash" => std::process::abort(),
            _ => text(StatusCode::NOT_FOUND, format!("no such path: {path}\n")),
        })
    }
}

/// Written to, so that the kernel must find the pages; a MiB at a time, so that it is told apart from one that is refused.
fn hog(mib: u64) {
    for _ in 0..mib {
        std::mem::forget(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

async fn echo(request: Request<Incoming>) -> Reply {
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "must be POST\n".into());
    }
    match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => Response::new(Full::new(body.to_bytes()).boxed()),
        Err(error) => text(StatusCode::PAYLOAD_TOO_LARGE, format!("{error}\n")),
    }
}

fn request_text(request: &Request<Incoming>) -> String {
    let mut out = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
    for (name, value) in request.headers() {
        let _ = writeln!(out, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    out
}

/// The number in the query's argument `form`, as in `ms=N`.
fn number(request: &Request<Incoming>, form: &'static str) -> Result<u64, &'static str> {
    let name = form.trim_end_matches('N');
    let query = request.uri().query().unwrap_or_default();
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name));
    value.and_then(|value| value.parse().ok()).ok_or(form)
}

fn ok(body: String) -> Reply {
    text(StatusCode::OK, body)
}

pub(crate) fn text(status: StatusCode, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)).boxed());
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}

pub(crate) fn empty() -> BoxBody<Bytes, std::convert::Infallible> {
    Empty::new().boxed()
}
