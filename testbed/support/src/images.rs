//! Images against registries on loopback, one of which asks for a login.

use std::sync::Mutex;

use lb_core::conformance::runtime::Bed;
use lb_core::{
    ContainerRuntime, ContainerSpec, ErrorKind, ImageDigest, ImageRef, Progress, ProgressStep,
    Quiet, RegistryAuth, Secret,
};
use serde_json::{Value, json};

use crate::engine::{RealEngine, engine};
use crate::variable;

/// How an engine's API tells of images.
pub trait ImageEngine: RealEngine {
    /// A repository of this engine's own that keeps an image meanwhile.
    const KEPT: &'static str;
    /// What the answer to a push holds when it failed.
    const PUSH_FAILED: &'static str;
    /// What a refusal says where no login was sent, if it says so.
    const NO_LOGIN: Option<&'static str>;
    /// Whether an image that came by two ways has the digests of both, without a word on whose each is.
    const MANY_DIGESTS: bool;

    /// Path and body of a push.
    fn push(repository: &str, version: &str) -> (String, Value);

    /// The image's id as inspecting shows it.
    fn id(digest: &ImageDigest) -> &str;

    /// Whether this step of a pull tells of the image that came.
    fn tells(step: &ProgressStep, digest: &ImageDigest) -> bool;
}

/// One test for each case, in turn: they tag and untag the same images.
#[macro_export]
macro_rules! image_cases {
    ($engine:ty, $needs:literal) => {
        $crate::image_cases! { $engine, $needs:
            a_local_image_has_its_id_and_runs_by_it
            a_tag_is_pulled_and_resolved_to_a_digest
            a_tag_that_moved_is_pulled_again
            a_digest_that_is_here_is_not_asked_for
            a_registry_that_is_gone_leaves_the_local_image
            a_login_is_needed_checked_and_used
            what_is_nowhere_is_not_found
        }
    };
    ($engine:ty, $needs:literal: $($name:ident)*) => {$(
        #[test]
        #[ignore = $needs]
        fn $name() {
            $crate::engine::on::<$engine>(|bed| {
                Box::pin($crate::images::in_turn($crate::images::$name::<$engine>(bed)))
            });
        }
    )*};
}

/// Runs a case while no other runs.
pub async fn in_turn(case: impl Future<Output = ()>) {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _turn = TURN.lock().await;
    case.await;
}

/// Remembers what it hears.
#[derive(Default)]
struct Heard(Mutex<Vec<ProgressStep>>);

impl Progress for Heard {
    fn step(&self, step: &ProgressStep) {
        self.0.lock().unwrap().push(step.clone());
    }
}

fn image(registry: &str, rest: &str) -> ImageRef {
    format!("{}/{rest}", variable(registry)).parse().unwrap()
}

fn login(password: &str) -> RegistryAuth {
    RegistryAuth { username: variable("LB_TEST_REGISTRY_USER"), password: Secret::new(password) }
}

async fn remove<E: ImageEngine>(image: &str) {
    engine::<E>("DELETE", &format!("/images/{image}?{}", E::BY_FORCE), &json!(null)).await;
}

async fn tag<E: ImageEngine>(image: &str, repository: &str, tag: &str) {
    let path = format!("/images/{image}/tag?repo={repository}&tag={tag}");
    let (status, answer) = engine::<E>("POST", &path, &json!(null)).await;
    assert_eq!(status, 201, "{answer}");
}

/// Pushes a local image to the open registry under a repository of the test's own.
async fn push<E: ImageEngine>(image: &str, repository: &str, version: &str) {
    tag::<E>(image, repository, version).await;
    let (path, body) = E::push(repository, version);
    let (status, answer) = engine::<E>("POST", &path, &body).await;
    assert!(status == 200 && !answer.contains(E::PUSH_FAILED), "{status} {answer}");
    remove::<E>(&format!("{repository}:{version}")).await;
}

async fn runs(runtime: &dyn ContainerRuntime, bed: &Bed, image: ImageRef) {
    let spec = ContainerSpec { image, ..bed.sleeper("pinned") };
    let spec = ContainerSpec { command: None, ..spec };
    runtime.run(&spec).await.unwrap();
    runtime.stop(&spec.name, std::time::Duration::ZERO).await.unwrap();
}

pub async fn a_local_image_has_its_id_and_runs_by_it<E: ImageEngine>(bed: &Bed) {
    let runtime = &*bed.runtime;
    let image: ImageRef = variable("LB_TEST_APP_IMAGE").parse().unwrap();
    let digest = runtime.ensure_image(&image, None, &Quiet).await.unwrap();
    let (_, inspected) = engine::<E>("GET", &format!("/images/{image}/json"), &json!(null)).await;
    assert!(inspected.contains(&format!("\"Id\":\"{}\"", E::id(&digest))), "{digest}");
    let pinned = image.with_digest(digest.clone());
    assert_eq!(runtime.ensure_image(&pinned, None, &Quiet).await.unwrap(), digest);
    runs(runtime, bed, pinned).await;
}

pub async fn a_tag_is_pulled_and_resolved_to_a_digest<E: ImageEngine>(bed: &Bed) {
    let runtime = &*bed.runtime;
    let image = image("LB_TEST_REGISTRY", "demo-app:1");
    remove::<E>(&image.to_string()).await;
    let heard = Heard::default();
    let digest = runtime.ensure_image(&image, None, &heard).await.unwrap();
    let heard = heard.0.into_inner().unwrap();
    assert!(heard.iter().any(|step| E::tells(step, &digest)), "{heard:?}");
    assert_eq!(runtime.ensure_image(&image, None, &Quiet).await.unwrap(), digest, "again");
    runs(runtime, bed, image.clone().with_digest(digest.clone())).await;
    remove::<E>(&format!("{}@{digest}", image.repository())).await;
    remove::<E>(&image.to_string()).await;
    let pinned = image.with_digest(digest.clone());
    assert_eq!(
        runtime.ensure_image(&pinned, None, &Quiet).await.unwrap(),
        digest,
        "pulled by digest"
    );
    runs(runtime, bed, pinned).await;
}

pub async fn a_tag_that_moved_is_pulled_again<E: ImageEngine>(bed: &Bed) {
    let runtime = &*bed.runtime;
    let image = image("LB_TEST_REGISTRY", &format!("{}:1", bed.cluster));
    push::<E>(&variable("LB_TEST_APP_IMAGE"), image.repository(), "1").await;
    let first = runtime.ensure_image(&image, None, &Quiet).await.unwrap();
    // Elsewhere somebody pushes another image under the same tag; here the old one keeps it.
    tag::<E>(&by_digest(&image, &first), E::KEPT, "1").await;
    push::<E>(&variable("LB_TEST_APP_IMAGE_2"), image.repository(), "1").await;
    tag::<E>(&format!("{}:1", E::KEPT), image.repository(), "1").await;
    let second = runtime.ensure_image(&image, None, &Quiet).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(runtime.ensure_image(&image, None, &Quiet).await.unwrap(), second);
    let digests = [&first, &second].map(|digest| by_digest(&image, digest));
    let tags = [image.to_string(), format!("{}:1", E::KEPT)];
    for name in digests.iter().chain(&tags) {
        remove::<E>(name).await;
    }
}

fn by_digest(image: &ImageRef, digest: &ImageDigest) -> String {
    format!("{}@{digest}", image.repository())
}

pub async fn a_digest_that_is_here_is_not_asked_for<E: ImageEngine>(bed: &Bed) {
    let runtime = &*bed.runtime;
    let image = image("LB_TEST_REGISTRY", "demo-app:1");
    let digest = runtime.ensure_image(&image, None, &Quiet).await.unwrap();
    // The login would be refused if anyone asked.
    let heard = Heard::default();
    let pinned = image.with_digest(digest.clone());
    assert_eq!(runtime.ensure_image(&pinned, Some(&login("wrong")), &heard).await.unwrap(), digest);
    assert!(heard.0.into_inner().unwrap().is_empty());
}

pub async fn a_registry_that_is_gone_leaves_the_local_image<E: ImageEngine>(bed: &Bed) {
    let runtime = &*bed.runtime;
    let gone: ImageRef = format!("127.0.0.1:1/{}:1", bed.cluster).parse().unwrap();
    let error = runtime.ensure_image(&gone, None, &Quiet).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(error.subject(), format!("image {gone:?}"));
    tag::<E>(&variable("LB_TEST_APP_IMAGE"), gone.repository(), "1").await;
    let digest = runtime.ensure_image(&gone, None, &Quiet).await.unwrap();
    runs(runtime, bed, gone.clone().with_digest(digest)).await;
    remove::<E>(&gone.to_string()).await;
}

pub async fn a_login_is_needed_checked_and_used<E: ImageEngine>(bed: &Bed) {
    let runtime = &*bed.runtime;
    let image = image("LB_TEST_REGISTRY_AUTH", "demo-app:1");
    remove::<E>(&image.to_string()).await;
    // `?>~` become `/`, `+` in standard base64, which Docker would take for no login at all.
    for auth in [None, Some(login("wrong?>~?>~"))] {
        let error = runtime.ensure_image(&image, auth.as_ref(), &Quiet).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        if let Some(words) = E::NO_LOGIN {
            let no_login = error.message().contains(words);
            assert_eq!(no_login, auth.is_none(), "the login was sent: {error}");
        }
        assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
    }
    let auth = login(&variable("LB_TEST_REGISTRY_PASSWORD"));
    let digest = runtime.ensure_image(&image, Some(&auth), &Quiet).await.unwrap();
    assert_eq!(runtime.ensure_image(&image, Some(&auth), &Quiet).await.unwrap(), digest);
    let error = runtime.ensure_image(&image, Some(&login("wrong")), &Quiet).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "refused, though the image is here: {error}");
    // No login, so the local one.
    let local = runtime.ensure_image(&image, None, &Quiet).await.unwrap();
    assert!(local == digest || E::MANY_DIGESTS, "{local}");
    for digest in [digest, local] {
        runs(runtime, bed, image.clone().with_digest(digest)).await;
    }
    remove::<E>(&image.to_string()).await;
}

pub async fn what_is_nowhere_is_not_found<E: ImageEngine>(bed: &Bed) {
    let runtime = &*bed.runtime;
    for rest in ["no-such-app:1", "demo-app:no-such-tag"] {
        let error =
            runtime.ensure_image(&image("LB_TEST_REGISTRY", rest), None, &Quiet).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    let absent = format!("demo-app@sha256:{}", "0".repeat(64));
    let error =
        runtime.ensure_image(&image("LB_TEST_REGISTRY", &absent), None, &Quiet).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}
