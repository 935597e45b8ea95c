//! Images: what is fetched, under which login, and what is here.

use lb_core::engine::{Failure, PullLine, SeenImage};
use lb_core::{ImageDigest, ImageRef, ProgressStep, RegistryAuth as Login};
use podman_api::opts::RegistryAuth;
use serde_json::Value;

use super::{encoded, pick};
use crate::error::refused;

/// Names of images that were never at a registry.
const LOCAL: &str = "localhost/";

/// The request for a tag or digest. A name without a registry is Docker Hub's, whatever the host's search
/// list says: an app must mean the same image on every host and engine.
pub(crate) fn pull_path(image: &ImageRef, which: &str) -> String {
    let repository = match (image.registry(), image.repository()) {
        (Some(_), repository) => repository.to_owned(),
        (None, path) if path.contains('/') => format!("docker.io/{path}"),
        (None, name) => format!("docker.io/library/{name}"),
    };
    let mark = if which.contains(':') { '@' } else { ':' };
    let reference = encoded(&format!("{repository}{mark}{which}"));
    format!("/libpod/images/pull?policy=always&reference={reference}")
}

/// A login as the header takes it.
pub(crate) fn login(auth: &Login) -> String {
    let mut builder = RegistryAuth::builder();
    builder.username(&auth.username).password(auth.password.expose()).build().serialize()
}

/// `stream` is what is going on, `error` the registry's refusal, `id` the end.
pub(crate) fn pull_line(line: &Value) -> Result<PullLine, Failure> {
    // It comes in the middle of an answer that began with 200.
    if let Some(error) = pick::text(line, "/error") {
        return Err(refused(500, error));
    }
    let said = pick::text(line, "/stream").unwrap_or_default().trim();
    // `Copying blob sha256:...`: what, of what.
    let (what, item) = match said.rsplit_once(' ') {
        Some((what, item)) if item.starts_with("sha256:") => (what, item),
        _ => (said, ""),
    };
    Ok(PullLine {
        answered: !said.starts_with("Trying to pull"),
        digest: None,
        step: ProgressStep { what: what.to_owned(), item: item.to_owned(), done: 0, total: 0 },
    })
}

pub(crate) fn seen_image(answer: &Value) -> Result<SeenImage, Failure> {
    let id = pick::text(answer, "/Id").unwrap_or_default();
    let id = match id.contains(':') {
        true => id.to_owned(),
        false => format!("sha256:{id}"),
    };
    let id = ImageDigest::new(id)
        .map_err(|e| Failure::unexpected(format!("the engine gave an image a strange id: {e}")))?;
    let digest = |entry: &str| {
        let (repository, digest) = entry.split_once('@')?;
        let registry = !repository.starts_with(LOCAL);
        registry.then(|| Some((repository.to_owned(), ImageDigest::new(digest).ok()?)))?
    };
    let single = pick::text(answer, "/Digest").and_then(|text| ImageDigest::new(text).ok());
    Ok(SeenImage {
        id,
        digests: pick::texts(answer, "/RepoDigests").filter_map(digest).collect(),
        single,
    })
}
