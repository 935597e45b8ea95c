//! What HAProxy makes of requests that fail and of apps that close, for others.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use common::cases;

lb_test_support::failing_cases!(cases);
cases! { failing:
    an_idle_connection_ends_before_an_app_would_end_it
    posts_survive_an_app_that_closes_idle_connections
}
