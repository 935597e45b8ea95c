//! What the user asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::ops::Deref;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::host::Resources;
use super::image::{ImageDigest, ImageRef};
use super::instance::Revision;
use super::names::{
    AbsolutePath, AppName, EnvName, LabelKey, LabelValue, PolicyName, PortName, Signal, UserName,
    VolumeName,
};
use super::port::{Health, Port};
use super::read;
use super::secret::{RegistryAuth, Secret};
use super::units::{ByteSize, Count, Percent, friendly};
use crate::error::{Error, Result};

/// Most ports of one app.
pub const MAX_PORTS: usize = 32;
/// Most variables, arguments, volumes, labels, floors, or host names of a port, each.
pub const MAX_ENTRIES: usize = 512;
/// Longest value of a variable or argument in bytes.
pub const MAX_VALUE: usize = 32 * 1024;
/// Least memory an instance may be limited to: Docker takes no less, and takes 0 as no limit.
pub const MIN_MEMORY: ByteSize = ByteSize::mib(6);
/// Most memory an instance may be limited to.
pub const MAX_MEMORY: ByteSize = ByteSize::mib(1 << 30);
/// Longest time of an app, but for those with a shorter bound of their own.
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);
/// Most instances of one app.
pub const MAX_INSTANCES: u32 = 10_000;

/// The fields of an app, each valid in itself. Make an [`App`] of it to check them against each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppSpec {
    /// Unique in the cluster.
    pub name: AppName,
    /// What to run. A tag is resolved to a digest once a deploy: what it means then runs until the next one.
    pub image: ImageRef,
    /// Login at the image's registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryAuth>,
    /// Replaces the image's entry point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Replaces the image's arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Runs as this user instead of the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserName>,
    /// Environment variables. Values are opaque: they reach the engine, never a balancer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<EnvName, String>,
    /// Environment variables whose values never show in logs, plans or errors.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<EnvName, Secret>,
    /// Volumes and directories mounted into each instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// How an instance is ended, and how long it may drain before.
    #[serde(default)]
    pub stop: Stop,
    /// Limits of one instance.
    #[serde(default)]
    pub resources: Resources,
    /// Ports by name; at least one.
    pub ports: BTreeMap<PortName, Port>,
    /// How many instances. A number, or `{ min, max }` for scaling.
    #[serde(default)]
    pub replicas: Replicas,
    /// What moves the count between min and max.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// How a new revision replaces the old.
    #[serde(default)]
    pub rollout: Rollout,
    /// Which hosts run it, and where its listeners are.
    #[serde(default)]
    pub placement: Placement,
}

/// A directory of the host or a volume of the engine, inside the instances.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// What is mounted.
    pub source: VolumeSource,
    /// Where.
    pub target: AbsolutePath,
    /// Whether instances may write. Default: they may.
    #[serde(default)]
    pub access: Access,
}

/// What a volume mounts: `{ path = "/srv/data" }` or `{ name = "data" }`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeSource {
    /// A directory of the host.
    Path(AbsolutePath),
    /// A volume the engine keeps on the host.
    Name(VolumeName),
}

/// Whether a mount can be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Read and write.
    #[default]
    ReadWrite,
    /// Read only.
    ReadOnly,
}

/// How an instance is ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// The signal that asks it to end. Default: the image's own, `SIGTERM` where it names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
    /// Time between the signal and SIGKILL. Default 10 s, at most 1 h.
    #[serde(with = "friendly::required")]
    pub grace: Duration,
    /// Longest drain: after it, what is still open is shut. Default 30 s, at most 24 h.
    #[serde(with = "friendly::required")]
    pub drain: Duration,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: None, grace: Duration::from_secs(10), drain: Duration::from_secs(30) }
    }
}

/// Bounds of the instance count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ReplicasText", into = "ReplicasText")]
pub struct Replicas {
    /// Never fewer.
    pub min: u32,
    /// Never more.
    pub max: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "replicas must be a number, or { min = 1, max = 2 }")]
enum ReplicasText {
    Fixed(u32),
    Range(ReplicasRange),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplicasRange {
    min: u32,
    max: u32,
}

impl Replicas {
    /// Exactly `count`.
    pub const fn fixed(count: u32) -> Self {
        Self { min: count, max: count }
    }

    /// Whether nothing can move the count.
    pub const fn is_fixed(self) -> bool {
        self.min == self.max
    }
}

impl Default for Replicas {
    fn default() -> Self {
        Self::fixed(1)
    }
}

impl TryFrom<ReplicasText> for Replicas {
    type Error = Error;
    fn try_from(text: ReplicasText) -> Result<Self> {
        let (min, max) = match text {
            ReplicasText::Fixed(count) => (count, count),
            ReplicasText::Range(ReplicasRange { min, max }) => (min, max),
        };
        let replicas = Self { min, max };
        replicas.check().map(|()| replicas)
    }
}

impl From<Replicas> for ReplicasText {
    fn from(r: Replicas) -> Self {
        match r.is_fixed() {
            true => Self::Fixed(r.min),
            false => Self::Range(ReplicasRange { min: r.min, max: r.max }),
        }
    }
}

/// What moves the instance count. Each target asks for a count; the highest wins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scaling {
    /// CPU use as a share of the instance's limit (of one CPU without a limit).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Percent>,
    /// Memory use as a share of the instance's limit; needs `resources.memory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Percent>,
    /// Requests a second and instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<NonZeroU32>,
    /// Requests in flight (HTTP) or open connections (TCP) an instance, queued ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<NonZeroU32>,
    /// A policy the platform registered by this name, instead of the targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyName>,
    /// Floors by time of day.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<ScheduledFloor>,
    /// Most instances added or removed in one decision. Default: no bound but min and max.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest_step: Option<NonZeroU32>,
    /// How long a lower count must have been enough before it is taken, at most 24 h. Default 5 min.
    #[serde(with = "friendly::optional", skip_serializing_if = "Option::is_none")]
    pub scale_in_after: Option<Duration>,
}

/// At least `min` instances between two times of day, in a time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduledFloor {
    /// Days it applies to, by the day the window starts; empty: every day.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub days: BTreeSet<Day>,
    /// Start, local time, inclusive.
    pub from: jiff::civil::Time,
    /// End, local time, exclusive; before `from`: the next day.
    pub until: jiff::civil::Time,
    /// IANA time zone, such as `Europe/Berlin`. Default `UTC`.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// The floor, at most the app's max. A count that is fixed lets it rest.
    pub min: u32,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// How a new revision replaces the old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// Instances above the wanted count meanwhile. With 0 a new one starts once an old one has ended. Default 1; 0 for
    /// an app with a volume it may write, for two versions would use that at once. See [`AppSpec::rollout_bounds`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<Count>,
    /// Instances below the wanted count meanwhile. Default 0; 1 where `max_surge` is 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Count>,
    /// Time a new instance has to become ready, at most 24 h; if it does not, the rollout stops and goes back.
    /// Default 60 s.
    #[serde(with = "friendly::required")]
    pub ready_within: Duration,
    /// Stops the rollout at a few instances of the new revision until the app is deployed without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            max_surge: None,
            max_unavailable: None,
            ready_within: Duration::from_secs(60),
            canary: None,
        }
    }
}

/// A trial of the new revision beside the old one. While it stands, requests that would go to the least busy instance
/// take turns by weight: instances without connections are alike, whatever their share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// Share of requests the new revision gets. 1 to 99.
    pub weight: Percent,
    /// Instances of the new revision. Default 1.
    #[serde(default = "one")]
    pub instances: NonZeroU32,
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

/// Which hosts run an app, and where its listeners are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    /// Hosts must carry all these labels.
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Where the listeners are. Default: on the hosts that run the app.
    pub exposure: Exposure,
}

/// Hosts on which an app's listeners exist.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exposure {
    /// On the hosts that run the app.
    #[default]
    RunningHosts,
    /// On every host.
    EveryHost,
    /// On hosts that carry all these labels.
    Labelled(BTreeMap<LabelKey, LabelValue>),
}

/// An app whose fields have been checked against each other. Read it as its [`AppSpec`].
///
/// ```
/// let app = lb_core::App::from_toml(r#"
///     name = "shop"
///     image = "registry.example.org/shop:1.2"
///     replicas = { min = 2, max = 8 }
///     [ports.web]
///     container = 8080
///     outside = 80
///     hosts = ["shop.example.org"]
///     path = "/cart"
/// "#)?;
/// assert_eq!(app.replicas.max, 8);
/// # Ok::<(), lb_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "AppSpec", into = "AppSpec")]
pub struct App(AppSpec);

impl Deref for App {
    type Target = AppSpec;
    fn deref(&self) -> &AppSpec {
        &self.0
    }
}

impl From<App> for AppSpec {
    fn from(app: App) -> Self {
        app.0
    }
}

impl TryFrom<AppSpec> for App {
    type Error = Error;
    fn try_from(spec: AppSpec) -> Result<Self> {
        Self::new(spec)
    }
}

impl App {
    /// Checks the fields against each other.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) naming the app and the field, and what would be right.
    pub fn new(spec: AppSpec) -> Result<Self> {
        spec.check().map_err(|e| e.within(format!("app \"{}\"", spec.name)))?;
        Ok(Self(spec))
    }

    /// Reads an app from TOML.
    ///
    /// # Errors
    /// `Invalid` naming line, column, app, port and field, and what would be right. No secret is shown.
    pub fn from_toml(text: &str) -> Result<Self> {
        read::toml(text).and_then(Self::new).map_err(|e| e.during("read"))
    }

    /// Reads an app from JSON.
    ///
    /// # Errors
    /// As [`from_toml`](Self::from_toml).
    pub fn from_json(text: &str) -> Result<Self> {
        read::json(text).and_then(Self::new).map_err(|e| e.during("read"))
    }

    /// The revision these settings and this image digest make. Settings that containers do not see
    /// (outside ports, routes, balance, limits, replicas, rollout, placement) do not count.
    pub fn revision(&self, digest: &ImageDigest) -> Revision {
        let ports: Vec<(&PortName, u16, &Health)> =
            self.ports.iter().map(|(name, p)| (name, p.container.get(), &p.health)).collect();
        // Where none is named it counts as it did when that meant SIGTERM: no instance is replaced for this.
        let signal = match self.stop.signal.as_ref().map(Signal::as_str) {
            None => "SIGTERM",
            Some("SIGTERM") => "SIGTERM itself",
            Some(other) => other,
        };
        let seen = (
            self.image.repository(),
            digest,
            (&self.command, &self.args, &self.user),
            (&self.env, &self.secrets, &self.volumes),
            (signal, &self.resources, ports),
        );
        let bytes =
            serde_json::to_vec(&seen).unwrap_or_else(|e| unreachable!("an app is JSON: {e}"));
        Revision::from_hash(&Sha256::digest(bytes))
    }
}

impl AppSpec {
    /// An app with one instance and no ports yet; everything else by default.
    pub fn new(name: AppName, image: ImageRef) -> Self {
        Self {
            name,
            image,
            registry: None,
            command: None,
            args: None,
            user: None,
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            volumes: Vec::new(),
            stop: Stop::default(),
            resources: Resources::default(),
            ports: BTreeMap::new(),
            replicas: Replicas::default(),
            scaling: None,
            rollout: Rollout::default(),
            placement: Placement::default(),
        }
    }

    /// The rollout's `max_surge` and `max_unavailable` in force: what is set, and what is not by these rules.
    /// An app that may write a volume is stopped before its next version starts; any other is started first.
    pub fn rollout_bounds(&self) -> (Count, Count) {
        let Rollout { max_surge, max_unavailable, .. } = self.rollout;
        let none = |count: Option<Count>| count.is_some_and(|c| c.of_rounded_up(100) == 0);
        let stop_first = self.volumes.iter().any(|v| v.access == Access::ReadWrite);
        let surge = u32::from(!stop_first || none(max_unavailable));
        let surge = max_surge.unwrap_or(Count::Exactly(surge));
        let unavailable = Count::Exactly(u32::from(none(Some(surge))));
        (surge, max_unavailable.unwrap_or(unavailable))
    }

    /// What of it is accepted and has no effect, in words for whoever wrote it.
    pub fn notes(&self) -> Vec<String> {
        let rests = self.scaling.is_some() && self.replicas.is_fixed();
        let count = self.replicas.max;
        let rests = rests.then(|| {
            format!("scaling rests: replicas is fixed at {count}, and moves only as {{ min = .., max = .. }}")
        });
        rests.into_iter().collect()
    }
}
