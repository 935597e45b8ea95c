//! Doors for `fuzz/`: compiled under `--cfg fuzzing` only, which cargo-fuzz sets. Not a feature, so that no
//! user can come to lean on it.
//!
//! Each function is the conversion of its name; what must hold of the result is the target's to say.

pub use bollard::models;
use lb_core::Usage;
use lb_core::engine::{Failure, Hint, PullLine, Seen, SeenImage, SeenNetwork, Summary};

use crate::convert;

/// An entry of the list.
pub fn summary(answer: models::ContainerSummary) -> Option<Summary> {
    convert::summary(answer)
}

/// An inspected container.
pub fn seen(answer: models::ContainerInspectResponse) -> Result<Seen, Failure> {
    convert::seen(answer)
}

/// Counters.
pub fn usage(answer: &models::ContainerStatsResponse) -> Option<Usage> {
    convert::usage(answer)
}

/// An event.
pub fn hint(answer: &models::EventMessage) -> Hint {
    convert::hint(answer)
}

/// A network.
pub fn seen_network(answer: models::NetworkInspect) -> SeenNetwork {
    convert::seen_network(answer)
}

/// An image.
pub fn seen_image(answer: models::ImageInspect) -> Result<SeenImage, Failure> {
    convert::seen_image(answer)
}

/// A line of a fetch.
pub fn pull_line(answer: models::CreateImageInfo) -> PullLine {
    convert::pull_line(answer)
}
