//! The balancer dies behind its users' back.

use super::super::eventually;
use super::bed::Bed;
use super::site::Site;
use crate::error::ErrorKind;

/// What it says then is true, and the next table brings it back. Needs `kill` of the setup.
pub async fn a_killed_balancer_comes_back_with_the_next_table(bed: &Bed) {
    let (a, b) = (Site::http(1).await, Site::http(2).await);
    let table = bed.http(&[&a]);
    bed.apply(&table).await;
    bed.setup.kill().await;
    match bed.balancer.traffic().await {
        // An engine starts a container again by itself.
        Ok(traffic) => assert!(traffic.table.is_none_or(|known| known == table.hash())),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
    }
    let more = bed.http(&[&a, &b]);
    bed.apply(&more).await;
    assert!(bed.serves(&more).await);
    let both = async || {
        assert_eq!(bed.get("/").await.status, 200);
        a.requests() > 0 && b.requests() > 0
    };
    eventually("both servers are asked", both).await;
}

/// Whatever becomes of the call. Needs `kill` of the setup.
pub async fn a_balancer_killed_while_it_takes_a_table_serves_the_next(bed: &Bed) {
    let (a, b) = (Site::http(1).await, Site::http(2).await);
    let (one, other) = (bed.http(&[&a]), bed.http(&[&a, &b]));
    bed.apply(&one).await;
    for _ in 0..3 {
        let _ = tokio::join!(bed.balancer.apply(&other), bed.setup.kill());
        let applied = async || bed.balancer.apply(&one).await.is_ok();
        eventually("it takes a table again", applied).await;
        assert!(bed.serves(&one).await);
        assert_eq!(bed.get("/").await.status, 200);
    }
}
