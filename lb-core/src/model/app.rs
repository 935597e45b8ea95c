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
    VolumeName, shown,
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
    /// The signal that asks it to end. Default `SIGTERM`.
    pub signal: Signal,
    /// Time between the signal and SIGKILL. Default 10 s, at most 1 h.
    #[serde(with = "friendly::required")]
    pub grace: Duration,
    /// Longest drain: after it, what is still open is shut. Default 30 s, at most 24 h.
    #[serde(with = "friendly::required")]
    pub drain: Duration,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            signal: Signal::new("SIGTERM").unwrap_or_else(|_| unreachable!("SIGTERM is a signal")),
            grace: Duration::from_secs(10),
            drain: Duration::from_secs(30),
        }
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
        match min <= max && max <= MAX_INSTANCES {
            true => Ok(Self { min, max }),
            false => Err(Error::invalid(
                format!("replicas {{ min = {min}, max = {max} }}"),
                format!("min must not exceed max, and max not {MAX_INSTANCES}"),
            )),
        }
    }
}

impl From<Replicas> for ReplicasText {
    fn from(r: Replicas) -> Self {
        match r.min == r.max {
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
    /// The floor. The app's max still holds.
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
    /// Instances above the wanted count meanwhile. Default 1. With 0 a new one starts once an old one has ended.
    pub max_surge: Count,
    /// Instances below the wanted count meanwhile. Default 0.
    pub max_unavailable: Count,
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
            max_surge: Count::Exactly(1),
            max_unavailable: Count::Exactly(0),
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
        let seen = (
            self.image.repository(),
            digest,
            (&self.command, &self.args, &self.user),
            (&self.env, &self.secrets, &self.volumes),
            (&self.stop.signal, &self.resources, ports),
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

    fn check(&self) -> Result<()> {
        self.check_ports()?;
        self.check_process()?;
        self.check_volumes()?;
        self.check_place()?;
        self.check_scaling()?;
        let stop = &self.stop;
        if stop.grace > Duration::from_secs(3600) || stop.drain > DAY {
            return Err(Error::invalid("stop", "grace must be at most 1h and drain at most 24h"));
        }
        let rollout = &self.rollout;
        if rollout.ready_within > DAY {
            return Err(Error::invalid("rollout.ready_within", "must be at most 24h"));
        }
        if rollout.max_surge.of_rounded_up(100) == 0
            && rollout.max_unavailable.of_rounded_up(100) == 0
        {
            return Err(Error::invalid(
                "rollout",
                "max_surge and max_unavailable must not both be 0",
            ));
        }
        match rollout.canary.as_ref().is_some_and(|c| !(1..=99).contains(&c.weight.get())) {
            true => Err(Error::invalid("rollout.canary.weight", "must be 1 to 99")),
            false => Ok(()),
        }
    }

    fn check_ports(&self) -> Result<()> {
        if !(1..=MAX_PORTS).contains(&self.ports.len()) {
            return Err(Error::invalid("ports", format!("must be 1 to {MAX_PORTS}")));
        }
        let mut inside = BTreeSet::new();
        for (name, port) in &self.ports {
            let here = |e: Error| e.within(format!("port \"{name}\""));
            port.check().map_err(here)?;
            if !inside.insert(port.container) {
                return Err(here(Error::invalid(
                    "container",
                    "must not be another port's of this app",
                )));
            }
        }
        let claims: Vec<_> = self
            .ports
            .iter()
            .flat_map(|(name, port)| port.claims().map(move |c| (c, name)))
            .collect();
        for (i, (claim, name)) in claims.iter().enumerate() {
            if let Some((_, owner)) = claims[..i].iter().find(|(earlier, _)| earlier.clashes(claim))
            {
                let rule = format!("{claim} is already claimed by port \"{owner}\" of this app");
                return Err(Error::invalid(format!("port \"{name}\""), rule));
            }
        }
        Ok(())
    }

    fn check_process(&self) -> Result<()> {
        let lists = [("command", &self.command), ("args", &self.args)];
        for (field, list) in lists.iter().filter_map(|(f, l)| l.as_ref().map(|l| (*f, l))) {
            if list.len() > MAX_ENTRIES {
                return Err(Error::invalid(
                    field,
                    format!("must be at most {MAX_ENTRIES} entries"),
                ));
            }
            list.iter().try_for_each(|value| check_value(field, value))?;
        }
        if self.command.as_ref().is_some_and(|c| c.first().is_none_or(String::is_empty)) {
            return Err(Error::invalid("command", "must name a program"));
        }
        if self.env.len() + self.secrets.len() > MAX_ENTRIES || self.volumes.len() > MAX_ENTRIES {
            return Err(Error::invalid(
                "env, secrets, volumes",
                format!("must be at most {MAX_ENTRIES} each"),
            ));
        }
        for (name, value) in &self.env {
            check_value(&format!("env {name}"), value)?;
        }
        for (name, value) in &self.secrets {
            check_value(&format!("secrets {name}"), value.expose())?;
            if self.env.contains_key(name) {
                return Err(Error::invalid(
                    format!("secrets {name}"),
                    "must not be in env as well",
                ));
            }
        }
        match &self.registry {
            Some(registry) => registry.check().map_err(|e| e.within("registry")),
            None => Ok(()),
        }
    }

    fn check_volumes(&self) -> Result<()> {
        let mut targets = BTreeSet::new();
        for volume in &self.volumes {
            let target = || shown("volume", volume.target.as_str());
            if volume.target.as_str().bytes().all(|b| b == b'/') {
                return Err(Error::invalid(target(), "must be mounted below \"/\""));
            }
            if !targets.insert(&volume.target) {
                return Err(Error::invalid(target(), "must be mounted once"));
            }
        }
        Ok(())
    }

    fn check_place(&self) -> Result<()> {
        if self.resources.memory.is_some_and(|memory| memory < MIN_MEMORY) {
            return Err(Error::invalid(
                "resources.memory",
                format!("must be at least {MIN_MEMORY}"),
            ));
        }
        let labels = match &self.placement.exposure {
            Exposure::Labelled(labels) => labels.len().max(self.placement.labels.len()),
            _ => self.placement.labels.len(),
        };
        match labels > MAX_ENTRIES {
            true => {
                Err(Error::invalid("placement", format!("must be at most {MAX_ENTRIES} labels")))
            }
            false => Ok(()),
        }
    }

    fn check_scaling(&self) -> Result<()> {
        let Some(scaling) = &self.scaling else { return Ok(()) };
        if scaling.memory.is_some() && self.resources.memory.is_none() {
            return Err(Error::invalid("scaling.memory", "needs resources.memory"));
        }
        if [scaling.cpu, scaling.memory].iter().flatten().any(|p| p.get() == 0) {
            return Err(Error::invalid("scaling", "cpu and memory must be 1 to 100"));
        }
        if scaling.scale_in_after.is_some_and(|after| after > DAY) {
            return Err(Error::invalid("scaling.scale_in_after", "must be at most 24h"));
        }
        if scaling.schedule.len() > MAX_ENTRIES {
            let rule = format!("must be at most {MAX_ENTRIES} entries");
            return Err(Error::invalid("scaling.schedule", rule));
        }
        for floor in &scaling.schedule {
            if jiff::tz::TimeZone::get(&floor.time_zone).is_err() {
                return Err(Error::invalid(
                    shown("scaling.schedule.time_zone", &floor.time_zone),
                    "must be an IANA time zone such as \"Europe/Berlin\"",
                ));
            }
            if floor.from == floor.until {
                return Err(Error::invalid("scaling.schedule", "from and until must differ"));
            }
        }
        Ok(())
    }
}

/// Values the engine hands to a process or a registry: the kernel cannot carry NUL, and bounds each.
pub(super) fn check_value(field: &str, value: &str) -> Result<()> {
    match value.len() > MAX_VALUE || value.contains('\0') {
        true => {
            Err(Error::invalid(field, format!("must be at most {MAX_VALUE} bytes without NUL")))
        }
        false => Ok(()),
    }
}
