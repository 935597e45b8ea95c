//! How many instances an app should have, from what is measured.

mod combine;
mod floors;
mod target;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::combine::{Highest, Least};
pub use self::floors::Floors;
pub use self::target::{Metric, Target};
use crate::model::{App, Scaling};
use crate::time::Now;

/// Decides how many instances an app should have.
///
/// # Contract
/// - Pure and incremental: the same view, memory and time give the same decision, and what must be
///   remembered is in the memory it returns. It never sees a clock, a random number or another app.
/// - The core applies min, max, floors and the largest step afterwards; a policy need not.
/// - It may be asked at any interval, also twice at the same time. Missing, stale or absurd measurements
///   must lead to [`Decision::Hold`] or to more instances, never to fewer. What is stale, and what absurd,
///   [`LoadView::measured`] says: a policy that reads its figures by it keeps this rule.
pub trait ScalePolicy: Debug + Send + Sync + 'static {
    /// Decides from the load seen so far.
    fn decide(
        &self,
        load: &LoadView<'_>,
        memory: &PolicyMemory,
        now: Now,
    ) -> (Decision, PolicyMemory);
}

/// What a policy sees of one app.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct LoadView<'a> {
    /// The app.
    pub app: &'a App,
    /// Instances wanted now.
    pub wanted: u32,
    /// Of them, those that take traffic.
    pub ready: u32,
    /// Of them, those still starting.
    pub starting: u32,
    /// What was measured, oldest first; at most [`MAX_SAMPLES`].
    pub samples: &'a [LoadSample],
}

/// Most samples a policy is shown.
pub const MAX_SAMPLES: usize = 120;
/// A measurement older than this is stale. By default one is taken every 5 s: twelve were missed.
pub const STALE_AFTER: Duration = Duration::from_secs(60);

impl<'a> LoadView<'a> {
    /// The newest measurement, if it is not stale: at most [`STALE_AFTER`] old, and not from a time to come
    /// (the clock of another process).
    pub fn latest_fresh(&self, now: Now) -> Option<&'a LoadSample> {
        self.samples.last().filter(|newest| newest.is_fresh(now))
    }

    /// A figure of the newest measurement: `None` if that is missing or stale, if the figure was not
    /// measured, or if it is absurd (negative, infinite, no number).
    ///
    /// ```
    /// # use lb_core::{Decision, LoadView, Now};
    /// # fn decide(load: &LoadView<'_>, now: Now) -> Decision {
    /// let Some(requests) = load.measured(now, |sample| sample.requests) else {
    ///     return Decision::Hold("requests are not measured".into());
    /// };
    /// Decision::Want { count: (requests / 100.0).ceil() as u32, reason: format!("{requests} a second") }
    /// # }
    /// ```
    pub fn measured(
        &self,
        now: Now,
        figure: impl FnOnce(&LoadSample) -> Option<f64>,
    ) -> Option<f64> {
        figure(self.latest_fresh(now)?).filter(|figure| is_sane(*figure))
    }
}

/// Whether a figure can be one: a number from 0 up.
const fn is_sane(figure: f64) -> bool {
    figure.is_finite() && figure >= 0.0
}

/// One measurement of one app, summed over its instances and balancers. `None`: not measured; a number that is
/// not finite counts, and comes back, as that.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoadSample {
    /// When.
    pub at: Now,
    /// The time it covers.
    pub over: Duration,
    /// Instances that were measured.
    pub instances: u32,
    /// CPUs in use.
    pub cpu: Option<f64>,
    /// Bytes in use.
    pub memory: Option<f64>,
    /// Requests (HTTP) or connections (TCP) a second.
    pub requests: Option<f64>,
    /// Of them, those that failed.
    pub failures: Option<f64>,
    /// In flight and queued, mean of the readings.
    pub concurrency: Option<f64>,
    /// Seconds to answer, mean.
    pub response_time: Option<f64>,
}

impl LoadSample {
    /// Whether it is neither older than [`STALE_AFTER`] nor from a time to come.
    pub fn is_fresh(&self, now: Now) -> bool {
        self.at.monotonic <= now.monotonic && now.since(self.at.monotonic) <= STALE_AFTER
    }

    /// Whether anything was measured, and none of it is absurd.
    pub(crate) fn is_sound(&self) -> bool {
        let Self { cpu, memory, requests, failures, concurrency, response_time, .. } = self;
        let all = [cpu, memory, requests, failures, concurrency, response_time];
        let mut known = all.into_iter().flatten().peekable();
        known.peek().is_some() && known.all(|figure| is_sane(*figure))
    }
}

/// What a policy remembers between decisions: any JSON it likes, at most 64 KiB and nested at most 32 deep;
/// more is forgotten. `Null` at first, and after a loss: a policy must accept that at any time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyMemory(pub serde_json::Value);

/// Most bytes of a policy's memory as JSON, and how deep it may be nested: the ledger must come back.
const MOST_MEMORY: usize = 64 * 1024;
const MOST_DEPTH: usize = 32;

impl PolicyMemory {
    /// Whether it may be kept.
    pub(crate) fn fits(&self) -> bool {
        is_flat(&self.0, MOST_DEPTH) && self.0.to_string().len() <= MOST_MEMORY
    }
}

fn is_flat(value: &serde_json::Value, depth: usize) -> bool {
    let Some(below) = depth.checked_sub(1) else { return false };
    match value {
        serde_json::Value::Array(items) => items.iter().all(|item| is_flat(item, below)),
        serde_json::Value::Object(map) => map.values().all(|item| is_flat(item, below)),
        _ => true,
    }
}

/// What a policy decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Keep the count, for this reason.
    Hold(String),
    /// Have so many, for this reason.
    Want {
        /// The count, before limits.
        count: u32,
        /// Why.
        reason: String,
    },
}

impl Decision {
    /// The count it comes to, where `wanted` are wanted now.
    pub const fn count(&self, wanted: u32) -> u32 {
        match self {
            Self::Hold(_) => wanted,
            Self::Want { count, .. } => *count,
        }
    }
}

/// The built-in policy for an app's targets and schedule: the highest of its [`Target`]s over its
/// [`Floors`]. `None` when it sets none, or names a policy of the platform's own; put [`Floors`] around
/// that one where the app has a schedule.
pub fn from_scaling(scaling: &Scaling) -> Option<Arc<dyn ScalePolicy>> {
    if scaling.policy.is_some() {
        return None;
    }
    let metrics = [
        scaling.cpu.map(Metric::Cpu),
        scaling.memory.map(Metric::Memory),
        scaling.requests.map(Metric::Requests),
        scaling.concurrency.map(Metric::Concurrency),
    ];
    let target = |metric| {
        let target = Target::new(metric);
        let target = scaling.scale_in_after.map_or(target.clone(), |d| target.scale_in_after(d));
        Arc::new(target) as Arc<dyn ScalePolicy>
    };
    let targets: Vec<_> = metrics.into_iter().flatten().map(target).collect();
    let inner: Arc<dyn ScalePolicy> = match (targets.is_empty(), scaling.schedule.is_empty()) {
        (true, true) => return None,
        (true, false) => Arc::new(Least),
        (false, _) => Arc::new(Highest::new(targets)),
    };
    match scaling.schedule.is_empty() {
        true => Some(inner),
        false => Some(Arc::new(Floors::new(&scaling.schedule, inner))),
    }
}
