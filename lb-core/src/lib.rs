#![forbid(unsafe_code)]
//! lb-core: vocabulary, contracts, the pure planner, the loop.

mod balancer;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod host;
mod keyed;
mod ledger;
mod memory;
mod model;
mod orchestrator;
mod plan;
mod probe;
mod registry;
mod routing;
mod runtime;
mod scale;
mod store;
mod time;

pub use balancer::{
    Applied, BackendTraffic, BalancerInfo, Change, LoadBalancer, ServerTraffic, SetAside, Traffic,
};
pub use config::{ConfigRenderer, Fragment, RenderedConfig};
pub use error::{Error, ErrorKind, Result};
pub use host::{HostConnector, HostHandle};
pub use keyed::Keyed;
pub use ledger::{
    AppLedger, HostLedger, InstanceLedger, Ledger, Lost, NetworkLedger, Phase, ResolvedImage,
    Resolving, Resting, Retry, SlotLedger, TableLedger, Version,
};
pub use memory::{
    Behaviour, EVENTS_KEPT, Faults, MemoryAppStore, MemoryBalancer, MemoryConnector,
    MemoryLeadership, MemoryLedgerStore, MemoryLoadStore, MemoryRegistry, MemoryRuntime, Op,
    SAMPLES_KEPT, TABLES_KEPT,
};
pub use model::*;
pub use orchestrator::{
    AppStatus, Builder, Deadlines, Event, Happened, HostStatus, InstanceStatus, ListenerStatus,
    LoopSettings, Orchestrator, RoutingStatus, Status,
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
    ScalePolicy, Target, from_scaling,
};
pub use store::{
    AppSet, AppStore, FileAppStore, FileLeadership, FileLedgerStore, Leadership, LedgerStore,
    LoadStore, Standing, Term,
};
pub use time::{Clock, Now, SystemClock};
