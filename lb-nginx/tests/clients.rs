//! What NGINX does with requests between clients and apps: fields, targets, tunnels.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use common::{cases, serving, version};
use lb_test_support::live::{App, Client, Manner, free_ports};
use lb_test_support::{Routes, forwarding};

cases! { limits: apps_of_one_site_keep_their_own_cookies }
cases! { forwarding:
    what_a_client_claims_to_be_is_dropped
    any_other_field_passes
    what_is_between_client_and_balancer_ends_there
    what_is_between_app_and_balancer_ends_there
    an_absolute_target_reaches_the_app_as_a_path
    a_host_is_the_targets_before_it_is_the_fields
    a_target_that_is_no_path_is_refused
    an_app_is_told_that_its_client_has_gone
    header_fields_are_bounded
}
cases! { tunnels:
    connect_opens_no_tunnel
    an_upgrade_to_further_requests_is_not_passed_on
    any_other_protocol_is_a_stream_after_its_handshake
    an_upgrade_is_asked_for_by_both_fields
}

/// Before 1.29 NGINX takes a 103 for the answer, which the crate's documentation says.
#[tokio::test]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn what_an_app_says_before_its_answer_is_known_from_1_29_on() {
    if version().skips_early_hints() {
        return forwarding::what_an_app_says_before_its_answer_is_not_taken_for_it(serving).await;
    }
    let [port] = free_ports();
    let app = App::start("shop", Manner::Hint).await;
    let table = Routes::new().backend("shop.web", lb_core::Protocol::Http, &[app.address]);
    let _nginx = serving(&table.route(port, "/", "shop.web").0).await;
    let mut client = Client::connect(port).await;
    let answer = client.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    assert_eq!(answer.status(), 103);
}
