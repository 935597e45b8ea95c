//! What the in-process balancer does with requests between clients and apps: fields, targets, tunnels. The cases are
//! those of every balancer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use lb_core::{Change, LoadBalancer as _, RoutingTable};
use lb_local::LocalBalancer;

/// One test of each of these cases for every balancer.
macro_rules! cases {
    ($module:ident: $($case:ident)+) => { $(
        #[tokio::test]
        async fn $case() {
            lb_test_support::$module::$case(serving).await;
        }
    )+ };
}

lb_test_support::routing_cases!(cases);
lb_test_support::limits_cases!(cases);
lb_test_support::spreading_cases!(cases);
lb_test_support::tunnels_cases!(cases);
lb_test_support::forwarding_cases!(cases);
lb_test_support::failing_cases!(cases);
cases! { failing: posts_survive_an_app_that_closes_idle_connections }
cases! { limits: apps_of_one_site_keep_their_own_cookies }
cases! { spreading: a_busy_server_gets_less a_share_holds_while_nobody_is_busy }
cases! { tunnels: a_stream_of_further_requests_is_none }
cases! { forwarding: whatever_begins_with_x_forwarded_is_dropped an_early_answer_reaches_its_client }

/// A balancer that serves this table.
async fn serving(table: &RoutingTable) -> LocalBalancer {
    let balancer = LocalBalancer::new();
    let applied = balancer.apply(table).await.unwrap();
    assert_eq!((applied.change, applied.set_aside.len()), (Change::Start, 0));
    balancer
}
