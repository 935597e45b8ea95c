//! Podman's API as the core's [`EngineApi`]: one request a method.

use std::time::Duration;

use async_trait::async_trait;
use containers_api::conn::TtyChunk;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryFutureExt, TryStreamExt};
use lb_core::engine::{
    EngineApi, Failure, PullLine, Seen, SeenImage, SeenNetwork, Subscription, Summary, Tail, Which,
    owner_label, whole_seconds,
};
use lb_core::{
    ClusterId, ContainerSpec, EngineInfo, ImageDigest, ImageRef, NetworkName, NetworkSpec,
    RegistryAuth, Usage, VolumeName, VolumeSource,
};
use podman_api::models::ContainerStatus;
use podman_api::opts::{
    ContainerDeleteOpts, ContainerLogsOpts, ContainerWaitOpts, VolumeCreateOpts,
};
use tokio::time::timeout;

use crate::convert::{self, Settings};
use crate::endpoint::Endpoint;
use crate::engine::Engine;
use crate::error::failure;

/// How long a subscription may take to be refused. Podman 4 answers with the first event only, so silence
/// is consent.
const REFUSAL: Duration = Duration::from_millis(200);

/// How often the engine looks whether a container that is waited for has ended.
const END_INTERVAL: &str = "50ms";

/// Listing fails when a container goes away while Podman 4 makes the list, in these words.
const GONE_MEANWHILE: &str = "no such container";
/// How often it is asked again then.
const LIST_TRIES: u32 = 10;

/// The API of one engine.
#[derive(Debug)]
pub struct PodmanApi {
    pub(crate) endpoint: Endpoint,
    pub(crate) engine: Engine,
    pub(crate) settings: Settings,
}

#[async_trait]
impl EngineApi for PodmanApi {
    fn endpoint(&self) -> String {
        self.endpoint.to_string()
    }

    fn is_here(&self) -> bool {
        matches!(self.endpoint, Endpoint::Unix(_))
    }

    fn lost(&self) {
        self.engine.forget();
    }

    async fn describe(&self) -> Result<EngineInfo, Failure> {
        Ok(self.engine.abilities().await?.engine_info())
    }

    async fn create(
        &self,
        cluster: &ClusterId,
        spec: &ContainerSpec,
        image: &str,
    ) -> Result<String, Failure> {
        let abilities = self.engine.abilities().await?;
        let body = convert::create_body(cluster, spec, image, &self.settings, &abilities)?;
        for volume in &spec.volumes {
            if let VolumeSource::Name(name) = &volume.source {
                self.make_volume(cluster, name).await?;
            }
        }
        convert::created(&self.engine.post("/libpod/containers/create", &body).await?)
    }

    async fn start(&self, id: &str) -> Result<(), Failure> {
        self.engine.act(&format!("/libpod/containers/{id}/start")).await
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), Failure> {
        let seconds = whole_seconds(grace);
        self.engine.act(&format!("/libpod/containers/{id}/stop?timeout={seconds}")).await
    }

    async fn remove(&self, id: &str) -> Result<(), Failure> {
        let options = ContainerDeleteOpts::builder().force(true).volumes(true).timeout(0).build();
        self.engine.podman().containers().get(id).delete(&options).await.map_err(failure)
    }

    async fn ended(&self, id: &str) -> Result<(), Failure> {
        let options = ContainerWaitOpts::builder()
            .conditions([ContainerStatus::Exited])
            .interval(END_INTERVAL)
            .build();
        self.engine.podman().containers().get(id).wait(&options).await.map_err(failure)
    }

    async fn container(&self, name: &str) -> Result<Seen, Failure> {
        convert::seen(&self.engine.get(&format!("/libpod/containers/{name}/json")).await?)
    }

    async fn containers(&self, cluster: &ClusterId, which: Which) -> Result<Vec<Summary>, Failure> {
        let all = which == Which::All;
        let filters = convert::owned_by(cluster);
        let path = format!("/libpod/containers/json?all={all}&filters={filters}");
        let mut tries = 1;
        loop {
            match self.engine.get(&path).await {
                Err(Failure::Refused { message, .. })
                    if message.contains(GONE_MEANWHILE) && tries < LIST_TRIES =>
                {
                    tries += 1;
                }
                answer => return convert::summaries(&answer?),
            }
        }
    }

    async fn usage(&self, id: &str) -> Result<Option<Usage>, Failure> {
        let path = format!("/libpod/containers/stats?containers={id}&stream=false");
        Ok(convert::usage(&self.engine.get(&path).await?))
    }

    /// All of it, for Podman 4 counts lines wrongly where one is not ended.
    async fn output(&self, id: &str, lines: Option<usize>, most: usize) -> Result<String, Failure> {
        let options = ContainerLogsOpts::builder().stdout(true).stderr(true).build();
        let container = self.engine.podman().containers().get(id);
        let mut output = container.logs(&options);
        let mut tail = Tail::new(most);
        while let Some(piece) = output.try_next().await.map_err(failure)? {
            match &piece {
                TtyChunk::StdIn(text) | TtyChunk::StdOut(text) | TtyChunk::StdErr(text) => {
                    tail.push(text);
                }
            }
        }
        Ok(match lines {
            Some(lines) => tail.finish_lines(lines),
            None => tail.finish(),
        })
    }

    async fn network(&self, name: &NetworkName) -> Result<SeenNetwork, Failure> {
        let answer = self.engine.get(&format!("/libpod/networks/{name}/json")).await?;
        Ok(convert::seen_network(&answer))
    }

    async fn make_network(&self, cluster: &ClusterId, spec: &NetworkSpec) -> Result<(), Failure> {
        self.engine.abilities().await?.needs_addresses()?;
        let request = convert::network_request(cluster, spec);
        self.engine.post("/libpod/networks/create", &request).await.map(drop)
    }

    async fn remove_network(&self, id: &str) -> Result<(), Failure> {
        self.engine.delete(&format!("/libpod/networks/{id}")).await
    }

    async fn image(&self, name: &str) -> Result<SeenImage, Failure> {
        convert::seen_image(&self.engine.get(&format!("/libpod/images/{name}/json")).await?)
    }

    /// Podman has no such request.
    async fn resolve(
        &self,
        _: &ImageRef,
        _: Option<&RegistryAuth>,
    ) -> Result<Option<ImageDigest>, Failure> {
        Ok(None)
    }

    fn pull<'a>(
        &'a self,
        image: &'a ImageRef,
        which: &'a str,
        auth: Option<&'a RegistryAuth>,
    ) -> BoxStream<'a, Result<PullLine, Failure>> {
        let path = convert::pull_path(image, which);
        let lines = self.engine.post_lines(path, auth.map(convert::login));
        lines
            .try_flatten_stream()
            .and_then(|line| std::future::ready(convert::pull_line(&line)))
            .boxed()
    }

    async fn subscribe(
        &self,
        cluster: &ClusterId,
        since: Option<i128>,
    ) -> Result<Subscription, Failure> {
        // A second back: its date has no fractions. The engine keeps its events and gives them again.
        let begun = self.engine.clock().await?.as_nanosecond() - 1_000_000_000;
        let (filters, since) =
            (convert::events_of(cluster), convert::unix_time(since.unwrap_or(begun)));
        let path = format!("/libpod/events?stream=true&since={since}&filters={filters}");
        let mut asked = Box::pin(self.engine.lines(path));
        let events = match timeout(REFUSAL, &mut asked).await {
            Ok(events) => events?,
            Err(_) => asked.try_flatten_stream().boxed(),
        };
        let hints = events.map_ok(|event| convert::hint(&event)).boxed();
        Ok(Subscription { hints, begun: Some(begun) })
    }
}

impl PodmanApi {
    /// A named volume is made on first use; made beforehand, it can carry its owner.
    async fn make_volume(&self, cluster: &ClusterId, name: &VolumeName) -> Result<(), Failure> {
        let volumes = self.engine.podman().volumes();
        let there = async || volumes.get(name.as_str()).exists().await.map_err(failure);
        if there().await? {
            return Ok(());
        }
        let options =
            VolumeCreateOpts::builder().name(name.as_str()).labels([owner_label(cluster)]).build();
        match volumes.create(&options).await.map_err(failure) {
            // Somebody was faster, or the answer does not parse.
            Err(_) if there().await? => Ok(()),
            other => other.map(drop),
        }
    }
}
