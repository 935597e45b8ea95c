//! The suite of [`LedgerStore`].

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;

use super::{Ground, Wrapped, at_each_await, poll_times, refused};
use crate::error::ErrorKind;
use crate::ledger::{AppLedger, HostLedger, Ledger};
use crate::model::{AppName, HostId};
use crate::store::{LedgerStore, Term};

/// What a store's tests give the suite. Made anew for each case; cases run beside each other.
#[async_trait]
pub trait LedgerStoreSetup: Debug + Send + Sync + 'static {
    /// The store of this case, without a ledger at first. Asked again, the same as a later process opens it.
    async fn store(&self) -> Arc<dyn LedgerStore>;
}

/// A store under test.
#[derive(Debug)]
pub struct Bed {
    /// The setup.
    pub setup: Arc<dyn LedgerStoreSetup>,
    /// Its store.
    pub store: Arc<dyn LedgerStore>,
}

impl Bed {
    /// A bed with an empty store.
    pub async fn new(setup: impl LedgerStoreSetup) -> Self {
        let store = setup.store().await;
        Self { setup: Arc::new(setup), store }
    }

    async fn seq(&self) -> Option<u64> {
        self.store.load().await.unwrap().map(|ledger| ledger.seq)
    }
}

fn ledger(seq: u64) -> Ledger {
    let mut ledger = Ledger { seq, at: Duration::from_millis(seq * 7), ..Ledger::default() };
    for n in 0..20 {
        let app = AppName::new(format!("app{n}")).unwrap();
        ledger.apps.insert(app, Arc::new(AppLedger::default()));
        let host = HostId::new(format!("h{n}")).unwrap();
        ledger.hosts.insert(host, Arc::new(HostLedger::default()));
    }
    ledger
}

/// `None`, not an error.
pub async fn there_is_none_at_first(bed: &Bed) {
    assert_eq!(bed.store.load().await.unwrap(), None);
}

/// Whole, also the next one.
pub async fn what_was_saved_is_loaded(bed: &Bed) {
    for seq in 1..4 {
        bed.store.save(&ledger(seq), Term(1)).await.unwrap();
        assert_eq!(bed.store.load().await.unwrap(), Some(ledger(seq)));
    }
}

/// Nothing of it is saved; the same and a higher term are welcome.
pub async fn a_lower_term_is_fenced(bed: &Bed) {
    bed.store.save(&ledger(1), Term(2)).await.unwrap();
    let error = refused(bed.store.save(&ledger(2), Term(1)).await, ErrorKind::Fenced).to_string();
    assert!(error.contains("term 1") && error.contains('2'), "{error}");
    assert_eq!(bed.seq().await, Some(1));
    bed.store.save(&ledger(3), Term(2)).await.unwrap();
    bed.store.save(&ledger(4), Term(3)).await.unwrap();
    refused(bed.store.save(&ledger(5), Term(2)).await, ErrorKind::Fenced);
    assert_eq!(bed.seq().await, Some(4));
}

/// The term too.
pub async fn what_was_saved_is_there_for_the_next_process(bed: &Bed) {
    bed.store.save(&ledger(1), Term(2)).await.unwrap();
    let later = bed.setup.store().await;
    assert_eq!(later.load().await.unwrap(), Some(ledger(1)));
    refused(later.save(&ledger(2), Term(1)).await, ErrorKind::Fenced);
    later.save(&ledger(2), Term(3)).await.unwrap();
    refused(bed.store.save(&ledger(3), Term(2)).await, ErrorKind::Fenced);
    assert_eq!(bed.seq().await, Some(2));
}

/// One of them stays, whole; of terms at once, the highest.
pub async fn saves_at_once_do_not_mix(bed: &Bed) {
    let ledgers: Vec<_> = (1..16).map(ledger).collect();
    let saves = ledgers.iter().map(|ledger| bed.store.save(ledger, Term(ledger.seq)));
    for (seq, saved) in (1..).zip(join_all(saves).await) {
        assert!(saved.is_ok() || seq < 15, "the highest is never fenced");
        saved.or_else(|e| if e.kind() == ErrorKind::Fenced { Ok(()) } else { Err(e) }).unwrap();
    }
    assert_eq!(bed.store.load().await.unwrap(), Some(ledger(15)));
}

/// At whichever await it is cut; and it never undoes a later one.
pub async fn a_cut_save_is_done_or_not_done(bed: &Bed) {
    let mut seq = 1;
    bed.store.save(&ledger(seq), Term(1)).await.unwrap();
    at_each_await(async |polls| {
        let other = ledger(seq + 1);
        let ended = poll_times(bed.store.save(&other, Term(1)), polls).await.is_some();
        let loaded = bed.store.load().await.unwrap().expect("one of the two");
        assert!(loaded == ledger(seq) || loaded == other, "{} after {polls} polls", loaded.seq);
        seq += 2;
        for _ in 0..2 {
            bed.store.save(&ledger(seq), Term(1)).await.unwrap();
            assert_eq!(bed.seq().await, Some(seq), "after {polls} polls");
        }
        ended
    })
    .await;
}

/// One test of each case of a [`LedgerStore`](crate::LedgerStore), from a
/// [`LedgerStoreSetup`](crate::conformance::ledger_store::LedgerStoreSetup). See
/// [`conformance`](crate::conformance).
#[macro_export]
macro_rules! ledger_store_suite {
    ($($given:tt)*) => {
        $crate::__conformance_cases! {
            ($) ledger_store [
                there_is_none_at_first
                what_was_saved_is_loaded
                a_lower_term_is_fenced
                what_was_saved_is_there_for_the_next_process
                saves_at_once_do_not_mix
                a_cut_save_is_done_or_not_done
            ]
            $($given)*
        }
    };
}

impl Ground for Bed {}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: LedgerStoreSetup> LedgerStoreSetup for Wrapped<S, dyn LedgerStore> {
    async fn store(&self) -> Arc<dyn LedgerStore> {
        self.wrap(self.setup.store().await)
    }
}
