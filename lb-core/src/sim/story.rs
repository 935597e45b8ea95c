//! One run from its beginning to its end.

use std::time::Duration;

use super::check::{Checks, Invariant, end};
use super::cluster::Cluster;
use super::traffic::Traffic;
use super::weather::Weather;
use super::{Options, Report, Violation};
use crate::model::AppName;

/// Time between two steps.
const STEP: Duration = Duration::from_millis(200);
/// Longest time from the last fault until all is as asked for: the longest wait after crashes (five minutes)
/// and the rollouts that wait for it.
const CONVERGES: Duration = Duration::from_secs(15 * 60);
/// So long nothing more may happen then.
const STAYS: Duration = Duration::from_secs(30);
/// Longest time until nothing is left of what was removed.
const CLEARS: Duration = Duration::from_secs(10 * 60);

pub(super) struct Story {
    options: Options,
    cluster: Cluster,
    weather: Weather,
    traffic: Traffic,
    checks: Checks,
    steps: u64,
}

impl Story {
    /// Must be called within the runtime of the run.
    pub(super) fn new(options: &Options) -> Self {
        let mut weather = Weather::new(options.seed);
        Self {
            cluster: Cluster::new(weather.hosts(), weather.apply(), options.mutant),
            weather,
            traffic: Traffic::new(options.seed),
            checks: Checks::default(),
            steps: 0,
            options: options.clone(),
        }
    }

    pub(super) async fn tell(mut self) -> Report {
        for _ in 0..self.weather.processes() {
            self.cluster.start().await;
        }
        self.weather.deploy(&mut self.cluster).await;
        for _ in 0..self.options.steps {
            let rest = self.weather.rest();
            self.pass(rest).await;
            if self.checks.is_full() {
                return self.report().await;
            }
            self.weather.strike(&mut self.cluster).await;
        }
        self.converge().await;
        self.clear().await;
        self.report().await
    }

    /// Time passes, with a check at each step of it.
    async fn pass(&mut self, time: Duration) {
        let end = self.cluster.now() + time;
        while self.cluster.now() < end {
            self.step().await;
        }
    }

    async fn step(&mut self) {
        tokio::time::sleep(STEP).await;
        self.weather.clear_up(&mut self.cluster);
        self.weather.go_on(&mut self.cluster).await;
        self.cluster.beat().await;
        self.traffic.flow(&self.cluster);
        self.checks.look(&mut self.cluster, &mut self.traffic);
        self.steps += 1;
    }

    /// The faults stop: in time all must be as asked for, and stay so.
    async fn converge(&mut self) {
        self.cluster.say("weather", "calm");
        self.weather.calm(&mut self.cluster);
        self.weather.conclude(&mut self.cluster).await;
        for name in self.hopeless() {
            self.weather.mend_app(&mut self.cluster, &name).await;
        }
        if !self.settle(CONVERGES, Invariant::Convergence).await {
            return;
        }
        let settled = self.cluster.now();
        self.pass(STAYS).await;
        let why = end::unsettled(&self.checks.truth, &self.cluster)
            .map(|why| format!("settled at {:.1} s, and then {why}", settled.as_secs_f64()));
        self.checks.judge(&mut self.cluster, Invariant::Convergence, why);
    }

    /// Apps whose version does not serve, unless another one is already back in its place.
    fn hopeless(&self) -> Vec<AppName> {
        let status = self.cluster.status();
        let failed = |name| Some(status.as_ref()?.apps.get(name)?.failed.is_some());
        let wanted = self.cluster.wanted.iter().filter(|(_, deployment)| !deployment.serves());
        let hopeless = wanted.filter(|(name, _)| failed(*name) != Some(true));
        hopeless.map(|(name, _)| name.clone()).collect()
    }

    /// Everything is removed: nothing may be left.
    async fn clear(&mut self) {
        let names: Vec<AppName> = self.cluster.wanted.keys().cloned().collect();
        for name in names {
            self.cluster.remove(&name).await;
        }
        self.settle(CLEARS, Invariant::LeftBehind).await;
    }

    /// Waits until all is as asked for. Whether it came so far.
    async fn settle(&mut self, within: Duration, invariant: Invariant) -> bool {
        let end = self.cluster.now() + within;
        loop {
            self.pass(Duration::from_secs(1)).await;
            let Some(why) = end::unsettled(&self.checks.truth, &self.cluster) else {
                self.cluster.say("weather", "all is as asked for");
                self.checks.judge(&mut self.cluster, invariant, None);
                return true;
            };
            if self.checks.is_full() {
                return false;
            }
            if self.cluster.now() >= end {
                let why = format!("after {within:?} {why}");
                self.checks.judge(&mut self.cluster, invariant, Some(why));
                return false;
            }
        }
    }

    async fn report(mut self) -> Report {
        self.cluster.end().await;
        let options = (self.options.seed, self.options.steps);
        let violations = self.checks.violations.into_iter().map(|(at, found)| Violation {
            invariant: found.invariant,
            at,
            text: found.text,
            options,
        });
        Report {
            steps: self.steps,
            faults: self.weather.faults,
            judged: self.checks.verdicts.judged,
            violations: violations.collect(),
            trace: self.cluster.trace.into_text(),
        }
    }
}
