//! Images: found on the host, asked for at their registry, fetched.

use std::future::Future;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::models::{CreateImageInfo, ImageInspect};
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::TryStreamExt;
use lb_core::{ErrorKind, ImageDigest, ImageRef, Progress, ProgressStep, RegistryAuth, Result};
use tokio::sync::mpsc;

use super::Host;
use crate::convert::{image_names, local_digest, pulled_digest, registry_digests};
use crate::error::Failure;

/// Steps that wait to be heard; further ones are dropped, for the next says as much.
const PROGRESS_QUEUE: usize = 64;

/// How long a registry may take to say what a tag means while the image it meant last is here.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// Where logins without a registry in the image's name go, by Docker's custom.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// From the work's task to its caller.
pub(super) fn progress_queue() -> (mpsc::Sender<ProgressStep>, mpsc::Receiver<ProgressStep>) {
    mpsc::channel(PROGRESS_QUEUE)
}

/// Waits for `done` and tells `progress` meanwhile.
pub(super) async fn hear<T>(
    done: impl Future<Output = T>,
    mut heard: mpsc::Receiver<ProgressStep>,
    progress: &dyn Progress,
) -> T {
    let mut done = std::pin::pin!(done);
    loop {
        tokio::select! {
            biased;
            Some(step) = heard.recv() => progress.step(&step),
            result = &mut done => break result,
        }
    }
}

/// One image wanted, and how to get at it.
struct Wanted<'a> {
    host: &'a Host,
    image: &'a ImageRef,
    auth: Option<&'a RegistryAuth>,
    steps: &'a mpsc::Sender<ProgressStep>,
}

pub(super) async fn ensure(
    host: &Host,
    image: &ImageRef,
    auth: Option<&RegistryAuth>,
    steps: &mpsc::Sender<ProgressStep>,
) -> Result<ImageDigest> {
    let wanted = Wanted { host, image, auth, steps };
    let done = match image.digest() {
        Some(digest) => wanted.pinned(digest).await,
        None => wanted.tagged().await,
    };
    done.map_err(|e| e.into_error("ensure", format!("image {image:?}")))
}

impl Wanted<'_> {
    async fn pinned(&self, digest: &ImageDigest) -> Result<ImageDigest, Failure> {
        for name in image_names(self.image) {
            if self.inspect(&name).await?.is_some() {
                return Ok(digest.clone());
            }
        }
        self.pull(digest.as_str()).await?;
        Ok(digest.clone())
    }

    async fn tagged(&self) -> Result<ImageDigest, Failure> {
        let Some(local) = self.inspect(&self.image.to_string()).await? else {
            return self.pull_tag().await;
        };
        let known = registry_digests(self.image, &local);
        match known.is_empty() {
            // Built or imported here: no registry has ever known it.
            true => local_digest(&local),
            false => self.refreshed(&known).await,
        }
    }

    /// The tag's meaning now, or the one it had last when its registry does not say.
    async fn refreshed(&self, known: &[ImageDigest]) -> Result<ImageDigest, Failure> {
        let fresh = match self.resolve().await {
            Ok(digest) if known.contains(&digest) => return Ok(digest),
            Ok(_) => self.pull_tag().await,
            Err(failure) => Err(failure),
        };
        match (fresh, known.first()) {
            (Err(failure), Some(last)) if self.may_fall_back(&failure) => {
                tracing::warn!(image = %self.image, error = %failure, "registry does not say, image on host used");
                Ok(last.clone())
            }
            (fresh, _) => fresh,
        }
    }

    /// Not when the engine itself is away, nor when a login was given and refused.
    fn may_fall_back(&self, failure: &Failure) -> bool {
        let refused_login = self.auth.is_some() && failure.kind() == ErrorKind::Denied;
        matches!(failure, Failure::Refused { .. } | Failure::Late(_)) && !refused_login
    }

    async fn resolve(&self) -> Result<ImageDigest, Failure> {
        let name = self.image.to_string();
        let asked = self.host.engine.docker().inspect_registry_image(&name, self.credentials());
        let deadline = RESOLVE_DEADLINE.min(self.host.deadlines.pull);
        let answer = self.host.engine.call(deadline, asked).await?;
        let digest = answer.descriptor.digest.unwrap_or_default();
        ImageDigest::new(digest).map_err(|e| Failure::unexpected(e.to_string()))
    }

    async fn pull_tag(&self) -> Result<ImageDigest, Failure> {
        if let Some(digest) = self.pull(self.image.tag().unwrap_or("latest")).await? {
            return Ok(digest);
        }
        let local = self.inspect(&self.image.to_string()).await?;
        let local = local.ok_or_else(|| Failure::unexpected("fetched, and yet not there"))?;
        match registry_digests(self.image, &local).into_iter().next() {
            Some(digest) => Ok(digest),
            None => local_digest(&local),
        }
    }

    /// Fetches a tag or digest of the repository. Gives the digest if the engine says it.
    async fn pull(&self, which: &str) -> Result<Option<ImageDigest>, Failure> {
        let options =
            CreateImageOptionsBuilder::new().from_image(self.image.repository()).tag(which).build();
        let fetch = async {
            let _place = self.host.pulls.acquire().await;
            let docker = self.host.engine.docker();
            let lines = docker.create_image(Some(options), None, self.credentials());
            lines
                .try_fold(None, |digest, line| std::future::ready(Ok(self.heed(&line).or(digest))))
                .await
        };
        self.host.engine.wait(self.host.deadlines.pull, fetch).await
    }

    /// Passes a line of the engine on; gives the digest if it holds it.
    fn heed(&self, line: &CreateImageInfo) -> Option<ImageDigest> {
        let status = line.status.clone().unwrap_or_default();
        let digest = pulled_digest(&status);
        let bytes = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        let detail = line.progress_detail.clone().unwrap_or_default();
        // Full or closed: nobody hears, the work goes on.
        drop(self.steps.try_send(ProgressStep {
            what: status,
            item: line.id.clone().unwrap_or_default(),
            done: bytes(detail.current),
            total: bytes(detail.total),
        }));
        digest
    }

    fn credentials(&self) -> Option<DockerCredentials> {
        let auth = self.auth?;
        Some(DockerCredentials {
            username: Some(auth.username.clone()),
            password: Some(auth.password.expose().to_owned()),
            serveraddress: Some(self.image.registry().unwrap_or(DOCKER_HUB).to_owned()),
            ..DockerCredentials::default()
        })
    }

    async fn inspect(&self, name: &str) -> Result<Option<ImageInspect>, Failure> {
        let asked = self.host.engine.docker().inspect_image(name);
        match self.host.engine.call(self.host.deadlines.read, asked).await {
            Ok(image) => Ok(Some(image)),
            Err(failure) if failure.is_absent() => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}
