#![forbid(unsafe_code)]
//! The core of a library that runs container apps with automatic load balancing: vocabulary, contracts, the
//! planner and the loop. It knows no engine, no template and no wire: adapters bring these.
//!
//! # Where to begin
//! - [`App`] is what somebody asks for: an image, ports, a number of instances, limits, host names and a path.
//!   From Rust, TOML or JSON; whatever is wrong with it is said when it is made.
//! - [`Orchestrator`] is the loop a platform embeds: it takes apps, observes hosts, plans, acts, and tells
//!   ([`status`](Orchestrator::status), [`preview`](Orchestrator::preview), [`events`](Orchestrator::events)).
//! - [`HostHandle`] is a host: a [`ContainerRuntime`] and a [`LoadBalancer`]. `lb-docker`, `lb-haproxy` and
//!   `lb-local` have real ones; [`MemoryRuntime`] and [`MemoryBalancer`] need nothing and are the reference.
//! - [`plan`] is all of the decisions, as a pure function: of a [`World`], a [`Ledger`] and the time.
//!
//! # The contracts
//! | what | trait | here |
//! |---|---|---|
//! | which hosts there are | [`HostRegistry`] | [`MemoryRegistry`] |
//! | how a host is reached | [`HostConnector`] | [`MemoryConnector`] |
//! | containers on a host | [`ContainerRuntime`] | [`MemoryRuntime`], [`Probed`] around any |
//! | the balancer of a host | [`LoadBalancer`] | [`MemoryBalancer`] |
//! | its configuration | [`ConfigRenderer`] | |
//! | how many instances | [`ScalePolicy`] | the policies of this crate |
//! | which apps there are | [`AppStore`] | [`MemoryAppStore`], [`FileAppStore`] |
//! | what was decided | [`LedgerStore`] | [`MemoryLedgerStore`], [`FileLedgerStore`] |
//! | what was measured | [`LoadStore`] | [`MemoryLoadStore`] |
//! | who acts | [`Leadership`] | [`MemoryLeadership`], [`FileLeadership`] |
//!
//! Arguments and results are plain data with serde, so that any contract can be spoken over a wire. Errors
//! are one type, [`Error`], whose [`ErrorKind`] says what a caller can do about it.
//!
//! # Features
//! `conformance`: the contracts as test suites, for whoever writes an adapter. `sim`: a whole cluster simulated
//! from a seed, with faults in every part.

mod backoff;
pub mod balancer;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod engine;
mod error;
mod get;
mod host;
mod keyed;
mod ledger;
mod memory;
mod model;
mod orchestrator;
mod plan;
mod probe;
mod random;
mod registry;
mod routing;
mod runtime;
mod scale;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(any(feature = "conformance", feature = "sim"))]
mod staged;
mod store;
mod time;
mod watched;

pub use balancer::{
    Ability, Applied, Ask, BackendTraffic, BalancerInfo, Change, ListenerProbe, LoadBalancer,
    Membership, ProbeAnswer, ServerTraffic, SetAside, Traffic,
};
pub use config::{ConfigRenderer, Fragment, RenderedConfig};
pub use error::{Error, ErrorKind, Result};
pub use host::{HostConnector, HostHandle};
pub use keyed::Keyed;
pub use ledger::{
    AppLedger, Closing, Ending, HostLedger, InstanceLedger, LastEnd, Ledger, Lost, NetworkLedger,
    Phase, ResolvedImage, Resolving, Resting, Retry, Said, SlotLedger, TableLedger, Version,
};
pub use memory::{
    Behaviour, EVENTS_KEPT, Faults, MemoryAppStore, MemoryBalancer, MemoryConnector,
    MemoryLeadership, MemoryLedgerStore, MemoryLoadStore, MemoryRegistry, MemoryRuntime, Op,
    SAMPLES_KEPT, TABLES_KEPT,
};
pub use model::*;
pub use orchestrator::{
    AppStatus, Builder, Deadlines, Deployment, Event, Happened, HostStatus, InstanceStatus,
    ListenerStatus, LoopSettings, Orchestrator, Removal, RoutingStatus, Served, Status,
};
pub use plan::{
    Action, ActionKey, AppView, ClusterSpec, Done, HostView, InstanceState, Observation,
    ObservedBalancer, ObservedInstance, Outcome, Plan, Reach, Reason, RegistryTrust, What, World,
    plan,
};
pub use probe::{PROBES_AT_ONCE, Probed, ProbedBuilder};
pub use registry::HostRegistry;
pub use routing::{
    Backend, FULL_WEIGHT, Listener, Route, RoutingTable, Server, ServerState, TableHash,
};
pub use runtime::{
    Attachment, Capability, Container, ContainerId, ContainerRuntime, ContainerSpec,
    ContainerState, EngineInfo, Exit, NetworkSpec, Privileges, Progress, ProgressStep, Publish,
    Quiet, Readiness, Restart, Role, RuntimeEvent, SpecHash, Usage, label,
};
pub use scale::{
    Decision, Floors, Highest, Least, LoadSample, LoadView, MAX_SAMPLES, Metric, PolicyMemory,
    STALE_AFTER, ScalePolicy, Target, from_scaling,
};
pub use store::{
    AppChange, AppSet, AppStore, FileAppStore, FileLeadership, FileLedgerStore, Generation,
    Leadership, LedgerStore, LoadStore, Standing, StoredApp, Term,
};
pub use time::{Clock, Now, SystemClock};
