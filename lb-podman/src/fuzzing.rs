//! Doors for `fuzz/`: compiled under `--cfg fuzzing` only, which cargo-fuzz sets. Not a feature, so that no
//! user can come to lean on it.
//!
//! Each function is the conversion of its name; what must hold of the result is the target's to say.

use lb_core::engine::{Failure, Hint, PullLine, Seen, SeenImage, SeenNetwork, Summary};
use lb_core::{EngineInfo, Usage};
use serde_json::Value;

use crate::convert;

/// The list of containers.
pub fn summaries(answer: &Value) -> Result<Vec<Summary>, Failure> {
    convert::summaries(answer)
}

/// An inspected container.
pub fn seen(answer: &Value) -> Result<Seen, Failure> {
    convert::seen(answer)
}

/// The id of a container just created.
pub fn created(answer: &Value) -> Result<String, Failure> {
    convert::created(answer)
}

/// Counters.
pub fn usage(answer: &Value) -> Option<Usage> {
    convert::usage(answer)
}

/// An event.
pub fn hint(answer: &Value) -> Hint {
    convert::hint(answer)
}

/// A network.
pub fn seen_network(answer: &Value) -> SeenNetwork {
    convert::seen_network(answer)
}

/// An image.
pub fn seen_image(answer: &Value) -> Result<SeenImage, Failure> {
    convert::seen_image(answer)
}

/// A line of a fetch.
pub fn pull_line(answer: &Value) -> Result<PullLine, Failure> {
    convert::pull_line(answer)
}

/// What the engine says of itself.
pub fn engine_info(answer: &Value) -> EngineInfo {
    convert::abilities(answer).engine_info()
}
