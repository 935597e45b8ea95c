//! Which hosts to believe in: a registry that fails or forgets many at once is not believed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::error::Error;
use crate::model::{HostFacts, HostId, HostSet};
use crate::plan::RegistryTrust;

/// Share of the hosts that may be lost within one lease and still be believed, in percent; one always may.
const BELIEVED_LOSS: usize = 30;

/// The hosts believed to be members, against what the registry says.
#[derive(Debug, Default)]
pub(super) struct Membership {
    hosts: BTreeMap<HostId, HostFacts>,
    /// Believed losses of the last lease, oldest first; at most the hosts there were.
    lost: VecDeque<Loss>,
    /// Hosts the registry no longer has, and that are kept.
    doubted: BTreeSet<HostId>,
    confirmed: BTreeSet<HostId>,
    failure: Option<Error>,
    told: HostSet,
}

#[derive(Debug)]
struct Loss {
    host: HostId,
    at: Duration,
}

impl Membership {
    /// The registry says these are the hosts. `lease` is how long one lasts.
    pub(super) fn update(&mut self, set: &HostSet, now: Duration, lease: Duration) {
        self.failure = None;
        self.lost.retain(|l| l.at + lease > now && !set.hosts.contains_key(&l.host));
        self.confirmed.retain(|id| !set.hosts.contains_key(id));
        let missing: BTreeSet<HostId> =
            self.hosts.keys().filter(|id| !set.hosts.contains_key(*id)).cloned().collect();
        let total = self.hosts.len() + self.lost.len();
        let bound = (total * BELIEVED_LOSS / 100).max(1);
        self.doubted = BTreeSet::new();
        if missing.len() + self.lost.len() > bound {
            self.doubted = missing;
        } else {
            for host in missing {
                self.hosts.remove(&host);
                self.lost.push_back(Loss { host, at: now });
            }
        }
        self.hosts.extend(set.hosts.iter().map(|(id, facts)| (id.clone(), facts.clone())));
        self.told = set.clone();
    }

    /// Doubted losses that are few enough for a lease of their own are believed once the losses before
    /// them are older than a lease. Whether that is so now.
    pub(super) fn reconsider(&mut self, now: Duration, lease: Duration) -> bool {
        if self.failure.is_some() || self.doubted.is_empty() {
            return false;
        }
        let told = std::mem::take(&mut self.told);
        self.update(&told, now, lease);
        self.doubted.is_empty()
    }

    /// The registry fails: the last set it gave stands.
    pub(super) fn fail(&mut self, error: Error) {
        self.failure = Some(error);
    }

    /// An operator says these hosts are gone for good.
    pub(super) fn confirm(&mut self, gone: BTreeSet<HostId>) {
        for id in &gone {
            self.hosts.remove(id);
            self.doubted.remove(id);
        }
        self.confirmed.extend(gone);
    }

    /// The hosts to plan with.
    pub(super) const fn hosts(&self) -> &BTreeMap<HostId, HostFacts> {
        &self.hosts
    }

    /// Hosts the registry has lost and that are not believed to be gone.
    pub(super) const fn doubted(&self) -> &BTreeSet<HostId> {
        &self.doubted
    }

    /// Why the registry is not believed, if it fails.
    pub(super) const fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// Whether the registry answers and its set is taken as it is.
    pub(super) fn is_believed(&self) -> bool {
        self.failure.is_none() && self.doubted.is_empty()
    }

    /// What the planner is told. It may doubt on its own what was lost while nobody led, so that a
    /// confirmation stands until the host is back.
    pub(super) fn trust(&self) -> RegistryTrust {
        match (self.confirmed.is_empty(), self.is_believed()) {
            (false, _) => RegistryTrust::Confirmed(self.confirmed.clone()),
            (true, true) => RegistryTrust::Answers,
            (true, false) => RegistryTrust::Fails,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::error::ErrorKind;

    const LEASE: Duration = Duration::from_secs(15);

    fn set(ids: impl IntoIterator<Item = u32>) -> HostSet {
        let facts = |n| HostFacts::new(format!("h{n}").parse().unwrap(), Ipv4Addr::LOCALHOST);
        ids.into_iter().map(facts).collect()
    }

    fn names(m: &Membership) -> Vec<&str> {
        m.hosts().keys().map(HostId::as_str).collect()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_lost_host_is_believed_a_second_within_the_lease_is_not() {
        let mut m = Membership::default();
        m.update(&set(1..=3), at(0), LEASE);
        m.update(&set(1..=2), at(1), LEASE);
        assert_eq!((names(&m), m.trust()), (vec!["h1", "h2"], RegistryTrust::Answers));
        m.update(&set(1..=1), at(2), LEASE);
        assert_eq!((names(&m), m.trust()), (vec!["h1", "h2"], RegistryTrust::Fails));
        m.update(&set(1..=2), at(3), LEASE);
        assert_eq!(m.trust(), RegistryTrust::Answers);
    }

    #[test]
    fn a_doubted_loss_is_believed_a_lease_later_if_it_was_one() {
        let mut m = Membership::default();
        m.update(&set(1..=3), at(0), LEASE);
        m.update(&set(1..=2), at(1), LEASE);
        m.update(&set(1..=1), at(2), LEASE);
        assert!(!m.reconsider(at(15), LEASE));
        assert_eq!(names(&m), ["h1", "h2"]);
        assert!(m.reconsider(at(17), LEASE));
        assert_eq!((names(&m), m.trust()), (vec!["h1"], RegistryTrust::Answers));
    }

    #[test]
    fn losses_a_lease_apart_are_believed() {
        let mut m = Membership::default();
        m.update(&set(1..=3), at(0), LEASE);
        m.update(&set(1..=2), at(1), LEASE);
        m.update(&set(1..=1), at(17), LEASE);
        assert_eq!((names(&m), m.trust()), (vec!["h1"], RegistryTrust::Answers));
    }

    #[test]
    fn thirty_percent_is_believed_and_more_is_not() {
        let mut m = Membership::default();
        m.update(&set(1..=10), at(0), LEASE);
        m.update(&set(1..=7), at(1), LEASE);
        assert_eq!((names(&m).len(), m.trust()), (7, RegistryTrust::Answers));
        m.update(&set(1..=6), at(2), LEASE);
        assert_eq!((names(&m).len(), m.trust()), (7, RegistryTrust::Fails));
    }

    #[test]
    fn an_operator_confirms_some_of_the_doubted() {
        let mut m = Membership::default();
        m.update(&set(1..=4), at(0), LEASE);
        m.update(&set(1..=1), at(1), LEASE);
        assert_eq!(m.doubted().len(), 3);
        let gone = BTreeSet::from(["h2".parse().unwrap()]);
        m.confirm(gone.clone());
        assert_eq!(names(&m), ["h1", "h3", "h4"]);
        assert_eq!(m.trust(), RegistryTrust::Confirmed(gone));
        m.update(&set(1..=4), at(2), LEASE);
        assert_eq!(m.trust(), RegistryTrust::Answers);
        m.update(&set(2..=4), at(3), LEASE);
        assert_eq!(m.trust(), RegistryTrust::Answers, "a confirmation does not outlive a return");
    }

    #[test]
    fn a_failing_registry_keeps_the_last_set() {
        let mut m = Membership::default();
        m.update(&set(1..=2), at(0), LEASE);
        m.fail(Error::new(ErrorKind::Unavailable, "watch", "registry", "down"));
        assert_eq!((names(&m), m.trust()), (vec!["h1", "h2"], RegistryTrust::Fails));
        m.update(&set(1..=2), at(1), LEASE);
        assert_eq!(m.trust(), RegistryTrust::Answers);
    }
}
