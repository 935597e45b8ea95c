//! From counters to rates, for one host. Counters that went back began anew; what is absurd is not measured.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::balancer::{BackendTraffic, Traffic};
use crate::model::{BackendName, ContainerName};
use crate::runtime::Usage;

/// Longest time between two usage readings whose difference is believed; the host's clock may have jumped.
const LONGEST: Duration = Duration::from_secs(600);

/// The latest rates of one host.
#[derive(Debug, Default)]
pub(super) struct Reading {
    usage: Option<At<BTreeMap<ContainerName, ContainerRate>>>,
    traffic: Option<At<BTreeMap<BackendName, BackendRate>>>,
    /// Whether the balancer answered the last time it was asked.
    answers: bool,
}

#[derive(Debug)]
struct At<T> {
    at: Duration,
    rates: T,
}

/// One container over the latest interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ContainerRate {
    /// CPUs.
    pub(super) cpu: f64,
    /// Bytes.
    pub(super) memory: f64,
}

/// One backend over the latest interval.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct BackendRate {
    /// A second.
    pub(super) requests: f64,
    /// A second.
    pub(super) failures: f64,
    /// In flight and queued, mean of the readings.
    pub(super) concurrency: f64,
    /// Seconds.
    pub(super) response_time: Option<f64>,
    pub(super) servers: u32,
}

impl Reading {
    pub(super) fn usage(
        &mut self,
        at: Duration,
        rates: Option<BTreeMap<ContainerName, ContainerRate>>,
    ) {
        if let Some(rates) = rates {
            self.usage = Some(At { at, rates });
        }
    }

    pub(super) fn traffic(
        &mut self,
        at: Duration,
        rates: Option<BTreeMap<BackendName, BackendRate>>,
    ) {
        self.answers = rates.is_some();
        if let Some(rates) = rates {
            self.traffic = Some(At { at, rates });
        }
    }

    /// The containers, if measured since `oldest`.
    pub(super) fn containers(
        &self,
        oldest: Duration,
    ) -> impl Iterator<Item = (&ContainerName, &ContainerRate)> {
        self.usage.iter().filter(move |u| u.at >= oldest).flat_map(|u| &u.rates)
    }

    /// A backend, if measured since `oldest`.
    pub(super) fn backend(&self, name: &BackendName, oldest: Duration) -> Option<&BackendRate> {
        self.traffic.as_ref().filter(|t| self.answers && t.at >= oldest)?.rates.get(name)
    }

    /// Whether the host served the backend when it was last read, and does not say so any more.
    pub(super) fn misses(&self, name: &BackendName, oldest: Duration) -> bool {
        let known = self.traffic.as_ref();
        known.is_some_and(|t| t.rates.contains_key(name) && (!self.answers || t.at < oldest))
    }
}

/// Remembers the counters of a host's containers.
#[derive(Debug, Default)]
pub(super) struct UsageMeter {
    before: BTreeMap<ContainerName, Usage>,
}

impl UsageMeter {
    /// The rates since the reading before. A container without one, or whose counter went back, has none.
    pub(super) fn read(
        &mut self,
        usage: Option<BTreeMap<ContainerName, Usage>>,
    ) -> Option<BTreeMap<ContainerName, ContainerRate>> {
        let before = std::mem::replace(&mut self.before, usage?);
        let rates = self.before.iter().filter_map(|(name, now)| {
            let rate = container_rate(before.get(name)?, now)?;
            Some((name.clone(), rate))
        });
        Some(rates.collect())
    }
}

fn container_rate(before: &Usage, now: &Usage) -> Option<ContainerRate> {
    let over = Duration::try_from(now.at.duration_since(before.at)).ok()?;
    let used = now.cpu.checked_sub(before.cpu)?;
    let believed = !over.is_zero() && over <= LONGEST;
    believed.then(|| ContainerRate {
        cpu: used.as_secs_f64() / over.as_secs_f64(),
        memory: u64::from(now.memory) as f64,
    })
}

/// Gathers a balancer's readings until they are a rate.
#[derive(Debug, Default)]
pub(super) struct TrafficMeter {
    first: Option<Counters>,
    last: Option<Counters>,
    gathered: BTreeMap<BackendName, Gathered>,
    readings: u32,
    missed: bool,
}

#[derive(Debug)]
struct Counters {
    at: Duration,
    backends: BTreeMap<BackendName, BackendTraffic>,
}

#[derive(Debug, Default)]
struct Gathered {
    requests: u64,
    failures: u64,
    concurrency: u64,
}

impl TrafficMeter {
    /// Takes a reading in; `None`: it was missed, and so is the interval.
    pub(super) fn read(&mut self, traffic: Option<Traffic>, at: Duration) {
        let Some(traffic) = traffic else {
            self.missed = true;
            return;
        };
        let counters = Counters { at, backends: traffic.backends };
        for (name, now) in &counters.backends {
            let before = self.last.as_ref().map(|last| last.backends.get(name));
            let gathered = self.gathered.entry(name.clone()).or_default();
            gathered.concurrency += now.in_flight + now.queued;
            // Before the first reading nothing is known; a backend that is new since began at 0.
            if let Some(before) = before {
                let before = before.map_or((0, 0), |b| (b.requests, b.failures));
                gathered.requests += delta(before.0, now.requests);
                gathered.failures += delta(before.1, now.failures);
            }
        }
        self.readings += 1;
        if let Some(last) = self.last.replace(counters) {
            self.first.get_or_insert(last);
        }
    }

    /// The rates of the interval; `None` if a reading was missed or there was no interval yet.
    pub(super) fn finish(&mut self) -> Option<BTreeMap<BackendName, BackendRate>> {
        let gathered = std::mem::take(&mut self.gathered);
        let readings = std::mem::take(&mut self.readings);
        let missed = std::mem::take(&mut self.missed);
        let first = self.first.take()?;
        let last = self.last.as_ref()?;
        let over = last.at.saturating_sub(first.at).as_secs_f64();
        if missed || over <= 0.0 {
            return None;
        }
        let rates = last.backends.iter().map(|(name, traffic)| {
            let none = Gathered::default();
            let gathered = gathered.get(name).unwrap_or(&none);
            let rate = BackendRate {
                requests: gathered.requests as f64 / over,
                failures: gathered.failures as f64 / over,
                concurrency: gathered.concurrency as f64 / f64::from(readings.max(1)),
                response_time: traffic.response_time.filter(|t| t.is_finite() && *t >= 0.0),
                servers: u32::try_from(traffic.servers.len()).unwrap_or(u32::MAX),
            };
            (name.clone(), rate)
        });
        Some(rates.collect())
    }
}

/// How far a counter came. One that went back began anew at 0.
const fn delta(before: u64, now: u64) -> u64 {
    if now < before { now } else { now - before }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(at: i64, cpu: u64) -> BTreeMap<ContainerName, Usage> {
        let name = ContainerName::new("demo.shop").unwrap();
        let at = jiff::Timestamp::from_second(at).unwrap();
        let cpu = Duration::from_secs(cpu);
        BTreeMap::from([(name, Usage { at, cpu, memory: "1KiB".parse().unwrap() })])
    }

    fn cpu(meter: &mut UsageMeter, at: i64, used: u64) -> Option<f64> {
        meter.read(Some(usage(at, used))).unwrap().values().next().map(|rate| rate.cpu)
    }

    #[test]
    fn cpu_is_a_difference_and_a_counter_that_went_back_is_no_rate() {
        let mut meter = UsageMeter::default();
        assert_eq!(cpu(&mut meter, 0, 100), None);
        assert_eq!(cpu(&mut meter, 10, 105), Some(0.5));
        assert_eq!(cpu(&mut meter, 20, 3), None, "restarted");
        assert_eq!(cpu(&mut meter, 30, 13), Some(1.0));
        assert_eq!(cpu(&mut meter, 25, 20), None, "the clock went back");
        assert_eq!(meter.read(None), None);
        assert_eq!(cpu(&mut meter, 35, 25), Some(0.5), "a missed reading is bridged");
    }

    fn traffic(requests: u64, in_flight: u64) -> Traffic {
        let backend = BackendTraffic { requests, in_flight, ..BackendTraffic::default() };
        let backends = BTreeMap::from([(BackendName::new("shop.web").unwrap(), backend)]);
        Traffic { backends, ..Traffic::default() }
    }

    fn rate(meter: &mut TrafficMeter) -> Option<BackendRate> {
        meter.finish()?.into_values().next()
    }

    #[test]
    fn requests_are_counted_across_a_reset() {
        let mut meter = TrafficMeter::default();
        meter.read(Some(traffic(1000, 2)), Duration::from_secs(0));
        assert_eq!(rate(&mut meter), None, "one reading is no interval");
        meter.read(Some(traffic(1010, 4)), Duration::from_secs(1));
        meter.read(Some(traffic(5, 8)), Duration::from_secs(2));
        let rate = rate(&mut meter).unwrap();
        assert!((rate.requests - 7.5).abs() < 1e-9, "{rate:?}");
        assert!((rate.concurrency - 6.0).abs() < 1e-9, "{rate:?}");
    }

    #[test]
    fn an_interval_with_a_missed_reading_is_no_rate() {
        let mut meter = TrafficMeter::default();
        for (second, reading) in
            [Some(traffic(0, 0)), None, Some(traffic(10, 0))].into_iter().enumerate()
        {
            meter.read(reading, Duration::from_secs(second as u64));
        }
        assert_eq!(rate(&mut meter), None);
        meter.read(Some(traffic(20, 0)), Duration::from_secs(4));
        assert!((rate(&mut meter).unwrap().requests - 5.0).abs() < 1e-9);
    }

    #[test]
    fn a_host_that_stopped_answering_is_missed_by_its_backends_only() {
        let (known, other) =
            (BackendName::new("shop.web").unwrap(), BackendName::new("other.web").unwrap());
        let mut reading = Reading::default();
        let rates = BTreeMap::from([(known.clone(), BackendRate::default())]);
        reading.traffic(Duration::from_secs(5), Some(rates));
        assert!(!reading.misses(&known, Duration::from_secs(1)));
        assert!(reading.misses(&known, Duration::from_secs(6)), "too old");
        reading.traffic(Duration::from_secs(6), None);
        assert!(reading.misses(&known, Duration::from_secs(1)));
        assert!(!reading.misses(&other, Duration::from_secs(1)));
        assert_eq!(reading.backend(&known, Duration::ZERO), None);
    }
}
