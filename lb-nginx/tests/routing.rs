//! What NGINX does with rendered tables: routing, headers and addresses.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use common::{WAYS, cases, serving};
use lb_core::Protocol::Http;
use lb_test_support::live::{App, Manner::Echo, free_ports, get};
use lb_test_support::{Routes, spreading};

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
}

#[tokio::test]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_busy_server_gets_less() {
    // With Lua each worker counts its own requests only.
    spreading::a_busy_server_gets_less(async |table| serving(table, WAYS[1]).await).await;
}

#[tokio::test]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_path_that_climbs_above_the_root_is_refused() {
    let [port] = free_ports();
    let app = App::start("admin", Echo).await;
    let table = Routes::new().backend("admin.web", Http, &[app.address]);
    let _nginx = serving(&table.route(port, "/admin", "admin.web").0, WAYS[0]).await;
    assert_eq!(get(port, "h", "/cart/../../admin/x").await.status(), 400);
    assert_eq!(app.seen().len(), 0);
}

#[tokio::test]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn paths_that_differ_in_case_alone_are_told_apart() {
    let [port] = free_ports();
    let apps = [App::start("upper", Echo).await, App::start("lower", Echo).await];
    let table = Routes::new()
        .backend("upper.web", Http, &[apps[0].address])
        .backend("lower.web", Http, &[apps[1].address])
        .route(port, "shop.example.org/Cart.v1", "upper.web")
        .route(port, "shop.example.org/cart.v1", "lower.web");
    let _nginx = serving(&table.0, WAYS[0]).await;
    for (path, app) in [
        ("/Cart.v1/x", Some("upper")),
        ("/cart.v1/x", Some("lower")),
        ("/CART.v1", None),
        ("/Cartxv1", None),
    ] {
        assert_eq!(get(port, "SHOP.example.org", path).await.app(), app, "{path}");
    }
}
