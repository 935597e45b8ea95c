//! What NGINX does with rendered tables: routing, headers and addresses.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use common::{cases, serving};
use lb_core::Protocol::Http;
use lb_test_support::live::{App, Manner::Echo, free_ports, get};
use lb_test_support::{Routes, spreading};

lb_test_support::routing_cases!(cases);
lb_test_support::spreading_cases!(cases);

#[tokio::test]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_busy_server_gets_less() {
    spreading::a_busy_server_gets_less(serving).await;
}

#[tokio::test]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_path_that_climbs_above_the_root_is_refused() {
    let [port] = free_ports();
    let app = App::start("admin", Echo).await;
    let table = Routes::new().backend("admin.web", Http, &[app.address]);
    let _nginx = serving(&table.route(port, "/admin", "admin.web").0).await;
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
    let _nginx = serving(&table.0).await;
    for (path, app) in [
        ("/Cart.v1/x", Some("upper")),
        ("/cart.v1/x", Some("lower")),
        ("/CART.v1", None),
        ("/Cartxv1", None),
    ] {
        assert_eq!(get(port, "SHOP.example.org", path).await.app(), app, "{path}");
    }
}
