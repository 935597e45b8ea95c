//! What dies is replaced within seconds, what is deployed is served soon, and what is called settled is served,
//! as clients see it: whatever else is being changed, where no fault acts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::cluster::{Cluster, How, Lost, Waited};
use super::super::deploy::{Deployment, UNREADY_KNOWN};
use super::client::{self, Answers};
use super::truth::{State, Truth};
use super::{Invariant, Verdicts};
use crate::memory::Behaviour;
use crate::model::{AppName, HostId};
use crate::orchestrator::AppStatus;
use crate::staged::READY_WITHIN;

/// What a look, a pass, a start and its first answers take, several times over.
const PASSES: Duration = Duration::from_secs(3);
/// So long an instance that has served may fail its checks before it is replaced (`health.replace_after`).
const REPLACE_AFTER: Duration = Duration::from_secs(30);
/// So long whoever waits for a deployment asks its listeners before a bad answer is taken for the app's own.
const LET_GO: Duration = Duration::from_secs(6);
/// An app that runs so long without a crash has its crashes forgotten; before, each one waits longer.
const FORGET_CRASHES: Duration = Duration::from_secs(600);
/// The longest wait after a crash.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub(super) struct Served(BTreeMap<AppName, Watch>);

/// An app as it is watched.
#[derive(Debug)]
struct Watch {
    /// Since when nothing but its deployment stood in its way.
    clear: Duration,
    /// Whether clients have got all of its version since then.
    full: bool,
    /// What was lost since it was full, and until when that must be made up for.
    owed: Option<(Lost, Duration)>,
    /// Until then what was lost before it was full, or under an excuse, need not be made up for.
    due: Duration,
    /// When any was lost last.
    lost: Duration,
    /// Since when clients are served by it.
    since: Option<Duration>,
    /// Whether it was said that it is not served.
    said: bool,
    /// Whether its version was given up while a fault was felt: it stays so until it is deployed again.
    given_up: bool,
    /// When instances in each slot ended, in a row.
    crashes: BTreeMap<u32, (u32, Duration)>,
    /// Until then a version that did not serve can be felt.
    troubled: Duration,
}

impl Served {
    pub(super) fn look(
        &mut self,
        truth: &Truth,
        cluster: &mut Cluster,
        deployed: &[Deployment],
        verdicts: &mut Verdicts,
    ) {
        let now = cluster.now();
        let lost = std::mem::take(&mut cluster.lost);
        let waited = std::mem::take(&mut cluster.waited);
        self.0.retain(|name, _| cluster.wanted.contains_key(name));
        let status = cluster.status();
        let felt = cluster.hosts.values().any(|h| h.excused >= now);
        let excused = felt || cluster.excuses.platform >= now || status.is_none();
        for (name, deployment) in &cluster.wanted {
            let watch = self.0.entry(name.clone()).or_insert_with(|| Watch::new(deployment, now));
            for deployment in deployed.iter().filter(|d| d.app.name == *name) {
                watch.excuse(now);
                watch.given_up = false;
                watch.troubled = watch.troubled.max(troubled(deployment, now));
            }
            watch.troubled = watch.troubled.max(troubled(deployment, now));
            let mine = || lost.iter().filter(|lost| lost.id.app == *name);
            // What happens now is known a while later.
            let unknown = cluster.known_within() + UNREADY_KNOWN;
            let loses = mine().next().is_some() || now < watch.lost + unknown;
            watch.take_losses(mine(), deployment, cluster);
            let shown = status.as_ref().and_then(|status| status.apps.get(name));
            let failed = shown.is_some_and(|app| app.failed.is_some());
            let excused = excused || cluster.disturbed_until(name) >= now;
            watch.given_up &= failed || shown.is_none();
            watch.given_up |= failed && excused;
            if excused || watch.given_up {
                watch.excuse(now);
                continue;
            }
            let whole = whole(truth, cluster, name, deployment);
            watch.judge(name, deployment, cluster, whole.as_ref().err(), verdicts);
            let settled = !failed && shown.is_some_and(AppStatus::is_settled);
            let known = now > watch.clear + cluster.known_within() && watch.owed.is_none();
            if settled && known && !loses {
                watch.told(name, "is said to be settled", whole.as_ref().err(), verdicts);
            }
            for Waited { app, result, .. } in waited.iter().filter(|w| w.name == *name) {
                let is_served = Arc::ptr_eq(app, &deployment.app) && result.is_ok();
                if is_served && watch.owed.is_none() && !loses {
                    watch.told(
                        name,
                        "was waited for until it is served",
                        whole.as_ref().err(),
                        verdicts,
                    );
                }
            }
            watch.is_let_go(name, deployment, cluster, whole.is_ok(), verdicts);
        }
    }
}

/// Whether clients get all of the app's version and nothing else wherever it listens; else what they get.
fn whole(
    truth: &Truth,
    cluster: &Cluster,
    name: &AppName,
    deployment: &Deployment,
) -> Result<(), String> {
    let version = deployment.staged.version.to_string();
    let count = deployment.staged.count;
    let ready = truth
        .living()
        .filter(|(.., l)| l.app == *name && l.state == State::Ready && l.tag == version);
    let ready = ready.count() as u32;
    if ready < count {
        return Err(format!("{ready} of {count} run in version {version}"));
    }
    let answers: Vec<(&HostId, Answers)> = client::ask(truth, cluster, name).collect();
    let must = match deployment.staged.everywhere {
        true => cluster.hosts.len(),
        false => usize::from(count > 0),
    };
    if answers.len() < must {
        return Err(format!("{} balancers listen for it, {must} must", answers.len()));
    }
    let right = |a: &Answers| a.bad == 0 && a.good >= count && a.tags.iter().all(|t| *t == version);
    match answers.into_iter().find(|(_, answers)| !right(answers)) {
        Some((at, answers)) => Err(format!("at {at} {answers}")),
        None => Ok(()),
    }
}

impl Watch {
    fn new(deployment: &Deployment, now: Duration) -> Self {
        Self {
            clear: now,
            full: false,
            owed: None,
            due: Duration::ZERO,
            lost: Duration::ZERO,
            since: None,
            said: false,
            given_up: false,
            crashes: BTreeMap::new(),
            troubled: troubled(deployment, now),
        }
    }

    fn excuse(&mut self, now: Duration) {
        (self.clear, self.full, self.owed, self.said) = (now, false, None, false);
        self.since = None;
    }

    /// Somebody was told that it is served: it is.
    fn told(&self, name: &AppName, what: &str, why: Option<&String>, verdicts: &mut Verdicts) {
        verdicts.judge(Invariant::Told, why.is_none(), || {
            let (why, at) = (why.cloned().unwrap_or_default(), self.clear.as_secs_f64());
            format!("{name}, deployed or undisturbed since {at:.1} s, {what}, and {why}")
        });
    }

    /// Whoever waits until clients are served is told when they are.
    fn is_let_go(
        &mut self,
        name: &AppName,
        deployment: &Deployment,
        cluster: &Cluster,
        is_whole: bool,
        verdicts: &mut Verdicts,
    ) {
        let now = cluster.now();
        let since = *self.since.get_or_insert(now);
        match is_whole && cluster.is_waited_for(&deployment.app) {
            true => verdicts.judge(Invariant::Served, now <= since + LET_GO + deployment.staged.drain + cluster.known_within(), || {
                let since = since.as_secs_f64();
                format!("{name} is served since {since:.1} s, and whoever waits for that was not told")
            }),
            false => self.since = None,
        }
    }

    fn take_losses<'a>(
        &mut self,
        lost: impl Iterator<Item = &'a Lost>,
        deployment: &Deployment,
        cluster: &Cluster,
    ) {
        let now = cluster.now();
        for lost in lost {
            self.lost = now;
            let (known, waits) = match lost.how {
                How::Died => (Duration::ZERO, self.crashed(lost.id.slot, now)),
                How::Hangs => (UNREADY_KNOWN + REPLACE_AFTER, Duration::ZERO),
                How::NeverReady => (READY_WITHIN + REPLACE_AFTER, self.crashed(lost.id.slot, now)),
            };
            // Several are made up for one after the other.
            let one = within(deployment, cluster, 1);
            self.due = self.due.max(now + known + waits) + one;
            if self.full {
                self.owed = Some((lost.clone(), self.due));
            }
        }
    }

    /// How long the slot waits after this crash.
    fn crashed(&mut self, slot: u32, now: Duration) -> Duration {
        let (times, last) = self.crashes.entry(slot).or_insert((0, now));
        if now.saturating_sub(*last) >= FORGET_CRASHES {
            *times = 0;
        }
        (*times, *last) = (*times + 1, now);
        match *times {
            0 | 1 => Duration::ZERO,
            again => Duration::from_secs(1 << (again - 2).min(16)).min(LONGEST_WAIT),
        }
    }

    /// How long slots may wait now for what crashed before.
    fn waits(&self, now: Duration) -> Duration {
        let lately = self.crashes.values().filter(|(_, at)| *at + FORGET_CRASHES > now);
        let most = lately.map(|(times, _)| *times).max().unwrap_or(0);
        if most < 2 { Duration::ZERO } else { Duration::from_secs(1 << (most - 2).min(9)) }
    }

    fn judge(
        &mut self,
        name: &AppName,
        deployment: &Deployment,
        cluster: &Cluster,
        why: Option<&String>,
        verdicts: &mut Verdicts,
    ) {
        let now = cluster.now();
        if now <= self.troubled {
            return self.excuse(now);
        }
        let Some(why) = why else {
            if self.owed.take().is_some() || !self.full {
                verdicts.judge(Invariant::Served, true, String::new);
            }
            (self.full, self.said) = (true, false);
            return;
        };
        let late = match (&self.owed, self.full) {
            (Some((lost, due)), _) if now > *due => {
                Some(format!("{} {:?}, and by {:.1} s {why}", lost.id, lost.how, due.as_secs_f64()))
            }
            (None, false) => {
                let changes = deployment.staged.count + 1;
                let due = self.clear.max(self.due)
                    + within(deployment, cluster, changes)
                    + self.waits(now);
                let text =
                    || format!("deployed or undisturbed since {:.1} s", self.clear.as_secs_f64());
                (now > due).then(|| format!("{name}: {}, and {why}", text()))
            }
            _ => None,
        };
        if let Some(text) = late.filter(|_| !self.said) {
            self.said = true;
            verdicts.judge(Invariant::Served, false, || text);
        }
    }
}

/// Until when a version that does not serve can be felt after it was wanted: its crashes are remembered.
fn troubled(deployment: &Deployment, now: Duration) -> Duration {
    match deployment.serves() {
        true => Duration::ZERO,
        false => now + FORGET_CRASHES + LONGEST_WAIT,
    }
}

/// The time so many instances may take to be started one after the other, and served: each waits for a table
/// that is on its way, for one without what was there before, and for one with it.
fn within(deployment: &Deployment, cluster: &Cluster, instances: u32) -> Duration {
    let ready = match deployment.behaviour {
        Behaviour::ReadyAfter(after) => after,
        _ => Duration::ZERO,
    };
    // Without a surge each goes before the next comes.
    let drain = if deployment.staged.surge == 0 { deployment.staged.drain } else { Duration::ZERO };
    (PASSES + ready + drain + 3 * cluster.apply) * instances
}
