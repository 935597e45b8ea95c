//! What HAProxy does with rendered tables: routing, headers, addresses and servers.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use common::{Proxy, cases};
use lb_core::Protocol::Http;
use lb_test_support::Routes;
use lb_test_support::live::{App, Manner::Echo, free_ports, get};

cases! { routing:
    the_longest_prefix_wins_in_whole_segments
    a_path_is_routed_as_the_app_will_read_it
    an_answer_asks_nothing_of_the_balancer
    a_path_that_cannot_be_read_is_refused
    a_host_name_counts_without_case_port_and_final_dot
    exact_names_come_before_wildcards_and_those_before_any
    a_stripped_prefix_is_gone_and_said_in_a_header
    forwarded_headers_say_what_is_and_not_what_a_client_claims
    nobody_answers_404_without_a_route_and_503_without_a_server
}

cases! { spreading:
    a_hash_keeps_its_keys_together_and_uses_all_servers
    without_the_header_each_has_its_turn
    a_busy_server_gets_less
}

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
