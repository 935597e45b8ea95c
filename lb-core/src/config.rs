//! From a routing table to a configuration: pure.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::model::{BackendName, FileName};
use crate::routing::RoutingTable;

/// Writes a balancer's configuration.
///
/// # Contract
/// - Pure: equal tables give equal bytes, whatever the time, the process or the order of calls.
/// - The renderer owns frontends, maps and backend bodies. The balancer owns the global section, sockets,
///   the generation mark, where files lie, certificates and the server lines: the renderer says *where*
///   the lines of a backend go by a [`Fragment::Servers`], once for each backend of the table.
/// - Files are named without a directory; the text refers to them by that name.
/// - Every value is typed: a renderer cannot receive one that could end its line.
///
/// # Errors
/// `Invalid` naming the backend and what cannot be expressed.
pub trait ConfigRenderer: Debug + Send + Sync + 'static {
    /// Renders the table.
    fn render(&self, table: &RoutingTable) -> Result<RenderedConfig>;
}

/// A configuration without server lines, and the files beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenderedConfig {
    /// The text, in order.
    pub fragments: Vec<Fragment>,
    /// Files the text refers to, such as maps, by name.
    pub files: BTreeMap<FileName, String>,
}

/// A piece of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fragment {
    /// Whole lines, each ended.
    Text {
        /// The app the lines were written for, for messages about them; `None`: for all.
        backend: Option<BackendName>,
        /// The lines.
        text: String,
    },
    /// The server lines of a backend go here.
    Servers(BackendName),
}
