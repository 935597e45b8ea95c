//! Docker's API as the core's [`EngineApi`]: one request a method.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bollard::container::LogOutput;
use bollard::errors::Error as BollardError;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, EventsOptionsBuilder,
    ListContainersOptions, LogsOptionsBuilder, RemoveContainerOptionsBuilder, StatsOptionsBuilder,
    StopContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use lb_core::engine::{
    EngineApi, Failure, PullLine, Seen, SeenImage, SeenNetwork, Subscription, Summary, Tail, Which,
    whole_seconds,
};
use lb_core::{
    ClusterId, ContainerSpec, EngineInfo, ImageDigest, ImageRef, NetworkName, NetworkSpec,
    RegistryAuth, Usage,
};
use tokio::sync::mpsc;

use crate::convert::{self, Settings};
use crate::endpoint::Endpoint;
use crate::engine::Engine;
use crate::error::failure;

/// The events asked for: those that change what `list` says.
const ACTIONS: [&str; 3] = ["start", "die", "destroy"];

/// The API of one engine.
#[derive(Debug)]
pub struct DockerApi {
    pub(crate) endpoint: Endpoint,
    pub(crate) engine: Engine,
    pub(crate) settings: Settings,
}

#[async_trait]
impl EngineApi for DockerApi {
    fn endpoint(&self) -> String {
        self.endpoint.to_string()
    }

    fn is_here(&self) -> bool {
        matches!(self.endpoint, Endpoint::Unix(_))
    }

    fn lost(&self) {
        self.engine.forget_version();
    }

    async fn describe(&self) -> Result<EngineInfo, Failure> {
        let info = self.engine.ask(self.engine.docker().info()).await?;
        Ok(convert::engine_info(info))
    }

    async fn create(
        &self,
        cluster: &ClusterId,
        spec: &ContainerSpec,
        image: &str,
    ) -> Result<String, Failure> {
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            ..convert::create_body(cluster, spec, &self.settings)
        };
        let options = CreateContainerOptionsBuilder::new().name(spec.name.as_str()).build();
        let made = Box::pin(self.engine.docker().create_container(Some(options), body));
        Ok(self.engine.ask(made).await?.id)
    }

    async fn start(&self, id: &str) -> Result<(), Failure> {
        self.engine.ask(self.engine.docker().start_container(id, None)).await
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), Failure> {
        let seconds = i32::try_from(whole_seconds(grace)).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        self.engine.ask(self.engine.docker().stop_container(id, Some(options))).await
    }

    async fn remove(&self, id: &str) -> Result<(), Failure> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let removed = self.engine.docker().remove_container(id, Some(options));
        match self.engine.ask(removed).await {
            Err(Failure::Refused { status: 409, message, .. })
                if message.contains("already in progress") =>
            {
                self.removed_by_other(id).await
            }
            other => other,
        }
    }

    /// bollard makes an error of every exit code but 0.
    async fn ended(&self, id: &str) -> Result<(), Failure> {
        let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
        let mut answers = self.engine.docker().wait_container(id, Some(options));
        let ended = async {
            match answers.next().await {
                Some(Err(BollardError::DockerContainerWaitError { .. }) | Ok(_)) => Ok(()),
                Some(Err(error)) => Err(error),
                None => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            }
        };
        self.engine.ask(ended).await
    }

    async fn container(&self, name: &str) -> Result<Seen, Failure> {
        convert::seen(self.engine.ask(self.engine.docker().inspect_container(name, None)).await?)
    }

    async fn containers(&self, cluster: &ClusterId, which: Which) -> Result<Vec<Summary>, Failure> {
        let options = ListContainersOptions {
            all: which == Which::All,
            filters: Some(convert::owned_by(cluster)),
            ..ListContainersOptions::default()
        };
        let listed = self.engine.ask(self.engine.docker().list_containers(Some(options))).await?;
        Ok(listed.into_iter().filter_map(convert::summary).collect())
    }

    async fn usage(&self, id: &str) -> Result<Option<Usage>, Failure> {
        let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let mut stats = self.engine.docker().stats(id, Some(options));
        let answer = self.engine.ask(stats.try_next()).await?;
        Ok(answer.as_ref().and_then(convert::usage))
    }

    async fn output(&self, id: &str, lines: Option<usize>, most: usize) -> Result<String, Failure> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true);
        let options = match lines {
            Some(lines) => options.tail(&lines.to_string()),
            None => options,
        };
        let output = self.engine.docker().logs(id, Some(options.build()));
        let kept = output.try_fold(Tail::new(most), async |mut tail, piece: LogOutput| {
            tail.push(piece.as_ref());
            Ok(tail)
        });
        Ok(self.engine.ask(kept).await?.finish())
    }

    async fn network(&self, name: &NetworkName) -> Result<SeenNetwork, Failure> {
        let asked = self.engine.docker().inspect_network(name.as_str(), None);
        Ok(convert::seen_network(self.engine.ask(asked).await?))
    }

    async fn make_network(&self, cluster: &ClusterId, spec: &NetworkSpec) -> Result<(), Failure> {
        let request = convert::network_request(cluster, spec);
        self.engine.ask(self.engine.docker().create_network(request)).await.map(drop)
    }

    async fn remove_network(&self, id: &str) -> Result<(), Failure> {
        self.engine.ask(self.engine.docker().remove_network(id)).await
    }

    async fn image(&self, name: &str) -> Result<SeenImage, Failure> {
        convert::seen_image(self.engine.ask(self.engine.docker().inspect_image(name)).await?)
    }

    async fn resolve(
        &self,
        image: &ImageRef,
        auth: Option<&RegistryAuth>,
    ) -> Result<Option<ImageDigest>, Failure> {
        let (name, login) = (image.to_string(), convert::credentials(image, auth));
        let asked = self.engine.docker().inspect_registry_image(&name, login);
        let digest = self.engine.ask(asked).await?.descriptor.digest.unwrap_or_default();
        ImageDigest::new(digest).map(Some).map_err(|e| Failure::unexpected(e.to_string()))
    }

    fn pull<'a>(
        &'a self,
        image: &'a ImageRef,
        which: &'a str,
        auth: Option<&'a RegistryAuth>,
    ) -> BoxStream<'a, Result<PullLine, Failure>> {
        let options =
            CreateImageOptionsBuilder::new().from_image(image.repository()).tag(which).build();
        let login = convert::credentials(image, auth);
        let lines = async move {
            self.engine.agreed().await?;
            let lines = self.engine.docker().create_image(Some(options), None, login);
            Ok(lines.map_ok(convert::pull_line).map_err(failure))
        };
        stream::once(lines).try_flatten().boxed()
    }

    async fn subscribe(
        &self,
        cluster: &ClusterId,
        since: Option<i128>,
    ) -> Result<Subscription, Failure> {
        let (taken, mut heard) = mpsc::channel(1);
        let docker = self.engine.listener(taken).await?;
        let mut filters: HashMap<String, Vec<String>> = convert::owned_by(cluster);
        filters.insert("type".into(), vec!["container".into()]);
        filters.insert("event".into(), ACTIONS.map(str::to_owned).to_vec());
        let options = EventsOptionsBuilder::new().filters(&filters);
        let options = match since {
            Some(mark) => options.since(&convert::unix_time(mark)),
            None => options,
        };
        let messages = docker.events(Some(options.build()));
        let mut hints = messages.map_ok(|m| convert::hint(&m)).map_err(failure).boxed();
        tokio::select! {
            biased;
            Some(taken) = heard.recv() => {
                // A second back: the head's date has no fractions.
                let begun = taken.at.map(|at| at.as_nanosecond() - 1_000_000_000);
                Ok(Subscription { hints, begun })
            }
            first = hints.next() => match first {
                Some(first) => {
                    let first = stream::once(std::future::ready(Ok(first?)));
                    Ok(Subscription { hints: first.chain(hints).boxed(), begun: None })
                }
                None => Err(failure(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())),
            },
        }
    }
}

impl DockerApi {
    async fn removed_by_other(&self, id: &str) -> Result<(), Failure> {
        let options = WaitContainerOptionsBuilder::new().condition("removed").build();
        let mut answers = self.engine.docker().wait_container(id, Some(options));
        let gone = async {
            match answers.next().await {
                Some(Err(error @ BollardError::DockerResponseServerError { .. })) => Err(error),
                _ => Ok(()),
            }
        };
        self.engine.ask(gone).await
    }
}
