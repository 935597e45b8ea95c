//! One engine: podman-api's client, a plain one beside it, and what the engine is able to do.
//!
//! podman-api's types are those of one Podman version: an answer of another fails as a whole
//! (vv9k/podman-api-rs #169). And some of its options do not arrive: its builder of containers misspells
//! `no_new_privileges`, its stop writes `Timeout`, which Podman does not read. So what it does well goes
//! through podman-api, and the rest as plain JSON through `RequestClient`, on which podman-api is built.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use containers_api::conn::hyper::body::to_bytes;
use containers_api::conn::hyper::{Body, Client, Response, StatusCode};
use containers_api::conn::{
    AUTH_HEADER, Error as ConnError, Headers, Payload, RequestClient, Transport,
    get_http_connector, get_unix_connector,
};
use containers_api::url::url::Url;
use futures_util::stream::{self, BoxStream, StreamExt};
use jiff::fmt::rfc2822;
use lb_core::engine::Failure;
use lb_core::{Error, Result};
use podman_api::{ApiVersion, Error as PodmanError, Podman};
use serde_json::Value;

use crate::convert::{self, Abilities};
use crate::endpoint::Endpoint;
use crate::error::failure;

/// The API asked for: Podman 4 and 5 speak it.
const VERSION: ApiVersion = ApiVersion::new(4, Some(0), Some(0));

/// Most of an answer that is read, and of one line of a stream.
const MOST_ANSWER: usize = 64 * 1024 * 1024;
const MOST_LINE: usize = 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Engine {
    podman: Podman,
    plain: RequestClient<PodmanError>,
    abilities: Mutex<Option<Arc<Abilities>>>,
}

impl Engine {
    pub(crate) fn new(endpoint: &Endpoint) -> Result<Self> {
        let (podman, transport) = match endpoint {
            Endpoint::Unix(path) => {
                // No pool: a connection a call costs nothing here, and none goes stale.
                let client =
                    Client::builder().pool_max_idle_per_host(0).build(get_unix_connector());
                let transport = Transport::Unix { client, path: path.clone() };
                (Podman::unix_versioned(path, VERSION), transport)
            }
            Endpoint::Tcp { .. } => {
                let invalid = || Error::invalid(format!("engine {endpoint}"), "must be a URL");
                let url = endpoint.to_string();
                let host = Url::parse(&url).map_err(|e| invalid().with_source(e))?;
                let client =
                    Client::builder().pool_max_idle_per_host(0).build(get_http_connector());
                let podman =
                    Podman::new_versioned(&url, VERSION).map_err(|e| invalid().with_source(e))?;
                (podman, Transport::Tcp { client, host })
            }
        };
        let plain = RequestClient::new(transport, Box::new(check_status));
        Ok(Self { podman, plain, abilities: Mutex::default() })
    }

    /// podman-api's client.
    pub(crate) const fn podman(&self) -> &Podman {
        &self.podman
    }

    /// A question, and its answer as JSON.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        json(self.head(path).await?).await
    }

    /// A question, answered by lines of JSON. Ready with the answer's head.
    pub(crate) fn lines(
        &self,
        path: String,
    ) -> impl Future<Output = Result<Lines, Failure>> + use<> {
        let (plain, path) = (self.plain.clone(), VERSION.make_endpoint(path));
        async move { Ok(lines(plain.get(path).await.map_err(failure)?.into_body())) }
    }

    /// A change, answered by lines of JSON, with a login at a registry.
    pub(crate) fn post_lines(
        &self,
        path: String,
        login: Option<String>,
    ) -> impl Future<Output = Result<Lines, Failure>> + use<> {
        let (plain, path) = (self.plain.clone(), VERSION.make_endpoint(path));
        let headers = login.map(|login| Headers::single(AUTH_HEADER, login));
        async move {
            let answer = plain.post(path, Payload::empty(), headers).await;
            Ok(lines(answer.map_err(failure)?.into_body()))
        }
    }

    /// A change with a body.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let path = VERSION.make_endpoint(path);
        let body = Payload::Json(body.to_string());
        json(self.plain.post(path, body, Headers::none()).await.map_err(failure)?).await
    }

    /// A change without a body, whose answer does not matter.
    pub(crate) async fn act(&self, path: &str) -> Result<(), Failure> {
        let path = VERSION.make_endpoint(path);
        match self.plain.post(path, Payload::empty(), Headers::none()).await {
            // So already.
            Err(PodmanError::Fault { code, .. }) if code == StatusCode::NOT_MODIFIED => Ok(()),
            other => other.map(drop).map_err(failure),
        }
    }

    /// A removal, whose answer does not matter.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.plain.delete(VERSION.make_endpoint(path)).await.map(drop).map_err(failure)
    }

    /// The engine's clock, in whole seconds.
    pub(crate) async fn clock(&self) -> Result<jiff::Timestamp, Failure> {
        let head = self.head("/libpod/_ping").await?;
        let date = head.headers().get("date").and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| rfc2822::parse(date).ok());
        let date =
            date.ok_or_else(|| Failure::unexpected("the engine does not say what time it is"))?;
        Ok(date.timestamp())
    }

    /// What the engine can do, asked once until it goes away.
    pub(crate) async fn abilities(&self) -> Result<Arc<Abilities>, Failure> {
        let known = self.abilities.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let abilities = Arc::new(convert::abilities(&self.get("/libpod/info").await?));
        tracing::debug!(?abilities, "engine asked");
        *self.abilities.lock().unwrap_or_else(PoisonError::into_inner) = Some(abilities.clone());
        Ok(abilities)
    }

    /// The engine may have gone away, and come back as another.
    pub(crate) fn forget(&self) {
        *self.abilities.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn head(&self, path: &str) -> Result<Response<Body>, Failure> {
        self.plain.get(VERSION.make_endpoint(path)).await.map_err(failure)
    }
}

async fn json(response: Response<Body>) -> Result<Value, Failure> {
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece.map_err(|e| Failure::Unreachable(e.into()))?);
        if bytes.len() > MOST_ANSWER {
            return Err(Failure::unexpected(format!("an answer of more than {MOST_ANSWER} bytes")));
        }
    }
    serde_json::from_slice(&bytes).map_err(|e| Failure::Garbled(e.into()))
}

fn lines(body: Body) -> Lines {
    let next = |(mut body, mut rest): (Body, Vec<u8>)| async move {
        loop {
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let line = serde_json::from_slice(&line).map_err(|e| Failure::Garbled(e.into()));
                return Some((line, (body, rest)));
            }
            if rest.len() > MOST_LINE {
                let message = format!("a line of more than {MOST_LINE} bytes");
                return Some((Err(Failure::unexpected(message)), (body, Vec::new())));
            }
            match body.next().await? {
                Ok(piece) => rest.extend_from_slice(&piece),
                Err(e) => return Some((Err(Failure::Unreachable(e.into())), (body, rest))),
            }
        }
    };
    stream::unfold((body, Vec::new()), next).boxed()
}

/// What a stream of JSON gives, line by line.
pub(crate) type Lines = BoxStream<'static, Result<Value, Failure>>;

type Checked = Pin<Box<dyn Future<Output = Result<Response<Body>, PodmanError>> + Send + Sync>>;

/// Makes errors of answers that are refusals, in the words of their `message`.
fn check_status(response: Response<Body>) -> Checked {
    Box::pin(async move {
        let code = response.status();
        if code.is_success() {
            return Ok(response);
        }
        let bytes = to_bytes(response.into_body()).await.map_err(ConnError::from)?;
        let said = serde_json::from_slice::<Value>(&bytes).ok();
        let said = said.as_ref().and_then(|value| value.get("message")?.as_str());
        let message = said.map_or_else(|| String::from_utf8_lossy(&bytes).into(), str::to_owned);
        Err(PodmanError::Fault { code, message })
    })
}
