//! Measures apps apart from the passes: counters of engines and balancers become rates, summed per app.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::builder::LoopSettings;
use super::inbox::Inbox;
use super::link::{Link, bounded, bounded_store};
use super::meter::{Reading, TrafficMeter, UsageMeter};
use super::ticker::Ticker;
use crate::error::Error;
use crate::model::{App, AppName, BackendName, ContainerName, HostId};
use crate::scale::{LoadSample, MAX_SAMPLES};
use crate::store::{AppSet, LoadStore};
use crate::time::Now;

/// Readings of a balancer in the time of one sample: gauges such as requests in flight are their mean.
const READINGS: u32 = 5;
/// A reading older than so many samples counts as missing.
const READINGS_LAST: u32 = 3;

/// The latest readings of all hosts, and the samples made of them.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    apps: Arc<AppSet>,
    hosts: BTreeMap<HostId, Reading>,
    samples: BTreeMap<AppName, Vec<LoadSample>>,
    failure: Option<Error>,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are the apps to measure.
    pub(super) fn watch(&self, apps: Arc<AppSet>) {
        let mut state = self.lock();
        state.samples.retain(|name, _| apps.contains_key(name));
        state.apps = apps;
    }

    /// A host is gone: its readings count no more.
    pub(super) fn forget(&self, host: &HostId) {
        self.lock().hosts.remove(host);
    }

    /// The samples of each app, oldest first.
    pub(super) fn take(&self) -> BTreeMap<AppName, Arc<[LoadSample]>> {
        let state = self.lock();
        state.samples.iter().map(|(name, samples)| (name.clone(), samples[..].into())).collect()
    }

    /// Why samples cannot be stored, if they cannot.
    pub(super) fn failure(&self) -> Option<Error> {
        self.lock().failure.clone()
    }

    /// Reads one host's counters until it is gone.
    pub(super) async fn meter(
        self: Arc<Self>,
        link: Arc<Link>,
        time: Arc<Ticker>,
        settings: Arc<LoopSettings>,
    ) {
        let gone = link.gone.clone();
        let usage = self.meter_usage(&link, &time, &settings);
        let traffic = self.meter_traffic(&link, &time, &settings);
        let _ = gone.run_until_cancelled(async { tokio::join!(usage, traffic) }).await;
    }

    async fn meter_usage(&self, link: &Link, time: &Ticker, settings: &LoopSettings) {
        let mut meter = UsageMeter::default();
        loop {
            let usage = link.handle.runtime.usage();
            let read = bounded("usage", &link.host, settings.deadlines.usage, usage).await;
            let rates = meter.read(read.ok());
            let at = time.now().monotonic;
            self.change(link, |reading| reading.usage(at, rates));
            tokio::time::sleep(settings.sample).await;
        }
    }

    async fn meter_traffic(&self, link: &Link, time: &Ticker, settings: &LoopSettings) {
        let mut meter = TrafficMeter::default();
        loop {
            for _ in 0..READINGS {
                let traffic = link.handle.balancer.traffic();
                let read =
                    bounded("traffic", &link.host, settings.deadlines.traffic, traffic).await;
                meter.read(read.ok(), time.now().monotonic);
                tokio::time::sleep(settings.sample / READINGS).await;
            }
            let rates = meter.finish();
            let at = time.now().monotonic;
            self.change(link, |reading| reading.traffic(at, rates));
        }
    }

    fn change(&self, link: &Link, change: impl FnOnce(&mut Reading)) {
        if !link.gone.is_cancelled() {
            change(self.lock().hosts.entry(link.host.clone()).or_default());
        }
    }

    /// One sample of each app, from readings that are not too old.
    fn sample(&self, now: Now, every: Duration) -> Vec<(AppName, LoadSample)> {
        let mut state = self.lock();
        let oldest = now.monotonic.saturating_sub(every * READINGS_LAST);
        let apps = state.apps.clone();
        let made: Vec<_> = apps
            .iter()
            .map(|(name, stored)| {
                (name.clone(), sum(&stored.app, &state.hosts, oldest, now, every))
            })
            .collect();
        for (name, sample) in &made {
            let samples = state.samples.entry(name.clone()).or_default();
            samples.push(*sample);
            let surplus = samples.len().saturating_sub(MAX_SAMPLES);
            samples.drain(..surplus);
        }
        made
    }
}

/// Sums one app over all hosts. A count over hosts with one of them missing would look like a drop, so
/// then it is not given at all; CPU and memory say over how many instances they were measured.
fn sum(
    app: &App,
    hosts: &BTreeMap<HostId, Reading>,
    oldest: Duration,
    now: Now,
    over: Duration,
) -> LoadSample {
    let mut sample = LoadSample {
        at: now,
        over,
        instances: 0,
        cpu: None,
        memory: None,
        requests: None,
        failures: None,
        concurrency: None,
        response_time: None,
    };
    for (name, rate) in hosts.values().flat_map(|host| host.containers(oldest)) {
        if app_of(name) == Some(app.name.as_str()) {
            sample.instances += 1;
            add(&mut sample.cpu, rate.cpu);
            add(&mut sample.memory, rate.memory);
        }
    }
    let backends: Vec<BackendName> =
        app.ports.keys().map(|port| BackendName::of(&app.name, port)).collect();
    let mut servers = 0;
    let mut answer_time = 0.0;
    for host in hosts.values() {
        if backends.iter().any(|b| host.misses(b, oldest)) {
            return LoadSample { requests: None, failures: None, concurrency: None, ..sample };
        }
        for rate in backends.iter().filter_map(|b| host.backend(b, oldest)) {
            servers = servers.max(rate.servers);
            add(&mut sample.requests, rate.requests);
            add(&mut sample.failures, rate.failures);
            add(&mut sample.concurrency, rate.concurrency);
            answer_time += rate.response_time.unwrap_or(0.0) * rate.requests;
        }
    }
    if sample.instances == 0 {
        sample.instances = servers;
    }
    let requests = sample.requests.filter(|r| *r > 0.0);
    sample.response_time = requests.map(|r| answer_time / r).filter(|t| *t > 0.0);
    sample
}

/// The app in an instance's name, `cluster.app.revision.sSLOT.iINCARNATION`.
fn app_of(name: &ContainerName) -> Option<&str> {
    let mut parts = name.as_str().split('.');
    let app = parts.nth(1)?;
    (parts.count() == 3).then_some(app)
}

fn add(sum: &mut Option<f64>, part: f64) {
    if part.is_finite() && part >= 0.0 {
        *sum = Some(sum.unwrap_or(0.0) + part);
    }
}

/// Makes a sample of every app at each interval.
pub(super) struct Sampler {
    pub(super) board: Arc<Board>,
    pub(super) store: Arc<dyn LoadStore>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) time: Arc<Ticker>,
    pub(super) settings: Arc<LoopSettings>,
}

impl Sampler {
    pub(super) async fn run(self) {
        loop {
            tokio::time::sleep(self.settings.sample).await;
            let samples = self.board.sample(self.time.now(), self.settings.sample);
            if !samples.is_empty() {
                self.inbox.put(|news| news.sampled = true);
            }
            let failure = self.keep(&samples).await.err();
            self.board.lock().failure = failure;
        }
    }

    /// A store that fails is given up until the next sample.
    async fn keep(&self, samples: &[(AppName, LoadSample)]) -> crate::Result<()> {
        for (app, sample) in samples {
            let append = self.store.append(app, sample);
            bounded_store("append", "load", self.settings.deadlines.store, append).await?;
        }
        Ok(())
    }
}
