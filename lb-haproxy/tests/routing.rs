//! What HAProxy does with rendered tables: routing, headers, addresses and servers.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use common::{Proxy, cases};
use lb_core::Protocol::Http;
use lb_test_support::Routes;
use lb_test_support::live::{App, Manner::Echo, free_ports, get};

lb_test_support::routing_cases!(cases);
lb_test_support::spreading_cases!(cases);
cases! { spreading: a_busy_server_gets_less a_share_holds_while_nobody_is_busy }

#[tokio::test]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_path_that_climbs_above_the_root_stays_there() {
    let [port] = free_ports();
    let app = App::start("admin", Echo).await;
    let table = Routes::new().backend("admin.web", Http, &[app.address]);
    let _proxy = Proxy::start(&table.route(port, "/admin", "admin.web").0).await;
    assert_eq!(get(port, "h", "/cart/../../admin/x").await.status(), 200);
    assert_eq!(app.seen()[0].start, "GET /admin/x HTTP/1.1");
}
