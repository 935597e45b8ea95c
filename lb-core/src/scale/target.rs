//! One metric kept near a target per instance, by the rules of Kubernetes' HPA.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Decision, LoadSample, LoadView, PolicyMemory, STALE_AFTER, ScalePolicy, is_sane};
use crate::model::{App, Percent};
use crate::time::Now;

/// No action while the metric is this near its target (`--horizontal-pod-autoscaler-tolerance`).
const TOLERANCE: f64 = 0.1;
/// Measurements are averaged over so long.
const MEAN_OVER: Duration = Duration::from_secs(15);
/// At most the larger of so many instances and as many again are added in each [`UP_PERIOD`].
const UP_LEAST: u32 = 4;
const UP_PERIOD: Duration = Duration::from_secs(15);
/// How long a lower count must have been enough, by default.
const SCALE_IN_AFTER: Duration = Duration::from_secs(300);
/// Recommendations and counts remembered; older ones are merged towards the higher count.
const REMEMBERED: usize = 64;

/// What is measured, and how much of it one instance should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// CPU use as a share of the instance's limit, of one CPU without a limit.
    Cpu(Percent),
    /// Memory use as a share of the instance's limit; without a limit nothing is decided.
    Memory(Percent),
    /// Requests (HTTP) or connections (TCP) a second.
    Requests(NonZeroU32),
    /// Requests in flight or open connections, queued ones included.
    Concurrency(NonZeroU32),
}

/// A [`ScalePolicy`] that keeps one metric near its target per instance.
///
/// The rules of Kubernetes' horizontal pod autoscaler (`replica_calculator.go`, `horizontal.go`): nothing
/// within a tenth of the target; out at once, at most the larger of 4 and 100 % in 15 s, instances still
/// starting counted as if they had no load; in only to the highest count recommended in the last
/// [`scale_in_after`](Self::scale_in_after); instances that were not measured counted as loaded on the way
/// in and as idle on the way out. A metric that is missing, stale, negative or no number holds the count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    metric: Metric,
    scale_in_after: Duration,
}

impl Target {
    /// This metric; in after 5 min.
    pub const fn new(metric: Metric) -> Self {
        Self { metric, scale_in_after: SCALE_IN_AFTER }
    }

    /// How long a lower count must have been enough before it is taken. Default 5 min.
    #[must_use]
    pub const fn scale_in_after(self, scale_in_after: Duration) -> Self {
        Self { scale_in_after, ..self }
    }
}

/// What is remembered. Times are monotonic readings in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Memory {
    /// Recommendations of the window that a later one has not overtaken: later and lower.
    advice: Vec<(u64, u32)>,
    /// Wanted counts of the last [`UP_PERIOD`]: later and higher.
    counts: Vec<(u64, u32)>,
}

impl ScalePolicy for Target {
    fn decide(
        &self,
        load: &LoadView<'_>,
        memory: &PolicyMemory,
        now: Now,
    ) -> (Decision, PolicyMemory) {
        let mut memory = Memory::recall(memory, now);
        if memory.is_silent(now, self.scale_in_after) {
            // The first time, after a loss, or after a long silence: what is wanted was right until now.
            memory.advise(now, load.wanted);
        }
        memory.forget(now, self.scale_in_after);
        memory.count(now, load.wanted);
        let decision = match self.recommend(load, now) {
            Ok(advice) => memory.stabilise(load, now, &advice),
            Err(why) => {
                memory.advise(now, load.wanted);
                Decision::Hold(why)
            }
        };
        (decision, memory.keep())
    }
}

/// A count before stabilisation, and what it comes from.
struct Advice {
    count: u32,
    reason: String,
}

impl Target {
    fn recommend(&self, load: &LoadView<'_>, now: Now) -> Result<Advice, String> {
        let name = self.name();
        let target =
            self.per_instance(load.app).ok_or_else(|| format!("{name}: no limit is set"))?;
        let total = self.mean(load.samples, now).map_err(|why| format!("{name} {why}"))?;
        let newest = load.samples.last().map_or(0, |s| s.instances);
        let measured = newest.min(load.ready);
        if measured == 0 {
            return Err(format!("{name}: no ready instance was measured"));
        }
        let count = count(load, total, target, measured);
        let reason = format!(
            "{name} {total:.2} over {measured} instances, target {target:.2} each: {count} needed"
        );
        Ok(Advice { count, reason })
    }

    const fn name(&self) -> &'static str {
        match self.metric {
            Metric::Cpu(_) => "cpu",
            Metric::Memory(_) => "memory",
            Metric::Requests(_) => "requests",
            Metric::Concurrency(_) => "concurrency",
        }
    }

    fn per_instance(&self, app: &App) -> Option<f64> {
        let share = |p: Percent| f64::from(p.get()) / 100.0;
        let target = match self.metric {
            Metric::Cpu(p) => share(p) * app.resources.cpu.map_or(1.0, f64::from),
            Metric::Memory(p) => share(p) * app.resources.memory?.get() as f64,
            Metric::Requests(n) | Metric::Concurrency(n) => f64::from(n.get()),
        };
        (target > 0.0).then_some(target)
    }

    const fn value(&self, sample: &LoadSample) -> Option<f64> {
        match self.metric {
            Metric::Cpu(_) => sample.cpu,
            Metric::Memory(_) => sample.memory,
            Metric::Requests(_) => sample.requests,
            Metric::Concurrency(_) => sample.concurrency,
        }
    }

    /// The mean of the latest measurements, each weighed by the time it covers; the newest must be there.
    fn mean(&self, samples: &[LoadSample], now: Now) -> Result<f64, String> {
        let newest = samples.last().ok_or("was never measured")?;
        if !newest.is_fresh(now) {
            let age = now.since(newest.at.monotonic);
            return Err(format!("was not measured for {} s", age.as_secs()));
        }
        let recent = samples.iter().rev().take_while(|s| now.since(s.at.monotonic) < MEAN_OVER);
        let last = self.value(newest).ok_or("was not measured")?;
        let earlier = recent.skip(1).filter_map(|s| Some((self.value(s)?, s.over)));
        let mut sum = (0.0, 0.0);
        for (value, over) in std::iter::once((last, newest.over)).chain(earlier) {
            if !is_sane(value) {
                return Err(format!("measured {value}: must be a number from 0 up"));
            }
            let weight = over.as_secs_f64().max(0.001);
            sum = (sum.0 + value * weight, sum.1 + weight);
        }
        Ok(sum.0 / sum.1)
    }
}

/// The count that brings `total` to `target` each, the wanted one within the tolerance. Never lower for
/// more load.
fn count(load: &LoadView<'_>, total: f64, target: f64, measured: u32) -> u32 {
    let needed = |total: f64| (total / target - 1e-9).ceil().clamp(1.0, f64::from(u32::MAX)) as u32;
    if total > target * f64::from(measured) {
        // Out: what is starting, and what was not measured, will take its share.
        let all = load.ready.max(measured).saturating_add(load.starting);
        match total / (target * f64::from(all)) > 1.0 + TOLERANCE {
            true => needed(total).max(load.wanted),
            false => load.wanted,
        }
    } else {
        // In: what was not measured may be as loaded as it should be, and what is starting proves nothing.
        let total = total + target * f64::from(load.ready - measured);
        match total / (target * f64::from(load.ready)) < 1.0 - TOLERANCE {
            true => needed(total).min(load.wanted),
            false => load.wanted,
        }
    }
}

fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

impl Memory {
    /// A time that lies ahead is another process's: it counts from now, which delays and never hastens.
    fn recall(memory: &PolicyMemory, now: Now) -> Self {
        let mut memory: Self = serde_json::from_value(memory.0.clone()).unwrap_or_default();
        let now = millis(now.monotonic);
        for (at, _) in memory.advice.iter_mut().chain(&mut memory.counts) {
            *at = now.min(*at);
        }
        memory
    }

    /// Whether nothing was recommended for so long that the past says nothing: the window, or where that
    /// is shorter than the time between two decisions, as long as a measurement is good for.
    fn is_silent(&self, now: Now, window: Duration) -> bool {
        let span = millis(window.max(STALE_AFTER));
        self.advice.last().is_none_or(|(at, _)| millis(now.monotonic) - *at >= span)
    }

    /// Drops what no longer counts.
    fn forget(&mut self, now: Now, window: Duration) {
        let recent =
            |span: Duration| move |(at, _): &(u64, u32)| millis(now.monotonic) - *at < millis(span);
        self.advice.retain(recent(window));
        self.counts.retain(recent(UP_PERIOD));
    }

    fn keep(mut self) -> PolicyMemory {
        for entries in [&mut self.advice, &mut self.counts] {
            while entries.len() > REMEMBERED {
                let (_, oldest) = entries.remove(0);
                entries[0].1 = oldest;
            }
        }
        PolicyMemory(serde_json::to_value(self).unwrap_or_default())
    }

    fn advise(&mut self, now: Now, count: u32) {
        self.advice.retain(|(_, earlier)| *earlier > count);
        self.advice.push((millis(now.monotonic), count));
    }

    fn count(&mut self, now: Now, wanted: u32) {
        self.counts.retain(|(_, earlier)| *earlier < wanted);
        self.counts.push((millis(now.monotonic), wanted));
    }

    fn stabilise(&mut self, load: &LoadView<'_>, now: Now, advice: &Advice) -> Decision {
        let Advice { count, reason } = advice;
        self.advise(now, *count);
        let least = self.counts.first().map_or(load.wanted, |(_, count)| *count);
        let most = least.saturating_add(UP_LEAST.max(least));
        let highest = self.advice.first().map_or(*count, |(_, highest)| *highest);
        let count = match *count > load.wanted {
            true => (*count).min(most).max(load.wanted),
            false => highest.min(load.wanted),
        };
        match count == load.wanted {
            true => Decision::Hold(reason.clone()),
            false => Decision::Want { count, reason: reason.clone() },
        }
    }
}
