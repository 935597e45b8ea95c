//! What an engine says of its containers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::spec::{Role, SpecHash};
use crate::model::{ByteSize, ContainerName, LabelKey};

/// The engine's own identity of a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub String);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A container of this cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: ContainerName,
    /// The engine's identity of it.
    pub id: ContainerId,
    /// What it is for.
    pub role: Role,
    /// The hash of the spec it was made from.
    pub spec: SpecHash,
    /// Its further labels.
    pub labels: BTreeMap<LabelKey, String>,
    /// What it does.
    pub state: ContainerState,
    /// Whether it may take traffic.
    pub readiness: Readiness,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// Made, not yet started.
    Created,
    /// Running.
    Running,
    /// Ended; engines leave its `output` empty here.
    Exited(Exit),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; 128 + signal for a signal.
    pub code: i64,
    /// Whether the kernel ended it for want of memory.
    pub out_of_memory: bool,
    /// Both streams merged, of the end: at most 64 KiB from `run_to_end`, and the last lines of an instance that
    /// ended by itself.
    pub output: String,
}

impl Exit {
    /// What became of it, to stand behind its name, with the last line it wrote.
    pub(crate) fn in_words(&self) -> String {
        let cause = match self.out_of_memory {
            true => "was ended for want of memory",
            false => "ended by itself",
        };
        let said = self.output.lines().map(str::trim).rfind(|line| !line.is_empty());
        let said =
            said.map_or_else(String::new, |line| format!(", its last line: {}", shortened(line)));
        format!("{cause} with exit code {}{said}", self.code)
    }
}

/// As much of a line as a reason shows.
fn shortened(line: &str) -> String {
    const MOST: usize = 200;
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    line.chars().map(clean).take(MOST).collect()
}

/// Whether a container may take traffic. Engines say `Unknown`; [`Probed`](crate::Probed) finds out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// Nobody has asked it.
    #[default]
    Unknown,
    /// All its checks pass.
    Ready,
    /// A check fails, with the reason.
    NotReady(String),
}

/// Counters of one running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// When they were read, by the host's clock.
    pub at: jiff::Timestamp,
    /// CPU time used since it started; less than before means it restarted.
    pub cpu: Duration,
    /// Memory in use, without reclaimable file cache.
    pub memory: ByteSize,
}

/// A hint that something changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeEvent {
    /// A container started.
    Started(ContainerName),
    /// A container ended.
    Exited(ContainerName),
    /// A container was removed.
    Removed(ContainerName),
    /// A container became ready or stopped being so.
    ReadyChanged(ContainerName),
    /// Events may have been missed: list again.
    Resync,
}
