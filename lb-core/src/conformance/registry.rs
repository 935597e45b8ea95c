//! The suite of [`HostRegistry`].

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::BoxStream;

use super::{Ground, PATIENCE, Wrapped, at_each_await, poll_times, refused};
use crate::error::{ErrorKind, Result};
use crate::model::{ByteSize, HostFacts, HostId, HostSet, Resources};
use crate::registry::HostRegistry;
use crate::time::{Clock, SystemClock};

/// What a registry's tests give the suite. Made anew for each case; cases run beside each other.
///
/// The methods with a body are for single cases: a backend that leaves those out need not write them.
#[async_trait]
pub trait RegistrySetup: Debug + Send + Sync + 'static {
    /// The registry of this case, empty. Asked again, another value for the same one, as another process
    /// holds it.
    async fn registry(&self) -> Arc<dyn HostRegistry>;

    /// A short lease that the registry still keeps to well, at least a second in most networks.
    fn lease(&self) -> Duration;

    /// From now on the registry cannot be believed.
    async fn fail(&self) {
        panic!("{self:?} cannot make its registry fail");
    }

    /// It can be believed again.
    async fn heal(&self) {
        panic!("{self:?} cannot make its registry fail");
    }
}

/// A registry under test.
#[derive(Debug)]
pub struct Bed {
    /// The setup.
    pub setup: Arc<dyn RegistrySetup>,
    /// Its registry.
    pub registry: Arc<dyn HostRegistry>,
}

/// A lease that no case outlives.
const LONG: Duration = Duration::from_secs(600);

impl Bed {
    /// A bed with an empty registry.
    pub async fn new(setup: impl RegistrySetup) -> Self {
        let registry = setup.registry().await;
        Self { setup: Arc::new(setup), registry }
    }

    async fn announce(&self, id: &str, ttl: Duration) {
        self.registry.announce(&host(id), ttl).await.unwrap();
    }

    fn watch(&self) -> Watch {
        Watch(self.registry.watch())
    }
}

fn host(id: &str) -> HostFacts {
    HostFacts::new(HostId::new(id).unwrap(), Ipv4Addr::new(192, 0, 2, 1))
}

fn id(id: &str) -> HostId {
    HostId::new(id).unwrap()
}

/// Hears the sets of a registry.
struct Watch(BoxStream<'static, Result<Arc<HostSet>>>);

impl Watch {
    async fn next(&mut self) -> Result<Arc<HostSet>> {
        let next = tokio::time::timeout(PATIENCE, self.0.next()).await;
        next.expect("the watch says something").expect("the watch never ends")
    }

    /// The set once it has these members.
    async fn until(&mut self, members: &[&str]) -> Arc<HostSet> {
        let wanted: BTreeSet<_> = members.iter().map(|m| id(m)).collect();
        loop {
            let set = self.next().await.unwrap();
            if set.hosts.keys().eq(wanted.iter()) {
                return set;
            }
        }
    }
}

/// At once, also when it is empty.
pub async fn a_watch_begins_with_the_whole_set(bed: &Bed) {
    assert_eq!(*bed.watch().next().await.unwrap(), HostSet::default());
    bed.announce("h1", LONG).await;
    bed.announce("h2", LONG).await;
    let set = bed.watch().next().await.unwrap();
    assert_eq!(set.hosts.keys().collect::<Vec<_>>(), [&id("h1"), &id("h2")]);
}

/// With all that it says of itself, for every watcher.
pub async fn a_host_is_a_member_from_its_announcement(bed: &Bed) {
    let other = bed.setup.registry().await;
    let mut watches = [bed.watch(), Watch(other.watch())];
    let mut facts = host("h1");
    facts.labels.insert("zone".parse().unwrap(), "a".parse().unwrap());
    facts.capacity = Resources { cpu: None, memory: Some(ByteSize::mib(512)) };
    bed.registry.announce(&facts, LONG).await.unwrap();
    for watch in &mut watches {
        let set = watch.until(&["h1"]).await;
        assert_eq!(set.hosts[&facts.id], facts);
    }
}

/// No set is told twice in a row.
pub async fn a_renewal_is_no_change_and_other_facts_are(bed: &Bed) {
    let mut watch = bed.watch();
    bed.announce("h1", LONG).await;
    watch.until(&["h1"]).await;
    for _ in 0..3 {
        bed.announce("h1", LONG).await;
    }
    let moved = HostFacts { address: Ipv4Addr::new(192, 0, 2, 2).into(), ..host("h1") };
    bed.registry.announce(&moved, LONG).await.unwrap();
    let set = watch.next().await.unwrap();
    assert_eq!(set.hosts[&moved.id], moved, "the next set is the next change");
}

/// Not before its time.
pub async fn a_lease_ends_unrenewed(bed: &Bed) {
    let lease = bed.setup.lease();
    let mut watch = bed.watch();
    bed.announce("stays", LONG).await;
    let clock = SystemClock::new();
    bed.announce("goes", lease).await;
    watch.until(&["goes", "stays"]).await;
    watch.until(&["stays"]).await;
    let held = clock.now().monotonic;
    assert!(held >= lease, "it ends after {held:?} of {lease:?}");
}

/// Later, or sooner.
pub async fn a_renewal_moves_the_end_of_the_lease(bed: &Bed) {
    let lease = bed.setup.lease();
    bed.announce("h1", lease).await;
    bed.announce("h1", LONG).await;
    tokio::time::sleep(lease * 2).await;
    assert_eq!(bed.watch().next().await.unwrap().hosts.len(), 1, "the first lease is over");
    for _ in 0..3 {
        bed.announce("h1", lease).await;
    }
    bed.watch().until(&[]).await;
}

/// At once; absent is success, and it may come again.
pub async fn a_host_withdraws(bed: &Bed) {
    let mut watch = bed.watch();
    bed.announce("h1", LONG).await;
    watch.until(&["h1"]).await;
    for _ in 0..2 {
        bed.registry.withdraw(&id("h1")).await.unwrap();
    }
    watch.until(&[]).await;
    bed.announce("h1", LONG).await;
    watch.until(&["h1"]).await;
}

/// It names the host.
pub async fn a_lease_of_no_time_is_invalid(bed: &Bed) {
    let result = bed.registry.announce(&host("h1"), Duration::ZERO).await;
    let error = refused(result, ErrorKind::Invalid).to_string();
    assert!(error.contains("h1"), "{error}");
    assert_eq!(*bed.watch().next().await.unwrap(), HostSet::default());
}

/// Others would bind and connect to it.
pub async fn an_address_of_no_machine_is_invalid(bed: &Bed) {
    for address in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1"] {
        let facts = HostFacts { address: address.parse().unwrap(), ..host("h1") };
        let result = bed.registry.announce(&facts, Duration::from_secs(60)).await;
        let error = refused(result, ErrorKind::Invalid).to_string();
        assert!(error.contains("h1") && error.contains("address"), "{error}");
    }
    assert_eq!(*bed.watch().next().await.unwrap(), HostSet::default());
}

/// All are there, in order of id.
pub async fn many_announce_at_once(bed: &Bed) {
    let other = bed.setup.registry().await;
    let hosts: Vec<_> = (0..40).map(|n| host(&format!("h{n}"))).collect();
    let registries = [&bed.registry, &other];
    let calls = hosts.iter().enumerate().map(|(n, h)| registries[n % 2].announce(h, LONG));
    join_all(calls).await.into_iter().for_each(Result::unwrap);
    let names: Vec<_> = hosts.iter().map(|h| h.id.as_str()).collect();
    let set = bed.watch().until(&names).await;
    assert_eq!(set.hosts.len(), 40);
}

/// Not each.
pub async fn a_slow_reader_hears_the_latest_set(bed: &Bed) {
    let mut watch = bed.watch();
    watch.next().await.unwrap();
    for n in 0..50 {
        bed.announce(&format!("h{n}"), LONG).await;
    }
    let mut heard = 1;
    while watch.next().await.unwrap().hosts.len() < 50 {
        heard += 1;
    }
    assert!(heard <= 5, "{heard} sets of 50 changes");
}

/// And the next call finds either.
pub async fn a_cut_call_is_done_or_not_done(bed: &Bed) {
    at_each_await(async |polls| {
        let facts = host("h1");
        let ended = poll_times(bed.registry.announce(&facts, LONG), polls).await.is_some();
        bed.announce("h1", LONG).await;
        bed.watch().until(&["h1"]).await;
        let _ = poll_times(bed.registry.withdraw(&id("h1")), polls).await;
        bed.registry.withdraw(&id("h1")).await.unwrap();
        bed.watch().until(&[]).await;
        ended
    })
    .await;
}

/// The stream says so, goes on, and tells the whole set again. Needs `fail` and `heal` of the setup.
pub async fn a_registry_that_fails_is_not_believed_until_it_is_whole(bed: &Bed) {
    let mut watch = bed.watch();
    bed.announce("h1", LONG).await;
    watch.until(&["h1"]).await;
    bed.setup.fail().await;
    let error = watch.next().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    bed.setup.heal().await;
    assert_eq!(watch.next().await.unwrap().hosts.len(), 1);
    bed.announce("h2", LONG).await;
    watch.until(&["h1", "h2"]).await;
}

/// One test of each case of a [`HostRegistry`](crate::HostRegistry), from a
/// [`RegistrySetup`](crate::conformance::registry::RegistrySetup). See [`conformance`](crate::conformance).
#[macro_export]
macro_rules! host_registry_suite {
    ($($given:tt)*) => {
        $crate::__conformance_cases! {
            ($) registry [
                a_watch_begins_with_the_whole_set
                a_host_is_a_member_from_its_announcement
                a_renewal_is_no_change_and_other_facts_are
                a_lease_ends_unrenewed
                a_renewal_moves_the_end_of_the_lease
                a_host_withdraws
                a_lease_of_no_time_is_invalid
                an_address_of_no_machine_is_invalid
                many_announce_at_once
                a_slow_reader_hears_the_latest_set
                a_cut_call_is_done_or_not_done
                a_registry_that_fails_is_not_believed_until_it_is_whole
            ]
            $($given)*
        }
    };
}

impl Ground for Bed {}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: RegistrySetup> RegistrySetup for Wrapped<S, dyn HostRegistry> {
    async fn registry(&self) -> Arc<dyn HostRegistry> {
        self.wrap(self.setup.registry().await)
    }

    fn lease(&self) -> Duration {
        self.setup.lease()
    }

    async fn fail(&self) {
        self.setup.fail().await;
    }

    async fn heal(&self) {
        self.setup.heal().await;
    }
}
