//! Images against registries on loopback, one of which asks for a login.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod common;

use std::sync::Mutex;

use lb_core::{
    ContainerRuntime, ContainerSpec, ErrorKind, ImageRef, Progress, ProgressStep, Quiet,
    RegistryAuth, Secret,
};
use serde_json::json;

use common::{Bed, engine, on_bed, variable};

/// Remembers what it hears.
#[derive(Default)]
struct Heard(Mutex<Vec<ProgressStep>>);

impl Progress for Heard {
    fn step(&self, step: &ProgressStep) {
        self.0.lock().unwrap().push(step.clone());
    }
}

/// The tests tag and untag the same images, so they take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

macro_rules! cases {
    ($($name:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "needs LB_TEST_PODMAN (testbed/up)"]
        async fn $name() {
            let _turn = TURN.lock().await;
            on_bed(|bed| Box::pin(cases::$name(&bed.runtime, bed))).await;
        }
    )*};
}

cases! {
    a_local_image_has_its_id_and_runs_by_it
    a_tag_is_pulled_and_resolved_to_a_digest
    a_tag_that_moved_is_pulled_again
    a_digest_that_is_here_is_not_asked_for
    a_registry_that_is_gone_leaves_the_local_image
    a_login_is_needed_checked_and_used
    what_is_nowhere_is_not_found
}

fn image(registry: &str, rest: &str) -> ImageRef {
    format!("{}/{rest}", variable(registry)).parse().unwrap()
}

fn login(password: &str) -> RegistryAuth {
    RegistryAuth { username: variable("LB_TEST_REGISTRY_USER"), password: Secret::new(password) }
}

async fn remove(image: &str) {
    engine("DELETE", &format!("/images/{image}?force=true"), &json!(null)).await;
}

async fn tag(image: &str, repository: &str, tag: &str) {
    let path = format!("/images/{image}/tag?repo={repository}&tag={tag}");
    let (status, answer) = engine("POST", &path, &json!(null)).await;
    assert_eq!(status, 201, "{answer}");
}

/// Pushes a local image to the open registry under a repository of the test's own.
async fn push(image: &str, repository: &str, version: &str) {
    tag(image, repository, version).await;
    let name = format!("{repository}:{version}");
    let path = format!("/images/{name}/push?destination={name}");
    let (status, answer) = engine("POST", &path, &json!(null)).await;
    assert!(status == 200 && !answer.contains("error"), "{status} {answer}");
    remove(&format!("{repository}:{version}")).await;
}

mod cases {
    use super::*;

    async fn runs(runtime: &dyn ContainerRuntime, bed: &Bed, image: ImageRef) {
        let spec = ContainerSpec { image, ..bed.sleeper("pinned") };
        let spec = ContainerSpec { command: None, ..spec };
        runtime.run(&spec).await.unwrap();
        runtime.stop(&spec.name, std::time::Duration::ZERO).await.unwrap();
    }

    pub(super) async fn a_local_image_has_its_id_and_runs_by_it(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let image: ImageRef = variable("LB_TEST_APP_IMAGE").parse().unwrap();
        let digest = runtime.ensure_image(&image, None, &Quiet).await.unwrap();
        let (_, inspected) = engine("GET", &format!("/images/{image}/json"), &json!(null)).await;
        assert!(inspected.contains(&format!("\"Id\":\"{}\"", &digest.as_str()[7..])), "{digest}");
        let pinned = image.with_digest(digest.clone());
        assert_eq!(runtime.ensure_image(&pinned, None, &Quiet).await.unwrap(), digest);
        runs(runtime, bed, pinned).await;
    }

    pub(super) async fn a_tag_is_pulled_and_resolved_to_a_digest(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let image = image("LB_TEST_REGISTRY", "demo-app:1");
        remove(&image.to_string()).await;
        let heard = Heard::default();
        let digest = runtime.ensure_image(&image, None, &heard).await.unwrap();
        let heard = heard.0.into_inner().unwrap();
        let config = |s: &ProgressStep| s.what == "Copying config" && s.item.starts_with("sha256:");
        assert!(heard.iter().any(config), "{heard:?}");
        assert_eq!(runtime.ensure_image(&image, None, &Quiet).await.unwrap(), digest, "again");
        runs(runtime, bed, image.clone().with_digest(digest.clone())).await;
        remove(&format!("{}@{digest}", image.repository())).await;
        remove(&image.to_string()).await;
        let pinned = image.with_digest(digest.clone());
        assert_eq!(
            runtime.ensure_image(&pinned, None, &Quiet).await.unwrap(),
            digest,
            "pulled by digest"
        );
        runs(runtime, bed, pinned).await;
    }

    pub(super) async fn a_tag_that_moved_is_pulled_again(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let image = image("LB_TEST_REGISTRY", &format!("{}:1", bed.cluster));
        push(&variable("LB_TEST_APP_IMAGE"), image.repository(), "1").await;
        let first = runtime.ensure_image(&image, None, &Quiet).await.unwrap();
        // Elsewhere somebody pushes another image under the same tag; here the old one keeps it.
        tag(&by_digest(&image, &first), "localhost/lb-podman-kept", "1").await;
        push(&variable("LB_TEST_APP_IMAGE_2"), image.repository(), "1").await;
        tag("localhost/lb-podman-kept:1", image.repository(), "1").await;
        let second = runtime.ensure_image(&image, None, &Quiet).await.unwrap();
        assert_ne!(first, second);
        assert_eq!(runtime.ensure_image(&image, None, &Quiet).await.unwrap(), second);
        let digests = [&first, &second].map(|digest| by_digest(&image, digest));
        let tags = [image.to_string(), "localhost/lb-podman-kept:1".to_owned()];
        for name in digests.iter().chain(&tags) {
            remove(name).await;
        }
    }

    fn by_digest(image: &ImageRef, digest: &lb_core::ImageDigest) -> String {
        format!("{}@{digest}", image.repository())
    }

    pub(super) async fn a_digest_that_is_here_is_not_asked_for(
        runtime: &dyn ContainerRuntime,
        _: &Bed,
    ) {
        let image = image("LB_TEST_REGISTRY", "demo-app:1");
        let digest = runtime.ensure_image(&image, None, &Quiet).await.unwrap();
        // The login would be refused if anyone asked.
        let heard = Heard::default();
        let pinned = image.with_digest(digest.clone());
        assert_eq!(
            runtime.ensure_image(&pinned, Some(&login("wrong")), &heard).await.unwrap(),
            digest
        );
        assert!(heard.0.into_inner().unwrap().is_empty());
    }

    pub(super) async fn a_registry_that_is_gone_leaves_the_local_image(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let gone: ImageRef = format!("127.0.0.1:1/{}:1", bed.cluster).parse().unwrap();
        let error = runtime.ensure_image(&gone, None, &Quiet).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(error.subject(), format!("image {gone:?}"));
        tag(&variable("LB_TEST_APP_IMAGE"), gone.repository(), "1").await;
        let digest = runtime.ensure_image(&gone, None, &Quiet).await.unwrap();
        runs(runtime, bed, gone.clone().with_digest(digest)).await;
        remove(&gone.to_string()).await;
    }

    pub(super) async fn a_login_is_needed_checked_and_used(
        runtime: &dyn ContainerRuntime,
        bed: &Bed,
    ) {
        let image = image("LB_TEST_REGISTRY_AUTH", "demo-app:1");
        remove(&image.to_string()).await;
        for auth in [None, Some(login("wrong?>~?>~"))] {
            let error = runtime.ensure_image(&image, auth.as_ref(), &Quiet).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
            assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
        }
        let auth = login(&variable("LB_TEST_REGISTRY_PASSWORD"));
        let digest = runtime.ensure_image(&image, Some(&auth), &Quiet).await.unwrap();
        assert_eq!(runtime.ensure_image(&image, Some(&auth), &Quiet).await.unwrap(), digest);
        let error = runtime.ensure_image(&image, Some(&login("wrong")), &Quiet).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "refused, though the image is here: {error}");
        // No login, so the local one. It was loaded here as well, and Podman does not say which of its
        // digests is whose; each is the same image.
        let local = runtime.ensure_image(&image, None, &Quiet).await.unwrap();
        for digest in [digest, local] {
            runs(runtime, bed, image.clone().with_digest(digest)).await;
        }
        remove(&image.to_string()).await;
    }

    pub(super) async fn what_is_nowhere_is_not_found(runtime: &dyn ContainerRuntime, _: &Bed) {
        for rest in ["no-such-app:1", "demo-app:no-such-tag"] {
            let error = runtime
                .ensure_image(&image("LB_TEST_REGISTRY", rest), None, &Quiet)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
        let absent = format!("demo-app@sha256:{}", "0".repeat(64));
        let error = runtime
            .ensure_image(&image("LB_TEST_REGISTRY", &absent), None, &Quiet)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}
