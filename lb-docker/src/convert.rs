//! Between the core's words and the Engine API's. Pure.

mod container;
mod network;
mod observe;
#[cfg(test)]
mod tests;

pub(crate) use container::{Settings, create_body, credentials};
pub(crate) use network::{network_request, seen_network};
pub(crate) use observe::{
    engine_info, hint, pull_line, seen, seen_image, summary, unix_time, usage,
};

use std::collections::HashMap;

use lb_core::{ClusterId, label};

/// The filter that keeps a call to what this cluster owns.
pub(crate) fn owned_by(cluster: &ClusterId) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{}={cluster}", label::CLUSTER)])])
}
