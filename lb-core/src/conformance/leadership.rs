//! The suite of [`Leadership`].

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::{Ground, PATIENCE, Wrapped, at_each_await, poll_times};
use crate::error::Result;
use crate::store::{Leadership, Standing, Term};

/// What the tests of a way to choose leaders give the suite. Made anew for each case.
#[async_trait]
pub trait LeadershipSetup: Debug + Send + Sync + 'static {
    /// A seat nobody has held. Asked again, another value for the same seat, as another process holds it.
    async fn leadership(&self) -> Arc<dyn Leadership>;
}

/// A seat under test.
#[derive(Debug)]
pub struct Bed {
    /// The setup.
    pub setup: Arc<dyn LeadershipSetup>,
}

impl Bed {
    /// A bed with an empty seat.
    #[allow(clippy::unused_async, reason = "beds have one shape in all suites")]
    pub async fn new(setup: impl LeadershipSetup) -> Self {
        Self { setup: Arc::new(setup) }
    }

    async fn candidate(&self) -> Candidate {
        Candidate(self.setup.leadership().await.campaign())
    }
}

struct Candidate(BoxStream<'static, Result<Standing>>);

impl Candidate {
    async fn next(&mut self) -> Standing {
        let next = tokio::time::timeout(PATIENCE, self.0.next()).await;
        next.expect("it hears its standing").expect("the stream never ends").unwrap()
    }

    /// The term once it leads.
    async fn leads(&mut self) -> Term {
        loop {
            if let Standing::Leader(term) = self.next().await {
                return term;
            }
        }
    }
}

/// All others follow, and hear so.
pub async fn one_leads_and_the_others_follow(bed: &Bed) {
    let mut first = bed.candidate().await;
    first.leads().await;
    for _ in 0..3 {
        assert_eq!(bed.candidate().await.next().await, Standing::Follower);
    }
}

/// In a higher term.
pub async fn when_the_leader_resigns_another_leads(bed: &Bed) {
    let (mut first, mut second) = (bed.candidate().await, bed.candidate().await);
    let term = first.leads().await;
    assert_eq!(second.next().await, Standing::Follower);
    drop(first);
    assert!(second.leads().await > term);
}

/// Also when the same process stands again, or nobody led between.
pub async fn terms_only_rise(bed: &Bed) {
    let mut last = Term(0);
    for _ in 0..5 {
        let mut candidate = bed.candidate().await;
        let term = candidate.leads().await;
        assert!(term > last, "{term:?} after {last:?}");
        last = term;
    }
}

/// A follower that gives up does not matter.
pub async fn a_follower_that_resigns_changes_nothing(bed: &Bed) {
    let (mut first, mut second, mut third) =
        (bed.candidate().await, bed.candidate().await, bed.candidate().await);
    let term = first.leads().await;
    assert_eq!(second.next().await, Standing::Follower);
    drop(second);
    assert_eq!(third.next().await, Standing::Follower);
    drop(first);
    assert!(third.leads().await > term);
}

/// No two of them begin the same term.
pub async fn of_many_at_once_one_leads(bed: &Bed) {
    let mut waiting = Vec::new();
    for _ in 0..6 {
        let mut candidate = bed.candidate().await;
        waiting.push(tokio::spawn(async move { (candidate.leads().await, candidate) }));
    }
    let mut terms = Vec::new();
    while !waiting.is_empty() {
        let ((term, leader), _, others) = {
            let (ended, index, others) = futures_util::future::select_all(waiting).await;
            (ended.unwrap(), index, others)
        };
        terms.push(term);
        assert!(others.iter().all(|other| !other.is_finished()), "one leads at a time");
        drop(leader);
        waiting = others;
    }
    assert!(terms.is_sorted_by(|a, b| a < b), "{terms:?}");
}

/// At whichever await: it resigns, so that another leads, in a higher term.
pub async fn a_candidate_dropped_while_it_waits_holds_no_seat(bed: &Bed) {
    let mut last = Term(0);
    at_each_await(async |polls| {
        let mut dropped = bed.candidate().await;
        let led = poll_times(dropped.leads(), polls).await;
        drop(dropped);
        let term = bed.candidate().await.leads().await;
        assert!(led.is_none_or(|led| last < led && led < term), "{led:?}, then {term:?}");
        assert!(term > last, "{term:?} after {last:?}, after {polls} polls");
        last = term;
        led.is_some()
    })
    .await;
}

/// At whichever await: the stream goes on where it was.
pub async fn a_cut_wait_loses_no_standing(bed: &Bed) {
    at_each_await(async |polls| {
        let (mut first, mut second) = (bed.candidate().await, bed.candidate().await);
        let term = first.leads().await;
        let mut follows = poll_times(second.next(), polls).await;
        let ended = follows.is_some();
        if !ended {
            follows = Some(second.next().await);
        }
        assert_eq!(follows, Some(Standing::Follower), "after {polls} polls");
        let cut = poll_times(second.next(), polls).await;
        assert_eq!(cut, None, "nothing has changed");
        drop(first);
        assert!(second.leads().await > term, "after {polls} polls");
        ended
    })
    .await;
}

/// One test of each case of a [`Leadership`](crate::Leadership), from a
/// [`LeadershipSetup`](crate::conformance::leadership::LeadershipSetup). See
/// [`conformance`](crate::conformance).
#[macro_export]
macro_rules! leadership_suite {
    ($($given:tt)*) => {
        $crate::__conformance_cases! {
            ($) leadership [
                one_leads_and_the_others_follow
                when_the_leader_resigns_another_leads
                terms_only_rise
                a_follower_that_resigns_changes_nothing
                of_many_at_once_one_leads
                a_candidate_dropped_while_it_waits_holds_no_seat
                a_cut_wait_loses_no_standing
            ]
            $($given)*
        }
    };
}

impl Ground for Bed {}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: LeadershipSetup> LeadershipSetup for Wrapped<S, dyn Leadership> {
    async fn leadership(&self) -> Arc<dyn Leadership> {
        self.wrap(self.setup.leadership().await)
    }
}
