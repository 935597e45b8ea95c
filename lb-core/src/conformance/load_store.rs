//! The suite of [`LoadStore`].

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;

use super::{Ground, Wrapped, at_each_await, poll_times};
use crate::error::Result;
use crate::model::AppName;
use crate::scale::{LoadSample, MAX_SAMPLES};
use crate::store::LoadStore;
use crate::time::Now;

/// What a store's tests give the suite. Made anew for each case; cases run beside each other.
#[async_trait]
pub trait LoadStoreSetup: Debug + Send + Sync + 'static {
    /// The store of this case, empty.
    async fn store(&self) -> Arc<dyn LoadStore>;
}

/// A store under test.
#[derive(Debug)]
pub struct Bed {
    /// Its store.
    pub store: Arc<dyn LoadStore>,
}

impl Bed {
    /// A bed with an empty store.
    pub async fn new(setup: impl LoadStoreSetup) -> Self {
        Self { store: setup.store().await }
    }

    async fn seconds(&self, app: &str, most: usize) -> Vec<u64> {
        let samples = self.store.recent(&name(app), most).await.unwrap();
        samples.into_iter().map(|sample| sample.at.monotonic.as_secs()).collect()
    }
}

fn name(app: &str) -> AppName {
    AppName::new(app).unwrap()
}

fn sample(second: u32) -> LoadSample {
    LoadSample {
        at: Now::at_seconds(second),
        over: Duration::from_secs(15),
        instances: second,
        cpu: Some(0.1 + f64::from(second)),
        memory: None,
        requests: Some(1e9),
        failures: Some(0.0),
        concurrency: None,
        response_time: Some(f64::MIN_POSITIVE),
    }
}

/// No error.
pub async fn an_app_nobody_measured_has_no_samples(bed: &Bed) {
    assert_eq!(bed.store.recent(&name("shop"), 10).await.unwrap(), []);
}

/// To the last bit of each number.
pub async fn samples_come_back_oldest_first(bed: &Bed) {
    for second in 1..=5 {
        bed.store.append(&name("shop"), &sample(second)).await.unwrap();
    }
    let all = bed.store.recent(&name("shop"), 10).await.unwrap();
    assert_eq!(all, (1..=5).map(sample).collect::<Vec<_>>());
    assert_eq!(bed.seconds("shop", 2).await, [4, 5], "the latest");
    assert!(bed.seconds("shop", 0).await.is_empty());
}

/// Each has its own.
pub async fn apps_do_not_mix(bed: &Bed) {
    bed.store.append(&name("shop"), &sample(1)).await.unwrap();
    bed.store.append(&name("blog"), &sample(2)).await.unwrap();
    assert_eq!(bed.seconds("shop", 9).await, [1]);
    assert_eq!(bed.seconds("blog", 9).await, [2]);
}

/// Policies are shown as many.
pub async fn enough_are_kept_for_a_policy(bed: &Bed) {
    let most = u32::try_from(MAX_SAMPLES).unwrap();
    for second in 1..=most + 5 {
        bed.store.append(&name("shop"), &sample(second)).await.unwrap();
    }
    let kept = bed.seconds("shop", MAX_SAMPLES).await;
    assert_eq!(kept, (6..=u64::from(most) + 5).collect::<Vec<_>>());
}

/// None is lost.
pub async fn appends_at_once_are_all_there(bed: &Bed) {
    let (shop, samples) = (name("shop"), (1..=30).map(sample).collect::<Vec<_>>());
    let appends = samples.iter().map(|sample| bed.store.append(&shop, sample));
    join_all(appends).await.into_iter().for_each(Result::unwrap);
    let mut seconds = bed.seconds("shop", 100).await;
    seconds.sort_unstable();
    assert_eq!(seconds, (1..=30).collect::<Vec<_>>());
}

/// At whichever await it is cut; and it never comes after a later one, nor twice.
pub async fn a_cut_append_is_done_or_not_done(bed: &Bed) {
    let (shop, mut kept) = (name("shop"), Vec::new());
    at_each_await(async |polls| {
        let second = 2 * u32::try_from(polls).unwrap();
        let cut = sample(second);
        let ended = poll_times(bed.store.append(&shop, &cut), polls).await.is_some();
        bed.store.append(&shop, &sample(second + 1)).await.unwrap();
        let seconds = bed.seconds("shop", MAX_SAMPLES).await;
        if seconds.contains(&second.into()) || ended {
            kept.push(second.into());
        }
        kept.push(u64::from(second) + 1);
        assert_eq!(seconds, kept, "after {polls} polls");
        ended
    })
    .await;
}

/// One test of each case of a [`LoadStore`](crate::LoadStore), from a
/// [`LoadStoreSetup`](crate::conformance::load_store::LoadStoreSetup). See
/// [`conformance`](crate::conformance).
#[macro_export]
macro_rules! load_store_suite {
    ($($given:tt)*) => {
        $crate::__conformance_cases! {
            ($) load_store [
                an_app_nobody_measured_has_no_samples
                samples_come_back_oldest_first
                apps_do_not_mix
                enough_are_kept_for_a_policy
                appends_at_once_are_all_there
                a_cut_append_is_done_or_not_done
            ]
            $($given)*
        }
    };
}

impl Ground for Bed {}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: LoadStoreSetup> LoadStoreSetup for Wrapped<S, dyn LoadStore> {
    async fn store(&self) -> Arc<dyn LoadStore> {
        self.wrap(self.setup.store().await)
    }
}
