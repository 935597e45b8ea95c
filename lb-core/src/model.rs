//! The vocabulary: parsed, never half-valid, serde both ways.

mod app;
mod check;
mod claim;
mod hints;
mod host;
mod image;
mod instance;
mod names;
mod pem;
mod port;
mod read;
mod secret;
mod signal;
mod units;

pub use app::{
    Access, App, AppSpec, Canary, Day, Exposure, MAX_ENTRIES, MAX_INSTANCES, MAX_MEMORY, MAX_PORTS,
    MAX_VALUE, MIN_MEMORY, Placement, Replicas, Rollout, Scaling, ScheduledFloor, Stop, Volume,
    VolumeSource,
};
pub use claim::{Claim, ClaimScope};
pub use host::{HostFacts, HostSet, Resources};
pub use image::{ImageDigest, ImageRef};
pub use instance::{Assignment, InstanceId, Revision};
pub(crate) use names::shown;
pub use names::{
    AbsolutePath, AppName, BackendName, ClusterId, ContainerName, CookieName, DomainName, EnvName,
    FileName, HeaderName, HealthPath, HostId, LabelKey, LabelValue, NetworkName, PathPrefix,
    PolicyName, PortName, ServerName, Signal, UserName, VolumeName,
};
pub use pem::CertificatePem;
pub use port::{
    Balance, Check, Health, Port, PortLimits, Prefix, Protocol, RateLimit, Sticky, Timeouts,
};
pub use secret::{RegistryAuth, Secret};
pub(crate) use units::whole;
pub use units::{ByteSize, Count, Cpu, Percent};
