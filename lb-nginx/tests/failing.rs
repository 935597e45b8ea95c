//! What NGINX makes of requests that fail and of apps that close, for others.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use common::{cases, serving};
use lb_core::Protocol::Http;
use lb_test_support::Routes;
use lb_test_support::limits::announced;
use lb_test_support::live::{App, Manner::Echo, ask, free_ports, local};

lb_test_support::failing_cases!(cases);
cases! { failing:
    an_idle_connection_ends_before_an_app_would_end_it
    posts_survive_an_app_that_closes_idle_connections
}

/// Nobody is left out, so a request must get past all that are down until the next table.
#[tokio::test]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_request_gets_past_many_dead_servers() {
    let [port, dead @ ..] = free_ports::<13>();
    let living = App::start("living", Echo).await;
    let servers: Vec<_> = dead.map(local).into_iter().chain([living.address]).collect();
    let table = Routes::new().backend("shop.web", Http, &servers).route(port, "/", "shop.web");
    let _nginx = serving(&table.0).await;
    for _ in 0..40 {
        assert_eq!(ask(port, announced(4, b"body")).await.status(), 200);
    }
    assert_eq!(living.seen().len(), 40);
}
