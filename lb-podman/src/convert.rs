//! Between the core's words and the libpod API's. Pure.

mod container;
mod image;
mod network;
mod observe;
mod pick;
#[cfg(test)]
mod tests;

pub(crate) use container::{Settings, create_body, created};
pub(crate) use image::{login, pull_line, pull_path, seen_image};
pub(crate) use network::{network_request, seen_network};
pub(crate) use observe::{Abilities, abilities, hint, seen, summaries, unix_time, usage};

use containers_api::url::url::form_urlencoded::byte_serialize;
use lb_core::{ClusterId, label};
use serde_json::json;

/// The filter that keeps a list to what this cluster owns, as a query takes it.
pub(crate) fn owned_by(cluster: &ClusterId) -> String {
    let owned = format!("{}={cluster}", label::CLUSTER);
    encoded(&json!({ "label": [owned] }).to_string())
}

/// The same for events.
pub(crate) fn events_of(cluster: &ClusterId) -> String {
    let owned = format!("{}={cluster}", label::CLUSTER);
    encoded(&json!({ "type": ["container"], "label": [owned] }).to_string())
}

fn encoded(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}
