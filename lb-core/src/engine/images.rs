//! Images: found on the host, asked for at their registry, fetched.

use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::runtime::Host;
use super::{EngineApi, Failure, SeenImage};
use crate::error::{ErrorKind, Result};
use crate::model::{ImageDigest, ImageRef, RegistryAuth};
use crate::runtime::{Progress, ProgressStep};

/// Steps that wait to be heard; further ones are dropped, for the next says as much.
const PROGRESS_QUEUE: usize = 64;

/// How long a registry may take to say what a tag means while the image it meant last is here.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// The names under which an engine may know the image, likeliest first. A digest is a manifest's, known
/// as `repository@digest`, or a local image's id, known by itself.
pub fn image_names(image: &ImageRef) -> Vec<String> {
    match image.digest() {
        Some(digest) => vec![format!("{}@{digest}", image.repository()), digest.to_string()],
        None => vec![image.to_string()],
    }
}

/// One thing an engine says while it fetches.
#[derive(Debug, Clone)]
pub struct PullLine {
    /// For those who watch.
    pub step: ProgressStep,
    /// Whether the registry has answered: before that, nothing is known but hope.
    pub answered: bool,
    /// The digest of what was asked for, where it is said.
    pub digest: Option<ImageDigest>,
}

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
struct Wanted<'a, A> {
    host: &'a Host<A>,
    image: &'a ImageRef,
    auth: Option<&'a RegistryAuth>,
    steps: &'a mpsc::Sender<ProgressStep>,
}

pub(super) async fn ensure(
    host: &Host<impl EngineApi>,
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

impl<A: EngineApi> Wanted<'_, A> {
    async fn pinned(&self, digest: &ImageDigest) -> Result<ImageDigest, Failure> {
        for name in image_names(self.image) {
            if self.find(&name).await?.is_some() {
                return Ok(digest.clone());
            }
        }
        self.pull(digest.as_str(), self.host.calls.deadlines.pull).await?;
        Ok(digest.clone())
    }

    async fn tagged(&self) -> Result<ImageDigest, Failure> {
        let Some(local) = self.find(&self.image.to_string()).await? else {
            return self.pull_tag(&[], self.host.calls.deadlines.pull).await;
        };
        let known = registry_digests(self.image, &local);
        match known.is_empty() {
            // Built or imported here: no registry has ever known it.
            true => Ok(local.id),
            false => self.refreshed(&known).await,
        }
    }

    /// The tag's meaning now, or the one it had last when its registry does not say.
    async fn refreshed(&self, known: &[ImageDigest]) -> Result<ImageDigest, Failure> {
        let deadline = RESOLVE_DEADLINE.min(self.host.calls.deadlines.pull);
        let fresh =
            match self.host.call(deadline, self.host.api.resolve(self.image, self.auth)).await {
                Ok(Some(digest)) if known.contains(&digest) => return Ok(digest),
                Ok(Some(_)) => self.pull_tag(known, self.host.calls.deadlines.pull).await,
                Ok(None) => self.pull_tag(known, deadline).await,
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

    async fn pull_tag(
        &self,
        known: &[ImageDigest],
        patience: Duration,
    ) -> Result<ImageDigest, Failure> {
        if let Some(digest) = self.pull(self.image.tag().unwrap_or("latest"), patience).await? {
            return Ok(digest);
        }
        let local = self.find(&self.image.to_string()).await?;
        let local = local.ok_or_else(|| Failure::unexpected("fetched, and yet not there"))?;
        let mut digests = registry_digests(self.image, &local);
        // What was not known before is likeliest what the tag means now.
        digests.sort_by_key(|digest| known.contains(digest));
        match digests.as_slice() {
            [] => Ok(local.id),
            [only] => Ok(only.clone()),
            several => self.known_to_registry(several).await,
        }
    }

    /// The first of an image's digests that its registry knows too: an engine may show those of copies that
    /// came by other ways.
    async fn known_to_registry(&self, digests: &[ImageDigest]) -> Result<ImageDigest, Failure> {
        for digest in digests {
            match self.pull(digest.as_str(), RESOLVE_DEADLINE).await {
                Ok(_) => return Ok(digest.clone()),
                Err(failure) if failure.kind() == ErrorKind::NotFound => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::unexpected("fetched by its tag, and yet unknown under each of its digests"))
    }

    /// Fetches a tag or digest of the repository. Gives the digest if the engine says it. `patience` is for
    /// the registry's first answer.
    async fn pull(&self, which: &str, patience: Duration) -> Result<Option<ImageDigest>, Failure> {
        let fetch = async {
            let _place = self.host.calls.pulls.acquire().await;
            let mut lines = self.host.api.pull(self.image, which, self.auth);
            let mut digest = None;
            let answer = async {
                while let Some(line) = lines.next().await {
                    if self.heed(line?, &mut digest) {
                        break;
                    }
                }
                Ok(())
            };
            timeout(patience, answer).await.unwrap_or(Err(Failure::Late(patience)))?;
            while let Some(line) = lines.next().await {
                self.heed(line?, &mut digest);
            }
            Ok(digest)
        };
        self.host.wait(self.host.calls.deadlines.pull, fetch).await
    }

    /// Passes a line of the engine on; says whether the registry has answered.
    fn heed(&self, line: PullLine, digest: &mut Option<ImageDigest>) -> bool {
        // Full or closed: nobody hears, the work goes on.
        drop(self.steps.try_send(line.step));
        *digest = line.digest.or(digest.take());
        line.answered
    }

    async fn find(&self, name: &str) -> Result<Option<SeenImage>, Failure> {
        match self.host.read(self.host.api.image(name)).await {
            Ok(image) => Ok(Some(image)),
            Err(failure) if failure.is_absent() => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

/// The manifest digests under which a registry knows the image in this repository: lists of manifests
/// first, for they hold on machines of every kind, then in order.
fn registry_digests(image: &ImageRef, local: &SeenImage) -> Vec<ImageDigest> {
    let repository = familiar(image.repository());
    let ours = local.digests.iter().filter(|(name, _)| familiar(name) == repository);
    let mut digests: Vec<_> = ours.map(|(_, digest)| digest.clone()).collect();
    digests.sort_by_key(|digest| (local.single.as_ref() == Some(digest), digest.clone()));
    digests
}

/// A repository as people write it: Docker Hub's own name and its `library` left out
/// (github.com/distribution/reference, `FamiliarName`).
fn familiar(repository: &str) -> &str {
    let hub = ["docker.io/", "index.docker.io/"];
    let path = hub.iter().find_map(|h| repository.strip_prefix(h)).unwrap_or(repository);
    match path.strip_prefix("library/") {
        Some(name) if !name.contains('/') => name,
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> ImageDigest {
        ImageDigest::new(format!("sha256:{}", format!("{n:02x}").repeat(32))).unwrap()
    }

    #[test]
    fn a_pinned_image_has_two_names_and_a_tagged_one_its_own() {
        let pinned = ImageRef::new("r.example.org:5000/cart:1").unwrap().with_digest(digest(1));
        let (first, second) =
            (format!("r.example.org:5000/cart@{}", digest(1)), digest(1).to_string());
        assert_eq!(image_names(&pinned), [first, second]);
        assert_eq!(image_names(&"cart:1".parse().unwrap()), ["cart:1"]);
    }

    #[test]
    fn an_images_digest_is_its_repositorys_and_a_lists_before_a_single_ones() {
        let of = |name: &str, n| (name.to_owned(), digest(n));
        let local = SeenImage {
            id: digest(1),
            digests: vec![
                of("127.0.0.1:5000/cart", 9),
                of("127.0.0.1:5000/cart", 2),
                of("cart", 3),
                of("docker.io/team/cart", 4),
                of("docker.io/team/cart", 5),
            ],
            single: Some(digest(4)),
        };
        let of = |image: &str| registry_digests(&image.parse().unwrap(), &local);
        assert_eq!(of("127.0.0.1:5000/cart:1"), [digest(2), digest(9)]);
        assert_eq!(of("cart"), [digest(3)]);
        assert_eq!(of("docker.io/library/cart:7"), [digest(3)]);
        assert_eq!(of("team/cart"), [digest(5), digest(4)]);
        assert!(of("127.0.0.1:5001/cart").is_empty());
    }
}
