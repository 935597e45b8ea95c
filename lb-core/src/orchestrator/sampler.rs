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
use crate::model::{AppName, ContainerName, HostId};
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

    /// One sample of each app, from readings that are not too old. Passes ask the board too: nothing is summed while it is
    /// locked.
    fn sample(&self, now: Now, every: Duration) -> Vec<(AppName, LoadSample)> {
        let (apps, hosts) = {
            let state = self.lock();
            (state.apps.clone(), state.hosts.clone())
        };
        let oldest = now.monotonic.saturating_sub(every * READINGS_LAST);
        let mut sums = sum(&apps, hosts.values(), oldest);
        let mut of =
            |name: &AppName| sums.remove(name.as_str()).unwrap_or_default().sample(now, every);
        let made: Vec<_> = apps.keys().cloned().map(|name| (of(&name), name)).collect();
        let mut state = self.lock();
        for (sample, name) in &made {
            // Gone meanwhile, with its samples.
            if !state.apps.contains_key(name) {
                continue;
            }
            let samples = state.samples.entry(name.clone()).or_default();
            samples.push(*sample);
            let surplus = samples.len().saturating_sub(MAX_SAMPLES);
            samples.drain(..surplus);
        }
        made.into_iter().map(|(sample, name)| (name, sample)).collect()
    }
}

/// One app over all hosts.
#[derive(Debug, Default)]
struct Sum {
    instances: u32,
    cpu: Option<f64>,
    memory: Option<f64>,
    servers: u32,
    requests: Option<f64>,
    failures: Option<f64>,
    concurrency: Option<f64>,
    answer_time: f64,
    /// A host that served it did not tell.
    misses: bool,
}

/// Sums all apps in one walk over what the hosts read: as long as that is, however many apps there are.
fn sum<'a>(
    apps: &AppSet,
    hosts: impl Iterator<Item = &'a Reading>,
    oldest: Duration,
) -> BTreeMap<&'a str, Sum> {
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for host in hosts {
        for (name, rate) in host.containers(oldest) {
            let Some(app) = app_of(name) else { continue };
            let sum = sums.entry(app).or_default();
            sum.instances += 1;
            add(&mut sum.cpu, rate.cpu);
            add(&mut sum.memory, rate.memory);
        }
        for (name, rate) in host.backends(oldest) {
            let Some((app, port)) = name.as_str().split_once('.') else { continue };
            // A port that the app had.
            if !apps.get(app).is_some_and(|stored| stored.app.ports.contains_key(port)) {
                continue;
            }
            let sum = sums.entry(app).or_default();
            let Some(rate) = rate else {
                sum.misses = true;
                continue;
            };
            sum.servers = sum.servers.max(rate.servers);
            add(&mut sum.requests, rate.requests);
            add(&mut sum.failures, rate.failures);
            add(&mut sum.concurrency, rate.concurrency);
            sum.answer_time += rate.response_time.unwrap_or(0.0) * rate.requests;
        }
    }
    sums
}

impl Sum {
    /// A count over hosts with one of them missing would look like a drop, so then it is not given at all; CPU and memory
    /// say over how many instances they were measured.
    fn sample(self, at: Now, over: Duration) -> LoadSample {
        let Self { instances, cpu, memory, .. } = self;
        let sample = LoadSample {
            at,
            over,
            instances,
            cpu,
            memory,
            requests: None,
            failures: None,
            concurrency: None,
            response_time: None,
        };
        if self.misses {
            return sample;
        }
        let requests = self.requests.filter(|r| *r > 0.0);
        LoadSample {
            instances: if instances == 0 { self.servers } else { instances },
            requests: self.requests,
            failures: self.failures,
            concurrency: self.concurrency,
            response_time: requests.map(|r| self.answer_time / r).filter(|t| *t > 0.0),
            ..sample
        }
    }
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

#[cfg(test)]
mod tests {
    use super::super::meter::{BackendRate, ContainerRate};
    use super::*;
    use crate::model::{App, AppSpec, BackendName, Port};
    use crate::store::{Generation, StoredApp};

    const NOW: Duration = Duration::from_secs(100);

    fn app(name: &str) -> (AppName, StoredApp) {
        let mut spec = AppSpec::new(name.parse().unwrap(), "demo:1".parse().unwrap());
        spec.ports.insert("web".parse().unwrap(), Port::tcp(std::num::NonZeroU16::MIN));
        let app = Arc::new(App::new(spec).unwrap());
        let stored = StoredApp { app, generation: Generation(1), deploy: Generation(1) };
        (name.parse().unwrap(), stored)
    }

    /// A host with one container of each app, and so many requests a second of each backend.
    fn host(containers: &[&str], backends: &[(&str, f64)]) -> Reading {
        let mut reading = Reading::default();
        let name = |app: &&str| ContainerName::new(format!("c.{app}.0123456789ab.s0.i1")).unwrap();
        let used = ContainerRate { cpu: 0.5, memory: 10.0 };
        let rates = containers.iter().map(|app| (name(app), used)).collect();
        reading.usage(NOW, Some(rates));
        let rates = backends.iter().map(|(backend, requests)| {
            let rate = BackendRate { requests: *requests, servers: 2, ..BackendRate::default() };
            (BackendName::new(*backend).unwrap(), rate)
        });
        reading.traffic(NOW, Some(rates.collect()));
        reading
    }

    fn board(hosts: [Reading; 2]) -> Board {
        let board = Board::default();
        let apps = [app("shop"), app("site"), app("idle")].into();
        board.watch(Arc::new(AppSet { apps, trouble: None }));
        let names = ["h1", "h2"].map(|host| host.parse().unwrap());
        board.lock().hosts = names.into_iter().zip(hosts).collect();
        board
    }

    fn sampled(board: &Board) -> BTreeMap<String, LoadSample> {
        let now = Now { monotonic: NOW, ..Now::at_seconds(100) };
        let made = board.sample(now, Duration::from_secs(5));
        made.into_iter().map(|(name, sample)| (name.to_string(), sample)).collect()
    }

    #[test]
    fn each_app_is_summed_over_all_hosts_by_the_ports_it_has() {
        let board = board([
            host(&["shop", "site"], &[("shop.web", 3.0), ("shop.gone", 50.0), ("other.web", 9.0)]),
            host(&["shop"], &[("shop.web", 4.0), ("site.web", 1.0)]),
        ]);
        let made = sampled(&board);
        let figures = |app: &str| {
            let LoadSample { instances, cpu, memory, requests, .. } = made[app];
            (instances, cpu, memory, requests)
        };
        assert_eq!(figures("shop"), (2, Some(1.0), Some(20.0), Some(7.0)));
        assert_eq!(figures("site"), (1, Some(0.5), Some(10.0), Some(1.0)));
        assert_eq!(figures("idle"), (0, None, None, None));
        assert_eq!(made.len(), 3, "nothing of an app that is not watched");
        assert_eq!(board.take()["shop"].len(), 1);
    }

    #[test]
    fn requests_are_not_known_while_a_host_that_served_does_not_tell() {
        let mut silent = host(&["shop"], &[("shop.web", 4.0)]);
        silent.traffic(NOW, None);
        let made =
            sampled(&board([host(&["shop"], &[("shop.web", 3.0), ("site.web", 1.0)]), silent]));
        assert_eq!((made["shop"].instances, made["shop"].requests), (2, None));
        assert_eq!((made["site"].instances, made["site"].requests), (2, Some(1.0)), "servers");
    }
}
