//! Putting a routing table in force on one host, and reporting its traffic; and what backends of that
//! contract share: the queue before a balancer, its directory, its process or container, what it sets aside.
//!
//! The contract's own types are at the crate's root. Nothing here knows a balancer, a template or a wire.

mod aside;
mod ask;
mod container;
mod directory;
mod failure;
mod fields;
mod pacing;
mod ports;
mod process;
mod queue;
mod totals;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::model::{App, BackendName, FileName, ServerName};
use crate::routing::{RoutingTable, TableHash};

pub use self::aside::{Aside, Refused, named_by, quoted, reasons, reduced};
pub use self::ask::{Ask, ListenerProbe, ProbeAnswer, ask};
pub use self::container::BalancerContainer;
pub use self::directory::{ConfigDirectory, Snapshot};
pub use self::failure::{Failure, shortened};
pub use self::fields::{
    CLAIMED_FIELDS, HEADER_BYTES, HEADER_FIELDS, checked_header_bytes, is_claimed,
};
pub use self::pacing::{LONGEST_RELOAD_INTERVAL, RELOAD_INTERVAL, reload_interval};
pub use self::ports::{Held, Owner};
pub use self::process::{KeptProcess, run_program};
pub use self::queue::{TableEngine, TableQueue, Turn};
pub use self::totals::{Count, Counted, Totals};

/// The balancer of one host.
///
/// # Contract
/// - `apply` is level-triggered and idempotent: it is given the whole table each time. The table in force
///   stays until the new one has passed the balancer's own check and has been seen running; on any failure
///   the old one stays, on disk too.
/// - A change of servers alone never drops a connection; where
///   [`BalancerInfo::servers_without_reload`] says so it is not a reload either.
/// - `Active` servers take new connections; `Draining` ones take none and keep theirs; a server that left
///   the table has its remaining connections shut.
/// - Calls are served one at a time and run to their end on a task the backend owns: dropping the future
///   abandons the wait. Of calls that wait, the latest table wins.
/// - Each call has a deadline of its own and fails with `Timeout` rather than hang; once the balancer goes on,
///   the next call finds whatever was left undone.
/// - A listener or backend that alone keeps the table from coming up is set aside, reported in
///   [`Applied::set_aside`], and all others go on.
#[async_trait]
pub trait LoadBalancer: Debug + Send + Sync + 'static {
    /// What it is and can do.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be asked.
    async fn describe(&self) -> Result<BalancerInfo>;

    /// Puts the table in force: check, write, apply, verify, or roll back. Starts the balancer if needed.
    ///
    /// # Errors
    /// `Invalid` when the table cannot be expressed or fails the balancer's check (naming line and app);
    /// `Unavailable` or `Timeout` when the balancer does not come up or answer.
    async fn apply(&self, table: &RoutingTable) -> Result<Applied>;

    /// What is in force and what goes through it.
    ///
    /// # Errors
    /// `Unavailable` or `Timeout` when the balancer does not answer.
    async fn traffic(&self) -> Result<Traffic>;

    /// Asks a listener of this host what a client would, from beside the balancer. It does not wait for other calls.
    ///
    /// # Errors
    /// `Unavailable` or `Timeout` when no client gets an answer.
    async fn probe(&self, listener: &ListenerProbe) -> Result<ProbeAnswer> {
        ask(listener).await
    }

    /// The generated files in force by name, for people to look at; without private keys and secrets.
    ///
    /// # Errors
    /// `Unavailable` when they cannot be read.
    async fn files(&self) -> Result<BTreeMap<FileName, String>>;

    /// Ends the balancer and removes what it made. Absent is success.
    ///
    /// # Errors
    /// `Unavailable` or `Timeout` when it cannot be ended.
    async fn shutdown(&self) -> Result<()>;
}

/// What a balancer is and can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalancerInfo {
    /// `haproxy`, `nginx`, `local`, ...
    pub name: String,
    /// Its version; empty until it has started, where nobody can tell before.
    pub version: String,
    /// Whether servers come and go without a reload.
    pub servers_without_reload: bool,
    /// How they do.
    #[serde(default)]
    pub membership: Membership,
    /// What its version can do that the oldest supported one cannot; empty until the version is known.
    #[serde(default)]
    pub abilities: BTreeSet<Ability>,
    /// Reloads since this value was made.
    pub reloads: u64,
    /// Connections of old workers that were shut since then, because too many old workers held some.
    #[serde(default)]
    pub cut: u64,
}

/// What a version of a balancer can do that earlier ones cannot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ability {
    /// It says how a reload went, and not before it is known.
    ReloadReports,
    /// Backends can come and go in the running balancer.
    BackendsAtRunTime,
    /// One that is not known here, as a later version of the crate calls it.
    #[serde(untagged)]
    Other(String),
}

/// How servers come and go, and what that costs clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Membership {
    /// In the running balancer: no request is lost.
    #[default]
    RunTime,
    /// By a reload that leaves idle connections of clients open for a while.
    GentleReload,
    /// By a reload, which may close a keep-alive connection just as the client uses it: at most once for each
    /// connection and reload. No new connection fails.
    Reload,
}

/// What `apply` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The hash of the table asked for, now in force but for what was set aside.
    pub table: TableHash,
    /// How.
    pub change: Change,
    /// What was left out, and why.
    pub set_aside: BTreeMap<SetAside, String>,
}

/// How a table came in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It was in force already.
    None,
    /// By a change of the running balancer: servers, and what else it takes without a reload.
    Live,
    /// By a reload.
    Reload,
    /// The balancer was started with it.
    Start,
}

/// A part of a table that was left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum SetAside {
    /// An outside port.
    Listener(u16),
    /// A backend and its routes.
    Backend(BackendName),
}

impl SetAside {
    /// Whether it is a port of the app's, or the listener of one.
    pub(crate) fn is_of(&self, app: &App) -> bool {
        app.ports.iter().any(|(name, port)| match self {
            Self::Backend(backend) => BackendName::of(&app.name, name) == *backend,
            Self::Listener(number) => port.outside.is_some_and(|outside| outside.get() == *number),
        })
    }
}

impl From<SetAside> for String {
    fn from(part: SetAside) -> Self {
        match part {
            SetAside::Listener(port) => format!("listener {port}"),
            SetAside::Backend(name) => format!("backend {name}"),
        }
    }
}

impl TryFrom<String> for SetAside {
    type Error = crate::Error;
    fn try_from(text: String) -> Result<Self> {
        let wrong = || {
            crate::Error::invalid(
                crate::model::shown("part", &text),
                "must be \"listener PORT\" or \"backend NAME\"",
            )
        };
        match text.split_once(' ') {
            Some(("listener", port)) => port.parse().map(Self::Listener).map_err(|_| wrong()),
            Some(("backend", name)) => BackendName::new(name).map(Self::Backend),
            _ => Err(wrong()),
        }
    }
}

/// What goes through a balancer. Counters never go back while the value that reports them lives (a
/// balancer's restart or reload is made up for), but those of what left the table and comes again may begin at
/// 0: a reader must take a smaller one as a reset.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// The hash of the table in force, as the balancer itself says; `None`: none of ours.
    pub table: Option<TableHash>,
    /// By backend.
    pub backends: BTreeMap<BackendName, BackendTraffic>,
    /// Workers of earlier configurations that still hold connections.
    pub old_workers: u32,
}

/// What goes through a backend.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BackendTraffic {
    /// Requests (HTTP) or connections (TCP) so far.
    pub requests: u64,
    /// Of them, those the client saw fail with 5xx or a cut connection.
    pub failures: u64,
    /// In flight now, over all workers.
    pub in_flight: u64,
    /// Waiting for a server now.
    pub queued: u64,
    /// Mean time to answer of the latest requests, where the balancer knows it, in seconds.
    pub response_time: Option<f64>,
    /// By server. Servers that left the table but still hold connections are here too.
    pub servers: BTreeMap<ServerName, ServerTraffic>,
}

/// What goes through a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerTraffic {
    /// Connections or requests open now, over all workers, old ones included.
    pub open: u64,
    /// Idle connections of clients whose next request may still be led to it, whatever the table says of it now:
    /// those that a worker of an earlier configuration keeps.
    pub expected: u64,
    /// Requests (HTTP) or connections (TCP) so far.
    pub requests: u64,
    /// Whether the balancer's own check passes.
    pub up: bool,
}
